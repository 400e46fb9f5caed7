"""What a service's state machine asks its front-end to do.

The requests to run are what `receive` and `finish` return, because every message passes there. Everything else is
rarer, and is one of these values in `ServiceState.effects`, to be performed in order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from natsvc.core.replies import Reply
    from natsvc.core.request import BaseRequest
    from natsvc.message import Delivery

__all__ = [
    "DEBUG",
    "ERROR",
    "WARNING",
    "Cancel",
    "Effect",
    "Flush",
    "Interest",
    "Log",
    "Publish",
    "Receiver",
    "Report",
    "Run",
    "Stopped",
    "Subscribe",
    "Unsubscribe",
    "WakeAt",
]

DEBUG = 10
WARNING = 30
ERROR = 40
"""Levels of Python's logging, which is I/O, and so isn't loaded here."""


class Receiver(Protocol):
    """What the messages of a subscription go to: an endpoint, or a control verb."""

    def receive(self, message: Delivery, now: int) -> BaseRequest | None:
        """Take a message; return the request if it is to be run now."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Interest:
    """One subscription of the service.

    Attributes:
        subject: What to subscribe to.
        queue_group: The queue group, "" for none.
        receiver: What its messages go to.
    """

    subject: str
    queue_group: str
    receiver: Receiver


@dataclass(frozen=True, slots=True, eq=False)
class Subscribe:
    """Subscribe, before anything that is published afterwards."""

    interest: Interest


@dataclass(frozen=True, slots=True, eq=False)
class Unsubscribe:
    """Unsubscribe from those that are subscribed.

    If `confirm`, deliver all that the server has sent until it took note, then call `unsubscribed`.
    """

    interests: tuple[Interest, ...]
    confirm: bool


@dataclass(frozen=True, slots=True, eq=False)
class Flush:
    """Have the server confirm that it has all that was published, then call `flushed`."""


@dataclass(frozen=True, slots=True, eq=False)
class Publish:
    """Publish a reply; what is in it is for nobody else."""

    reply: Reply = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Run a request that has got the slot of a handler which waits for the service to stop."""

    request: BaseRequest


@dataclass(frozen=True, slots=True, eq=False)
class Cancel:
    """Cancel the handler of a request that has been answered in its place."""

    request: BaseRequest


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """Call the error_handler."""

    error: BaseException
    request: BaseRequest | None


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """Log something, where no lock is held that a user's logging handler may come to wait for.

    Attributes:
        level: A level of Python's logging.
        message: The text, with places for the arguments, as `Logger.log` takes it.
        arguments: What stands in these places.
        error: The exception whose traceback belongs to it, or None.
    """

    level: int
    message: str
    arguments: tuple[object, ...]
    error: BaseException | None = None


@dataclass(frozen=True, slots=True, eq=False)
class WakeAt:
    """Call `wake` at this time (nanoseconds) instead of at the time named before."""

    time: int


@dataclass(frozen=True, slots=True, eq=False)
class Stopped:
    """The service has stopped: say so to those who wait, then call the done_handler."""

    error: BaseException | None


Effect: TypeAlias = Subscribe | Unsubscribe | Flush | Publish | Run | Cancel | Report | Log | WakeAt | Stopped
