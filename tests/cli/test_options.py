"""What connection options mean before anything connects."""

from __future__ import annotations

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from natsvc import HeaderError
from natsvc.cli.options import ConnectionSettings, parse_duration, parse_headers
from natsvc.cli.output import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5), ("0.25", 0.25), (".5", 0.5), ("500ms", 0.5), ("1m30s", 90), ("2h", 7200), ("1.5s", 1.5), ("7µs", 7e-6)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "s", "5 s", "-1", "1d", "1e3", "nan", "inf", "0", "0s", "1s2", "99999999h", "\u0665"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_duration(text)


@given(st.floats(min_value=0.001, max_value=1e8), st.sampled_from(["ms", "s", "m"]))
def test_a_number_with_a_unit_is_so_many_of_it(amount: float, unit: str) -> None:
    size = {"ms": 0.001, "s": 1, "m": 60}[unit]
    if amount * size <= 1e9:
        assert parse_duration(f"{amount:.6f}{unit}") == pytest.approx(float(f"{amount:.6f}") * size)


def test_headers_keep_their_order_and_repeated_names() -> None:
    headers = parse_headers(["A: 1", "B:x:y", "A:2", "Empty:"])
    assert list(headers.pairs()) == [("A", "1"), ("A", "2"), ("B", "x:y"), ("Empty", "")]


def test_what_is_no_header_is_refused() -> None:
    with pytest.raises(UsageError, match="'nothing' must have the form NAME:VALUE"):
        parse_headers(["nothing"])
    with pytest.raises(HeaderError):
        parse_headers([":no name"])


def test_the_repr_of_settings_has_no_secret() -> None:
    settings = ConnectionSettings(server="u:secret@h", user="secret", password="secret", token="secret", creds="path")
    assert "secret" not in repr(settings)
    assert "path" in repr(settings)
