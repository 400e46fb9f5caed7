"""Wakes state machines when it is time: one thread for a connection and all the services on it.

The reader can't do it, for it waits in a read that only bytes end; and a thread for each timeout would cost more than
the request it is for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable

from natsvc.sync.waiter import LONGEST_WAIT

__all__ = ["Alarms"]

_clock = time.perf_counter_ns


class Alarms:
    """The times at which something is to be called; all methods are for threads that hold the lock.

    Args:
        lock: The connection's lock; what is called is called under it.
        afterwards: What is called after that, without the lock.
    """

    def __init__(self, lock: threading.RLock, afterwards: Callable[[], object]) -> None:
        self._changed = threading.Condition(lock)
        self._afterwards = afterwards
        self._due: dict[Hashable, tuple[int, Callable[[], object]]] = {}
        self._wakes_at: int | None = None
        self._is_running = False
        self._is_closed = False

    def set(self, owner: Hashable, at: int, call: Callable[[], object]) -> None:
        """Have something called at this time, in place of what this owner has asked for before.

        Args:
            owner: Whose alarm it is; each has one.
            at: The time, in nanoseconds of `perf_counter`.
            call: What to call.
        """
        self._due[owner] = (at, call)
        if not self._is_running:
            threading.Thread(target=self._run, name="natsvc-alarms", daemon=True).start()
            self._is_running = True
        elif self._wakes_at is None or at < self._wakes_at:
            self._changed.notify()

    def clear(self, owner: Hashable) -> None:
        """Forget what this owner has asked for."""
        self._due.pop(owner, None)

    def close(self) -> None:
        """End the thread as soon as nothing is to be called any more."""
        self._is_closed = True
        self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._wait():
                    self._is_running = False
                    return
                now = _clock()
                for owner, (at, call) in list(self._due.items()):
                    if at <= now:
                        del self._due[owner]
                        call()
            self._afterwards()

    def _wait(self) -> bool:
        """Wait until something is due; return whether there is anything to wait for."""
        while True:
            self._wakes_at = min((at for at, _ in self._due.values()), default=None)
            if self._wakes_at is None:
                if self._is_closed:
                    return False
                self._changed.wait()
                continue
            left = (self._wakes_at - _clock()) / 1e9
            if left <= 0:
                return True
            self._changed.wait(min(left, LONGEST_WAIT))
