"""A thread that does what others shall not wait for."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import queue

__all__ = ["Attendant"]


class Attendant:
    """A thread that does what it is given, in its turn; it is started on demand.

    Its methods are for threads that hold the connection's lock.

    Args:
        name: The thread's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[Callable[[], object] | None] | None = None

    def take(self, call: Callable[[], object]) -> bool:
        """Have this done; return whether there is a thread that will: the system may give no more."""
        if self._calls is None:
            import queue  # it takes its time to be loaded, and few connections ever come here

            calls = queue.SimpleQueue[Callable[[], object] | None]()
            try:
                threading.Thread(target=_do, args=(calls,), name=self._name, daemon=True).start()
            except RuntimeError:
                return False
            self._calls = calls
        self._calls.put(call)
        return True

    def close(self) -> None:
        """Have the thread end when it has done what it was given."""
        calls, self._calls = self._calls, None
        if calls is not None:
            calls.put(None)


def _do(calls: queue.SimpleQueue[Callable[[], object] | None]) -> None:
    while (call := calls.get()) is not None:
        try:
            call()
        except Exception:  # noqa: BLE001  # whatever it is, others rely on this thread
            threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
        del call  # or it would live on, with all it holds, until the next one comes
