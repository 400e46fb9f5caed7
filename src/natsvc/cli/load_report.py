"""Shows what a load has measured: one row of figures, what went wrong, and a histogram of the times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from natsvc.cli.latency import Latency
from natsvc.cli.output import format_count, format_duration, in_one_line, number, print_table, table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.measure import Measurement as Widths

    from natsvc.cli.latency import Bucket
    from natsvc.cli.load import Failure, Measurement

__all__ = ["measurement_to_dict", "print_failures", "print_histogram", "print_latency"]

_WIDEST_BAR = 40
_NARROWEST_BAR = 4


def measurement_to_dict(measurement: Measurement) -> dict[str, Any]:
    """Return a measurement for JSON; times are in nanoseconds, as in STATS."""
    latency = Latency.of(measurement.latencies)
    return {
        "sent": measurement.sent,
        "answered": measurement.answered,
        "interrupted": measurement.is_interrupted,
        "duration": measurement.duration,
        "requests_per_second": round(measurement.rate, 1),
        "latency": None if latency is None else latency.to_dict(),
        "errors": [
            {"kind": one.kind, "count": one.count, "first": one.text}
            for one in _by_count(measurement.failures.values())
        ],
    }


def print_latency(title: str, measurement: Measurement, latency: Latency) -> None:
    """Print the figures as a table of one row.

    Args:
        title: What stands above it.
        measurement: What was measured.
        latency: What its times amount to.
    """
    times = {
        "Min": latency.minimum,
        "Mean": latency.mean,
        **{name.upper(): time for name, time in latency.percentiles.items()},
        "Max": latency.maximum,
    }
    shown = table(title, [number("Requests/s"), *(number(name) for name in times)])
    shown.add_row(format_count(round(measurement.rate)), *(format_duration(time) for time in times.values()))
    print_table(shown)


def print_failures(title: str | None, failures: Iterable[Failure]) -> None:
    """Print what went wrong, the most frequent first, below a title."""
    shown = table(title, ["Error", number("Requests"), "What the first one said"])
    for one in _by_count(failures):
        shown.add_row(in_one_line(one.kind), format_count(one.count), in_one_line(one.text))
    print_table(shown)


def print_histogram(buckets: list[Bucket]) -> None:
    """Print a histogram as a table with bars."""
    most = max(bucket.count for bucket in buckets)
    shown = table(None, [number("From"), number("Below"), number("Requests"), ""])
    for bucket in buckets:
        bounds = format_duration(bucket.low), format_duration(bucket.high)
        shown.add_row(*bounds, format_count(bucket.count), _Bar(bucket.count, most))
    print_table(shown)


def _by_count(failures: Iterable[Failure]) -> list[Failure]:
    return sorted(failures, key=lambda one: (-one.count, one.kind))


class _Bar:
    """A bar as wide as its share of the widest, which fills what the table leaves to it."""

    def __init__(self, count: int, most: int) -> None:
        self._count = count
        self._most = most

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.bar import Bar

        width = min(options.max_width, _WIDEST_BAR)
        if options.ascii_only:
            yield "#" * round(self._count / self._most * width)
        else:
            yield Bar(self._most, 0, self._count, width=width)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Widths:
        from rich.measure import Measurement as Widths

        return Widths(_NARROWEST_BAR, min(options.max_width, _WIDEST_BAR))
