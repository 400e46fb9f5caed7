"""One thread waits, another one has the outcome: the cheapest way that Python has for it, a lock that starts locked.

The main thread waits in pieces, because it is where Python handles signals, Ctrl-C among them. A signal interrupts the
wait for a lock; but one that comes in the moment before is not heard until the wait is over, and on Windows none is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

__all__ = ["LONGEST_WAIT", "Waiter", "pieces"]

LONGEST_WAIT = threading.TIMEOUT_MAX
"""Seconds; no lock can be asked to wait longer than that."""

_PIECE = 0.25
"""Seconds that the main thread waits without a look at whether there was a signal."""


class Waiter:
    """Waits for one outcome. It is called with it, by any thread that holds the connection's lock; the first counts."""

    __slots__ = ("_gate", "_is_settled", "_outcome")

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._gate.acquire()
        self._is_settled = False
        self._outcome: Any = None

    def __call__(self, outcome: Any) -> None:
        """Take the outcome."""
        if not self._is_settled:
            self._is_settled = True
            self._outcome = outcome
            self._gate.release()

    def wait(self, timeout: float | None = None) -> Any:
        """Return the outcome, or raise it if it is an exception.

        Args:
            timeout: Seconds to wait for it. Default: for ever.

        Raises:
            TimeoutError: It did not come in time.
        """
        for piece in pieces(timeout):
            if self._gate.acquire(timeout=piece):
                break
        else:
            raise TimeoutError
        outcome = self._outcome
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def pieces(timeout: float | None) -> Iterator[float]:
    """Yield the seconds to wait for something, one piece after the other; at least one.

    Args:
        timeout: Seconds in all; None: for ever.
    """
    longest = _PIECE if threading.current_thread() is threading.main_thread() else LONGEST_WAIT
    if timeout is None:
        while True:
            yield longest
    end = time.monotonic() + timeout
    yield min(timeout, longest)
    while (left := end - time.monotonic()) > 0:
        yield min(left, longest)
