"""natsvc's own connection on asyncio, as its users see it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

from natsvc.asyncio.driver import Driver, clock, settle
from natsvc.connecting import DEFAULT_SERVER, ConnectArguments, Preparation, prepare
from natsvc.core import REQUEST_TIMEOUT, AwaitableSelf, check_duration
from natsvc.errors import ConnectionClosedError, RequestTimeoutError, SubscriptionClosedError
from natsvc.message import Data, Message
from natsvc.wire.backlog import Backlog
from natsvc.wire.options import FLUSH_TIMEOUT
from natsvc.wire.view import ConnectionView

__all__ = ["Connection", "Subscription", "connect"]


def connect(servers: str | Sequence[str] | None = DEFAULT_SERVER, **options: Unpack[ConnectArguments]) -> Connection:
    """Connect to NATS, by awaiting this or by `async with`.

    Args:
        servers: A URL such as `nats://user:password@host:4222` or `tls://host`, or several. A host, or
            host:port, will do.
        options: See [ConnectArguments][natsvc.connecting.ConnectArguments].

    Raises:
        ConfigError: An option breaks a rule.
        AuthorizationError: The server does not accept the credentials.
        NoServersError: No server could be connected to.
    """
    return Connection(prepare(servers, options))


class Connection(ConnectionView):
    """One connection to NATS, made by `connect`.

    Awaiting it connects and gives itself. As an async context manager it connects, and when the block is left it stops
    the services on it, sends what is still to be sent, and closes. By an exception, that takes at most 5 seconds; by
    cancellation or Ctrl-C, it closes at once.

    When it breaks, it connects anew by itself, to the same or another server, and subscribes again.
    """

    def __init__(self, preparation: Preparation) -> None:
        self._options = preparation.options
        self._driver = Driver(preparation)
        self._state = self._driver.state
        self._loop = asyncio.get_running_loop()
        self._subscriptions: set[Subscription] = set()
        self._is_draining = False

    async def publish(
        self, subject: str, data: Data = b"", *, reply: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """Publish a message. While disconnected it is kept, and sent after the reconnect.

        It waits while the socket takes nothing more; it doesn't wait for the server, as `flush` does.

        Args:
            subject: Where to.
            data: The body: bytes, or text, sent as UTF-8.
            reply: Where answers go to. Default: none are expected.
            headers: Headers of the message.

        Raises:
            SubjectError: A subject can't be published to.
            HeaderError: A header can't be sent.
            MaxPayloadError: Headers and data are more than the server takes.
            OutboundBufferError: Disconnected, and more than `reconnect_buffer` would have to be kept.
            ConnectionClosedError: The connection is closed.
        """
        self._state.publish(subject, data, reply, headers)
        driver = self._driver
        driver.send()
        if driver.is_full:
            await driver.room()

    async def request(
        self,
        subject: str,
        data: Data = b"",
        *,
        timeout: float | None = REQUEST_TIMEOUT,
        headers: Mapping[str, str] | None = None,
    ) -> Message:
        """Publish a request, and wait for its answer.

        Args:
            subject: Where to.
            data: The body: bytes, or text, sent as UTF-8.
            timeout: Seconds that the answer may take.
            headers: Headers of the request.

        Raises:
            RequestTimeoutError: No answer came in time.
            NoRespondersError: Nobody is subscribed to the subject.
            NatsvcError: As `publish`.
        """
        limit = check_duration("timeout", timeout, REQUEST_TIMEOUT)
        answer: asyncio.Future[Message] = self._loop.create_future()
        waiter = functools.partial(settle, answer)
        reply = self._state.request(subject, data, headers, waiter, now=clock(), timeout=limit)
        self._driver.perform()
        try:
            return await answer
        finally:
            self._state.forget_request(reply)

    def subscribe(self, subject: str, *, queue: str | None = None) -> Subscription:
        """Subscribe, ahead of everything that the task sends afterwards; it may be awaited, and needs not be.

        Args:
            subject: The subject; `*` stands for one token, `>` for the rest.
            queue: The queue group to share the messages with. Default: none, every message comes.

        Raises:
            SubjectError: The subject or the queue group can't be subscribed to.
            ConnectionClosedError: The connection is closed or being drained.
        """
        subscription = Subscription(self, subject, queue or "")
        self._subscriptions.add(subscription)
        return subscription

    async def flush(self, timeout: float | None = FLUSH_TIMEOUT) -> None:
        """Return when the server has processed all that was sent; while disconnected, that is after the reconnect.

        Args:
            timeout: Seconds that it may take.

        Raises:
            RequestTimeoutError: It took longer.
            ConnectionLostError: The connection broke meanwhile; what was sent may not have arrived.
            ConnectionClosedError: The connection is closed.
        """
        limit = check_duration("timeout", timeout, FLUSH_TIMEOUT)
        try:
            async with asyncio.timeout(limit):
                await self._driver.ping()
        except TimeoutError:
            raise RequestTimeoutError(f"the server has not confirmed within {limit:g} s") from None

    async def drain(self) -> None:
        """Stop the services on the connection, take what subscriptions still get, send all there is, and close.

        Subscriptions end; whoever takes their messages has taken all when asking for one more. Cancelled, it closes at
        once. A second call waits for the first.

        It may take `drain_timeout`; what is not done then is given up, and RequestTimeoutError reported to `on_error`.
        A consumer or a handler that drains its own connection is waited for until then, too.

        Raises:
            ConnectionClosedError: The connection is closed.
        """
        self._state.check_open()
        if self._is_draining:
            await self._stop_services()  # they need not wait for a handler that waits here
            await self._driver.has_closed()
            return
        self._is_draining = True
        limit = self._options.drain_timeout
        try:
            async with asyncio.timeout(limit):
                await self._stop_services()
                self._state.is_draining = True
                subscriptions = list(self._subscriptions)
                for subscription in subscriptions:
                    subscription._leave()
                await self._driver.confirm()
                for subscription in subscriptions:
                    subscription._end()
                await self._all_taken(subscriptions)
                await self._driver.confirm()
        except TimeoutError:
            self._driver.report(RequestTimeoutError(f"the connection was not drained within {limit:g} s"))
        finally:
            self._driver.close()
        await self._driver.has_closed()

    async def close(self) -> None:
        """Write what is still to be written, and close: services and subscriptions on it end at once.

        Again: no effect.
        """
        self._driver.close()
        await self._driver.has_closed()

    async def reconnect(self) -> None:
        """Leave the server, and connect anew without waiting; `flush` waits until that is done.

        Raises:
            ConnectionClosedError: The connection is closed.
        """
        self._driver.reconnect()

    async def _stop_services(self) -> None:
        listeners = list(self._driver.listeners)
        if listeners:
            await asyncio.gather(*(listener.drain() for listener in listeners))

    async def _all_taken(self, subscriptions: list[Subscription]) -> None:
        """Wait until all messages have been taken from ended subscriptions, or the connection is closed."""
        taken = {asyncio.ensure_future(one._emptied.wait()) for one in subscriptions}
        closed = asyncio.ensure_future(self._driver.closed.wait())
        try:
            while taken and not closed.done():
                await asyncio.wait({closed, *taken}, return_when=asyncio.FIRST_COMPLETED)
                taken = {one for one in taken if not one.done()}
        finally:
            for one in {closed, *taken}:
                one.cancel()

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        await self._driver.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            limit = self._options.leave_timeout(error)
            if limit is not None:
                await self._leave(limit)
        finally:
            self._driver.close()
        await self._driver.has_closed()

    async def _leave(self, limit: float) -> None:
        """Do what is still to be done before the connection can be closed, as far as there is time."""
        try:
            async with asyncio.timeout(limit):
                if self._is_draining:
                    await self._driver.has_closed()
                else:
                    await self._stop_services()
                    with contextlib.suppress(ConnectionClosedError):  # by somebody else, who wanted it so
                        await self._driver.confirm()
        except TimeoutError:
            self._driver.report(RequestTimeoutError(f"not all was done within {limit:g} s"))


class Subscription(AwaitableSelf):
    """A subscription: an async iterator of its messages, made by `Connection.subscribe`.

    It holds up to `max_pending_messages` and `max_pending_bytes` that nobody has taken. What comes when it is full is
    dropped and counted, and SlowConsumerError reported to `on_error`. As an async context manager it unsubscribes when
    the block is left.
    """

    def __init__(self, connection: Connection, subject: str, queue_group: str) -> None:
        options = connection._options
        self._connection = connection
        self._driver = connection._driver
        self._backlog = Backlog(subject, options.max_pending_messages, options.max_pending_bytes)
        self._arrived = asyncio.Event()
        self._emptied = asyncio.Event()
        self._state = self._driver.state.subscribe(subject, queue_group, self._receive, self._end)
        self._driver.send()

    @property
    def subject(self) -> str:
        """What it is subscribed to."""
        return self._state.subject

    @property
    def queue_group(self) -> str:
        """The queue group, "" for none."""
        return self._state.queue_group

    @property
    def dropped(self) -> int:
        """How many messages were dropped because it was full."""
        return self._backlog.dropped

    async def receive(self, timeout: float | None = None) -> Message:
        """Return the next message.

        Args:
            timeout: Seconds to wait for one. Default: for ever.

        Raises:
            RequestTimeoutError: None came in time.
            SubscriptionClosedError: The subscription has ended, and all its messages have been taken.
            NatsvcError: What ended it: PermissionsError, ConnectionClosedError.
        """
        limit = None if timeout is None else check_duration("timeout", timeout, 0)
        try:
            async with asyncio.timeout(limit):
                message = await self._next()
        except TimeoutError:
            raise RequestTimeoutError(f"no message on {self.subject!r} within {limit:g} s") from None
        if message is None:
            raise SubscriptionClosedError(f"the subscription to {self.subject!r} has ended")
        return message

    async def unsubscribe(self) -> None:
        """Unsubscribe, and drop the messages that nobody has taken. Again: no effect."""
        self._driver.state.forget(self._state)
        self._driver.send()
        self._backlog.clear()
        self._end()

    async def drain(self) -> None:
        """Unsubscribe; return when all is there that was sent until the server took note.

        What is there can still be taken.

        Raises:
            RequestTimeoutError: The server has not confirmed within `drain_timeout`; the subscription has ended.
        """
        limit = self._connection._options.drain_timeout
        self._leave()
        try:
            async with asyncio.timeout(limit):
                await self._driver.confirm()
        except TimeoutError:
            raise RequestTimeoutError(f"the server has not confirmed within {limit:g} s") from None
        finally:
            self._end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        message = await self._next()
        if message is None:
            raise StopAsyncIteration
        return message

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.unsubscribe()

    async def _next(self) -> Message | None:
        """Return the next message; None if none will come."""
        backlog = self._backlog
        while (message := backlog.take()) is None:
            if backlog.is_ended:
                self._emptied.set()
                if backlog.error is not None:
                    raise backlog.error
                return None
            self._arrived.clear()
            await self._arrived.wait()
        return message

    def _receive(self, message: Message) -> None:
        error = self._backlog.put(message)
        if error is None:
            self._arrived.set()
        else:
            self._driver.report(error)

    def _leave(self) -> None:
        self._driver.state.unsubscribe(self._state)
        self._driver.send()

    def _end(self, error: BaseException | None = None) -> None:
        self._driver.state.forget(self._state)
        self._backlog.end(error)
        self._arrived.set()
        if not self._backlog:
            self._emptied.set()
        self._connection._subscriptions.discard(self)

    def __repr__(self) -> str:
        return f"<Subscription to {self.subject!r}, {len(self._backlog)} messages to be taken>"
