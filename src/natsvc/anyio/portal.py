"""From other threads, and from signal handlers, into the event loop.

anyio's own way in is for threads that anyio has started. These here are daemon threads of natsvc's, and a signal
handler may run between any two instructions of the loop itself; what both event loops have for that is one function
each.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from natsvc.errors import ServiceStoppedError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Portal"]


class Portal:
    """A way into the event loop in which it is made."""

    def __init__(self) -> None:
        self._call_soon = _call_soon_here()
        self._thread = threading.get_ident()
        self._waiting: set[Future[Any]] = set()
        self._is_closed = False

    def call_soon(self, function: Callable[[], object]) -> None:
        """Have the loop call a function, which must not raise; may be called anywhere.

        Raises:
            RuntimeError: The loop has ended.
        """
        self._call_soon(function)

    def call(self, function: Callable[[Future[Any]], object]) -> Any:
        """Have the loop call a function, which must not raise, and wait in this thread until it has settled the future.

        Raises:
            RuntimeError: This is the loop's own thread.
            ServiceStoppedError: The loop or the service has ended.
        """
        if threading.get_ident() == self._thread:
            raise RuntimeError("a BlockingRequest can't respond on the event loop: it would wait for itself")
        outcome = Future[Any]()
        self._waiting.add(outcome)
        try:
            if self._is_closed:
                raise _ended()
            try:
                self._call_soon(lambda: function(outcome))
            except RuntimeError as error:
                raise _ended() from error
            return outcome.result()
        finally:
            self._waiting.discard(outcome)

    def close(self) -> None:
        """Whoever still waits, waits in vain."""
        self._is_closed = True
        for outcome in list(self._waiting):
            if not outcome.done():
                outcome.set_exception(_ended())


def _ended() -> ServiceStoppedError:
    return ServiceStoppedError("the event loop or the service has ended: nothing can be sent")


def _call_soon_here() -> Callable[[Callable[[], object]], object]:
    """Return the running loop's own function for this; it is thread-safe, and safe in signal handlers."""
    # Neither of them is imported here: the one that runs is there already.
    trio = sys.modules.get("trio")
    call_soon: Callable[[Callable[[], object]], object]
    if trio is not None:
        with contextlib.suppress(RuntimeError):  # trio is there, but it is not what runs
            trio.lowlevel.current_task()
            call_soon = trio.lowlevel.current_trio_token().run_sync_soon
            return call_soon
    call_soon = sys.modules["asyncio"].get_running_loop().call_soon_threadsafe
    return call_soon
