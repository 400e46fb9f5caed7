"""What the state machine of a connection asks for, done by threads: dial, TLS, read, write, a timer.

Nothing is decided here. One lock guards the state machines of a connection and of the services on it; whoever holds it
waits for nothing and calls no code of users, logging handlers included. It is re-entrant only because a signal handler
or a finalizer of the user's may come in between, in the same thread.

Of each attempt at a server there is one thread that dials and then reads, or lets another one read (reading.py). Any
thread writes what waits to be written, unless another one is at it; it takes all there is, so replies of many workers
go out together. What the socket does not take is left to a thread that waits for room in it; what is to be done as soon
as somebody waits, to one that waits for nothing else (`do_soon`).
"""

from __future__ import annotations

import contextvars
import functools
import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from natsvc import __version__
from natsvc.errors import ConnectionClosedError
from natsvc.sync.alarms import Alarms
from natsvc.sync.attendant import Attendant
from natsvc.sync.callbacks import Callbacks
from natsvc.sync.exiting import CLOSE_LIMIT, look_after, settle_before_logging_ends
from natsvc.sync.transport import Transport
from natsvc.sync.waiter import Waiter, pieces
from natsvc.wire.connection import ConnectionState
from natsvc.wire.effects import Closed, Dial, Disconnect, Effect, Notify, Settle, StartTls, WakeAt

if TYPE_CHECKING:
    import ssl

    from natsvc.connecting import Preparation
    from natsvc.sync.listener import Listener
    from natsvc.sync.reading import StandIn
    from natsvc.sync.tls import Tls
    from natsvc.wire.addresses import ServerAddress

__all__ = ["HIGH_WATER", "Driver"]

_clock = time.perf_counter_ns

HIGH_WATER = 64 * 1024
"""So many bytes may wait to be written before whoever sends has to wait, and nothing more is read."""

_TURNS = 16
"""So many writes one thread makes while others give it more; then it has done its share."""


