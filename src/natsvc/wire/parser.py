"""What the server sends, from bytes to events: the same events wherever the stream is cut, and never an exception.

A chunk is read once, from front to back, by a BytesIO, whose `readline` and `read` find and cut in C. A message's line,
as servers write it, takes a short way, and a shorter one if another has begun like it; every other spelling that the
protocol allows, and all that it doesn't, is judged by `_parse`, so that the short ways may give up at any doubt.
"""

from __future__ import annotations

import enum
import functools
import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any, Final, TypeAlias, TypeVar

from natsvc.errors import ProtocolError
from natsvc.message import Message
from natsvc.wire.values import Value

__all__ = [
    "MAX_INBOUND_PAYLOAD",
    "MAX_INFO_LINE",
    "MAX_LINE",
    "OK",
    "PING",
    "PONG",
    "ErrorReport",
    "Event",
    "Info",
    "Known",
    "Parser",
    "Verb",
]

MAX_INBOUND_PAYLOAD = 64 * 1024 * 1024
"""The largest message that is taken unless told otherwise, in bytes of headers and data."""

MAX_LINE = 64 * 1024
"""The longest line other than INFO, in bytes with its CRLF; what a server takes itself is 4 KiB by default."""

MAX_INFO_LINE = 1024 * 1024
"""The longest INFO line, in bytes with its CRLF; it may name all servers of a cluster."""

_MAX_DIGITS = 20
"""The longest number, in digits: those of an unsigned integer of 64 bits."""

_READY_NUMBERS = 1025
"""So many numbers, from 0, are looked up rather than read."""

_READ_NUMBERS = 7000
"""So many others are looked up when they have been read once: a message of 4 KiB is parsed in 0.6 x the time."""

_BEGINNINGS = 2048
"""So many beginnings of lines are known at once."""

_LONGEST_BEGINNING = 256
"""The longest of them, in bytes."""

_CRLF = b"\r\n"
_TAB = ord("\t")
_INFO_STARTS = (b"INFO ", b"INFO\t")


class Verb(enum.Enum):
    """The commands that say all they say by their name."""

    PING = "PING"
    PONG = "PONG"
    OK = "+OK"


PING: Final = Verb.PING
"""The server wants a PONG."""

PONG: Final = Verb.PONG
"""The answer to the oldest PING that has had none."""

OK: Final = Verb.OK
"""The server has taken a command; it says so in verbose mode only."""


class Info(Value):
    """The server introduces itself, or tells what has changed (INFO).

    Attributes:
        data: The fields as they came: neither their names nor their values are checked.
    """

    __slots__ = ("data",)

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data


class ErrorReport(Value):
    r"""The server complains (-ERR).

    Attributes:
        text: Its words, without the quotes around them; what isn't UTF-8 is shown as `\xff`.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


_K = TypeVar("_K")

Event: TypeAlias = "tuple[_K | int, Message] | Info | ErrorReport | Verb | ProtocolError"
"""What has come. A message comes with what its subscription is known by, or else with its number (sid).

