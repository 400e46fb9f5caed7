"""natsvc's own connection for blocking threads, as its users see it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self, Unpack

from natsvc.connecting import DEFAULT_SERVER, ConnectArguments, Preparation, prepare
from natsvc.core import REQUEST_TIMEOUT, check_duration
from natsvc.errors import ConnectionClosedError, RequestTimeoutError, SubscriptionClosedError
from natsvc.message import Data, Message
from natsvc.sync.callbacks import check_callback
from natsvc.sync.driver import Driver
from natsvc.sync.listener import Listener
from natsvc.sync.waiter import Waiter, pieces
from natsvc.wire.backlog import Backlog
from natsvc.wire.options import FLUSH_TIMEOUT
from natsvc.wire.view import ConnectionView

__all__ = ["Connection", "Subscription", "connect"]


def connect(servers: str | Sequence[str] | None = DEFAULT_SERVER, **options: Unpack[ConnectArguments]) -> Connection:
    """Connect to NATS, and return the connection.

    The callbacks among the options are plain functions; they and those of the services on the connection run one after
    the other, on one thread of their own.

    Args:
        servers: A URL such as `nats://user:password@host:4222` or `tls://host`, or several. A host, or
            host:port, will do.
        options: See [ConnectArguments][natsvc.connecting.ConnectArguments].

    Raises:
        ConfigError: An option breaks a rule.
        AuthorizationError: The server does not accept the credentials.
        NoServersError: No server could be connected to.
    """
    preparation = prepare(servers, options)
    for name, callback in preparation.callbacks.items():
        check_callback(name, callback)
    connection = Connection(preparation)
    connection._driver.open()
    return connection


class Connection(ConnectionView):
    """One connection to NATS, made by `connect`; all threads of the process may use it at once.

    As a context manager, when the block is left it stops the services on it, sends what is still to be sent, and
    closes. By an exception, that takes at most 5 seconds; by Ctrl-C, it closes at once. Its threads are daemon threads:
    a process that ends without having closed it just ends.

    When it breaks, it connects anew by itself, to the same or another server, and subscribes again.

    A process forked off can't use it, for what two processes write to one socket would mix: there it is closed, with a
    ConnectionClosedError that says so, and the parent's is as it was.
    """

    def __init__(self, preparation: Preparation) -> None:
        self._options = preparation.options
        self._driver = Driver(preparation)
        self._state = self._driver.state
        self._lock = self._driver.lock
        self._subscriptions: set[Subscription] = set()
        self._is_draining = False

    def new_inbox(self) -> str:
        """Return a subject that nobody else uses, to be subscribed to for answers."""
        with self._lock:
            return super().new_inbox()

    def publish(
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
        driver = self._driver
        with self._lock:
            self._state.publish(subject, data, reply, headers)
        driver.write_now()

    def request(
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
        driver = self._driver
        answer = Waiter()
        with self._lock:
            reply = self._state.request(subject, data, headers, answer)
        try:
            driver.write()
            message: Message = answer.wait(limit)
        except BaseException as error:
            with self._lock:
                self._state.forget_request(reply)
            if type(error) is TimeoutError:
                raise RequestTimeoutError(f"the request to {subject!r} was not answered within {limit:g} s") from None
            raise
        return message

    def subscribe(self, subject: str, *, queue: str | None = None) -> Subscription:
        """Subscribe, ahead of everything that the thread sends afterwards; `flush` waits for the server.

        Args:
            subject: The subject; `*` stands for one token, `>` for the rest.
            queue: The queue group to share the messages with. Default: none, every message comes.

        Raises:
            SubjectError: The subject or the queue group can't be subscribed to.
            ConnectionClosedError: The connection is closed or being drained.
        """
        return Subscription(self, subject, queue or "")

    def flush(self, timeout: float | None = FLUSH_TIMEOUT) -> None:
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
            self._driver.ping(limit)
        except TimeoutError:
            raise RequestTimeoutError(f"the server has not confirmed within {limit:g} s") from None

    def drain(self) -> None:
        """Stop the services on the connection, take what subscriptions still get, send all there is, and close.

        Subscriptions end; whoever takes their messages has taken all when asking for one more. By Ctrl-C, it closes at
        once. A second call waits for the first.

        It may take `drain_timeout`; what is not done then is given up, and RequestTimeoutError reported to `on_error`.

        Raises:
            ConnectionClosedError: The connection is closed.
        """
        driver = self._driver
        with self._lock:
            self._state.check_open()
            is_first, self._is_draining = not self._is_draining, True
        if not is_first:
            self._begin_to_stop_services()  # they need not wait for a handler that waits here
            self._has_closed(None)
            return
        limit = self._options.drain_timeout
        deadline = time.monotonic() + limit
        try:
            self._stop_services(deadline)
            with self._lock:
                self._state.is_draining = True
                subscriptions = list(self._subscriptions)
                for subscription in subscriptions:
                    subscription._leave()
            driver.confirm(_left(deadline))
            with self._lock:
                for subscription in subscriptions:
                    subscription._end()
            for subscription in subscriptions:
                subscription._has_emptied(_left(deadline))
            driver.confirm(_left(deadline))
        except TimeoutError:
            driver.report(RequestTimeoutError(f"the connection was not drained within {limit:g} s"))
        finally:
            driver.close()

    def close(self) -> None:
        """Write what is still to be written, and close: services and subscriptions on it end at once.

        Again: no effect.
        """
        self._driver.close()

    def reconnect(self) -> None:
        """Leave the server, and connect anew without waiting; `flush` waits until that is done.

        Raises:
            ConnectionClosedError: The connection is closed.
        """
        self._driver.reconnect()

    def _begin_to_stop_services(self) -> list[Listener]:
        with self._lock:
            listeners = list(self._driver.listeners)
        for listener in listeners:
            listener.begin_drain()
        return listeners

    def _stop_services(self, deadline: float) -> None:
        for listener in self._begin_to_stop_services():
            listener.has_drained(_left(deadline))

    def _has_closed(self, timeout: float | None) -> None:
        for piece in pieces(timeout):
            if self._driver.closed.wait(piece):
                return
        raise TimeoutError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            limit = self._options.leave_timeout(error)
            if limit is not None:
                self._leave(limit)
        finally:
            self._driver.close()

    def _leave(self, limit: float) -> None:
        """Do what is still to be done before the connection can be closed, as far as there is time."""
        deadline = time.monotonic() + limit
        try:
            if self._is_draining:
                self._has_closed(limit)
            else:
                self._stop_services(deadline)
                try:
                    self._driver.confirm(_left(deadline))
                except ConnectionClosedError:
                    return  # closed by somebody else, who wanted it so
        except TimeoutError:
            self._driver.report(RequestTimeoutError(f"not all was done within {limit:g} s"))


class Subscription:
    """A subscription: an iterator of its messages, made by `Connection.subscribe`; several threads may share it.

    It holds up to `max_pending_messages` and `max_pending_bytes` that nobody has taken. What comes when it is full is
    dropped and counted, and SlowConsumerError reported to `on_error`. As a context manager it unsubscribes when the
    block is left.
    """

    def __init__(self, connection: Connection, subject: str, queue_group: str) -> None:
        options = connection._options
        self._connection = connection
        self._driver = connection._driver
        self._lock = connection._lock
        self._backlog = Backlog(subject, options.max_pending_messages, options.max_pending_bytes)
        self._changed = threading.Condition(self._lock)
        self._waiting = 0
        with self._lock:
            self._state = self._driver.state.subscribe(subject, queue_group, self._receive, self._end)
            connection._subscriptions.add(self)
        self._driver.write()

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

    def receive(self, timeout: float | None = None) -> Message:
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
            message = self._next(limit)
        except TimeoutError:
            raise RequestTimeoutError(f"no message on {self.subject!r} within {limit:g} s") from None
        if message is None:
            raise SubscriptionClosedError(f"the subscription to {self.subject!r} has ended")
        return message

    def unsubscribe(self) -> None:
        """Unsubscribe, and drop the messages that nobody has taken. Again: no effect."""
        with self._lock:
            self._driver.state.forget(self._state)
            self._backlog.clear()
            self._end()
        self._driver.write()

    def drain(self) -> None:
        """Unsubscribe; return when all is there that was sent until the server took note.

        What is there can still be taken.

        Raises:
            RequestTimeoutError: The server has not confirmed within `drain_timeout`; the subscription has ended.
        """
        limit = self._connection._options.drain_timeout
        with self._lock:
            self._leave()
        try:
            self._driver.confirm(limit)
        except TimeoutError:
            raise RequestTimeoutError(f"the server has not confirmed within {limit:g} s") from None
        finally:
            with self._lock:
                self._end()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        message = self._next(None)
        if message is None:
            raise StopIteration
        return message

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.unsubscribe()

    def _next(self, timeout: float | None) -> Message | None:
        """Return the next message; None if none will come."""
        backlog = self._backlog
        with self._lock:
            message = backlog.take()
            if message is None:
                for piece in pieces(timeout):
                    if backlog.is_ended:
                        break
                    self._wait(piece)
                    if (message := backlog.take()) is not None:
                        break
                else:
                    raise TimeoutError
            if message is None:
                if backlog.error is not None:
                    raise backlog.error
                return None
            if backlog.is_ended and not backlog:
                self._changed.notify_all()
        return message

    # The rest is for threads that hold the lock.

    def _wait(self, timeout: float) -> None:
        self._waiting += 1
        try:
            self._changed.wait(timeout)
        finally:
            self._waiting -= 1

    def _receive(self, message: Message) -> None:
        error = self._backlog.put(message)
        if error is not None:
            self._driver.report(error)
        elif self._waiting:
            self._changed.notify()

    def _leave(self) -> None:
        self._driver.state.unsubscribe(self._state)

    def _end(self, error: BaseException | None = None) -> None:
        self._driver.state.forget(self._state)
        self._backlog.end(error)
        self._changed.notify_all()
        self._connection._subscriptions.discard(self)

    def _has_emptied(self, timeout: float) -> None:
        """Without the lock, wait until all messages have been taken, or the connection is closed."""
        with self._lock:
            for piece in pieces(timeout):
                if not self._backlog or self._driver.state.is_closed:
                    return
                self._wait(piece)
            if self._backlog:
                raise TimeoutError

    def __repr__(self) -> str:
        return f"<Subscription to {self.subject!r}, {len(self._backlog)} messages to be taken>"


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())