class Driver:
    """Runs one connection.

    Args:
        preparation: How to connect.

    Attributes:
        state: The state machine.
        lock: What to hold to call it, or a state machine of a service on the connection; then call `perform`, and
            without the lock `write`.
        closed: Set when the connection is closed for good.
        listeners: What the services on the connection are told by.
        callbacks: Where the callbacks of the connection and of its services run, and logging for them.
        alarms: What wakes them.
        is_write_due: Whether the writing has been left to a thread that has not begun with it yet.
        next_to_read: Who would read in the place of the reader thread.
        lends_at: When the reader may let somebody do so again.
    """

    def __init__(self, preparation: Preparation) -> None:
        self.state = ConnectionState(preparation.options, version=__version__, random=random.Random())  # noqa: S311
        self.lock = threading.RLock()
        self.closed = threading.Event()
        self.listeners: list[Listener] = []
        self.callbacks = Callbacks(settle_before_logging_ends)
        self.alarms = Alarms(self.lock, self.write)
        self.is_write_due = False
        self.next_to_read: StandIn | None = None
        self.lends_at = 0
        self._preparation = preparation
        self._context = contextvars.copy_context()
        self._tls_context: ssl.SSLContext | None = None
        self._transport: Transport | None = None
        self._is_performing = False
        self._room = threading.Condition(self.lock)
        self._is_room_awaited = False
        self._gone = threading.Condition(self.lock)
        self._closing: set[Transport] = set()
        self._writer = Attendant("natsvc-writer")  # waits for room in the socket
        self._attendant = Attendant("natsvc-attendant")  # waits for nothing but its turn
        look_after(self)

    def open(self) -> None:
        """Connect."""
        opened = Waiter()
        try:
            with self.lock:
                self.state.open(opened, _clock())
                self.perform()
            opened.wait()
        except BaseException:
            self.close()
            raise

    def ping(self, timeout: float | None = None) -> None:
        """Wait until the server has processed all that was sent; without a connection, until there is one.

        Raises:
            TimeoutError: It took longer than so many seconds.
        """
        ponged = Waiter()
        with self.lock:
            self.state.ping(ponged)
        try:
            self.write()
            ponged.wait(timeout)
        except BaseException:
            with self.lock:
                self.state.forget_ping(ponged)
            raise

    def confirm(self, timeout: float | None = None) -> None:
        """Wait until the server has processed all that was sent; without a connection, don't.

        Raises:
            TimeoutError: It took longer than so many seconds.
        """
        confirmed = Waiter()
        with self.lock:
            self.state.confirm(confirmed)
            self.perform()
        self.write()
        confirmed.wait(timeout)

    def when_confirmed(self, call: Callable[[], object]) -> None:
        """Have something called, with the lock held, when the server has processed all that was sent.

        Without a connection, or when it breaks, that is at once; if it is closed for good, never.
        """

        def confirmed(outcome: BaseException | None) -> None:
            if outcome is None:
                call()

        self.state.confirm(confirmed)
        self.perform()

    def reconnect(self) -> None:
        """Leave the server and connect anew."""
        with self.lock:
            self.state.reconnect(_clock())
            self.perform()

    def report(self, error: BaseException) -> None:
        """Tell the user of an error of something that is the user's own."""
        self._notify(Notify("on_error", (error,), is_told=True))

    def close(self, error: BaseException | None = None) -> None:
        """Close the connection for good; wait until the last bytes are away, but not for long."""
        with self.lock:
            self.state.close(error)
            self.perform()
            self._gone.wait_for(lambda: not self._closing, CLOSE_LIMIT)
            for transport in self._closing:
                transport.shut()

    # Writing

    @property
    def is_full(self) -> bool:
        """Whether whoever sends has to wait, by `room`."""
        if self.state.outgoing_size < HIGH_WATER or not self.state.is_connected:
            return False
        # To a connection that has broken nothing is written any more: whoever waited for that, the reader among them,
        # who is to find out about it, would wait for ever.
        return self._transport is not None and not self._transport.is_broken

    def room(self) -> None:
        """Wait while there is more to write than should be."""
        if self.is_full:
            self.write()
        with self.lock:
            for piece in pieces(None):
                if not self.is_full:
                    break
                self._is_room_awaited = True
                self._room.wait(piece)

    def write(self) -> None:
        """Write what there is to write, unless another thread is at it; never wait for the socket."""
        right = object()
        try:
            with self.lock:
                transport = self.begin_write(right)
            if transport is not None:
                self.finish_write(transport)
        except BaseException:  # Ctrl-C, perhaps between two lines: a right to write that nobody has would silence us
            with self.lock:
                taken = self._transport
                if taken is not None and taken.has_writer and taken.right is right and not taken.is_broken:
                    self._leave(taken)
            raise

    def write_now(self) -> None:
        """Write what there is to write, and wait while there is more than should be."""
        self.write()
        if self.is_full:
            self.room()

    def begin_write(self, right: object = None) -> Transport | None:
        """With the lock held, take the right to write; None if there is nothing to write, or another thread has it.

        Args:
            right: By what it can be told who has taken it.
        """
        transport = self._transport
        if transport is None or transport.has_writer or not (self.state.has_outgoing or transport.has_unsent):
            return None
        transport.right = right  # before it is taken: an interruption in between changes nothing
        transport.has_writer = True
        self.is_write_due = False
        return transport

    def finish_write(self, transport: Transport) -> None:
        """Without the lock, write what there is, and give back the right to."""
        try:
            for _ in range(_TURNS):
                with self.lock:
                    data = self._take(transport)
                    if data is None:
                        return
                transport.load(data)
                if not transport.send():
                    break
            self._leave(transport)
        except OSError as error:
            self._broke(transport, error)
        except BaseException:  # Ctrl-C
            if transport.is_loading:  # something has been taken, and may be lost: nothing must follow it
                self._broke(transport, ConnectionAbortedError("a write was interrupted"))
            elif transport.has_writer:
                self._leave(transport)
            raise

    def write_soon(self) -> bool:
        """With the lock held, leave the writing to the thread of `do_soon`.

        Whoever writes before takes it from that thread.

        Returns:
            Whether that will do; otherwise there is so much to write that one has to see to it oneself.
        """
        if self.state.outgoing_size >= HIGH_WATER:
            return False
        if not self.is_write_due:
            transport = self._transport
            if transport is not None and not transport.has_writer and self.state.has_outgoing:
                self.is_write_due = self.do_soon(self._write_what_is_due)
                return self.is_write_due
        return True

    def do_soon(self, call: Callable[[], object]) -> bool:
        """With the lock held, have something called without it, by a thread that waits for nothing but its turn.

        As long as the calling thread goes on without waiting, the other one gets none. What is called must not wait.

        Returns:
            Whether there is such a thread; there is none if the system gives no more threads.
        """
        return self._have_done(self._attendant, call)

    def _have_done(self, attendant: Attendant, call: Callable[[], object]) -> bool:
        is_taken = attendant.take(call)
        if self.state.is_closed:
            attendant.close()
        return is_taken

    def _take(self, transport: Transport) -> bytes | None:
        """With the lock held, return what to load; None, and the right to write is given back, if nothing is left."""
        if self._is_room_awaited:
            self._is_room_awaited = False
            self._room.notify_all()
        if transport.is_broken:
            transport.has_writer = False
            self._release(transport)
            return None
        if transport.unsent_size >= HIGH_WATER:
            return b""  # what is loaded can't be refused any more: as much as there may be waits already
        if transport is self._transport and self.state.has_outgoing:
            transport.is_loading = True
            return self.state.take_outgoing()
        if transport.last_words:
            transport.is_loading = True
            words, transport.last_words = transport.last_words, b""
            return words
        if transport.has_unsent:
            return b""
        transport.has_writer = False
        if transport.is_closing:
            transport.finish()
            self._is_away(transport)
        return None

    def _leave(self, transport: Transport) -> None:
        """Leave it, with the right to write, to the thread that may wait for room."""
        with self.lock:
            transport.right = None
            if not self._have_done(self._writer, functools.partial(self._write_what_is_left, transport)):
                self._broke(
                    transport, ConnectionAbortedError("there is no thread that can wait for room in the socket")
                )

    def _write_what_is_left(self, transport: Transport) -> None:
        transport.wait_for_room(CLOSE_LIMIT)
        self.finish_write(transport)

    def _write_what_is_due(self) -> None:
        self.is_write_due = False
        self.write()

    def _broke(self, transport: Transport, error: OSError) -> None:
        """Nothing more can be sent; the reader may still find the server's reason for it."""
        with self.lock:
            transport.error = error
            transport.is_broken = True
            self._room.notify_all()
            transport.shut()
            self._is_away(transport)

    def _is_away(self, transport: Transport) -> None:
        """The last words are sent, or never will be."""
        self._closing.discard(transport)
        self._gone.notify_all()
        self._release(transport)

    def _release(self, transport: Transport) -> None:
        """Give the socket back if no thread is in one of its calls."""
        if not transport.is_read and (not transport.has_writer or transport.is_broken):
            self.alarms.clear(transport)
            transport.release()

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

    def _perform_one(self, effect: Effect) -> None:
        match effect:
            case Settle(waiter, outcome):
                waiter(outcome)
            case WakeAt(None):
                self.alarms.clear(self)
            case WakeAt(int(at)):
                self.alarms.set(self, at, self._wake)
            case Dial(number, address):
                self._transport = transport = Transport(number)
                try:
                    threading.Thread(
                        target=self._run, args=(transport, address), name="natsvc-reader", daemon=True
                    ).start()
                except RuntimeError as error:  # the system gives no more threads
                    transport.is_read = False
                    self.state.dial_failed(number, error, _clock())
            case StartTls(number, server_name):
                assert self._transport is not None  # noqa: S101  # it is asked for where there is a connection
                self._start_tls(self._transport, server_name)
            case Disconnect():
                self._disconnect(effect)
            case Notify():
                self._notify(effect)
            case Closed(error):
                self.closed.set()
                for listener in list(self.listeners):
                    listener.connection_closed(error or self.state.closed_error())
                self.callbacks.close()
                self.alarms.close()
                self._writer.close()
                self._attendant.close()

    def _start_tls(self, transport: Transport, server_name: str) -> None:
        from natsvc.sync.tls import Tls  # nobody else needs ssl, and it takes its time to be loaded

        try:
            if self._tls_context is None:
                self._tls_context = self._preparation.make_tls_context()
            transport.tls = Tls(self._tls_context, server_name)
            transport.tls.shake_hands()
        except (OSError, ValueError) as error:
            self.state.lost(transport.number, error, _clock())

    def _disconnect(self, effect: Disconnect) -> None:
        transport, self._transport = self._transport, None
        if self._is_room_awaited:
            self._is_room_awaited = False
            self._room.notify_all()
        if transport is None:
            return
        transport.is_closing = True
        if not effect.in_order or transport.is_broken:
            transport.shut()
            return
        transport.last_words = effect.last_words
        self._closing.add(transport)
        self.alarms.set(transport, _clock() + int(CLOSE_LIMIT * 1e9), transport.shut)
        if not transport.has_writer:
            transport.has_writer = True
            self.finish_write(transport)

    def _notify(self, notice: Notify) -> None:
        if notice.callback == "on_error" and not notice.is_told:
            for listener in list(self.listeners):
                listener.connection_error(*notice.arguments)
        callback = self._preparation.callbacks.get(notice.callback)
        if callback is not None:
            self.callbacks.call("the connection", notice.callback, self._context, callback, *notice.arguments)

    def _wake(self) -> None:
        self.state.wake(_clock())
        self.perform()

    # Reading

    def read_instead(self, transport: Transport) -> bytes:
        """Without the lock, wait for bytes in the place of the reader thread, and return what is to be delivered.

        Whatever else comes of it is left to that one.
        """
        try:
            return self._read_once(transport)
        except Exception as error:  # noqa: BLE001  # the reader raises it
            transport.reading.fail(error)
            return b""

    def deliver_instead(self, transport: Transport, data: bytes, stand_in: StandIn) -> None:
        """With the lock held, deliver what was read in the place of the reader; the stand-in may keep its own."""
        try:
            self._deliver(transport, data, stand_in)
        except Exception as error:  # noqa: BLE001  # the reader raises it
            transport.reading.fail(error)

    def _deliver(self, transport: Transport, data: bytes, stand_in: StandIn | None = None) -> None:
        deliveries = self.state.received(transport.number, data, _clock())
        # What the state machine asks for has its turn when all that came before has been delivered.
        if stand_in is not None and not self.state.effects:
            deliveries = stand_in.keep(deliveries)
        for receive, message in deliveries:
            receive(message)
        if self.state.effects:
            self.perform()

    def nudge(self) -> None:
        """With the lock held, have the server say something, so that whoever reads comes back.

        Without a connection nobody reads for long.
        """
        if self.state.is_connected:
            self.state.ping(lambda outcome: None)
            self.do_soon(self.write)

    def _run(self, transport: Transport, address: ServerAddress) -> None:
        """Dial and read: the life of the thread of one attempt."""
        try:
            if self._dial(transport, address):
                self._read(transport)
        except Exception as error:  # noqa: BLE001  # without its reader a connection is lost, whatever has ended that
            with self.lock:
                self.state.lost(transport.number, error, _clock())
                self.perform()
        finally:
            with self.lock:
                transport.is_read = False
                self._release(transport)
            self.write()  # of the next attempt's, for it may be connected by now

    def _dial(self, transport: Transport, address: ServerAddress) -> bool:
        try:
            transport.dial(address.host, address.port, self._preparation.options.connect_timeout)
        except (OSError, ValueError) as error:  # a name that no resolver can be asked for is a UnicodeError
            with self.lock:
                self.state.dial_failed(transport.number, error, _clock())
                self.perform()
            return False
        with self.lock:
            if transport.is_closing:
                return False
            self.state.dialled(transport.number)
            self.perform()
        self.write()
        return True

    def _read(self, transport: Transport) -> None:
        error: BaseException | None = None
        reading = transport.reading
        try:
            while not reading.is_over:
                if data := self._read_once(transport):
                    self._receive(transport, data)
                if self.next_to_read is not None and self._lends(transport):
                    reading.wait()
        except OSError as raised:
            error = raised
            self.write()  # TLS may have to say what it does not like
        with self.lock:
            self.state.lost(transport.number, error or transport.error, _clock())
            self.perform()

    def _read_once(self, transport: Transport) -> bytes:
        """Wait for bytes; return what is to be delivered, which is b"" at the end, and perhaps before."""
        data = transport.read()
        if not data:
            transport.reading.is_over = True
        elif transport.tls is not None:
            data, transport.reading.is_over = self._decrypt(transport, transport.tls, data)
        return data

    def _lends(self, transport: Transport) -> bool:
        """Lend the reading, if who has called for it can still take it."""
        with self.lock:
            stand_in, self.next_to_read = self.next_to_read, None
            if (
                stand_in is None
                or transport.reading.is_over
                or transport is not self._transport
                or self.lends_at > _clock()
                or not stand_in.may_read()
            ):
                return False
            stand_in.lent = transport
            return True

    def _decrypt(self, transport: Transport, tls: Tls, data: bytes) -> tuple[bytes, bool]:
        tls.feed(data)
        if not tls.is_open:
            if not tls.shake_hands():
                self.write()
                return b"", False
            with self.lock:
                self.state.tls_started(transport.number, _clock())
                self.perform()
            self.write()
        return tls.decrypt()

    def _receive(self, transport: Transport, data: bytes) -> None:
        with self.lock:
            self._deliver(transport, data)
            to_write = self.begin_write()
            is_full = self.is_full
        if to_write is not None:
            self.finish_write(to_write)
        if is_full:
            self.room()

    # The end of the process, and one that was forked off

    def settle(self, end: float) -> None:
        """Wait until what was sent has been written, but no longer than until this time of `monotonic`."""
        with self.lock:
            while (
                (transport := self._transport) is not None
                and not transport.is_broken
                and (transport.has_writer or (self.state.is_connected and self.state.has_outgoing))
                and (left := end - time.monotonic()) > 0
            ):
                self._is_room_awaited = True
                self._room.wait(left)

    def abandon(self) -> None:
        """In a forked process, close the connection without a word: it is the parent's, and so are its threads."""
        # The thread that held the lock may not be here to release it.
        self.lock._at_fork_reinit()  # type: ignore[attr-defined]
        with self.lock:
            self.callbacks.abandon()
            self._transport = None
            self._closing.clear()
            self.state.close(
                ConnectionClosedError("the connection is the parent's: a forked process must make its own")
            )
            self.closed.set()
            for effect in self.state.take_effects():
                if isinstance(effect, Settle):
                    effect.waiter(effect.outcome)
            for listener in list(self.listeners):
                listener.connection_closed(self.state.closed_error())
