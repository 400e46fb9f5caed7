r"""One NATS client connection as a state machine: subscriptions, requests, keep-alive, and one attempt after another.

    NEW --open--> CONNECTING --> CONNECTED <--> RECONNECTING
                      \______________\______________\____ close, or no server left --> CLOSED

What goes wrong in an attempt ends it, as does its deadline, and the server pool decides which server is tried next, and
when (ADR-40). Once an attempt has led to a connection, all that is subscribed is sent again, then what was published
meanwhile.

Nothing here waits, reads a clock or knows a socket: times are arguments, in nanoseconds of any clock that only goes
forward.
"""

from __future__ import annotations

import enum
import functools
from collections import deque
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from natsvc.errors import (
    AuthorizationError,
    ConfigError,
    ConnectionClosedError,
    ConnectionLostError,
    MaxPayloadError,
    NatsvcError,
    NoServersError,
    OutboundBufferError,
    ProtocolError,
    StaleConnectionError,
)
from natsvc.headers import Headers
from natsvc.message import Message, encode_data
from natsvc.nuid import Nuid
from natsvc.wire import commands
from natsvc.wire.attempt import Attempt, Phase
from natsvc.wire.commands import SIZES
from natsvc.wire.complaints import Complaint, Meaning, read_complaint
from natsvc.wire.effects import Callback, Closed, Dial, Disconnect, Effect, Notify, Settle, Waiter, WakeAt
from natsvc.wire.inbox import Inbox
from natsvc.wire.outbox import EARLY, WRITE_SIZE, Outbox
from natsvc.wire.parser import PING, PONG, ErrorReport, Info
from natsvc.wire.pool import ServerPool

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping

    from natsvc.message import Data
    from natsvc.wire.addresses import ServerAddress
    from natsvc.wire.options import ConnectOptions

__all__ = ["ConnectionState", "Deliveries", "Status", "SubscriptionState"]

Deliveries: TypeAlias = "list[tuple[Callable[[Message], Any], Message]]"
"""Messages to deliver, each with what receives it."""

_DEFAULT_MAX_PAYLOAD = 1024 * 1024
"""What a server takes unless it is configured otherwise: assumed until one has been heard."""


class Status(enum.Enum):
    """Where a connection is in its life."""

    NEW = "new"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    CLOSED = "closed"


class SubscriptionState:
    """One subscription.

    Attributes:
        asked: The subject of the request that its messages are the answers to; None: they are no answers.
        sid: Its number on the connection, the same after a reconnect.
        subject: The subject, perhaps with wildcards.
        queue_group: The queue group, "" for none.
        receive: What its messages go to.
        ended: What is told when the server has refused it or the connection is closed; with the cause, or None.
        is_leaving: Whether the server has been told to send nothing more for it.
    """

    __slots__ = ("asked", "ended", "is_leaving", "queue_group", "receive", "sid", "subject")

    def __init__(
        self, sid: int, subject: str, queue_group: str, receive: Callable[[Message], Any], ended: Waiter
    ) -> None:
        self.sid = sid
        self.subject = subject
        self.queue_group = queue_group
        self.receive = receive
        self.ended = ended
        self.is_leaving = False
        self.asked: str | None = None


