"""Writes what the state machines want logged, for they do no I/O themselves.

Python's logging is loaded when there is something to log, and not before: most scripts have nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from natsvc.core.effects import Log

__all__ = ["CLIENT", "SERVICE", "log"]

SERVICE = "natsvc.service"
"""The logger of services."""

CLIENT = "natsvc.client"
"""The logger of those who call them."""


def log(name: str, entry: Log) -> None:
    """Log an entry.

    Args:
        name: The logger's.
        entry: What to log.
    """
    import logging

    logging.getLogger(name).log(entry.level, entry.message, *entry.arguments, exc_info=entry.error)
