"""One timer for everything that is due at some time: it is set anew far more often than it fires.

A task that sleeps in a cancel scope serves, for the deadline of a scope can be moved at the price of an assignment.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Timer", "clock"]

clock = time.perf_counter_ns
"""The time that the state machines are told, in nanoseconds."""


class Timer:
    """Calls something when it is time.

    Args:
        wake: Called with the time, which is never before the one that was asked for.
    """

    def __init__(self, wake: Callable[[int], None]) -> None:
        self._wake = wake
        self._at: int | None = None
        self._deadline = math.inf
        self._sleep: anyio.CancelScope | None = None
        self._life = anyio.CancelScope(shield=True)

    def set(self, at: int | None) -> None:
        """Wake at this time instead of the one set before; None: not at all."""
        self._at = at
        self._deadline = math.inf if at is None else anyio.current_time() + max(0, at - clock()) / 1e9
        if self._sleep is not None:
            self._sleep.deadline = self._deadline

    async def run(self) -> None:
        """Keep the time, until `close`; whoever cancels the block around it still needs the time to leave it."""
        with self._life:
            while True:
                with anyio.CancelScope(deadline=self._deadline) as self._sleep:
                    await anyio.sleep_forever()
                # It may have been set anew after its deadline had come, and before this task had its turn.
                if self._at is not None and anyio.current_time() >= self._deadline:
                    at, self._at, self._deadline = self._at, None, math.inf
                    self._wake(max(at, clock()))

    def close(self) -> None:
        """End it, also before it has begun."""
        self._life.cancel()
