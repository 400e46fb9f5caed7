"""What the state machine of a connection asks for, done by tasks: dial, TLS, read, write, a timer.

Nothing is decided here. The tasks live as long as the block of the connection; cancelling what is around that block
doesn't touch them, so that whoever leaves it can still unsubscribe, answer and flush.
"""

from __future__ import annotations

import contextvars
import random
from typing import TYPE_CHECKING, Protocol

import anyio
import anyio.lowlevel

from natsvc import __version__
from natsvc.anyio.block import TaskBlock
from natsvc.anyio.callbacks import Callbacks
from natsvc.anyio.outcome import Outcome
from natsvc.anyio.sockets import Socket
from natsvc.anyio.timer import Timer, clock
from natsvc.wire.connection import ConnectionState
from natsvc.wire.effects import Closed, Dial, Disconnect, Effect, Notify, Settle, StartTls, WakeAt
from natsvc.wire.outbox import WRITE_SIZE, read_size

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable

    from natsvc.anyio.reading import StandIn
    from natsvc.connecting import Preparation

__all__ = ["Driver", "Listener"]

_CALLBACKS_LIMIT = 2.0
"""Seconds that callbacks may still take when the block of the connection is left."""


class Listener(Protocol):
    """A service, which is told what becomes of the connection it is on."""

    def connection_closed(self, error: BaseException) -> None:
        """The connection is closed for good; with the cause."""
        ...

    def connection_error(self, error: BaseException) -> None:
        """Something else went wrong that the owner may want to know."""
        ...

    async def drain(self) -> None:
        """Stop, and return when the connection may go on with being drained."""
        ...


