"""natsvc.anyio's own connection, on either of anyio's event loops, driven from a test's thread."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Mapping
from typing import Any

import natsvc.anyio
from natsvc import Message
from tests.anyio_world import AnyioConnection, AnyioWorld, Block
from tests.connection.front_ends import Events, Servers
from tests.worlds import LIMIT

__all__ = ["AnyioFrontEnd"]


class AnyioFrontEnd:
    """natsvc.anyio, in an event loop of its own thread."""

    def __init__(self, backend: str) -> None:
        self._world = AnyioWorld(backend)
        self._connections: list[AnyioDriver] = []

    def connect(self, servers: Servers, **options: Any) -> AnyioDriver:
        events = Events()
        options = {"reconnect_wait": 0.05, "reconnect_jitter": 0.01, **events.callbacks(), **options}
        connection = AnyioDriver(self._world, self._world.enter(natsvc.anyio.connect, servers, **options), events)
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


class AnyioDriver(AnyioConnection):
    def __init__(self, world: AnyioWorld, block: Block[natsvc.anyio.Connection], events: Events) -> None:
        super().__init__(world, block)
        self.events = events

    def publish(
        self, subject: str, data: bytes = b"", *, reply: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self._world.do(self.nc.publish, subject, data, reply=reply, headers=headers)

    def request(self, subject: str, data: bytes = b"", *, timeout: float = LIMIT) -> Message:
        return self.begin_request(subject, data, timeout=timeout).result(LIMIT + timeout)

    def begin_request(
        self, subject: str, data: bytes = b"", *, timeout: float = LIMIT
    ) -> concurrent.futures.Future[Message]:
        return self._world.begin(self.nc.request, subject, data, timeout=timeout)

    def subscribe(self, subject: str, *, queue: str | None = None) -> AnyioSubscription:
        async def subscribe() -> natsvc.anyio.Subscription:
            return await self.nc.subscribe(subject, queue=queue)

        return AnyioSubscription(self._world, self._world.do(subscribe))

    def flush(self, timeout: float = LIMIT) -> None:
        self._world.do(self.nc.flush, timeout)

    def reconnect(self) -> None:
        self._world.do(self.nc.reconnect)

    @property
    def connected_url(self) -> str | None:
        return self.nc.connected_url

    @property
    def server_info(self) -> Mapping[str, Any]:
        return self.nc.server_info

    @property
    def max_payload(self) -> int:
        return self.nc.max_payload


class AnyioSubscription:
    def __init__(self, world: AnyioWorld, subscription: natsvc.anyio.Subscription) -> None:
        self._world = world
        self._subscription = subscription

    @property
    def dropped(self) -> int:
        return self._subscription.dropped

    def receive(self, timeout: float = LIMIT) -> Message:
        return self._world.do(self._subscription.receive, timeout)

    def unsubscribe(self) -> None:
        self._world.do(self._subscription.unsubscribe)

    def drain(self) -> None:
        self._world.do(self._subscription.drain)
