"""What `natsvc top` shows: the rows of Rates as a table that fits the screen, with what the keys do below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from natsvc.cli import output
from natsvc.cli.output import format_count, format_duration, number, printable, table
from natsvc.cli.rates import Order, Row, sort_rows

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Column, Table
    from rich.text import Text

__all__ = ["KEYS", "View", "draw", "rows_table"]

KEYS = {"s": Order.SERVICE, "r": Order.REQUESTS, "e": Order.ERRORS, "t": Order.TIME}
"""The keys that sort."""

_REVERSE = "R"

_WORDS = {
    Order.SERVICE: "service",
    Order.REQUESTS: "requests/s",
    Order.ERRORS: "errors/s",
    Order.TIME: "mean time",
}
_HEADINGS = {
    Order.SERVICE: "Service",
    Order.REQUESTS: "Requests/s",
    Order.ERRORS: "Errors/s",
    Order.TIME: "Mean Time",
}
_NOT_KNOWN = "-"
_FRAME = 6
"""The lines that are not rows: one for what is asked, two for the headings, one for the keys, and those in between."""


@dataclass(frozen=True, slots=True)
class View:
    """How the rows are sorted.

    Attributes:
        order: What by.
        reverse: Whether the other way round.
    """

    order: Order = Order.REQUESTS
    reverse: bool = False

    def press(self, key: str) -> View:
        """Return the view after a key; the key of the present order turns it round."""
        order = KEYS.get(key, self.order)
        turns = key == _REVERSE or (key in KEYS and order is self.order)
        return View(order, self.reverse is not turns if order is self.order else False)


def draw(
    rows: Sequence[Row], view: View, *, title: str, asked: str, problem: str, wait: bool, height: int
) -> RenderableType:
    """Return the screen.

    Args:
        rows: The rows.
        view: How they are sorted.
        title: What this is.
        asked: Where, and how often, services are asked.
        problem: What is wrong at the moment; "": nothing.
        wait: Whether the first answers are still to come.
        height: The lines that the screen has.
    """
    from rich.console import Group
    from rich.text import Text

    instances = {(row.service, row.id) for row in rows if not row.is_gone}
    services = {name for name, _ in instances}
    counts = f"{_counted(len(services), 'service')}, {_counted(len(instances), 'instance')}"
    space = max(1, height - _FRAME)
    shown = sort_rows(rows, view.order, reverse=view.reverse)
    hidden = 0 if len(shown) <= space else len(shown) - space + 1
    parts: list[RenderableType] = [
        _line(f"{title}: {'asking' if wait else counts} {asked}", "bold"),
        _line(problem, "red"),
        rows_table(shown[: len(shown) - hidden], view),
    ]
    if hidden:
        parts.append(_line(f"… and {_counted(hidden, 'row')} more, for which there is no room", "dim"))
    elif not shown and not wait:
        parts.append(_line("no service answers", "dim"))
    return Group(*parts, Text(), _key_line(view))


def rows_table(rows: Sequence[Row], view: View, title: str | None = None) -> Table:
    """Return the rows as a table, in the order that they have; each is one line, in which texts are cut off."""
    from rich.text import Text

    shown = table(
        title,
        [
            _text("Service"),
            _text("ID"),
            _text("Endpoint"),
            number("Requests/s"),
            number("Errors/s"),
            number("Errors"),
            number("Mean Time"),
            _text("Last Error"),
        ],
    )
    for column in shown.columns:
        if column.header == _HEADINGS[view.order]:
            column.header = f"{column.header}{_arrow(view)}"
    for row in rows:
        failing = "red" if row.errors_per_second else ""
        shown.add_row(
            _line(row.service),
            _line(row.id),
            _line(row.endpoint or _NOT_KNOWN),
            "gone" if row.is_gone else _rate(row.requests_per_second),
            Text(_rate(row.errors_per_second), failing),
            format_count(row.errors),
            _NOT_KNOWN if row.mean_time is None else format_duration(row.mean_time),
            _line(row.last_error, failing),
            style="dim" if row.is_gone else None,
        )
    return shown


def _arrow(view: View) -> str:
    """Return what shows, beside its heading, which way a column is sorted."""
    grows = view.reverse is not (view.order is Order.SERVICE)
    if output.console.options.ascii_only:
        return "^" if grows else "v"
    return "▲" if grows else "▼"


def _key_line(view: View) -> Text:
    from rich.text import Text

    line = Text(no_wrap=True, overflow="ellipsis")
    for key, order in KEYS.items():
        line.append(key, "bold")
        line.append(f" {_WORDS[order]}  ", "underline" if order is view.order else "")
    for key, word in ((_REVERSE, "reverse"), ("q", "quit")):
        line.append(key, "bold")
        line.append(f" {word}  ")
    line.rstrip()
    return line


def _text(heading: str) -> Column:
    from rich.table import Column

    return Column(heading, min_width=len(heading), overflow="ellipsis")


def _line(text: str, style: str = "") -> Text:
    """Return a text for one line: what doesn't fit is cut off."""
    from rich.text import Text

    return Text(" ".join(printable(text).split()), style, no_wrap=True, overflow="ellipsis")


def _rate(rate: float | None) -> str:
    if rate is None:
        return _NOT_KNOWN
    return f"{rate:.1f}" if rate < 99.95 else format_count(round(rate))


def _counted(count: int, noun: str) -> str:
    return f"{format_count(count)} {noun}{'' if count == 1 else 's'}"
