"""The server's bytes as events: all that the protocol allows, nothing that it doesn't, and the same for any cuts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natsvc.errors import ProtocolError
from natsvc.message import Message
from natsvc.wire.parser import (
    _BEGINNINGS,
    _LONGEST_BEGINNING,
    _READ_NUMBERS,
    _READY_NUMBERS,
    MAX_INBOUND_PAYLOAD,
    MAX_INFO_LINE,
    MAX_LINE,
    OK,
    PING,
    PONG,
    ErrorReport,
    Event,
    Info,
    Known,
    Parser,
    _Numbers,
)

INFO_FIELDS = {
    "server_id": "NBD6SLXDMXZ5LJHO5CDSYA4P2YEPWFICZW6U7OW5FBIF4SSEKDU5FQKX",
    "server_name": "recorded",
    "version": "2.15.1",
    "proto": 1,
    "headers": True,
    "max_payload": 1048576,
    "client_id": 5,
    "client_ip": "127.0.0.1",
}
INFO_LINE = b"INFO " + json.dumps(INFO_FIELDS, separators=(",", ":")).encode() + b" \r\n"

# What nats-server 2.15.1 sent (INFO with some fields less). The clients said, besides CONNECT and PING: in the first,
# SUB and PUB, HPUB, a request that nobody answers, a subject that isn't UTF-8, and BOGUS, all of it in verbose mode; in
# the second, SUB and PUB without permission, and a body of line breaks; in the third, a wrong password.
VERBOSE = (
    INFO_LINE + b"+OK\r\nPONG\r\n+OK\r\n+OK\r\n+OK\r\n"
    b"MSG greet.joe 1 5\r\nhello\r\n+OK\r\n"
    b"MSG greet.joe 1 _INBOX.r.1 0\r\n\r\n+OK\r\n"
    b"HMSG greet.sue 1 _INBOX.r.2 26 31\r\nNATS/1.0\r\nColour: blue\r\n\r\nhello\r\n+OK\r\n"
    b"HMSG _INBOX.r.3 2 38 38\r\nNATS/1.0 503\r\nNats-Subject: nobody\r\n\r\n\r\n+OK\r\n"
    b"MSG greet.\xff\xc3\xa9 1 _INBOX.r.\xfe 2\r\n\r\n\r\nPONG\r\n"
    b"-ERR 'Unknown Protocol Operation'\r\n"
)
RESTRICTED = (
    INFO_LINE + b"PONG\r\n"
    b'-ERR \'Permissions Violation for Subscription to "secret" using queue "q"\'\r\n'
    b"-ERR 'Permissions Violation for Publish to \"secret\"'\r\n"
    b"MSG greet.x 9007199254740993 4\r\n\r\n\r\n\r\nPONG\r\n"
)
REFUSED = INFO_LINE + b"-ERR 'Authorization Violation'\r\n"


KNOWN = {b"%d" % sid: (sid, Message) for sid in range(0, 1000, 2)}
"""Known by their number, so that nothing else than without it must come of it."""


def feed_all(parser: Parser, pieces: Iterable[bytes], known: Known[Any] = KNOWN) -> list[Event[Any]]:
    return [event for piece in pieces for event in parser.feed(piece, known)]


def parse(data: bytes) -> list[Event[Any]]:
    return Parser().feed(data)


def comparable(events: Iterable[Event[Any]]) -> list[Any]:
    """Events as values that are equal if the events say the same."""
    values: list[Any] = []
    for event in events:
        if isinstance(event, tuple):
            sid, message = event
            values.append((sid, message.subject, message.reply, message.data, message._headers))
        elif isinstance(event, ProtocolError):
            values.append((ProtocolError, event.problem, event.received))
        else:
            values.append(event)
    return values


def only_message(data: bytes) -> tuple[int, Message]:
    event: Any
    (event,) = parse(data)
    assert isinstance(event, tuple)
    return event


def only_problem(data: bytes, parser: Parser | None = None) -> ProtocolError:
    event: Any
    (event,) = (parser or Parser()).feed(data)
    assert isinstance(event, ProtocolError)
    return event


# What is recorded


def test_a_recorded_verbose_session_is_read() -> None:
    assert comparable(parse(VERBOSE)) == [
        Info(INFO_FIELDS),
        OK,
        PONG,
        OK,
        OK,
        OK,
        (1, "greet.joe", "", b"hello", None),
        OK,
        (1, "greet.joe", "_INBOX.r.1", b"", None),
        OK,
        (1, "greet.sue", "_INBOX.r.2", b"hello", b"NATS/1.0\r\nColour: blue\r\n\r\n"),
        OK,
        (2, "_INBOX.r.3", "", b"", b"NATS/1.0 503\r\nNats-Subject: nobody\r\n\r\n"),
        OK,
        (1, "greet.\udcffé", "_INBOX.r.\udcfe", b"\r\n", None),
        PONG,
        ErrorReport("Unknown Protocol Operation"),
    ]


def test_a_recorded_session_without_permissions_is_read() -> None:
    assert comparable(parse(RESTRICTED)) == [
        Info(INFO_FIELDS),
        PONG,
        ErrorReport('Permissions Violation for Subscription to "secret" using queue "q"'),
        ErrorReport('Permissions Violation for Publish to "secret"'),
        (9007199254740993, "greet.x", "", b"\r\n\r\n", None),
        PONG,
    ]


def test_a_recorded_refusal_is_read() -> None:
    assert parse(REFUSED) == [Info(INFO_FIELDS), ErrorReport("Authorization Violation")]


@pytest.mark.parametrize("session", [VERBOSE, RESTRICTED, REFUSED])
def test_a_recorded_session_cut_at_any_place_is_the_same(session: bytes) -> None:
    whole = comparable(parse(session))
    for cut in range(len(session) + 1):
        assert comparable(feed_all(Parser(), (session[:cut], session[cut:]))) == whole


@pytest.mark.parametrize("session", [VERBOSE, RESTRICTED, REFUSED])
@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_a_recorded_session_in_small_pieces_is_the_same(session: bytes, length: int) -> None:
    parser = Parser()
    pieces = [session[start : start + length] for start in range(0, len(session), length)]
    assert comparable(feed_all(parser, pieces)) == comparable(parse(session))
    assert parser.buffered == 0


# Spellings


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"PING\r\n", PING),
        (b"ping\r\n", PING),
        (b"PONG\r\n", PONG),
        (b"PoNg \t\r\n", PONG),
        (b"+OK\r\n", OK),
        (b"+ok\r\n", OK),
        (b"-ERR 'Stale Connection'\r\n", ErrorReport("Stale Connection")),
        (b"-err\t'it''s said'\r\n", ErrorReport("it''s said")),
        (b"-ERR bare words \r\n", ErrorReport("bare words")),
        (b"-ERR\r\n", ErrorReport("")),
        (b"-ERR ''\r\n", ErrorReport("")),
        (b"-ERR '\r\n", ErrorReport("")),
        (b"-ERR 'no \xff, \xc3\xa9'\r\n", ErrorReport("no \\xff, é")),
        (b"INFO {}\r\n", Info({})),
        (b'info\t {"a": [1]}\r\n', Info({"a": [1]})),
        (b'INFO {"name":"\xc3\xa9 x"}\r\n', Info({"name": "é x"})),
    ],
)
def test_a_verb_is_known_in_any_case(line: bytes, event: Event[Any]) -> None:
    assert parse(line) == [event]


@pytest.mark.parametrize(
    "line",
    [
        b"MSG a.b 7 r 2\r\n",
        b"msg a.b 7 r 2\r\n",
        b"MSG\ta.b\t7\tr\t2\r\n",
        b"MSG  a.b  7  r  2\r\n",
        b"MSG a.b\t7 r 2\r\n",
        b"MSG a.b 7\tr 2\r\n",
        b"MSG a.b 7 r\t2\r\n",
        b"MSG \t a.b 7 r 2 \t \r\n",
        b"MSG a.b 07 r 002\r\n",
    ],
)
def test_blanks_of_any_kind_and_number_separate_the_arguments_of_msg(line: bytes) -> None:
    assert comparable(parse(line + b"hi\r\nPING\r\n")) == [(7, "a.b", "r", b"hi", None), PING]


@pytest.mark.parametrize("line", [b"HMSG a 7 r 12 14\r\n", b"hMsG a\t7  r 12\t14 \r\n", b"HMSG a  7 r 12 14\r\n"])
def test_blanks_of_any_kind_and_number_separate_the_arguments_of_hmsg(line: bytes) -> None:
    block = b"NATS/1.0\r\n\r\n"
    assert comparable(parse(line + block + b"hi\r\nPING\r\n")) == [(7, "a", "r", b"hi", block), PING]


@pytest.mark.parametrize("line", [b"MSG  1 2 3\r\n", b"MSG\t1 2 3\r\n", b"MSG 1  2 3\r\n", b"MSG 1 2  3\r\n"])
def test_a_second_blank_is_no_empty_argument(line: bytes) -> None:
    assert comparable(parse(line + b"abc\r\n")) == [(2, "1", "", b"abc", None)]


@pytest.mark.parametrize("character", ["\x00", "\x0b", "\x0c", "\x1c", "\x85", "\xa0", "\u2028", "\u3000"])
def test_only_blanks_and_tabs_separate_arguments(character: str) -> None:
    subject = f"a{character}5"
    sid, message = only_message(f"MSG {subject} 1 3\r\nabc\r\n".encode())
    assert (sid, message.subject, message.reply) == (1, subject, "")


@pytest.mark.parametrize("line", [b"MSG %b 1 %b 0\r\n\r\n", b"msg %b 1 %b 0\r\n\r\n"])
def test_subject_and_reply_give_back_their_bytes(line: bytes) -> None:
    subject, reply = bytes(range(0x80, 0x100)), b"\xc3\xa9.\xed\xa0\x80"
    _, message = only_message(line % (subject, reply))
    assert message.subject.encode("utf-8", "surrogateescape") == subject
    assert message.reply.encode("utf-8", "surrogateescape") == reply


@pytest.mark.parametrize(
    "data",
    [
        b"MSG a 1 1\r\nx\r\n",
        b"MSG a 1 r 1\r\nx\r\n",
        b"HMSG a 1 12 13\r\nNATS/1.0\r\n\r\nx\r\n",
        b"HMSG a 1 r 12 13\r\nNATS/1.0\r\n\r\nx\r\n",
        b"msg a 1 1\r\nx\r\n",
        b"hmsg a 1 12 13\r\nNATS/1.0\r\n\r\nx\r\n",
    ],
)
@pytest.mark.parametrize("cut", [0, 7, -3])
def test_a_message_is_made_as_its_subscription_wants_it(data: bytes, cut: int) -> None:
    class Own(Message):
        pass

    for known, kind in ({b"1": ("one", Own)}, Own), ({b"2": ("two", Own)}, Message):
        events: list[Event[str]] = feed_all(Parser(), (data[:cut], data[cut:]), known)
        (event,) = events
        assert isinstance(event, tuple)
        assert type(event[1]) is kind
        assert vars(event[1]).keys() == vars(Message("a")).keys()


@pytest.mark.parametrize("size", [0, 1, 1024, 1025, 70_000])
@pytest.mark.parametrize("verb", [b"MSG", b"msg"])
def test_a_payload_may_hold_anything(size: int, verb: bytes) -> None:
    payload = (b"\r\nMSG a 1 5\r\n\x00\xff" * (size // 14 + 1))[:size]
    data = b"%b a 1 %d\r\n%b\r\nPONG\r\n" % (verb, size, payload)
    assert comparable(parse(data)) == [(1, "a", "", payload, None), PONG]
    assert comparable(feed_all(Parser(), (data[:30], data[30:]))) == [(1, "a", "", payload, None), PONG]


@pytest.mark.parametrize(
    ("block", "headers"),
    [
        (b"", {}),
        (b"NATS/1.0\r\n\r\n", {}),
        (b"NATS/1.0\r\nA: b\r\n\r\n", {"A": "b"}),
        (b"NATS/1.0 503\r\n\r\n", {"Status": "503"}),
        (b"no block at all", {}),
        (b"NATS/1.0\r\nno colon\r\n: no name\r\nA: b", {"A": "b"}),
        (b"NATS/1.0\r\nA: \xff\r\n\r\n", {"A": "\udcff"}),
        (b"\r\n\r\n\r\n", {}),
        (b"\x00\xff", {}),
    ],
)
def test_a_header_block_is_kept_as_it_is_and_read_leniently(block: bytes, headers: dict[str, str]) -> None:
    _, message = only_message(b"HMSG a 1 %d %d\r\n%bhi\r\n" % (len(block), len(block) + 2, block))
    assert message._headers == block
    assert message.data == b"hi"
    assert dict(message.headers) == headers


# What breaks the stream


@pytest.mark.parametrize(
    "line",
    [
        b"\r\n",
        b" PING\r\n",
        b"BOGUS\r\n",
        b"PUB a 1\r\n",
        b"PINGS\r\n",
        b"PIN\r\n",
        b"+OKAY\r\n",
        b"-ERR'x'\r\n",
        b"MSGa 1 0\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\xff\xfe\r\n",
        b"PING\r\r\n",
    ],
)
def test_an_unknown_command_breaks_the_stream(line: bytes) -> None:
    error = only_problem(line)
    assert error.problem == "an unknown command"
    assert error.received == line


@pytest.mark.parametrize("line", [b"PING now\r\n", b"PONG x\r\n", b"+OK x\r\n"])
def test_a_command_without_arguments_has_none(line: bytes) -> None:
    assert "with arguments" in only_problem(line).problem


@pytest.mark.parametrize(
    ("line", "count"),
    [
        (b"MSG\r\n", 0),
        (b"MSG \r\n", 0),
        (b"MSG a\r\n", 1),
        (b"MSG a 1\r\n", 2),
        (b"MSG a 1 r 2 3\r\n", 5),
        (b"MSG a\tb 1 2 3\r\n", 5),
        (b"HMSG a 1 2\r\n", 3),
        (b"HMSG a 1 r 2 3 4\r\n", 6),
    ],
)
def test_a_wrong_number_of_arguments_breaks_the_stream(line: bytes, count: int) -> None:
    assert only_problem(line).problem == f"{line.split()[0].decode()} with {count} arguments"


NO_NUMBERS = [
    *("-1", "+1", "1_0", "0x1", "1.0", "1e3", "x", "\u0661", "\u00b2", "\uff11", "\u00a01", "1\x0b", "\x00"),
    "1" * 21,
    "1" * 5000,
]


@pytest.mark.parametrize("number", NO_NUMBERS)
@pytest.mark.parametrize("line", ["MSG a {} 0", "MSG a {} r 0", "MSG a 1 {}", "MSG a 1 r {}", "msg a {} 1"])
def test_only_decimal_digits_are_a_number_of_msg(line: str, number: str) -> None:
    assert "a number that is not one from 0 to" in only_problem(line.format(number).encode() + b"\r\n").problem


@pytest.mark.parametrize("number", NO_NUMBERS)
@pytest.mark.parametrize(
    "line", ["HMSG a {} 0 0", "HMSG a 1 {} 9", "HMSG a 1 0 {}", "HMSG a 1 r {} 9", "hmsg a 1 {} 9"]
)
def test_only_decimal_digits_are_a_number_of_hmsg(line: str, number: str) -> None:
    assert "a number that is not one from 0 to" in only_problem(line.format(number).encode() + b"\r\n").problem


def test_the_largest_sid_has_twenty_digits() -> None:
    sid, _ = only_message(b"MSG a 99999999999999999999 0\r\n\r\n")
    assert sid == 10**20 - 1


@pytest.mark.parametrize("line", [b"HMSG a 1 2 1\r\n", b"HMSG a 1 r 13 12\r\n", b"hmsg a 1 1 0\r\n"])
def test_a_header_block_is_no_larger_than_the_message(line: bytes) -> None:
    assert only_problem(line).problem == "a header block larger than the whole message"


@pytest.mark.parametrize(
    "data",
    [
        b"MSG a 1 2\r\nabcd\r\n",
        b"MSG a 1 2\r\nabc\r\n",
        b"MSG a 1 2\r\nab\n\r",
        b"MSG a 1 2\r\nab\rx",
        b"MSG a 1 2\r\na\r\nPING\r\n",
        b"msg a 1 2\r\nabcd\r\n",
        b"HMSG a 1 1 2\r\nabcd\r\n",
        b"hmsg a 1 1 2\r\nabcd\r\n",
    ],
)
def test_a_message_that_is_not_followed_by_crlf_breaks_the_stream(data: bytes) -> None:
    whole = comparable(parse(data))
    assert whole[0][:2] == (ProtocolError, "a message of 2 bytes that is not followed by CRLF")
    for cut in range(len(data)):
        assert comparable(feed_all(Parser(), (data[:cut], data[cut:]))) == whole


@pytest.mark.parametrize("line", [b"PING\n", b"\n", b"MSG a 1 0\n", b"INFO {}\n"])
def test_a_line_without_a_carriage_return_breaks_the_stream(line: bytes) -> None:
    assert only_problem(line).problem == "a line that does not end in CRLF"


DEEP = sys.getrecursionlimit() * 100


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"1",
        b'"text"',
        b"{} {}",
        b"{'a': 1}",
        b'{"a": "\xff"}',
        b'{"a": "x\ty"}',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b'{"a": ' + b"9" * 10_000 + b"}",
        b"[" * DEEP + b"]" * DEEP,
        b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    ],
)
def test_info_without_a_json_object_breaks_the_stream(text: bytes) -> None:
    assert only_problem(b"INFO " + text + b"\r\n").problem == "INFO without a JSON object"


def test_messages_come_with_what_their_subscription_is_known_by_however_its_number_is_written() -> None:
    parser = Parser()
    known = {b"7": ("seven", Message), b"1234567": ("many", Message)}
    found = [
        *parser.feed(
            b"MSG a 7 1\r\nx\r\nMSG a 007 r 1\r\nx\r\nHMSG a 1234567 12 12\r\nNATS/1.0\r\n\r\n\r\nmsg a 7 1\r\nx\r\n",
            known,
        ),
        *parser.feed(b"MSG a 7 5\r\nx", known),
        *parser.feed(b"yzzy\r\n", known),
    ]
    assert [event[0] for event in found if isinstance(event, tuple)] == ["seven", "seven", "many", "seven", "seven"]
    assert parser.has_only_known


REQUEST = b"MSG a 8 r.1 1\r\nx\r\n"


def test_requests_to_one_subject_are_read_alike_however_many_came_before() -> None:
    parser = Parser()
    for number in (1, 2, 3):
        events = parser.feed(b"MSG a 8 r.%d 1\r\nx\r\nMSG a 8 s 0\r\n\r\nPING\r\n" % number, KNOWN)
        assert comparable(events) == [(8, "a", f"r.{number}", b"x", None), (8, "a", "s", b"", None), PING]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"MSG a 8 1\r\nx\r\n", (8, "a", "", b"x", None)),
        (b"MSG a 9 r 1\r\nx\r\n", (9, "a", "r", b"x", None)),
        (b"MSG a 8 r\ts 1\r\nx\r\n", (ProtocolError, "MSG with 5 arguments", b"MSG a 8 r\ts 1\r\n")),
        (b"MSG a 8 r 1\r\nxPING\r\n", (ProtocolError, "a message of 1 bytes that is not followed by CRLF", b"PI")),
        (b"MSG a 8 r 1\nx\r\n", (ProtocolError, "a line that does not end in CRLF", b"MSG a 8 r 1\n")),
        (b"MSG a 8 r 01\r\nx\r\n", (8, "a", "r", b"x", None)),
        (b"MSG a 8 r -1\r\n", (ProtocolError, "a number that is not one from 0 to 67108864", b"MSG a 8 r -1\r\n")),
        (b"HMSG a 8 r 1 1\r\nx\r\n", (8, "a", "r", b"", b"x")),
        (b"msg a 8 r 1\r\nx\r\n", (8, "a", "r", b"x", None)),
    ],
)
def test_another_line_than_those_before_is_read_as_the_first_one_would_be(line: bytes, found: object) -> None:
    parser = Parser()
    for _ in range(2):
        parser.feed(REQUEST, KNOWN)
    assert comparable(parser.feed(REQUEST + line, KNOWN)) == [(8, "a", "r.1", b"x", None), found]


def test_a_blank_too_many_is_no_empty_subject_also_when_it_comes_again() -> None:
    parser = Parser()
    known = {b"1": ("one", Message), b"2": ("two", Message)}
    for _ in range(2):
        (event,) = parser.feed(b"MSG  1 2 1\r\nx\r\n", known)
        assert comparable([event]) == [("two", "1", "", b"x", None)]


def test_a_subscription_that_is_no_longer_known_is_not_known_by_its_messages_either() -> None:
    parser = Parser()
    for known, found in (({b"8": ("eight", Message)}, "eight"), ({b"8": ("other", Message)}, "other"), ({}, 8)):
        for _ in range(2):
            (event,) = parser.feed(REQUEST, known)
            assert isinstance(event, tuple)
            assert event[0] == found
            assert parser.has_only_known is (found != 8)


@pytest.mark.parametrize("place", range(1, len(REQUEST)))
def test_a_request_like_those_before_may_come_in_pieces(place: int) -> None:
    parser = Parser()
    parser.feed(REQUEST, KNOWN)
    events = feed_all(parser, (REQUEST + REQUEST[:place], REQUEST[place:] + REQUEST))
    assert comparable(events) == [(8, "a", "r.1", b"x", None)] * 3


def test_how_lines_begin_is_not_kept_without_end() -> None:
    parser = Parser()
    for number in range(2 * _BEGINNINGS + 10):
        (event,) = comparable(parser.feed(b"MSG a.%d 8 r 0\r\n\r\n" % number, KNOWN))
        assert event == (8, f"a.{number}", "r", b"", None)
        assert len(parser._beginnings) <= _BEGINNINGS
    long = b"a" * _LONGEST_BEGINNING
    (event,) = comparable(parser.feed(b"MSG %b 8 r 0\r\n\r\n" % long, KNOWN))
    assert event == (8, long.decode(), "r", b"", None)
    assert max(map(len, parser._beginnings)) <= _LONGEST_BEGINNING


def test_numbers_are_kept_once_read_but_not_without_end() -> None:
    table = _Numbers(10**6, b"\r\n")
    assert table.read(b"5000\r\n") == 5000
    assert table.ready[b"5000\r\n"] == 5000
    for number in range(20_000):
        assert table.read(b"0%d\r\n" % number) == number
    assert len(table.ready) == _READY_NUMBERS + _READ_NUMBERS
    assert table.read(b"900000\r\n") == 900_000
    for wrong in (b"1000001\r\n", b"5 \r\n", b"+5\r\n", b"5", b"\r\n", b"0" * 30 + b"\r\n"):
        with pytest.raises(ValueError, match="a number"):
            table.read(wrong)
        assert wrong not in table.ready


@pytest.mark.parametrize("other", [b"PING\r\n", b"MSG a 8 1\r\nx\r\n", b"msg a 8 1\r\nx\r\n", b"BOGUS\r\n"])
def test_it_tells_whether_there_was_anything_but_messages_of_known_subscriptions(other: bytes) -> None:
    parser = Parser()
    message = b"MSG a 7 1\r\nx\r\n"
    known = {b"7": ("seven", Message)}
    for data, has_only_known in ((message, True), (message + other, False), (b"", True)):
        parser.feed(data, known)
        assert parser.has_only_known is has_only_known
    parser = Parser()
    parser.feed(other + message, known)
    assert not parser.has_only_known


def test_events_before_the_break_are_given_and_none_after_it() -> None:
    parser = Parser()
    events: list[Event[Any]] = parser.feed(b"PING\r\nMSG a 1 1\r\nx\r\nBOGUS\r\nPING\r\n")
    assert comparable(events) == [
        PING,
        (1, "a", "", b"x", None),
        (ProtocolError, "an unknown command", b"BOGUS\r\n"),
    ]
    assert parser.feed(b"PING\r\n") == []
    assert parser.feed(b"") == []
    assert parser.buffered == 0


def test_a_problem_holds_no_traceback_and_no_other_error() -> None:
    for data in (b"BOGUS\r\n", b"MSG a x 1\r\n", b"INFO {\r\n"):
        error = only_problem(data)
        assert error.__traceback__ is None
        assert error.__context__ is None


# Limits


def pieces_of(data: bytes, length: int) -> list[bytes]:
    return [data[start : start + length] for start in range(0, len(data), length)]


def padded(start: bytes, end: bytes, size: int) -> bytes:
    return start + b"x" * (size - len(start) - len(end)) + end


@pytest.mark.parametrize(
    ("start", "end", "limit"),
    [
        (b"MSG a", b" 1 0\r\n", MAX_LINE),
        (b"HMSG a 1 r", b" 0 0\r\n", MAX_LINE),
        (b"-ERR '", b"'\r\n", MAX_LINE),
        (b'INFO {"a":"', b'"}\r\n', MAX_INFO_LINE),
        (b'info\t{"a":"', b'"}\r\n', MAX_INFO_LINE),
    ],
)
@pytest.mark.parametrize("length", [1000, 4096, MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, MAX_INFO_LINE + 2])
def test_a_line_has_a_limit_however_it_comes(start: bytes, end: bytes, limit: int, length: int) -> None:
    # The message of a MSG line is empty: its CRLF would be another line otherwise.
    allowed = feed_all(Parser(), pieces_of(padded(start, end, limit) + b"\r\n", length))
    assert not isinstance(allowed[0], ProtocolError)
    refused = feed_all(Parser(), pieces_of(padded(start, end, limit + 1) + b"\r\n", length))
    assert comparable(refused) == [
        (ProtocolError, f"a line of more than {limit} bytes", padded(start, b"", 200)),
    ]


@pytest.mark.parametrize("start", [b"", b"MSG ", b"INFO", b"INFORM ", b"PING"])
def test_a_line_that_never_ends_is_not_kept_beyond_its_limit(start: bytes) -> None:
    parser = Parser()
    most = 0
    events: list[Event[Any]] = parser.feed(start)
    for _ in range(2 * MAX_LINE // 1000):
        events += parser.feed(b"x" * 1000)
        most = max(most, parser.buffered)
    assert comparable(events) == [(ProtocolError, "a line of more than 65536 bytes", padded(start, b"", 200))]
    assert MAX_LINE - 1000 <= most < MAX_LINE
    assert parser.buffered == 0


@pytest.mark.parametrize("start", [(b"INFO {",), (b"I", b"NFO {"), (b"INFO", b"\t{")])
def test_an_info_that_never_ends_is_not_kept_beyond_its_limit(start: tuple[bytes, ...]) -> None:
    parser = Parser()
    most = 0
    events = feed_all(parser, start)
    for _ in range(2 * MAX_INFO_LINE // 10_000):
        events += parser.feed(b" " * 10_000)
        most = max(most, parser.buffered)
    (error,) = events
    assert isinstance(error, ProtocolError)
    assert error.problem == "a line of more than 1048576 bytes"
    assert MAX_INFO_LINE - 10_000 <= most < MAX_INFO_LINE


@pytest.mark.parametrize("verb", [b"MSG", b"msg"])
def test_a_message_has_a_limit(verb: bytes) -> None:
    parser = Parser(max_inbound_payload=100)
    assert len(parser.feed(b"%b a 1 100\r\n" % verb + b"x" * 100 + b"\r\n")) == 1
    assert only_problem(b"%b a 1 101\r\n" % verb, parser).problem == "a number that is not one from 0 to 100"


@pytest.mark.parametrize("verb", [b"HMSG", b"hmsg"])
def test_headers_count_in_the_size_of_a_message(verb: bytes) -> None:
    parser = Parser(max_inbound_payload=2000)
    assert len(parser.feed(b"%b a 1 1500 2000\r\n" % verb + b"x" * 2000 + b"\r\n")) == 1
    assert "from 0 to 2000" in only_problem(b"%b a 1 1 2001\r\n" % verb, parser).problem


def test_the_limit_of_a_message_is_64_mib_by_default() -> None:
    assert MAX_INBOUND_PAYLOAD == 64 * 1024 * 1024
    assert Parser().feed(b"MSG a 1 %d\r\n" % MAX_INBOUND_PAYLOAD) == []
    assert "from 0 to 67108864" in only_problem(b"MSG a 1 %d\r\n" % (MAX_INBOUND_PAYLOAD + 1)).problem


def test_no_message_needs_to_be_taken() -> None:
    parser = Parser(max_inbound_payload=0)
    assert len(parser.feed(b"MSG a 1 0\r\n\r\n")) == 1
    assert "from 0 to 0" in only_problem(b"MSG a 1 1\r\n", parser).problem


def test_what_is_unfinished_is_counted() -> None:
    parser = Parser()
    counts = []
    for piece in (b"PI", b"NG\r", b"\nMSG a 1 3\r\n", b"ab", b"c\r", b"\n", b""):
        parser.feed(piece)
        counts.append(parser.buffered)
    assert counts == [2, 5, 0, 2, 4, 0, 0]


def test_nothing_is_given_for_nothing() -> None:
    parser = Parser()
    assert parser.feed(b"") == []
    assert parser.feed(b"PING") == []
    assert parser.feed(b"") == []
    assert parser.feed(b"\r\n") == [PING]


@pytest.mark.parametrize("start", [b"MSG a 1 %d\r\n", b"HMSG a 1 r 0 %d\r\n"])
def test_a_large_message_in_small_pieces_costs_no_more_than_its_size(start: bytes) -> None:
    # Were the pieces put together again and again, this would copy a quarter of a terabyte.
    size = 8 * 1024 * 1024
    data = start % size + bytes(size) + b"\r\n"
    ((_, message),) = feed_all(Parser(), pieces_of(data, 128))  # type: ignore[misc]
    assert message.data == bytes(size)


def test_a_large_info_in_small_pieces_costs_no_more_than_its_size() -> None:
    line = padded(b'INFO {"a":"', b'"}\r\n', MAX_INFO_LINE)
    assert len(feed_all(Parser(), pieces_of(line, 8))) == 1


# Any session, any bytes

Step = tuple[bytes, Any]

blanks = st.text(" \t", min_size=1, max_size=3).map(str.encode)
numbers = st.integers(0, 10**20 - 1)
subjects = st.one_of(
    st.text("ab.*>é\u2028\x0b\xa0", min_size=1, max_size=8).map(str.encode),
    st.binary(min_size=1, max_size=8).filter(lambda text: not set(text) & set(b" \t\r\n")),
)
payloads = st.one_of(st.binary(max_size=40), st.text("\r\nPING ", max_size=20).map(str.encode))
blocks = st.one_of(st.just(b"NATS/1.0\r\nA: b\r\n\r\n"), payloads)
words = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20).map(
    lambda text: text.strip("' \t")
)


@st.composite
def spelled(draw: st.DrawFn, *arguments: bytes) -> bytes:
    """A command line: mostly as servers write it, or in any case and with any blanks."""
    if draw(st.booleans()):
        return b" ".join(arguments) + b"\r\n"
    verb = draw(st.sampled_from((bytes.upper, bytes.lower, bytes.title)))(arguments[0])
    separated = b"".join(draw(blanks) + argument for argument in arguments[1:])
    return verb + separated + draw(st.sampled_from((b"", b" ", b"\t"))) + b"\r\n"


@st.composite
def messages(draw: st.DrawFn) -> Step:
    subject, sid, payload = draw(subjects), draw(numbers), draw(payloads)
    reply = draw(st.one_of(st.just(b""), subjects))
    block = draw(st.one_of(st.none(), blocks))
    arguments = [subject, b"%d" % sid, *([reply] if reply else [])]
    if block is None:
        line = draw(spelled(b"MSG", *arguments, b"%d" % len(payload)))
    else:
        line = draw(spelled(b"HMSG", *arguments, b"%d" % len(block), b"%d" % (len(block) + len(payload))))
    event = (sid, *(text.decode("utf-8", "surrogateescape") for text in (subject, reply)), payload, block)
    return line + (block or b"") + payload + b"\r\n", event


@st.composite
def infos(draw: st.DrawFn) -> Step:
    fields = draw(st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.booleans(), st.text(max_size=5))))
    return draw(spelled(b"INFO", json.dumps(fields, ensure_ascii=draw(st.booleans())).encode("utf-8"))), Info(fields)


@st.composite
def complaints(draw: st.DrawFn) -> Step:
    text = draw(words)
    return draw(spelled(b"-ERR", b"'" + text.encode() + b"'")), ErrorReport(text)


def bare(verb: bytes, event: Event[Any]) -> st.SearchStrategy[Step]:
    return spelled(verb).map(lambda line: (line, event))


sessions = st.lists(
    st.one_of(
        messages(), messages(), infos(), complaints(), bare(b"PING", PING), bare(b"PONG", PONG), bare(b"+OK", OK)
    ),
    max_size=8,
)


@st.composite
def cut(draw: st.DrawFn, data: bytes) -> list[bytes]:
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


@settings(deadline=None)  # the longer the session, the more places
@given(sessions)
def test_a_session_cut_at_any_place_gives_what_was_sent(session: list[Step]) -> None:
    data = b"".join(part for part, _ in session)
    sent = [event for _, event in session]
    for place in range(len(data) + 1):
        parser = Parser()
        assert comparable(feed_all(parser, (data[:place], data[place:]))) == sent
        assert parser.buffered == 0


@given(sessions, st.data())
def test_a_session_in_any_pieces_gives_what_was_sent(session: list[Step], data: st.DataObject) -> None:
    pieces = data.draw(cut(b"".join(part for part, _ in session)))
    sent = [event for _, event in session]
    assert comparable(feed_all(Parser(), pieces)) == sent
    assert comparable(feed_all(Parser(), pieces, {})) == sent


@given(sessions, st.data())
def test_a_session_that_repeats_another_gives_the_same(session: list[Step], data: st.DataObject) -> None:
    parser = Parser()
    feed_all(parser, [part for part, _ in session])
    pieces = data.draw(cut(b"".join(part for part, _ in session)))
    assert comparable(feed_all(parser, pieces)) == [event for _, event in session]


def check_any(pieces: list[bytes], limit: int, before: Iterable[bytes] = ()) -> None:
    parser = Parser(max_inbound_payload=limit)
    for piece in before:
        parser.feed(piece, KNOWN)
    events: list[Event[Any]] = []
    for piece in pieces:
        events += parser.feed(piece, KNOWN)
        assert parser.buffered <= max(MAX_INFO_LINE, limit + 2)
    whole = Parser(max_inbound_payload=limit)
    assert comparable(whole.feed(b"".join(pieces))) == comparable(events)
    assert whole.buffered == parser.buffered
    assert not any(isinstance(event, ProtocolError) for event in events[:-1])
    for event in events:
        if isinstance(event, tuple):
            sid, message = event
            assert type(sid) is int
            assert message.subject
            assert not set(message.subject + message.reply) & set(" \t\n")
            assert message.size <= limit
            assert message.headers is not None


@given(st.one_of(st.binary(), st.text("MSGHPINGOK+-ERRINFO{}:, \t\r\n0123456789").map(str.encode)), st.data())
def test_any_bytes_give_events_or_a_problem(stream: bytes, data: st.DataObject) -> None:
    check_any(data.draw(cut(stream)), 64)


Mutation = Callable[[bytes, int, bytes], bytes]

MUTATIONS: list[Mutation] = [
    lambda data, place, some: data[:place] + some + data[place:],
    lambda data, place, some: data[:place] + some + data[place + len(some) :],
    lambda data, place, some: data[:place] + data[place + len(some) :],
    lambda data, place, some: data[:place] + data[place : place + 1] * len(some) + data[place:],
]


@given(sessions, st.data())
def test_a_session_with_mistakes_gives_events_or_a_problem(session: list[Step], data: st.DataObject) -> None:
    stream = b"".join(part for part, _ in session)
    for _ in range(data.draw(st.integers(1, 4))):
        mutation = data.draw(st.sampled_from(MUTATIONS))
        some = data.draw(st.one_of(st.binary(min_size=1, max_size=3), st.sampled_from((b"\r\n", b" ", b"\t", b"9"))))
        stream = mutation(stream, data.draw(st.integers(0, len(stream))), some)
    pieces = data.draw(cut(stream))
    check_any(pieces, 64)
    check_any(pieces, 64, before=[part for part, _ in session])
