"""natsvc's own connection in each front-end, driven from a test's thread.

The suite is written once: it says what a connection is and does through these drivers. A front-end needs to know how to
make blocking calls of its own ones, and puts what the callbacks are told into one list, in the order in which it came.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import natsvc.asyncio
from natsvc import Message, ServiceConfig, ServiceDefinition
from tests.worlds import LIMIT, AsyncioConnection, AsyncioWorld, Service

__all__ = ["FRONT_ENDS", "Connection", "Event", "FrontEnd", "Subscription", "running_front_end"]

Servers: TypeAlias = str | Sequence[str]


class Event(NamedTuple):
    """A call of one of the callbacks.

    Attributes:
        callback: Which one, such as "on_error".
        value: What it was given: an exception, a URL, or None.
    """

    callback: str
    value: Any = None


class Events(list[Event]):
    """All that the callbacks of one connection were told."""

    def of(self, callback: str) -> list[Any]:
        """What one of them was given, call by call."""
        return [event.value for event in list(self) if event.callback == callback]

    def callbacks(self) -> dict[str, Callable[..., None]]:
        """The options that make a connection write here."""
        names = ("on_disconnect", "on_reconnect", "on_error", "on_lame_duck", "on_close")
        return {name: self._recorder(name) for name in names}

    def _recorder(self, name: str) -> Callable[..., None]:
        return lambda *arguments: self.append(Event(name, *arguments))


class Subscription(Protocol):
    """A subscription, whose methods block the test until they are done."""

    @property
    def dropped(self) -> int: ...
    def receive(self, timeout: float = LIMIT) -> Message: ...
    def unsubscribe(self) -> None: ...
    def drain(self) -> None: ...


class Connection(Protocol):
    """A connection, whose methods block the test until they are done."""

    events: Events
    nc: Any

    def publish(
        self, subject: str, data: bytes = b"", *, reply: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None: ...
    def request(self, subject: str, data: bytes = b"", *, timeout: float = LIMIT) -> Message: ...
    def begin_request(
        self, subject: str, data: bytes = b"", *, timeout: float = LIMIT
    ) -> concurrent.futures.Future[Message]: ...
    def subscribe(self, subject: str, *, queue: str | None = None) -> Subscription: ...
    def add_service(self, config: ServiceConfig | ServiceDefinition | str | None = None, **fields: Any) -> Service: ...
    def flush(self, timeout: float = LIMIT) -> None: ...
    def drain(self) -> None: ...
    def close(self) -> None: ...
    def reconnect(self) -> None: ...
    @property
    def is_connected(self) -> bool: ...
    @property
    def is_closed(self) -> bool: ...
    @property
    def connected_url(self) -> str | None: ...
    @property
    def server_info(self) -> Mapping[str, Any]: ...
    @property
    def max_payload(self) -> int: ...


class FrontEnd(Protocol):
    """A front-end; its connections end with it."""

    def connect(self, servers: Servers, **options: Any) -> Connection:
        """Connect with the options of `connect`, the waits before reconnecting being short unless they are given."""
        ...

    async def sleep(self, seconds: float) -> None: ...
    def close(self) -> None: ...


class AsyncioFrontEnd:
    """natsvc.asyncio, in an event loop of its own thread."""

    def __init__(self) -> None:
        self._world = AsyncioWorld("asyncio", natsvc.asyncio.connect)
        self._connections: list[AsyncioDriver] = []

    def connect(self, servers: Servers, **options: Any) -> AsyncioDriver:
        events = Events()

        async def connect() -> natsvc.asyncio.Connection:
            return await natsvc.asyncio.connect(
                servers, **{"reconnect_wait": 0.05, "reconnect_jitter": 0.01, **events.callbacks(), **options}
            )

        connection = AsyncioDriver(self._world, self._world.do(connect()), events)
        self._connections.append(connection)
        return connection

    async def sleep(self, seconds: float) -> None:
        await self._world.sleep(seconds)

    def close(self) -> None:
        try:
            for connection in self._connections:
                connection.close()
        finally:
            self._world.close()


class AsyncioDriver(AsyncioConnection):
    def __init__(self, world: AsyncioWorld, nc: natsvc.asyncio.Connection, events: Events) -> None:
        super().__init__(world, nc)
        self.events = events

    def publish(
        self, subject: str, data: bytes = b"", *, reply: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self._world.do(self.nc.publish(subject, data, reply=reply, headers=headers))

    def request(self, subject: str, data: bytes = b"", *, timeout: float = LIMIT) -> Message:
        return self.begin_request(subject, data, timeout=timeout).result(LIMIT + timeout)

    def begin_request(
        self, subject: str, data: bytes = b"", *, timeout: float = LIMIT
    ) -> concurrent.futures.Future[Message]:
        return self._world.begin(self.nc.request(subject, data, timeout=timeout))

    def subscribe(self, subject: str, *, queue: str | None = None) -> AsyncioSubscription:
        async def subscribe() -> natsvc.asyncio.Subscription:
            subscription: natsvc.asyncio.Subscription = await self.nc.subscribe(subject, queue=queue)
            return subscription

        return AsyncioSubscription(self._world, self._world.do(subscribe()))

    def flush(self, timeout: float = LIMIT) -> None:
        self._world.do(self.nc.flush(timeout))

    def reconnect(self) -> None:
        self._world.do(self.nc.reconnect())

    @property
    def connected_url(self) -> str | None:
        url: str | None = self.nc.connected_url
        return url

    @property
    def server_info(self) -> Mapping[str, Any]:
        info: Mapping[str, Any] = self.nc.server_info
        return info

    @property
    def max_payload(self) -> int:
        size: int = self.nc.max_payload
        return size


class AsyncioSubscription:
    def __init__(self, world: AsyncioWorld, subscription: natsvc.asyncio.Subscription) -> None:
        self._world = world
        self._subscription = subscription

    @property
    def dropped(self) -> int:
        return self._subscription.dropped

    def receive(self, timeout: float = LIMIT) -> Message:
        return self._world.do(self._subscription.receive(timeout))

    def unsubscribe(self) -> None:
        self._world.do(self._subscription.unsubscribe())

    def drain(self) -> None:
        self._world.do(self._subscription.drain())


def make_anyio_front_end(backend: str) -> FrontEnd:
    from tests.connection.anyio_front_end import AnyioFrontEnd

    return AnyioFrontEnd(backend)


def make_sync_front_end() -> FrontEnd:
    """natsvc.sync."""
    from tests.connection.sync_front_end import SyncFrontEnd

    return SyncFrontEnd()


FRONT_ENDS: dict[str, Callable[[], FrontEnd]] = {
    "asyncio": AsyncioFrontEnd,
    "anyio on asyncio": lambda: make_anyio_front_end("asyncio"),
    "anyio on trio": lambda: make_anyio_front_end("trio"),
    "sync": make_sync_front_end,
}


@contextlib.contextmanager
def running_front_end(name: str) -> Iterator[FrontEnd]:
    """Make a front-end for the block."""
    front_end = FRONT_ENDS[name]()
    try:
        yield front_end
    finally:
        front_end.close()
