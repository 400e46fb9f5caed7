"""A NATS client of the tests' own, as an observer.

A test that looks at natsvc through natsvc, or through nats-py, would not see a mistake that both ends share. This
client speaks the protocol over a raw socket, in blocking calls, and shows what was really on the wire.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import unquote, urlsplit

__all__ = ["Pending", "PlainClient", "PlainMessage", "PlainParser", "PlainSubscription"]

CRLF = b"\r\n"
_READ_SIZE = 256 * 1024
T = TypeVar("T")


@dataclass(frozen=True)
class PlainMessage:
    """A message as it came; `header_block` holds the bytes of its headers, empty when there are none."""

    subject: str
    reply: str
    data: bytes
    header_block: bytes = b""

    @cached_property
    def headers(self) -> list[tuple[str, str]]:
        """The headers in their order, names as written, values without the white space around them."""
        lines = self.header_block.split(CRLF)[1:]
        pairs = (line.decode("utf-8", "surrogateescape").partition(":") for line in lines if line)
        return [(name, value.strip(" \t")) for name, _, value in pairs]

    def header(self, name: str) -> str | None:
        """The first value of exactly this name."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def status(self) -> str | None:
        """The status in the headers' first line, such as "503" when nobody listens."""
        words = self.header_block.split(CRLF, 1)[0].split(None, 2)
        return words[1].decode() if len(words) > 1 else None

    @property
    def error_code(self) -> str | None:
        return self.header("Nats-Service-Error-Code")

    @property
    def error(self) -> str | None:
        return self.header("Nats-Service-Error")


@dataclass(frozen=True)
class Delivery:
    """A message and the id of the subscription it was sent for."""

    sid: int
    message: PlainMessage


@dataclass(frozen=True)
class Control:
    """Any other line of the server: its first word, and the rest."""

    verb: str
    rest: str


