"""The replies to one request that has several, on asyncio.

Nothing tells an iterator that its loop has been left: Python tells an async generator, but not at once. So what the
user holds is one object, and what the connection delivers to is another one, which ends when the first is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from natsvc.asyncio.link import Caller
from natsvc.core import RepliesView, ReplyStream
from natsvc.message import Data, Delivery, Message

__all__ = ["Replies"]

_clock = time.monotonic_ns


class Replies(RepliesView):
    """The replies to one request: an async iterator of messages, made by `ServiceClient.request_many`.

    As an async context manager it sends the request when the block is entered, and receives no more when it is left.
    Without a block it sends it when the first reply is asked for, and receives no more when the loop over it is left,
    or a wait in it is cancelled. Either way the subscription ends with the replies, or with the timeout, at the latest,
    even if nobody asks for the next one.

    Replies that nobody has taken yet are kept, as many as a Subscription keeps: 65,536, or 64 MiB, unless the options
    `max_pending_messages` and `max_pending_bytes` of a connection of natsvc say otherwise.
    """

    def __init__(self, caller: Caller, stream: ReplyStream, data: Data, headers: Mapping[str, str] | None) -> None:
        self._stream = stream
        self._reception = _Reception(caller, stream, data, headers)
        self._is_in_block = False

    async def close(self) -> None:
        """Receive no more, and forget the replies that nobody has taken. It doesn't wait. Again: no effect."""
        self._reception.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        self._reception.begin()
        while (message := self._stream.take()) is None:
            if self._stream.is_over:
                raise StopAsyncIteration
            try:
                await self._reception.changes()
            except BaseException:
                if not self._is_in_block:  # nobody else would end it
                    self._reception.close()
                raise
        return message

    async def __aenter__(self) -> Self:
        self._reception.begin()
        self._is_in_block = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._reception.close()

    def __del__(self) -> None:
        self._reception.abandon()


class _Reception:
    """What the connection delivers to."""

    def __init__(self, caller: Caller, stream: ReplyStream, data: Data, headers: Mapping[str, str] | None) -> None:
        self._caller = caller
        self._stream = stream
        self._data = data
        self._headers = headers
        self._loop: asyncio.AbstractEventLoop | None = None
        self._held = contextlib.ExitStack()
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = 0

    def begin(self) -> None:
        """Send the request, if that has not been done."""
        stream = self._stream
        if self._loop is not None or stream.is_over:
            return
        stream.begin(_clock())
        self._held.enter_context(
            self._caller.collect(stream.subject, self._data, self._headers, self._receive, self._fail)
        )
        self._loop = asyncio.get_running_loop()
        self._look()

    async def changes(self) -> None:
        """Wait until something has come, or nothing can any more."""
        self._changed.clear()
        await self._changed.wait()

    def close(self) -> None:
        """Receive no more, and forget what nobody has taken."""
        self._stream.close()
        self._look()

    def abandon(self) -> None:
        """Do as `close`, soon; called wherever and whenever Python collects garbage."""
        if self._loop is not None and not self._stream.is_over:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and whoever was on it is gone
                self._loop.call_soon_threadsafe(self.close)

    def _receive(self, delivery: Delivery) -> None:
        self._stream.received(delivery, _clock())
        self._look()

    def _fail(self, error: BaseException) -> None:
        self._stream.failed(error)
        self._look()

    def _wake(self) -> None:
        self._timer = None
        self._stream.wake(_clock())
        self._look()

    def _look(self) -> None:
        """See what has changed: whether there is something to take, whether it is over, when to look again."""
        stream = self._stream
        if stream.is_over:
            self._stop_timer()
            self._held.close()
        elif self._timer is None or stream.deadline < self._wakes_at:  # for a later one it is set when it fires
            self._stop_timer()
            self._wakes_at = stream.deadline
            self._timer = asyncio.get_running_loop().call_later((stream.deadline - _clock()) / 1e9, self._wake)
        self._changed.set()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
