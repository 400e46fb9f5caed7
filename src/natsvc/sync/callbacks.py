"""Users' callbacks: all of a connection and of its services on one thread of their own, in their order.

So none of them runs beside another, and none keeps a reader or a handler waiting. What they raise is logged and goes no
further.

Most connections have none, and load nothing of what only they need.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from natsvc.errors import ConfigError
from natsvc.sync.waiter import LONGEST_WAIT

if TYPE_CHECKING:
    import contextvars
    import queue

__all__ = ["Call", "Callbacks", "check_callback"]


class Call:
    """One call of a callback, which may be waited for."""

    def __init__(self, owner: str, name: str, call: Callable[[], object]) -> None:
        self._owner = owner
        self._name = name
        self._call = call
        self._is_done = threading.Event()

    def wait(self, timeout: float) -> None:
        """Wait until it is over, but no longer than so many seconds."""
        self._is_done.wait(min(timeout, LONGEST_WAIT))

    def skip(self) -> None:
        """Don't call it."""
        self._is_done.set()

    def make(self) -> None:
        """Call it."""
        try:
            self._call()
        except BaseException:  # a sys.exit() ends no thread that others need
            import logging

            logging.getLogger("natsvc.sync").exception("%s: the %s failed", self._owner, self._name)
        finally:
            self._is_done.set()


class Callbacks:
    """The thread on which the callbacks of one connection run; it starts with the first one."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Call | None] | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._is_abandoned = False

    @property
    def are_here(self) -> bool:
        """Whether this is the thread that they run on."""
        return threading.current_thread() is self._thread

    def call(
        self, owner: str, name: str, context: contextvars.Context, function: Callable[..., Any], *arguments: Any
    ) -> Call:
        """Have a callback called when those before it are over.

        Args:
            owner: Whose it is, for the log.
            name: What it is, for the log.
            context: The context, of which it gets a copy of its own.
            function: The callback.
            arguments: What it is called with.
        """
        own = context.copy()
        call = Call(owner, name, lambda: own.run(function, *arguments))
        if self._is_abandoned:
            call.skip()
            return call
        with self._lock:
            if self._calls is None:
                import queue

                self._calls = queue.SimpleQueue()
            self._calls.put(call)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, args=(self._calls,), name="natsvc-callbacks", daemon=True
                )
                try:
                    self._thread.start()
                except RuntimeError:  # the system gives no more threads; the next call tries again
                    self._thread = None
            if self._is_closed:
                self._calls.put(None)
        return call

    def close(self) -> None:
        """Have the thread end when what it has to call has been called."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                if self._calls is not None:
                    self._calls.put(None)

    def abandon(self) -> None:
        """In a forked process, which has no such thread, call nothing."""
        self._is_abandoned = True

    def _run(self, calls: queue.SimpleQueue[Call | None]) -> None:
        while True:
            call = calls.get()
            if call is not None:
                call.make()
                del call
                continue
            with self._lock:
                if calls.empty():
                    self._thread = None
                    return


def check_callback(name: str, function: Callable[..., Any] | None) -> None:
    """Check a callback of the user's.

    Raises:
        ConfigError: It is an async one.
    """
    if function is None:
        return
    from natsvc.core import is_async

    if is_async(function):
        raise ConfigError(name, function, "must be a plain def here: nothing runs an async def")
