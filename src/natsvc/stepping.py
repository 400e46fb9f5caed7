"""Handlers run step by step, one after another, in whatever task is at hand.

To start a task for every request is dear, and most handlers are over before they wait for anything. So a task begins
one handler after the other, and stays with the first that waits. Every handler sees a context of its own all the same.
"""

from __future__ import annotations

import time
import types
from typing import TYPE_CHECKING, Any, Final, cast

from natsvc.core import current_request

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Generator

    from natsvc.core import BaseRequest, Reply

__all__ = ["ENDED", "HandlerSteps"]

_Coroutine = types.CoroutineType
_clock = time.perf_counter_ns

ENDED: Final = object()
"""What comes of a handler that waits for nothing (more), where of others comes what they wait for."""


class HandlerSteps:
    """Runs handlers, one at a time; whoever has begun one that waits for something runs it to its end.

    Args:
        context: What handlers run in, each in a copy of its own.

    Attributes:
        trap: What the handler has to go on waiting for, in `go_on`; ENDED if for nothing.
        error: What it has raised.
        ended_at: When the last request was ended.
    """

    __slots__ = ("_context", "_copy", "_handlers", "_result", "_send", "ended_at", "error", "trap")

    def __init__(self, context: contextvars.Context) -> None:
        self.trap: Any = ENDED
        self.error: BaseException | None = None
        self.ended_at = 0
        self._copy = context.copy
        self._context: contextvars.Context | None = None  # of the handler that waits for something
        self._result: object = None
        self._begin_anew()

    def run(self, request: BaseRequest) -> HandlerSteps | BaseRequest | Reply | None:
        """Run a request's handler until it waits for something, and then end the request, unless the handler failed.

        Returns:
            What comes of the end, nearly always None; see `EndpointState.end`. Or this object: then, if there is a
            `trap`, `go_on`, and in either case `end`.
        """
        context = self._copy()
        try:
            trap = context.run(self._send, request)
        except GeneratorExit as error:  # raised by the handler itself: it ends the generator too
            self.error = error
            self._begin_anew()
            trap = ENDED
        if trap is not ENDED:
            self.trap = trap
            self._context = context
            return self
        if self.error is not None:
            return self
        result = self._result
        if result is not None:
            self._result = None
        self.ended_at = now = _clock()
        return request._endpoint.end(request, now, result, None)

    @types.coroutine
    def go_on(self) -> Generator[Any, Any, None]:
        """Run a handler that waits for something to its end, in its own context, whichever event loop drives it."""
        if self._context is None:
            return
        trap, self.trap = self.trap, ENDED
        run, send, throw = self._context.run, self._send, self._handlers.throw
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

    def end(self, request: BaseRequest) -> tuple[BaseRequest | Reply | None, BaseException | None]:
        """End a request whose handler has ended; return what comes of it, and the exception it ended with."""
        result, error = self._result, self.error
        self._result = self.error = self._context = None
        self.ended_at = now = _clock()
        return request._endpoint.end(request, now, result, error), error

    @property
    def is_running(self) -> bool:
        """Whether a handler runs at this very moment, so that another one has to wait or be run elsewhere."""
        return cast("types.GeneratorType[Any, Any, Any]", self._handlers).gi_running

    def _begin_anew(self) -> None:
        self._handlers = self._run_handlers()
        self._send = self._handlers.send  # to look that up takes 1.02 x the time of a request
        self._send(None)

    @types.coroutine
    def _run_handlers(self) -> Generator[Any, Any, None]:
        # One generator for all of them: to be sent the next one, and to yield at the end of each, is far less work for
        # Python than to make a coroutine, and to raise and catch the StopIteration that is its end.
        set_current = current_request.set
        while True:
            request = yield ENDED
            set_current(request)
            try:
                coroutine = request._endpoint.binding.handle(request)
                if type(coroutine) is not _Coroutine:  # some other awaitable
                    coroutine = coroutine.__await__()
                self._result = yield from coroutine
            except GeneratorExit:
                raise
            except BaseException as raised:  # noqa: BLE001  # the caller gets an answer, whatever it is
                self.error = raised
            request = coroutine = None
