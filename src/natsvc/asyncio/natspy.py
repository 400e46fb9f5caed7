"""Services and their callers on a connection of nats-py: all that natsvc knows of that client is here.

The public API is used wherever it suffices. These private names can't be avoided, and are tested on the oldest and the
newest nats-py that is supported:

- `Client._send_unsubscribe(sid)` and `Subscription._id`: an UNSUB after which messages are still delivered. The public
  `unsubscribe()` drops what is on its way, and `drain()` lets go of the subscription too early, because its PING
  overtakes the UNSUB.
- `Subscription._drain()`, replaced on the service's own subscriptions: what `Client.drain()` calls and waits for. It is
  the only notice that a connection gives of being drained, and where it can be made to wait for handlers.
- `Client._error_cb`, with a callback around the owner's: where it tells of a subscription or publication that the
  server has refused. The public `last_error` holds the last of several only.
- `Client._status`, `_pending`, `_pending_data_size`, `_max_pending_size`, `_flush_queue` and `_flush_pending()`: where
  commands wait to be written, and what has them written. The public `publish()` checks again what the state machine has
  checked, in three coroutines; with it, a request takes 1.1 x the CPU time. Where one of these is missing, it is used.
- `Subscription._pending_queue` and `_pending_size`: what keeps messages for the task that calls back. Most of them are
  handed over where they would be kept: through the task, a request takes 1.15 x the CPU time.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import re
import sys
import types
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Mapping
from typing import Any, TypeGuard, TypeVar

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from natsvc.asyncio.carrying import Receive, deliver_all, deliver_one
from natsvc.asyncio.link import Listener
from natsvc.asyncio.memory import keep_freed_memory
from natsvc.asyncio.request import Request
from natsvc.core import Reply, Server
from natsvc.core.replies import make_reply
from natsvc.core.subjects import MAX_CONTROL_LINE
from natsvc.errors import (
    ConnectionClosedError,
    HeaderError,
    MaxPayloadError,
    NatsvcError,
    NoRespondersError,
    OutboundBufferError,
    PermissionsError,
    RequestTimeoutError,
)
from natsvc.headers import Headers
from natsvc.message import Data, Delivery, Message, as_message
from natsvc.wire import commands
from natsvc.wire.backlog import Backlog
from natsvc.wire.commands import check_subject
from natsvc.wire.options import MAX_PENDING_BYTES, MAX_PENDING_MESSAGES

__all__ = ["NatsPyCaller", "NatsPyLink", "is_client"]

_T = TypeVar("_T")

_CLOSED_INTERVAL = 1.0
"""Seconds between two looks at whether the client is closed: a close of it that fails half-way ends no iterator."""

_IN_A_ROW = 256
"""So many messages of a service are handed over before the event loop gets its turn."""

_RECONNECT_INTERVAL = 0.05
"""Seconds between two looks at whether a PONG still can come: a reconnect makes nats-py forget its PINGs."""

_FLUSH_TIMEOUT = 24 * 3600
"""Seconds; in effect none, for a flush of nats-py that times out breaks the connection when its PONG comes late."""

_VIOLATION = re.compile(r"permissions violation for (publish|subscription) to \"(.+?)\"(?: using queue| \(sid|$|')")

_flushes: set[asyncio.Task[bool]] = set()
"""Flushes under way. They belong to no service: a cancelled flush breaks the connection like one that timed out."""


def is_client(nc: object) -> TypeGuard[Client]:
    """Whether it is a connection of nats-py."""
    return isinstance(nc, Client)


class NatsPyLink:
    """A service's link to a connection of nats-py.

    Args:
        nc: The connection. It belongs to the caller, who closes it.
        listener: What to tell the service.

    Raises:
        ConnectionClosedError: It is closed, draining, or was never connected.
    """

    def __init__(self, nc: Client, listener: Listener) -> None:
        keep_freed_memory()
        _check_usable(nc)
        self._nc = nc
        self.server: Server = nc
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._started: list[asyncio.Future[Subscription]] = []
        self._in_a_row = 0
        self._watch: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._has_outbox = _has_outbox(nc)

    def subscribe(self, subject: str, queue_group: str, receive: Receive) -> asyncio.Future[Subscription]:
        """Subscribe, ahead of everything that is sent after this call."""
        deliver = functools.partial(deliver_one, self._loop, self._context, receive)
        if self._watch is None:
            # The end of an iterator is the only public sign of a connection that closes for good. It costs a task a
            # message; a service's first subscription is to a control subject, where few messages come.
            started = _begin(self._nc.subscribe(subject, queue=queue_group))
            self._watch = self._loop.create_task(self._iterate(started, deliver))
            self._timer = self._loop.call_later(_CLOSED_INTERVAL, self._look_whether_closed)
            _errors_of(self._nc).add(self._take_error)
        else:

            async def take(msg: Msg) -> None:
                deliver(_request(msg))
                # nats-py hands over all that has arrived in one go. Handlers that never wait run right there, and
                # nothing else would, until the last one is through.
                self._in_a_row += 1
                if self._in_a_row >= _IN_A_ROW:
                    self._in_a_row = 0
                    await asyncio.sleep(0)

            started = _begin(self._nc.subscribe(subject, queue=queue_group, cb=take))
            if started.done() and not started.cancelled() and started.exception() is None:
                # Its task has not begun to wait for messages yet.
                _HandOver.take_place(started.result(), self._context, receive)
        if started.done():
            try:
                started.result()
            except nats.errors.Error as error:
                raise _translated(error) from error
        started.add_done_callback(self._hold_drain)
        self._started.append(started)
        return started

    async def unsubscribe(self, subscriptions: list[asyncio.Future[Subscription]]) -> None:
        """Unsubscribe; return when all has been delivered that the server had sent until it took note."""
        nc = self._nc
        known = [subscription for started in subscriptions if (subscription := await _subscription(started))]
        # A reconnect subscribes again to what nats-py still knows: then the server has to be told again.
        while nc.is_connected:
            for subscription in known:
                await nc._send_unsubscribe(subscription._id)
            if await self._round_trip():
                break
        while not nc.is_closed and any(subscription.pending_msgs for subscription in known):
            await asyncio.sleep(0)
        for subscription in known:
            await _remove(nc, subscription)

    def unsubscribe_soon(self, subscriptions: list[asyncio.Future[Subscription]]) -> None:
        """Unsubscribe without waiting."""
        for started in subscriptions:
            _begin(_unsubscribe(self._nc, started))

    def send(self, reply: Reply) -> Awaitable[None] | None:
        """Publish; while nats-py has more to write than it should hold, return something to wait for."""
        nc: Any = self._nc
        subject, data, _, block = reply
        # What headers other than in ASCII come to is for nats-py to say.
        if not self._has_outbox or nc._status != Client.CONNECTED or not block.isascii():
            return self._publish(reply)
        assert isinstance(subject, str)  # noqa: S101  # as nats-py has them all
        command = commands.answer(subject.encode(), data, block)
        size = nc._pending_data_size + len(command)
        if size > nc._max_pending_size:
            return self._publish(reply)
        nc._pending.append(command)
        nc._pending_data_size = size
        nc.stats["out_msgs"] += 1
        nc.stats["out_bytes"] += len(data)
        if nc._flush_queue.empty():
            _begin(nc._flush_pending())
        return None

    def attend(self, sent: Awaitable[None]) -> Awaitable[None]:
        """Return what `send` has returned, to be waited for."""
        return sent

    async def _publish(self, reply: Reply) -> None:
        subject, data, headers, _ = reply
        assert isinstance(subject, str)  # noqa: S101  # as nats-py has them all
        try:
            await self._nc.publish(subject, data, headers=_sendable(headers))
        except (nats.errors.Error, UnicodeEncodeError) as error:
            raise _translated(error) from error

    async def confirm(self) -> None:
        """Return when the server has processed all that was sent; without a connection, at once."""
        for started in self._started:
            await _subscription(started)
        await self._round_trip()

    def close(self) -> None:
        """The service has stopped: tell it nothing more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            _errors_of(self._nc).discard(self._take_error)
        self._started.clear()

    async def _iterate(self, started: asyncio.Future[Subscription], deliver: Callable[[Delivery], None]) -> None:
        subscription = await _subscription(started)
        if subscription is not None:
            async for msg in subscription.messages:
                deliver(_request(msg))
        if self._nc.is_closed:
            self._tell_closed()

    def _look_whether_closed(self) -> None:
        self._timer = self._loop.call_later(_CLOSED_INTERVAL, self._look_whether_closed)
        if self._nc.is_closed:
            self._tell_closed()

    def _tell_closed(self) -> None:
        if not self._is_closed:
            error = ConnectionClosedError("the nats-py connection is closed")
            error.__cause__ = self._nc.last_error
            self._listener.connection_closed(error)

    def _hold_drain(self, started: asyncio.Future[Subscription]) -> None:
        """Make `Client.drain()` wait, with this subscription, for the service to stop."""
        if started.cancelled() or started.exception() is not None:
            return
        subscription = started.result()
        drain = subscription._drain

        async def drain_after_stop() -> None:
            if not self._is_closed:
                await self._listener.drain()
            await drain()

        subscription._drain = drain_after_stop  # type: ignore[method-assign]

    async def _round_trip(self) -> bool:
        """Wait until the server has processed all that was sent; return whether it has said so."""
        nc = self._nc
        connection = nc.stats["reconnects"]
        if nc.is_connected and nc.pending_data_size and not await self._pong(connection):
            return False
        # nats-py writes a PING ahead of what is still pending. By the time the first PONG is there, its flusher has
        # written that; the PING that follows is behind it.
        return nc.is_connected and await self._pong(connection)

    async def _pong(self, connection: int) -> bool:
        """Wait for an answer to a PING on this connection; return whether it came."""
        nc = self._nc
        flush = self._loop.create_task(_flush(nc))
        _flushes.add(flush)
        flush.add_done_callback(_flushes.discard)
        while not flush.done():
            await asyncio.wait({flush}, timeout=_RECONNECT_INTERVAL)
            if not nc.is_connected or nc.stats["reconnects"] != connection:
                flush.cancel()  # no PONG can come for it any more
                return False
        return not flush.cancelled() and flush.result()

    def _take_error(self, error: Exception) -> None:
        """See whether the client speaks of a permission; it does so in lower case."""
        violation = _VIOLATION.search(str(error))
        if violation is None:
            return
        operation, refused = violation.groups()
        if operation == "publish":
            self._listener.connection_error(PermissionsError(operation, refused))
            return
        for started in self._started:
            if not started.done() or started.cancelled() or started.exception() is not None:
                continue
            subject = started.result().subject
            if subject.lower() == refused:
                self._listener.subscription_lost(PermissionsError(operation, subject))
                return


