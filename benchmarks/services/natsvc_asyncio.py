"""natsvc on asyncio, on its own connection and on one of nats-py."""

from __future__ import annotations

import asyncio
import time

from benchmarks.children import run_asyncio, say_ready
from benchmarks.services.definition import define
from benchmarks.services.handlers import async_handlers
from natsvc.asyncio import add_service, connect

__all__ = ["run", "run_on_nats_py"]


def run(url: str, endpoints: int, *, uvloop: bool) -> None:
    """Serve until the process is killed."""

    async def serve() -> None:
        await _serve(await connect(url), endpoints)

    run_asyncio(serve(), uvloop=uvloop)


def run_on_nats_py(url: str, endpoints: int, *, uvloop: bool) -> None:
    """Serve on a connection of nats-py."""
    import nats

    async def serve() -> None:
        await _serve(await nats.connect(url), endpoints)

    run_asyncio(serve(), uvloop=uvloop)


async def _serve(nc: object, endpoints: int) -> None:
    begun = time.perf_counter()
    await add_service(nc, define(async_handlers(asyncio.sleep), endpoints))
    say_ready(time.perf_counter() - begun)
    await asyncio.Event().wait()
