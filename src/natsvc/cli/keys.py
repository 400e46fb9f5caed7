"""Keys as they are pressed: the terminal hands them over one by one, without Enter, and doesn't show them.

What the terminal was like before comes back when the block is left, however that is.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from collections.abc import Callable, Iterator

__all__ = ["pressed_keys"]

_ESCAPED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|.)?", re.DOTALL)
"""What arrows and the like come as (ECMA-48, and SS3 as terminals have it): characters that nobody has pressed."""


if sys.platform == "win32":
    import msvcrt

    _POLL_INTERVAL = 0.05

    @contextlib.contextmanager
    def pressed_keys(take: Callable[[str], object]) -> Iterator[None]:
        """Within the block, call a function with each key that is pressed and stands for a character.

        Args:
            take: Called in a thread of its own.
        """
        ended = threading.Event()

        def read() -> None:
            while not ended.wait(_POLL_INTERVAL):
                while msvcrt.kbhit():
                    if (key := msvcrt.getwch()) in "\x00\xe0":
                        msvcrt.getwch()  # the second half of a key that stands for no character
                    else:
                        take(key)

        thread = threading.Thread(target=read, name="natsvc-keys", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

else:
    import os
    import select
    import termios
    import tty

    @contextlib.contextmanager
    def pressed_keys(take: Callable[[str], object]) -> Iterator[None]:
        """Within the block, call a function with each key that is pressed and stands for a character.

        Ctrl-C is the signal that it always is; Ctrl-Z does nothing, for who draws on the whole screen can't leave it
        between two keys. Where stdin is no terminal, there are no keys.

        Args:
            take: Called in a thread of its own.
        """
        if not sys.stdin.isatty():
            yield
            return
        terminal = sys.stdin.fileno()
        before = termios.tcgetattr(terminal)
        woken, wake = os.pipe()
        thread = threading.Thread(target=_read, args=(terminal, woken, take), name="natsvc-keys", daemon=True)
        try:
            tty.setcbreak(terminal)
            _switch_off_suspend(terminal)
            thread.start()
            yield
        finally:
            os.close(wake)
            if thread.ident is not None:
                thread.join()
            os.close(woken)
            with contextlib.suppress(termios.error):  # the terminal itself may have gone
                termios.tcsetattr(terminal, termios.TCSAFLUSH, before)

    def _read(terminal: int, woken: int, take: Callable[[str], object]) -> None:
        while True:
            ready, _, _ = select.select([terminal, woken], [], [])
            if woken in ready:
                return
            try:
                keys = os.read(terminal, 1024)
            except OSError:
                return
            if not keys:
                return
            for key in _ESCAPED.sub("", keys.decode(errors="ignore")):
                take(key)

    def _switch_off_suspend(terminal: int) -> None:
        attributes = termios.tcgetattr(terminal)
        attributes[6][termios.VSUSP] = os.fpathconf(terminal, "PC_VDISABLE").to_bytes(1, "little")
        termios.tcsetattr(terminal, termios.TCSADRAIN, attributes)
