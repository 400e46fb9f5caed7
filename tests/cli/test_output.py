"""How the commands print numbers, durations, texts and JSON."""

from __future__ import annotations

import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsvc.cli.output import format_count, format_duration, in_one_line, print_json, printable

SIZES = {"ns": 1, "µs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9, "d": 86_400e9}


@pytest.mark.parametrize(
    ("nanoseconds", "shown"),
    [
        (0, "0ns"),
        (999, "999ns"),
        (1000, "1.00µs"),
        (9_994, "9.99µs"),
        (9_996, "10.0µs"),
        (99_960, "100µs"),
        (999_499, "999µs"),
        (999_500, "1.00ms"),
        (999_999_999, "1.00s"),
        (59_940_000_000, "59.9s"),
        (59_960_000_000, "1m00s"),
        (3_599_400_000_000, "59m59s"),
        (3_599_600_000_000, "1h00m"),
        (86_400_000_000_000, "1d00h"),
        (-1_500_000, "-1.50ms"),
    ],
)
def test_durations(nanoseconds: int, shown: str) -> None:
    assert format_duration(nanoseconds) == shown


@given(st.integers(min_value=0, max_value=10**18))
def test_a_duration_is_shown_to_within_its_last_digit(nanoseconds: int) -> None:
    shown = format_duration(nanoseconds)
    parts = re.findall(r"([0-9.]+)(ns|µs|ms|[smhd])", shown)
    assert "".join(f"{amount}{unit}" for amount, unit in parts) == shown
    value = sum(float(amount) * SIZES[unit] for amount, unit in parts)
    slack = SIZES[parts[-1][1]] if len(parts) > 1 else max(0.5, nanoseconds * 0.0051)
    assert abs(value - nanoseconds) <= slack
    assert len(shown) <= 7 or nanoseconds > 86_400e9


def test_counts() -> None:
    assert format_count(1234567) == "1,234,567"


@given(st.text())
def test_printable_text_has_nothing_that_a_terminal_obeys(text: str) -> None:
    shown = printable(text)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", shown)
    shown.encode()


@given(st.text())
def test_one_line_is_one_line(text: str) -> None:
    assert len(in_one_line(text).splitlines()) <= 1


def test_ordinary_text_stays_as_it_is() -> None:
    assert printable("Grüße, 日本語\n\t✓") == "Grüße, 日本語\n\t✓"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda one: st.lists(one) | st.dictionaries(st.text(), one),
    )
)
def test_json_can_be_read_again_whatever_the_encoding(encoding: str, value: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        written = io.BytesIO()
        patch.setattr("sys.stdout", io.TextIOWrapper(written, encoding=encoding, write_through=True))
        print_json(value)
        assert json.loads(written.getvalue().decode(encoding)) == value
