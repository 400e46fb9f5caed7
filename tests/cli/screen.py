"""A terminal with a screen that can be read and keys that can be pressed, for commands that draw on all of it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pyte
import pytest

from tests.cli.conftest import LIMIT, Environment

ENTER_SCREEN, LEAVE_SCREEN = "\x1b[?1049h", "\x1b[?1049l"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as a terminal's programs begin, whatever the tests were started by


class Terminal:
    """`natsvc` in a terminal of its own, as the process that Ctrl-C there goes to."""

    def __init__(self, *arguments: str, environment: Environment, columns: int, rows: int) -> None:
        self._controlling, self._terminal = pty.openpty()
        termios.tcsetwinsize(self._terminal, (rows, columns))
        self._found_as = termios.tcgetattr(self._terminal)
        self._left_as: list[Any] | None = None
        self._is_let_go = False
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self._written = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "natsvc", *arguments],
            env=environment,
            stdin=self._terminal,
            stdout=self._terminal,
            stderr=self._terminal,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._controlling, 65536)
            except OSError:  # Linux's way to say that nobody has the terminal any more
                return
            if not piece:
                return
            with self._lock:
                self._written += piece
                self._stream.feed(piece)

    @property
    def lines(self) -> list[str]:
        """What is on the screen, without the blanks at the ends of lines and below the last one."""
        with self._lock:
            lines = [line.rstrip() for line in self._screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    @property
    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)

    @property
    def written(self) -> str:
        """All that was written so far, as it was written."""
        with self._lock:
            return self._written.decode()

    def show(self, condition: Callable[[list[str]], object]) -> list[str]:
        """Wait until the lines on the screen are as they should be, and return them."""
        deadline = time.monotonic() + LIMIT
        while not condition(lines := self.lines):
            assert time.monotonic() < deadline, "it was never shown:\n" + self.text
            assert self.process.poll() is None or condition(self.lines), "it has ended:\n" + self.written
            time.sleep(0.01)
        return lines

    def press(self, keys: str) -> None:
        os.write(self._controlling, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        with self._lock:
            self._screen.resize(rows, columns)
        termios.tcsetwinsize(self._controlling, (rows, columns))

    def wait(self) -> int:
        """Return the exit status, when all that was written has been read."""
        status = self.process.wait(LIMIT)
        self._left_as = termios.tcgetattr(self._terminal)
        self._let_go()
        return status

    def assert_restored(self) -> None:
        """The terminal takes input as before, and shows what it showed before, and its cursor."""
        assert self._left_as == self._found_as
        written = self.written
        assert written.rindex(LEAVE_SCREEN) > written.rindex(ENTER_SCREEN)
        assert written.rindex(SHOW_CURSOR) > written.rindex(HIDE_CURSOR)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(LIMIT)
        self._let_go()
        os.close(self._controlling)

    def _let_go(self) -> None:
        """Let the reader come to the end of what was written."""
        if not self._is_let_go:
            self._is_let_go = True
            os.close(self._terminal)
            self._reader.join(LIMIT)


Open = Callable[..., Terminal]


@pytest.fixture
def open_terminal(environment: Environment) -> Iterator[Open]:
    """Starts `natsvc` with the arguments in a terminal: `open_terminal("top", columns=80, rows=24)`."""
    with contextlib.ExitStack() as opened:

        def open_terminal(*arguments: str, columns: int = 100, rows: int = 24, **env: Any) -> Terminal:
            terminal = Terminal(*arguments, environment={**environment, **env}, columns=columns, rows=rows)
            opened.callback(terminal.close)
            return terminal

        yield open_terminal
