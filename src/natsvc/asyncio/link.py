"""What services and their callers need of a connection, and how they get it from the connection they were given.

A service sees a Link, a client a Caller, and nothing else, so that no line of them depends on whose connection carries
it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from natsvc.asyncio.carrying import Receive
from natsvc.asyncio.connection import Connection
from natsvc.asyncio.request import Request
from natsvc.core import Reply, Server
from natsvc.message import Data, Delivery, Message
from natsvc.wire.backlog import Backlog
from natsvc.wire.connection import SubscriptionState

__all__ = ["Caller", "Link", "Listener", "caller", "link"]


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

    Attributes:
        server: What says what the server takes at the moment.
    """

    server: Server

    def subscribe(self, subject: str, queue_group: str, receive: Receive) -> Any:
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

    def send(self, reply: Reply) -> Any:
        """Publish; if that is not all there is to do, return something true, to be passed to `attend`."""
        ...

    def attend(self, sent: Any) -> Awaitable[None] | None:
        """Do what there is to do; while the connection has more to write than it should hold, return what to wait for.

        In two steps, for the first is nearly always all, and is a method of the connection's own.
        """
        ...

    async def confirm(self) -> None:
        """Return when the server has processed all that was sent; without a connection, at once."""
        ...

    def close(self) -> None:
        """The service has stopped: tell it nothing more."""
        ...


class Caller(Protocol):
    """A client's end of its connection. The connection may be closed, and made again, between two calls."""

    async def request(self, subject: str, data: Data, timeout: float, headers: Mapping[str, str] | None) -> Message:
        """Publish a request, and return the first answer, whatever it says.

        Raises:
            NoRespondersError: Nobody is subscribed to the subject.
            RequestTimeoutError: No answer came within so many seconds.
            NatsvcError: The request can't be sent, or the connection was closed before there was an answer.
        """
        ...

    def backlog(self, subject: str) -> Backlog:
        """Return what the answers to a request to this subject can wait in until they are taken."""
        ...

    def collect(
        self,
        subject: str,
        data: Data,
        headers: Mapping[str, str] | None,
        receive: Callable[[Delivery], None],
        fail: Callable[[BaseException], None],
    ) -> AbstractContextManager[None]:
        """Publish a request, and deliver all answers while the block lasts.

        Neither entering nor leaving it waits, so there is no moment at which a cancellation could leave a subscription
        behind. An answer that says that there are no responders is delivered like any other.

        Args:
            subject: The subject.
            data: The body.
            headers: The headers.
            receive: What the answers go to, in order.
            fail: What is told that no answer can come, because the server has refused the request or the subscription,
                or the connection is closed; with that error. It may be told more than once.

        Raises:
            NatsvcError: The request can't be sent.
        """
        ...


def link(nc: object, listener: Listener) -> Link:
    """Return a service's link to a connection.

    Args:
        nc: A connected Connection of natsvc, or a connected `nats.aio.client.Client` of nats-py.
        listener: What to tell the service.

    Raises:
        TypeError: It is something else.
        ConnectionClosedError: It is closed, draining, or was never connected.
    """
    if isinstance(nc, Connection):
        return ConnectionLink(nc, listener)
    # If nats-py isn't loaded, nobody has a client of it, and it need not be loaded to find that out.
    if "nats.aio.client" in sys.modules:
        from natsvc.asyncio import natspy

        if natspy.is_client(nc):
            return natspy.NatsPyLink(nc, listener)
    raise _no_connection(nc)


def caller(nc: object) -> Caller:
    """Return a client's link to a connection.

    Args:
        nc: A Connection of natsvc, or a `nats.aio.client.Client` of nats-py.

    Raises:
        TypeError: It is something else.
    """
    if isinstance(nc, Connection):
        return ConnectionCaller(nc)
    if "nats.aio.client" in sys.modules:
        from natsvc.asyncio import natspy

        if natspy.is_client(nc):
            return natspy.NatsPyCaller(nc)
    raise _no_connection(nc)


def _no_connection(nc: object) -> TypeError:
    return TypeError(
        f"nc must be a connected Connection of natsvc or nats.aio.client.Client of nats-py, not {type(nc).__name__}"
    )


class ConnectionLink:
    """A service's link to a connection of natsvc.

    Args:
        connection: The connection. It belongs to the caller, who closes it.
        listener: What to tell the service.

    Raises:
        ConnectionClosedError: It is closed, draining, or was never connected.
    """

    def __init__(self, connection: Connection, listener: Listener) -> None:
        self._driver = driver = connection._driver
        self._state = driver.state
        self.server: Server = driver.state
        self.send = driver.state.answer
        self._listener = listener
        self._state.check_usable()
        driver.listeners.append(listener)

    def subscribe(self, subject: str, queue_group: str, receive: Receive) -> SubscriptionState:
        """Subscribe, ahead of everything that is sent after this call."""
        subscription = self._state.subscribe(subject, queue_group, receive, self._ended, Request)
        self._driver.send()
        return subscription

    async def unsubscribe(self, subscriptions: list[SubscriptionState]) -> None:
        """Unsubscribe; return when all has been delivered that the server had sent until it took note."""
        for subscription in subscriptions:
            self._state.unsubscribe(subscription)
        await self._driver.confirm()
        self.unsubscribe_soon(subscriptions)

    def unsubscribe_soon(self, subscriptions: list[SubscriptionState]) -> None:
        """Unsubscribe without waiting; of those that are no longer subscribed nothing happens."""
        for subscription in subscriptions:
            self._state.forget(subscription)
        self._driver.send()

    def attend(self, sent: Any) -> Awaitable[None] | None:
        """Have it written; while the connection has more to write than it should hold, return what to wait for."""
        return self._driver.see_to_writing()

    async def confirm(self) -> None:
        """Return when the server has processed all that was sent; without a connection, at once."""
        await self._driver.confirm()

    def close(self) -> None:
        """The service has stopped: tell it nothing more."""
        if self._listener in self._driver.listeners:
            self._driver.listeners.remove(self._listener)

    def _ended(self, error: BaseException | None) -> None:
        if error is not None and not self._state.is_closed:  # the end of the connection is told by itself
            self._listener.subscription_lost(error)


class ConnectionCaller:
    """A client's link to a connection of natsvc.

    Args:
        connection: The connection. It belongs to the caller, who closes it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._driver = connection._driver
        self._state = connection._driver.state

    async def request(self, subject: str, data: Data, timeout: float, headers: Mapping[str, str] | None) -> Message:
        """Publish a request, and return the first answer, whatever it says."""
        return await self._connection.request(subject, data, timeout=timeout, headers=headers)

    def backlog(self, subject: str) -> Backlog:
        """Return what the answers to a request to this subject can wait in until they are taken."""
        options = self._connection._options
        return Backlog(subject, options.max_pending_messages, options.max_pending_bytes)

    @contextlib.contextmanager
    def collect(
        self,
        subject: str,
        data: Data,
        headers: Mapping[str, str] | None,
        receive: Callable[[Delivery], None],
        fail: Callable[[BaseException], None],
    ) -> Iterator[None]:
        """Publish a request, and deliver all answers while the block lasts."""
        subscription = self._state.collect(subject, data, headers, receive, fail)
        self._driver.send()
        try:
            yield
        finally:
            self._state.forget(subscription)
            self._driver.send()
