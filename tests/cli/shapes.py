"""What stays the same in a report of measured numbers: its words, its columns, and the order of things."""

from __future__ import annotations

import itertools
import re

_BAR = re.compile(r"[▏▎▍▌▋▊▉█]+")
_NUMBER = re.compile(r"\b\d[\d,.]*(?:ns|µs|ms|s)?(?![\w.])")
_ID = re.compile(r"\b[0-9A-Za-z]{22}\b")


def shape(text: str) -> str:
    """Replace ids by ID, numbers and times by #, bars by |; leave out how wide columns are, and lines that repeat."""
    lines = []
    for line in text.splitlines():
        line = _BAR.sub("|", _NUMBER.sub("#", _ID.sub("ID", line)))
        line = re.sub(r"─+", "─", re.sub(r"  +", "  ", line)).strip()
        lines.append(line.removesuffix("  |"))
    return "".join(f"{line}\n" for line, _ in itertools.groupby(lines))
