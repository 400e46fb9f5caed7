"""The world of natsvc.sync, in which handlers block.

The suites write their handlers as coroutine functions. None of what those await can make them wait here: it has been
done, blocking, by the time that it returns. So a coroutine runs from its beginning to its end in one step.
"""

from __future__ import annotations

import concurrent.futures
import functools
import inspect
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import natsvc.sync
from natsvc import Endpoint, EndpointConfig, GroupConfig, ServiceConfig, ServiceDefinition, ServiceInfo, ServiceStats
from natsvc.core import is_async
from natsvc.sync.places import current_request
from tests.worlds import LIMIT, Group, Stopping

__all__ = ["SyncConnection", "SyncWorld", "begin", "run_blocking"]


class _Done:
    """What is awaited: done already."""

    def __init__(self, result: object) -> None:
        self._result = result

    def __await__(self) -> Any:
        return self._result
        yield


def run_blocking(coroutine: Any) -> Any:
    """Run a coroutine to its end, which must wait for nothing that is not done."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("the coroutine has awaited something that was not done")


class _Awaitable:
    """An object of natsvc.sync whose methods may be awaited."""

    def __init__(self, blocking: object) -> None:
        self._blocking = blocking

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._blocking, name)
        if not inspect.ismethod(value) or name == "json":
            return value
        return lambda *arguments, **named: _Done(value(*arguments, **named))


def _blocking_handler(handler: Callable[..., Any]) -> Callable[..., Any]:
    if not is_async(handler):
        return handler

    @functools.wraps(handler)
    def handle(request: Any) -> Any:
        return run_blocking(handler(_Awaitable(request)))

    return handle


def _blocking_middleware(middleware: Callable[..., Any]) -> Callable[..., Any]:
    def run(request: Any, call_next: Callable[[Any], Any]) -> Any:
        return run_blocking(middleware(request, lambda request: _Done(call_next(request))))

    return run


def _blocking_callback(callback: Callable[..., Any]) -> Callable[..., Any]:
    if not is_async(callback):
        return callback
    return lambda *arguments: run_blocking(callback(*arguments))


_TRANSLATIONS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("handler", "ping_handler", "info_handler", "stats_handler"), _blocking_handler),
    **dict.fromkeys(("error_handler", "done_handler"), _blocking_callback),
    "middleware": lambda middleware: [_blocking_middleware(one) for one in middleware],
}


def _blocking(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _TRANSLATIONS.get(name, lambda value: value)(value) for name, value in fields.items()}


def _blocking_definition(config: Any) -> Any:
    if not isinstance(config, ServiceDefinition):
        return config
    definition = ServiceDefinition(config.config)
    for scope, endpoint in config.endpoints:
        handler = _blocking_handler(endpoint.handler)
        definition.endpoints.append((scope, natsvc.core.configure(EndpointConfig, endpoint, {"handler": handler})))
    return definition


def begin(call: Callable[..., Any], *arguments: Any, **named: Any) -> concurrent.futures.Future[Any]:
    """Make a call in a thread of its own."""
    future: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def run() -> None:
        try:
            future.set_result(call(*arguments, **named))
        except BaseException as error:  # noqa: BLE001  # it is for whoever asks for the result
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


class Cancelled(BaseException):
    """What a handler that waits at a gate gets in place of a cancellation."""


class SyncGate:
    """A gate for handlers in threads.

    A thread can't be cancelled. A handler that wants to end when its request is answered in its place asks the request,
    as this one does.
    """

    def __init__(self, world: SyncWorld) -> None:
        self._world = world
        self._event = threading.Event()
        self._told: set[object] = world.told

    async def wait(self) -> None:
        request = current_request()
        while not self._event.wait(0.002):
            is_cancelled = request is not None and not request.is_running and request not in self._told
            if is_cancelled or self._world.is_closed:
                self._told.add(request)
                raise Cancelled

    def open(self) -> None:
        self._event.set()


class SyncWorld:
    """natsvc.sync, in the threads that it makes."""

    def __init__(self, name: str, connect: Callable[[str], natsvc.sync.Connection]) -> None:
        self.name = name
        self.is_closed = False
        self.told: set[object] = set()
        self._connect = connect
        self._connections: list[SyncConnection] = []

    def connect(self, url: str) -> SyncConnection:
        connection = SyncConnection(self._connect(url))
        self._connections.append(connection)
        return connection

    def gate(self) -> SyncGate:
        return SyncGate(self)

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        self.is_closed = True
        for connection in self._connections:
            connection.close()


class SyncConnection:
    def __init__(self, nc: natsvc.sync.Connection) -> None:
        self.nc = nc

    def add_service(self, config: ServiceConfig | ServiceDefinition | str | None = None, **fields: Any) -> SyncService:
        return SyncService(natsvc.sync.add_service(self.nc, _blocking_definition(config), **_blocking(fields)))

    def call(self, subject: str, data: bytes) -> bytes:
        return self.nc.request(subject, data, timeout=LIMIT).data

    def begin_drain(self) -> Stopping:
        return begin(self.nc.drain)

    def drain(self) -> None:
        self.begin_drain().result(LIMIT)

    def close(self) -> None:
        self.nc.close()

    @property
    def is_closed(self) -> bool:
        return self.nc.is_closed

    @property
    def is_connected(self) -> bool:
        return self.nc.is_connected


class _SyncGroup:
    def __init__(self, place: natsvc.sync.Group | natsvc.sync.Service) -> None:
        self._place = place

    def add_endpoint(self, config: EndpointConfig | str | None = None, **fields: Any) -> Endpoint:
        return self._place.add_endpoint(config, **_blocking(fields))

    def add_group(self, config: GroupConfig | str | None = None, **fields: Any) -> Group:
        return _SyncGroup(self._place.add_group(config, **_blocking(fields)))


class SyncService(_SyncGroup):
    def __init__(self, service: natsvc.sync.Service) -> None:
        super().__init__(service)
        self._service = service

    @property
    def service(self) -> Any:
        """The service as handlers see it, which await what they ask of it."""
        return _Awaitable(self._service)

    @property
    def id(self) -> str:
        return self._service.id

    @property
    def is_stopped(self) -> bool:
        return self._service.stopped.is_set()

    @property
    def error(self) -> BaseException | None:
        return self._service.error

    def start(self) -> None:
        self._service.start()

    def stop(self, error: BaseException | None = None, *, timeout: float = 30.0) -> None:
        self._service.stop(error, timeout=timeout)

    def begin_stop(self, error: BaseException | None = None, *, timeout: float = 30.0) -> Stopping:
        return begin(self._service.stop, error, timeout=timeout)

    def info(self) -> ServiceInfo:
        return self._service.info()

    def stats(self) -> ServiceStats:
        return self._service.stats()

    def reset(self) -> None:
        self._service.reset()
