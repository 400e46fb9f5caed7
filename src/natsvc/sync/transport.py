"""One connection to one server: a socket read by one thread, and written to by others without ever waiting in it.

A thread that waited in a send could wait for ever, with a signal unheard and everybody's replies behind it. So a send
takes what the socket takes at once, and says whether that was all.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from typing import TYPE_CHECKING

from natsvc.sync.reading import Reading

if TYPE_CHECKING:
    from natsvc.sync.tls import Tls

__all__ = ["Transport"]

_READ_SIZE = 64 * 1024

_LONG = 24 * 3600.0
"""Seconds that a read waits for bytes, where it can't wait without an end, before it begins anew."""

_AT_ONCE = getattr(socket, "MSG_DONTWAIT", 0)
"""The flag that keeps one send from waiting while another thread waits in a read of the same socket."""


class Transport:
    """One connection to one server.

    Who may do what is for the driver to say: one thread reads, and one at a time, the writer, sends.

    Args:
        number: Which attempt it is of.

    Attributes:
        number: Which attempt it is of.
        tls: What encrypts it, if it is encrypted.
        is_closing: Whether nobody is to hear any more of what it reads.
        is_broken: Whether nothing more can be sent.
        has_writer: Whether a thread is at it with a send, or keeps the right to for the one that waits for room.
        right: By what it can be told which writer it is.
        is_read: Whether its reader thread is there.
        reading: Who may read it.
        last_words: What is still to be sent when it is closed.
        error: Why nothing more can be sent.
        is_loading: Whether a `load` was begun and not ended.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.tls: Tls | None = None
        self.is_closing = False
        self.is_broken = False
        self.has_writer = False
        self.right: object = None
        self.is_read = True
        self.reading = Reading()
        self.last_words = b""
        self.error: OSError | None = None
        self.is_loading = False
        self._loaded: tuple[bytes, deque[int]] = (b"", deque())  # and how much of it was sent each time
        self._read_end: socket.socket | None = None
        self._write_end: socket.socket | None = None

    @property
    def has_unsent(self) -> bool:
        """Whether there is something to send that the state machine doesn't know of."""
        return self.unsent_size > 0 or (self.tls is not None and self.tls.has_outgoing)

    @property
    def unsent_size(self) -> int:
        """How many bytes are loaded and not sent yet."""
        loaded, sent = self._loaded
        return len(loaded) - sum(sent)

    def dial(self, host: str, port: int, timeout: float) -> None:
        """Connect; to be called by the thread that will read.

        Args:
            host: The host.
            port: The port.
            timeout: Seconds that it may take. Each of the host's addresses has its share of them, so that a silent one
                doesn't use up those of the others.

        Raises:
            OSError: It could not be done.
            ValueError: The host is no name that can be looked up.
        """
        # As bytes, a host is looked up as it is; for a text, Python would load the codec for names beyond ASCII.
        found = socket.getaddrinfo(host.encode() if host.isascii() else host, port, type=socket.SOCK_STREAM)
        places = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
        for place in places:
            family, address = place
            dialled = socket.socket(family, socket.SOCK_STREAM)
            try:
                dialled.settimeout(timeout / len(places))
                dialled.connect(address)
                dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                dialled.close()
                if place == places[-1]:
                    raise
            else:
                self.adopt(dialled)
                return

    def adopt(self, connected: socket.socket) -> None:
        """Use this socket."""
        if _AT_ONCE:
            connected.settimeout(None)
            self._read_end = self._write_end = connected
        else:
            # Where a single send can't be told not to wait, one of two handles on the socket never waits. The other one
            # waits with a timeout, for Python then leaves the socket itself in the mode that never waits.
            self._write_end = connected.dup()
            self._write_end.settimeout(0)
            connected.settimeout(_LONG)
            self._read_end = connected

    def read(self) -> bytes:
        """Wait for bytes and return them as they come; b"" is the end.

        Raises:
            OSError: The connection broke.
        """
        assert self._read_end is not None  # noqa: S101  # who reads comes after the one that has dialled
        while True:
            try:
                return self._read_end.recv(_READ_SIZE)
            except TimeoutError:
                continue

    def load(self, data: bytes) -> None:
        """Have these bytes sent behind what is unsent.

        Raises:
            OSError: TLS can't go on.
        """
        self.is_loading = True
        if self.tls is not None:
            data = self.tls.encrypt(data)
        if data:
            self._loaded = (self.unsent + data, deque())
        self.is_loading = False

    @property
    def unsent(self) -> bytes:
        """What is loaded and not sent yet."""
        loaded, sent = self._loaded
        return loaded[sum(sent) :] if sent else loaded

    def send(self) -> bool:
        """Send what is loaded, as far as the socket takes it at once; return whether that was all.

        Raises:
            OSError: The connection broke.
        """
        loaded, sent = self._loaded
        done = sum(sent)
        if done == len(loaded):
            return True
        assert self._write_end is not None  # noqa: S101  # before it has been dialled there is nothing to send
        rest = memoryview(loaded)[done:]
        try:
            # In the main thread, Ctrl-C has its effect between two steps of Python: were how much was sent noted in a
            # step after the sending, it might never be, and what followed would be out of place.
            sent.extend(map(self._write_end.send, (rest,), (_AT_ONCE,)))
        except BlockingIOError:
            return False
        return done + sent[-1] == len(loaded)

    def wait_for_room(self, timeout: float) -> None:
        """Wait until the socket takes something, or is shut down, or for so many seconds."""
        if self._write_end is None or (number := self._write_end.fileno()) < 0:
            return
        if hasattr(select, "poll"):
            waiting = select.poll()
            waiting.register(number, select.POLLOUT)
            waiting.poll(timeout * 1000)
        else:
            select.select([], [number], [], timeout)

    def finish(self) -> None:
        """Say that nothing more will be sent; the reader ends when the server has closed its side."""
        self._shut(socket.SHUT_WR)

    def shut(self) -> None:
        """End it: whoever reads or waits for room comes back."""
        self._shut(socket.SHUT_RDWR)

    def release(self) -> None:
        """Give the socket back; no thread may be in one of its calls."""
        reading, self._read_end = self._read_end, None
        writing, self._write_end = self._write_end, None
        for one in (reading, writing):
            if one is not None:
                one.close()

    def _shut(self, how: int) -> None:
        if self._read_end is not None:
            try:
                self._read_end.shutdown(how)
            except OSError:
                return  # it is shut already
