"""A bare echo in a protocol of asyncio's."""

from __future__ import annotations

import asyncio
from typing import cast

from benchmarks.children import run_asyncio
from benchmarks.services.limit import Echo, address

__all__ = ["run"]


def run(url: str, endpoints: int, *, uvloop: bool) -> None:
    """Echo until the server closes the connection."""
    run_asyncio(_serve(url, endpoints), uvloop=uvloop)


class _Protocol(asyncio.Protocol):
    def __init__(self, echo: Echo) -> None:
        self._echo = echo
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = cast("asyncio.WriteTransport", transport).write  # uvloop's is no subclass
        self._write(self._echo.greeting)

    def data_received(self, data: bytes) -> None:
        if answer := self._echo.receive(data):
            self._write(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


async def _serve(url: str, endpoints: int) -> None:
    echo = Echo(endpoints)
    _, protocol = await asyncio.get_running_loop().create_connection(lambda: _Protocol(echo), *address(url))
    await protocol.lost
