"""What every front-end does with a request it makes: how long it waits, and what of the reply is an error.

A service answers a failed request with a message like any other, told apart by its headers alone. Whoever looks at the
data only takes an error for a result; so the reply passes here before the caller sees it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from natsvc.errors import ConfigError, ServiceError
from natsvc.headers import ERROR_CODE_HEADER, ERROR_HEADER

if TYPE_CHECKING:
    from natsvc.message import Message

__all__ = ["MAX_TIMEOUT", "REQUEST_TIMEOUT", "check_duration", "checked_reply", "service_error"]

REQUEST_TIMEOUT = 5.0
"""Seconds that the answer to a request may take, unless the caller says otherwise."""

MAX_TIMEOUT = 1_000_000_000
"""The longest timeout in seconds, some thirty years; who wants more wants none."""

_DEFAULT_CODE = "500"


def check_duration(field: str, value: object, default: float) -> float:
    """Return the seconds that a call may wait; None means the default.

    Raises:
        ConfigError: It is not a finite number of at least 0.
    """
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ConfigError(field, value, "must be a finite number of seconds, 0 or more")
    return float(min(value, MAX_TIMEOUT))


def checked_reply(reply: Message) -> Message:
    """Return the reply.

    Raises:
        ServiceError: It is an error reply.
    """
    error = service_error(reply)
    if error is not None:
        raise error
    return reply


def service_error(reply: Message) -> ServiceError | None:
    """Return the error that a reply says it is; None if it is a response (ADR-32, "Error Handling").

    Either of the two headers makes it one. A missing code is "500", a missing description is the code. The error has
    the reply's data, and all its headers.
    """
    headers = reply.headers
    if ERROR_CODE_HEADER not in headers and ERROR_HEADER not in headers:
        return None
    code = headers.get(ERROR_CODE_HEADER) or _DEFAULT_CODE
    return ServiceError(code, headers.get(ERROR_HEADER) or code, reply.data, headers)
