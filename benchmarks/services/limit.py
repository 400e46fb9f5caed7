"""The limit: the least that Python can do to echo requests, with no service and no client around it.

A MSG becomes a PUB with a search for the end of its line, two for its last words, and one slice: the end of the one
command is the beginning of the other. Nothing is decoded, counted or checked, there is neither handler nor task. What
a service in pure Python does for a request comes on top of this, in the same process and on the same event loop.
"""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from benchmarks.children import say_ready
from benchmarks.subjects import echo_subjects

__all__ = ["READ_SIZE", "Echo", "address"]

READ_SIZE = 1 << 18
"""How many bytes are read at once, at most: as many as asyncio reads."""

_M = ord("M")


def address(url: str) -> tuple[str, int]:
    """Return host and port of a server."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 4222


class Echo:
    """What is received becomes what is to be sent, whatever the pieces it comes in.

    It says that it is ready when the server has confirmed its subscriptions.

    Args:
        endpoints: How many subjects to subscribe to.

    Attributes:
        greeting: What is to be sent first.
    """

    def __init__(self, endpoints: int) -> None:
        subscriptions = (f"SUB {subject} q {number}\r\n" for number, subject in enumerate(echo_subjects(endpoints), 1))
        self.greeting = f'CONNECT {{"verbose":false,"pedantic":false}}\r\n{"".join(subscriptions)}PING\r\n'.encode()
        self._begun = time.perf_counter()
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
            say_ready(time.perf_counter() - self._begun)
        elif not line.startswith(b"INFO "):
            raise ConnectionError(f"the server has sent {line!r}")
        return b""
