"""What the state machine of a service asks for, done by tasks: handlers, a timer, threads, subscriptions.

Nothing is decided here. Messages go into the state machine, requests to the tasks that run handlers, and the effects
that come out are performed in their order. The steps of a stop wait for nothing: the connection calls when the server
has confirmed them.
"""

from __future__ import annotations

import contextvars
import datetime as dt
import functools
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from natsvc.anyio.block import TaskBlock
from natsvc.anyio.callbacks import Callbacks, Running
from natsvc.anyio.connection import Connection
from natsvc.anyio.driver import Driver
from natsvc.anyio.handling import Handling
from natsvc.anyio.portal import Portal
from natsvc.anyio.request import BlockingRequest, Request
from natsvc.anyio.threads import Threads
from natsvc.anyio.timer import Timer, clock
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
from natsvc.nuid import next_id
from natsvc.wire.connection import SubscriptionState
from natsvc.workers import Workers

__all__ = ["Runner"]

_logger = logging.getLogger("natsvc.anyio")


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
        portal: The way into the event loop.
        stopped: Set when the service has stopped.
    """

    def __init__(self, service: object, nc: Connection, definition: ServiceDefinition) -> None:
        self.portal = Portal()
        self.stopped = anyio.Event()
        self._service = service
        self._thread = threading.get_ident()
        self._driver = driver = nc._driver
        self._wire = driver.state
        self._wire.check_usable()
        context = contextvars.copy_context()
        if current_request.get() is not None:  # a handler of another service makes this one
            context.run(current_request.set, None)
        self.state = ServiceState(
            definition.config,
            next_id(),
            request_class=Request,
            server=self._wire,
            started=_utc_now(),
        )
        self._block = TaskBlock("a service, by `async with add_service(...) as service:`,")
        self._timer = Timer(self._wake)
        self._callbacks = Callbacks(f"service {definition.name!r}", context, self._block)
        self._threads = Threads(self.portal, self._let_go)
        self._handling = Handling(driver, self._block, context, self.state, perform=self._perform, abort=self.abort)
        self._workers: list[Workers] = []
        self._subscriptions: dict[Interest, SubscriptionState] = {}
        self._is_performing = False
        self._done_handler: Running | None = None
        for control in self.state.controls:
            self._bind(control)
        for scope, config in definition.endpoints:
            self.add_endpoint(scope, config)
        driver.listeners.append(self)

    # What the service is told to do

    async def enter(self) -> None:
        """Begin: the tasks live until `leave`.

        Raises:
            RuntimeError: It has begun before.
        """
        await self._block.enter()
        self._block.start_soon(self._timer.run)
        self._handling.begin()

    def start(self) -> None:
        """Start the service.

        Raises:
            RuntimeError: The block that its tasks live in has not begun.
        """
        if not self._block.is_open and not self.state.is_stopped:
            raise RuntimeError("a service runs in a block: async with add_service(...) as service:")
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
        await self._driver.confirm()
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
        self.state.stop(clock(), timeout=timeout, error=error, caller=caller)
        self._perform()

    async def stop(self, error: BaseException | None = None, timeout: float | None = None) -> None:
        """Stop, and wait for it; if a handler of the service asks, or drains the connection, not for that handler."""
        self.begin_stop(error, timeout, current_request.get())
        await self.has_stopped()

    async def leave(self, error: BaseException | None) -> None:
        """Stop because the block around the service is left, and end all tasks.

        Args:
            error: The exception that leaves the block, or None. If there is one, being cancelled here raises nothing:
                the exception has precedence.
        """
        self.state.leave(clock(), error)
        self._perform()
        leaving = error
        try:
            await self.has_stopped()
            with anyio.move_on_after(self.state.time_left(clock())):
                await self._handling.is_at_rest()  # handlers that have called for the stop
        except BaseException as raised:  # noqa: BLE001  # it is raised below
            self.abort()
            leaving = error or raised
        self._timer.close()
        try:
            await self._block.leave(leaving)
        finally:
            self.portal.close()
        if leaving is not None and leaving is not error:
            raise leaving

    def abort(self) -> None:
        """Stop at once."""
        self.state.abort(clock())
        self._perform()

    async def has_stopped(self) -> None:
        """Wait for the stop; then, as long as it may take, for the done_handler, unless it is what waits."""
        if not self.stopped.is_set():
            await self.stopped.wait()
        done = self._done_handler
        time_left = self.state.time_left(clock())
        if time_left > 0 and done is not None and not done.is_current_task:
            with anyio.move_on_after(time_left):
                await done.over.wait()

    # What the connection tells

    def connection_closed(self, error: BaseException) -> None:
        """The connection is closed for good."""
        self.state.connection_closed(clock(), error)
        self._perform()

    def connection_error(self, error: BaseException) -> None:
        """Something went wrong that the owner may want to know."""
        self.state.report(error, None)
        self._perform()

    async def drain(self) -> None:
        """Stop, for the connection is about to be drained."""
        await self.stop()

    def _subscription_ended(self, error: BaseException | None) -> None:
        if error is not None and not self._wire.is_closed:  # the end of the connection is told by itself
            self.state.subscription_lost(clock(), error)
            self._perform()

    # Messages and handlers

    def _bind(self, state: EndpointState) -> None:
        endpoint = state.endpoint
        handler = endpoint.handler
        if not is_async(handler):
            workers = Workers(f"natsvc-{endpoint.name}")
            self._workers.append(workers)
            handler = functools.partial(self._call_in_thread, workers, handler)
        state.binding = _Binding(self._driver, compose(endpoint.middleware, handler))

    async def _call_in_thread(self, workers: Workers, handler: Handler, request: Request) -> Any:
        """Call a blocking handler in a worker thread, in the context of this task."""
        blocking = BlockingRequest(request, self.portal, self._block.start_soon)
        return await self._threads.call(workers, request, functools.partial(handler, blocking))

    def _let_go(self, request: BaseRequest, error: BaseException | None) -> None:
        """A thread that has worked for a request has returned."""
        self._handling.take_following(request._endpoint.let_go(request, clock(), error))

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
                self._publish_error(reply)
            case WakeAt(at):
                self._timer.set(at)
            case Run(request):
                self._handling.run(request)
            case Cancel(request):
                self._handling.cancel(request)
            case Subscribe(interest):
                self._subscribe(interest)
            case Unsubscribe(interests, confirm):
                self._unsubscribe(
                    [self._subscriptions[one] for one in interests if one in self._subscriptions], confirm
                )
            case Flush():
                self._when_confirmed(self._flushed)
            case Report(error, request):
                self._call_back("error_handler", self.state.config.error_handler, error, request)
            case Log():
                log(SERVICE, effect)
            case Stopped(error):
                self._end(error)

    def _publish_error(self, reply: Reply) -> None:
        try:
            self._wire.answer(reply)
        except NatsvcError as error:
            _logger.warning("service %r: an error reply could not be sent: %s", self.state.config.name, error)
        self._driver.send()

    def _subscribe(self, interest: Interest) -> None:
        deliver = self._handling.delivery(interest.receiver)
        try:
            self._subscriptions[interest] = self._wire.subscribe(
                interest.subject, interest.queue_group, deliver, self._subscription_ended, Request
            )
        except NatsvcError as error:
            self.state.subscription_lost(clock(), error)
        self._driver.send()

    def _unsubscribe(self, subscriptions: list[SubscriptionState], confirm: bool) -> None:
        if not confirm:
            self._forget(subscriptions)
            return
        for subscription in subscriptions:
            self._wire.unsubscribe(subscription)
        self._when_confirmed(functools.partial(self._unsubscribed, subscriptions))

    def _unsubscribed(self, subscriptions: list[SubscriptionState]) -> None:
        self._forget(subscriptions)
        self.state.unsubscribed(clock())
        self._perform()

    def _forget(self, subscriptions: list[SubscriptionState]) -> None:
        for subscription in subscriptions:
            self._wire.forget(subscription)
        self._driver.send()

    def _flushed(self) -> None:
        self.state.flushed()
        self._perform()

    def _when_confirmed(self, then: Callable[[], None]) -> None:
        """Go on when the server has processed all that was sent; without a connection, at once."""

        def confirmed(outcome: object) -> None:
            if outcome is None:  # otherwise the connection is closed, and that is told by itself
                then()

        self._wire.confirm(confirmed)
        self._driver.perform()

    def _wake(self, now: int) -> None:
        self.state.wake(now)
        self._perform()

    def _end(self, error: BaseException | None) -> None:
        self._timer.set(None)
        self._driver.listeners.remove(self)
        for workers in self._workers:
            workers.close()
        self.stopped.set()
        self._done_handler = self._call_back("done_handler", self.state.config.done_handler, error)

    def _call_back(
        self, name: str, function: Callable[..., Awaitable[None] | None] | None, *arguments: Any
    ) -> Running | None:
        if function is None:
            return None
        return self._callbacks.call(name, function, self._service, *arguments)


class _Binding:
    """What a request's endpoint needs of this front-end."""

    __slots__ = ("attend", "handle", "send")

    def __init__(self, driver: Driver, handle: Handler) -> None:
        self.send = driver.state.answer
        self.attend = driver.see_to_writing
        self.handle = handle


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