def _request(msg: Msg) -> Request:
    return Request(msg.subject, msg.data, msg.reply, msg.headers)


def _check_usable(nc: Client) -> None:
    if not (nc.is_connected or nc.is_reconnecting) or nc.is_draining:
        raise ConnectionClosedError("the nats-py connection is closed, draining, or was never connected")


def _has_outbox(nc: Client) -> bool:
    """Whether commands wait to be written in the place where this module puts them."""
    return (
        isinstance(getattr(nc, "_status", None), int)
        and isinstance(getattr(nc, "_pending", None), list)
        and isinstance(getattr(nc, "_pending_data_size", None), int)
        and isinstance(getattr(nc, "_max_pending_size", None), int)
        and isinstance(getattr(nc, "_flush_queue", None), asyncio.Queue)
        and inspect.iscoroutinefunction(getattr(nc, "_flush_pending", None))
    )


class _HandOver(asyncio.Queue[Msg]):
    """Takes the place of a subscription's queue, and hands over messages instead of keeping them.

    Of those that come in one turn of the event loop, the first is delivered at once, and the others together at the
    turn's end. Those that come after many are kept, for the subscription's task, and those behind them.
    """

    def __init__(
        self, subscription: Subscription, maxsize: int, context: contextvars.Context, receive: Receive
    ) -> None:
        super().__init__(maxsize)
        self._subscription = subscription
        self._context = context
        self._receive = receive
        self._event_loop = asyncio.get_running_loop()
        self._in_a_row = 0
        self._together: deque[Msg] = deque()

    @classmethod
    def take_place(cls, subscription: Subscription, context: contextvars.Context, receive: Receive) -> None:
        """Take the place of the queue that the subscription has, if it is what it is expected to be."""
        queue = getattr(subscription, "_pending_queue", None)
        if isinstance(queue, asyncio.Queue) and isinstance(getattr(subscription, "_pending_size", None), int):
            subscription._pending_queue = cls(subscription, queue.maxsize, context, receive)

    def qsize(self) -> int:
        return super().qsize() + len(self._together)

    def put_nowait(self, item: Msg) -> None:
        if self._in_a_row >= _IN_A_ROW or not self.empty():
            super().put_nowait(item)
            return
        self._in_a_row += 1
        if self._in_a_row > 1:
            self._together.append(item)
            return
        self._event_loop.call_soon(self._start_anew)
        self._subscription._pending_size -= len(item.data)
        deliver_one(self._event_loop, self._context, self._receive, _request(item))

    def get_nowait(self) -> Msg:
        self._deliver_together()  # what the subscription's task takes has come after that
        return super().get_nowait()

    def _start_anew(self) -> None:
        self._in_a_row = 0
        self._deliver_together()

    def _deliver_together(self) -> None:
        if self._together:
            deliver_all(self._event_loop, self._context, self._take())

    def _take(self) -> Iterator[tuple[Receive, Request]]:
        while self._together:
            msg = self._together.popleft()
            self._subscription._pending_size -= len(msg.data)
            yield self._receive, _request(msg)


