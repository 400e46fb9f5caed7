"""A load generator that costs little: prepared bytes over a blocking socket, answers counted and not parsed.

On a small machine it shares the cores with what it measures. So it does nothing for a request but to send its bytes,
many at a time, and nothing for an answer but to find its data.
"""

from __future__ import annotations

import itertools
import socket
import statistics
import time
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

__all__ = ["DATA", "WINDOW", "Load"]

WINDOW = 256
"""How many requests are in flight."""

DATA = b"0123456789abcdef"
"""What every request carries, and every answer with it."""

_TIMEOUT = 10.0
"""Seconds without an answer after which something is wrong."""

_INBOX = "_INBOX.benchmark0123456789ABC"
_ANSWER_END = DATA + b"\r\n"
_BUFFER = 1 << 16


class Load:
    """Requests to one subject, from a connection of its own.

    Args:
        url: The server.
        subject: Where the requests go.

    Raises:
        OSError: The server can't be reached, or doesn't answer within 10 seconds.
    """

    def __init__(self, url: str, subject: str) -> None:
        address = urlsplit(url)
        self._socket = socket.create_connection((address.hostname or "", address.port or 4222), timeout=_TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._subject = subject
        self._rest = b""
        self._socket.sendall(
            b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":false}\r\n'
            b"SUB %b.* 1\r\nPING\r\n" % _INBOX.encode()
        )
        received = b""
        while b"PONG\r\n" not in received:
            received += self._receive()
        # Every request of a window has a reply subject of its own, all of the same length.
        requests = [self._request(subject, number, DATA) for number in range(WINDOW)]
        self._size = len(requests[0])
        # Twice, so that any window's worth of them lies in one piece.
        self._requests = memoryview(b"".join(requests * 2))
        self._next = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    def throughput(self, seconds: float) -> tuple[int, float]:
        """Keep a window of requests in flight.

        Args:
            seconds: How long.

        Returns:
            How many were answered, and in how many seconds.
        """
        in_flight = WINDOW
        self._send(WINDOW)
        start = time.perf_counter()
        end = start + seconds
        answered = 0
        while in_flight:
            count = self._answers()
            answered += count
            if time.perf_counter() < end:
                self._send(count)
            else:
                in_flight -= count
        return answered, time.perf_counter() - start

    def latency(self, seconds: float) -> float:
        """Send one request at a time.

        Args:
            seconds: How long.

        Returns:
            The median time from a request to its answer, in seconds.
        """
        times: list[float] = []
        end = time.perf_counter() + seconds
        while not times or times[-1] < end:
            times.append(time.perf_counter())
            self._send(1)
            while not self._answers():
                pass
        return statistics.median(after - before for before, after in itertools.pairwise(times))

    def ask(self, subject: str) -> bytes:
        """Send one request to another subject, while none is in flight; return the answer's data."""
        self._socket.sendall(self._request(subject, 0, b""))
        received = b""
        while received.count(b"\r\n") < 2:
            received += self._receive()
        return received.split(b"\r\n")[1]

    def _request(self, subject: str, number: int, data: bytes) -> bytes:
        return b"PUB %b %b.%03d %d\r\n%b\r\n" % (subject.encode(), _INBOX.encode(), number, len(data), data)

    def _send(self, count: int) -> None:
        begin = self._next * self._size
        self._socket.sendall(self._requests[begin : begin + count * self._size])
        self._next = (self._next + count) % WINDOW

    def _answers(self) -> int:
        """Wait for something to come; return how many answers that completes."""
        received = self._rest + self._receive()
        count = received.count(_ANSWER_END)
        if count:
            self._rest = received[received.rindex(_ANSWER_END) + len(_ANSWER_END) :]
        else:
            self._rest = received
        return count

    def _receive(self) -> bytes:
        received = self._socket.recv(_BUFFER)
        if not received:
            raise ConnectionError("the nats-server has closed the connection")
        if b"PING\r\n" in received:
            self._socket.sendall(b"PONG\r\n")
            received = received.replace(b"PING\r\n", b"")
        return received
