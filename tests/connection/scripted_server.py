"""A server that does what a test's script says, for what a real nats-server does too rarely, or never.

A script is a function that plays one connection, in blocking calls and in a thread of its own. It is not a model of the
server: it knows nothing but the lines and messages that the script sends, and what a client must send to be understood.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, BinaryIO, Self

__all__ = ["Command", "Script", "ScriptedServer", "Session"]

LIMIT = 30.0
"""Seconds that a script waits for what its client shall do."""

Command = tuple[bytes, ...]
"""What a client sent: the words of the line, and for a message its payload."""


class ClientGoneError(Exception):
    """The client ended the connection, or the test ended the server: the script is over."""


class Session:
    """One connection, from the server's side.

    Attributes:
        number: Which connection it is, beginning with 1.
        commands: What the client has sent so far, as far as the script has read it.
        connect: The fields of its CONNECT.
        subscriptions: The ids by subject.
    """

    def __init__(self, server: ScriptedServer, connection: socket.socket, number: int) -> None:
        self.number = number
        self.commands: list[Command] = []
        self.connect: dict[str, Any] = {}
        self.subscriptions: dict[str, bytes] = {}
        self._server = server
        self._socket = connection
        self._lines: BinaryIO = connection.makefile("rb")

    @property
    def published(self) -> list[tuple[str, bytes]]:
        """The subjects and payloads (headers included) of what the client has published."""
        return [(words[1].decode(), words[-1]) for words in list(self.commands) if words[0] in {b"PUB", b"HPUB"}]

    def send(self, data: bytes) -> None:
        """Send these bytes."""
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise ClientGoneError from error

    def greet(self, behind: bytes = b"", /, **fields: Any) -> None:
        """Send INFO, with these fields added or in place of the usual ones, and in one piece with it these bytes."""
        usual = {
            "server_id": f"SCRIPTED{self._server.port}",
            "server_name": "scripted",
            "version": "2.10.0",
            "proto": 1,
            "host": "127.0.0.1",
            "port": self._server.port,
            "headers": True,
            "max_payload": 1024 * 1024,
            "client_id": self.number,
        }
        self.send(b"INFO %b\r\n%b" % (json.dumps(usual | fields).encode(), behind))

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Do the handshake; all that follows is encrypted."""
        self._lines.close()
        try:
            self._socket = context.wrap_socket(self._socket, server_side=True)
        except OSError as error:
            raise ClientGoneError from error
        self._lines = self._socket.makefile("rb")

    def welcome(self, **fields: Any) -> None:
        """Greet, and take whatever the client sends until its first PING is answered: it is connected then."""
        self.greet(**fields)
        self.answer_ping()

    def answer_ping(self) -> None:
        """Take what the client sends, up to a PING, and answer that."""
        while self.read()[0] != b"PING":
            pass
        self.send(b"PONG\r\n")

    def await_subscription(self, subject: str) -> None:
        """Take what the client sends, answering PING, until it has subscribed to the subject."""
        while subject not in self.subscriptions:
            self._answer(self.read())

    def deliver(self, subject: str, data: bytes = b"", *, reply: str = "") -> None:
        """Send a message to the client's subscription to exactly this subject."""
        words = [b"MSG", subject.encode(), self.subscriptions[subject], *([reply.encode()] if reply else [])]
        self.send(b"%b %d\r\n%b\r\n" % (b" ".join(words), len(data), data))

    def serve(self) -> None:
        """Answer PING, until the client goes."""
        while True:
            self._answer(self.read())

    def ignore(self) -> None:
        """Read and answer nothing, until the client goes."""
        while True:
            self.read()

    def cut(self) -> None:
        """End the connection as a crash would, without having read what the client sent last."""
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.end()

    def end(self) -> None:
        """End the connection; what was sent arrives before."""
        self._wake()
        self._lines.close()
        self._socket.close()

    def wait(self, event: threading.Event) -> None:
        """Wait for an event of the test's."""
        assert event.wait(LIMIT), "the test's event did not come in time"
        if self._server.is_ending:
            raise ClientGoneError

    def read(self) -> Command:
        """Take the next thing that the client sends."""
        try:
            line = self._lines.readline()
            if not line.endswith(b"\r\n"):
                raise ClientGoneError
            words: Command = tuple(line.split())
            if words[0] in {b"PUB", b"HPUB"}:
                words = (*words, self._lines.read(int(words[-1]) + 2)[:-2])
        except (OSError, ValueError) as error:
            raise ClientGoneError from error
        self.commands.append(words)
        if words[0] == b"CONNECT":
            self.connect = json.loads(line[len(b"CONNECT ") :])
        elif words[0] == b"SUB":
            self.subscriptions[words[1].decode()] = words[-1]
        return words

    def _answer(self, command: Command) -> None:
        if command[0] == b"PING":
            self.send(b"PONG\r\n")

    def _wake(self) -> None:
        # Only a shutdown wakes a thread from its recv.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


Script = Callable[[Session], None]
"""Plays one connection. When it returns, the connection is ended."""


class ScriptedServer:
    """A TCP server on 127.0.0.1, as a blocking context manager.

    Whatever a script fails with is raised at the end of the block, unless the block fails itself.

    Args:
        script: Plays each connection; `session.number` says which it is.

    Attributes:
        port: Where it listens.
        sessions: All connections so far.
        is_ending: Whether the block is over.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self.sessions: list[Session] = []
        self.is_ending = False
        self._failures: list[Exception] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def stop_listening(self) -> None:
        """Refuse further connections."""
        # Only a shutdown wakes a thread from its accept.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.is_ending = True
        self.stop_listening()
        self._threads[0].join(LIMIT)
        for session in self.sessions:
            session._wake()
        for thread in self._threads:
            thread.join(LIMIT)
            assert not thread.is_alive(), "a script did not end with its server"
        if exc is None and self._failures:
            raise self._failures[0]

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name="scripted-server")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        for connection in self._accepted():
            session = Session(self, connection, len(self.sessions) + 1)
            self.sessions.append(session)
            self._start(self._play, session)

    def _accepted(self) -> Iterator[socket.socket]:
        while not self.is_ending:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield connection

    def _play(self, session: Session) -> None:
        try:
            self._script(session)
        except ClientGoneError:
            pass
        except Exception as error:  # noqa: BLE001  # it is raised where the test can see it
            self._failures.append(error)
        finally:
            session.end()
