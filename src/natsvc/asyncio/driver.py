"""What the state machine of a connection asks for, done on an event loop: dial, TLS, read, write, a timer.

Nothing is decided here. Each attempt at a server has a protocol object of its own, so that whatever an old one still
says is told apart by its number. What is sent during one turn of the loop is written at once, at the turn's end.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import random
import time
from collections import deque
from collections.abc import Callable
from socket import SOCK_STREAM
from typing import TYPE_CHECKING, Any, cast

from natsvc import __version__
from natsvc.asyncio.callbacks import Callbacks
from natsvc.asyncio.carrying import deliver_all
from natsvc.asyncio.memory import keep_freed_memory
from natsvc.wire.connection import ConnectionState
from natsvc.wire.effects import Closed, Dial, Disconnect, Effect, Notify, Settle, StartTls, WakeAt
from natsvc.wire.outbox import WRITE_SIZE

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable

    from natsvc.asyncio.link import Listener
    from natsvc.connecting import Preparation
    from natsvc.wire.addresses import ServerAddress

__all__ = ["Driver", "clock", "settle"]

clock = time.monotonic_ns
"""The time that the state machine is told, in nanoseconds."""

_DELIVERED_IN_A_ROW = 256
"""So many messages are delivered before the loop gets its turn: what receives them may run handlers to their end.

