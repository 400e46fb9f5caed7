"""Blocking handlers under way in threads.

A thread can't be cancelled: whoever waits for it may go, but until it returns it holds its request's slot. So a request
can be over but for its threads, and its end comes when they do.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from typing import TYPE_CHECKING, Any

from natsvc.anyio.outcome import Outcome
from natsvc.workers import run_blocking

if TYPE_CHECKING:
    from collections.abc import Callable

    from natsvc.anyio.portal import Portal
    from natsvc.core import BaseRequest
    from natsvc.workers import Workers

__all__ = ["Threads"]


class Threads:
    """The threads that handlers of one service run in.

    Args:
        portal: The way from them into the event loop.
        let_go: Called with a request when a thread of it has returned, and the error with which it has, or None.
    """

    def __init__(self, portal: Portal, let_go: Callable[[BaseRequest, BaseException | None], object]) -> None:
        self._portal = portal
        self._let_go = let_go

    async def call(self, workers: Workers, request: BaseRequest, function: Callable[[], Any]) -> Any:
        """Call a function in a thread, in a copy of the current context; return what it comes to."""
        outcome = Outcome[tuple[object, BaseException | None]]()
        call = functools.partial(contextvars.copy_context().run, function)
        workers.submit(functools.partial(self._run, call, functools.partial(self._returned, request, outcome)))
        request._endpoint.hold(request)  # only now: there may be no thread to be had
        result, error = await outcome.wait()
        if error is not None:
            raise error
        return result

    def _run(self, call: Callable[[], Any], returned: Callable[[object, BaseException | None], None]) -> None:
        """Run a blocking handler, in its thread, and hand over what it comes to."""
        result, error = run_blocking(call)
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody is left to be told
            self._portal.call_soon(functools.partial(returned, result, error))

    def _returned(
        self,
        request: BaseRequest,
        outcome: Outcome[tuple[object, BaseException | None]],
        result: object,
        error: BaseException | None,
    ) -> None:
        outcome.settle((result, error))
        self._let_go(request, error)
