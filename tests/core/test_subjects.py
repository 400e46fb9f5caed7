"""Names, versions, subjects and queue groups: what is taken and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsvc import ConfigError, ServiceVerb, control_subject
from natsvc.core.subjects import (
    MAX_CONTROL_LINE,
    check_group_name,
    check_name,
    check_prefix,
    check_queue_group,
    check_subject,
    check_text,
    check_version,
    join_subject,
)

Check = Callable[[str, object], str]

SEPARATORS = [*map(chr, range(0x21)), "\x7f"]

# The examples of https://semver.org, as its FAQ links them: https://regex101.com/r/vkijKf/1/
VALID_VERSIONS = """
0.0.4 1.2.3 10.20.30 1.1.2-prerelease+meta 1.1.2+meta 1.1.2+meta-valid 1.0.0-alpha 1.0.0-beta 1.0.0-alpha.beta
1.0.0-alpha.beta.1 1.0.0-alpha.1 1.0.0-alpha0.valid 1.0.0-alpha.0valid
1.0.0-alpha-a.b-c-somethinglong+build.1-aef.1-its-okay 1.0.0-rc.1+build.1 2.0.0-rc.1+build.123 1.2.3-beta
10.2.3-DEV-SNAPSHOT 1.2.3-SNAPSHOT-123 1.0.0 2.0.0 1.1.7 2.0.0+build.1848 2.0.1-alpha.1227 1.0.0-alpha+beta
1.2.3----RC-SNAPSHOT.12.9.1--.12+788 1.2.3----R-S.12.9.1--.12+meta 1.2.3----RC-SNAPSHOT.12.9.1--.12
1.0.0+0.build.1-rc.10000aaa-kk-0.1 99999999999999999999999.999999999999999999.99999999999999999 1.0.0-0A.is.legal
"""
INVALID_VERSIONS = """
1 1.2 1.2.3-0123 1.2.3-0123.0123 1.1.2+.123 +invalid -invalid -invalid+invalid -invalid.01 alpha alpha.beta
alpha.beta.1 alpha.1 alpha+beta alpha_beta alpha. alpha.. beta 1.0.0-alpha_beta -alpha. 1.0.0-alpha.. 1.0.0-alpha..1
1.0.0-alpha...1 1.0.0-alpha....1 1.0.0-alpha.....1 1.0.0-alpha......1 1.0.0-alpha.......1 01.1.1 1.01.1 1.1.01
1.2.3.DEV 1.2-SNAPSHOT 1.2.31.2.3----RC-SNAPSHOT.12.09.1--..12+788 1.2-RC-SNAPSHOT -1.0.3-gamma+b7718
+justmeta 9.8.7+meta+meta 9.8.7-whatever+meta+meta
99999999999999999999999.999999999999999999.99999999999999999----RC-SNAPSHOT.12.09.1--------------------------------..12
"""


@pytest.mark.parametrize("name", ["a", "Z", "0", "-", "_", "user-service_2"])
def test_a_name_of_letters_digits_dash_and_underscore_is_taken(name: str) -> None:
    assert check_name("name", name) == name


@pytest.mark.parametrize("name", ["", "a b", "a.b", "a*", ">", "$", "é", "\u0663", "a\tb", None, 1, b"a"])
def test_any_other_name_is_refused(name: object) -> None:
    with pytest.raises(ConfigError):
        check_name("name", name)


def test_a_name_with_a_trailing_newline_is_refused() -> None:
    with pytest.raises(ConfigError):
        check_name("name", "a\n")


@pytest.mark.parametrize("version", VALID_VERSIONS.split())
def test_a_semantic_version_is_taken(version: str) -> None:
    assert check_version("version", version) == version


@pytest.mark.parametrize(
    "version", [*INVALID_VERSIONS.split(), "", "v1.2.3", "1.2.3\n", " 1.2.3", "\u0661.2.3", None, 1.2]
)
def test_anything_else_is_no_version(version: object) -> None:
    with pytest.raises(ConfigError):
        check_version("version", version)


@pytest.mark.parametrize("text", ["", "a b\n", "é", "😀"])
def test_a_text_may_be_anything_that_utf_8_holds(text: str) -> None:
    assert check_text("description", text) == text


@pytest.mark.parametrize("text", [None, 1, b"x", chr(0xD800), chr(0xDCFF)])
def test_what_json_cannot_carry_is_no_text(text: object) -> None:
    with pytest.raises(ConfigError):
        check_text("description", text)


@pytest.mark.parametrize("subject", ["a", "a.b", "users.create", "a.*.c", "*", ">", "a.>", "*.*", "$SRV.x", "é.ü"])
def test_a_subject_of_tokens_and_whole_wildcards_is_taken(subject: str) -> None:
    assert check_subject("subject", subject) == subject


@pytest.mark.parametrize("subject", ["", ".", ".a", "a.", "a..b", "a.>.b", ">.a", "a*", "*a.b", "a>", ">>", "**", None])
def test_empty_tokens_and_misplaced_wildcards_are_refused(subject: object) -> None:
    with pytest.raises(ConfigError):
        check_subject("subject", subject)


@pytest.mark.parametrize("check", [check_subject, check_group_name, check_prefix, check_queue_group])
@pytest.mark.parametrize("separator", SEPARATORS)
def test_blanks_and_control_characters_are_refused_everywhere(check: Check, separator: str) -> None:
    for value in (f"a{separator}b", f"a{separator}", separator):
        with pytest.raises(ConfigError):
            check("field", value)


@given(st.text(st.sampled_from("ab.*> \t\r\n\x00\x1f\x7fé\ud800\u00a0")))
def test_an_accepted_subject_has_no_separators_and_no_empty_tokens(text: str) -> None:
    try:
        subject = check_subject("subject", text)
    except ConfigError:
        return
    assert subject == text
    assert not set(subject) & set(SEPARATORS)
    tokens = subject.split(".")
    assert all(tokens)
    assert ">" not in "".join(tokens[:-1])
    assert all(token in ("*", ">") or not set(token) & {"*", ">"} for token in tokens)
    assert subject.encode().decode() == subject


@pytest.mark.parametrize("check", [check_subject, check_group_name, check_prefix, check_queue_group])
def test_what_no_command_line_can_hold_is_refused(check: Check) -> None:
    assert check("field", "a" * MAX_CONTROL_LINE)
    for text in ("a" * (MAX_CONTROL_LINE + 1), "é" * (MAX_CONTROL_LINE // 2 + 1)):
        with pytest.raises(ConfigError, match="4096"):
            check("field", text)


@pytest.mark.parametrize("name", ["", "a", "a.b", "*", "a.*"])
def test_a_group_name_is_a_prefix_that_may_be_empty(name: str) -> None:
    assert check_group_name("name", name) == name


@pytest.mark.parametrize("name", [">", "a.>", "a..b", ".", None])
def test_a_group_name_has_no_wildcard_for_the_rest(name: object) -> None:
    with pytest.raises(ConfigError):
        check_group_name("name", name)


@pytest.mark.parametrize("prefix", ["$SRV", "my.services"])
def test_a_prefix_has_one_or_more_tokens(prefix: str) -> None:
    assert check_prefix("prefix", prefix) == prefix


@pytest.mark.parametrize("prefix", ["", "*", "a.*", "a.>", "a*b", "a.", None])
def test_a_prefix_has_no_wildcards_and_no_empty_tokens(prefix: object) -> None:
    with pytest.raises(ConfigError):
        check_prefix("prefix", prefix)


def test_an_empty_queue_group_is_refused_with_both_readings() -> None:
    with pytest.raises(ConfigError, match=r"inherit.*NO_QUEUE_GROUP"):
        check_queue_group("queue_group", "")


@pytest.mark.parametrize("queue_group", ["q", "my.workers", "é"])
def test_a_queue_group_is_any_text_without_blanks(queue_group: str) -> None:
    assert check_queue_group("queue_group", queue_group) == queue_group


@pytest.mark.parametrize(
    ("prefix", "subject", "whole"),
    [("", "", ""), ("", "a", "a"), ("g", "", "g"), ("g", "a", "g.a"), ("g.h", "*", "g.h.*")],
)
def test_a_group_prefix_goes_before_the_subject(prefix: str, subject: str, whole: str) -> None:
    assert join_subject(prefix, subject) == whole


@pytest.mark.parametrize("verb", ["PING", "INFO", "STATS"])
def test_each_verb_has_three_control_subjects(verb: str) -> None:
    assert control_subject(verb) == f"$SRV.{verb}"
    assert control_subject(verb, "users") == f"$SRV.{verb}.users"
    assert control_subject(ServiceVerb(verb), "users", "id1") == f"$SRV.{verb}.users.id1"


def test_control_subjects_begin_with_the_prefix() -> None:
    assert control_subject("PING", "a", prefix="x.y") == "x.y.PING.a"


def test_no_prefix_given_as_none_is_the_default_prefix() -> None:
    assert control_subject("PING", None, None, None) == "$SRV.PING"


def test_an_id_without_a_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="name") as caught:
        control_subject("PING", id="id1")
    assert caught.value.field == "id"


@pytest.mark.parametrize("verb", ["", "ping", "PONG", None, 1, []])
def test_an_unknown_verb_is_refused(verb: Any) -> None:
    with pytest.raises(ConfigError, match="PING, INFO, STATS"):
        control_subject(verb)


@pytest.mark.parametrize(
    ("name", "id", "prefix"),
    [
        ("a b", None, "$SRV"),
        ("", None, "$SRV"),
        ("*", None, "$SRV"),
        ("a", "", "$SRV"),
        ("a", "*", "$SRV"),
        ("a", "b c", "$SRV"),
        ("a", "b", ""),
        ("a", "b", ">"),
    ],
)
def test_a_control_subject_has_valid_parts_only(name: str, id: str | None, prefix: str) -> None:
    with pytest.raises(ConfigError):
        control_subject("PING", name, id, prefix)
