"""Unique ids: their form, and that no two are alike."""

from __future__ import annotations

import re

from natsvc.core.subjects import check_subject
from natsvc.nuid import Nuid, next_id

FORM = re.compile(r"[0-9A-Za-z]{22}")


def test_ids_are_22_base_62_characters() -> None:
    source = Nuid()
    for text in [next_id(), *(source.next() for _ in range(100))]:
        assert FORM.fullmatch(text)


def test_ids_of_one_source_are_unique() -> None:
    source = Nuid()
    assert len({source.next() for _ in range(10_000)}) == 10_000


def test_ids_of_different_sources_are_unique() -> None:
    assert len({next_id() for _ in range(1_000)}) == 1_000


def test_an_id_is_a_subject_token() -> None:
    text = next_id()
    assert check_subject("id", text).split(".") == [text]


def test_ids_of_one_source_share_their_random_prefix_and_count_up() -> None:
    source = Nuid()
    first, second = source.next(), source.next()
    assert first[:12] == second[:12]
    assert first[12:] < second[12:]  # the digits are in the order of ASCII


def test_a_source_whose_sequence_is_used_up_begins_anew() -> None:
    source = Nuid()
    before = source.next()
    source._sequence = 62**10 - 1
    after = source.next()
    assert FORM.fullmatch(after)
    assert after[:12] != before[:12]
    assert after != source.next()
