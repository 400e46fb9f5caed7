"""natsio.micro on natsio's connection."""

from __future__ import annotations

import asyncio
import importlib
import time

from benchmarks.children import run_asyncio, say_ready
from benchmarks.services.handlers import async_handlers
from benchmarks.subjects import SERVICE

__all__ = ["run"]

# By name, for mypy, which is to read all as Python 3.11, can't read natsio.
natsio = importlib.import_module("natsio")
micro = importlib.import_module("natsio.micro")


def run(url: str, endpoints: int, *, uvloop: bool) -> None:
    """Serve until the process is killed."""
    run_asyncio(_serve(url, endpoints), uvloop=uvloop)


async def _serve(url: str, endpoints: int) -> None:
    nc = await natsio.connect(url)
    begun = time.perf_counter()
    service = micro.add_service(nc, name=SERVICE, version="1.0.0")
    for name, subject, handler in async_handlers(asyncio.sleep).endpoints(endpoints):
        service.add_endpoint(name, handler, subject=subject)
    await nc.flush()
    say_ready(time.perf_counter() - begun)
    await asyncio.Event().wait()
