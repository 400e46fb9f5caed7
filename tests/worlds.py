"""The worlds that services run in, driven from a test's thread.

The behaviour suite is written once. It says what a service is and does through these drivers, and observes it from
outside with a PlainClient. A world needs to know how to run a coroutine function as a handler, how a handler waits, and
how to make calls into its front-end; the rest of the suite doesn't know which world it is in.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Protocol, TypeVar

import nats
from nats.aio.client import Client

import natsvc.asyncio
import natsvc.sync
from natsvc import Endpoint, EndpointConfig, GroupConfig, ServiceConfig, ServiceDefinition, ServiceInfo, ServiceStats
from natsvc.testing import NatsServer

T = TypeVar("T")

LIMIT = 30.0
"""Seconds that anything may take that a test waits for; nothing is expected to take long."""


def eventually(condition: Callable[[], object], limit: float = LIMIT) -> None:
    """Poll for what must come true: a reply, for example, can be seen before its request is counted."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.005)


def interest(server: NatsServer) -> dict[str, str]:
    """What the server's clients subscribe to, with the queue group of each."""
    clients = server.monitoring("connz?subs=detail")["connections"]
    return {
        sub["subject"]: sub.get("qgroup", "") for one in clients for sub in one.get("subscriptions_list_detail", ())
    }


class Gate(Protocol):
    """What a handler waits at until the test opens it."""

    async def wait(self) -> None: ...
    def open(self) -> None: ...


class Group(Protocol):
    """A group of a service."""

    def add_endpoint(self, config: EndpointConfig | str | None = None, **fields: Any) -> Endpoint: ...
    def add_group(self, config: GroupConfig | str | None = None, **fields: Any) -> Group: ...


class Service(Group, Protocol):
    """A service, whose methods block the test until they are done."""

    @property
    def id(self) -> str: ...
    @property
    def is_stopped(self) -> bool: ...
    @property
    def error(self) -> BaseException | None: ...
    def start(self) -> None: ...
    def stop(self, error: BaseException | None = None, *, timeout: float = 30.0) -> None: ...
    def begin_stop(self, error: BaseException | None = None, *, timeout: float = 30.0) -> Stopping: ...
    def info(self) -> ServiceInfo: ...
    def stats(self) -> ServiceStats: ...
    def reset(self) -> None: ...


class Stopping(Protocol):
    """A stop under way."""

    def done(self) -> bool: ...
    def result(self, timeout: float | None = None) -> None: ...


class Connection(Protocol):
    """A connection that services run on; it belongs to the test."""

    def add_service(self, config: ServiceConfig | ServiceDefinition | str | None = None, **fields: Any) -> Service: ...
    def call(self, subject: str, data: bytes) -> bytes: ...
    def begin_drain(self) -> Stopping: ...
    def drain(self) -> None: ...
    def close(self) -> None: ...
    @property
    def is_closed(self) -> bool: ...
    @property
    def is_connected(self) -> bool: ...


class World(Protocol):
    """A front-end on a connection of some client."""

    name: str

    def connect(self, url: str) -> Connection: ...
    def gate(self) -> Gate: ...
    async def sleep(self, seconds: float) -> None: ...
    def close(self) -> None: ...


