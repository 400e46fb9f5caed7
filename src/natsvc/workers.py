"""Threads for blocking handlers: started on demand, and never in the way of the interpreter's end.

They are daemon threads, which no executor of the standard library offers: a handler that is stuck in a system call must
not keep a process alive that was told to stop. For the same reason nothing here joins a thread.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Workers", "run_blocking"]


class Workers:
    """A pool of daemon threads: each job gets an idle one or a new one.

    How many there can be is for the state machine to say, which bounds how many handlers run.

    Args:
        name: What the threads are called.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._threads = 0
        self._is_closed = False

    def submit(self, job: Callable[[], object]) -> None:
        """Have a thread run the job, which must not raise."""
        with self._lock:
            if self._is_closed:  # a handler that outlives the stop gets a thread of its own
                threading.Thread(target=job, name=self._name, daemon=True).start()
                return
            if self._idle:
                self._idle -= 1
            else:
                name = f"{self._name}-{self._threads + 1}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
                self._threads += 1
        self._jobs.put(job)

    def close(self) -> None:
        """Have the threads end when they have run what was submitted; those that are stuck are left to themselves."""
        with self._lock:
            threads, self._threads, self._is_closed = self._threads, 0, True
        for _ in range(threads):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # or it would live on, with all it holds, until the next one comes
            with self._lock:
                self._idle += 1


def run_blocking(call: Callable[[], object]) -> tuple[object, BaseException | None]:
    """Run a blocking handler, in its thread; return what it comes to: a result, or what its event loop is to raise."""
    try:
        return call(), None
    except BaseException as raised:  # noqa: BLE001  # the caller gets an answer, whatever it is
        if isinstance(raised, Exception) and not isinstance(raised, StopIteration):
            return None, raised
        # A coroutine can't raise a StopIteration; and a sys.exit() ends a thread, not the event loop.
        error = RuntimeError(f"the handler raised {type(raised).__name__}")
        error.__cause__ = raised
        return None, error
