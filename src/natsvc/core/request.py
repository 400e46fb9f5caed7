r"""One request on its way through a service, and the rules of answering it.

Every front-end's Request is a BaseRequest with methods of its own world to respond. What such a method may send is
decided here: `answer` and `answer_error` give the reply to publish, or say why there is none.

    WAITING -> RUNNING -> ENDED -> FINISHED     the handler ran to its end, its last reply is out
          \         \-> FINISHED               the same, in one step: it left nothing to be sent
          \         \-> CUT OFF               answered with 504 or 503 in the handler's place
           \-> FINISHED                        answered with 504 or 503, never run
"""

from __future__ import annotations

import enum
import json
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from natsvc.core.replies import SURELY_SHORT, Data, Reply, ReplyHeaders, error_headers, make_reply, printable_error
from natsvc.errors import MaxPayloadError, NoReplyError, ServiceError, ServiceStoppedError
from natsvc.message import Message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from natsvc.core.endpoint import EndpointState

__all__ = ["BaseRequest", "RequestState", "current_request"]

_LONGEST_LAST_ERROR = 1024

current_request: ContextVar[BaseRequest | None] = ContextVar("natsvc_current_request", default=None)
"""The request whose handler runs: so that a `stop()` called by a handler doesn't wait for that handler."""


class RequestState(enum.Enum):
    """Where a request is."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"
    CUT_OFF = "cut off"
    FINISHED = "finished"


_WAITING = RequestState.WAITING
_RUNNING = RequestState.RUNNING
_CUT_OFF = RequestState.CUT_OFF


class BaseRequest(Message):
    """A request: the message that came, and what has become of it so far.

    It is made by natsvc. Handlers read `subject`, `reply`, `headers`, `data` and call `json()` and the methods to
    respond; the rest is for the state machine.
    """

    data: bytes  # said again for the reference, which takes what the constructor sets for an attribute of its own
    """The body."""

    _held = 0  # how many threads still work for it, and keep its slot
    _is_over = False  # whether it has ended while it was held

    def __init__(
        self,
        subject: str | bytes,
        data: bytes,
        reply: str | bytes,
        headers: Mapping[str, str] | bytes | None,
    ) -> None:
        # All that nearly every request will have is set here, and in place of Message's constructor. Python makes no
        # room for more than that, and to make it later takes 400 ns.
        self._subject = subject
        self.data = data
        self._reply = reply
        self._headers = headers
        self._state = _WAITING
        self._answered = 0  # how many responses are sent or on their way
        self._error: str | None = None  # last_error, if this request has one
        self._unsent: MaxPayloadError | None = None  # a response too large to be sent, with none after it
        self._endpoint: EndpointState = None  # type: ignore[assignment]  # until an endpoint has received it
        self._size = 0  # noted while it waits
        self._deadline = 0
        self._started = 0
        self._elapsed = 0

    @property
    def is_running(self) -> bool:
        """Whether its handler is to run, or runs: it has not been answered in the handler's place."""
        return self._state is _RUNNING

    def json(self) -> Any:
        """Return the body, read as JSON.

        Raises:
            ServiceError: With code 400, if it isn't JSON: unless the handler catches it, the caller is told so.
        """
        try:
            return json.loads(self.data, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            raise ServiceError(400, "The request's data is not JSON") from None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.subject!r}, {self._state.value}>"

    # The rest is the state machine's: front-ends call it, users don't.

    def _answer(self, data: Data, headers: ReplyHeaders) -> Reply | None:
        """Return the response to publish; None if it comes too late for a caller that has been told 504."""
        if self._state is not _RUNNING and not self._may_answer_late():
            return None
        reply_to = self._reply
        if not reply_to:
            self._error = self._error or "500:No reply subject"
            raise NoReplyError(f"the request to {self.subject!r} has no reply subject")
        max_payload = self._endpoint.service.server.max_payload
        if not headers and type(data) is bytes and len(data) <= max_payload and len(reply_to) <= SURELY_SHORT:
            reply: Reply = (reply_to, data, None, b"")  # as nearly all are: there is nothing to check and to encode
        else:
            try:
                reply = make_reply(reply_to, data, headers, max_payload)
            except MaxPayloadError as error:
                self._unsent = error
                raise
        self._answered += 1
        self._unsent = None
        return reply

    def _answer_error(self, code: str | int, description: str, data: Data, headers: ReplyHeaders) -> Reply | None:
        """Return the error reply to publish, and note the error."""
        if self._state is not _RUNNING and not self._may_answer_late():
            return None
        code, description = printable_error(code, description)
        if not self._reply:
            self._note_error(code, description)
            raise NoReplyError(f"the request to {self.subject!r} has no reply subject")
        reply = self._answer(data, error_headers(code, description, headers))
        self._note_error(code, description)
        return reply

    def _take_back(self) -> None:
        """The connection has refused a response: its caller has not been answered by it."""
        self._answered -= 1

    def _may_answer_late(self) -> bool:
        service = self._endpoint.service
        if service.is_stopped:
            raise ServiceStoppedError(f"service {service.config.name!r} has stopped: nothing can be sent for it")
        # A handler may have left work behind that responds later: allowed, unless its caller has been told 504.
        return self._state is not _CUT_OFF

    def _note_error(self, code: str, description: str) -> None:
        self._error = f"{code}:{description}"[:_LONGEST_LAST_ERROR]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
