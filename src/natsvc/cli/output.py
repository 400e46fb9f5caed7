"""What the commands print: tables that fit the terminal, JSON, counts, durations, and errors in one line.

What services say of themselves is printed as text and nothing else: it may have been written by anybody who can answer
on `$SRV`, and must not be able to colour, move or forge what the terminal shows.
"""

from __future__ import annotations

import functools
import json
import os
import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Column, Table

    console: Console

__all__ = [
    "CommandError",
    "UsageError",
    "console",
    "format_count",
    "format_duration",
    "identity",
    "in_one_line",
    "log_to_stderr",
    "number",
    "print_json",
    "print_note",
    "print_table",
    "print_text",
    "printable",
    "table",
]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and newline, what changes the direction of text, and halves of characters."""

_UNLIMITED = 100_000
"""A width that no table has."""

_UNITS = (("ns", 1), ("µs", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000))


class CommandError(Exception):
    """What ends a command: its text is shown in one line on stderr.

    Attributes:
        status: The exit status of the process.
    """

    status = 1


class UsageError(CommandError):
    """A command line that can't be meant so."""

    status = 2


def __getattr__(name: str) -> Any:
    # The console for stdout is made when it is first used: what prints JSON needn't wait for Rich to be loaded.
    if name == "console":
        return _stdout()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def printable(text: object) -> str:
    """Return a text in which control characters are shown, not obeyed; lines stay lines."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), str(text))


def in_one_line(text: object) -> str:
    """Return a text, such as an error's, as one line that is safe to print."""
    return printable(" ".join(str(text).split()))


def identity(heading: str) -> Column:
    """Return a column for what people copy: it is never broken into two lines."""
    from rich.table import Column

    return Column(heading, no_wrap=True, overflow="fold")


def number(heading: str) -> Column:
    """Return a column for numbers and durations."""
    from rich.table import Column

    return Column(heading, justify="right", no_wrap=True)


def table(title: str | None, columns: Iterable[str | Column]) -> Table:
    """Return an empty table in the style of all commands.

    Args:
        title: What stands above it. None: nothing.
        columns: The headings, or columns such as `number` makes. Columns of text are wrapped as the width demands.
    """
    from rich import box
    from rich.table import Table

    class PlainTable(Table):
        """A table whose cells are what they say."""

        def add_row(self, *cells: Any, **options: Any) -> None:
            super().add_row(*(printable(cell) if isinstance(cell, str) else cell for cell in cells), **options)

    return PlainTable(
        *(_text_column(one) if isinstance(one, str) else one for one in columns),
        title=None if title is None else printable(title),
        title_justify="left",
        title_style="bold",
        header_style="bold",
        footer_style="bold",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )


def print_table(shown: Table) -> None:
    """Print a table: fitted to the terminal's width, or to COLUMNS; as wide as it is where neither is known."""
    from rich.measure import Measurement

    console = _stdout()
    if console.is_terminal or os.environ.get("COLUMNS"):
        if Measurement.get(console, console.options.update(max_width=_UNLIMITED), shown).minimum > console.width:
            for column in shown.columns:  # better broken into lines than cut off
                column.no_wrap, column.overflow, column.min_width = False, "fold", None
    else:
        # Who reads a pipe wants a row to be a line.
        console = _make_console(width=_UNLIMITED)
        console.width = max(1, Measurement.get(console, console.options, shown).maximum)
    if console.is_terminal:
        console.print(shown)
        return
    with console.capture() as capture:
        console.print(shown)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def print_text(text: str) -> None:
    """Print a text of which parts may come from services."""
    _stdout().print(printable(text), soft_wrap=True)


def print_note(text: str) -> None:
    """Print a line for people, such as that there is nothing to show, to stderr: it is no part of the result."""
    print(in_one_line(text), file=sys.stderr)


def log_to_stderr() -> None:
    """Have what the library logs stand on stderr line by line, unless the command has said where it goes."""
    import logging

    class OneLine(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return f"natsvc: {in_one_line(record.getMessage())}"

    logger = logging.getLogger("natsvc")
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(OneLine())
        logger.addHandler(handler)


def print_json(value: Any) -> None:
    """Print a value as JSON, for people and for `jq`."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2, default=str)
    print(text)


def format_count(count: int) -> str:
    """Return a count with its thousands set off: 12,345."""
    return f"{count:,}"


def format_duration(nanoseconds: float) -> str:
    """Return a duration in three digits or two units: 0ns, 45.6µs, 1.20ms, 3.40s, 2m05s, 1h40m, 3d04h."""
    if nanoseconds < 0:
        return "-" + format_duration(-nanoseconds)
    for unit, size in _UNITS:
        value = nanoseconds / size
        digits = 0 if unit == "ns" or value >= 99.95 else 1 if value >= 9.995 else 2
        shown = f"{value:.{digits}f}"
        if float(shown) < (60 if unit == "s" else 1000):
            return f"{shown}{unit}"
    seconds = round(nanoseconds / 1_000_000_000)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if hours == 0:
        return f"{minutes}m{seconds % 60:02}s"
    if days == 0:
        return f"{hours}h{minutes % 60:02}m"
    return f"{days}d{hours % 24:02}h"


def _text_column(heading: str) -> Column:
    from rich.table import Column

    return Column(heading, overflow="fold", min_width=max(map(len, heading.split("\n"))))


@functools.cache
def _stdout() -> Console:
    return _make_console()


def _make_console(width: int | None = None) -> Console:
    from rich.console import Console

    return Console(width=width, markup=False, highlight=False, emoji=False)
