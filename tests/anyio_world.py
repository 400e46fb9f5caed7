"""The world of natsvc.anyio, on either of anyio's event loops, driven from a test's thread."""

from __future__ import annotations

import concurrent.futures
import functools
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

import anyio
import anyio.from_thread

import natsvc.anyio
from natsvc import Endpoint, EndpointConfig, GroupConfig, ServiceConfig, ServiceDefinition, ServiceInfo, ServiceStats
from tests.worlds import LIMIT, Group, Stopping

__all__ = ["AnyioConnection", "AnyioWorld", "Block"]

T = TypeVar("T")


class AnyioWorld:
    """natsvc.anyio, in an event loop of its own thread; blocks are held open by tasks of their own."""

    def __init__(self, backend: str) -> None:
        self.name = f"anyio on {backend}"
        self._running = anyio.from_thread.start_blocking_portal(backend)
        self._portal = self._running.__enter__()
        self._connections: list[AnyioConnection] = []

    def begin(
        self, function: Callable[..., Awaitable[T]], *arguments: Any, **fields: Any
    ) -> concurrent.futures.Future[T]:
        return self._portal.start_task_soon(functools.partial(function, *arguments, **fields))

    def do(self, function: Callable[..., Awaitable[T]], *arguments: Any, **fields: Any) -> T:
        return self.begin(function, *arguments, **fields).result(LIMIT)

    def enter(self, make: Callable[..., AbstractAsyncContextManager[T]], *arguments: Any, **fields: Any) -> Block[T]:
        """Open a block in a task of its own; return when it has begun."""
        entered: concurrent.futures.Future[T] = concurrent.futures.Future()
        leaving = self._portal.call(anyio.Event)

        async def hold() -> None:
            try:
                async with make(*arguments, **fields) as value:
                    entered.set_result(value)
                    await leaving.wait()
            except Exception as error:
                if entered.done():
                    raise
                entered.set_exception(error)

        held = self.begin(hold)
        return Block(entered.result(LIMIT), held, lambda: self._portal.call(leaving.set))

    def connect(self, url: str, **options: Any) -> AnyioConnection:
        connection = AnyioConnection(self, self.enter(natsvc.anyio.connect, url, **{"reconnect_wait": 0.05, **options}))
        self._connections.append(connection)
        return connection

    def gate(self) -> AnyioGate:
        return AnyioGate(self._portal)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        self._running.__exit__(None, None, None)


class Block(Generic[T]):
    """A block held open by a task."""

    def __init__(self, value: T, held: concurrent.futures.Future[None], let_go: Callable[[], object]) -> None:
        self.value = value
        self.held = held
        self._let_go = let_go

    def leave(self) -> None:
        """Leave it; what it raises then is the test's own business."""
        if not self.held.done():
            self._let_go()
        self.held.exception(LIMIT)


class AnyioGate:
    def __init__(self, portal: anyio.from_thread.BlockingPortal) -> None:
        self._portal = portal
        self._event = portal.call(anyio.Event)

    async def wait(self) -> None:
        await self._event.wait()

    def open(self) -> None:
        self._portal.call(self._event.set)


class AnyioConnection:
    def __init__(self, world: AnyioWorld, block: Block[natsvc.anyio.Connection]) -> None:
        self._world = world
        self._blocks: list[Block[Any]] = [block]
        self.nc = block.value

    def add_service(self, config: ServiceConfig | ServiceDefinition | str | None = None, **fields: Any) -> AnyioService:
        block = self._world.enter(natsvc.anyio.add_service, self.nc, config, **fields)
        self._blocks.insert(0, block)
        return AnyioService(self._world, block.value)

    def call(self, subject: str, data: bytes) -> bytes:
        """Ask from this very connection."""
        return self._world.do(self.nc.request, subject, data, timeout=LIMIT).data

    def begin_drain(self) -> Stopping:
        return self._world.begin(self.nc.drain)

    def drain(self) -> None:
        self.begin_drain().result(LIMIT)

    def close(self) -> None:
        self._world.do(self.nc.close)
        for block in self._blocks:
            block.leave()

    @property
    def is_closed(self) -> bool:
        return self.nc.is_closed

    @property
    def is_connected(self) -> bool:
        return self.nc.is_connected


class _AnyioGroup:
    def __init__(self, world: AnyioWorld, place: natsvc.anyio.Group | natsvc.anyio.Service) -> None:
        self._world = world
        self._place = place

    def add_endpoint(self, config: EndpointConfig | str | None = None, **fields: Any) -> Endpoint:
        return self._world.do(self._place.add_endpoint, config, **fields)

    def add_group(self, config: GroupConfig | str | None = None, **fields: Any) -> Group:
        return _AnyioGroup(self._world, self._place.add_group(config, **fields))


class AnyioService(_AnyioGroup):
    def __init__(self, world: AnyioWorld, service: natsvc.anyio.Service) -> None:
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
        self._world.do(self.service.start)

    def stop(self, error: BaseException | None = None, *, timeout: float = 30.0) -> None:
        self.begin_stop(error, timeout=timeout).result(LIMIT + timeout)

    def begin_stop(self, error: BaseException | None = None, *, timeout: float = 30.0) -> Stopping:
        return self._world.begin(self.service.stop, error, timeout=timeout)

    def info(self) -> ServiceInfo:
        return self.service.info()

    def stats(self) -> ServiceStats:
        return self.service.stats()

    def reset(self) -> None:
        async def reset() -> None:
            await self.service.reset()

        self._world.do(reset)
