"""Users' callbacks: all of a connection and of its services on one thread of their own, in their order.

So none of them runs beside another, and none keeps a reader or a handler waiting. What they raise is logged and goes no
further. What the state machines want logged comes out on the same thread, for a logging handler is the user's code as
well: it may wait for the connection's lock, or for somebody who does, and so must not be called under it.

Most connections have none, and load nothing of what only they need.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from natsvc.errors import ConfigError
from natsvc.logs import log
from natsvc.sync.waiter import LONGEST_WAIT

if TYPE_CHECKING:
    import contextvars
    import queue

    from natsvc.core.effects import Log

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


class _Entry(Call):
    """Something to be logged."""

    def __init__(self, name: str, entry: Log) -> None:
        super().__init__("natsvc", "log", lambda: log(name, entry))

    def make(self) -> None:
        """Log it. What a logging handler raises is not for logging."""
        try:
            self._call()
        except BaseException:  # noqa: BLE001  # whatever it is, the thread goes on
            with contextlib.suppress(Exception):  # the hook is the user's, too
                threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
        finally:
            self._is_done.set()


class Callbacks:
    """The thread on which the callbacks of one connection run, and logging for it; it starts with the first one.

    Args:
        begin: Called before the first one is queued.
    """

    def __init__(self, begin: Callable[[], object] = lambda: None) -> None:
        self._begin = begin
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
        else:
            self._put(call)
        return call

    def log(self, name: str, entry: Log) -> None:
        """Have something logged when those before it are over.

        Args:
            name: The logger's.
            entry: What to log.
        """
        self._put(_Entry(name, entry))

    def settle(self, timeout: float) -> None:
        """At the end of the process, wait until all is over, but no longer than so many seconds.

        Where no thread could be started any more, what is to be logged is logged here.
        """
        calls = self._calls
        if calls is None:
            return
        if self._thread is not None:
            last = Call("natsvc", "end", lambda: None)
            self._put(last)
            if self._thread is not None:
                last.wait(timeout)
                return
        while not calls.empty():
            call = calls.get()
            if isinstance(call, _Entry):
                call.make()
            elif call is not None:
                call.skip()

    def _put(self, call: Call) -> None:
        with self._lock:
            if self._calls is None:
                import queue

                self._begin()
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

    def close(self) -> None:
        """Have the thread end when what it has to call has been called."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                if self._calls is not None:
                    self._calls.put(None)

    def abandon(self) -> None:
        """In a forked process, which has no such thread, call nothing; what waits to be logged is the parent's."""
        self._is_abandoned = True
        self._lock = threading.Lock()
        self._calls = None
        self._thread = None

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
