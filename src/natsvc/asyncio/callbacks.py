"""Users' callbacks: `def` or `async def`, each call in a context of its own.

What they raise is logged and goes no further, for whoever calls them has other things to do.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import contextvars

__all__ = ["Callbacks"]

_logger = logging.getLogger("natsvc.asyncio")


class Callbacks:
    """Calls the callbacks of one connection or service.

    Args:
        owner: Whose they are, for the log.
        context: The context they run in, each in a copy of its own.
    """

    def __init__(self, owner: str, context: contextvars.Context) -> None:
        self._owner = owner
        self._context = context
        self._running: set[asyncio.Task[None]] = set()

    def call(self, name: str, function: Callable[..., Any] | None, *arguments: Any) -> asyncio.Task[None] | None:
        """Call one, if it was given; return the task it goes on in, if it does."""
        if function is None:
            return None
        context = self._context.copy()
        try:
            returned = context.run(function, *arguments)
        except (Exception, asyncio.CancelledError):  # nobody has cancelled whoever calls it
            _logger.exception("%s: the %s failed", self._owner, name)
            return None
        if not inspect.isawaitable(returned):
            return None
        task = asyncio.get_running_loop().create_task(self._wait_for(name, returned), context=context)
        # The event loop itself holds tasks but weakly.
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _wait_for(self, name: str, returned: Awaitable[Any]) -> None:
        try:
            await returned
        except Exception:
            _logger.exception("%s: the %s failed", self._owner, name)
