"""On natsvc's own connections, what comes for a service is made as a request at once: no message is copied into one."""

from __future__ import annotations

import asyncio

import anyio

import natsvc.anyio
import natsvc.asyncio
import natsvc.sync
from natsvc.message import Message
from natsvc.testing import NatsServer
from natsvc.wire.connection import ConnectionState

CONTROLS = 9
ENDPOINTS = 1


def made_as(state: ConnectionState) -> list[type[Message]]:
    return [make for _, make in state._known.values()]


def test_on_asyncio(server: NatsServer) -> None:
    async def main() -> None:
        async with natsvc.asyncio.connect(server.url) as nc, natsvc.asyncio.add_service(nc, name="made") as service:
            await service.add_endpoint("made-a", handler=lambda request: request.data)
            assert made_as(nc._driver.state) == [natsvc.asyncio.Request] * (CONTROLS + ENDPOINTS)

    asyncio.run(main())


def test_on_trio(server: NatsServer) -> None:
    async def main() -> None:
        async with natsvc.anyio.connect(server.url) as nc, natsvc.anyio.add_service(nc, name="made") as service:
            await service.add_endpoint("made-y", handler=lambda request: request.data)
            assert made_as(nc._driver.state) == [natsvc.anyio.Request] * (CONTROLS + ENDPOINTS)

    anyio.run(main, backend="trio")


def test_in_threads(server: NatsServer) -> None:
    with natsvc.sync.connect(server.url) as nc, natsvc.sync.add_service(nc, name="made") as service:
        service.add_endpoint("made-s", handler=lambda request: request.data)
        assert made_as(nc._driver.state) == [natsvc.sync.Request] * (CONTROLS + ENDPOINTS)