To go on in another turn costs a pause of the reading: with 200, 256 requests in flight take 1.03 x the CPU time.
"""

_CLOSE_LIMIT = 2.0
"""Seconds that the last bytes may take to get away."""


class Driver:
    """Runs one connection.

    Args:
        preparation: How to connect.

    Attributes:
        state: The state machine.
        listeners: What the services on the connection are told by.
        closed: Set when the connection is closed for good.
        is_paused: Whether the socket takes nothing at the moment.
    """

    def __init__(self, preparation: Preparation) -> None:
        keep_freed_memory()
        self.state = ConnectionState(preparation.options, version=__version__, random=random.Random())  # noqa: S311
        self.listeners: list[Listener] = []
        self.closed = asyncio.Event()
        self.is_paused = False
        self._preparation = preparation
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._callbacks = Callbacks("a callback of the connection", self._context)
        self._tls_context: ssl.SSLContext | None = None
        self._socket: _Socket | None = None
        self._step: asyncio.Task[None] | None = None  # the attempt's: dialling, or starting TLS
        self._timer: asyncio.TimerHandle | None = None
        self._opened: asyncio.Future[None] | None = None
        self._is_performing = False
        self._may_write_early = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._undelivered: deque[tuple[Callable[[Any], Any], Any]] = deque()
        self._sockets: set[_Socket] = set()

    async def open(self) -> None:
        """Connect; if that is under way or done, wait until it is done.

        Raises:
            ConnectionClosedError: It has been closed, or could not be opened before.
        """
        if self._opened is None:
            self._opened = self._loop.create_future()
            self.state.open(functools.partial(settle, self._opened), clock())
            self.perform()
            try:
                await self._opened
            except BaseException:
                self.close()
                raise
        else:
            await asyncio.wait([self._opened])
        self.state.check_open()

    async def ping(self) -> None:
        """Wait until the server has processed all that was sent; without a connection, until there is one."""
        ponged: asyncio.Future[None] = self._loop.create_future()
        waiter = functools.partial(settle, ponged)
        self.state.ping(waiter)
        self.send()
        try:
            await ponged
        finally:
            self.state.forget_ping(waiter)

    async def confirm(self) -> None:
        """Wait until the server has processed all that was sent; without a connection, don't."""
        confirmed: asyncio.Future[None] = self._loop.create_future()
        self.state.confirm(functools.partial(settle, confirmed))
        self.perform()
        await confirmed

    def send(self) -> None:
        """Have written, at the end of the loop's turn, what the state machine has to send."""
        if not self.state.is_write_due and not self.is_paused:
            self.state.is_write_due = True
            self._loop.call_soon(self._write)

    def see_to_writing(self) -> Awaitable[None] | None:
        """Have written what the state machine has to send; if whoever sends has to wait, return what for."""
        is_full = self.is_full
        if not self.state.is_write_due:
            self.send()
        elif self._may_write_early:  # once: whoever sends without an end must come to wait
            self._may_write_early = False
            self._write_now()
        return self.room() if is_full else None

    @property
    def is_full(self) -> bool:
        """Whether whoever sends has to wait, by `room`."""
        return self.is_paused or self.state.outgoing_size >= WRITE_SIZE

    async def room(self) -> None:
        """Wait while the socket takes nothing."""
        self._write()
        await asyncio.sleep(0)  # a socket that takes everything must not keep others from their turn
        await self._writable.wait()

    def reconnect(self) -> None:
        """Leave the server and connect anew."""
        self.state.reconnect(clock())
        self.perform()

    def report(self, error: BaseException) -> None:
        """Tell the user of an error of something that is the user's own."""
        self._notify(Notify("on_error", (error,), is_told=True))

    def close(self, error: BaseException | None = None) -> None:
        """Close the connection for good."""
        self.state.close(error)
        self.perform()

    async def has_closed(self) -> None:
        """Wait until the connection is closed, with all that it used."""
        await self.closed.wait()
        while self._sockets:
            await asyncio.wait([socket.is_over for socket in self._sockets])

    # What the state machine asks for

    def perform(self) -> None:
        """Do what the state machine asks for; to be called after everything that it is told."""
        if self._is_performing:
            return  # an effect has led to more: they have their turn behind those that came before
        self._is_performing = True
        try:
            while self.state.effects:
                self._perform_one(self.state.effects.pop(0))  # whatever one of them raises, the others are still there
        finally:
            self._is_performing = False
        if self.state.has_outgoing:
            self.send()

    def _perform_one(self, effect: Effect) -> None:
        match effect:
            case Settle(waiter, outcome) if self._undelivered:
                self._undelivered.append((waiter, outcome))  # what came before it is to be delivered before
            case Settle(waiter, outcome):
                waiter(outcome)
            case WakeAt(at):
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
                if at is not None:
                    self._timer = self._loop.call_later(max(0, at - clock()) / 1e9, self._wake)
            case Dial(number, address):
                self._socket = socket = _Socket(self, number)
                self._sockets.add(socket)
                self._step = self._loop.create_task(self._dial(socket, address))
            case StartTls(_, server_name):
                assert self._socket is not None  # noqa: S101  # it is asked for where there is a connection
                self._socket.hold()
                self._step = self._loop.create_task(self._start_tls(self._socket, server_name))
            case Disconnect():
                self._disconnect(effect)
            case Notify():
                self._notify(effect)
            case Closed(error):
                self._set_paused(False)
                self.closed.set()
                for listener in list(self.listeners):
                    listener.connection_closed(error or self.state.closed_error())

    async def _dial(self, socket: _Socket, address: ServerAddress) -> None:
        try:
            found = await self._loop.getaddrinfo(address.host, address.port, type=SOCK_STREAM)
            hosts = list(dict.fromkeys(str(info[4][0]) for info in found))
            for host in hosts:
                # Each has its share of the time, so that a silent one doesn't use up that of the others.
                try:
                    async with asyncio.timeout(self._preparation.options.connect_timeout / len(hosts)):
                        await self._loop.create_connection(lambda: socket, host, address.port)
                    return
                except OSError:
                    if host == hosts[-1]:
                        raise
        except (OSError, ValueError) as error:  # a name that no resolver can be asked for is a UnicodeError
            socket.end()
            self.state.dial_failed(socket.number, error, clock())
            self.perform()

    async def _start_tls(self, socket: _Socket, server_name: str) -> None:
        assert socket.transport is not None  # noqa: S101  # it is asked for where there is a connection
        try:
            if self._tls_context is None:
                self._tls_context = self._preparation.make_tls_context()
            transport = await self._loop.start_tls(
                socket.transport, socket, self._tls_context, server_hostname=server_name
            )
            if transport is None:  # it was lost while the handshake went on
                raise ConnectionResetError("the server closed the connection during the TLS handshake")
        except (OSError, ValueError) as error:
            self.lost(socket, error)
            return
        except asyncio.CancelledError:
            socket.end()  # during its handshake, asyncio tells nobody that a connection has ended
            raise
        socket.transport = transport
        self.state.tls_started(socket.number, clock())
        self.perform()
        socket.release()

    def _disconnect(self, effect: Disconnect) -> None:
        socket, self._socket = self._socket, None
        step, self._step = self._step, None
        if step is not None and step is not asyncio.current_task():
            step.cancel()
        if socket is not None:
            socket.close(effect.last_words, in_order=effect.in_order)
        self._set_paused(False)

    def _notify(self, notice: Notify) -> None:
        if notice.callback == "on_error" and not notice.is_told:
            for listener in list(self.listeners):
                listener.connection_error(*notice.arguments)
        callback = self._preparation.callbacks.get(notice.callback)
        self._callbacks.call(notice.callback, callback, *notice.arguments)

    def _wake(self) -> None:
        self._timer = None
        self.state.wake(clock())
        self.perform()

    # What the sockets tell

    def dialled(self, socket: _Socket) -> None:
        """The TCP connection is made."""
        self.state.dialled(socket.number)
        self.perform()

    def received(self, socket: _Socket, data: bytes) -> None:
        """Bytes have arrived: deliver the messages that they end."""
        deliveries = self.state.received(socket.number, data, clock())
        if self._undelivered or len(deliveries) > _DELIVERED_IN_A_ROW:
            is_first = not self._undelivered
            self._undelivered += deliveries
            if deliveries:
                socket.pause_reading()
            self.perform()
            if is_first:
                self._deliver_in_turns()
            return
        self._begin_row()
        try:
            deliver_all(self._loop, self._context, iter(deliveries))
            if self.state.effects:
                self.perform()
        finally:
            self._write()

    def _begin_row(self) -> None:
        """Have all that is sent from now on written at the end of this, at the latest, unless the socket is full."""
        self.state.is_write_due = not self.is_paused
        self._may_write_early = True

    def _deliver_in_turns(self) -> None:
        undelivered = self._undelivered
        self._begin_row()
        try:
            row = range(min(_DELIVERED_IN_A_ROW, len(undelivered)))
            deliver_all(self._loop, self._context, (undelivered.popleft() for _ in row))
        finally:
            self._write()
            if undelivered:
                self._loop.call_soon(self._deliver_in_turns)
            else:
                self._read_on()

    def _read_on(self) -> None:
        if self._socket is not None and not self._undelivered and not self.is_paused:
            self._socket.resume_reading()

    def lost(self, socket: _Socket, error: BaseException | None) -> None:
        """The connection broke."""
        socket.end()
        self.state.lost(socket.number, error, clock())
        self.perform()

    def forget(self, socket: _Socket) -> None:
        """The socket is closed."""
        self._sockets.discard(socket)

    def is_writable(self, socket: _Socket, writable: bool) -> None:
        """The socket takes nothing more for now, or takes something again."""
        if socket is not self._socket:
            return
        self._set_paused(not writable)
        if writable:
            self._write()
            self._read_on()
        else:
            # Each request that is read now has a reply that can't be written.
            socket.pause_reading()

    def _set_paused(self, paused: bool) -> None:
        self.is_paused = paused
        if paused:
            self.state.is_write_due = False
            self._writable.clear()
        else:
            self._writable.set()

    def _write(self) -> None:
        self.state.is_write_due = False
        self._may_write_early = False
        self._write_now()

    def _write_now(self) -> None:
        socket = self._socket
        if socket is not None and not self.is_paused and self.state.has_outgoing:
            socket.write(self.state.take_outgoing())


