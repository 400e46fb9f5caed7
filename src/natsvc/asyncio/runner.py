"""What the state machine of a service asks for, done on an event loop: tasks, a timer, threads, a link.

Nothing is decided here. Messages go into the state machine, requests become tasks, and the effects that come out are
performed in their order.
"""

from __future__ import annotations

import asyncio
import contextvars
import datetime as dt
import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Awaitable, Coroutine
from typing import Any, cast

from natsvc.asyncio.callbacks import Callbacks
from natsvc.asyncio.carrying import IS_EAGER, Receive, deliver_one
from natsvc.asyncio.link import Link, Listener, link
from natsvc.asyncio.request import BlockingRequest, Request
from natsvc.asyncio.threads import Threads
from natsvc.core import (
    BaseRequest,
    Endpoint,
    EndpointConfig,
    Handler,
    Reply,
    Scope,
    ServiceDefinition,
    ServiceState,
    ServiceStats,
    compose,
    current_request,
    is_async,
)
from natsvc.core.effects import (
    Cancel,
    Effect,
    Flush,
    Interest,
    Log,
    Publish,
    Receiver,
    Report,
    Run,
    Stopped,
    Subscribe,
    Unsubscribe,
    WakeAt,
)
from natsvc.core.endpoint import EndpointState
from natsvc.errors import NatsvcError
from natsvc.logs import SERVICE, log
from natsvc.message import Delivery
from natsvc.nuid import next_id
from natsvc.stepping import ENDED, HandlerSteps
from natsvc.workers import Workers

__all__ = ["Runner"]

_logger = logging.getLogger("natsvc.asyncio")

_clock = time.perf_counter_ns

_STARTED_AT_ONCE = 100
"""So many handlers are started in a row before the event loop gets its turn: they may run to their end right there."""


