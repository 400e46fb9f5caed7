"""A driver for the state machine of a service: it plays the front-end, without I/O, threads, clocks or an event loop.

Time stands still until `pass_time`, which plays the shared timer. What the machine asks for is noted in lists: tests
read them. Confirmations of the server come when a test says so.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, NamedTuple

from natsvc.core import (
    ERROR_CODE_HEADER,
    ERROR_HEADER,
    BaseRequest,
    EndpointConfig,
    EndpointState,
    Reply,
    RequestState,
    Scope,
    ServiceConfig,
    ServiceState,
    ServiceVerb,
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
from natsvc.headers import Headers
from natsvc.message import Message

SECOND = 1_000_000_000
MILLISECOND = 1_000_000

STARTED = dt.datetime(2025, 1, 2, 3, 4, 5, 678, tzinfo=dt.UTC)
LATER = dt.datetime(2025, 6, 7, 8, 9, 10, tzinfo=dt.UTC)


async def async_handler(request: BaseRequest) -> None:
    raise AssertionError("the machine runs no handlers")


def blocking_handler(request: BaseRequest) -> None:
    raise AssertionError("the machine runs no handlers")


def on_error(service: Any, error: BaseException, request: Any) -> None:
    raise AssertionError("the machine calls no error_handler, it reports")


class Sent(NamedTuple):
    """A reply that the machine has given out, with names for what is in it."""

    subject: str
    data: bytes
    headers: Headers | None
    block: bytes

    @classmethod
    def of(cls, reply: Reply) -> Sent:
        subject, data, headers, block = reply
        text = subject if isinstance(subject, str) else subject.decode("utf-8", "surrogateescape")
        return cls(text, data, headers, block)


class Machine:
    """One service, driven by hand.

    Attributes:
        now: The time, in nanoseconds.
        max_payload: What the server takes, in bytes.
        effects: All effects so far.
        replies: All replies so far: effects, responses, and what conclude gave.
        made: The requests that messages became.
        runs: The requests that were given out to be run, in that order: by receive, by finish, and by Run effects.
        cancelled: The requests whose handlers were to be cancelled.
        reports: What error_handler is told, and of which request.
        logged: What is to be logged.
        interests: What is subscribed to.
        confirmations: What the server has still to confirm: "unsubscribed" or "flushed".
        ended_with: The errors of the Stopped effects.
        wake_at: When the timer goes off, or None.
    """

    def __init__(self, *, max_payload: int = 1024 * 1024, async_handlers: bool = True, **config: Any) -> None:
        self.now = 1000 * SECOND
        self.max_payload = max_payload
        self.effects: list[Effect] = []
        self.replies: list[Sent] = []
        self.made: list[BaseRequest] = []
        self.runs: list[BaseRequest] = []
        self.cancelled: list[BaseRequest] = []
        self.reports: list[tuple[BaseException, BaseRequest | None]] = []
        self.logged: list[Log] = []
        self.interests: list[Interest] = []
        self.confirmations: list[str] = []
        self.ended_with: list[BaseException | None] = []
        self.wake_at: int | None = None
        self.service = ServiceState(
            ServiceConfig(**{"name": "svc", "error_handler": on_error, **config}),
            "ID1",
            request_class=self._recorded(),
            server=self,
            started=STARTED,
            async_handlers=async_handlers,
        )

    def _recorded(self) -> type[BaseRequest]:
        made = self.made

        class Request(BaseRequest):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments)
                made.append(self)

        return Request

    def collect(self) -> None:
        """Take the effects and sort them."""
        effects = self.service.effects.copy()
        self.service.effects.clear()
        self.effects += effects
        for effect in effects:
            match effect:
                case Publish(reply):
                    self.replies.append(Sent.of(reply))
                case Run(request):
                    self.runs.append(request)
                case Cancel(request):
                    self.cancelled.append(request)
                case Report(error, about):
                    self.reports.append((error, about))
                case Log():
                    self.logged.append(effect)
                case WakeAt(time):
                    self.wake_at = time
                case Subscribe(interest):
                    self.interests.append(interest)
                case Unsubscribe(interests, confirm):
                    self.interests = [one for one in self.interests if one not in interests]
                    if confirm:
                        self.confirmations.append("unsubscribed")
                case Flush():
                    self.confirmations.append("flushed")
                case Stopped(ended_with):
                    self.ended_with.append(ended_with)

    # Life

    def add(self, name: str = "work", *, scope: Scope | None = None, **fields: Any) -> EndpointState:
        config = EndpointConfig(name, **{"handler": async_handler, **fields})
        state = self.service.add_endpoint(scope or Scope(), config)
        self.collect()
        return state

    def start(self) -> None:
        self.service.start(STARTED)
        self.collect()

    def stop(
        self, timeout: float = 30.0, *, error: BaseException | None = None, caller: BaseRequest | None = None
    ) -> None:
        self.service.stop(self.now, timeout=timeout, error=error, caller=caller)
        self.collect()

    def leave(self, error: BaseException | None) -> None:
        self.service.leave(self.now, error)
        self.collect()

    def abort(self) -> None:
        self.service.abort(self.now)
        self.collect()

    def close_connection(self, error: BaseException) -> None:
        self.service.connection_closed(self.now, error)
        self.collect()

    def lose_subscription(self, error: BaseException) -> None:
        self.service.subscription_lost(self.now, error)
        self.collect()

    def confirm(self) -> str:
        """Let the server confirm the oldest thing it was asked to; return what that is."""
        what = self.confirmations.pop(0)
        if what == "flushed":
            self.service.flushed()
        else:
            self.service.unsubscribed(self.now)
        self.collect()
        return what

    def confirm_all(self) -> list[str]:
        confirmed = []
        while self.confirmations:
            confirmed.append(self.confirm())
        return confirmed

    # Time

    def pass_time(self, nanoseconds: int) -> None:
        """Let time pass; the timer goes off whenever it is due."""
        until = self.now + nanoseconds
        while self.wake_at is not None and self.wake_at <= until:
            self.now = max(self.now, self.wake_at)
            self.wake()
            assert self.wake_at is None or self.wake_at > self.now, "the timer never rests"
        self.now = until

    def be_busy(self, nanoseconds: int) -> None:
        """Let time pass in which even the timer gets no turn."""
        self.now += nanoseconds

    def wake(self) -> None:
        self.wake_at = None
        self.service.wake(self.now)
        self.collect()

    # Requests

    def send(
        self,
        endpoint: EndpointState,
        data: bytes = b"",
        *,
        reply: str = "reply",
        headers: Mapping[str, str] | bytes | None = None,
    ) -> BaseRequest:
        """Deliver a message to an endpoint, or to a control verb with a handler; return the request it became."""
        self.receive(endpoint, Message(endpoint.endpoint.subject, data, reply=reply, headers=headers))
        return self.made[-1]

    def receive(self, endpoint: EndpointState, message: Message) -> None:
        run = endpoint.receive(message, self.now)
        self.collect()
        if run is not None:
            self.runs.append(run)

    def control(self, verb: ServiceVerb) -> EndpointState:
        return next(state for state in self.service.controls if state.verb is verb)

    def ask(self, verb: ServiceVerb, *, reply: str = "reply") -> None:
        """Deliver a message to a control verb."""
        state = self.control(verb)
        self.receive(state, Message(state.endpoint.subject, reply=reply))

    def respond(self, request: BaseRequest, data: Any = b"", headers: Mapping[str, str] | None = None) -> None:
        """Do what `request.respond` does in every front-end."""
        self._publish(request._answer(data, headers))
        self.collect()

    def respond_error(self, request: BaseRequest, code: str | int, description: str, data: bytes = b"") -> None:
        """Do what `request.respond_error` does in every front-end."""
        self._publish(request._answer_error(code, description, data, None))
        self.collect()

    def conclude(self, request: BaseRequest, result: object = None, error: BaseException | None = None) -> None:
        """End the handler, but not yet its work: the reply is on its way."""
        self._publish(request._endpoint.conclude(request, self.now, result, error))
        self.collect()

    def finish(self, request: BaseRequest, unpublished: Exception | None = None) -> None:
        """End the work of a request; the one that gets its slot is noted in `runs`."""
        self._run(request._endpoint.finish(request, self.now, unpublished))

    def end(self, request: BaseRequest, result: object = None, error: BaseException | None = None) -> None:
        """End the handler and its work."""
        following = request._endpoint.end(request, self.now, result, error)
        if isinstance(following, tuple):
            self._publish(following)
            self.collect()
            self.finish(request)
        else:
            self._run(following)

    def hold(self, request: BaseRequest) -> None:
        """Have a thread work for a request."""
        request._endpoint.hold(request)

    def let_go(self, request: BaseRequest, error: BaseException | None = None) -> None:
        """Have that thread return."""
        self._run(request._endpoint.let_go(request, self.now, error))

    def _run(self, following: BaseRequest | None) -> None:
        self.collect()
        if following is not None:
            self.runs.append(following)

    def _publish(self, reply: Reply | None) -> None:
        if reply is not None:
            self.replies.append(Sent.of(reply))

    # What came of it

    @property
    def bodies(self) -> list[bytes]:
        """The data of all replies."""
        return [reply.data for reply in self.replies]

    @property
    def errors(self) -> list[tuple[str, str]]:
        """Code and description of all error replies."""
        return [error for error in map(error_of, self.replies) if error is not None]

    @property
    def has_stopped(self) -> bool:
        return bool(self.ended_with)


def error_of(reply: Sent) -> tuple[str, str] | None:
    """The code and description of an error reply; None of any other."""
    if reply.headers is None or ERROR_CODE_HEADER not in reply.headers:
        return None
    return reply.headers[ERROR_CODE_HEADER], reply.headers[ERROR_HEADER]


def counts(endpoint: EndpointState) -> tuple[int, int]:
    """How many requests are finished, and how many of them with an error."""
    stats = endpoint.stats()
    return stats.num_requests, stats.num_errors


def is_running(request: BaseRequest) -> bool:
    return request._state is RequestState.RUNNING


def is_waiting(request: BaseRequest) -> bool:
    return request._state is RequestState.WAITING
