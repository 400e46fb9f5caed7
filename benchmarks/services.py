"""The services that are compared: the same handlers, run by different libraries on different connections.

    python -m benchmarks.services KIND URL ENDPOINTS [uvloop]

Each runs alone in its process, which says "ready" when the server has confirmed all its subscriptions, and how long
that took from a connection on. Libraries are imported where they are used: a contender is to have nothing else in
memory.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.children import end_with_stdin, run_asyncio, say_ready
from benchmarks.subjects import HEADER, HEADERS, SERVICE, WAIT, WAITING, WINDOW, echo_subjects

if TYPE_CHECKING:
    import natsvc

__all__ = ["SERVICES"]


class Handlers(NamedTuple):
    """The handlers of a service.

    Attributes:
        echo: Answers with what was asked.
        echo_header: The same, and reads a header, and sends it back.
        wait: Answers with what was asked, but later.
    """

    echo: Callable[[Any], Awaitable[None] | None]
    echo_header: Callable[[Any], Awaitable[None] | None]
    wait: Callable[[Any], Awaitable[None] | None]

    def endpoints(self, count: int) -> Iterator[tuple[str, str, Callable[[Any], Any]]]:
        """Yield name, subject and handler of so many endpoints that echo; if it is one, of the other two as well."""
        for subject in echo_subjects(count):
            yield subject.removeprefix(f"{SERVICE}.").replace(".", "-"), subject, self.echo
        if count == 1:
            yield "headers", HEADERS, self.echo_header
            yield "wait", WAIT, self.wait


def async_handlers(sleep: Callable[[float], Awaitable[None]]) -> Handlers:
    """Return the handlers of every contender but those that block."""

    async def echo(request: Any) -> None:
        await request.respond(request.data)

    async def echo_header(request: Any) -> None:
        await request.respond(request.data, headers={HEADER: request.headers[HEADER]})

    async def wait(request: Any) -> None:
        await sleep(WAITING)
        await request.respond(request.data)

    return Handlers(echo, echo_header, wait)


def blocking_handlers() -> Handlers:
    """Return the same as plain functions."""

    def echo(request: Any) -> None:
        request.respond(request.data)

    def echo_header(request: Any) -> None:
        request.respond(request.data, headers={HEADER: request.headers[HEADER]})

    def wait(request: Any) -> None:
        time.sleep(WAITING)
        request.respond(request.data)

    return Handlers(echo, echo_header, wait)


def define(handlers: Handlers, endpoints: int) -> natsvc.ServiceDefinition:
    """Return a service of natsvc."""
    from natsvc import ServiceDefinition

    definition = ServiceDefinition(SERVICE, version="1.0.0")
    for name, subject, handler in handlers.endpoints(endpoints):
        # All else has natsvc's defaults.
        limits = {"max_concurrency": WINDOW, "max_workers": WINDOW} if subject == WAIT else {}
        definition.add_endpoint(name, subject=subject, handler=handler, **limits)
    return definition


async def serve_nats_micro(url: str, endpoints: int) -> None:
    """Run nats.micro on a connection of nats-py."""
    import nats
    import nats.micro

    nc = await nats.connect(url)
    begun = time.perf_counter()
    service = await nats.micro.add_service(nc, name=SERVICE, version="1.0.0")
    for name, subject, handler in async_handlers(asyncio.sleep).endpoints(endpoints):
        await service.add_endpoint(name=name, subject=subject, handler=handler)
    while nc.pending_data_size:  # the PING of its flush would go ahead of what is pending
        await asyncio.sleep(0)
    await nc.flush()
    say_ready(time.perf_counter() - begun)
    await asyncio.Event().wait()


async def serve_natsio(url: str, endpoints: int) -> None:
    """Run natsio.micro on its own connection."""
    # By name, for mypy, which is to read all as Python 3.11, can't read natsio.
    natsio = importlib.import_module("natsio")
    micro = importlib.import_module("natsio.micro")

    nc = await natsio.connect(url)
    begun = time.perf_counter()
    service = micro.add_service(nc, name=SERVICE, version="1.0.0")
    for name, subject, handler in async_handlers(asyncio.sleep).endpoints(endpoints):
        service.add_endpoint(name, handler, subject=subject)
    await nc.flush()
    say_ready(time.perf_counter() - begun)
    await asyncio.Event().wait()


async def serve_natsvc_on_nats_py(url: str, endpoints: int) -> None:
    """Run natsvc on a connection of nats-py."""
    import nats

    await serve_natsvc(await nats.connect(url), endpoints)


async def serve_natsvc_connection(url: str, endpoints: int) -> None:
    """Run natsvc on its own connection."""
    from natsvc.asyncio import connect

    await serve_natsvc(await connect(url), endpoints)


async def serve_natsvc(nc: object, endpoints: int) -> None:
    """Run natsvc on any connection it takes."""
    from natsvc.asyncio import add_service

    begun = time.perf_counter()
    await add_service(nc, define(async_handlers(asyncio.sleep), endpoints))
    say_ready(time.perf_counter() - begun)
    await asyncio.Event().wait()


async def serve_natsvc_anyio(url: str, endpoints: int) -> None:
    """Run natsvc.anyio on its own connection, in whichever event loop this is."""
    import anyio

    from natsvc.anyio import add_service, connect

    async with connect(url) as nc:
        begun = time.perf_counter()
        async with add_service(nc, define(async_handlers(anyio.sleep), endpoints)):
            say_ready(time.perf_counter() - begun)
            await anyio.sleep_forever()


def serve_natsvc_sync(url: str, endpoints: int) -> None:
    """Run natsvc.sync on its own connection."""
    import threading

    from natsvc.sync import add_service, connect

    nc = connect(url)
    begun = time.perf_counter()
    add_service(nc, define(blocking_handlers(), endpoints))
    say_ready(time.perf_counter() - begun)
    threading.Event().wait()


async def serve_bare_asyncio(url: str, endpoints: int) -> None:
    """Echo on asyncio, without a service."""
    from benchmarks import limit

    begun = time.perf_counter()
    await limit.serve_asyncio(url, echo_subjects(endpoints), lambda: say_ready(time.perf_counter() - begun))


def serve_bare_thread(url: str, endpoints: int) -> None:
    """Echo in a thread, without a service."""
    from benchmarks import limit

    begun = time.perf_counter()
    limit.serve_blocking(url, echo_subjects(endpoints), lambda: say_ready(time.perf_counter() - begun))


async def serve_bare_trio(url: str, endpoints: int) -> None:
    """Echo on trio, without a service."""
    from benchmarks import limit

    begun = time.perf_counter()
    await limit.serve_trio(url, echo_subjects(endpoints), lambda: say_ready(time.perf_counter() - begun))


Serve = Callable[[str, int, bool], None]


def on_asyncio(serve: Callable[[str, int], Coroutine[Any, Any, None]]) -> Serve:
    """Return what runs a service on asyncio, with uvloop or without."""
    return lambda url, endpoints, uvloop: run_asyncio(serve(url, endpoints), uvloop=uvloop)


def on_trio(serve: Callable[[str, int], Awaitable[None]]) -> Serve:
    """Return what runs a service on trio."""

    def run(url: str, endpoints: int, uvloop: bool) -> None:
        import trio

        trio.run(serve, url, endpoints)

    return run


def in_threads(serve: Callable[[str, int], None]) -> Serve:
    """Return what runs a service that blocks."""
    return lambda url, endpoints, uvloop: serve(url, endpoints)


SERVICES: dict[str, Serve] = {
    "nats.micro": on_asyncio(serve_nats_micro),
    "natsio": on_asyncio(serve_natsio),
    "natsvc on nats-py": on_asyncio(serve_natsvc_on_nats_py),
    "natsvc": on_asyncio(serve_natsvc_connection),
    "natsvc.anyio on asyncio": on_asyncio(serve_natsvc_anyio),
    "natsvc.anyio on trio": on_trio(serve_natsvc_anyio),
    "natsvc.sync": in_threads(serve_natsvc_sync),
    "bare asyncio": on_asyncio(serve_bare_asyncio),
    "bare thread": in_threads(serve_bare_thread),
    "bare trio": on_trio(serve_bare_trio),
}
"""What runs each kind of service, given a URL, a number of endpoints, and whether to use uvloop."""


def main(kind: str, url: str, endpoints: str, *options: str) -> None:
    """Run a service until stdin ends."""
    end_with_stdin()
    SERVICES[kind](url, int(endpoints), "uvloop" in options)


if __name__ == "__main__":
    main(*sys.argv[1:])
