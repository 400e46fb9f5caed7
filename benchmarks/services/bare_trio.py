"""A bare echo on a stream of trio's."""

from __future__ import annotations

import trio

from benchmarks.services.limit import READ_SIZE, Echo, address

__all__ = ["run"]


def run(url: str, endpoints: int, *, uvloop: bool) -> None:
    """Echo until the server closes the connection."""
    trio.run(_serve, url, endpoints)


async def _serve(url: str, endpoints: int) -> None:
    echo = Echo(endpoints)
    async with await trio.open_tcp_stream(*address(url)) as stream:
        await stream.send_all(echo.greeting)
        while data := await stream.receive_some(READ_SIZE):
            if answer := echo.receive(bytes(data)):
                await stream.send_all(answer)