It comes in a bare tuple: this is the hot path.
"""

Known: TypeAlias = Mapping[bytes, tuple[_K, type[Message]]]
"""Subscriptions by their number (sid) as servers write it: what each is known by, and what its messages are made as."""


class _Head(Value):
    """What the line before a message says; a header size of None is a MSG."""

    __slots__ = ("header_size", "reply", "sid", "size", "subject")

    def __init__(self, sid: int, subject: bytes, reply: bytes, header_size: int | None, size: int) -> None:
        self.sid = sid
        self.subject = subject
        self.reply = reply
        self.header_size = header_size
        self.size = size


class _Numbers:
    """The numbers from 0 to a limit by how they are written.

    Args:
        limit: The largest number there is.
        ending: What must follow the digits.

    Attributes:
        ready: The small ones, and others that have been read. A dict and nothing more, for Python looks into that in
            less than half the time that a subclass with a `__missing__` takes.
    """

    __slots__ = ("_ending", "_limit", "ready")

    def __init__(self, limit: int, ending: bytes = b"") -> None:
        self.ready = {b"%d%b" % (number, ending): number for number in range(min(_READY_NUMBERS, limit + 1))}
        self._limit = limit
        self._ending = ending

    def read(self, written: bytes) -> int:
        """Return any of them.

        Raises:
            ValueError: It is none of them.
        """
        digits = written.removesuffix(self._ending)
        # int() would also take signs, underscores and blanks.
        if written.endswith(self._ending) and digits.isdigit() and len(digits) <= _MAX_DIGITS:
            number = int(digits)
            if number <= self._limit:
                if len(self.ready) < _READY_NUMBERS + _READ_NUMBERS:
                    self.ready[written] = number
                return number
        raise ValueError(f"a number that is not one from 0 to {self._limit}")


_numbers = functools.lru_cache(maxsize=8)(_Numbers)
"""The tables are the same for all connections with the same limit."""

_DECIMALS: Final = _numbers(10**_MAX_DIGITS - 1)

_NONE_KNOWN: Final[Known[Any]] = {}


class Parser:
    """The reading side of one connection: bytes in, events out.

    Args:
        max_inbound_payload: The largest message that is taken, in bytes of headers and data. Default: 64 MiB.

    Attributes:
        has_only_known: Whether all that was found last are messages of known subscriptions.
    """

    __slots__ = ("_beginnings", "_enough", "_head", "_is_broken", "_sizes", "_unfinished", "has_only_known")

    def __init__(self, *, max_inbound_payload: int = MAX_INBOUND_PAYLOAD) -> None:
        self.has_only_known = True
        self._sizes = _numbers(max_inbound_payload, _CRLF)
        self._beginnings: dict[
            bytes, tuple[bytes, bytes]
        ] = {}  # how lines have begun ("MSG subject sid"): subject and sid
        self._is_broken = False
        self._unfinished: BytesIO | None = None  # the start of a line, or what of a message has come after its line
        self._head: _Head | None = None  # the line of that message
        self._enough = 0  # with so many bytes the message is whole, or the line too long

    @property
    def buffered(self) -> int:
        """How many bytes are kept until the rest of their line or message has come."""
        return 0 if self._unfinished is None else self._unfinished.tell()

    def feed(self, data: bytes, known: Known[_K] = _NONE_KNOWN) -> list[Event[_K]]:
        """Take the next bytes of the stream and return what they complete, in order.

        Nothing is raised, whatever the bytes. Where they break the protocol or a limit, a ProtocolError is the last
        event of the stream: nothing is read after it, for nothing tells what that would be.

        Args:
            data: The bytes.
            known: The subscriptions.
        """
        events: list[Event[_K]] = []
        self.has_only_known = True
        if self._is_broken:
            return events
        stream, head = self._unfinished, self._head
        if stream is None:
            stream = BytesIO(data)
        else:
            stream.write(data)
            if stream.tell() < self._enough and (head is not None or b"\n" not in data):
                return events
            stream.seek(0)
            self._unfinished = self._head = None
        if head is None or self._read_message(head, stream, known, events):
            line = self._read_requests(stream, known, events)
            self._read_commands(line, stream, known, events)
        return events

    def _read_requests(self, stream: BytesIO, known: Known[_K], events: list[Event[_K]]) -> bytes:
        """Read messages that want an answer and go where others went before; return the first line that says otherwise.

        Their lines differ from one another in their ends only. That is 0.97 x the time of a request.
        """
        append, readline, read = events.append, stream.readline, stream.read
        beginnings, sizes = self._beginnings, self._sizes.ready
        line = b""
        try:
            while line := readline(MAX_LINE):
                beginning, reply, size_digits = line.rsplit(b" ", 2)
                subject, sid_digits = beginnings[beginning]
                (subscription, make), size = known[sid_digits], sizes[size_digits]
                if _TAB in reply:
                    break
                data = read(size)
                end = read(2)
                if end != _CRLF:
                    self._stop(_Head(_DECIMALS.read(sid_digits), subject, reply, None, size), data, end, events)
                    return b""
                append((subscription, make(subject, data, reply, None)))
        except (KeyError, ValueError):
            pass
        return line

    def _read_commands(self, line: bytes, stream: BytesIO, known: Known[_K], events: list[Event[_K]]) -> None:
        """Read from this line on to the end of the stream; stop where a command is unfinished or none."""
        append, readline, read = events.append, stream.readline, stream.read
        numbers, sizes = _DECIMALS.ready, self._sizes.ready
        header_size: int | None
        subscription: _K | int
        make: type[Message]
        first = line
        while line:
            try:
                match line.split(b" "):
                    case [b"MSG", subject, sid_digits, reply, size_digits]:
                        header_size = None
                        if line is first:
                            self._learn(line, subject, sid_digits)
                    case [b"MSG", subject, sid_digits, size_digits]:
                        reply, header_size = b"", None
                    case [b"HMSG", subject, sid_digits, reply, header_digits, size_digits]:
                        header_size = numbers.get(header_digits) or _DECIMALS.read(header_digits)
                    case [b"HMSG", subject, sid_digits, header_digits, size_digits]:
                        reply, header_size = b"", numbers.get(header_digits) or _DECIMALS.read(header_digits)
                    case _:
                        raise ValueError
                try:
                    (subscription, make), size = known[sid_digits], sizes[size_digits]
                except KeyError:
                    subscription, make = self._find(_DECIMALS.read(sid_digits), known)
                    size = self._sizes.read(size_digits)
                if not subject or _TAB in line or (header_size is not None and header_size > size):
                    raise ValueError
            except ValueError:
                if self._read_command(line, stream, known, events):
                    line = readline(MAX_LINE)
                    continue
                return
            if header_size is None:
                block, data = None, read(size)
            else:
                block, data = read(header_size), read(size - header_size)
            end = read(2)
            if end != _CRLF:
                head = _Head(_DECIMALS.read(sid_digits), subject, reply, header_size, size)
                self._stop(head, (block or b"") + data, end, events)
                return
            append((subscription, make(subject, data, reply, block)))
            line = readline(MAX_LINE)

    def _learn(self, line: bytes, subject: bytes, sid_digits: bytes) -> None:
        """Know a line's beginning from now on."""
        beginning = line.rsplit(b" ", 2)[0]
        if subject and _TAB not in beginning and len(beginning) <= _LONGEST_BEGINNING:
            if len(self._beginnings) == _BEGINNINGS:
                self._beginnings.clear()
            self._beginnings[beginning] = subject, sid_digits

    def _find(self, sid: int, known: Known[_K]) -> tuple[_K | int, type[Message]]:
        found = known.get(b"%d" % sid)
        if found is None:
            self.has_only_known = False
            return sid, Message
        return found

    def _read_command(self, line: bytes, stream: BytesIO, known: Known[_K], events: list[Event[_K]]) -> bool:
        """Read one command, however it is spelled; return whether the next one can be read."""
        if not line.endswith(b"\n"):
            limit = MAX_LINE
            if line[:5].upper() in _INFO_STARTS:
                limit = MAX_INFO_LINE
                line += stream.readline(limit - len(line))
            if not line.endswith(b"\n"):
                if len(line) < limit:
                    self._keep(line, enough=limit)
                else:
                    self._break(f"a line of more than {limit} bytes", line, events)
                return False
        try:
            command = _parse(line, self._sizes)
        except ValueError as error:
            self._break(str(error), line, events)
            return False
        if isinstance(command, _Head):
            return self._read_message(command, stream, known, events)
        self.has_only_known = False
        events.append(command)
        return True

    def _read_message(self, head: _Head, stream: BytesIO, known: Known[_K], events: list[Event[_K]]) -> bool:
        """Read what comes after a message's line; return whether the next command can be read."""
        header_size, size = head.header_size, head.size
        block = None if header_size is None else stream.read(header_size)
        data = stream.read(size - (header_size or 0))
        end = stream.read(len(_CRLF))
        if end != _CRLF:
            self._stop(head, (block or b"") + data, end, events)
            return False
        subscription, make = self._find(head.sid, known)
        events.append((subscription, make(head.subject, data, head.reply, block)))
        return True

    def _stop(self, head: _Head, content: bytes, end: bytes, events: list[Event[_K]]) -> None:
        """Stop at a message that is not whole, or that goes on where it should end."""
        if len(end) < len(_CRLF):
            self._keep(content + end, enough=head.size + len(_CRLF), head=head)
        else:
            self._break(f"a message of {head.size} bytes that is not followed by CRLF", end, events)

    def _keep(self, start: bytes, *, enough: int, head: _Head | None = None) -> None:
        self._unfinished = BytesIO()
        self._unfinished.write(start)
        self._enough = enough
        self._head = head

    def _break(self, problem: str, received: bytes, events: list[Event[_K]]) -> None:
        self._is_broken = True
        self.has_only_known = False
        events.append(ProtocolError(problem, received))


