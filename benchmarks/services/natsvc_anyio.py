"""natsvc on anyio, in the event loops of asyncio and of trio."""

from __future__ import annotations

import time

import anyio

from benchmarks.children import run_asyncio, say_ready
from benchmarks.services.definition import define
from benchmarks.services.handlers import async_handlers
from natsvc.anyio import add_service, connect

__all__ = ["run_on_asyncio", "run_on_trio"]


def run_on_asyncio(url: str, endpoints: int, *, uvloop: bool) -> None:
    """Serve until the process is killed."""
    run_asyncio(_serve(url, endpoints), uvloop=uvloop)


def run_on_trio(url: str, endpoints: int, *, uvloop: bool) -> None:
    """Serve until the process is killed."""
    import trio

    trio.run(_serve, url, endpoints)


async def _serve(url: str, endpoints: int) -> None:
    async with connect(url) as nc:
        begun = time.perf_counter()
        async with add_service(nc, define(async_handlers(anyio.sleep), endpoints)):
            say_ready(time.perf_counter() - begun)
            await anyio.sleep_forever()