class PlainParser:
    """Makes events of bytes, wherever they are cut."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        # Of the message whose body is awaited: sid, subject, reply, bytes of headers, bytes in all.
        self._head: tuple[int, str, str, int, int] | None = None

    def feed(self, data: bytes) -> Iterator[Delivery | Control]:
        self._buffer += data
        while (event := self._next_event()) is not None:
            yield event

    def _next_event(self) -> Delivery | Control | None:
        if self._head is None:
            end = self._buffer.find(CRLF)
            if end < 0:
                return None
            line = self._buffer[:end].decode()
            del self._buffer[: end + 2]
            verb, _, rest = line.partition(" ")
            verb = verb.upper()
            if verb not in {"MSG", "HMSG"}:
                return Control(verb, rest.strip())
            self._head = self._parse_head(verb, rest.split())
        sid, subject, reply, header_size, size = self._head
        if len(self._buffer) < size + 2:
            return None
        body = bytes(self._buffer[:size])
        if self._buffer[size : size + 2] != CRLF:
            raise ValueError(f"the message on {subject!r} does not end after its {size} bytes")
        del self._buffer[: size + 2]
        self._head = None
        return Delivery(sid, PlainMessage(subject, reply, body[header_size:], body[:header_size]))

    @staticmethod
    def _parse_head(verb: str, words: list[str]) -> tuple[int, str, str, int, int]:
        sizes = 2 if verb == "HMSG" else 1
        if len(words) not in {2 + sizes, 3 + sizes}:
            raise ValueError(f"{verb} with {len(words)} arguments: {words}")
        reply = words[2] if len(words) == 3 + sizes else ""
        header_size = int(words[-2]) if verb == "HMSG" else 0
        return int(words[1]), words[0], reply, header_size, int(words[-1])


class PlainSubscription:
    """The messages on a subject, in the order in which they came."""

    def __init__(self, client: PlainClient, subject: str, sid: int) -> None:
        self.subject = subject
        self.sid = sid
        self._client = client
        self._messages: deque[PlainMessage] = deque()

    @property
    def waiting(self) -> int:
        """How many messages have come that `next` has not returned yet."""
        return len(self._messages)

    def next(self, timeout: float = 10.0) -> PlainMessage:
        return self._client._wait(self._take, timeout, f"message on {self.subject!r}")

    def unsubscribe(self) -> None:
        """Ends it; on return the server has done so."""
        self._client._unsubscribe(self.sid)

    def _take(self) -> PlainMessage | None:
        return self._messages.popleft() if self._messages else None


class Pending:
    """The replies to one request."""

    def __init__(self, client: PlainClient, subject: str, timeout: float) -> None:
        self.subject = subject
        self._client = client
        self._timeout = timeout
        self._replies: list[PlainMessage] = []
        self._taken = 1

    @property
    def has_reply(self) -> bool:
        return bool(self._replies)

    @property
    def replies(self) -> list[PlainMessage]:
        """All replies that have come so far."""
        return list(self._replies)

    def result(self, timeout: float | None = None) -> PlainMessage:
        """The first reply, also when asked again. The default timeout is the one given to `send`: 10 s."""
        return self._client._wait(self._first, self._limit(timeout), f"reply to {self.subject!r}")

    def next(self, timeout: float | None = None) -> PlainMessage:
        """The replies after the first, one a call."""
        return self._client._wait(self._take, self._limit(timeout), f"further reply to {self.subject!r}")

    def _limit(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else timeout

    def _first(self) -> PlainMessage | None:
        return self._replies[0] if self._replies else None

    def _take(self) -> PlainMessage | None:
        if len(self._replies) <= self._taken:
            return None
        self._taken += 1
        return self._replies[self._taken - 1]


class PlainClient:
    """A connection to the server at `url` (`nats://[user:password@|token@]host:port`), open when made.

    A wait that takes too long raises TimeoutError; one that can't end any more, because the connection is gone,
    ConnectionError.
    """

    def __init__(self, url: str, *, name: str = "plain-client", timeout: float = 10.0) -> None:
        parts = urlsplit(url)
        self.errors: list[str] = []
        """What the server said in -ERR lines, without the quotes."""
        self.info: dict[str, Any] = {}
        """The server's latest INFO."""
        # One condition for all waits: whoever waits looks again at each event. It guards what the reader changes, too.
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self._closed = False
        self._closed_because = ""
        self._sids = itertools.count(1)
        self._tokens = itertools.count(1)
        self._subscriptions: dict[int, PlainSubscription] = {}
        self._pending: dict[str, Pending] = {}
        self._pings_sent = 0
        self._pongs_seen = 0
        self._inbox = f"_INBOX.{secrets.token_hex(11)}"
        self._inbox_sid = next(self._sids)
        self._socket = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 4222), timeout=timeout)
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = threading.Thread(target=self._read, name="plain-client-reader", daemon=True)
        self._reader.start()
        try:
            self._wait(lambda: self.info or None, timeout, "INFO of the server")
            options: dict[str, Any] = {
                "verbose": False,
                "pedantic": False,
                "headers": True,
                "no_responders": True,
                "protocol": 1,
                "name": name,
                "lang": "plain",
                "version": "1",
            }
            if parts.password is not None:
                options |= {"user": unquote(parts.username or ""), "pass": unquote(parts.password)}
            elif parts.username:
                options["auth_token"] = unquote(parts.username)
            greeting = b"CONNECT %b\r\nSUB %b.* %d\r\n" % (
                json.dumps(options).encode(),
                self._inbox.encode(),
                self._inbox_sid,
            )
            # In one piece with the PING: a server that refuses the client resets the connection if there is something
            # left to read, and its -ERR would be lost with that.
            self._write_and_ping(greeting, timeout)
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_closed(self) -> bool:
        """Whether the connection is gone, whoever ended it."""
        return self._closed

    def publish(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: Sequence[tuple[str, str]] | None = None
    ) -> None:
        """Publishes, without any check of the subject or the headers: the server shall judge."""
        target = f"{subject} {reply}".rstrip().encode()
        if headers is None:
            self._write(b"PUB %b %d\r\n%b\r\n" % (target, len(data), data))
            return
        lines = [b"NATS/1.0", *(f"{name}: {value}".encode() for name, value in headers), b"", b""]
        block = CRLF.join(lines)
        self._write(b"HPUB %b %d %d\r\n%b%b\r\n" % (target, len(block), len(block) + len(data), block, data))

    def subscribe(self, subject: str, queue: str = "") -> PlainSubscription:
        """Subscribes; on return the server has done so (or `errors` says why not)."""
        sid = next(self._sids)
        subscription = PlainSubscription(self, subject, sid)
        with self._changed:
            self._subscriptions[sid] = subscription
        self._write(b" ".join([b"SUB", subject.encode(), *([queue.encode()] if queue else []), b"%d\r\n" % sid]))
        self.flush()
        return subscription

    def send(
        self,
        subject: str,
        data: bytes = b"",
        *,
        headers: Sequence[tuple[str, str]] | None = None,
        timeout: float = 10.0,
    ) -> Pending:
        """Sends a request and returns at once; `timeout` is the default one of what it returns."""
        pending = Pending(self, subject, timeout)
        token = str(next(self._tokens))
        with self._changed:
            self._pending[token] = pending
        self.publish(subject, data, reply=f"{self._inbox}.{token}", headers=headers)
        return pending

    def request(
        self,
        subject: str,
        data: bytes = b"",
        *,
        headers: Sequence[tuple[str, str]] | None = None,
        timeout: float = 10.0,
    ) -> PlainMessage:
        """Sends a request and waits for the first reply, which may be a status, such as "503"."""
        return self.send(subject, data, headers=headers, timeout=timeout).result()

    def flush(self, timeout: float = 10.0) -> None:
        """Waits until the server has processed all that was sent."""
        self._write_and_ping(b"", timeout)

    def _write_and_ping(self, data: bytes, timeout: float) -> None:
        with self._writing:
            self._pings_sent += 1
            awaited = self._pings_sent
            self._send_all(data + b"PING\r\n")
        self._wait(lambda: self._pongs_seen >= awaited or None, timeout, "PONG of the server")

    def close(self) -> None:
        """Ends the connection, after the server has processed all that was sent. Again: no effect."""
        if not self._closed:
            # A socket that is closed with unread bytes is reset, and what was sent last may be lost with it.
            with contextlib.suppress(OSError):
                self.flush(2.0)
        self._end()

    def _end(self) -> None:
        # Only a shutdown wakes the reader from its recv.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if threading.current_thread() is not self._reader:
            self._reader.join()
        self._socket.close()

    def _unsubscribe(self, sid: int) -> None:
        with self._changed:
            if self._subscriptions.pop(sid, None) is None:
                return
        self._write(b"UNSUB %d\r\n" % sid)
        self.flush()

    def _write(self, data: bytes) -> None:
        with self._writing:
            self._send_all(data)

    def _send_all(self, data: bytes) -> None:
        if self._closed:
            raise ConnectionError(self._why_closed())
        self._socket.sendall(data)

    def _wait(self, attempt: Callable[[], T | None], timeout: float, what: str) -> T:
        """Tries at each event, until there is a result."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while (result := attempt()) is None:
                if self._closed:
                    raise ConnectionError(f"no {what}: {self._why_closed()}")
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise TimeoutError(f"no {what} within {timeout:g} s")
                self._changed.wait(remaining)
            return result

    def _why_closed(self) -> str:
        return f"the connection is {self._closed_because}" + (f" after {self.errors}" if self.errors else "")

    def _read(self) -> None:
        parser = PlainParser()
        reason = "closed"
        try:
            while received := self._socket.recv(_READ_SIZE):
                for event in parser.feed(received):
                    self._handle(event)
        except OSError as error:
            reason = f"lost: {error}"
        except Exception as error:
            reason = f"given up: {error!r}"
            raise
        finally:
            with self._changed:
                self._closed = True
                self._closed_because = reason
                self._changed.notify_all()

    def _handle(self, event: Delivery | Control) -> None:
        if isinstance(event, Control) and event.verb == "PING":
            self._write(b"PONG\r\n")
            return
        with self._changed:
            if isinstance(event, Delivery):
                self._deliver(event.sid, event.message)
            elif event.verb == "PONG":
                self._pongs_seen += 1
            elif event.verb == "INFO":
                self.info = json.loads(event.rest)
            elif event.verb == "-ERR":
                self.errors.append(event.rest.strip("'"))
            elif event.verb != "+OK":
                raise ValueError(f"the server sent {event.verb!r}")
            self._changed.notify_all()

    def _deliver(self, sid: int, message: PlainMessage) -> None:
        if sid == self._inbox_sid:
            pending = self._pending.get(message.subject.rpartition(".")[2])
            if pending is not None:
                pending._replies.append(message)
        elif (subscription := self._subscriptions.get(sid)) is not None:
            subscription._messages.append(message)
