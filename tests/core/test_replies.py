"""Replies: results as bytes, errors as headers, and nothing that the server would not take."""

from __future__ import annotations

import dataclasses
import json
import re
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsvc import ERROR_CODE_HEADER, ERROR_HEADER, HeaderError, Headers, MaxPayloadError, ServiceInfo
from natsvc.core.effects import Publish
from natsvc.core.replies import (
    encode_json,
    encode_result,
    error_headers,
    make_reply,
    printable_error,
)
from natsvc.message import encode_data

PLENTY = 1024 * 1024


@dataclasses.dataclass
class Point:
    x: object
    y: object = None


@dataclasses.dataclass(slots=True)
class Slotted:
    x: object


@pytest.mark.parametrize("data", [b"abc", "abc", bytearray(b"abc"), memoryview(b"abc"), memoryview(b"a-b-c")[::2]])
def test_bytes_and_text_are_sent_as_they_are(data: bytes | str) -> None:
    assert encode_data(data) == encode_result(data) == make_reply("r", data, None, PLENTY)[1] == b"abc"
    assert type(make_reply("r", data, None, PLENTY)[1]) is bytes


def test_text_is_sent_as_utf_8() -> None:
    assert encode_data("é") == "é".encode()


@pytest.mark.parametrize("data", [1, 1.5, {}, [], object()])
def test_a_body_is_bytes_or_text_and_nothing_else(data: Any) -> None:
    with pytest.raises(TypeError):
        encode_data(data)
    with pytest.raises(TypeError):
        make_reply("r", data, None, PLENTY)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"id": 7}, {"id": 7}),
        ([1, "é", None], [1, "é", None]),
        ({}, {}),
        ([], []),
        (Point(1), {"x": 1, "y": None}),
        (Slotted(1), {"x": 1}),
        (Point([Slotted(1)], {"a": Point(2)}), {"x": [{"x": 1}], "y": {"a": {"x": 2, "y": None}}}),
        ([Point(1)], [{"x": 1, "y": None}]),
    ],
)
def test_a_dict_a_list_or_a_dataclass_is_sent_as_json(result: object, expected: object) -> None:
    assert json.loads(encode_result(result)) == expected


@pytest.mark.parametrize("result", [1, 1.5, True, (1, 2), {1}, object(), Point, ValueError()])
def test_anything_else_is_no_result(result: object) -> None:
    with pytest.raises(TypeError, match=r"bytes, str, dict, list, a dataclass"):
        encode_result(result)


def test_a_coroutine_as_a_result_is_refused_without_a_second_warning() -> None:
    async def handler() -> None: ...

    with pytest.raises(TypeError, match="async def"):
        encode_result(handler())


@pytest.mark.parametrize("value", [{"a": {1}}, [object()], Point(b"x"), {(1,): 2}, Point(Point)])
def test_what_json_cannot_hold_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError):
        encode_result(value)


def circle() -> list[object]:
    items: list[object] = []
    items.append(items)
    return items


