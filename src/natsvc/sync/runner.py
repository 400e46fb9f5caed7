"""What the state machine of a service asks for, done by threads.

Nothing is decided here. Messages go into the state machine, requests go to the threads that run handlers, and the
effects that come out are performed in their order. The state machine is called with the connection's lock held, and
nothing that is done under it waits.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import datetime as dt
import math
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from natsvc.core import (
    BaseRequest,
    Endpoint,
    EndpointConfig,
    Reply,
    Scope,
    ServiceDefinition,
    ServiceState,
    ServiceStats,
)
from natsvc.core.effects import (
    WARNING,
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
from natsvc.logs import SERVICE
from natsvc.nuid import next_id
from natsvc.sync.callbacks import Call, check_callback
from natsvc.sync.connection import Connection
from natsvc.sync.listener import Listener
from natsvc.sync.places import current_request
from natsvc.sync.request import Request
from natsvc.sync.waiter import pieces
from natsvc.sync.workers import Workers
from natsvc.wire.connection import SubscriptionState

__all__ = ["Runner"]

_clock = time.perf_counter_ns


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
        stopped: Set when the service has stopped.
    """

    def __init__(self, service: object, nc: Connection, definition: ServiceDefinition) -> None:
        self.stopped = threading.Event()
        self._service = service
        self._driver = nc._driver
        self._connection = self._driver.state
        self._lock = self._driver.lock
        self._context = contextvars.copy_context()
        config = definition.config
        check_callback("ServiceConfig.error_handler", config.error_handler)
        check_callback("ServiceConfig.done_handler", config.done_handler)
        if config.endpoint_data is not None and config.stats_handler is None:
            # What it does takes its time, and the reader hasn't got that: a thread of STATS's own has.
            config = dataclasses.replace(config, stats_handler=self._answer_stats)
        self.state = ServiceState(
            config,
            next_id(),
            request_class=Request,
            server=self._connection,
            started=_utc_now(),
            async_handlers=False,
            answers_with_data=False,
        )
        self._subscriptions: dict[Interest, SubscriptionState] = {}
        self._is_performing = False
        self._done_handler: Call | None = None
        self._joined: list[queue.SimpleQueue[bool]] = []
        self._listener = Listener(
            connection_closed=self._on_connection_closed,
            connection_error=self._on_connection_error,
            begin_drain=lambda: self.begin_stop(caller=current_request()),
            has_drained=self.has_stopped,
        )
        self._workers = [self._threads(self.state.config.name, spare=1)]  # of all endpoints that have none of their own
        for control in self.state.controls:
            self._bind(control, alone=True)
        for scope, endpoint in definition.endpoints:
            self._bind(self.state.add_endpoint(scope, endpoint))
        with self._lock:
            self._connection.check_usable()
            self._driver.listeners.append(self._listener)

    # What the service is told to do

    def start(self) -> None:
        """Start the service."""
        with self._lock:
            self.state.start(_utc_now())
            self._perform()
        self._driver.write()

    def add_endpoint(self, scope: Scope, config: EndpointConfig) -> Endpoint:
        """Add an endpoint, and wait until it is subscribed to; while disconnected, don't."""
        with self._lock:
            state = self.state.add_endpoint(scope, config)
            self._bind(state)
            self._perform()
        self._driver.write()
        self.flush()
        return state.endpoint

    def flush(self) -> None:
        """Wait until the server has confirmed all subscriptions; raise what ended the service if it refused one."""
        self._driver.confirm()
        if isinstance(self.state.error, NatsvcError):
            raise self.state.error

    def reset(self) -> None:
        """Zero the counters."""
        with self._lock:
            self.state.reset(_utc_now())

    def stats(self) -> ServiceStats:
        """Return the answer to STATS, with the data that the user adds to it."""
        with self._lock:
            stats = self.state.counters()
        self.state.add_data(stats)
        with self._lock:
            self._perform()
        return stats

    def begin_stop(
        self, error: BaseException | None = None, timeout: float | None = None, caller: BaseRequest | None = None
    ) -> None:
        """Begin to stop."""
        with self._lock:
            self._admit()
            self.state.stop(_clock(), timeout=timeout, error=error, caller=caller)
            self._perform()
        self._driver.write()

    def stop(self, error: BaseException | None = None, timeout: float | None = None) -> None:
        """Stop, and wait for it; if a handler of the service asks, not for that handler."""
        self.begin_stop(error, timeout, current_request())
        self.has_stopped()

    def leave(self, error: BaseException | None) -> None:
        """Stop because the block around the service is left, and wait for it."""
        with self._lock:
            self._admit()
            self.state.leave(_clock(), error)
            self._perform()
        self._driver.write()
        try:
            self.has_stopped()
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Stop at once."""
        with self._lock:
            self._admit()
            self.state.abort(_clock())
            self._perform()
        self._driver.write()

    def has_stopped(self, timeout: float | None = None) -> None:
        """Wait for the stop; then, as long as it may take, for the done_handler, unless that is what waits.

        Raises:
            TimeoutError: It has not stopped within so many seconds.
        """
        end = math.inf if timeout is None else time.monotonic() + timeout
        for piece in pieces(timeout):
            if self.stopped.wait(piece):
                break
        else:
            raise TimeoutError
        done = self._done_handler
        if done is not None and not self._driver.callbacks.are_here:
            done.wait(max(0.0, min(self.state.time_left(_clock()), end - time.monotonic())))

    def serve(self, told: queue.SimpleQueue[bool]) -> None:
        """Wait for the stop; begin it when the queue gives True, as a signal handler may have it do at any moment."""
        with self._lock:
            if self.stopped.is_set():
                return
            self._joined.append(told)
        for piece in pieces(None):
            with contextlib.suppress(queue.Empty):
                if not told.get(timeout=piece):
                    break
                self.begin_stop()
        self.has_stopped()

    # Messages and handlers

    def _bind(self, state: EndpointState, *, alone: bool = False) -> None:
        if alone or state.endpoint.max_workers == 1:  # the one thread that it may use is always the same
            workers = self._threads(state.endpoint.name, spare=0)
            self._workers.append(workers)
        else:
            workers = self._workers[0]
        state.binding = workers.bind(state)

    def _threads(self, name: str, *, spare: int) -> Workers:
        return Workers(self._driver, self.state, f"natsvc-{name}", self._context, self._perform, spare=spare)

    def _admit(self) -> None:
        """Before the state machine is told to stop, give it what has been read already."""
        for workers in self._workers:
            workers.admit()

    def _answer_stats(self, request: Request) -> None:
        request.respond_json(self.stats())

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
                self._publish(reply)
            case WakeAt(at):
                self._driver.alarms.set(self, at, self._wake)
            case Run(request):
                request._endpoint.binding.workers.add(request)
            case Cancel():
                pass  # a thread can't be cancelled
            case Subscribe(interest):
                self._subscribe(interest)
            case Unsubscribe(interests, confirm):
                self._unsubscribe(
                    [self._subscriptions[one] for one in interests if one in self._subscriptions], confirm
                )
            case Flush():
                self._driver.when_confirmed(self._on_flushed)
            case Report(error, request):
                self._call_back("error_handler", self.state.config.error_handler, error, request)
            case Log():
                self._driver.callbacks.log(SERVICE, effect)
            case Stopped(error):
                self._end(error)

    def _publish(self, reply: Reply) -> None:
        try:
            self._connection.answer(reply)
        except NatsvcError as error:
            text = "service %r: an error reply could not be sent: %s"
            self._driver.callbacks.log("natsvc.sync", Log(WARNING, text, (self.state.config.name, error)))

    def _subscribe(self, interest: Interest) -> None:
        assert isinstance(interest.receiver, EndpointState)  # noqa: S101  # control verbs are such, too
        take = interest.receiver.binding.take
        try:
            self._subscriptions[interest] = self._connection.subscribe(
                interest.subject, interest.queue_group, take, self._on_subscription_ended, Request
            )
        except NatsvcError as error:
            self._on_subscription_ended(error)

    def _unsubscribe(self, subscriptions: list[SubscriptionState], confirm: bool) -> None:
        if not confirm:
            for subscription in subscriptions:
                self._connection.forget(subscription)
            return
        for subscription in subscriptions:
            self._connection.unsubscribe(subscription)

        def confirmed() -> None:
            for subscription in subscriptions:
                self._connection.forget(subscription)
            self.state.unsubscribed(_clock())
            self._perform()

        self._driver.when_confirmed(confirmed)

    def _on_flushed(self) -> None:
        self.state.flushed()
        self._perform()

    def _wake(self) -> None:
        self.state.wake(_clock())
        self._perform()

    def _end(self, error: BaseException | None) -> None:
        self._driver.alarms.clear(self)
        if self._listener in self._driver.listeners:
            self._driver.listeners.remove(self._listener)
        for workers in self._workers:
            workers.close()
        self._done_handler = self._call_back("done_handler", self.state.config.done_handler, error)
        self.stopped.set()
        for told in self._joined:
            told.put(False)

    # What the connection tells

    def _on_connection_closed(self, error: BaseException) -> None:
        self._admit()
        self.state.connection_closed(_clock(), error)
        self._perform()

    def _on_subscription_ended(self, error: BaseException | None) -> None:
        if error is not None and not self._connection.is_closed:  # the end of the connection is told by itself
            self._admit()
            self.state.subscription_lost(_clock(), error)
            self._perform()

    def _on_connection_error(self, error: BaseException) -> None:
        self.state.report(error, None)
        self._perform()

    def _call_back(self, name: str, function: Callable[..., Any] | None, *arguments: Any) -> Call | None:
        """Have a user's callback called, on the thread of the callbacks."""
        if function is None:
            return None
        owner = f"service {self.state.config.name!r}"
        return self._driver.callbacks.call(owner, name, self._context, function, self._service, *arguments)


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