class _Socket(asyncio.Protocol):
    """One connection to one server."""

    def __init__(self, driver: Driver, number: int) -> None:
        self.number = number
        self.transport: asyncio.Transport | None = None
        self.is_over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._driver = driver
        self._held: list[bytes] | None = None  # what came before the state machine knew that there is TLS
        self._is_closing = False
        self._is_lost = False
        self._limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if self._is_closing:
            self.transport.abort()
        else:
            self._driver.dialled(self)

    def data_received(self, data: bytes) -> None:
        if self._is_closing:
            return
        if self._held is None:
            self._driver.received(self, data)
        else:
            self._held.append(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._is_lost = True
        if self._held is None or self._is_closing:  # otherwise, whoever starts TLS has the better reason
            self._driver.lost(self, error)

    def pause_writing(self) -> None:
        self._driver.is_writable(self, False)

    def resume_writing(self) -> None:
        self._driver.is_writable(self, True)

    def hold(self) -> None:
        """Read nothing more in clear, and keep what comes until `release`."""
        self._held = []
        self.pause_reading()

    def release(self) -> None:
        held, self._held = self._held or [], None
        for data in held:
            self.data_received(data)
        if self._is_lost:
            self._driver.lost(self, None)

    def write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def pause_reading(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def close(self, last_words: bytes, *, in_order: bool) -> None:
        """Close: in order, with all that there is to write, or at once."""
        self._is_closing = True
        transport = self.transport
        if transport is None:
            self.end()
        elif in_order and self._held is None:
            if last_words:
                transport.write(last_words)
            transport.close()
            self._limit = asyncio.get_running_loop().call_later(_CLOSE_LIMIT, transport.abort)
        else:
            transport.abort()

    def end(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
        if not self.is_over.done():
            self.is_over.set_result(None)
        self._driver.forget(self)


def settle(future: asyncio.Future[Any], outcome: Any) -> None:
    """Give a future its outcome, if anybody still waits for it."""
    if future.done():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