class Driver:
    """Runs one connection.

    Args:
        preparation: How to connect.

    Attributes:
        state: The state machine.
        listeners: Who is told what becomes of the connection.
        closed: Set when the connection is closed for good.
        is_paused: Whether the socket takes nothing at the moment.
        is_delivering: Whether messages are being delivered.
        next_to_read: Who would read in the place of the reading task: for it was called for what is being delivered.
        lends_at: When the reading task may let somebody do so again.
    """

    def __init__(self, preparation: Preparation) -> None:
        self.state = ConnectionState(preparation.options, version=__version__, random=random.Random())  # noqa: S311
        self.listeners: list[Listener] = []
        self.closed = anyio.Event()
        self.is_paused = False
        self.is_delivering = False
        self.next_to_read: StandIn | None = None
        self.lends_at = 0
        self._is_batching = False
        self._may_write_early = False
        self._preparation = preparation
        self._block = TaskBlock("a connection, by `async with connect(...) as nc:`,")
        self._callbacks = Callbacks("a callback of the connection", contextvars.copy_context(), self._block)
        self._timer = Timer(self._wake)
        self._tls_context: ssl.SSLContext | None = None
        self._socket: Socket | None = None
        self._sockets: set[Socket] = set()
        self._is_performing = False
        self._room = anyio.Event()
        self._forgotten = anyio.Event()

    # What the connection's owner asks for

    async def enter(self) -> None:
        """Begin: the tasks live until `leave`.

        Raises:
            RuntimeError: It has begun before.
        """
        await self._block.enter()
        self._block.start_soon(self._timer.run)

    async def open(self) -> None:
        """Connect."""
        opened = Outcome[None]()
        self.state.open(opened.settle, clock())
        self.perform()
        await opened.wait()

    async def leave(self, error: BaseException | None) -> None:
        """Close, and end all tasks; see `TaskBlock.leave`."""
        self.close()
        try:
            with anyio.move_on_after(_CALLBACKS_LIMIT):
                await self._callbacks.are_over()
        finally:
            self._timer.close()
            await self._block.leave(error)

    async def ping(self) -> None:
        """Wait until the server has processed all that was sent; without a connection, until there is one."""
        ponged = Outcome[None]()
        waiter = ponged.settle
        self.state.ping(waiter)
        self.send()
        try:
            await ponged.wait()
        finally:
            self.state.forget_ping(waiter)

    async def confirm(self) -> None:
        """Wait until the server has processed all that was sent; without a connection, don't."""
        confirmed = Outcome[None]()
        self.state.confirm(confirmed.settle)
        self.perform()
        await confirmed.wait()

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
            await self._forgotten.wait()

    # Writing

    def send(self) -> None:
        """Have written what the state machine has to send: at the end of the batch, or when this task waits."""
        if not self._is_batching and self._socket is not None and self.state.has_outgoing:
            self._socket.send_soon()

    def begin_batch(self) -> None:
        """Have what is sent now wait for the end of the batch, or until there is enough of it."""
        self._is_batching = True
        self.state.is_write_due = not self.is_paused
        self._may_write_early = True

    def end_batch(self) -> None:
        """Go on as before; the batch is still to be written, by `write` or `send`."""
        self._is_batching = self.state.is_write_due = False

    def see_to_writing(self) -> Awaitable[None] | None:
        """Have written what the state machine has to send; if whoever sends has to wait, return what for."""
        is_full = self.is_full
        if not self._is_batching:
            self.send()
        elif self._may_write_early:  # once: whoever sends without an end must come to wait
            self._may_write_early = False
            self.write()
        return self.room() if is_full else None

    def write(self) -> None:
        """Write what the state machine has to send, as far as the socket takes it."""
        socket = self._socket
        if socket is not None and not self.is_paused and self.state.has_outgoing:
            socket.write(self.state.take_outgoing())

    @property
    def is_full(self) -> bool:
        """Whether whoever sends has to wait, by `room`."""
        return self.is_paused or self.state.outgoing_size >= WRITE_SIZE

    async def room(self) -> None:
        """Wait while the socket takes nothing."""
        self.write()
        await anyio.lowlevel.checkpoint()  # a socket that takes everything must not keep others from their turn
        while self.is_paused:
            if self._room.is_set():
                self._room = anyio.Event()
            await self._room.wait()

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
            case Settle(waiter, outcome):
                waiter(outcome)
            case WakeAt(at):
                self._timer.set(at)
            case Dial(number, address):
                self._socket = socket = Socket(self, number, address, self._preparation.options.connect_timeout)
                self._sockets.add(socket)
                self._block.start_soon(socket.run)
            case StartTls(_, server_name):
                assert self._socket is not None  # noqa: S101  # it is asked for where there is a connection
                self._socket.start_tls(server_name)
            case Disconnect(_, last_words, in_order):
                ending, self._socket = self._socket, None
                if ending is not None:
                    ending.end(last_words, in_order=in_order)
                self._set_paused(False)
            case Notify():
                self._notify(effect)
            case Closed(error):
                self.closed.set()
                for listener in list(self.listeners):
                    listener.connection_closed(error or self.state.closed_error())

    def _notify(self, notice: Notify) -> None:
        if notice.callback == "on_error" and not notice.is_told:
            for listener in list(self.listeners):
                listener.connection_error(*notice.arguments)
        callback = self._preparation.callbacks.get(notice.callback)
        if callback is not None:
            self._callbacks.call(notice.callback, callback, *notice.arguments)

    def _wake(self, now: int) -> None:
        self.state.wake(now)
        self.perform()

    # What the sockets tell

    def make_tls_context(self) -> ssl.SSLContext:
        """Return what TLS may do, and whom it trusts: always the same."""
        if self._tls_context is None:
            self._tls_context = self._preparation.make_tls_context()
        return self._tls_context

    def dialled(self, socket: Socket) -> None:
        """The TCP connection is made."""
        self.state.dialled(socket.number)
        self.perform()

    def dial_failed(self, socket: Socket, error: BaseException) -> None:
        """There is no TCP connection."""
        self.state.dial_failed(socket.number, error, clock())
        self.perform()

    def tls_started(self, socket: Socket) -> None:
        """The TLS handshake is done."""
        self.state.tls_started(socket.number, clock())
        self.perform()

    def received(self, socket: Socket, data: bytes) -> StandIn | None:
        """Bytes have arrived: deliver the messages that they end.

        Returns:
            Who may read in the place of the reading task, and is about to look for something to do.
        """
        self.begin_batch()
        self.is_delivering = True
        try:
            deliveries = self.state.received(socket.number, data, clock())
            socket.read_size = read_size(len(data), len(deliveries))
            for receive, message in deliveries:
                receive(message)
            if self.state.effects:
                self.perform()
        finally:
            self.is_delivering = False
            stand_in, self.next_to_read = self.next_to_read, None
            self.end_batch()
            self.write()
        return stand_in

    def read_on(self) -> bool:
        """Deliver what has arrived already, in the place of the task that waits for it; return whether anything has."""
        socket = self._socket
        if socket is not None and self.state.is_connected and not self.is_paused and (data := socket.take()):
            self.received(socket, data)
            return True
        return False

    def lost(self, socket: Socket, error: BaseException | None) -> None:
        """The connection broke."""
        self.state.lost(socket.number, error, clock())
        self.perform()

    def is_writable(self, socket: Socket, writable: bool) -> None:
        """The socket takes nothing more for now, or takes something again."""
        if socket is self._socket:
            self._set_paused(not writable)

    def _set_paused(self, paused: bool) -> None:
        if paused != self.is_paused:
            self.is_paused = paused
            if paused:
                self.state.is_write_due = False
            else:
                self._room.set()

    def forget(self, socket: Socket) -> None:
        """The socket is closed."""
        self._sockets.discard(socket)
        if not self._sockets:
            self._forgotten.set()
            self._forgotten = anyio.Event()
