"""Every exception that a user of natsvc can meet.

All of them derive from [NatsvcError][natsvc.NatsvcError], so that one `except` catches what natsvc raises and nothing
else. Where Python has a word for the kind of failure (ValueError, ConnectionError, TimeoutError), the class is one of
those too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "AuthorizationError",
    "ConfigError",
    "ConnectionClosedError",
    "ConnectionLostError",
    "HeaderError",
    "InvalidAnswerError",
    "MaxPayloadError",
    "NatsvcError",
    "NoReplyError",
    "NoRespondersError",
    "NoServersError",
    "OutboundBufferError",
    "PermissionsError",
    "ProtocolError",
    "RequestTimeoutError",
    "ServerError",
    "ServiceError",
    "ServiceStoppedError",
    "SlowConsumerError",
    "StaleConnectionError",
    "SubjectError",
    "SubscriptionClosedError",
]

_SHOWN = 200
"""So many characters of a refused value are shown: enough to find it, and a log line stays a line."""


class NatsvcError(Exception):
    """The base of natsvc's exceptions."""


class _RefusedValueError(NatsvcError, ValueError):
    """A value that breaks a rule: the message names the field, the value and the rule.

    Attributes:
        field: The name of what was refused, such as `ServiceConfig.name`.
        value: What was given.
        rule: What it must be.
    """

    def __init__(self, field: str, value: object, rule: str) -> None:
        super().__init__(field, value, rule)
        self.field = field
        self.value = value
        self.rule = rule

    def __str__(self) -> str:
        try:
            shown = repr(self.value)
        except Exception:  # noqa: BLE001  # a strange value must not hide what is wrong with it
            shown = f"<{type(self.value).__name__}>"
        if len(shown) > _SHOWN:
            shown = shown[:_SHOWN] + "…"
        return f"{self.field}: {shown} {self.rule}"


class ConfigError(_RefusedValueError):
    """A configuration, a name or a subject that NATS or ADR-32 does not allow."""


class HeaderError(_RefusedValueError):
    """A header name or value that can't stand in a NATS header block (ADR-4)."""


class SubjectError(_RefusedValueError):
    """A subject, reply subject or queue group that can't stand in a command to the server."""


class InvalidAnswerError(_RefusedValueError):
    """A PING, INFO or STATS answer of some service that is not what ADR-32 asks for."""


class ServiceError(NatsvcError):
    """An error reply: a handler raises it to send one, a caller gets it when one came.

    It travels as the headers `Nats-Service-Error-Code` and `Nats-Service-Error` (ADR-32, "Error Handling"). ADR-32 asks
    for a code that can be read as a number; words are sent as they are, and JavaScript's client reads them as 400.

    Args:
        code: The error code. Numbers are turned into text, so that `error.code` is always a str.
        description: What the caller may be shown.
        data: The body of the error reply.
        headers: Further headers of the error reply.
    """

    def __init__(
        self,
        code: str | int,
        description: str | None = "",
        data: bytes | str | None = b"",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code, description)
        # str() of an enum's member gives its name: the text it is counts.
        self.code = str.__str__(code) if isinstance(code, str) else str(code)
        self.description = description or ""
        self.data = data or b""
        self.headers = headers

    def __str__(self) -> str:
        return f"{self.code}: {self.description}"


class NoReplyError(NatsvcError):
    """A response to a request that came without a reply subject."""


class MaxPayloadError(NatsvcError, ValueError):
    """A message that the server would answer by closing the connection, refused before anything was written.

    Attributes:
        size: The size in bytes of what was to be sent.
        limit: What the server takes, in bytes.
        part: Which limit it is: "headers and data" or "command line".
    """

    def __init__(self, size: int, limit: int, part: str = "headers and data") -> None:
        super().__init__(size, limit, part)
        self.size = size
        self.limit = limit
        self.part = part

    def __str__(self) -> str:
        return f"{self.part} of {self.size} bytes: the server takes {self.limit}"


class RequestTimeoutError(NatsvcError, TimeoutError):
    """What was asked for was not answered in time: by a service, by the server, or by a message that was to come."""


class NoRespondersError(NatsvcError):
    """A request to a subject that nobody is subscribed to; the server says so at once (ADR-4, status 503).

    Attributes:
        subject: The subject of the request.
    """

    def __init__(self, subject: str) -> None:
        super().__init__(subject)
        self.subject = subject

    def __str__(self) -> str:
        return f"nobody is there to answer requests to {self.subject!r}"


class ServiceStoppedError(NatsvcError):
    """Something was asked of a service that has stopped or is about to."""


class ConnectionClosedError(NatsvcError, ConnectionError):
    """The connection to NATS is closed for good, or was never made."""


class ConnectionLostError(NatsvcError, ConnectionError):
    """The connection broke before the server had confirmed what was sent on it; natsvc connects again."""


class NoServersError(NatsvcError, ConnectionError):
    """None of the servers could be connected to; the cause is what came of the last attempt."""


class SubscriptionClosedError(NatsvcError):
    """A subscription that has ended, and whose messages have all been taken."""


class StaleConnectionError(NatsvcError, ConnectionError):
    """The server has left several PINGs in a row unanswered."""


class AuthorizationError(NatsvcError):
    """The server does not accept the credentials, or no longer; the message is the server's own."""


class ServerError(NatsvcError):
    """An error that the server has sent, in its own words."""


class ProtocolError(NatsvcError):
    """The server has sent what the NATS protocol does not allow, or more than the limits do.

    Attributes:
        problem: The rule that was broken.
        received: The bytes it was found in, cut short.
    """

    def __init__(self, problem: str, received: bytes = b"") -> None:
        received = bytes(received[:_SHOWN])
        super().__init__(problem, received)
        self.problem = problem
        self.received = received

    def __str__(self) -> str:
        return f"{self.problem}: {self.received!r}" if self.received else self.problem


class SlowConsumerError(NatsvcError):
    """Messages of a subscription were dropped, because nobody took those that came before.

    Attributes:
        subject: The subject of the subscription.
        dropped: How many have been dropped so far.
    """

    def __init__(self, subject: str, dropped: int) -> None:
        super().__init__(subject, dropped)
        self.subject = subject
        self.dropped = dropped

    def __str__(self) -> str:
        return f"the subscription to {self.subject!r} is full: {self.dropped} dropped so far"


class OutboundBufferError(NatsvcError):
    """More was published while disconnected than is kept for the time after the reconnect."""


class PermissionsError(NatsvcError):
    """The server does not let this user publish or subscribe there.

    Attributes:
        operation: "publish" or "subscription".
        subject: The subject that was refused.
    """

    def __init__(self, operation: str, subject: str) -> None:
        super().__init__(operation, subject)
        self.operation = operation
        self.subject = subject

    def __str__(self) -> str:
        return f"the server refused a {self.operation} to {self.subject!r}"
