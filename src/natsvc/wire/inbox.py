"""The answers to all requests of a connection, by one wildcard subscription (ADR-40's "request multiplexing").

Each request gets a reply subject of its own below the inbox, whose last token is the number of the request.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from natsvc.errors import NoRespondersError, RequestTimeoutError
from natsvc.message import says_no_responders

if TYPE_CHECKING:
    from natsvc.message import Message
    from natsvc.wire.effects import Waiter

__all__ = ["Inbox"]

_SPARE = 64
"""So many deadlines of requests that are over may be kept beside as many as there are of others."""


class Inbox:
    """The requests that wait for their answer.

    Args:
        prefix: The subject that reply subjects are made of; the connection subscribes to `subject`.
    """

    __slots__ = ("_deadlines", "_last", "_prefix", "_waiting")

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix + "."
        self._last = 0
        self._waiting: dict[str, tuple[Waiter, str]] = {}
        self._deadlines: list[tuple[int, str, float]] = []  # a heap, of requests that are over as well

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def subject(self) -> str:
        """What to subscribe to."""
        return self._prefix + "*"

    def expect(self, waiter: Waiter, subject: str) -> str:
        """Expect the answer to a request to this subject; return the reply subject to send with it."""
        self._last += 1
        reply = self._prefix + str(self._last)
        self._waiting[reply] = (waiter, subject)
        return reply

    def limit(self, reply: str, deadline: int, timeout: float) -> None:
        """Expect that answer until the deadline, which is the end of so many seconds."""
        deadlines = self._deadlines
        if len(deadlines) > 2 * len(self._waiting) + _SPARE:
            deadlines[:] = [one for one in deadlines if one[1] in self._waiting]
            heapify(deadlines)
        heappush(deadlines, (deadline, reply, timeout))

    def expire(self, now: int) -> list[tuple[Waiter, RequestTimeoutError]]:
        """Return those whose deadline has come, with what to tell them, and forget them."""
        expired = []
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            _, reply, timeout = heappop(self._deadlines)
            waiter, subject = self._waiting.pop(reply)
            text = f"the request to {subject!r} was not answered within {timeout:g} s"
            expired.append((waiter, RequestTimeoutError(text)))
        return expired

    def next_deadline(self) -> int | None:
        """Return the first deadline there is."""
        deadlines = self._deadlines
        while deadlines and deadlines[0][1] not in self._waiting:
            heappop(deadlines)
        return deadlines[0][0] if deadlines else None

    def forget(self, reply: str) -> None:
        """Nobody waits for this answer any more."""
        self._waiting.pop(reply, None)

    def receive(self, message: Message) -> None:
        """Hand an answer to whoever waits for it; one that nobody waits for is late, or a second one."""
        expected = self._waiting.pop(message.subject, None)
        if expected is not None:
            waiter, subject = expected
            waiter(NoRespondersError(subject) if says_no_responders(message) else message)

    def take_waiters_of(self, subject: str) -> list[Waiter]:
        """Return those who wait for the answer to a request to this subject, and forget them."""
        replies = [reply for reply, (_, requested) in self._waiting.items() if requested == subject]
        return [self._waiting.pop(reply)[0] for reply in replies]

    def take_waiters(self) -> list[Waiter]:
        """Return all who wait, and forget them."""
        waiting, self._waiting = self._waiting, {}
        return [waiter for waiter, _ in waiting.values()]