class Runner:
    """Runs one service instance.

    Args:
        service: What callbacks get as the service.
        nc: The connection.
        definition: What to run.

    Raises:
        ConfigError: An endpoint can't be run.
        ConnectionClosedError: The connection is closed.

    Attributes:
        state: The state machine.
        link: The service's end of the connection.
        stopped: Set when the service has stopped.
    """

    def __init__(self, service: object, nc: object, definition: ServiceDefinition) -> None:
        self.stopped = asyncio.Event()
        self._service = service
        self._thread = threading.get_ident()
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        if current_request.get() is not None:  # a handler of another service makes this one
            self._context.run(current_request.set, None)
        self.link: Link = link(
            nc,
            Listener(
                connection_closed=self._on_connection_closed,
                subscription_lost=self._on_subscription_lost,
                connection_error=self._on_connection_error,
                drain=self.stop,
            ),
        )
        self.state = ServiceState(
            definition.config,
            next_id(),
            request_class=Request,
            server=self.link.server,
            started=_utc_now(),
        )
        self._callbacks = Callbacks(f"service {definition.config.name!r}", self._context)
        self._subscriptions: dict[Interest, Any] = {}
        self._ready: deque[BaseRequest] = deque()
        self._handlers: dict[BaseRequest, asyncio.Task[None]] = {}
        self._steps = HandlerSteps(self._context)  # what runs the next handler
        self._spare_steps: list[HandlerSteps] = []
        self._threads = Threads(self._loop, self._let_go)
        self._is_performing = False
        self._background: set[asyncio.Task[None]] = set()
        self._workers: list[Workers] = []
        self._timer: asyncio.TimerHandle | None = None
        self._stop_step: asyncio.Task[None] | None = None
        self._done_handler: asyncio.Task[None] | None = None
        for control in self.state.controls:
            self._bind(control)
        for scope, config in definition.endpoints:
            self.add_endpoint(scope, config)

    # What the service is told to do

    def start(self) -> None:
        """Start the service."""
        self.state.start(_utc_now())
        self._perform()

    def add_endpoint(self, scope: Scope, config: EndpointConfig) -> Endpoint:
        """Add an endpoint; if the service runs, it is subscribed ahead of all that is sent after this call."""
        state = self.state.add_endpoint(scope, config)
        self._bind(state)
        self._perform()
        return state.endpoint

    async def flush(self) -> None:
        """Wait until the server has confirmed all subscriptions; raise what ended the service if it refused one."""
        await self.link.confirm()
        if isinstance(self.state.error, NatsvcError):
            raise self.state.error

    def reset(self) -> None:
        """Zero the counters."""
        self.state.reset(_utc_now())

    def stats(self) -> ServiceStats:
        """Return the answer to STATS, with the data that the user adds to it."""
        stats = self.state.stats()
        if self.state.effects and threading.get_ident() == self._thread:  # who only looks may do so from any thread
            self._perform()
        return stats

    def begin_stop(
        self, error: BaseException | None = None, timeout: float | None = None, caller: BaseRequest | None = None
    ) -> None:
        """Begin to stop."""
        self.state.stop(_clock(), timeout=timeout, error=error, caller=caller)
        self._perform()

    async def stop(self, error: BaseException | None = None, timeout: float | None = None) -> None:
        """Stop, and wait for it; if a handler of the service asks, or drains the connection, not for that handler."""
        self.begin_stop(error, timeout, current_request.get())
        await self.has_stopped()

    async def leave(self, error: BaseException | None) -> None:
        """Stop because the block around the service is left, and wait for it."""
        self.state.leave(_clock(), error)
        self._perform()
        try:
            await self.has_stopped()
        except asyncio.CancelledError:
            self.abort()
            raise

    def abort(self) -> None:
        """Stop at once."""
        self.state.abort(_clock())
        self._perform()

    async def has_stopped(self) -> None:
        """Wait for the stop; then, as long as it may take, for the done_handler, unless it is what waits."""
        await self.stopped.wait()
        done = self._done_handler
        time_left = self.state.time_left(_clock())
        if time_left > 0 and done is not None and done is not asyncio.current_task():
            await asyncio.wait({done}, timeout=time_left)

    # Messages and handlers

    def _bind(self, state: EndpointState) -> None:
        endpoint = state.endpoint
        handler = endpoint.handler
        if not is_async(handler):
            workers = Workers(f"natsvc-{endpoint.name}")
            self._workers.append(workers)
            handler = functools.partial(self._call_in_thread, workers, handler)
        state.binding = _Binding(self.link, compose(endpoint.middleware, handler))

    def _delivery(self, receiver: Receiver) -> Receive:
        """Return what takes an endpoint's messages, and begins with their handlers."""
        # A function of its own for each endpoint: as a method that is given the endpoint, it takes 1.02 x the time.
        receive, ready, effects = receiver.receive, self._ready, self.state.effects

        def deliver(message: Delivery) -> Coroutine[Any, Any, None] | None:
            request = receive(message, _clock())
            rest = None
            if request is not None:
                # As `_run` does it, in the task that this is called in; it returns what remains to be done in there.
                if ready:
                    ready.append(request)
                else:
                    try:
                        rest = self._begin(request)
                    finally:  # also if it has raised KeyboardInterrupt
                        if ready:
                            self._start_ready()
            if effects:
                self._perform()
            return rest

        return deliver

    def _run(self, request: BaseRequest) -> None:
        """Start a request's handler, behind those that are ready already, and behind the one that calls for it."""
        if self._ready or self._steps.is_running:
            self._ready.append(request)
            return
        try:
            self._start_handler(request)
        finally:  # also if it has raised KeyboardInterrupt
            if self._ready:
                self._start_ready()

    def _start_ready(self) -> None:
        """Start those that are ready. While there is one, a call of this is under way or will come."""
        try:
            for _ in range(_STARTED_AT_ONCE):
                if not self._ready:
                    return
                request = self._ready.popleft()
                if request.is_running:
                    self._start_handler(request)
                    continue
                # It has been answered before it came to this.
                following = request._endpoint.finish(request, _clock())
                if following is not None:
                    self._ready.append(following)
                self._perform()
        finally:
            if self._ready:
                self._loop.call_soon(self._start_ready)

    def _start_handler(self, request: BaseRequest) -> None:
        deliver_one(self._loop, self._context, self._begin, request)
        if self.state.effects:
            self._perform()

    if IS_EAGER:

        def _begin(self, request: BaseRequest) -> Coroutine[Any, Any, None] | None:
            """Run a request's handler until it waits for something; return what remains to be done in this task."""
            steps = self._steps
            following = steps.run(request)
            if following is None:
                return None
            if isinstance(following, HandlerSteps):
                if following.trap is not ENDED:
                    self._steps = self._spare_steps.pop() if self._spare_steps else HandlerSteps(self._context)
                    return self._go_on(request, following)
                return self._conclude(request, *following.end(request))
            return self._conclude(request, following)

    else:

        def _begin(self, request: BaseRequest) -> Coroutine[Any, Any, None] | None:
            return self._handle(request)

        async def _handle(self, request: BaseRequest) -> None:
            # Only now can it be cancelled: in a task that has not begun, that would leave out the request's end too.
            if not request.is_running:
                self._take_following(request._endpoint.finish(request, _clock()))
                return
            steps = self._spare_steps.pop() if self._spare_steps else HandlerSteps(self._context)
            self._handlers[request] = cast("asyncio.Task[None]", asyncio.current_task())
            following = steps.run(request)
            if isinstance(following, HandlerSteps):
                await self._go_on(request, steps)
            else:
                self._spare_steps.append(steps)
                rest = self._conclude(request, following)
                if rest is not None:
                    await rest

    async def _go_on(self, request: BaseRequest, steps: HandlerSteps) -> None:
        """Run a handler that waits for something to its end, and do what there is to do then."""
        self._handlers[request] = cast("asyncio.Task[None]", asyncio.current_task())
        await steps.go_on()
        rest = self._conclude(request, *steps.end(request))
        self._spare_steps.append(steps)
        if rest is not None:
            await rest

    def _conclude(
        self, request: BaseRequest, following: BaseRequest | Reply | None, error: BaseException | None = None
    ) -> Coroutine[Any, Any, None] | None:
        """Do what comes of a handler's end; return what remains to be done if that has to wait."""
        if following is not None and isinstance(following, tuple):
            endpoint = request._endpoint
            try:
                sent = self.link.send(following)
                publishing = self.link.attend(sent) if sent else None
            except Exception as refused:  # noqa: BLE001  # the state machine notes it
                following = endpoint.finish(request, _clock(), refused)
            else:
                if publishing is not None:
                    return self._end_when_published(request, publishing, error)
                following = endpoint.finish(request, _clock())
        self._end_handler(request, following, error)
        return None

    async def _end_when_published(
        self, request: BaseRequest, publishing: Awaitable[None], error: BaseException | None
    ) -> None:
        unpublished: BaseException | None = None
        self._handlers[request] = cast("asyncio.Task[None]", asyncio.current_task())
        try:
            await publishing
        except (Exception, asyncio.CancelledError) as refused:  # noqa: BLE001  # the state machine notes it
            unpublished = refused
        self._end_handler(request, request._endpoint.finish(request, _clock(), unpublished), error)

    def _end_handler(self, request: BaseRequest, following: BaseRequest | None, error: BaseException | None) -> None:
        """Do what there is to do when a request has ended: run the one that has got its slot, if there is one."""
        if self._handlers.pop(request, None) is not None:
            self._take_following(following)
        else:
            if following is not None:
                # It has run to its end where it was started. There this one is started too, lest it be nested.
                self._ready.append(following)
            if self.state.effects:
                self._perform()
        if error is not None and isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise error

    def _take_following(self, following: BaseRequest | None) -> None:
        """Run the request, if there is one, that has got the slot of another, and do what else comes of its end."""
        if following is not None:
            self._run(following)
        if self.state.effects:
            self._perform()

    def _let_go(self, request: BaseRequest, error: BaseException | None) -> None:
        """A thread that has worked for a request has returned."""
        self._take_following(request._endpoint.let_go(request, _clock(), error))

    async def _call_in_thread(self, workers: Workers, handler: Handler, request: Request) -> Any:
        """Call a blocking handler in a worker thread, in the context of this task."""
        blocking = BlockingRequest(request, self._loop)
        return await self._threads.call(workers, request, functools.partial(handler, blocking))

    # What the state machine asks for

    def _perform(self) -> None:
        if self._is_performing:
            return  # an effect has led to more: they have their turn behind those that came before
        self._is_performing = True
        try:
            while self.state.effects:
                self._perform_one(self.state.effects.pop(0))  # whatever one of them raises, the others are still there
        finally:
            self._is_performing = False

    def _perform_one(self, effect: Effect) -> None:
        match effect:
            case Publish(reply):
                self._spawn(self._publish(reply))
            case WakeAt(at):
                if self._timer is not None:
                    self._timer.cancel()
                self._timer = self._loop.call_later(max(0, at - _clock()) / 1e9, self._wake)
            case Run(request):
                self._run(request)
            case Cancel(request):
                task = self._handlers.get(request)
                if task is not None:
                    task.cancel()
            case Subscribe(interest):
                self._subscribe(interest)
            case Unsubscribe(interests, confirm):
                subscriptions = [self._subscriptions[one] for one in interests if one in self._subscriptions]
                if confirm:
                    self._stop_step = self._spawn(self._unsubscribe(subscriptions))
                else:
                    self.link.unsubscribe_soon(subscriptions)
            case Flush():
                self._stop_step = self._spawn(self._confirm_replies())
            case Report(error, request):
                self._callbacks.call("error_handler", self.state.config.error_handler, self._service, error, request)
            case Log():
                log(SERVICE, effect)
            case Stopped(error):
                self._end(error)

    async def _publish(self, reply: Reply) -> None:
        try:
            if (sent := self.link.send(reply)) and (publishing := self.link.attend(sent)) is not None:
                await publishing
        except NatsvcError as error:
            _logger.warning("service %r: an error reply could not be sent: %s", self.state.config.name, error)

    def _subscribe(self, interest: Interest) -> None:
        deliver = self._delivery(interest.receiver)
        try:
            self._subscriptions[interest] = self.link.subscribe(interest.subject, interest.queue_group, deliver)
        except NatsvcError as error:
            self._on_subscription_lost(error)

    async def _unsubscribe(self, subscriptions: list[Any]) -> None:
        await self.link.unsubscribe(subscriptions)
        self.state.unsubscribed(_clock())
        self._perform()

    async def _confirm_replies(self) -> None:
        await self.link.confirm()
        self.state.flushed()
        self._perform()

    def _wake(self) -> None:
        self.state.wake(_clock())
        self._perform()

    def _end(self, error: BaseException | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._stop_step is not None and self._stop_step is not asyncio.current_task():
            self._stop_step.cancel()  # what it waits for has been cut short
        self.link.close()
        for workers in self._workers:
            workers.close()
        self.stopped.set()
        self._done_handler = self._callbacks.call("done_handler", self.state.config.done_handler, self._service, error)

    # What the connection and signals tell

    def _on_connection_closed(self, error: BaseException) -> None:
        self.state.connection_closed(_clock(), error)
        self._perform()

    def _on_subscription_lost(self, error: BaseException) -> None:
        self.state.subscription_lost(_clock(), error)
        self._perform()

    def _on_connection_error(self, error: BaseException) -> None:
        self.state.report(error, None)
        self._perform()

    def _spawn(
        self, coroutine: Coroutine[Any, Any, None], context: contextvars.Context | None = None
    ) -> asyncio.Task[None]:
        """Run a coroutine as a task that lives as long as it runs, whoever else forgets it."""
        task = self._loop.create_task(coroutine, context=context)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


class _Binding:
    """What a request's endpoint needs of this front-end."""

    __slots__ = ("attend", "handle", "send")

    def __init__(self, link: Link, handle: Handler) -> None:
        self.send = link.send
        self.attend = link.attend
        self.handle = handle


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
