"""natsvc's own connection on anyio, as its users see it."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, NoReturn, Self, Unpack

import anyio
import anyio.lowlevel

from natsvc.anyio.driver import Driver
from natsvc.anyio.outcome import Outcome
from natsvc.anyio.timer import clock
from natsvc.connecting import DEFAULT_SERVER, ConnectArguments, Preparation, prepare
from natsvc.core import REQUEST_TIMEOUT, AwaitableSelf, check_duration
from natsvc.errors import ConnectionClosedError, RequestTimeoutError, SubscriptionClosedError
from natsvc.message import Data, Message
from natsvc.wire.backlog import Backlog
from natsvc.wire.options import FLUSH_TIMEOUT
from natsvc.wire.view import ConnectionView

__all__ = ["Connection", "Subscription", "connect"]

_TAKEN_IN_A_ROW = 100
"""So many messages are taken from a subscription before other tasks get their turn."""


def connect(servers: str | Sequence[str] | None = DEFAULT_SERVER, **options: Unpack[ConnectArguments]) -> Connection:
    """Connect to NATS for the time of a block: write `async with` before it, and `as nc` behind.

    The tasks of the connection live in the block, and none outlives it.

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
    """One connection to NATS, made by `connect`: an async context manager, to be entered once.

    When the block is left, the services on the connection are stopped, what is still to be sent is sent, and it is
    closed. By an exception, that takes at most 5 seconds; by cancellation or Ctrl-C, it closes at once. The exception
    that leaves the block leaves it as itself.

    When it breaks, it connects anew by itself, to the same or another server, and subscribes again.
    """

    def __init__(self, preparation: Preparation) -> None:
        self._options = preparation.options
        self._driver = Driver(preparation)
        self._state = self._driver.state
        self._subscriptions: set[Subscription] = set()
        self._is_draining = False

    async def publish(
        self, subject: str, data: Data = b"", *, reply: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """Publish a message. While disconnected it is kept, and sent after the reconnect.

        It waits while the socket takes nothing more; it doesn't wait for the server, as `flush` does. Where it needn't
        wait it is no checkpoint, but it lets other tasks have their turn every 64 KiB.

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
        answer = Outcome[Message]()
        reply = self._state.request(subject, data, headers, answer.settle, now=clock(), timeout=limit)
        self._driver.perform()
        try:
            return await answer.wait()
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
        with anyio.move_on_after(limit):
            await self._driver.ping()
            return
        raise RequestTimeoutError(f"the server has not confirmed within {limit:g} s")

    async def drain(self) -> None:
        """Stop the services on the connection, take what subscriptions still get, send all there is, and close.

        Subscriptions end; whoever takes their messages has taken all when asking for one more. Cancelled, it closes at
        once. A second call waits for the first.

        It may take `drain_timeout`; what is not done then is given up, and RequestTimeoutError reported to `on_error`.
        A consumer that drains its own connection is waited for until then, too.

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
            with anyio.move_on_after(limit) as draining:
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
            if draining.cancelled_caught:
                self._driver.report(RequestTimeoutError(f"the connection was not drained within {limit:g} s"))
        finally:
            self._driver.close()
        await self._driver.has_closed()

    async def close(self) -> None:
        """Write what is still to be written, and close: services and subscriptions on it end at once.

        Again: no effect. The block of the connection goes on, with a connection that is closed.
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
        if not listeners:
            return
        async with anyio.create_task_group() as stopping:
            for listener in listeners:
                stopping.start_soon(listener.drain)

    async def _all_taken(self, subscriptions: list[Subscription]) -> None:
        """Wait until all messages have been taken from ended subscriptions, or the connection is closed."""

        async def wait() -> None:
            for subscription in subscriptions:
                await subscription._emptied.wait()
            waiting.cancel_scope.cancel()

        async with anyio.create_task_group() as waiting:
            waiting.start_soon(wait)
            await self._driver.closed.wait()
            waiting.cancel_scope.cancel()

    def __await__(self) -> Generator[Any, None, NoReturn]:
        raise TypeError("its tasks need a block to live in: async with connect(...) as nc:")

    async def __aenter__(self) -> Self:
        await self._driver.enter()
        try:
            await self._driver.open()
        except BaseException as error:
            await self._driver.leave(error)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        leaving = error
        try:
            limit = self._options.leave_timeout(error)
            if limit is not None:
                await self._finish(limit)
        except BaseException as raised:  # noqa: BLE001  # it is raised below
            leaving = error or raised
        await self._driver.leave(leaving)
        if leaving is not error and leaving is not None:
            raise leaving

    async def _finish(self, limit: float) -> None:
        """Do what is still to be done before the connection can be closed, as far as there is time."""
        with anyio.move_on_after(limit) as finishing:
            if self._is_draining:
                await self._driver.has_closed()
            else:
                await self._stop_services()
                with contextlib.suppress(ConnectionClosedError):
                    await self._driver.confirm()
        if finishing.cancelled_caught:
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
        self._arrived = anyio.Event()
        self._emptied = anyio.Event()
        self._taken = 0  # since other tasks had their turn
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
        if timeout is None:
            message = await self._next()
        else:
            limit = check_duration("timeout", timeout, 0)
            with anyio.move_on_after(limit) as waiting:
                message = await self._next()
            if waiting.cancelled_caught:
                raise RequestTimeoutError(f"no message on {self.subject!r} within {limit:g} s")
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
            with anyio.move_on_after(limit) as waiting:
                await self._driver.confirm()
        finally:
            self._end()
        if waiting.cancelled_caught:
            raise RequestTimeoutError(f"the server has not confirmed within {limit:g} s")

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
        self._taken += 1
        if self._taken >= _TAKEN_IN_A_ROW:
            self._taken = 0
            await anyio.lowlevel.checkpoint()
        while (message := backlog.take()) is None:
            if backlog.is_ended:
                self._emptied.set()
                if backlog.error is not None:
                    raise backlog.error
                return None
            if self._arrived.is_set():
                self._arrived = anyio.Event()
            self._taken = 0
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
