"""The calling side that is compared: `request`, from one task or thread, then from many.

    python -m benchmarks.callers KIND URL SECONDS [uvloop]

Each runs alone in its process, asks a service that does next to nothing, looks at every answer, and prints what it has
measured.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import json
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.children import end_with_stdin, run_asyncio
from benchmarks.load import DATA
from benchmarks.subjects import ECHO

__all__ = ["CALLERS", "TASKS", "Calls"]

TASKS = 64
"""How many tasks or threads ask at once."""

_WARM_UP = 0.3

Request = Callable[[str, bytes], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Calls:
    """What a caller has measured.

    Attributes:
        times: The seconds that each request took, one at a time.
        answered: How many requests were answered when many asked.
        seconds: How long many asked.
        cpu: Seconds of CPU time that this took.
    """

    times: Sequence[float]
    answered: int
    seconds: float
    cpu: float


def check(data: bytes) -> None:
    """Raise an error if an answer has other data than the request."""
    if data != DATA:
        raise ValueError(f"a wrong answer: {data!r}")


async def ask(request: Request, end: float) -> list[float]:
    """Ask one time after the other until the clock says so; return the seconds that each time took."""
    times: list[float] = []
    before = time.perf_counter()
    while before < end:
        answer = await request(ECHO, DATA)
        check(answer.data)
        after = time.perf_counter()
        times.append(after - before)
        before = after
    return times


async def measure(
    request: Request, seconds: float, ask_at_once: Callable[[Request, float], Awaitable[Sequence[list[float]]]]
) -> None:
    """Ask one at a time for half of the time, many at once for the other half, and print what that gave."""
    await ask(request, time.perf_counter() + _WARM_UP)
    times = await ask(request, time.perf_counter() + seconds / 2)
    cpu = time.process_time()
    begun = time.perf_counter()
    lists = await ask_at_once(request, begun + seconds / 2)
    report(times, sum(map(len, lists)), time.perf_counter() - begun, time.process_time() - cpu)


def report(times: list[float], answered: int, seconds: float, cpu: float) -> None:
    """Tell the parent process."""
    print(json.dumps(dataclasses.asdict(Calls(times, answered, seconds, cpu))), flush=True)


async def ask_from_tasks(request: Request, end: float) -> Sequence[list[float]]:
    """Ask from many tasks of asyncio."""
    return await asyncio.gather(*(ask(request, end) for _ in range(TASKS)))


async def call_with_nats_py(url: str, seconds: float) -> None:
    """Call with nats-py."""
    import nats

    nc = await nats.connect(url)
    await measure(nc.request, seconds, ask_from_tasks)
    await nc.close()


async def call_with_natsio(url: str, seconds: float) -> None:
    """Call with natsio."""
    natsio = importlib.import_module("natsio")
    nc = await natsio.connect(url)
    await measure(nc.request, seconds, ask_from_tasks)
    await nc.close()


async def call_with_natsvc_on_nats_py(url: str, seconds: float) -> None:
    """Call with natsvc's ServiceClient on a connection of nats-py."""
    import nats

    from natsvc.asyncio import ServiceClient

    nc = await nats.connect(url)
    await measure(ServiceClient(nc).request, seconds, ask_from_tasks)
    await nc.close()


async def call_with_natsvc(url: str, seconds: float) -> None:
    """Call with a connection of natsvc's."""
    from natsvc.asyncio import connect

    async with connect(url) as nc:
        await measure(nc.request, seconds, ask_from_tasks)


async def call_with_natsvc_anyio(url: str, seconds: float) -> None:
    """Call with natsvc.anyio, in whichever event loop this is."""
    import anyio

    from natsvc.anyio import connect

    async def ask_from_tasks(request: Request, end: float) -> Sequence[list[float]]:
        lists: list[list[float]] = []

        async def ask_and_keep() -> None:
            lists.append(await ask(request, end))

        async with anyio.create_task_group() as tasks:
            for _ in range(TASKS):
                tasks.start_soon(ask_and_keep)
        return lists

    async with connect(url) as nc:
        await measure(nc.request, seconds, ask_from_tasks)


def call_with_natsvc_sync(url: str, seconds: float) -> None:
    """Call with natsvc.sync, from threads."""
    from concurrent.futures import ThreadPoolExecutor

    from natsvc.sync import connect

    with connect(url) as nc, ThreadPoolExecutor(TASKS) as threads:

        def ask(end: float) -> list[float]:
            times: list[float] = []
            before = time.perf_counter()
            while before < end:
                check(nc.request(ECHO, DATA).data)
                after = time.perf_counter()
                times.append(after - before)
                before = after
            return times

        ask(time.perf_counter() + _WARM_UP)
        times = ask(time.perf_counter() + seconds / 2)
        cpu = time.process_time()
        begun = time.perf_counter()
        lists = list(threads.map(ask, [begun + seconds / 2] * TASKS))
        report(times, sum(map(len, lists)), time.perf_counter() - begun, time.process_time() - cpu)


Call = Callable[[str, float, bool], None]


def on_asyncio(call: Callable[[str, float], Coroutine[Any, Any, None]]) -> Call:
    """Return what runs a caller on asyncio, with uvloop or without."""
    return lambda url, seconds, uvloop: run_asyncio(call(url, seconds), uvloop=uvloop)


def on_trio(call: Callable[[str, float], Awaitable[None]]) -> Call:
    """Return what runs a caller on trio."""

    def run(url: str, seconds: float, uvloop: bool) -> None:
        import trio

        trio.run(call, url, seconds)

    return run


CALLERS: dict[str, Call] = {
    "nats.micro": on_asyncio(call_with_nats_py),
    "natsio": on_asyncio(call_with_natsio),
    "natsvc on nats-py": on_asyncio(call_with_natsvc_on_nats_py),
    "natsvc": on_asyncio(call_with_natsvc),
    "natsvc.anyio on asyncio": on_asyncio(call_with_natsvc_anyio),
    "natsvc.anyio on trio": on_trio(call_with_natsvc_anyio),
    "natsvc.sync": lambda url, seconds, uvloop: call_with_natsvc_sync(url, seconds),
}
"""What calls with the client of each contender, given a URL, for how many seconds, and whether to use uvloop."""


def main(kind: str, url: str, seconds: str, *options: str) -> None:
    """Call, and print what that gave as JSON."""
    end_with_stdin()
    CALLERS[kind](url, float(seconds), "uvloop" in options)


if __name__ == "__main__":
    main(*sys.argv[1:])
