"""Headers: what may go in, what the wire may bring, and that both come out the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsvc import HeaderError, Headers, headers

NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1)
# Any bytes may come from the wire: those that aren't UTF-8 are surrogates in the text.
VALUES = (
    st.binary()
    .map(lambda raw: raw.decode("utf-8", "surrogateescape"))
    .filter(lambda text: "\r" not in text and "\n" not in text)
)


@given(st.lists(st.tuples(NAMES, VALUES)))
def test_what_is_encoded_decodes_to_the_same(pairs: list[tuple[str, str]]) -> None:
    headers = Headers(pairs)
    assert Headers.decode(headers.encode()) == headers


@given(st.lists(st.tuples(NAMES, VALUES)))
def test_repeated_names_keep_all_their_values_in_order(pairs: list[tuple[str, str]]) -> None:
    headers = Headers.decode(Headers(pairs).encode())
    for name, _ in pairs:
        assert headers.get_all(name) == [value.strip(" \t") for other, value in pairs if other == name]


@given(st.one_of(st.binary(), st.binary().map(lambda rest: b"NATS/1.0" + rest)))
def test_any_bytes_decode_and_can_be_sent_on(block: bytes) -> None:
    headers = Headers.decode(block)
    assert Headers.decode(headers.encode()) == headers


@given(
    st.lists(st.sampled_from([b"A", b"b", b":", b" ", b"\t", b"\r\n", b"\r", b"\n", b"\xff", b"\xc3", b"\xa9", b"503"]))
)
def test_any_mix_of_separators_decodes_and_can_be_sent_on(parts: list[bytes]) -> None:
    headers = Headers.decode(b"NATS/1.0" + b"".join(parts))
    assert Headers.decode(headers.encode()) == headers


@given(st.dictionaries(NAMES | st.text(), st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape"))))
def test_whatever_another_client_decoded_can_be_sent_on(source: dict[str, str]) -> None:
    headers = Headers.received(source)
    assert Headers.decode(headers.encode()) == headers


def test_received_text_that_utf_8_cannot_hold_is_not_fatal() -> None:
    assert Headers.decode(Headers.received({"a": "\ud800", "b": "1"}).encode())["b"] == "1"


def test_no_headers_are_a_version_line_and_an_empty_one() -> None:
    assert Headers().encode() == b"NATS/1.0\r\n\r\n"


def test_a_header_is_a_line_of_name_and_value() -> None:
    assert Headers([("A", "1"), ("b", "é"), ("A", "2")]).encode() == "NATS/1.0\r\nA: 1\r\nA: 2\r\nb: é\r\n\r\n".encode()


@pytest.mark.parametrize("value", ["x", " x", "x ", "\t x \t"])
def test_values_lose_the_blanks_around_them(value: str) -> None:
    assert Headers({"a": value})["a"] == "x"
    assert Headers.decode(f"NATS/1.0\r\na:{value}\r\n\r\n".encode())["a"] == "x"
    assert Headers.received({"a": value})["a"] == "x"


@pytest.mark.parametrize("name", ["", "a b", "a:b", ":", "a\n", "a\r\n", "\ta", "é", "a\x7f", "a\x00"])
def test_a_name_that_is_not_printable_ascii_without_colon_is_refused(name: str) -> None:
    with pytest.raises(HeaderError):
        Headers({name: "x"})
    with pytest.raises(HeaderError):
        Headers().add(name, "x")
    with pytest.raises(HeaderError):
        Headers()[name] = "x"


def test_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(HeaderError):
        Headers({1: "x"})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb", "a\n", "\n"])
def test_a_value_that_would_end_its_line_is_refused(value: str) -> None:
    with pytest.raises(HeaderError, match="line break"):
        Headers({"a": value})
    with pytest.raises(HeaderError, match="line break"):
        Headers()["a"] = value


@pytest.mark.parametrize("value", [chr(0xD800), chr(0xDC0A), chr(0xDFFF)])
def test_a_value_that_utf_8_cannot_hold_is_refused(value: str) -> None:
    with pytest.raises(HeaderError, match="UTF-8"):
        Headers({"a": value})


@pytest.mark.parametrize("value", [None, 1, b"x"])
def test_a_value_that_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(HeaderError, match="str"):
        Headers({"a": value})  # type: ignore[arg-type]


def test_a_refused_value_leaves_the_headers_as_they_were() -> None:
    headers = Headers({"a": "1"})
    with pytest.raises(HeaderError):
        headers.add("b", "2\n")
    assert list(headers) == ["a"]
    with pytest.raises(HeaderError):
        headers["a"] = "2\n"
    assert headers == Headers({"a": "1"})


def test_names_keep_their_case_and_compare_by_it() -> None:
    headers = Headers({"Nats-Msg-Id": "1"})
    assert list(headers) == ["Nats-Msg-Id"]
    assert "nats-msg-id" not in headers
    assert headers.get("nats-msg-id") is None


def test_as_a_mapping_a_name_has_its_first_value() -> None:
    headers = Headers({"a": ["1", "2"], "b": ["3"]})
    assert headers["a"] == "1"
    assert dict(headers) == {"a": "1", "b": "3"}
    assert len(headers) == 2


def test_all_values_of_a_name_come_in_their_order() -> None:
    headers = Headers({"a": "1"})
    headers.add("a", "2")
    assert headers.get_all("a") == ["1", "2"]
    assert headers.get_all("b") == []
    assert list(headers.pairs()) == [("a", "1"), ("a", "2")]


def test_setting_a_name_replaces_all_its_values() -> None:
    headers = Headers({"a": ["1", "2"]})
    headers["a"] = "3"
    assert headers.get_all("a") == ["3"]


def test_deleting_a_name_takes_all_its_values() -> None:
    headers = Headers({"a": ["1", "2"]})
    del headers["a"]
    assert headers.get_all("a") == []
    with pytest.raises(KeyError):
        headers["a"]


def test_headers_made_of_headers_and_copies_stand_on_their_own() -> None:
    headers = Headers({"a": ["1", "2"]})
    for other in (Headers(headers), headers.copy()):
        assert other == headers
        other.add("a", "3")
        assert other != headers


def test_the_returned_list_of_values_is_a_copy() -> None:
    headers = Headers({"a": "1"})
    headers.get_all("a").append("2\n")
    assert headers.get_all("a") == ["1"]


def test_headers_equal_a_mapping_of_their_first_values() -> None:
    assert Headers({"a": "1"}) == {"a": "1"}
    assert Headers({"a": "1"}) != {"a": "2"}
    assert Headers({"a": ["1", "2"]}) != Headers({"a": "1"})


def test_headers_are_mutable_and_so_have_no_hash() -> None:
    with pytest.raises(TypeError):
        hash(Headers())


def test_the_repr_shows_every_value() -> None:
    assert repr(Headers({"a": ["1", "2"]})) == "Headers([('a', '1'), ('a', '2')])"


@pytest.mark.parametrize("line", [b"no colon", b": no name", b"a name: x", b"\xff: x", b"name : x", b""])
def test_a_malformed_line_is_skipped(line: bytes) -> None:
    assert Headers.decode(b"NATS/1.0\r\nA: 1\r\n" + line + b"\r\nB: 2\r\n\r\n") == {"A": "1", "B": "2"}


def test_names_that_are_no_header_names_are_skipped_when_another_client_decoded_them() -> None:
    assert Headers.received({"a b": "1", "c": "2\n3"}) == {"c": "2 3"}


def test_a_value_may_have_colons_and_no_blank_before_it() -> None:
    assert Headers.decode(b"NATS/1.0\r\nA:b:c\r\n\r\n") == {"A": "b:c"}


def test_bytes_that_are_not_utf_8_are_given_back_as_they_came() -> None:
    block = b"NATS/1.0\r\nA: \xff\xfe\r\n\r\n"
    assert Headers.decode(block).encode() == block


def test_names_are_known_once_seen_but_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "_names", set())
    for number in range(5000):
        assert len(Headers.decode(b"NATS/1.0\r\nName-%d: 1\r\n%b: 2\r\n\r\n" % (number, b"N" * (number + 1)))) == 2
        assert len(Headers.decode(b"NATS/1.0\r\nA name %d: 1\r\n\r\n" % number)) == 0
    assert len(headers._names) <= 1024
    assert max(map(len, headers._names)) <= 64


def test_a_bare_line_break_inside_a_received_value_becomes_a_blank() -> None:
    assert Headers.decode(b"NATS/1.0\r\nA: x\ny\rz\r\n\r\n") == {"A": "x y z"}


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (b"NATS/1.0 503\r\n\r\n", {"Status": "503"}),
        (b"NATS/1.0 503 No Responders\r\n\r\n", {"Status": "503", "Description": "No Responders"}),
        (b"NATS/1.0 100 Idle\r\nA: 1\r\n\r\n", {"Status": "100", "Description": "Idle", "A": "1"}),
        (b"NATS/1.0\x0b \xc2\xa0503\t idle\xff \r\n\r\n", {"Status": "\xa0503", "Description": "idle\udcff"}),
    ],
)
def test_an_inline_status_becomes_headers(block: bytes, expected: dict[str, str]) -> None:
    assert Headers.decode(block) == expected


@pytest.mark.parametrize("source", ["abc", 5, [1, 2], [("a",)]])
def test_what_is_neither_a_mapping_nor_pairs_is_a_header_error(source: object) -> None:
    with pytest.raises(HeaderError, match="pairs"):
        Headers(source)  # type: ignore[arg-type]
