"""natsvc for blocking threads, with the handlers in threads."""

from __future__ import annotations

import threading
import time

from benchmarks.children import say_ready
from benchmarks.services.definition import define
from benchmarks.services.handlers import blocking_handlers
from natsvc.sync import add_service, connect

__all__ = ["run"]


def run(url: str, endpoints: int, *, uvloop: bool) -> None:
    """Serve until the process is killed."""
    nc = connect(url)
    begun = time.perf_counter()
    add_service(nc, define(blocking_handlers(time.sleep), endpoints))
    say_ready(time.perf_counter() - begun)
    threading.Event().wait()