class _ErrorCallback:
    """Stands around an owner's error callback, and tells the links of the client's errors too."""

    def __init__(self, error_cb: Callable[[Exception], Awaitable[None]]) -> None:
        self.listeners: set[Callable[[Exception], None]] = set()
        self._error_cb = error_cb

    async def __call__(self, error: Exception) -> None:
        for listener in list(self.listeners):
            listener(error)
        await self._error_cb(error)


def _errors_of(nc: Client) -> set[Callable[[Exception], None]]:
    """Return the listeners to a client's errors. A client that is connected anew has a new callback."""
    error_cb = nc._error_cb
    if not isinstance(error_cb, _ErrorCallback):
        nc._error_cb = error_cb = _ErrorCallback(error_cb)
    return error_cb.listeners


class _RepeatableHeaders(dict[str, str]):
    """Headers in which a name can have several values, for a client that asks for `items()` and nothing else."""

    def __init__(self, headers: Headers) -> None:
        super().__init__(headers)
        self._headers = headers

    def items(self) -> Any:
        return list(self._headers.pairs())


def _sendable(headers: Headers | None) -> _RepeatableHeaders | None:
    """Return headers as nats-py sends them."""
    return None if headers is None else _RepeatableHeaders(headers)


def _translated(error: Exception) -> NatsvcError:
    """Return natsvc's exception for one of nats-py, so that whoever catches it needs not know which client it was."""
    if isinstance(error, (nats.errors.ConnectionClosedError, nats.errors.ConnectionDrainingError)):
        return ConnectionClosedError("the nats-py connection is closed or draining")
    if isinstance(error, nats.errors.OutboundBufferLimitError):
        return OutboundBufferError("disconnected, and nats-py's buffer (its pending_size) is full")
    if isinstance(error, UnicodeEncodeError) or type(error).__name__ == "BadHeaderError":  # older ones don't have it
        return HeaderError("header", str(error) or type(error).__name__, "can't be sent by nats-py")
    return NatsvcError(str(error))


