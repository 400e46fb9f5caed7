"""One service instance as a state machine: its life, its endpoints, its control verbs, its stats.

    NEW --start--> RUNNING --stop--> DRAINING --> STOPPED

A stop goes through steps, each begun by an effect and ended by the front-end's word that it is done:

    UNSUBSCRIBING   Unsubscribe(endpoints)      unsubscribed()   nothing more will arrive
    HANDLING        -                           the last finish() of an endpoint
    FLUSHING        Flush                       flushed()        the server has all replies
    LEAVING         Unsubscribe(control)        unsubscribed()   stopped

A deadline, `abort` or the connection's end cuts this short at any step. Nothing here waits, reads a clock or knows a
socket: times are arguments, in nanoseconds of any clock that only goes forward.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol

from natsvc.core.calling import MAX_TIMEOUT
from natsvc.core.control import ControlState
from natsvc.core.effects import (
    ERROR,
    WARNING,
    Effect,
    Flush,
    Interest,
    Log,
    Report,
    Run,
    Stopped,
    Subscribe,
    Unsubscribe,
    WakeAt,
)
from natsvc.core.endpoint import EndpointState
from natsvc.core.handlers import is_async
from natsvc.core.models import EndpointStats, ServiceInfo, ServicePing, ServiceStats
from natsvc.core.replies import Reply, encode_json, error_headers, make_reply, printable_error
from natsvc.core.subjects import ServiceVerb
from natsvc.errors import ConfigError, MaxPayloadError, ServiceStoppedError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable

    from natsvc.core.config import EndpointConfig, Handler, ServiceConfig
    from natsvc.core.request import BaseRequest
    from natsvc.core.scope import Endpoint, Scope

__all__ = ["STOP_TIMEOUT", "Lifecycle", "Server", "ServiceState"]

STOP_TIMEOUT = 30.0
"""Seconds that a stop may take, unless the caller says otherwise."""

_FAILED_STOP_TIMEOUT = 5.0
"""Seconds that a stop may take when an exception has ended the block around the service."""


class Server(Protocol):
    """What a service knows of the server: every request looks that up, and a connection of any client is one."""

    @property
    def max_payload(self) -> int:
        """The most bytes of headers and data that it takes at the moment."""
        ...


class Lifecycle(enum.Enum):
    """Where a service is in its life."""

    NEW = "new"
    RUNNING = "running"
    DRAINING = "draining"
    STOPPED = "stopped"


class _Step(enum.Enum):
    """How far a stop has come."""

    NONE = "none"
    UNSUBSCRIBING = "unsubscribing"
    HANDLING = "handling"
    FLUSHING = "flushing"
    LEAVING = "leaving"


class ServiceState:
    """The state machine of one service instance.

    Args:
        config: What the service is.
        id: The id of this instance.
        request_class: The front-end's requests.
        server: What says what the server takes at the moment.
        started: The time of day, UTC.
        async_handlers: Whether the front-end can run `async def` handlers.
        answers_with_data: Whether answers to STATS have what the user's endpoint_data adds. If not, the front-end adds
            it by `add_data`, for it is the user's code, which some places must not wait for.

    Attributes:
        effects: What the front-end has to do, oldest first; it takes them out one by one.
        endpoints: The endpoints in the order in which they were added.
        error: What ended the service, or None.
        is_draining: Whether a stop has begun; it stays so afterwards.
        is_stopped: Whether it has stopped.
        lifecycle: Where it is in its life.
        started: Since when it counts, UTC.
        stop_callers: The requests whose handlers wait for the stop: they hold no slot, and it doesn't wait for them.
    """

    def __init__(
        self,
        config: ServiceConfig,
        id: str,
        *,
        request_class: type[BaseRequest],
        server: Server,
        started: dt.datetime,
        async_handlers: bool = True,
        answers_with_data: bool = True,
    ) -> None:
        self.config = config
        self.id = id
        self.request_class = request_class
        self.server = server
        self.started = started
        self.lifecycle = Lifecycle.NEW
        # Both stand beside the lifecycle because every message asks for them.
        self.is_draining = False
        self.is_stopped = False
        self.error: BaseException | None = None
        self.effects: list[Effect] = []
        self.endpoints: list[EndpointState] = []
        self.stop_callers: set[BaseRequest] = set()
        self._async_handlers = async_handlers
        self._answers_with_data = answers_with_data
        self._step = _Step.NONE
        self._stop_deadline: int | None = None
        self._wake_at: int | None = None
        self._answers: dict[ServiceVerb, bytes] = {}
        if config.endpoint_data is not None and is_async(config.endpoint_data):
            raise ConfigError("ServiceConfig.endpoint_data", config.endpoint_data, "must not be async")
        self.controls = tuple(
            self._control(verb, handler)
            for verb, handler in (
                (ServiceVerb.PING, config.ping_handler),
                (ServiceVerb.INFO, config.info_handler),
                (ServiceVerb.STATS, config.stats_handler),
            )
        )
        self._control_interests = [
            Interest(subject, "", state) for state in self.controls for subject in state.subjects
        ]
        self._endpoint_interests: list[Interest] = []

    # A service's life

    def start(self, started: dt.datetime) -> None:
        """Begin to serve; again: no effect.

        Args:
            started: The time of day, UTC.

        Raises:
            ServiceStoppedError: It has stopped, or is about to.
        """
        self._refuse_if_over("be started")
        if self.lifecycle is Lifecycle.RUNNING:
            return
        self.lifecycle = Lifecycle.RUNNING
        self.started = started
        self.effects += map(Subscribe, (*self._control_interests, *self._endpoint_interests))

    def add_endpoint(self, scope: Scope, config: EndpointConfig) -> EndpointState:
        """Add an endpoint, before or after the start.

        Raises:
            ConfigError: It can't be an endpoint of this service.
            ServiceStoppedError: The service has stopped, or is about to.
        """
        self._refuse_if_over("get endpoints")
        endpoint = scope.endpoint(config, self.config)
        for middleware in endpoint.middleware:
            if is_async(middleware) is not self._async_handlers:
                rule = "must be an async def" if self._async_handlers else "must be a plain def"
                raise ConfigError("middleware", middleware, f"{rule}, to be called with the request and call_next")
        state = EndpointState(self, endpoint, self._limit(endpoint))
        self.endpoints.append(state)
        self._answers.clear()
        interest = Interest(endpoint.subject, endpoint.queue_group, state)
        self._endpoint_interests.append(interest)
        if self.lifecycle is Lifecycle.RUNNING:
            self.effects.append(Subscribe(interest))
        return state

    def stop(
        self,
        now: int,
        *,
        timeout: float | None = None,
        error: BaseException | None = None,
        caller: BaseRequest | None = None,
    ) -> None:
        """Begin to stop: let what has arrived be handled and answered first.

        Args:
            now: The time.
            timeout: Seconds that all of it may take. A stop that joins another can shorten it. None: 30 s. Infinity: no
                limit.
            error: What ends the service; the first one counts.
            caller: The request whose handler asks for the stop and waits for it.

        Raises:
            ConfigError: The timeout is no number, or the error no exception.
        """
        if timeout is None:
            timeout = STOP_TIMEOUT
        if not isinstance(timeout, (int, float)) or isinstance(timeout, bool) or timeout != timeout:  # NaN
            raise ConfigError("timeout", timeout, "must be a number of seconds")
        if error is not None and not isinstance(error, BaseException):
            raise ConfigError("error", error, "must be an exception")
        timeout = float(max(0, min(timeout, MAX_TIMEOUT)))
        if self.is_stopped:
            return
        if self.error is None:
            self.error = error
        if caller is not None and caller._endpoint.service is self and caller._endpoint.is_handling(caller):
            # Nobody waits for this handler, and what waits for its slot doesn't have to wait for it either.
            self.stop_callers.add(caller)
            following = caller._endpoint.release(caller, now)
            if following is not None:
                self.effects.append(Run(following))
        if timeout < MAX_TIMEOUT:
            deadline = now + int(timeout * 1e9)
            if self._stop_deadline is None or deadline < self._stop_deadline:
                self._stop_deadline = deadline
        if self.lifecycle is Lifecycle.NEW:
            self._end(now, answer=True)
            return
        if self._stop_deadline is not None:
            self.wake_by(self._stop_deadline)
        if self.lifecycle is Lifecycle.RUNNING:
            self.lifecycle = Lifecycle.DRAINING
            self.is_draining = True
            self._step = _Step.UNSUBSCRIBING
            self.effects.append(Unsubscribe(tuple(self._endpoint_interests), confirm=True))
        self.progress()

    def leave(self, now: int, error: BaseException | None) -> None:
        """Begin to stop because the block around the service is left.

        Normally that is a stop; by an exception, a short one; by cancellation or Ctrl-C, it ends at once.

        Args:
            now: The time.
            error: The exception that leaves the block, or None.
        """
        if error is None:
            self.stop(now)
        elif isinstance(error, Exception):
            self.stop(now, timeout=_FAILED_STOP_TIMEOUT)
        else:
            self.abort(now)

    def abort(self, now: int) -> None:
        """Stop at once: handlers are cancelled, unanswered requests get 503, nothing is waited for."""
        self._stop_deadline = now
        if not self.is_stopped:
            self._cut_off(now, answer=True)

    def time_left(self, now: int) -> float:
        """Return the seconds that the done_handler of a service which has stopped may be waited for.

        They are what the stop has left of its time; of a service that has ended by itself, as many as a stop has.
        """
        return 0.0 if self._stop_deadline is None else max(0.0, (self._stop_deadline - now) / 1e9)

    def unsubscribed(self, now: int) -> None:
        """Take the confirmation of Unsubscribe: all that the server had sent has been received."""
        if self._step is _Step.UNSUBSCRIBING:
            self._step = _Step.HANDLING
            self.progress()
        elif self._step is _Step.LEAVING and not self.is_stopped:
            self._end(now, answer=True)

    def flushed(self) -> None:
        """Take the confirmation of Flush."""
        if self._step is _Step.FLUSHING and not self.is_stopped:
            self._step = _Step.LEAVING
            self.effects.append(Unsubscribe(tuple(self._control_interests), confirm=True))

    def connection_closed(self, now: int, error: BaseException) -> None:
        """The connection is closed for good: the service ends."""
        if self.is_stopped:
            return
        if self._step is not _Step.LEAVING:  # until then, something may not have reached the server
            self.error = self.error or error
            self.report(error, None)
        self._cut_off(now, answer=False)

    def subscription_lost(self, now: int, error: BaseException) -> None:
        """The server has refused or dropped one of the subscriptions: the service ends, its handlers finish."""
        if not self.is_stopped:
            self.report(error, None)
            self.stop(now, error=error)

    def progress(self) -> None:
        """Go on with a stop that has waited for handlers, if none runs any more."""
        if self._step is _Step.HANDLING and not self.is_stopped and all(state.is_idle for state in self.endpoints):
            self._step = _Step.FLUSHING
            self.effects.append(Flush())

    # Time

    def wake(self, now: int) -> None:
        """Do what is due: answer overdue requests, end a stop that has taken too long; once stopped, nothing is."""
        self._wake_at = None
        if self.is_stopped:
            return
        for state in (*self.endpoints, *self.controls):
            state.expire(now)
        if self._stop_deadline is not None and now >= self._stop_deadline:
            self._log(WARNING, "the stop has taken too long, what still runs is cut off")
            self._cut_off(now, answer=True)
            return
        self.progress()
        due = [next(iter(state.timed))._deadline for state in (*self.endpoints, *self.controls) if state.timed]
        if self._stop_deadline is not None:
            due.append(self._stop_deadline)
        if due:
            self.wake_by(min(due))

    def wake_by(self, deadline: int) -> None:
        """Have `wake` called at this time, or earlier."""
        if self._wake_at is None or deadline < self._wake_at:
            self._wake_at = deadline
            self.effects.append(WakeAt(deadline))

    # What it says of itself

    def ping(self) -> ServicePing:
        """Return the answer to PING."""
        config = self.config
        return ServicePing(name=config.name, id=self.id, version=config.version, metadata=config.metadata)

    def info(self) -> ServiceInfo:
        """Return the answer to INFO."""
        config = self.config
        return ServiceInfo(
            name=config.name,
            id=self.id,
            version=config.version,
            metadata=config.metadata,
            description=config.description,
            endpoints=[state.info() for state in self.endpoints],
        )

    def stats(self) -> ServiceStats:
        """Return the answer to STATS."""
        stats = self.counters()
        self.add_data(stats)
        return stats

    def counters(self) -> ServiceStats:
        """Return the answer to STATS as far as natsvc knows it, without the user's data."""
        config = self.config
        return ServiceStats(
            name=config.name,
            id=self.id,
            version=config.version,
            metadata=config.metadata,
            started=self.started,
            endpoints=[state.stats() for state in self.endpoints],
        )

    def add_data(self, stats: ServiceStats) -> None:
        """Add what the user's endpoint_data, if there is one, says of each endpoint."""
        if self.config.endpoint_data is not None:
            for endpoint in stats.endpoints:
                endpoint.data = self._data(self.config.endpoint_data, endpoint)

    def reset(self, started: dt.datetime) -> None:
        """Zero all counters.

        Args:
            started: The time of day, UTC, since when is counted now.
        """
        self.started = started
        for state in self.endpoints:
            state.reset()

    # For endpoints and control verbs

    def control_reply(self, verb: ServiceVerb, reply_to: str | bytes) -> Reply | None:
        """Return the built-in answer to a verb; an error reply if it is too large."""
        answer = self._answers.get(verb)
        if answer is None:
            stats = self.stats if self._answers_with_data else self.counters
            models = {ServiceVerb.PING: self.ping, ServiceVerb.INFO: self.info, ServiceVerb.STATS: stats}
            answer = encode_json(models[verb]().to_dict())
            if verb is not ServiceVerb.STATS:
                self._answers[verb] = answer
        try:
            return make_reply(reply_to, answer, None, self.server.max_payload)
        except MaxPayloadError as error:
            self._log(ERROR, "the answer to %s can't be sent: %s", verb, error)
            self.report(error, None)
            return self.error_reply(reply_to, 500, "Internal Server Error")

    def error_reply(self, reply_to: str | bytes, code: str | int, description: str) -> Reply | None:
        """Return an error reply of natsvc's own; None if there is nowhere to send it, or no room for it."""
        if not reply_to:
            return None
        try:
            return make_reply(
                reply_to, b"", error_headers(*printable_error(code, description)), self.server.max_payload
            )
        except MaxPayloadError as error:
            self._log(ERROR, "no error reply fits: %s", error)
            return None

    def report(self, error: BaseException, request: BaseRequest | None) -> None:
        """Have the error_handler told, if there is one."""
        if self.config.error_handler is not None:
            self.effects.append(Report(error, request))

    def _log(self, level: int, message: str, *arguments: object, error: BaseException | None = None) -> None:
        self.effects.append(Log(level, f"service %r: {message}", (self.config.name, *arguments), error))

    def _refuse_if_over(self, what: str) -> None:
        if self.is_draining or self.is_stopped:
            raise ServiceStoppedError(f"service {self.config.name!r} has stopped or is stopping: it can't {what}")

    def _control(self, verb: ServiceVerb, handler: Handler | None) -> ControlState:
        state = ControlState(self, verb, handler)
        if handler is not None:
            state.limit = self._limit(state.endpoint, f"ServiceConfig.{verb.lower()}_handler")
        return state

    def _limit(self, endpoint: Endpoint, field: str = "EndpointConfig.handler") -> int:
        """Return how many of its handlers may run at once."""
        if not is_async(endpoint.handler):
            return min(endpoint.max_concurrency, endpoint.max_workers)
        if not self._async_handlers:
            raise ConfigError(field, endpoint.handler, "must be a plain def here: nothing runs an async def")
        return endpoint.max_concurrency

    def _data(self, endpoint_data: Callable[[EndpointStats], object], stats: EndpointStats) -> object:
        """Return what endpoint_data adds to an endpoint's stats; None if it fails."""
        try:
            data = endpoint_data(stats)
            encode_json(data)
        except Exception as error:  # noqa: BLE001  # whatever it is, STATS is answered
            self._log(ERROR, "no data for endpoint %r", stats.name, error=error)
            self.report(error, None)
            return None
        return data

    def _cut_off(self, now: int, *, answer: bool) -> None:
        """End everything at once, and the service with it."""
        self.is_stopped = True
        for state in self.endpoints:
            state.cut_off(now, answer=answer)
        self.effects.append(Unsubscribe((*self._endpoint_interests, *self._control_interests), confirm=False))
        self._end(now, answer=answer)

    def _end(self, now: int, *, answer: bool) -> None:
        for state in self.controls:
            state.cut_off(now, answer=answer)
        if self._stop_deadline is None:
            self._stop_deadline = now + int(STOP_TIMEOUT * 1e9)
        self.lifecycle = Lifecycle.STOPPED
        self.is_draining = self.is_stopped = True
        self.effects.append(Stopped(self.error))
