"""Text that a command has printed before, looked at by people, and kept to be compared with what it prints now.

With NATSVC_WRITE_SNAPSHOTS=1 in the environment, what is printed now is kept instead.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_DIRECTORY = Path(__file__).parent / "snapshots"
_AGE = re.compile(r"\([0-9a-z.]+ ago\)")
_TIME = re.compile(r" *\b[0-9.]+(?:ns|µs|ms|s)\b")


def without_age(text: str) -> str:
    """Replace how long ago something was."""
    return _AGE.sub("(some time ago)", text)


def without_times(text: str) -> str:
    """Replace measured times, each by a text that takes the same place."""
    return _TIME.sub(lambda match: "#time".rjust(len(match[0])), text)


def assert_as_before(name: str, text: str) -> None:
    """Compare a text with the snapshot of that name."""
    path = _DIRECTORY / f"{name}.txt"
    if os.environ.get("NATSVC_WRITE_SNAPSHOTS"):
        path.write_text(text, encoding="utf-8", newline="\n")
    assert text == path.read_text(encoding="utf-8"), f"{name} looks different now"
