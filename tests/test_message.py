"""Message: one shape whatever the headers came as."""

from __future__ import annotations

import pytest

from natsvc import Headers, Message
from natsvc.message import says_no_responders

BLOCK = b"NATS/1.0\r\nA: 1\r\nA: 2\r\n\r\n"


def test_a_message_has_no_data_no_reply_and_no_headers_unless_given() -> None:
    message = Message("a.b")
    assert (message.subject, message.data, message.reply, message.headers) == ("a.b", b"", "", Headers())


@pytest.mark.parametrize("headers", [None, {}, b"", Headers()])
def test_headers_are_never_none(headers: dict[str, str] | bytes | None) -> None:
    assert isinstance(Message("a", headers=headers).headers, Headers)
    assert len(Message("a", headers=headers).headers) == 0


def test_a_block_of_the_wire_is_decoded() -> None:
    assert Message("a", headers=BLOCK).headers.get_all("A") == ["1", "2"]


def test_headers_are_decoded_once() -> None:
    message = Message("a", headers=BLOCK)
    assert message.headers is message.headers


def test_headers_can_be_changed_even_if_none_were_given() -> None:
    message = Message("a")
    message.headers["b"] = "1"
    assert message.headers == {"b": "1"}


def test_given_headers_are_taken_as_they_are() -> None:
    headers = Headers({"A": "1"})
    assert Message("a", headers=headers).headers is headers


def test_headers_that_another_client_decoded_are_read_leniently() -> None:
    assert Message("a", headers={"no name": "1", "b": " 2\r\n"}).headers == {"b": "2"}


@pytest.mark.parametrize("headers", [BLOCK, Headers({"A": ["1", "2"]})])
def test_the_size_counts_header_block_and_data(headers: Headers | bytes) -> None:
    assert Message("a", b"data", headers=headers).size == len(BLOCK) + 4


@pytest.mark.parametrize("headers", [None, {}, b"", Headers()])
def test_without_headers_the_size_is_the_data_alone(headers: dict[str, str] | bytes | None) -> None:
    assert Message("a", b"data", headers=headers).size == 4


def test_the_size_of_a_mapping_is_that_of_its_block() -> None:
    assert Message("a", b"data", headers={"A": "1"}).size == 4 + len(b"NATS/1.0\r\nA: 1\r\n\r\n")


def test_the_size_stays_the_same_when_headers_have_been_read() -> None:
    message = Message("a", b"data", headers=BLOCK)
    before = message.size
    assert message.headers
    assert message.size == before


def test_the_repr_shows_subject_reply_and_size_but_no_data() -> None:
    assert repr(Message("a", b"secret", reply="r")) == "<Message subject='a', reply='r', 6 bytes>"
    assert repr(Message("a", b"secret")) == "<Message subject='a', 6 bytes>"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (Message("a", b"", headers=b"NATS/1.0 503\r\n\r\n"), True),
        (Message("a", b"x", headers=b"NATS/1.0 503\r\n\r\n"), False),
        (Message("a", b"", headers=b"NATS/1.0 408\r\n\r\n"), False),
        (Message("a", b""), False),
    ],
)
def test_no_responders_are_told_by_a_status_without_data(message: Message, expected: bool) -> None:
    assert says_no_responders(message) is expected
