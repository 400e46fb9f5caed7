"""The first signal is ours, the second acts as if we weren't there.

Python's own `signal.signal` is used rather than an event loop's: it works in every kind of program and on every
platform, and what was installed before can be put back exactly.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["first_signal"]


class _Waiting:
    """Somebody who waits for the first of some signals."""

    def __init__(self, signals: Iterable[int], callback: Callable[[], object]) -> None:
        self.signals = frozenset(signals)
        self.callback = callback


_waiting: list[_Waiting] = []
_previous: dict[int, Any] = {}
"""What handled each signal before; used in the main thread only."""


@contextlib.contextmanager
def first_signal(signals: Iterable[int], callback: Callable[[], object]) -> Iterator[None]:
    """Within the block, the first of these signals calls `callback`, and all of them are as before from then on.

    Several such blocks may be open at once, and be left in any order: a signal calls back all that wait for it. Outside
    of the main thread, where Python lets nobody handle signals, nothing is changed.

    Args:
        signals: The signals, such as `signal.SIGTERM`.
        callback: Called in the main thread, between two steps of whatever runs there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    entry = _Waiting(signals, callback)
    _waiting.append(entry)
    try:
        for number in entry.signals - _previous.keys():
            _previous[number] = signal.signal(number, _handle)
        yield
    finally:
        if entry in _waiting:
            _waiting.remove(entry)
            _restore()


def _handle(number: int, _frame: object) -> None:
    called = [entry for entry in _waiting if number in entry.signals]
    for entry in called:
        _waiting.remove(entry)
    _restore()
    for entry in called:
        entry.callback()


def _restore() -> None:
    """Put back what handled those signals that nobody waits for any more."""
    wanted = {number for entry in _waiting for number in entry.signals}
    for number in _previous.keys() - wanted:
        handler = _previous.pop(number)
        # None: it was installed by something that is not Python, and can't be put back from here.
        signal.signal(number, signal.SIG_DFL if handler is None else handler)
