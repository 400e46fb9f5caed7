"""The end of the process, held up a little for what is still to be sent; and a process that was forked off."""

from __future__ import annotations

import atexit
import functools
import os
import time
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from natsvc.sync.callbacks import Callbacks
    from natsvc.sync.driver import Driver

__all__ = ["CLOSE_LIMIT", "look_after", "settle_before_logging_ends"]

CLOSE_LIMIT = 2.0
"""Seconds that the last bytes may take to get away."""

_drivers: weakref.WeakSet[Driver] = weakref.WeakSet()

_callbacks: weakref.WeakSet[Callbacks] = weakref.WeakSet()
"""Those that have something to do live on in their thread, also where nobody has the connection any more."""


def look_after(driver: Driver) -> None:
    """Let a connection and its callbacks do what is left to do at the end; in a forked process, abandon it."""
    _drivers.add(driver)
    _callbacks.add(driver.callbacks)


@functools.cache
def settle_before_logging_ends() -> None:
    """Have it settled also ahead of what has been registered since, such as logging's own end."""
    atexit.register(_settle_all)


@functools.cache
def _end_of_exit() -> float:
    """Return until when the end of the process may be held up; the first call begins it."""
    return time.monotonic() + CLOSE_LIMIT


@atexit.register
def _settle_all() -> None:
    end = _end_of_exit()
    for driver in list(_drivers):
        driver.settle(end)
    for callbacks in list(_callbacks):
        callbacks.settle(max(0.0, end - time.monotonic()))
    for driver in list(_drivers):  # of what they have published
        driver.settle(end)


def _abandon_all() -> None:
    for driver in list(_drivers):
        driver.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
