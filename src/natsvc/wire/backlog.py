"""The messages of one subscription that nobody has taken yet: bounded, because the server doesn't wait for a consumer.

When it is full, the newest message is the one that is dropped: what is there already came in order and stays whole.
"""

from __future__ import annotations

from collections import deque

from natsvc.errors import SlowConsumerError
from natsvc.message import Message

__all__ = ["Backlog"]


class Backlog:
    """A queue of messages with bounds.

    Args:
        subject: The subject of the subscription, for the error.
        max_messages: The most messages it holds.
        max_bytes: The most bytes of headers and data it holds.

    Attributes:
        dropped: How many messages were dropped so far.
        is_ended: Whether nothing more will come.
        error: Why nothing more will come, if that is an error.
    """

    __slots__ = (
        "_bytes",
        "_is_full",
        "_max_bytes",
        "_max_messages",
        "_messages",
        "_subject",
        "dropped",
        "error",
        "is_ended",
    )

    def __init__(self, subject: str, max_messages: int, max_bytes: int) -> None:
        self._subject = subject
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._messages: deque[tuple[Message, int]] = deque()
        self._bytes = 0
        self._is_full = False
        self.dropped = 0
        self.is_ended = False
        self.error: BaseException | None = None

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: Message) -> SlowConsumerError | None:
        """Add a message, or drop it if there is no room.

        Returns:
            The error to report: for the first message that is dropped, and for the first after there was room again.
        """
        if self.is_ended:
            return None
        size = message.size
        if len(self._messages) < self._max_messages and self._bytes + size <= self._max_bytes:
            self._messages.append((message, size))
            self._bytes += size
            self._is_full = False
            return None
        self.dropped += 1
        if self._is_full:
            return None
        self._is_full = True
        return SlowConsumerError(self._subject, self.dropped)

    def take(self) -> Message | None:
        """Return the oldest message; None if there is none."""
        if not self._messages:
            return None
        message, size = self._messages.popleft()
        self._bytes -= size
        return message

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more will come. What is there can still be taken."""
        if not self.is_ended:
            self.is_ended = True
            self.error = error

    def clear(self) -> None:
        """Forget the messages that nobody has taken."""
        self._messages.clear()
        self._bytes = 0
