"""What is sent to the server: its exact bytes, and that no argument gets out of its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsvc.errors import ConfigError, MaxPayloadError, SubjectError
from natsvc.headers import Headers
from natsvc.wire import commands
from natsvc.wire.commands import (
    MAX_CONTROL_LINE,
    check_queue_group,
    check_subject,
    check_subscription_subject,
    connect,
    publish,
    subscribe,
    unsubscribe,
)

Check = Callable[[str, object], str]

CHECKS = [check_subject, check_subscription_subject, check_queue_group]
SEPARATORS = [*map(chr, range(0x21)), "\x7f"]
NO_TEXT = [None, 0, 1, b"", b"a", ["a"], object()]
NO_UTF_8 = ["\ud800", "a\udc00", "\udc7f", "\udd00", "a.\udfff"]

Place = Callable[[Any], bytes]

# Each place that a text can have in a command; a sid and data are given to it.
SUBJECT_PLACES: list[Place] = [
    lambda text: publish(text, b""),
    lambda text: publish(text, b"", "reply"),
    lambda text: publish(text, b"", "", b"NATS/1.0\r\n\r\n"),
    lambda text: subscribe(text, "", 1),
    lambda text: subscribe(text, "workers", 1),
]
OPTIONAL_PLACES: list[Place] = [
    lambda text: publish("subject", b"", text),
    lambda text: publish("subject", b"", text, b"NATS/1.0\r\n\r\n"),
    lambda text: subscribe("subject", text, 1),
]


def test_ping_and_pong_are_lines() -> None:
    assert (commands.PING, commands.PONG) == (b"PING\r\n", b"PONG\r\n")


# connect


def test_connect_is_one_line_of_json() -> None:
    fields = {"verbose": False, "name": "a b", "protocol": 1, "jwt": None}
    assert connect(fields) == b'CONNECT {"verbose":false,"name":"a b","protocol":1,"jwt":null}\r\n'


@given(st.dictionaries(st.text(), st.one_of(st.none(), st.booleans(), st.integers(), st.text())))
def test_no_field_of_connect_ends_the_line(fields: dict[str, object]) -> None:
    command = connect(fields)
    assert command.startswith(b"CONNECT {")
    assert command.endswith(b"}\r\n")
    assert not set(command[:-2]) & {*range(0x20), *range(0x7F, 0x100)}
    assert json.loads(command[8:]) == fields


LOOP: list[object] = []
LOOP.append(LOOP)


@pytest.mark.parametrize("value", [b"secret", {"secret"}, float("nan"), float("inf"), LOOP])
def test_a_field_that_json_cannot_hold_is_refused_and_no_value_shown(value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        connect({"user": "joe", "pass": value})
    assert str(caught.value) == "CONNECT: ['user', 'pass'] must have values that JSON can hold"


# publish


def test_a_message_is_published() -> None:
    assert publish("a.b", b"hello") == b"PUB a.b 5\r\nhello\r\n"
    assert publish("a.b", b"", "r.1") == b"PUB a.b r.1 0\r\n\r\n"


def test_a_message_with_headers_is_published() -> None:
    block = Headers({"A": "b"}).encode()
    assert publish("a.b", b"hello", "", block) == b"HPUB a.b 18 23\r\nNATS/1.0\r\nA: b\r\n\r\nhello\r\n"
    assert publish("a.b", b"", "r.1", block) == b"HPUB a.b r.1 18 18\r\nNATS/1.0\r\nA: b\r\n\r\n\r\n"


def test_subjects_are_sent_as_utf_8_and_bytes_that_are_not_go_back_as_they_came() -> None:
    subject, reply = b"\xff.\x80".decode("utf-8", "surrogateescape"), "é.😀"
    assert publish(subject, b"", reply) == b"PUB \xff.\x80 \xc3\xa9.\xf0\x9f\x98\x80 0\r\n\r\n"
    assert subscribe(subject, reply, 1) == b"SUB \xff.\x80 \xc3\xa9.\xf0\x9f\x98\x80 1\r\n"


def test_a_subject_of_a_kind_of_str_is_taken() -> None:
    class Subject(str):
        __slots__ = ()

    assert publish(Subject("a"), b"", Subject("r")) == b"PUB a r 0\r\n\r\n"


def test_data_may_look_like_commands() -> None:
    assert publish("a", b"\r\nPING\r\n") == b"PUB a 8\r\n\r\nPING\r\n\r\n"


@pytest.mark.parametrize("data", [None, "text", 5, bytearray(b"x"), memoryview(b"x")])
def test_data_is_bytes(data: Any) -> None:
    with pytest.raises(TypeError, match=f"data must be bytes, not {type(data).__name__}"):
        publish("a", data)


# subscribe, unsubscribe


def test_a_subscription_is_made() -> None:
    assert subscribe("a.*.>", "", 1) == b"SUB a.*.> 1\r\n"
    assert subscribe("a", "workers", 12) == b"SUB a workers 12\r\n"


def test_a_subscription_is_ended() -> None:
    assert unsubscribe(12) == b"UNSUB 12\r\n"


@pytest.mark.parametrize("sid", [0, -1, 2**63, 10**400, True, 1.0, None, "1", "1\r\nPING", b"1"])
def test_a_sid_is_a_positive_number(sid: Any) -> None:
    with pytest.raises(SubjectError, match="sid"):
        subscribe("a", "", sid)
    with pytest.raises(SubjectError, match="sid"):
        unsubscribe(sid)


def test_the_largest_sid_has_63_bits() -> None:
    assert unsubscribe(2**63 - 1) == b"UNSUB 9223372036854775807\r\n"


# What can't stand in a command


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "text", ["a", "a.b", "*", "a.*", ">", "a.>", "$SRV", "é", "a\x80", "\u2028", "\udcff", "a>", ">a.b"]
)
def test_a_text_without_separators_is_taken(check: Check, text: str) -> None:
    assert check("field", text) == text


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("separator", SEPARATORS)
def test_blanks_and_control_characters_are_refused(check: Check, separator: str) -> None:
    for text in (f"a{separator}b", f"a{separator}", f"{separator}a", separator, f"é{separator}"):
        with pytest.raises(SubjectError) as caught:
            check("field", text)
        assert caught.value.field == "field"
        assert caught.value.value == text
        assert caught.value.rule == "must not contain blanks or control characters"


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("text", NO_UTF_8)
def test_a_text_without_utf_8_form_is_refused(check: Check, text: str) -> None:
    with pytest.raises(SubjectError, match="UTF-8"):
        check("field", text)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("value", NO_TEXT)
def test_what_is_no_text_is_refused(check: Check, value: object) -> None:
    with pytest.raises(SubjectError, match="must be a str"):
        check("field", value)


def test_only_a_queue_group_may_be_empty() -> None:
    assert check_queue_group("field", "") == ""
    for check in (check_subject, check_subscription_subject):
        with pytest.raises(SubjectError, match="not empty"):
            check("field", "")


@pytest.mark.parametrize("subject", [".", "..", ".a", "a.", "a..b", "a...b"])
def test_a_subscription_has_no_empty_tokens(subject: str) -> None:
    with pytest.raises(SubjectError, match="none of them empty"):
        check_subscription_subject("field", subject)
    with pytest.raises(SubjectError, match="none of them empty"):
        subscribe(subject, "", 1)
    assert check_subject("field", subject) == subject


@pytest.mark.parametrize("subject", [">.a", "a.>.b", ">.>"])
def test_a_wildcard_for_the_rest_stands_last(subject: str) -> None:
    with pytest.raises(SubjectError, match="last token"):
        subscribe(subject, "", 1)


@pytest.mark.parametrize("place", [*SUBJECT_PLACES, *OPTIONAL_PLACES])
@pytest.mark.parametrize("text", [*NO_TEXT, *NO_UTF_8, "a b", "a\r\nPING\r\n", "a\tb", "a\n", "é\r", "\x00", "\x7f"])
def test_every_place_of_every_command_is_checked(place: Place, text: object) -> None:
    with pytest.raises(SubjectError):
        place(text)


@pytest.mark.parametrize("place", SUBJECT_PLACES)
def test_a_subject_is_empty_nowhere(place: Place) -> None:
    with pytest.raises(SubjectError, match="not empty"):
        place("")


@pytest.mark.parametrize("place", OPTIONAL_PLACES)
def test_no_reply_and_no_queue_group_leave_no_blank_behind(place: Place) -> None:
    assert b"  " not in place("")


@pytest.mark.parametrize(
    ("arguments", "field"), [(("a b", b""), "subject"), (("a b", b"", "r s"), "subject"), (("a", b"", "r s"), "reply")]
)
def test_publish_names_what_it_refuses(arguments: tuple[Any, ...], field: str) -> None:
    with pytest.raises(SubjectError) as caught:
        publish(*arguments)
    assert caught.value.field == field


@pytest.mark.parametrize(("subject", "queue_group", "field"), [("a b", "", "subject"), ("a", "q r", "queue_group")])
def test_subscribe_names_what_it_refuses(subject: str, queue_group: str, field: str) -> None:
    with pytest.raises(SubjectError) as caught:
        subscribe(subject, queue_group, 1)
    assert caught.value.field == field


@given(st.text(), st.binary(max_size=10), st.text(), st.booleans())
def test_whatever_is_published_is_one_command_with_these_arguments(
    subject: str, data: bytes, reply: str, has_headers: bool
) -> None:
    block = b"NATS/1.0\r\n\r\n" if has_headers else b""
    try:
        command = publish(subject, data, reply, block)
    except SubjectError:
        assert not subject or set(subject + reply) & set(SEPARATORS)
        return
    line, _, rest = command.partition(b"\r\n")
    sizes = [b"%d" % len(block)] * has_headers + [b"%d" % (len(block) + len(data))]
    arguments = [text.encode() for text in (subject, reply) if text]
    assert line.split() == [b"HPUB" if has_headers else b"PUB", *arguments, *sizes]
    assert not set(line) & {*range(0x20), 0x7F}
    assert rest == block + data + b"\r\n"


@given(st.text(), st.text(), st.integers(1, 2**63 - 1))
def test_whatever_is_subscribed_is_one_command_with_these_arguments(subject: str, queue_group: str, sid: int) -> None:
    try:
        command = subscribe(subject, queue_group, sid)
    except SubjectError:
        return
    assert command.endswith(b"\r\n")
    arguments = [text.encode() for text in (subject, queue_group) if text]
    assert command[:-2].split() == [b"SUB", *arguments, b"%d" % sid]
    assert not set(command[:-2]) & {*range(0x20), 0x7F}


@pytest.mark.parametrize(
    ("command", "others"),
    [
        (lambda text: publish(text, b"12345"), " 5"),
        (lambda text: publish("a", b"12345", text), "a  5"),
        (lambda text: publish(text, b"12345", "r", b"NATS/1.0\r\n\r\n"), " r 12 17"),
        (lambda text: publish(text + "é", b""), "12 0"),
        (lambda text: subscribe(text, "", 12), " 12"),
        (lambda text: subscribe("a", text, 12), "a  12"),
    ],
)
def test_arguments_have_a_length_that_the_server_takes(command: Callable[[str], bytes], others: str) -> None:
    most = MAX_CONTROL_LINE - len(others)
    assert MAX_CONTROL_LINE == 4096
    assert command("x" * most)
    with pytest.raises(MaxPayloadError) as caught:
        command("x" * (most + 1))
    assert (caught.value.size, caught.value.limit, caught.value.part) == (4097, 4096, "command line")
