"""What a service needs of a connection, and how it gets it from the connection it was given.

A service sees a Link and nothing else, so that no line of it depends on whose connection carries it.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from natsvc.core import Reply
from natsvc.message import Delivery

__all__ = ["Link", "Listener", "link"]


@dataclass(frozen=True, slots=True)
class Listener:
    """What a connection tells the service on it.

    Attributes:
        connection_closed: The connection is closed for good; with the cause.
        subscription_lost: The server has refused or dropped a subscription of the service; with the cause.
        connection_error: Something else went wrong that the service's owner may want to know.
        drain: The connection is about to be drained: stop, and return when the connection may go on with it.
    """

    connection_closed: Callable[[BaseException], None]
    subscription_lost: Callable[[BaseException], None]
    connection_error: Callable[[BaseException], None]
    drain: Callable[[], Awaitable[None]]


class Link(Protocol):
    """A service's end of its connection.

    What `subscribe` returns is the connection's own and means nothing to the service, but that it unsubscribes with it.
    """

    def max_payload(self) -> int:
        """Return the most bytes of headers and data that the server takes at the moment."""
        ...

    def subscribe(self, subject: str, queue_group: str, deliver: Callable[[Delivery], None]) -> Any:
        """Subscribe, ahead of everything that is sent after this call."""
        ...

    async def unsubscribe(self, subscriptions: list[Any]) -> None:
        """Unsubscribe; return when all has been delivered that the server had sent until it took note.

        Without a connection there is nothing to wait for.
        """
        ...

    def unsubscribe_soon(self, subscriptions: list[Any]) -> None:
        """Unsubscribe without waiting; of those that are no longer subscribed nothing happens."""
        ...

    async def publish(self, reply: Reply) -> None:
        """Publish; wait while the connection has more to write than it should hold."""
        ...

    async def confirm(self) -> None:
        """Return when the server has processed all that was sent; without a connection, at once."""
        ...

    def close(self) -> None:
        """The service has stopped: tell it nothing more."""
        ...


def link(nc: object, listener: Listener) -> Link:
    """Return a service's link to a connection.

    Args:
        nc: A connected `nats.aio.client.Client` of nats-py.
        listener: What to tell the service.

    Raises:
        TypeError: It is something else.
        ConnectionClosedError: It is closed, draining, or was never connected.
    """
    # If nats-py isn't loaded, nobody has a client of it, and it need not be loaded to find that out.
    if "nats.aio.client" in sys.modules:
        from natsvc.asyncio import natspy

        if natspy.is_client(nc):
            return natspy.NatsPyLink(nc, listener)
    raise TypeError(f"nc must be a connected nats.aio.client.Client of nats-py, not {type(nc).__name__}")
