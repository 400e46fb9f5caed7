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


@contextlib.contextmanager
def first_signal(signals: Iterable[int], callback: Callable[[], object]) -> Iterator[None]:
    """Within the block, the first of these signals calls `callback`, and all of them are as before from then on.

    Outside of the main thread, where Python lets nobody handle signals, nothing is changed.

    Args:
        signals: The signals, such as `signal.SIGTERM`.
        callback: Called in the main thread, between two steps of whatever runs there.
    """
    previous: dict[int, Any] = {}

    def restore() -> None:
        while previous:
            number, handler = previous.popitem()
            # None: it was installed by something that is not Python, and can't be put back from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def handle(_number: int, _frame: object) -> None:
        restore()
        callback()

    if threading.current_thread() is threading.main_thread():
        for number in signals:
            previous[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
