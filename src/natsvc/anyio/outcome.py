"""What a state machine will tell, waited for by a task."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import anyio

__all__ = ["Outcome"]

_T = TypeVar("_T")


class Outcome(Generic[_T]):
    """Something to wait for, once. Whoever waits may be cancelled; it is told all the same, and nobody minds."""

    __slots__ = ("_event", "_value")

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._value: Any = None

    def settle(self, value: Any) -> None:
        """Take the outcome: a value, or an exception to be raised. Only the first counts."""
        if not self._event.is_set():
            self._value = value
            self._event.set()

    async def wait(self) -> _T:
        """Return the outcome, or raise it."""
        await self._event.wait()
        if isinstance(self._value, BaseException):
            raise self._value
        value: _T = self._value
        return value
