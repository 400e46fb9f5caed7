"""Runs the command in a terminal of its own, as large as the test says, and returns what it writes there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping

_STYLE = re.compile(r"\x1b\[[0-9;]*m")


def run_in_terminal(*arguments: str, environment: Mapping[str, str], columns: int, rows: int = 50) -> str:
    """Run `natsvc` with the arguments, and return what it has written, line ends as `\\n`."""
    import pty
    import termios

    controlling, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (rows, columns))
    process = subprocess.Popen(
        [sys.executable, "-m", "natsvc", *arguments], env=environment, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    written = b""
    with process:
        while True:
            try:
                piece = os.read(controlling, 65536)
            except OSError:  # Linux's way to say that nobody has the terminal any more
                break
            if not piece:
                break
            written += piece
    os.close(controlling)
    assert process.returncode == 0, written.decode()
    return written.decode().replace("\r\n", "\n")


def without_style(text: str) -> str:
    """Remove colours and the like, and the blanks at the ends of lines."""
    return "".join(f"{line.rstrip()}\n" for line in _STYLE.sub("", text).splitlines())
