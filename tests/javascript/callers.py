"""The ServiceClient of each front-end, called from a test's thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import natsvc.anyio
import natsvc.asyncio
import natsvc.sync
from tests.anyio_world import AnyioConnection
from tests.sync_world import SyncConnection
from tests.worlds import AsyncioConnection, Connection

__all__ = ["Ask", "caller"]

Ask = Callable[..., Any]
"""Calls a ServiceClient's method, `ask("ping", "user-service")`, and blocks the test until that is done."""


def caller(connection: Connection) -> Ask:
    """Make a ServiceClient on the connection."""
    if isinstance(connection, AsyncioConnection):
        asyncio_client, asyncio_world = natsvc.asyncio.ServiceClient(connection.nc), connection._world
        return lambda method, *given, **named: asyncio_world.do(getattr(asyncio_client, method)(*given, **named))
    if isinstance(connection, AnyioConnection):
        anyio_client, anyio_world = natsvc.anyio.ServiceClient(connection.nc), connection._world
        return lambda method, *given, **named: anyio_world.do(getattr(anyio_client, method), *given, **named)
    assert isinstance(connection, SyncConnection)
    client = natsvc.sync.ServiceClient(connection.nc)
    return lambda method, *given, **named: getattr(client, method)(*given, **named)
