"""Runs a ServiceDefinition on any of the three front-ends, from its start to the end of its draining.

The signals are taken over for all of the time in which the service may have requests, so that there is no moment in
which one is lost; before that they end the process as they end any other. What else may ask for the stop comes in on
the same way.
"""

from __future__ import annotations

import functools
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Literal, TypeAlias, get_args

from natsvc.cli.output import CommandError
from natsvc.core import ServiceDefinition, ServiceInfo, is_async
from natsvc.core.handlers import error_leaf
from natsvc.signals import first_signal

__all__ = ["FRONT_ENDS", "SIGNALS", "FrontEnd", "Watch", "async_functions", "run_service", "watch_signals"]

FrontEnd: TypeAlias = Literal["asyncio", "trio", "threads"]

FRONT_ENDS: tuple[FrontEnd, ...] = get_args(FrontEnd)

SIGNALS = (signal.SIGTERM, signal.SIGINT)

Watch: TypeAlias = Callable[[Callable[[], object]], AbstractContextManager[object]]
"""Makes a block in which somebody may ask for the stop, by the function it is given: from a signal handler, or from any
thread, and more than once."""

Up: TypeAlias = Callable[[ServiceInfo, str | None], object]
"""Called when the service is up, with what it answers to INFO and the server's URL."""

watch_signals: Watch = functools.partial(first_signal, SIGNALS)


def async_functions(definition: ServiceDefinition) -> Iterator[str]:
    """Say which functions of a definition are async: those that can't run in threads."""
    config = definition.config
    for name in ("ping_handler", "info_handler", "stats_handler", "error_handler", "done_handler"):
        function = getattr(config, name)
        if function is not None and is_async(function):
            yield f"the {name}"
    if any(map(is_async, config.middleware)):
        yield "middleware of the service"
    for scope, endpoint in definition.endpoints:
        if is_async(endpoint.handler):
            yield f"the handler of the endpoint {endpoint.name!r}"
        if any(map(is_async, (*scope.middleware, *endpoint.middleware))):
            yield f"middleware of the endpoint {endpoint.name!r}"


def run_service(
    front_end: FrontEnd,
    definition: ServiceDefinition,
    connection: dict[str, Any],
    *,
    watch: Watch,
    on_up: Up,
    on_stop: Callable[[], object],
) -> None:
    """Connect, run the service, and return when it has stopped and the server has all of its replies.

    Args:
        front_end: Where it runs.
        definition: The service.
        connection: The arguments for `connect`.
        watch: Makes the block in which the stop may be asked for.
        on_up: Called when the server has confirmed all subscriptions.
        on_stop: Called when the stop has been asked for, before it begins.

    Raises:
        CommandError: The front-end is not installed.
        NatsvcError: The service can't be run or connected.
        BaseException: What ended the service, if it was an error.
        KeyboardInterrupt: A second SIGINT has cut the stop short.
    """
    match front_end:
        case "threads":
            _run_in_threads(definition, connection, watch, on_up, on_stop)
        case "asyncio":
            _run_on_asyncio(definition, connection, watch, on_up, on_stop)
        case "trio":
            _run_on_trio(definition, connection, watch, on_up, on_stop)


def _run_in_threads(
    definition: ServiceDefinition, connection: dict[str, Any], watch: Watch, on_up: Up, on_stop: Callable[[], object]
) -> None:
    from natsvc.sync import add_service, connect

    told: queue.SimpleQueue[None] = queue.SimpleQueue()  # the one way out of a signal handler that needs no lock
    with connect(**connection) as nc, watch(lambda: told.put(None)), add_service(nc, definition) as service:

        def stop_when_told() -> None:
            told.get()
            on_stop()
            service.stop()

        threading.Thread(target=stop_when_told, name="natsvc-serve-stop", daemon=True).start()
        on_up(service.info(), nc.connected_url)
        service.serve_forever(signals=())


def _run_on_asyncio(
    definition: ServiceDefinition, connection: dict[str, Any], watch: Watch, on_up: Up, on_stop: Callable[[], object]
) -> None:
    import asyncio

    from natsvc.asyncio import add_service, connect

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        told = asyncio.Event()
        async with connect(**connection) as nc:
            with watch(lambda: loop.call_soon_threadsafe(told.set)):
                async with add_service(nc, definition) as service:

                    async def stop_when_told() -> None:
                        await told.wait()
                        on_stop()
                        await service.stop()

                    stopping = asyncio.create_task(stop_when_told())
                    try:
                        on_up(service.info(), nc.connected_url)
                        await service.serve_forever(signals=())
                    finally:
                        stopping.cancel()

    asyncio.run(serve())


def _run_on_trio(
    definition: ServiceDefinition, connection: dict[str, Any], watch: Watch, on_up: Up, on_stop: Callable[[], object]
) -> None:
    try:
        import trio
    except ModuleNotFoundError:
        raise CommandError("--on trio needs the package trio: pip install 'natsvc[trio]'") from None

    from natsvc.anyio import add_service, connect

    async def serve() -> None:
        token = trio.lowlevel.current_trio_token()
        told = trio.Event()
        async with connect(**connection) as nc:
            with watch(lambda: token.run_sync_soon(told.set)):
                async with add_service(nc, definition) as service, trio.open_nursery() as nursery:

                    async def stop_when_told() -> None:
                        await told.wait()
                        on_stop()
                        await service.stop()

                    nursery.start_soon(stop_when_told)
                    on_up(service.info(), nc.connected_url)
                    await service.serve_forever(signals=())
                    nursery.cancel_scope.cancel()

    try:
        trio.run(serve)
    except BaseExceptionGroup as group:
        raise error_leaf(group) from None
