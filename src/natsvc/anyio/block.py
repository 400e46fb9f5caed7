"""The tasks of a connection or a service: they live as long as a block does, and none outlives it.

A task group of anyio does that, but it also wraps whatever leaves its block into an ExceptionGroup. What leaves a block
of natsvc's is what its body raised, as itself.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import anyio

from natsvc.core.handlers import error_leaf

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["TaskBlock", "is_cancelled"]


class TaskBlock:
    """A task group that is entered and left by hand.

    Args:
        what: What it belongs to, and how to write its block: for errors.

    Attributes:
        is_open: Whether tasks can be started.
    """

    def __init__(self, what: str) -> None:
        self.is_open = False
        self._what = what
        self._is_used = False
        self._group: anyio.abc.TaskGroup | None = None

    async def enter(self) -> None:
        """Begin.

        Raises:
            RuntimeError: It has been entered before.
        """
        if self._is_used:
            raise RuntimeError(f"{self._what} can be entered once")
        self._is_used = True
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self.is_open = True

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> None:
        """Start a task, in a copy of the current context."""
        if self._group is None or not self.is_open:
            raise RuntimeError(f"{self._what} is not running")
        self._group.start_soon(function, *arguments)

    async def leave(self, error: BaseException | None) -> None:
        """Cancel the tasks, and return when they have ended.

        Args:
            error: The exception that leaves the block, or None. If there is one, being cancelled here raises nothing:
                the exception has precedence.

        Raises:
            BaseException: What a task has raised; of one alone, without the group around it.
        """
        if self._group is None:
            return
        self.is_open = False
        group, self._group = self._group, None
        group.cancel_scope.cancel()
        try:
            await group.__aexit__(None, None, None)
        except BaseException as raised:  # noqa: BLE001  # it is raised again below, or not to be
            leaf = error_leaf(raised)
            if error is None or not isinstance(leaf, anyio.get_cancelled_exc_class()):
                raise leaf from leaf.__cause__


def is_cancelled() -> bool:
    """Whether the task has been cancelled by a scope around it, so that it can wait for nothing."""
    return anyio.current_effective_deadline() == -math.inf
