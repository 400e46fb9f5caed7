"""What `natsvc top` shows: the rows of Rates as a table that fits the screen, with what the keys do below it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from natsvc.cli import output
from natsvc.cli.output import format_count, format_duration, identity, number, printable, table
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
_OPTIONAL = ("Last Error", "Errors", "ID")
"""The columns that are left out where the screen is narrow, the first one first."""

_NOT_KNOWN = "-"
_GAP = 2
"""The blanks between two columns."""

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
    rows: Sequence[Row], view: View, *, title: str, asked: str, problem: str, wait: bool, width: int, height: int
) -> RenderableType:
    """Return the screen.

    Args:
        rows: The rows.
        view: How they are sorted.
        title: What this is.
        asked: Where, and how often, services are asked.
        problem: What is wrong at the moment; "": nothing.
        wait: Whether the first answers are still to come.
        width: The characters that a line has.
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
        rows_table(shown[: len(shown) - hidden], view, width=width),
    ]
    if hidden:
        parts.append(_line(f"… and {_counted(hidden, 'row')} more, for which there is no room", "dim"))
    elif not shown and not wait:
        parts.append(_line("no service answers", "dim"))
    return Group(*parts, Text(), _key_line(view))


def rows_table(rows: Sequence[Row], view: View, title: str | None = None, *, width: int | None = None) -> Table:
    """Return the rows as a table, in the order that they have; each is one line, in which texts are cut off.

    Args:
        rows: The rows.
        view: How they are sorted.
        title: What stands above it. None: nothing.
        width: What it has to fit in; columns for which there is no room are left out. None: as wide as it is.
    """
    columns = _columns(rows, view)
    for optional in _OPTIONAL:
        if width is not None and _total(column.least_width for column in columns) > width:
            columns = [column for column in columns if column.name != optional]
    widths = _fit(columns, width)
    shown = table(title, [column.for_table(widths[column.name]) for column in columns])
    for row, *cells in zip(rows, *(column.cells for column in columns), strict=True):
        shown.add_row(*cells, style="dim" if row.is_gone else None)
    return shown


@dataclass(frozen=True, slots=True)
class _Column:
    """A column: its name, what stands above it, its cells, and whether they are numbers, which are never cut off."""

    name: str
    heading: str
    cells: Sequence[Text]
    has_numbers: bool

    @property
    def width(self) -> int:
        """The width in which everything is shown in full."""
        return max([len(self.heading), *(cell.cell_len for cell in self.cells)])

    @property
    def least_width(self) -> int:
        """The least width that is of use."""
        return self.width if self.has_numbers else len(self.heading)

    def for_table(self, width: int) -> Column:
        """Return it as Rich needs it, in that width."""
        column = number(self.heading) if self.has_numbers else identity(self.heading)
        column.width = width
        return column


def _total(widths: Iterable[int]) -> int:
    """Return the width of a table whose columns are that wide."""
    every = list(widths)
    return sum(every) + _GAP * (len(every) - 1)


def _fit(columns: Sequence[_Column], width: int | None) -> dict[str, int]:
    """Return widths for the columns that fit: what is too long is cut off where there is most of it."""
    widths = {column.name: column.width for column in columns}
    while width is not None and _total(widths.values()) > width:
        shrinkable = [column.name for column in columns if widths[column.name] > column.least_width]
        if not shrinkable:
            break
        widths[max(shrinkable, key=widths.__getitem__)] -= 1
    return widths


def _columns(rows: Sequence[Row], view: View) -> list[_Column]:
    def column(name: str, cell: Callable[[Row], Text], *, has_numbers: bool = True) -> _Column:
        heading = f"{name}{_arrow(view)}" if name == _HEADINGS[view.order] else name
        return _Column(name, heading, [cell(row) for row in rows], has_numbers)

    def failing(row: Row) -> str:
        return "red" if row.errors_per_second else ""

    return [
        column("Service", lambda row: _line(row.service), has_numbers=False),
        column("ID", lambda row: _line(row.id), has_numbers=False),
        column("Endpoint", lambda row: _line(row.endpoint or _NOT_KNOWN), has_numbers=False),
        column("Requests/s", lambda row: _line("gone" if row.is_gone else _rate(row.requests_per_second))),
        column("Errors/s", lambda row: _line(_rate(row.errors_per_second), failing(row))),
        column("Errors", lambda row: _line(format_count(row.errors))),
        column("Mean Time", lambda row: _line(_NOT_KNOWN if row.mean_time is None else format_duration(row.mean_time))),
        column("Last Error", lambda row: _line(row.last_error, failing(row)), has_numbers=False),
    ]


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