def _parse(line: bytes, sizes: _Numbers) -> _Head | Info | ErrorReport | Verb:
    """Read a whole line, or raise a ValueError that names the rule it breaks."""
    if not line.endswith(_CRLF):
        raise ValueError("a line that does not end in CRLF")
    line = line.removesuffix(_CRLF)
    verb = line.replace(b"\t", b" ").partition(b" ")[0]
    rest = line[len(verb) :].strip(b" \t")
    match verb.upper():
        case b"MSG" | b"HMSG" as name:
            arguments = rest.replace(b"\t", b" ").split(b" ")
            return _parse_head(name, [argument for argument in arguments if argument], sizes)
        case b"PING" | b"PONG" | b"+OK" as name:
            if rest:
                raise ValueError(f"{name.decode()} with arguments")
            return Verb(name.decode())
        case b"-ERR":
            return ErrorReport(rest.decode("utf-8", "backslashreplace").removeprefix("'").removesuffix("'"))
        case b"INFO":
            return Info(_parse_fields(rest))
        case _:
            raise ValueError("an unknown command")


def _parse_head(verb: bytes, arguments: list[bytes], sizes: _Numbers) -> _Head:
    header_digits: bytes | None = None
    match [verb, *arguments]:
        case [b"MSG", subject, sid_digits, reply, size_digits]:
            pass
        case [b"MSG", subject, sid_digits, size_digits]:
            reply = b""
        case [b"HMSG", subject, sid_digits, reply, header_digits, size_digits]:
            pass
        case [b"HMSG", subject, sid_digits, header_digits, size_digits]:
            reply = b""
        case _:
            raise ValueError(f"{verb.decode()} with {len(arguments)} arguments")
    sid, size = _DECIMALS.read(sid_digits), sizes.read(size_digits + _CRLF)
    header_size = None if header_digits is None else _DECIMALS.read(header_digits)
    if header_size is not None and header_size > size:
        raise ValueError("a header block larger than the whole message")
    return _Head(sid, subject, reply, header_size, size)


def _parse_fields(text: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(text.decode())
    except (ValueError, RecursionError):  # also the number that is too long for int(), and nesting without end
        fields = None
    if not isinstance(fields, dict):
        raise ValueError("INFO without a JSON object")
    return fields
