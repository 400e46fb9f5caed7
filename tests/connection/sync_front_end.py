"""natsvc.sync's own connection, for the suite of this folder."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Mapping
from typing import Any

import natsvc.sync
from natsvc import Message
from tests.connection.front_ends import Events, Servers
from tests.sync_world import SyncConnection, begin
from tests.worlds import LIMIT

__all__ = ["SyncFrontEnd"]


class SyncFrontEnd:
    """natsvc.sync, in the threads that it makes."""

    def __init__(self) -> None:
        self._connections: list[SyncDriver] = []

    def connect(self, servers: Servers, **options: Any) -> SyncDriver:
        events = Events()
        nc = natsvc.sync.connect(
            servers, **{"reconnect_wait": 0.05, "reconnect_jitter": 0.01, **events.callbacks(), **options}
        )
        connection = SyncDriver(nc, events)
        self._connections.append(connection)
        return connection

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


class SyncDriver(SyncConnection):
    def __init__(self, nc: natsvc.sync.Connection, events: Events) -> None:
        super().__init__(nc)
        self.events = events

    def publish(
        self, subject: str, data: bytes = b"", *, reply: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self.nc.publish(subject, data, reply=reply, headers=headers)

    def request(self, subject: str, data: bytes = b"", *, timeout: float = LIMIT) -> Message:
        return self.nc.request(subject, data, timeout=timeout)

    def begin_request(
        self, subject: str, data: bytes = b"", *, timeout: float = LIMIT
    ) -> concurrent.futures.Future[Message]:
        return begin(self.nc.request, subject, data, timeout=timeout)

    def subscribe(self, subject: str, *, queue: str | None = None) -> SyncSubscription:
        return SyncSubscription(self.nc.subscribe(subject, queue=queue))

    def flush(self, timeout: float = LIMIT) -> None:
        self.nc.flush(timeout)

    def reconnect(self) -> None:
        self.nc.reconnect()

    @property
    def connected_url(self) -> str | None:
        return self.nc.connected_url

    @property
    def server_info(self) -> Mapping[str, Any]:
        return self.nc.server_info

    @property
    def max_payload(self) -> int:
        return self.nc.max_payload


class SyncSubscription:
    def __init__(self, subscription: natsvc.sync.Subscription) -> None:
        self._subscription = subscription

    @property
    def dropped(self) -> int:
        return self._subscription.dropped

    def receive(self, timeout: float = LIMIT) -> Message:
        return self._subscription.receive(timeout)

    def unsubscribe(self) -> None:
        self._subscription.unsubscribe()

    def drain(self) -> None:
        self._subscription.drain()
