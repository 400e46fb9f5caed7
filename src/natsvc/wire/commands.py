"""What is sent to the server, from arguments to bytes, so that no argument can end its own place in the command.

To the server, blanks and tabs separate arguments and a line break ends a command: whoever could put one into a subject
could send commands of their own. And a line that is longer than the server takes costs the connection.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from natsvc.errors import ConfigError, MaxPayloadError, SubjectError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "MAX_CONTROL_LINE",
    "PING",
    "PONG",
    "SEPARATORS",
    "SIZES",
    "answer",
    "check_queue_group",
    "check_subject",
    "check_subscription_subject",
    "connect",
    "encode_subject",
    "publish",
    "subscribe",
    "unsubscribe",
]

PING: Final = b"PING\r\n"
"""Asks the server for a PONG, which comes when all that was sent before has been processed."""

PONG: Final = b"PONG\r\n"
"""The answer to the server's PING."""

MAX_CONTROL_LINE: Final = 4096
"""The longest list of arguments, in bytes, that a server takes by default (its `max_control_line`)."""

_MAX_SID: Final = 2**63 - 1
"""The largest number of a subscription, in the 64 bits that clients commonly have for it."""

_SEPARATING = bytes((*range(0x21), 0x7F))

SEPARATORS: Final = frozenset(map(chr, _SEPARATING))
"""Blanks and control characters: no argument may hold one."""

_SHORT_ENOUGH = MAX_CONTROL_LINE - 32
"""Subjects of so many bytes leave room in a command line for whatever number stands behind them."""

SIZES: Final = tuple(b" %d\r\n" % size for size in range(1025))
"""How a command line goes on behind the subject, by the size of the data, as long as that is small."""


def connect(fields: Mapping[str, object]) -> bytes:
    """Return the command that introduces the client (CONNECT).

    Args:
        fields: What there is to say, by the names that the server knows.

    Raises:
        ConfigError: JSON can't hold a value. The error shows the fields' names alone, for some values are secrets.
    """
    try:
        # Line breaks within strings are escaped, and JSON has no others unless it is indented.
        text = json.dumps(dict(fields), separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise ConfigError("CONNECT", list(fields), "must have values that JSON can hold") from None
    return f"CONNECT {text}\r\n".encode()


def publish(subject: str, data: bytes, reply: str = "", block: bytes = b"") -> bytes:
    """Return the command that publishes a message: PUB, or HPUB if it has headers.

    Headers and data are not measured: what the server takes of them is in its INFO.

    Args:
        subject: The subject.
        data: The body.
        reply: The subject that answers go to, "" if none are expected.
        block: The header block as `Headers.encode` returns it, b"" for none.

    Raises:
        SubjectError: The subject or the reply subject can't stand in a command.
        MaxPayloadError: The arguments are longer than a server takes.
        TypeError: The data is not bytes.
    """
    arguments = encode_subject("subject", subject)
    if reply != "":
        arguments = b"%b %b" % (arguments, encode_subject("reply", reply))
    if type(data) is not bytes:  # of anything else, len() may count something else than bytes
        raise TypeError(f"data must be bytes, not {type(data).__name__}")
    return answer(arguments, data, block)


def answer(reply: bytes, data: bytes, block: bytes = b"") -> bytes:
    """Return the command that publishes to the reply subject of a message, as that came: PUB, or HPUB with headers.

    It is not checked but for its length: what the server has let through, it takes back.

    Args:
        reply: The reply subject.
        data: The body.
        block: The header block as `Headers.encode` returns it, b"" for none.

    Raises:
        MaxPayloadError: The arguments are longer than a server takes.
    """
    size = len(data)
    if block:
        if len(reply) > _SHORT_ENOUGH:
            _check_length(b"%b %d %d" % (reply, len(block), len(block) + size))
        return b"HPUB %b %d %d\r\n%b%b\r\n" % (reply, len(block), len(block) + size, block, data)
    if len(reply) > _SHORT_ENOUGH:
        _check_length(b"%b %d" % (reply, size))
    if size < len(SIZES):
        return b"".join((b"PUB ", reply, SIZES[size], data, b"\r\n"))
    return b"PUB %b %d\r\n%b\r\n" % (reply, size, data)


def subscribe(subject: str, queue_group: str, sid: int) -> bytes:
    """Return the command that subscribes (SUB).

    Args:
        subject: The subject, perhaps with wildcards.
        queue_group: The queue group, "" for none.
        sid: The number that messages of this subscription will come with, 1 or more.

    Raises:
        SubjectError: The subject, the queue group or the number can't stand in a command.
        MaxPayloadError: The arguments are longer than a server takes.
    """
    arguments = _encode(check_subscription_subject("subject", subject))
    if check_queue_group("queue_group", queue_group):
        arguments = b"%b %b" % (arguments, _encode(queue_group))
    arguments = b"%b %d" % (arguments, _check_sid(sid))
    _check_length(arguments)
    return b"SUB %b\r\n" % arguments


def unsubscribe(sid: int) -> bytes:
    """Return the command that ends a subscription at once (UNSUB).

    Args:
        sid: The number that it was made with.

    Raises:
        SubjectError: That is no such number.
    """
    return b"UNSUB %d\r\n" % _check_sid(sid)


def check_subject(field: str, value: object) -> str:
    """A subject to publish to: text without blanks and control characters.

    Raises:
        SubjectError: It is something else. Bytes that aren't UTF-8 may stand in it as `surrogateescape` decodes them.
    """
    if not isinstance(value, str) or not value:
        raise SubjectError(field, value, "must be a str, and not empty")
    if not SEPARATORS.isdisjoint(value):
        raise SubjectError(field, value, "must not contain blanks or control characters")
    try:
        _encode(value)
    except UnicodeEncodeError:
        raise SubjectError(field, value, "must be encodable as UTF-8") from None
    return value


def check_subscription_subject(field: str, value: object) -> str:
    """A subject to subscribe to: as `check_subject`, with tokens between single dots, and `>` as the last one only.

    As a part of a longer token, `*` and `>` are characters like any other; that is how the server reads them.

    Raises:
        SubjectError: It is something else.
    """
    subject = check_subject(field, value)
    *leading, last = subject.split(".")
    if not last or "" in leading:
        raise SubjectError(field, value, "must be tokens between single dots, none of them empty")
    if ">" in leading:
        raise SubjectError(field, value, "may have > as its last token only")
    return subject


def check_queue_group(field: str, value: object) -> str:
    """A queue group: as `check_subject`, or "" for none.

    Raises:
        SubjectError: It is something else.
    """
    return value if isinstance(value, str) and not value else check_subject(field, value)


def encode_subject(field: str, value: str) -> bytes:
    """Return the bytes of a subject to publish to.

    Raises:
        SubjectError: It can't stand in a command.
    """
    # Nearly every subject passes here, in less than half the time of one search of the pattern. What is printable in
    # ASCII is all but the control characters.
    if type(value) is str and value and value.isascii() and value.isprintable() and " " not in value:
        return value.encode()
    return _encode(check_subject(field, value))


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _check_sid(value: int) -> int:
    if type(value) is not int or not 1 <= value <= _MAX_SID:
        raise SubjectError("sid", value, f"must be an int from 1 to {_MAX_SID}")
    return value


def _check_length(arguments: bytes) -> None:
    if len(arguments) > MAX_CONTROL_LINE:
        raise MaxPayloadError(len(arguments), MAX_CONTROL_LINE, "command line")