async def _flush(nc: Client) -> bool:
    try:
        await nc.flush(timeout=_FLUSH_TIMEOUT)
    except (nats.errors.Error, OSError):
        return False
    return True


async def _subscription(started: asyncio.Future[Subscription]) -> Subscription | None:
    """Wait for a subscription to be made; None if it could not be."""
    if not started.done():
        await asyncio.wait({started})
    if started.cancelled() or started.exception() is not None:
        return None
    return started.result()


if sys.version_info >= (3, 12):

    def _begin(coroutine: Coroutine[Any, Any, _T]) -> asyncio.Future[_T]:
        """Run a coroutine up to its first wait, now, and the rest of it as a task."""
        return asyncio.Task(coroutine, loop=asyncio.get_running_loop(), eager_start=True)

else:

    def _begin(coroutine: Coroutine[Any, Any, _T]) -> asyncio.Future[_T]:
        """Run a coroutine up to its first wait, now, and the rest of it as a task."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_T] = loop.create_future()
        try:
            awaited = coroutine.send(None)
        except StopIteration as stop:
            done.set_result(stop.value)
        except Exception as error:  # noqa: BLE001  # as a task would
            done.set_exception(error)
        else:
            return loop.create_task(_go_on(coroutine, awaited))
        return done

    @types.coroutine
    def _go_on(coroutine: Coroutine[Any, Any, _T], awaited: Any) -> Generator[Any, Any, _T]:
        while True:
            try:
                value = yield awaited
            except BaseException as error:  # noqa: BLE001  # cancellation, too, is the coroutine's to see
                step = functools.partial(coroutine.throw, error)
            else:
                step = functools.partial(coroutine.send, value)
            try:
                awaited = step()
            except StopIteration as stop:
                returned: _T = stop.value
                return returned


_CALL_INTERVAL = 0.1
"""Seconds between two looks, while calls are under way, at whether the client is closed."""

_TOKEN_LENGTH = 27
"""What nats-py puts behind an inbox to make a request's reply subject: a dot and 26 characters."""


