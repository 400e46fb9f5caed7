"""Tests of what is asyncio's own, in the test's event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client

from natsvc.testing import NatsServer
from tests.worlds import connect_nats_py


@pytest.fixture
async def nc(server: NatsServer) -> AsyncIterator[Client]:
    client = await connect_nats_py(server.url)
    yield client
    await client.close()


@pytest.fixture
async def caller(server: NatsServer) -> AsyncIterator[Client]:
    client = await connect_nats_py(server.url)
    yield client
    await client.close()
