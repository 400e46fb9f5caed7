"""The limit: the least that Python can do to echo requests, with no service and no client around it.

A MSG becomes a PUB with a search for the end of its line, two for its last words, and one slice: the end of the one
command is the beginning of the other. Nothing is decoded, counted or checked, there is neither handler nor task. What
a service in pure Python does for a request comes on top of this, in the same process and on the same event loop.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import trio

__all__ = ["Echo", "serve_asyncio", "serve_blocking", "serve_trio"]

_READ_SIZE = 1 << 18  # what a read of asyncio's returns at most
_M = ord("M")


class Echo:
    """What is received becomes what is to be sent, whatever the pieces it comes in.

    Args:
        subjects: What to answer.
        ready: Called when the server has confirmed that.
    """

    def __init__(self, subjects: Sequence[str], ready: Callable[[], None]) -> None:
        subscriptions = (f"SUB {subject} q {number}\r\n" for number, subject in enumerate(subjects, 1))
        self.greeting = f'CONNECT {{"verbose":false,"pedantic":false}}\r\n{"".join(subscriptions)}PING\r\n'.encode()
        self._ready = ready
        self._rest = b""

    def receive(self, data: bytes) -> bytes:
        """Take what has come; return the answer to it, which may be nothing."""
        received = self._rest + data if self._rest else data
        find, find_last = received.find, received.rfind
        length = len(received)
        commands = [b""]  # the first is preceded by nothing, each other one by "PUB"
        append = commands.append
        pongs = b""
        begin = 0
        while (line_end := find(b"\r\n", begin)) >= 0:
            if received[begin] == _M:  # MSG subject sid reply size
                size_begin = find_last(b" ", begin, line_end)
                end = line_end + 4 + int(received[size_begin:line_end])
                if end > length:
                    break
                append(received[find_last(b" ", begin, size_begin) : end])
                begin = end
            else:
                pongs += self._obey(received[begin:line_end])
                begin = line_end + 2
        self._rest = received[begin:]
        return pongs + b"PUB".join(commands)

    def _obey(self, line: bytes) -> bytes:
        if line == b"PING":
            return b"PONG\r\n"
        if line == b"PONG":
            self._ready()
        elif not line.startswith(b"INFO "):
            raise ConnectionError(f"the server has sent {line!r}")
        return b""


class _Protocol(asyncio.Protocol):
    def __init__(self, echo: Echo) -> None:
        self._echo = echo
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = cast("asyncio.WriteTransport", transport).write  # uvloop's is no subclass
        self._write(self._echo.greeting)

    def data_received(self, data: bytes) -> None:
        if answer := self._echo.receive(data):
            self._write(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


async def serve_asyncio(url: str, subjects: Sequence[str], ready: Callable[[], None]) -> None:
    """Echo from a protocol of asyncio's, until the server closes the connection."""
    echo = Echo(subjects, ready)
    _, protocol = await asyncio.get_running_loop().create_connection(lambda: _Protocol(echo), *_address(url))
    await protocol.lost


def serve_blocking(url: str, subjects: Sequence[str], ready: Callable[[], None]) -> None:
    """Echo from a thread that blocks in its reads and writes, until the server closes the connection."""
    echo = Echo(subjects, ready)
    with socket.create_connection(_address(url)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(echo.greeting)
        while data := connection.recv(_READ_SIZE):
            if answer := echo.receive(data):
                connection.sendall(answer)


async def serve_trio(url: str, subjects: Sequence[str], ready: Callable[[], None]) -> None:
    """Echo from a stream of trio's, until the server closes the connection."""
    import trio

    echo = Echo(subjects, ready)
    stream: trio.SocketStream = await trio.open_tcp_stream(*_address(url))
    async with stream:
        await stream.send_all(echo.greeting)
        while data := await stream.receive_some(_READ_SIZE):
            if answer := echo.receive(bytes(data)):
                await stream.send_all(answer)


def _address(url: str) -> tuple[str, int]:
    address = urlsplit(url)
    return address.hostname or "", address.port or 4222
