"""The answers to all requests of a connection, by one wildcard subscription (ADR-40's "request multiplexing").

Each request gets a reply subject of its own below the inbox, whose last token is the number of the request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from natsvc.errors import NoRespondersError
from natsvc.message import says_no_responders

if TYPE_CHECKING:
    from natsvc.message import Message
    from natsvc.wire.effects import Waiter

__all__ = ["Inbox"]


class Inbox:
    """The requests that wait for their answer.

    Args:
        prefix: The subject that reply subjects are made of; the connection subscribes to `subject`.
    """

    __slots__ = ("_last", "_prefix", "_waiting")

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix + "."
        self._last = 0
        self._waiting: dict[str, tuple[Waiter, str]] = {}

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
