"""A load generator that costs little: prepared bytes over a blocking socket, answers counted and not parsed.

On a small machine it shares the cores with what it measures. So it does nothing for a request but to send its bytes,
many at a time, and nothing for an answer but to find its end, in one buffer that is used again and again. That the
answers are right is looked at beforehand, in full; while it counts, not a byte may be missing or too much.
"""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from benchmarks.answers import read_answers
from benchmarks.processes import BenchmarkError
from benchmarks.subjects import WINDOW

__all__ = ["DATA", "Load", "Throughput", "Traffic"]

DATA = b"0123456789abcdef"
"""What a request carries, or the end of it, and its answer too."""

_TIMEOUT = 10.0
"""Seconds without an answer after which something is wrong."""

_INBOX = b"_INBOX.benchmark0123456789ABC"
_ANSWER_END = DATA + b"\r\n"
_PING = b"PING\r\n"
_BUFFER = 1 << 20
_HEADER_LINE = b"%b: %b\r\n"


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the requests are.

    Attributes:
        subjects: Where they go, one after the other; all of the same length.
        size: The bytes of data that each carries, 16 or more.
        headers: What each carries as headers. The first comes back with the answer.
    """

    subjects: Sequence[str]
    size: int = len(DATA)
    headers: Sequence[tuple[str, str]] = ()

    def request(self, number: int, data: bytes) -> bytes:
        """Return the bytes of one request, whose answer goes to the reply subject of this number."""
        subject = self.subjects[number % len(self.subjects)].encode()
        reply = b"%b.%04d" % (_INBOX, number)
        if not self.headers:
            return b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(data), data)
        lines = b"".join(_HEADER_LINE % (name.encode(), value.encode()) for name, value in self.headers)
        block = b"NATS/1.0\r\n%b\r\n" % lines
        return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (subject, reply, len(block), len(block) + len(data), block, data)


@dataclass(frozen=True, slots=True)
class Throughput:
    """What came of requests in flight.

    Attributes:
        answered: How many were answered while it was measured.
        seconds: How long it was.
        cpu: Seconds of CPU time that the load generator itself took.
    """

    answered: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.answered / self.seconds


class Load:
    """Requests from a connection of its own.

    Args:
        url: The server.
        traffic: The requests.

    Raises:
        OSError: The server can't be reached, or something doesn't answer within 10 seconds.
    """

    def __init__(self, url: str, traffic: Traffic) -> None:
        address = urlsplit(url)
        self._socket = socket.create_connection((address.hostname or "", address.port or 4222), timeout=_TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._traffic = traffic
        self._socket.sendall(
            b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":false}\r\n'
            b"SUB %b.* 1\r\nPING\r\n" % _INBOX
        )
        received = b""
        while not received.endswith(b"PONG\r\n"):
            received += self._receive()
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._used = 0
        self._received = 0
        self._answer_size = 0
        # In a circle of requests, so long that each subject has its turn, any window lies in one piece.
        self._count = max(WINDOW, len(traffic.subjects))
        data = DATA.rjust(traffic.size, b".")
        circle = [traffic.request(number, data) for number in range(self._count)]
        self._request_size = len(circle[0])
        self._requests = memoryview(b"".join(circle + circle[:WINDOW]))
        self._next = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    def verify(self, count: int = WINDOW) -> None:
        """Send some requests at once, each with data of its own, and look at every byte of what comes back.

        Raises:
            BenchmarkError: One is not answered exactly once with its own data, or not with its header.
        """
        numbers = range(max(count, len(self._traffic.subjects)))
        asked = {
            b"%b.%04d" % (_INBOX, number): (b"%08d" % number).ljust(self._traffic.size, b".") for number in numbers
        }
        requests = [self._traffic.request(number, data) for number, data in zip(numbers, asked.values(), strict=True)]
        sizes = set()
        received = b""
        for begin in range(0, len(requests), count):
            self._socket.sendall(b"".join(requests[begin : begin + count]))
            awaited = len(requests[begin : begin + count])
            while awaited:
                answers, received = read_answers(received + self._receive())
                for answer in answers:
                    if asked.pop(answer.subject, None) != answer.data:
                        raise BenchmarkError(f"an answer that was not asked for: {answer.shown()}")
                    if self._traffic.headers and self._traffic.headers[0] not in answer.headers:
                        raise BenchmarkError(f"an answer without the header it should have: {answer.shown()}")
                    sizes.add(answer.size)
                awaited -= len(answers)
        if len(sizes) != 1 or received:
            raise BenchmarkError(f"answers of the sizes {sorted(sizes)}, and {received!r} besides")
        (self._answer_size,) = sizes

    def throughput(self, seconds: float, *, to_the_last: bool = True) -> Throughput:
        """Keep a window of requests in flight.

        Args:
            seconds: How long.
            to_the_last: Whether to wait for the answers to the last window, too. Without that, nothing can be asked
                afterwards; but some contenders take seconds for it.

        Raises:
            BenchmarkError: More or fewer bytes came than the answers have.
        """
        self._received = 0
        cpu = time.process_time()
        start = time.perf_counter()
        end = start + seconds
        self._send(WINDOW)
        in_flight = WINDOW
        answered = 0
        while in_flight:
            count = self._answers()
            answered += count
            if time.perf_counter() < end:
                self._send(count)
            elif to_the_last:
                in_flight -= count
            else:
                break
        measured = Throughput(answered, time.perf_counter() - start, time.process_time() - cpu)
        if to_the_last:
            self._check(answered)
        return measured

    def latencies(self, seconds: float) -> list[float]:
        """Send one request at a time.

        Args:
            seconds: How long.

        Returns:
            The time from each request to its answer, in seconds.

        Raises:
            BenchmarkError: More or fewer bytes came than the answers have.
        """
        self._received = 0
        times = [time.perf_counter()]
        end = times[0] + seconds
        while times[-1] < end:
            self._send(1)
            while not self._answers():
                pass
            times.append(time.perf_counter())
        self._check(len(times) - 1)
        return [after - before for before, after in itertools.pairwise(times)]

    def _send(self, count: int) -> None:
        begin = self._next * self._request_size
        self._socket.sendall(self._requests[begin : begin + count * self._request_size])
        self._next = (self._next + count) % self._count

    def _answers(self) -> int:
        """Wait for something to come; return how many answers that completes."""
        received = self._socket.recv_into(self._view[self._used :])
        if not received:
            raise ConnectionError("the nats-server has closed the connection")
        filled = self._used + received
        unseen = max(0, self._used - len(_ANSWER_END))
        if self._buffer.find(_PING, unseen, filled) >= 0:
            filled = self._answer_ping(unseen, filled)
        count = self._buffer.count(_ANSWER_END, unseen, filled)
        if count:
            begin = self._buffer.rfind(_ANSWER_END, unseen, filled) + len(_ANSWER_END)
            self._received += begin
            self._used = filled - begin
            self._view[: self._used] = self._view[begin:filled]
        else:
            self._used = filled
        return count

    def _answer_ping(self, begin: int, end: int) -> int:
        """Take the server's PING out of the buffer; return the new end of what is in there."""
        self._socket.sendall(b"PONG\r\n")
        kept = bytes(self._view[begin:end]).replace(_PING, b"", 1)
        self._view[begin : begin + len(kept)] = kept
        return begin + len(kept)

    def _check(self, answered: int) -> None:
        expected = answered * self._answer_size
        if self._received != expected or self._used:
            raise BenchmarkError(
                f"{answered} answers of {self._answer_size} bytes are {expected} bytes, "
                f"but {self._received} have come, and {self._used} besides"
            )

    def _receive(self) -> bytes:
        received = self._socket.recv(_BUFFER)
        if not received:
            raise ConnectionError("the nats-server has closed the connection")
        return received
