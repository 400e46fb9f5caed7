"""What the numbers come to, and where they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.floors import verdicts
from benchmarks.metrics import RATE
from benchmarks.report import BEGIN, END, limit_table, metric_tables, verdict_table, write_between_markers
from benchmarks.results import Results

LATENCY = "latency_median_seconds"


def results(**rates: list[float]) -> Results:
    return Results({name.replace("_", "."): [{RATE: rate} for rate in given] for name, given in rates.items()})


def test_ratios_are_taken_within_a_round() -> None:
    measured = results(nats_micro=[100, 10, 50], natsvc=[150, 20, 125])
    assert measured.medians()["natsvc"] == {RATE: 125}
    assert measured.ratios_to("nats.micro")["natsvc"] == {RATE: 2.0}
    assert measured.ratios_to("JavaScript") == {}


def test_a_rate_has_to_be_at_least_the_floor_and_a_latency_at_most() -> None:
    def verdict(rate: float, latency: float) -> list[tuple[bool, bool]]:
        measured = Results({"nats.micro": [{RATE: 1.0, LATENCY: 1.0}], "natsvc": [{RATE: rate, LATENCY: latency}]})
        return [(one.is_floor_reached, one.is_aim_reached) for one in verdicts(measured)]

    assert verdict(2.2, 0.8) == [(True, True), (True, True)]
    assert verdict(1.7, 0.95) == [(True, False), (True, False)]
    assert verdict(1.6, 0.96) == [(False, False), (False, False)]


def test_the_best_of_each_front_end_stand_beside_javascript() -> None:
    turns = {"JavaScript": 100, "natsvc": 70, "natsvc, uvloop": 90, "natsvc.anyio on trio": 60, "natsvc.sync": 75}
    found = verdicts(Results({name: [{RATE: float(rate)}] for name, rate in turns.items()}))
    assert [(one.contender, one.ratio, one.is_floor_reached, one.is_aim_reached) for one in found] == [
        ("natsvc, uvloop", 0.9, True, True),
        ("natsvc.sync", 0.75, True, False),
    ]


def test_natsvc_stands_beside_the_bare_echo_in_the_same_process_model() -> None:
    turns = {"natsvc": 50, "natsvc, uvloop": 60, "natsvc.sync": 30, "bare asyncio": 100, "bare asyncio, uvloop": 120}
    table = limit_table(Results({name: [{RATE: float(rate)}] for name, rate in turns.items()}))
    assert table is not None
    assert [*table.rows][1:] == [
        ["natsvc", "bare asyncio", "0.50 x", "-"],
        ["natsvc, uvloop", "bare asyncio, uvloop", "0.50 x", "-"],
    ]
    assert limit_table(results(nats_micro=[100], natsvc=[150])) is None


def test_who_is_missing_or_has_failed_has_a_row() -> None:
    measured = results(nats_micro=[100])
    measured.missing["natsio"] = "natsio is not installed"
    measured.failed["natsvc.sync"] = "BenchmarkError: it answers wrongly"
    (table,) = metric_tables(measured)
    assert [*table.rows] == [
        ["contender", "16 B"],
        ["nats.micro", "100 (1.00 x)"],
        ["natsio", "missing"],
        ["natsvc.sync", "FAILED"],
    ]


def test_tables_are_written_between_the_markers_and_nowhere_else(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    table = verdict_table(verdicts(results(nats_micro=[100], natsvc=[150])))
    write_between_markers(file, table.markdown())
    written = file.read_text(encoding="utf-8")
    assert written.startswith(f"before\n{BEGIN}\n\n### Floors")
    assert "| natsvc | requests/s | 1.50 x | 1.70 x | 2.20 x | MISSED |" in written
    assert written.endswith(f"\n{END}\nafter\n")
    assert "old" not in written

    file.write_text(f"{END}\n{BEGIN}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="README"):
        write_between_markers(file, "text")
