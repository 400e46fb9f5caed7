"""When a question is over that any number may answer.

Nobody knows how many answers there will be, so the end is a matter of time: it is over after its timeout, when for a
while nothing more has come, or when it has as many answers as were asked for (ADR-47, "Config").
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from natsvc.core.calling import check_duration
from natsvc.errors import ConfigError

__all__ = ["Ending", "EndingReason", "check_limit", "nanoseconds"]

EndingReason: TypeAlias = Literal["empty message", "limit", "stall", "timeout"]
"""What has ended the answers, if it was no error."""

_LATE = 5_000_000
"""Nanoseconds: whoever looks at the clock so much too late was busy, and has not taken what came meanwhile."""

_MOMENT = 50_000_000
"""Nanoseconds that are enough to take it."""


class Ending:
    """The part that time and number have in a question.

    Times are nanoseconds of any clock that only goes forward.

    Args:
        timeout_ns: How long it takes at most.
        stall_ns: How long it goes on after an answer; it counts from the first answer on. None: up to the timeout.
        limit: How many answers end it. None: no number does.

    Attributes:
        deadline: When to call `wake`, unless something comes before; each answer can move it, either way.
        is_over: Whether there is nothing more to wait for.
        ended_by: What has ended it. None: nothing yet, an error, or whoever has asked.
    """

    __slots__ = (
        "_count",
        "_end",
        "_error",
        "_granted",
        "_is_extended",
        "_limit",
        "_stall",
        "_timeout",
        "deadline",
        "ended_by",
        "is_over",
    )

    def __init__(self, *, timeout_ns: int, stall_ns: int | None, limit: int | None) -> None:
        self.deadline = 0
        self.is_over = False
        self.ended_by: EndingReason | None = None
        self._timeout = timeout_ns
        self._stall = stall_ns
        self._limit = limit
        self._end = 0
        self._count = 0
        self._granted: int | None = None
        self._is_extended = False
        self._error: BaseException | None = None

    def begin(self, now: int) -> None:
        """Have the timeout count from now."""
        self.deadline = self._end = now + self._timeout

    def wake(self, now: int) -> None:
        """Take note of the time; what has come late, but before this, counts.

        If this is called late, the program was busy, and what came meanwhile may not have been taken yet. Then it is
        over a moment later: that is granted once for each silence, and once for the timeout.
        """
        if self.is_over or now < self.deadline:
            return
        is_last = now >= self._end
        if now - self.deadline > _LATE and self.deadline != self._granted and not self._is_extended:
            if is_last:
                self._is_extended = True
                self._end = now + _MOMENT
            self.deadline = self._granted = min(now + _MOMENT, self._end)
            return
        self._finish("timeout" if is_last else "stall")

    def failed(self, error: BaseException) -> None:
        """Take note that no answer can come any more; of a question that is over, nothing happens."""
        if not self.is_over:
            self._error = error
            self.is_over = True

    def _answered(self, now: int) -> None:
        """There is one more answer."""
        self._count += 1
        if self._stall is not None:
            self.deadline = min(self._end, now + self._stall)
        if self._count == self._limit:
            self._finish("limit")

    def _finish(self, reason: EndingReason) -> None:
        self.ended_by = reason
        self.is_over = True


def check_limit(limit: object) -> int | None:
    """Return how many answers are enough; None means that no number is.

    Raises:
        ConfigError: It is not a whole number of at least 1.
    """
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ConfigError("limit", limit, "must be a whole number, 1 or more")
    return limit


def nanoseconds(field: str, value: object, default: float) -> int:
    """Return the time that a call may take; None means the default, which is in seconds as the value is.

    Raises:
        ConfigError: It is not a finite number of at least 0.
    """
    return round(check_duration(field, value, default) * 1_000_000_000)
