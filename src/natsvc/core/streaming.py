"""The replies to one request that has several, while they come in and are taken.

A service may respond as often as it likes, and a subject may have several services (ADR-47, "Request Many"). Replies
come when they come, whoever takes them takes his time, and so they wait in between. The time that counts is that of
their arrival: a caller who works on a reply for long doesn't make the service look slow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from natsvc.core.calling import REQUEST_TIMEOUT, service_error
from natsvc.core.ending import Ending, check_limit, nanoseconds
from natsvc.errors import NoRespondersError, RequestTimeoutError
from natsvc.message import Message, as_message, says_no_responders

if TYPE_CHECKING:
    from typing import Self

    from natsvc.message import Delivery

__all__ = ["Queue", "ReplyStream"]


class Queue(Protocol):
    """What replies wait in until they are taken; bounded."""

    def put(self, message: Message) -> BaseException | None:
        """Add a message; if there is no room, drop it and return the error."""
        ...

    def take(self) -> Message | None:
        """Return the oldest message; None if there is none."""
        ...

    def clear(self) -> None:
        """Forget all messages."""
        ...


class ReplyStream(Ending):
    """The replies to one request.

    It is over by time or number, by an empty message, which is not one of the replies, by an error reply, or when there
    is no room for a reply that nobody takes. What has come before is still to be taken, and then the error is raised.

    Args:
        subject: The subject of the request.
        queue: What replies wait in.
        timeout_ns: How long it takes at most.
        stall_ns: How long it goes on after a reply. None: up to the timeout.
        limit: How many replies end it. None: no number does.
    """

    __slots__ = ("_queue", "subject")

    def __init__(self, subject: str, queue: Queue, *, timeout_ns: int, stall_ns: int | None, limit: int | None) -> None:
        super().__init__(timeout_ns=timeout_ns, stall_ns=stall_ns, limit=limit)
        self.subject = subject
        self._queue = queue

    @classmethod
    def of(cls, subject: str, queue: Queue, *, timeout: float | None, stall: float | None, limit: int | None) -> Self:
        """Return the stream that a user asks for; None means the default.

        Args:
            subject: The subject of the request.
            queue: What replies wait in.
            timeout: Seconds that it takes at most. Default: 5.
            stall: Seconds after a reply within which the next one has to come. Default: as many as are left.
            limit: How many replies are enough. Default: no number is.

        Raises:
            ConfigError: A value breaks a rule.
        """
        return cls(
            subject,
            queue,
            timeout_ns=nanoseconds("timeout", timeout, REQUEST_TIMEOUT),
            stall_ns=None if stall is None else nanoseconds("stall", stall, 0),
            limit=check_limit(limit),
        )

    def received(self, delivery: Delivery, now: int) -> None:
        """Take a message that has come to the reply subject."""
        if self.is_over:
            return
        message = as_message(delivery, Message)
        if says_no_responders(message):
            self.failed(NoRespondersError(self.subject))
            return
        error = service_error(message) or (self._queue.put(message) if message.data else None)
        if error is not None:
            self.failed(error)
        elif message.data:
            self._answered(now)
        else:
            self._finish("empty message")

    def wake(self, now: int) -> None:
        """Take note of the time; see `Ending.wake`. A request that was not answered at all has failed."""
        super().wake(now)
        if self.ended_by == "timeout" and self._count == 0:
            self.ended_by = None
            self._error = RequestTimeoutError(
                f"the request to {self.subject!r} was not answered within {self._timeout / 1e9:g} s"
            )

    def take(self) -> Message | None:
        """Return the oldest reply that has not been taken.

        Returns:
            None if there is none: if it is over, there will be none.

        Raises:
            NatsvcError: What has ended it; all replies that came before have been taken.
        """
        message = self._queue.take()
        if message is None and self._error is not None:
            raise self._error
        return message

    def close(self) -> None:
        """Nobody wants any more: forget the replies that nobody has taken. Again: no effect."""
        self.is_over = True
        self._queue.clear()
