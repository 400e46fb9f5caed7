"""Users' callbacks: `def` or `async def`, each call in a context of its own.

What they raise is logged and goes no further, for whoever calls them has other things to do.
"""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Awaitable, Callable

    from natsvc.anyio.block import TaskBlock

__all__ = ["Callbacks", "Running"]

_logger = logging.getLogger("natsvc.anyio")


class Callbacks:
    """Calls the callbacks of one connection or service.

    Args:
        owner: Whose they are, for the log.
        context: The context they run in, each in a copy of its own.
        block: Where those run that wait for something.
    """

    def __init__(self, owner: str, context: contextvars.Context, block: TaskBlock) -> None:
        self._owner = owner
        self._context = context
        self._block = block
        self._running: set[Running] = set()

    def call(self, name: str, function: Callable[..., Any], *arguments: Any) -> Running | None:
        """Call one; return what it goes on in, if it does."""
        context = self._context.copy()
        try:
            returned = context.run(function, *arguments)
        except (Exception, anyio.get_cancelled_exc_class()):  # nobody has cancelled whoever calls it
            _logger.exception("%s: the %s failed", self._owner, name)
            return None
        if not inspect.isawaitable(returned):
            return None
        if not self._block.is_open:
            _logger.warning("%s: the %s came too late to be waited for", self._owner, name)
            if inspect.iscoroutine(returned):
                returned.close()
            return None
        running = Running()
        self._running.add(running)
        context.run(self._block.start_soon, self._wait_for, running, name, returned)
        return running

    async def are_over(self) -> None:
        """Wait for those that are under way."""
        for running in list(self._running):
            await running.over.wait()

    async def _wait_for(self, running: Running, name: str, returned: Awaitable[Any]) -> None:
        running.task_id = anyio.get_current_task().id
        try:
            await returned
        except Exception:
            _logger.exception("%s: the %s failed", self._owner, name)
        finally:
            self._running.discard(running)
            running.over.set()


class Running:
    """A callback under way.

    Attributes:
        over: Set when it has ended.
        task_id: The task that runs it; None before it has begun.
    """

    def __init__(self) -> None:
        self.over = anyio.Event()
        self.task_id: int | None = None

    @property
    def is_current_task(self) -> bool:
        """Whether it is what asks."""
        return self.task_id == anyio.get_current_task().id
