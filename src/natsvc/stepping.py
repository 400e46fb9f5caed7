"""Handlers run step by step, one after another, in whatever task is at hand.

To start a task for every request is dear, and most handlers are over before they wait for anything. So a task begins
one handler after the other, and stays with the first that waits. Every handler sees a context of its own all the same.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any, Final

from natsvc.core import current_request

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Generator

    from natsvc.core import BaseRequest, Handler

__all__ = ["ENDED", "HandlerSteps"]

_Coroutine = types.CoroutineType

ENDED: Final = object()
"""What comes of a handler that waits for nothing (more), where of others comes what they wait for."""


class HandlerSteps:
    """Runs handlers, one at a time; whoever has begun one that waits for something runs it to its end.

    Attributes:
        error: What the last handler has raised.
        result: What the last handler has returned.
    """

    __slots__ = ("_handlers", "_send", "error", "result")

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.result: object = None
        self._begin_anew()

    def begin(self, context: contextvars.Context, handle: Handler, request: BaseRequest) -> Any:
        """Run a handler in its context until it waits for something; return what for, or ENDED."""
        try:
            return context.run(self._send, (handle, request))
        except GeneratorExit as error:  # raised by the handler itself: it ends the generator too
            self.error = error
            self._begin_anew()
            return ENDED

    @types.coroutine
    def go_on(self, context: contextvars.Context, trap: Any) -> Generator[Any, Any, None]:
        """Run a handler that waits for something to its end, in its own context, whichever event loop drives it."""
        run, send, throw = context.run, self._send, self._handlers.throw
        step: Callable[[Any], Any]
        while trap is not ENDED:
            try:
                sent = yield trap
            except BaseException as error:  # noqa: BLE001  # it is the handler's
                step, sent = throw, error
            else:
                step = send
            try:
                trap = run(step, sent)
            except GeneratorExit as error:
                if error is sent:  # the task itself is being closed
                    raise
                self.error = error
                self._begin_anew()
                return
            finally:
                del sent  # or an exception would keep all frames alive that it has passed

    def _begin_anew(self) -> None:
        self._handlers = self._run_handlers()
        self._send = self._handlers.send  # to look that up takes 1.02 x the time of a request
        self._send(None)

    @types.coroutine
    def _run_handlers(self) -> Generator[Any, Any, None]:
        # One generator for all of them: to be sent the next one, and to yield at the end of each, is far less work for
        # Python than to make a coroutine, and to raise and catch the StopIteration that is its end.
        while True:
            handle, request = yield ENDED
            current_request.set(request)
            try:
                coroutine = handle(request)
                if type(coroutine) is not _Coroutine:  # some other awaitable
                    coroutine = coroutine.__await__()
                self.result = yield from coroutine
            except GeneratorExit:
                raise
            except BaseException as raised:  # noqa: BLE001  # the caller gets an answer, whatever it is
                self.error = raised
            handle = request = coroutine = None
