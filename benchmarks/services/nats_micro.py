"""nats.micro on a connection of nats-py."""

from __future__ import annotations

import asyncio
import time

import nats
import nats.micro

from benchmarks.children import run_asyncio, say_ready
from benchmarks.services.handlers import async_handlers
from benchmarks.subjects import SERVICE

__all__ = ["run"]


def run(url: str, endpoints: int, *, uvloop: bool) -> None:
    """Serve until the process is killed."""
    run_asyncio(_serve(url, endpoints), uvloop=uvloop)


async def _serve(url: str, endpoints: int) -> None:
    nc = await nats.connect(url)
    begun = time.perf_counter()
    service = await nats.micro.add_service(nc, name=SERVICE, version="1.0.0")
    for name, subject, handler in async_handlers(asyncio.sleep).endpoints(endpoints):
        await service.add_endpoint(name=name, subject=subject, handler=handler)
    while nc.pending_data_size:  # the PING of its flush would go ahead of what is pending
        await asyncio.sleep(0)
    await nc.flush()
    say_ready(time.perf_counter() - begun)
    await asyncio.Event().wait()
