"""One connection to one server: its socket, the task that reads from it, and the task that waits until it can write.

The reading task may lend the reading to another one (reading.py).

Writing itself never waits: what the socket doesn't take at once is kept, and the writing task sends it. So whoever
publishes can be cancelled at any time, and no command is ever sent by half; and what is sent in reply to one piece of
what was read goes out in one piece, without any task being switched to.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any

import anyio

from natsvc.anyio.reading import Reading
from natsvc.anyio.tls import Tls
from natsvc.wire.outbox import READ_SIZE

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from natsvc.anyio.driver import Driver
    from natsvc.wire.addresses import ServerAddress

__all__ = ["Socket"]

_CLOSE_LIMIT = 2.0
"""Seconds that the last bytes may take to get away."""

# Before anyio 4.7 they had other names.
_wait_readable: Callable[[Any], Awaitable[None]] = (
    getattr(anyio, "wait_readable", None) or vars(anyio)["wait_socket_readable"]
)
_wait_writable: Callable[[Any], Awaitable[None]] = (
    getattr(anyio, "wait_writable", None) or vars(anyio)["wait_socket_writable"]
)


class Socket:
    """One connection to one server, from dialling to closing.

    Args:
        driver: What is told of it.
        number: The number of the attempt.
        address: The server.
        timeout: Seconds that dialling may take.

    Attributes:
        number: The number of the attempt.
        read_size: How many bytes to read at once.
        reading: The right to read it, once it is dialled.
    """

    def __init__(self, driver: Driver, number: int, address: ServerAddress, timeout: float) -> None:
        self.number = number
        self.read_size = READ_SIZE
        self.reading = Reading(self)
        self._driver = driver
        self._address = address
        self._timeout = timeout
        # It lives for as long as the state machine wants, whatever is cancelled around it.
        self._life = anyio.CancelScope(shield=True)
        self._raw: socket.socket | None = None
        self._tls: Tls | None = None
        self._tls_name: str | None = None  # TLS is to be started, with a server of this name
        self._unsent = memoryview(b"")
        self._is_due = False
        self._due = anyio.Event()
        self._last_words: bytes | None = None
        self._error: OSError | None = None  # what has ended the reading, found by somebody else

    async def run(self) -> None:
        """Dial, read and write until `end`."""
        try:
            try:
                with self._life:
                    await self._dial()
                await self._close()
            finally:
                await self.reading.end()  # nobody must wait for a socket that is closed
        finally:
            if self._raw is not None:
                self._raw.close()
            self._driver.forget(self)

    def start_tls(self, server_name: str) -> None:
        """Have TLS started before anything else is read."""
        self._tls_name = server_name

    def send_soon(self) -> None:
        """Have the writing task ask the driver for what is to be sent."""
        if not self._is_due:
            self._is_due = True
            self._due.set()

    def write(self, data: bytes) -> None:
        """Send, and keep what the socket doesn't take; not to be called while it is full."""
        if self._tls is not None:
            try:
                data = self._tls.encrypt(data)
            except OSError:
                self._break()
                return
        self._send(memoryview(data))

    async def wait_readable(self) -> None:
        """Wait until the server has said something, or nothing more will come."""
        await _wait_readable(self._raw)

    def take(self) -> bytes:
        """Return what the server has said already, if anything; only for a connection that has been made."""
        assert self._raw is not None  # noqa: S101  # it is dialled
        if self._unsent or self._error is not None:
            return b""
        tls = self._tls
        try:
            data = self._raw.recv(self.read_size)
            if tls is None or not data:
                return data
            tls.feed(data)
            data = self._decrypt(tls)
        except BlockingIOError:
            return b""
        except OSError as error:
            self._error = error  # it won't be said again
            self._break()  # so that the reading task finds the end
            return b""
        if tls.is_over:
            self._break()
        return data

    def end(self, last_words: bytes, *, in_order: bool) -> None:
        """Close: in order, when all has been sent and the last words behind it; otherwise, at once."""
        self._last_words = last_words if in_order else None
        self._life.cancel()

    # Tasks

    async def _dial(self) -> None:
        try:
            self._raw = await _dial(self._address.host, self._address.port, self._timeout)
        except (OSError, ValueError) as error:  # a name that no resolver can be asked for is a UnicodeError
            self._driver.dial_failed(self, error)
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._write_when_due)
            await self._read()
            tasks.cancel_scope.cancel()

    async def _read(self) -> None:
        driver = self._driver
        driver.dialled(self)
        while True:
            try:
                if self._tls_name is not None:
                    name, self._tls_name = self._tls_name, None
                    await self._start_tls(driver.make_tls_context(), name)
                    data = None
                else:
                    if self._unsent:  # each request that is read now has a reply that can't be written
                        await driver.room()
                    data = await self._receive()
            except (OSError, ValueError) as error:
                driver.lost(self, self._error or error)
                return
            if data is None:
                driver.tls_started(self)
            elif data:
                stand_in = driver.received(self, data)
                if stand_in is not None:
                    self.reading.lend(stand_in)
                    await self.reading.wait()
            else:
                driver.lost(self, self._error)
                return

    async def _write_when_due(self) -> None:
        while True:
            await self._due.wait()
            self._due = anyio.Event()
            self._is_due = False
            while self._unsent:
                await _wait_writable(self._raw)
                self._send(self._unsent)
            self._driver.is_writable(self, True)
            self._driver.write()

    # Bytes

    async def _receive(self) -> bytes:
        """Return what the server says next; b"" if it says nothing more."""
        tls = self._tls
        if tls is None:
            return await self._receive_raw()
        while not (data := self._decrypt(tls)) and not tls.is_over:
            received = await self._receive_raw()
            if not received:
                break
            tls.feed(received)
        return data

    def _decrypt(self, tls: Tls) -> bytes:
        data = tls.decrypt()
        if answer := tls.take_outgoing():
            self._send_behind(answer)
        return data

    async def _receive_raw(self) -> bytes:
        assert self._raw is not None  # noqa: S101  # it is dialled
        while True:
            await _wait_readable(self._raw)
            with contextlib.suppress(BlockingIOError):
                return self._raw.recv(self.read_size)

    async def _start_tls(self, context: ssl.SSLContext, server_name: str) -> None:
        tls = Tls(context, server_name)
        try:
            while not tls.shake_hands():
                await self._send_all(tls.take_outgoing())
                received = await self._receive_raw()
                if not received:
                    raise ConnectionResetError("the server closed the connection during the TLS handshake")
                tls.feed(received)
            await self._send_all(tls.take_outgoing())
        except OSError:
            if alert := tls.take_outgoing():  # the server is told why, if it still listens
                self._send(memoryview(alert))
            raise
        self._tls = tls

    def _send(self, data: memoryview) -> None:
        assert self._raw is not None  # noqa: S101  # it is dialled
        try:
            sent = self._raw.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            sent = len(data)
            self._break()
        self._unsent = data[sent:]
        if self._unsent:
            self._driver.is_writable(self, False)
            self.send_soon()

    def _break(self) -> None:
        """Nothing can be sent any more. What the server has said last is still read, and then the end is found."""
        if self._raw is not None:
            with contextlib.suppress(OSError):
                self._raw.shutdown(socket.SHUT_RDWR)

    def _send_behind(self, data: bytes) -> None:
        if self._unsent:
            self._unsent = memoryview(bytes(self._unsent) + data)
        else:
            self._send(memoryview(data))

    async def _send_all(self, data: bytes) -> None:
        assert self._raw is not None  # noqa: S101  # it is dialled
        left = memoryview(data)
        while left:
            try:
                left = left[self._raw.send(left) :]
            except BlockingIOError:
                await _wait_writable(self._raw)

    async def _close(self) -> None:
        if self._raw is None or self._last_words is None:
            return
        last = bytes(self._unsent)
        with anyio.move_on_after(_CLOSE_LIMIT, shield=True), contextlib.suppress(OSError):
            if self._tls is None:
                last += self._last_words
            else:
                last += self._tls.encrypt(self._last_words) + self._tls.say_goodbye()
            await self._send_all(last)


async def _dial(host: str, port: int, timeout: float) -> socket.socket:
    """Return a socket that is connected to one of the host's addresses.

    Raises:
        OSError: None of them answers.
        ValueError: It is no name of a host.
    """
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    errors: list[OSError] = []
    for family, kind, protocol, _, address in found:
        try:
            # Each has its share of the time, so that a silent one doesn't use up that of the others.
            with anyio.fail_after(timeout / len(found)):
                return await _connect(socket.socket(family, kind, protocol), address)
        except OSError as error:  # a TimeoutError is one
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    raise OSError(f"no address of {host} answers: " + ", ".join(str(one) or type(one).__name__ for one in errors))


async def _connect(raw: socket.socket, address: Any) -> socket.socket:
    try:
        raw.setblocking(False)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            raw.connect(address)
        except BlockingIOError:
            await _wait_writable(raw)
            number = raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                raise OSError(number, os.strerror(number)) from None
    except BaseException:
        raw.close()
        raise
    return raw
