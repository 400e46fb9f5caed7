"""Blocking handlers under way in threads.

A thread can't be cancelled: whoever waits for it may go, but until it returns it holds its request's slot. So a request
can be over but for its threads, and its end comes when they do.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
from typing import TYPE_CHECKING, Any

from natsvc.workers import run_blocking

if TYPE_CHECKING:
    from collections.abc import Callable

    from natsvc.core import BaseRequest
    from natsvc.workers import Workers

__all__ = ["Threads"]


class Threads:
    """The threads that handlers of one service run in.

    Args:
        loop: The event loop.
        let_go: Called with a request when a thread of it has returned, and the error with which it has, or None.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, let_go: Callable[[BaseRequest, BaseException | None], object]
    ) -> None:
        self._loop = loop
        self._let_go = let_go

    async def call(self, workers: Workers, request: BaseRequest, function: Callable[[], Any]) -> Any:
        """Call a function in a thread, in a copy of the current context; return what it comes to."""
        outcome: asyncio.Future[Any] = self._loop.create_future()
        outcome.add_done_callback(functools.partial(self._returned, request))
        call = functools.partial(contextvars.copy_context().run, function)
        workers.submit(functools.partial(_call, call, outcome, self._loop))
        request._endpoint.hold(request)  # only now: there may be no thread to be had
        await asyncio.wait([outcome])
        return outcome.result()

    def _returned(self, request: BaseRequest, outcome: asyncio.Future[Any]) -> None:
        self._let_go(request, None if outcome.cancelled() else outcome.exception())


def _call(call: Callable[[], Any], outcome: asyncio.Future[Any], loop: asyncio.AbstractEventLoop) -> None:
    """Run a blocking handler, in its thread, and hand over what it comes to."""
    result, error = run_blocking(call)
    with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody is left to be told
        loop.call_soon_threadsafe(_settle, outcome, result, error)


def _settle(outcome: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if outcome.cancelled():
        return
    if error is None:
        outcome.set_result(result)
    else:
        outcome.set_exception(error)