@pytest.mark.parametrize("value", [[float("nan")], {"a": float("inf")}, ["\ud800"], circle()])
def test_a_value_that_json_has_no_form_for_is_a_value_error(value: object) -> None:
    with pytest.raises(ValueError):
        encode_result(value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_json_is_read_as_what_was_written(value: object) -> None:
    assert json.loads(encode_json(value)) == value


@pytest.mark.parametrize("headers", [None, {}, Headers()])
def test_a_reply_without_headers_has_no_block(headers: dict[str, str] | Headers | None) -> None:
    assert make_reply("r", b"abc", headers, PLENTY) == ("r", b"abc", None, b"")


def test_a_reply_with_headers_has_their_block() -> None:
    _, _, headers, block = make_reply("r", b"abc", {"A": "1"}, PLENTY)
    assert headers == Headers({"A": "1"})
    assert block == b"NATS/1.0\r\nA: 1\r\n\r\n"


def test_the_headers_of_a_reply_are_a_copy() -> None:
    headers = Headers({"A": "1"})
    _, _, copied, _ = make_reply("r", b"", headers, PLENTY)
    headers["A"] = "2"
    assert copied == {"A": "1"}


@pytest.mark.parametrize("headers", [{"a b": "1"}, {"a": "1\r\nb: 2"}])
def test_headers_that_cannot_be_sent_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(HeaderError):
        make_reply("r", b"", headers, PLENTY)


def test_the_effect_that_publishes_a_reply_does_not_show_it() -> None:
    assert repr(Publish(make_reply("r", b"secret", {"A": "1"}, PLENTY))) == "Publish()"


def test_data_may_be_as_large_as_max_payload_and_no_larger() -> None:
    assert make_reply("r", b"x" * 10, None, 10)[1] == b"x" * 10
    with pytest.raises(MaxPayloadError) as caught:
        make_reply("r", b"x" * 11, None, 10)
    assert (caught.value.size, caught.value.limit, caught.value.part) == (11, 10, "headers and data")


def test_text_is_measured_in_bytes() -> None:
    with pytest.raises(MaxPayloadError):
        make_reply("r", "é" * 6, None, 10)


def test_the_header_block_counts_as_well_as_the_data() -> None:
    size = len(b"NATS/1.0\r\nA: 1\r\n\r\n") + 3
    assert make_reply("r", b"abc", {"A": "1"}, size)[3]
    with pytest.raises(MaxPayloadError) as caught:
        make_reply("r", b"abc", {"A": "1"}, size - 1)
    assert (caught.value.size, caught.value.limit) == (size, size - 1)


@pytest.mark.parametrize("subject", ["r" * 4096, "é" * 2048, "\udcff" * 4096])
def test_a_reply_subject_that_no_command_line_can_hold_is_refused(subject: str) -> None:
    with pytest.raises(MaxPayloadError) as caught:
        make_reply(subject, b"", None, PLENTY)
    assert (caught.value.limit, caught.value.part) == (4096, "command line")
    assert caught.value.size > 4096


@given(st.integers(4060, 4100), st.booleans(), st.integers(0, 2000))
def test_an_accepted_reply_has_a_command_line_that_the_server_reads(length: int, headers: bool, size: int) -> None:
    subject = "r" * length
    try:
        _, _, _, block = make_reply(subject, b"x" * size, {"A": "1"} if headers else None, PLENTY)
    except MaxPayloadError:
        assert length > 4070
        return
    sizes = [len(block), len(block) + size] if headers else [size]
    assert len(" ".join([subject, *map(str, sizes)])) <= 4096


@pytest.mark.parametrize("subject", ["r" * 4000, "é" * 2000, "\udcff" * 1000])
def test_a_long_reply_subject_that_fits_is_taken_as_it_is(subject: str) -> None:
    assert make_reply(subject, b"", None, PLENTY)[0] == subject


@pytest.mark.parametrize(
    ("code", "description", "sent"),
    [
        (404, "no such user", ("404", "no such user")),
        ("NOT_FOUND", "é", ("NOT_FOUND", "é")),
        (404, "", ("404", "404")),
        ("", "", ("500", "500")),
        ("", "failed", ("500", "failed")),
        (400, "a\r\nb", ("400", "a  b")),
        (400, "a\tb\x00c\x7fd", ("400", "a b c d")),
        ("4\n0", "x", ("4 0", "x")),
        ("\n", "\r", ("500", "500")),
        (0, "x", ("0", "x")),
    ],
)
def test_an_error_is_sent_in_printable_characters_and_never_empty(
    code: str | int, description: str, sent: tuple[str, str]
) -> None:
    assert printable_error(code, description) == sent


@given(st.integers() | st.text(), st.text(st.characters()))
def test_any_code_and_description_can_be_sent(code: str | int, description: str) -> None:
    sent = printable_error(code, description)
    assert all(sent)
    assert not any(re.search(r"[\x00-\x1f\x7f]", text) for text in sent)
    headers = Headers.decode(error_headers(*sent).encode())
    assert (headers[ERROR_CODE_HEADER], headers[ERROR_HEADER]) == sent


def test_an_error_reply_carries_adr_32s_two_headers() -> None:
    assert error_headers("404", "no such user") == {
        "Nats-Service-Error-Code": "404",
        "Nats-Service-Error": "no such user",
    }


def test_the_error_headers_override_the_users() -> None:
    given = Headers([(ERROR_HEADER, "mine"), (ERROR_HEADER, "again"), (ERROR_CODE_HEADER, "1"), ("A", "1"), ("A", "2")])
    headers = error_headers("404", "no such user", given)
    assert headers.get_all(ERROR_CODE_HEADER) == ["404"]
    assert headers.get_all(ERROR_HEADER) == ["no such user"]
    assert headers.get_all("A") == ["1", "2"]


def test_the_users_headers_are_not_changed() -> None:
    given = Headers({"A": "1"})
    error_headers("404", "x", given)
    assert given == {"A": "1"}


def test_no_data_given_is_an_empty_body_and_no_code_given_is_500() -> None:
    assert make_reply("r", None, None, 100)[1] == b""
    assert printable_error(None, None) == ("500", "500")


def test_models_and_mappings_are_json_as_they_are_sent() -> None:
    info = ServiceInfo(name="n", id="i", metadata=MappingProxyType({"k": "v"}))
    assert json.loads(encode_json({"info": info})) == {"info": info.to_dict()}
    assert encode_json(MappingProxyType({"a": 1})) == b'{"a":1}'