class NatsPyCaller:
    """A client's link to a connection of nats-py.

    Args:
        nc: The connection. It belongs to the caller, who closes it.
    """

    def __init__(self, nc: Client) -> None:
        keep_freed_memory()
        self._nc = nc
        self._reply_size = 0  # of all reply subjects, once one is known: they differ in their last characters
        self._under_way: set[Callable[[BaseException], None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def request(self, subject: str, data: Data, timeout: float, headers: Mapping[str, str] | None) -> Message:
        """Publish a request, and return the first answer, whatever it says."""
        body, sendable = self._checked(subject, data, headers)
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        # In a task of its own: where nats-py waits for room, it takes no note of a cancellation.
        asking = _begin(
            self._nc.request(
                subject,
                body,
                timeout,
                headers=sendable,
            )
        )
        asking.add_done_callback(functools.partial(_hand_over, answer))
        try:
            with self._told_of_the_end(functools.partial(_fail, answer)):
                return as_message(await answer, Message)
        except nats.errors.NoRespondersError:
            raise NoRespondersError(subject) from None
        except nats.errors.TimeoutError:
            raise RequestTimeoutError(f"the request to {subject!r} was not answered within {timeout:g} s") from None
        except (nats.errors.Error, UnicodeEncodeError) as error:
            raise _translated(error) from error
        finally:
            asking.cancel()

    def backlog(self, subject: str) -> Backlog:
        """Return what the answers to a request to this subject can wait in until they are taken."""
        return Backlog(subject, MAX_PENDING_MESSAGES, MAX_PENDING_BYTES)

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
        body, sendable = self._checked(subject, data, headers)
        nc = self._nc
        inbox = nc.new_inbox()

        async def deliver(msg: Msg) -> None:
            receive(msg)

        def take_error(error: Exception) -> None:
            refusal = _refusal(error, subject, inbox)
            if refusal is not None:
                fail(refusal)

        def take_outcome(publishing: asyncio.Future[None]) -> None:
            error = None if publishing.cancelled() else publishing.exception()
            if isinstance(error, Exception):
                fail(_translated(error))

        errors = _errors_of(nc)
        errors.add(take_error)
        started = _begin(nc.subscribe(inbox, cb=deliver))
        publishing = _begin(nc.publish(subject, body, reply=inbox, headers=sendable))
        publishing.add_done_callback(take_outcome)
        try:
            with self._told_of_the_end(fail):
                yield
        finally:
            errors.discard(take_error)
            _begin(_unsubscribe(nc, started))

    def _checked(
        self, subject: str, data: Data, headers: Mapping[str, str] | None
    ) -> tuple[bytes, _RepeatableHeaders | None]:
        """Return a request's data and headers as nats-py sends them, if it can."""
        _check_usable(self._nc)
        check_subject("subject", subject)
        _, body, checked, block = make_reply(subject, data, headers, self._nc.max_payload)
        # The server closes the connection when a command is too long, and nats-py doesn't look.
        if not self._reply_size:
            self._reply_size = len(self._nc.new_inbox().encode()) + _TOKEN_LENGTH
        line = f"{subject}  {len(block)} {len(block) + len(body)}"
        size = len(line.encode("utf-8", "surrogateescape")) + self._reply_size
        if size > MAX_CONTROL_LINE:
            raise MaxPayloadError(size, MAX_CONTROL_LINE, "command line")
        return body, _sendable(checked)

    @contextlib.contextmanager
    def _told_of_the_end(self, fail: Callable[[BaseException], None]) -> Iterator[None]:
        """Have a call fail when the client is closed, in the block. nats-py itself lets its callers wait on."""
        self._under_way.add(fail)
        if self._timer is None:
            self._look_whether_closed()
        try:
            yield
        finally:
            self._under_way.discard(fail)
            if not self._under_way and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _look_whether_closed(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_CALL_INTERVAL, self._look_whether_closed)
        if self._nc.is_closed:
            for fail in list(self._under_way):
                error = ConnectionClosedError("the nats-py connection is closed")
                error.__cause__ = self._nc.last_error
                fail(error)


def _refusal(error: Exception, subject: str, inbox: str) -> PermissionsError | None:
    """Return what the server has refused of a call, if that is what the client speaks of; it does so in lower case."""
    violation = _VIOLATION.search(str(error))
    if violation is None:
        return None
    operation, refused = violation.groups()
    asked = subject if operation == "publish" else inbox
    return PermissionsError(operation, asked) if asked.lower() == refused else None


def _hand_over(answer: asyncio.Future[_T], asking: asyncio.Future[_T]) -> None:
    """Give a future what another one has come to, if anybody still waits for it."""
    if asking.cancelled():
        answer.cancel()
        return
    error = asking.exception()
    if error is not None:
        _fail(answer, error)
    elif not answer.done():
        answer.set_result(asking.result())


def _fail(answer: asyncio.Future[Any], error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)


async def _unsubscribe(nc: Client, started: asyncio.Future[Subscription]) -> None:
    """Unsubscribe from what is subscribed to, or will be."""
    subscription = await _subscription(started)
    if subscription is not None:
        await _remove(nc, subscription)


async def _remove(nc: Client, subscription: Subscription) -> None:
    if not nc.is_connected and not nc.is_closed:
        # nats-py sends no UNSUB then, though the SUB may be in its buffer, to be sent after the reconnect.
        await nc._send_unsubscribe(subscription._id)
    with contextlib.suppress(nats.errors.Error):  # it is gone, or goes with a connection that is being closed
        await subscription.unsubscribe()
