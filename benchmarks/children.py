"""What the processes of contenders have in common: their event loop, and how they begin and end."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Coroutine
from typing import Any

from benchmarks.subjects import READY

__all__ = ["end_with_stdin", "run_asyncio", "say_ready"]


def say_ready(starting: float) -> None:
    """Tell the parent process that this one can be asked, and how many seconds its service took to start."""
    print(READY, starting, flush=True)


def end_with_stdin() -> None:
    """Have this process end when its stdin does: the parent keeps that open as long as it lives.

    The thread blocks in one read, and takes part in nothing.
    """

    def wait_for_end() -> None:
        # Not through sys.stdin, whose lock this thread would hold when Python ends.
        while os.read(sys.stdin.fileno(), 1):
            pass
        os._exit(1)

    threading.Thread(target=wait_for_end, daemon=True).start()


def run_asyncio(main: Coroutine[Any, Any, None], *, uvloop: bool) -> None:
    """Run on an event loop of asyncio: Python's own, or uvloop's."""
    import asyncio

    factory = None
    if uvloop:
        import uvloop as library

        factory = library.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)
