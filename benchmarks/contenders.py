"""The services that are compared: the same two handlers, run by different libraries on different connections.

A contender runs alone in its process, and says itself how much CPU time that has taken, so that neither the server nor
the load generator is counted.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import natsvc.asyncio

__all__ = ["CONTENDERS", "CPU_TIME", "ECHO", "READY", "REFERENCE"]

ECHO = "benchmark.echo"
"""The subject that answers with the request's data."""

CPU_TIME = "benchmark.cpu"
"""The subject that answers with the process's CPU time so far, in nanoseconds."""

READY = "ready"
"""What a contender prints when it can be asked."""


async def echo(request: Any) -> None:
    """Answer with what was asked; the one handler of every contender."""
    await request.respond(request.data)


async def cpu_time(request: Any) -> None:
    """Answer with the CPU time of this process."""
    await request.respond(str(time.process_time_ns()).encode())


async def serve_nats_micro(url: str) -> None:
    """Run nats.micro on a connection of nats-py."""
    import nats
    import nats.micro

    nc = await nats.connect(url)
    service = await nats.micro.add_service(nc, name="benchmark", version="1.0.0")
    await service.add_endpoint(name="echo", subject=ECHO, handler=echo)
    await service.add_endpoint(name="cpu", subject=CPU_TIME, handler=cpu_time)
    await nc.flush()
    await serve_until_killed()


async def serve_natsvc_on_nats_py(url: str) -> None:
    """Run natsvc on a connection of nats-py."""
    import nats

    await serve_natsvc(await nats.connect(url))


async def serve_natsvc_connection(url: str) -> None:
    """Run natsvc on its own connection."""
    await serve_natsvc(await natsvc.asyncio.connect(url))


async def serve_natsvc(nc: object) -> None:
    """Run natsvc on any connection it takes."""
    service = await natsvc.asyncio.add_service(nc, name="benchmark", version="1.0.0")
    await service.add_endpoint("echo", subject=ECHO, handler=echo)
    await service.add_endpoint("cpu", subject=CPU_TIME, handler=cpu_time)
    await serve_until_killed()


async def serve_until_killed() -> None:
    """Tell the parent process to begin, and serve."""
    print(READY, flush=True)
    await asyncio.Event().wait()


async def serve_natsvc_anyio(url: str) -> None:
    """Run natsvc.anyio on its own connection, in whichever event loop this is."""
    import anyio

    import natsvc.anyio

    async with (
        natsvc.anyio.connect(url) as nc,
        natsvc.anyio.add_service(nc, name="benchmark", version="1.0.0") as service,
    ):
        await service.add_endpoint("echo", subject=ECHO, handler=echo)
        await service.add_endpoint("cpu", subject=CPU_TIME, handler=cpu_time)
        print(READY, flush=True)
        await anyio.sleep_forever()


def serve_natsvc_sync(url: str) -> None:
    """Run natsvc.sync on its own connection."""
    import threading

    import natsvc.sync

    def blocking_echo(request: natsvc.sync.Request) -> None:
        request.respond(request.data)

    def blocking_cpu_time(request: natsvc.sync.Request) -> None:
        request.respond(str(time.process_time_ns()).encode())

    service = natsvc.sync.add_service(natsvc.sync.connect(url), name="benchmark", version="1.0.0")
    service.add_endpoint("echo", subject=ECHO, handler=blocking_echo)
    service.add_endpoint("cpu", subject=CPU_TIME, handler=blocking_cpu_time)
    print(READY, flush=True)
    threading.Event().wait()


def on_asyncio(serve: Callable[[str], Coroutine[Any, Any, None]]) -> Callable[[str], None]:
    """Return what runs a contender in an event loop of asyncio."""
    return lambda url: asyncio.run(serve(url))


def on_trio(serve: Callable[[str], Awaitable[None]]) -> Callable[[str], None]:
    """Return what runs a contender in trio."""

    def run(url: str) -> None:
        import trio

        trio.run(serve, url)

    return run


REFERENCE = "nats.micro"
"""The contender that the others are compared with."""

CONTENDERS: dict[str, Callable[[str], None]] = {
    REFERENCE: on_asyncio(serve_nats_micro),
    "natsvc on nats-py": on_asyncio(serve_natsvc_on_nats_py),
    "natsvc": on_asyncio(serve_natsvc_connection),
    "natsvc.anyio on asyncio": on_asyncio(serve_natsvc_anyio),
    "natsvc.anyio on trio": on_trio(serve_natsvc_anyio),
    "natsvc.sync": serve_natsvc_sync,
}


def main(contender: str, url: str) -> None:
    """Run one contender on the server at a URL until the process is killed."""
    CONTENDERS[contender](url)


if __name__ == "__main__":
    main(*sys.argv[1:])
