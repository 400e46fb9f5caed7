"""The replies to one request that has several, on anyio.

Nothing tells an iterator that its loop has been left: Python tells an async generator, but not at once. So what the
user holds is one object, and what the connection delivers to is another one, which ends when the first is gone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self

import anyio
import anyio.lowlevel

from natsvc.anyio.collecting import collect
from natsvc.anyio.driver import Driver
from natsvc.anyio.portal import Portal
from natsvc.anyio.timer import Timer, clock
from natsvc.core import RepliesView, ReplyStream
from natsvc.message import Data, Message

__all__ = ["Replies"]

_TAKEN_IN_A_ROW = 100
"""So many replies are taken before other tasks get their turn."""


class Replies(RepliesView):
    """The replies to one request: an async iterator of messages, made by `ServiceClient.request_many`.

    As an async context manager it sends the request when the block is entered, and receives no more when it is left.
    Without a block it sends it when the first reply is asked for, and receives no more when the loop over it is left,
    or a wait in it is cancelled. Either way the subscription ends with the replies, or with the timeout, at the latest,
    even if nobody asks for the next one.

    Replies that nobody has taken yet are kept, as many as a Subscription keeps: 65,536, or 64 MiB, unless the
    connection's `max_pending_messages` and `max_pending_bytes` say otherwise.
    """

    def __init__(self, driver: Driver, stream: ReplyStream, data: Data, headers: Mapping[str, str] | None) -> None:
        self._stream = stream
        self._reception = _Reception(driver, stream, data, headers)
        self._is_in_block = False
        self._taken = 0  # since other tasks had their turn

    async def close(self) -> None:
        """Receive no more, and forget the replies that nobody has taken. It doesn't wait. Again: no effect."""
        self._reception.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        self._reception.begin()
        self._taken += 1
        if self._taken >= _TAKEN_IN_A_ROW:
            await self._wait(anyio.lowlevel.checkpoint)
        while (message := self._stream.take()) is None:
            if self._stream.is_over:
                raise StopAsyncIteration
            await self._wait(self._reception.changes)
        return message

    async def _wait(self, wait: Callable[[], Awaitable[None]]) -> None:
        self._taken = 0
        try:
            await wait()
        except BaseException:
            if not self._is_in_block:  # nobody else would end it
                self._reception.close()
            raise

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

    def __init__(self, driver: Driver, stream: ReplyStream, data: Data, headers: Mapping[str, str] | None) -> None:
        self._driver = driver
        self._stream = stream
        self._data = data
        self._headers = headers
        self._portal: Portal | None = None
        self._held = contextlib.ExitStack()
        self._changed = anyio.Event()
        self._timer = Timer(self._wake)
        self._wakes_at: int | None = None

    def begin(self) -> None:
        """Send the request, if that has not been done."""
        stream = self._stream
        if self._portal is not None or stream.is_over:
            return
        stream.begin(clock())
        self._held.enter_context(
            collect(self._driver, stream.subject, self._data, self._headers, self._receive, self._fail)
        )
        self._held.callback(self._timer.close)
        self._portal = Portal()
        self._driver._block.start_soon(self._timer.run)
        self._look()

    async def changes(self) -> None:
        """Wait until something has come, or nothing can any more."""
        if self._changed.is_set():
            self._changed = anyio.Event()
        await self._changed.wait()

    def close(self) -> None:
        """Receive no more, and forget what nobody has taken."""
        self._stream.close()
        self._look()

    def abandon(self) -> None:
        """Do as `close`, soon; called wherever and whenever Python collects garbage."""
        if self._portal is not None and not self._stream.is_over:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and whoever was on it is gone
                self._portal.call_soon(self.close)

    def _receive(self, message: Message) -> None:
        self._stream.received(message, clock())
        self._look()

    def _fail(self, error: BaseException) -> None:
        self._stream.failed(error)
        self._look()

    def _wake(self, now: int) -> None:
        self._wakes_at = None
        self._stream.wake(now)
        self._look()

    def _look(self) -> None:
        """See what has changed: whether there is something to take, whether it is over, when to look again."""
        stream = self._stream
        if stream.is_over:
            self._held.close()
        elif self._wakes_at is None or stream.deadline < self._wakes_at:  # for a later one it is set when it fires
            self._wakes_at = stream.deadline
            self._timer.set(self._wakes_at)
        self._changed.set()