class AsyncioWorld:
    """natsvc.asyncio, in an event loop of its own thread."""

    def __init__(self, name: str, connect: Callable[[str], Awaitable[Any]]) -> None:
        self.name = name
        self._connect = connect
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name=name)
        self._thread.start()
        self._connections: list[AsyncioConnection] = []

    def _run_loop(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            self._ended = asyncio.Event()
            runner.run(self._ended.wait())

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.begin(coroutine).result(LIMIT)

    def connect(self, url: str) -> AsyncioConnection:
        async def connect() -> Any:
            return await self._connect(url)

        connection = AsyncioConnection(self, self.do(connect()))
        self._connections.append(connection)
        return connection

    def gate(self) -> AsyncioGate:
        return AsyncioGate(self._loop)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        self._loop.call_soon_threadsafe(lambda: self._ended.set())
        self._thread.join(LIMIT)
        assert not self._thread.is_alive()


class AsyncioGate:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()

    async def wait(self) -> None:
        await self._event.wait()

    def open(self) -> None:
        self._loop.call_soon_threadsafe(self._event.set)


class AsyncioConnection:
    def __init__(self, world: AsyncioWorld, nc: Any) -> None:
        self._world = world
        self.nc = nc

    def add_service(
        self, config: ServiceConfig | ServiceDefinition | str | None = None, **fields: Any
    ) -> AsyncioService:
        async def add() -> natsvc.asyncio.Service:
            return await natsvc.asyncio.add_service(self.nc, config, **fields)

        return AsyncioService(self._world, self._world.do(add()))

    def call(self, subject: str, data: bytes) -> bytes:
        """Ask from this very connection."""
        reply: bytes = self._world.do(self.nc.request(subject, data, timeout=LIMIT)).data
        return reply

    def begin_drain(self) -> Stopping:
        return self._world.begin(self.nc.drain())

    def drain(self) -> None:
        self.begin_drain().result(LIMIT)

    def close(self) -> None:
        self._world.do(self.nc.close())

    @property
    def is_closed(self) -> bool:
        return bool(self.nc.is_closed)

    @property
    def is_connected(self) -> bool:
        return bool(self.nc.is_connected)


class _AsyncioGroup:
    def __init__(self, world: AsyncioWorld, place: natsvc.asyncio.Group | natsvc.asyncio.Service) -> None:
        self._world = world
        self._place = place

    def add_endpoint(self, config: EndpointConfig | str | None = None, **fields: Any) -> Endpoint:
        return self._world.do(self._place.add_endpoint(config, **fields))

    def add_group(self, config: GroupConfig | str | None = None, **fields: Any) -> Group:
        return _AsyncioGroup(self._world, self._place.add_group(config, **fields))


class AsyncioService(_AsyncioGroup):
    def __init__(self, world: AsyncioWorld, service: natsvc.asyncio.Service) -> None:
        super().__init__(world, service)
        self.service = service

    @property
    def id(self) -> str:
        return self.service.id

    @property
    def is_stopped(self) -> bool:
        return self.service.stopped.is_set()

    @property
    def error(self) -> BaseException | None:
        return self.service.error

    def start(self) -> None:
        self._world.do(self.service.start())

    def stop(self, error: BaseException | None = None, *, timeout: float = 30.0) -> None:
        self.begin_stop(error, timeout=timeout).result(LIMIT + timeout)

    def begin_stop(self, error: BaseException | None = None, *, timeout: float = 30.0) -> Stopping:
        return self._world.begin(self.service.stop(error, timeout=timeout))

    def info(self) -> ServiceInfo:
        return self.service.info()

    def stats(self) -> ServiceStats:
        return self.service.stats()

    def reset(self) -> None:
        async def reset() -> None:
            await self.service.reset()

        self._world.do(reset())


async def confirmed(nc: Any) -> None:
    """Wait until the server has all that was sent: nats-py writes its PING ahead of what is pending, but only once."""
    while getattr(nc, "pending_data_size", 0):  # nats-py may wait for room in the socket
        await asyncio.sleep(0)
    await nc.flush()
    await nc.flush()


async def connect_nats_py(url: str) -> Client:
    """nats-py, patient enough to come back after a server's restart, and silent about it."""

    async def ignore(_error: Exception) -> None:
        return

    return await nats.connect(url, error_cb=ignore, reconnect_time_wait=0.05, max_reconnect_attempts=-1)


async def connect_natsvc(url: str) -> natsvc.asyncio.Connection:
    """natsvc's own connection, in a hurry to come back."""
    return await natsvc.asyncio.connect(url, reconnect_wait=0.05)


def make_anyio_world(backend: str) -> World:
    """natsvc.anyio, in a hurry to come back."""
    from tests.anyio_world import AnyioWorld

    return AnyioWorld(backend)


def make_sync_world() -> World:
    """natsvc.sync, in a hurry to come back."""
    from tests.sync_world import SyncWorld

    return SyncWorld("sync", lambda url: natsvc.sync.connect(url, reconnect_wait=0.05))


WORLDS: dict[str, Callable[[], World]] = {
    "asyncio on natsvc": lambda: AsyncioWorld("asyncio on natsvc", connect_natsvc),
    "asyncio on nats-py": lambda: AsyncioWorld("asyncio on nats-py", connect_nats_py),
    "anyio on asyncio": lambda: make_anyio_world("asyncio"),
    "anyio on trio": lambda: make_anyio_world("trio"),
    "sync": make_sync_world,
}


@contextlib.contextmanager
def running_world(name: str) -> Iterator[World]:
    """Make a world for the block."""
    world = WORLDS[name]()
    try:
        yield world
    finally:
        world.close()