class ConnectionState:
    """The state machine of one connection.

    Args:
        options: How to connect.
        version: The client's version, for the server's records.
        random: Where the order of the servers and the jitter come from.

    Attributes:
        effects: What the front-end has to do, oldest first; it takes them out one by one, or all by `take_effects`.
        status: Where it is in its life.
        is_connected: Whether the connection is open, with the handshake behind it.
        is_draining: Whether it is about to be closed: then there are no new subscriptions.
        max_payload: The most bytes of headers and data that the server takes; without one, as it was last.
        is_write_due: Whether what is sent is written soon without anybody's doing, as long as it is not much. It is for
            the front-end to set.
        outbox: What waits to be sent, to be read only.
        server_info: What a server last said of itself in INFO.
        error: What closed it, or None.
    """

    def __init__(self, options: ConnectOptions, *, version: str, random: random.Random) -> None:
        self.effects: list[Effect] = []
        self.status = Status.NEW
        self.is_connected = False
        self.is_draining = False
        self.is_write_due = False
        self.max_payload = _DEFAULT_MAX_PAYLOAD
        self.server_info: dict[str, Any] = {}
        self.error: BaseException | None = None
        self.outbox = Outbox()
        self._options = options
        self._version = version
        self._pool = ServerPool(options, random)
        self._ids = Nuid()
        self._opener: Waiter | None = None
        self._wake_at: int | None = None
        self._told: int | None = None  # the time of the last WakeAt
        self._next: ServerAddress | None = None  # the server to try when it is time
        self._attempt: Attempt | None = None
        self._last_number = 0
        self._pings: deque[Waiter | None] = deque()  # for each PING on this connection, who waits for its PONG
        self._pings_out = 0
        self._held_pings: list[Waiter] = []  # who has asked while there was no connection
        self._last_sid = 0
        self._subscriptions: dict[int, SubscriptionState] = {}
        self._known: dict[bytes, tuple[Callable[[Any], Any], type[Message]]] = {}  # what the parser has to know of them
        self._inbox: Inbox | None = None
        self._sizes = SIZES  # of data that is short, and that the server takes

    # What the front-end reads

    @property
    def is_closed(self) -> bool:
        """Whether it is closed for good."""
        return self.status is Status.CLOSED

    @property
    def connected_url(self) -> str | None:
        """The URL of the server it is connected to, without credentials; None while it isn't."""
        return self._attempt.address.url if self.is_connected and self._attempt is not None else None

    @property
    def outgoing_size(self) -> int:
        """How many bytes wait to be taken, now or after the reconnect."""
        return self.outbox.size

    @property
    def has_outgoing(self) -> bool:
        """Whether there is something to send now."""
        if self.is_connected:
            return bool(self.outbox.commands)
        return self._attempt is not None and bool(self._attempt.outgoing)

    def take_effects(self) -> list[Effect]:
        """Return what has to be done, and forget it."""
        effects, self.effects = self.effects, []
        return effects

    def take_outgoing(self) -> bytes:
        """Return what is to be sent now, and forget it."""
        if self.is_connected:
            return self.outbox.take()
        if self._attempt is None:
            return b""
        data = b"".join(self._attempt.outgoing)
        self._attempt.outgoing.clear()
        return data

    def new_inbox(self) -> str:
        """Return a subject that nobody else uses, to be subscribed to for answers."""
        return f"{self._options.inbox_prefix}.{self._ids.next()}"

    def check_open(self) -> None:
        """Raise ConnectionClosedError if it is closed."""
        if self.status is Status.CLOSED:
            raise self.closed_error()

    def check_usable(self) -> None:
        """Raise ConnectionClosedError if it has not been opened, is closed, or about to be."""
        self._check_begun()
        if self.is_draining:
            raise ConnectionClosedError("the connection is being drained")

    def closed_error(self) -> ConnectionClosedError:
        """Return the exception for what was waited for in vain, with what closed the connection as its cause.

        If that was such an exception, it says all there is to say.
        """
        if isinstance(self.error, ConnectionClosedError):
            return ConnectionClosedError(*self.error.args)
        error = ConnectionClosedError("the connection is closed")
        error.__cause__ = self.error
        return error

    # What the user asks for

    def open(self, waiter: Waiter, now: int) -> None:
        """Connect; the waiter gets None, or why there is no connection.

        Raises:
            ConnectionClosedError: It was closed before.
        """
        self.check_open()
        self.status = Status.CONNECTING
        self._opener = waiter
        self._try_next(now, None)

    def publish(
        self, subject: str, data: Data, reply: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a message; without a connection, keep it for the time after the reconnect.

        Args:
            subject: Where to.
            data: The body.
            reply: Where answers go to; None for none.
            headers: The headers.

        Raises:
            SubjectError: A subject can't stand in a command.
            HeaderError: A header can't be sent.
            MaxPayloadError: The server takes less.
            OutboundBufferError: There is no connection, and the buffer is full.
            ConnectionClosedError: The connection is closed.
            TypeError: The data is neither bytes nor text.
        """
        if not isinstance(subject, str):  # `send` would take bytes for what came from the server
            commands.check_subject("subject", subject)
        block = Headers(headers).encode() if headers else b""
        self.send(subject, encode_data(data), "" if reply is None else reply, block)

    def send(self, subject: str | bytes, data: bytes, reply: str, block: bytes) -> None:
        """Do as `publish`, with the headers encoded already; b"" for none.

        A subject in bytes is the reply subject of a message, as that came.
        """
        size = len(data) + len(block)
        if size > self.max_payload:
            raise MaxPayloadError(size, self.max_payload)
        if isinstance(subject, bytes):
            command = commands.answer(subject, data, block)
        else:
            command = commands.publish(subject, data, reply, block)
        outbox = self.outbox
        if not self.is_connected:
            self._check_begun()
            limit = self._options.reconnect_buffer
            if outbox.size + len(command) > limit:
                raise OutboundBufferError(f"disconnected, and {limit} bytes are the most that is kept to be sent later")
        outbox.add(command)

    def answer(self, reply: tuple[str | bytes, bytes, object, bytes]) -> bool:
        """Do as `send` with a reply of a service: its subject, its data, and, as the last part of it, its header block.

        The subject is known to be short enough for a command line.

        Returns:
            Whether the writing has to be seen to: nobody does so far, or there is too much to leave it for later.
        """
        subject, data, _, block = reply
        outbox = self.outbox
        waiting = outbox.commands
        if block or not self.is_connected:
            self.send(subject, data, "", block)
        else:
            # As nearly all are. Without the call of `send`, which does the same, a request takes 0.95 x the time.
            try:
                command = b"".join((b"PUB ", subject, self._sizes[len(data)], data, b"\r\n"))  # type: ignore[arg-type]
            except (IndexError, TypeError):  # the data is long, or the subject is text
                self.send(subject, data, "", block)
            else:
                waiting.append(command)
                outbox.size += len(command)
        return not self.is_write_due or len(waiting) >= EARLY or outbox.size >= WRITE_SIZE

    def subscribe(
        self,
        subject: str,
        queue_group: str,
        receive: Callable[[Any], Any],
        ended: Waiter,
        make: type[Message] = Message,
    ) -> SubscriptionState:
        """Subscribe, ahead of all that is sent after this call.

        Args:
            subject: The subject, perhaps with wildcards.
            queue_group: The queue group, "" for none.
            receive: What the messages go to, as `received` returns them.
            ended: What is told when the subscription has ended otherwise than by `forget`.
            make: What the messages are made as, if it is known already that they are this subscription's; otherwise
                they come as Message.

        Raises:
            SubjectError: The subject or the queue group can't stand in a command.
            ConnectionClosedError: The connection is closed or being drained.
        """
        self.check_usable()
        sid = self._last_sid + 1
        command = commands.subscribe(subject, queue_group, sid)
        self._last_sid = sid
        subscription = self._subscriptions[sid] = SubscriptionState(sid, subject, queue_group, receive, ended)
        self._known[b"%d" % sid] = receive, make
        if self.is_connected:  # otherwise it is sent when there is a connection
            self.outbox.add(command)
        return subscription

    def unsubscribe(self, subscription: SubscriptionState) -> None:
        """Tell the server to send nothing more; what comes until it has taken note is still delivered."""
        if self._subscriptions.get(subscription.sid) is subscription and not subscription.is_leaving:
            subscription.is_leaving = True
            if self.is_connected:
                self.outbox.add(commands.unsubscribe(subscription.sid))

    def forget(self, subscription: SubscriptionState) -> None:
        """Unsubscribe, if that has not been done, and deliver nothing more."""
        self.unsubscribe(subscription)
        self._remove(subscription)

    def _remove(self, subscription: SubscriptionState) -> None:
        self._subscriptions.pop(subscription.sid, None)
        self._known.pop(b"%d" % subscription.sid, None)

    def ping(self, waiter: Waiter) -> None:
        """Ask the server to confirm that it has processed all that was sent before.

        Without a connection that is done after the reconnect. The waiter gets None, ConnectionLostError if the
        connection breaks before the confirmation, or ConnectionClosedError.
        """
        self._check_begun()
        if self.is_connected:
            self._send_ping(waiter)
        else:
            self._held_pings.append(waiter)

    def confirm(self, waiter: Waiter) -> None:
        """Wait for the server to have processed all that was sent before, as long as there is a server to do so.

        The waiter gets None at that time, or when the connection breaks, or at once if there is none: nothing that was
        sent on it is on its way any more. If the connection is closed for good, it gets ConnectionClosedError.
        """
        if self.is_connected:
            self._send_ping(functools.partial(_tell_confirmed, waiter))
        else:
            self.effects.append(Settle(waiter, None))

    def forget_ping(self, waiter: Waiter) -> None:
        """Nobody waits for this confirmation any more."""
        if waiter in self._held_pings:
            self._held_pings.remove(waiter)

    def request(
        self,
        subject: str,
        data: Data,
        headers: Mapping[str, str] | None,
        waiter: Waiter,
        *,
        now: int = 0,
        timeout: float | None = None,
    ) -> str:
        """Send a request; the waiter gets the answer, NoRespondersError, RequestTimeoutError or ConnectionClosedError.

        Args:
            subject: The subject.
            data: The body.
            headers: The headers.
            waiter: Who waits for the answer.
            now: The time, if there is a timeout.
            timeout: Seconds that the answer may take. Default: whoever waits keeps the time.

        Returns:
            The reply subject, for `forget_request`.

        Raises:
            NatsvcError: As `publish`.
        """
        if self._inbox is None:
            inbox = Inbox(self.new_inbox())
            self.subscribe(inbox.subject, "", inbox.receive, self._inbox_lost)
            self._inbox = inbox
        reply = self._inbox.expect(waiter, subject)
        try:
            self.publish(subject, data, reply, headers)
        except BaseException:
            self._inbox.forget(reply)
            raise
        if timeout is not None:
            deadline = now + _nanoseconds(timeout)
            self._inbox.limit(reply, deadline, timeout)
            if self._told is None or deadline < self._told:
                self._tell(deadline)
        return reply

    def forget_request(self, reply: str) -> None:
        """Nobody waits for this answer any more."""
        if self._inbox is not None:
            self._inbox.forget(reply)

    def collect(
        self,
        subject: str,
        data: Data,
        headers: Mapping[str, str] | None,
        receive: Callable[[Message], Any],
        fail: Callable[[BaseException], None],
    ) -> SubscriptionState:
        """Send a request with any number of answers, which are taken until `forget`.

        Args:
            subject: The subject.
            data: The body.
            headers: The headers.
            receive: What the answers go to, one that says that there are no responders like any other.
            fail: What is told that no answer can come, because the server has refused the request or the subscription,
                or the connection is closed; with that error. It may be told more than once.

        Returns:
            The subscription to the answers.

        Raises:
            NatsvcError: As `publish` and `subscribe`.
        """
        inbox = self.new_inbox()
        subscription = self.subscribe(inbox, "", receive, lambda error: fail(error or self.closed_error()))
        subscription.asked = subject
        try:
            self.publish(subject, data, inbox, headers)
        except BaseException:
            self.forget(subscription)
            raise
        return subscription

    def reconnect(self, now: int) -> None:
        """Leave the server and connect anew, without waiting.

        Raises:
            ConnectionClosedError: The connection is closed.
        """
        self.check_open()
        if self.is_connected:
            self._disconnect(None, now, on_demand=True)
        elif self._next is not None:
            self._begin_attempt(self._next, now)

    def close(self, error: BaseException | None = None) -> None:
        """Close the connection for good, after what is still to be sent. Again: no effect."""
        if self.status is not Status.CLOSED:
            self._end(error, self.outbox.take() if self.is_connected else b"", in_order=True)

    # What the front-end tells

    def dialled(self, number: int) -> None:
        """The connection that Dial asked for is made."""
        attempt = self._current(number, Phase.DIALLING)
        if attempt is not None:
            start_tls = attempt.dialled()
            if start_tls is not None:
                self.effects.append(start_tls)

    def dial_failed(self, number: int, error: BaseException, now: int) -> None:
        """The connection that Dial asked for could not be made."""
        attempt = self._current(number, Phase.DIALLING)
        if attempt is not None:
            self._attempt_failed(attempt, error, now)

    def tls_started(self, number: int, now: int) -> None:
        """The TLS handshake is done, and the certificate has been found good."""
        attempt = self._current(number, Phase.UPGRADING)
        if attempt is not None:
            try:
                attempt.tls_started()
            except NatsvcError as error:
                self._attempt_failed(attempt, error, now)

    def lost(self, number: int, error: BaseException | None, now: int) -> None:
        """The connection broke, or its TLS handshake failed; None if the server closed it in due form."""
        attempt = self._attempt
        if attempt is None or attempt.number != number:
            return
        cause = attempt.farewell or error or ConnectionResetError("the server closed the connection")
        if attempt.phase is Phase.OPEN:
            self._disconnect(cause, now)
        else:
            self._attempt_failed(attempt, cause, now)

    def received(self, number: int, data: bytes, now: int) -> Deliveries:
        """Take bytes that have arrived; return the messages to deliver, each with what receives it, in order.

        They come before what is in `effects` afterwards: a flush is over when what came before it is delivered.
        """
        deliveries: Deliveries = []
        attempt = self._attempt
        if attempt is None or attempt.number != number:
            return deliveries
        # Nobody is subscribed yet at a server that has not let us in.
        known = self._known if self.is_connected else {}
        events = attempt.parser.feed(data, known)
        if attempt.parser.has_only_known:  # as nearly always
            return cast("Deliveries", events)
        for event in events:
            if type(event) is tuple:
                receive, message = event
                if isinstance(receive, int):  # what came in between may have let us in
                    subscription = self._subscriptions.get(receive) if self.is_connected else None
                    if subscription is not None:
                        deliveries.append((subscription.receive, message))
                elif (receive, type(message)) in known.values():  # and may have ended a subscription
                    deliveries.append((receive, message))
            else:
                self._take_event(attempt, event, now)
                if self._attempt is not attempt:  # that was its end
                    return deliveries
        if attempt.phase is Phase.UPGRADING and attempt.parser.buffered:
            self._take_event(attempt, None, now)
        return deliveries

    def wake(self, now: int) -> None:
        """The time of the last WakeAt has come, or nearly: some event loops' timers are early."""
        if self._told is None:
            return
        if self._inbox is not None:
            self.effects += [Settle(waiter, error) for waiter, error in self._inbox.expire(now)]
        if self._wake_at is None or now < self._wake_at:
            self._wake(self._wake_at)
        elif self._next is not None:
            self._begin_attempt(self._next, now)
        elif self.is_connected:
            self._keep_alive(now)
        elif self._attempt is not None:
            limit = self._options.connect_timeout
            self._attempt_failed(self._attempt, TimeoutError(f"the server did not answer within {limit:g} s"), now)

    # One attempt after another

    def _current(self, number: int, phase: Phase) -> Attempt | None:
        """Return the attempt that the front-end speaks of, unless it is over or beyond that phase."""
        attempt = self._attempt
        return attempt if attempt is not None and attempt.number == number and attempt.phase is phase else None

    def _try_next(self, now: int, error: BaseException | None) -> None:
        """Choose the next server, or give up."""
        choice = self._pool.next(now)
        if choice is None:
            self._end(self._gave_up(error))
        elif choice.at <= now:
            self._begin_attempt(choice.address, now)
        else:
            if self._opener is not None:  # it goes on in the background: the user has a connection to work with
                self.status = Status.RECONNECTING
                self._settle_opener(None)
            self._next = choice.address
            self._wake(choice.at)

    def _begin_attempt(self, address: ServerAddress, now: int) -> None:
        self._next = None
        self._last_number += 1
        self._attempt = Attempt(self._last_number, address, self._options, self._version)
        self.effects.append(Dial(self._last_number, address))
        self._wake(now + _nanoseconds(self._options.connect_timeout))

    def _attempt_failed(self, attempt: Attempt, error: BaseException, now: int, *, is_final: bool = False) -> None:
        self._attempt = None
        self.effects.append(Disconnect(attempt.number))
        self._pool.failed(attempt.address, now, error)
        if is_final:
            self._end(error)
        else:
            self._try_next(now, error)

    def _opened(self, attempt: Attempt, now: int) -> None:
        self.status = Status.CONNECTED
        self.is_connected = True
        self._pool.connected(attempt.address, now)
        self._take_over(attempt.info)
        self._pings_out = 0
        first = attempt.outgoing + [
            commands.subscribe(one.subject, one.queue_group, one.sid)
            for one in self._subscriptions.values()
            if not one.is_leaving
        ]
        for size in self.outbox.connection_made(first, self.max_payload):
            # This server takes less than the one it was published for, and would hang up.
            self._notify("on_error", MaxPayloadError(size, self.max_payload))
        held, self._held_pings = self._held_pings, []
        if held:
            self._send_ping(functools.partial(_tell_all, held))
        if self._opener is not None:
            self._settle_opener(None)
        else:
            self._notify("on_reconnect", attempt.address.url)
        self._wake(now + _nanoseconds(self._options.ping_interval))

    def _disconnect(self, error: BaseException | None, now: int, *, on_demand: bool = False) -> None:
        """The open connection is over; go on with another one."""
        attempt, self._attempt = self._attempt, None
        assert attempt is not None  # noqa: S101  # there is no connection without
        self.status = Status.RECONNECTING
        self.is_connected = False
        # The user who leaves a server has not lost what is on its way there.
        last_words = self.outbox.take() if on_demand else b""
        self.outbox.connection_lost()
        pings, self._pings = self._pings, deque()
        for waiter in pings:
            if waiter is not None:
                lost = ConnectionLostError("the connection broke before the server had confirmed what was sent")
                lost.__cause__ = error
                self.effects.append(Settle(waiter, lost))
        for one in list(self._subscriptions.values()):
            if one.is_leaving:
                self._remove(one)
        self.effects.append(Disconnect(attempt.number, last_words, in_order=on_demand))
        self._notify("on_disconnect", error)
        self._pool.disconnected(attempt.address, now, on_demand=on_demand)
        self._try_next(now, error)

    def _gave_up(self, error: BaseException | None) -> BaseException:
        if isinstance(error, (AuthorizationError, ConfigError)):
            return error
        refusal = next((one for one in self._pool.errors if isinstance(one, AuthorizationError)), None)
        if self._opener is not None and refusal is not None:  # of several reasons, the one that the user can mend
            return refusal
        tried = ", ".join(address.url for address in self._pool.servers)
        gave_up = NoServersError(f"no connection to {tried}: {str(error) or type(error).__name__}")
        gave_up.__cause__ = error
        return gave_up

    def _end(self, error: BaseException | None, last_words: bytes = b"", *, in_order: bool = False) -> None:
        attempt, self._attempt = self._attempt, None
        was_open = self._opener is None and self.status is not Status.NEW
        if not self.is_connected and self.outbox.size:
            unsent = f"{self.outbox.size} bytes that were published while disconnected could not be sent"
            self._notify("on_error", ConnectionLostError(unsent))
        self._next = None
        self.status = Status.CLOSED
        self.is_connected = False
        self.error = error
        if attempt is not None:
            self.effects.append(Disconnect(attempt.number, last_words, in_order=in_order))
        waiters = [one for one in self._pings if one is not None] + self._held_pings
        if self._inbox is not None:
            waiters += self._inbox.take_waiters()
        self._wake(None)
        self.effects += [Settle(waiter, self.closed_error()) for waiter in waiters]
        self.effects += [Settle(one.ended, error and self.closed_error()) for one in self._subscriptions.values()]
        self._pings.clear()
        self._held_pings.clear()
        self._subscriptions.clear()
        self._known.clear()
        self.outbox = Outbox()
        self._settle_opener(error or self.closed_error())
        self.effects.append(Closed(error))
        if was_open:
            self._notify("on_close", error)

    def _settle_opener(self, outcome: BaseException | None) -> None:
        if self._opener is not None:
            self.effects.append(Settle(self._opener, outcome))
            self._opener = None

    # What the server says

    def _take_event(self, attempt: Attempt, event: object, now: int) -> None:
        if attempt.phase is Phase.UPGRADING:
            # Whoever sits between us and the server could put words into its mouth here.
            self._attempt_failed(attempt, ProtocolError("bytes in clear where TLS is to begin"), now)
        elif event is PONG:
            self._take_pong(attempt, now)
        elif event is PING:
            if self.is_connected:
                self.outbox.add(commands.PONG)
            else:
                attempt.outgoing.append(commands.PONG)
        elif isinstance(event, Info):
            self._take_info(attempt, event.data, now)
        elif isinstance(event, ErrorReport):
            self._take_complaint(attempt, read_complaint(event.text), now)
        elif isinstance(event, ProtocolError):
            attempt.farewell = None
            self.lost(attempt.number, event, now)

    def _take_pong(self, attempt: Attempt, now: int) -> None:
        if attempt.take_pong():
            self._opened(attempt, now)
            return
        self._pings_out = 0
        attempt.farewell = None  # it has not hung up
        if self._pings:
            waiter = self._pings.popleft()
            if waiter is not None:
                self.effects.append(Settle(waiter, None))

    def _take_info(self, attempt: Attempt, info: dict[str, Any], now: int) -> None:
        if attempt.phase is Phase.OPEN:  # what a server says that hasn't let us in is not to be relied on
            self._take_over(info)
        try:
            start_tls = attempt.take_info(info)
        except NatsvcError as error:
            self._attempt_failed(attempt, error, now)
            return
        if start_tls is not None:
            self.effects.append(start_tls)
        in_clear = attempt.phase is Phase.UPGRADING
        self._pool.discovered(info.get("connect_urls"), attempt.address, in_clear=in_clear)
        if info.get("ldm") is True and not attempt.is_lame_duck:
            attempt.is_lame_duck = True
            self._notify("on_lame_duck")

    def _take_over(self, info: dict[str, Any]) -> None:
        self.server_info = info
        max_payload = info.get("max_payload")
        if type(max_payload) is int and max_payload > 0:
            self.max_payload = max_payload
            self._sizes = SIZES[: max_payload + 1]

    def _take_complaint(self, attempt: Attempt, complaint: Complaint, now: int) -> None:
        error = complaint.error
        if complaint.meaning is Meaning.CREDENTIALS:
            self._take_refusal(attempt, error, now)
            return
        if attempt.phase is not Phase.OPEN:
            self._attempt_failed(attempt, error, now)
            return
        lost: list[SubscriptionState] = []
        if complaint.meaning is Meaning.SUBSCRIPTION:
            lost = [one for one in self._subscriptions.values() if _is_named(one, complaint)]
        elif complaint.meaning is Meaning.PUBLICATION:
            waiters = [one.ended for one in self._subscriptions.values() if one.asked == complaint.subject]
            if self._inbox is not None:
                waiters += self._inbox.take_waiters_of(complaint.subject)
            self.effects += [Settle(waiter, error) for waiter in waiters]
        elif complaint.meaning is Meaning.TOO_MANY_SUBSCRIPTIONS:
            # The server takes them in their order: what it refused since it has its fill are the last ones.
            lost = list(self._subscriptions.values())[-1:]
        elif complaint.meaning is Meaning.FAREWELL:
            attempt.farewell = error  # whether that is the end is for the server to decide
        for subscription in lost:
            self.forget(subscription)  # with an UNSUB, lest the server has taken this one and refused another
            self.effects.append(Settle(subscription.ended, error))
        self.effects.append(Notify("on_error", (error,), is_told=bool(lost)))

    def _take_refusal(self, attempt: Attempt, error: NatsvcError, now: int) -> None:
        """The server does not accept the credentials, or no longer."""
        is_final = self._pool.authentication_failed(attempt.address, str(error))
        if attempt.phase is Phase.OPEN:
            self._notify("on_error", error)
            self._disconnect(error, now)
        else:
            self._attempt_failed(attempt, error, now, is_final=is_final and self._opener is None)

    def _inbox_lost(self, error: BaseException | None) -> None:
        """The server lets us have no answers, or the connection is closed: whoever waits needs not wait on."""
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            for waiter in inbox.take_waiters():
                waiter(error or self.closed_error())

    def _check_begun(self) -> None:
        self.check_open()
        if self.status is Status.NEW:
            raise ConnectionClosedError("the connection has not been made yet: await it, or enter its block")

    # Whether the server is still there

    def _send_ping(self, waiter: Waiter | None) -> None:
        self._pings.append(waiter)
        self.outbox.add(commands.PING)

    def _keep_alive(self, now: int) -> None:
        if self._pings_out >= self._options.max_pings_out:
            self._disconnect(StaleConnectionError(f"{self._pings_out} PINGs were left unanswered"), now)
            return
        self._pings_out += 1
        self._send_ping(None)
        self._wake(now + _nanoseconds(self._options.ping_interval))

    def _wake(self, at: int | None) -> None:
        """Have something done for the connection itself at this time, if at any; and requests expire at theirs."""
        self._wake_at = at
        deadline = None if self._inbox is None else self._inbox.next_deadline()
        self._tell(at if deadline is None or (at is not None and at < deadline) else deadline)

    def _tell(self, at: int | None) -> None:
        self._told = at
        self.effects.append(WakeAt(at))

    def _notify(self, callback: Callback, *arguments: Any) -> None:
        self.effects.append(Notify(callback, arguments))


def _tell_confirmed(waiter: Waiter, outcome: BaseException | None) -> None:
    waiter(None if isinstance(outcome, ConnectionLostError) else outcome)


def _tell_all(waiters: list[Waiter], outcome: object) -> None:
    for waiter in waiters:
        waiter(outcome)


def _is_named(subscription: SubscriptionState, complaint: Complaint) -> bool:
    if complaint.sid:
        return subscription.sid == complaint.sid
    return (subscription.subject, subscription.queue_group) == (complaint.subject, complaint.queue_group)


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1_000_000_000)
