"""The replies to one request that has several, for blocking threads.

Nothing tells an iterator that its loop has been left. So what the user holds is one object, and what the connection
delivers to is another one, which ends when the first is gone.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from natsvc.core import RepliesView, ReplyStream
from natsvc.message import Data, Message
from natsvc.sync.collecting import collect
from natsvc.sync.driver import Driver
from natsvc.sync.waiter import pieces

__all__ = ["Replies"]

_clock = time.perf_counter_ns


class Replies(RepliesView):
    """The replies to one request: an iterator of messages, made by `ServiceClient.request_many`.

    As a context manager it sends the request when the block is entered, and receives no more when it is left. Without a
    block it sends it when the first reply is asked for, and receives no more when the loop over it is left, or a wait
    in it ends by Ctrl-C. Either way the subscription ends with the replies, or with the timeout, at the latest, even if
    nobody asks for the next one. Several threads may share it.

    Replies that nobody has taken yet are kept, as many as a Subscription keeps: 65,536, or 64 MiB, unless the
    connection's `max_pending_messages` and `max_pending_bytes` say otherwise.
    """

    def __init__(self, driver: Driver, stream: ReplyStream, data: Data, headers: Mapping[str, str] | None) -> None:
        self._stream = stream
        self._reception = _Reception(driver, stream, data, headers)
        self._is_in_block = False

    def close(self) -> None:
        """Receive no more, and forget the replies that nobody has taken. It doesn't wait. Again: no effect."""
        self._reception.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        self._reception.begin()
        try:
            message = self._reception.next()
        except BaseException:
            if not self._is_in_block:  # nobody else would end it
                self._reception.close()
            raise
        if message is None:
            raise StopIteration
        return message

    def __enter__(self) -> Self:
        self._reception.begin()
        self._is_in_block = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._reception.close()

    def __del__(self) -> None:
        if hasattr(self, "_reception"):  # Ctrl-C may come before it is there
            self._reception.abandon()


class _Reception:
    """What the connection delivers to."""

    def __init__(self, driver: Driver, stream: ReplyStream, data: Data, headers: Mapping[str, str] | None) -> None:
        self._driver = driver
        self._stream = stream
        self._data = data
        self._headers = headers
        self._held = contextlib.ExitStack()
        self._changed = threading.Condition(driver.lock)
        self._has_begun = False
        self._is_abandoned = False

    def begin(self) -> None:
        """Send the request, if that has not been done."""
        stream = self._stream
        if self._has_begun:
            return
        with self._driver.lock:
            if self._has_begun or stream.is_over:
                return
            stream.begin(_clock())
            try:
                self._held.enter_context(
                    collect(self._driver, stream.subject, self._data, self._headers, self._receive, self._fail)
                )
                self._held.callback(self._driver.alarms.clear, self)
                self._look()
            except BaseException:
                self._held.close()
                raise
            self._has_begun = True
        self._driver.write()

    def next(self) -> Message | None:
        """Return the next reply; None if none will come."""
        with self._driver.lock:
            for piece in pieces(None):
                message = self._stream.take()
                if message is not None or self._stream.is_over:
                    break
                self._changed.wait(piece)
        return message

    def close(self) -> None:
        """Receive no more, and forget what nobody has taken."""
        with self._driver.lock:
            self._stream.close()
            self._look()
        self._driver.write()

    def abandon(self) -> None:
        """Do as `close`, soon; called wherever and whenever Python collects garbage.

        That may be in the middle of something that holds the lock, or another one that the lock's holder waits for. So
        it waits for none: where it can't have the alarm rung, the next reply or the deadline will do.
        """
        self._is_abandoned = True
        lock = self._driver.lock
        if self._has_begun and not self._stream.is_over and lock.acquire(blocking=False):
            try:
                self._driver.alarms.set(self, _clock(), self._wake)
            finally:
                lock.release()

    # The rest is for threads that hold the lock.

    def _receive(self, message: Message) -> None:
        self._stream.received(message, _clock())
        self._look()

    def _fail(self, error: BaseException) -> None:
        self._stream.failed(error)
        self._look()

    def _wake(self) -> None:
        self._stream.wake(_clock())
        self._look()

    def _look(self) -> None:
        """See what has changed: whether there is something to take, whether it is over, when to look again."""
        if self._is_abandoned:
            self._stream.close()
        if self._stream.is_over:
            self._held.close()
        else:
            self._driver.alarms.set(self, self._stream.deadline, self._wake)
        self._changed.notify_all()
