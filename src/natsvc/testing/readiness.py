"""How a nats-server that was just started shows where it listens, and that it does."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from natsvc.testing.configuration import HOST

__all__ = ["Ports", "greets", "read_ports"]

_SILENCE_LIMIT = 0.2
_HANDSHAKE_LIMIT = 1.0


class Ports(NamedTuple):
    """Where a server listens.

    Attributes:
        client: The port for clients.
        monitoring_url: The URL of the HTTP monitoring.
    """

    client: int
    monitoring_url: str


def read_ports(directory: Path) -> Ports | None:
    """Return what the server has written about its ports, or None as long as that is not all of it."""
    for path in directory.glob("*.ports"):
        # The file can be seen before it is complete.
        with contextlib.suppress(ValueError):
            ports = json.loads(path.read_text(encoding="utf-8"))
            client_port = urlsplit(ports["nats"][0]).port
            if client_port is not None:
                return Ports(client_port, ports["monitoring"][0])
    return None


def greets(port: int, deadline: float) -> bool:
    """Whether the server sends its INFO line to a client that connects, or expects TLS before that and answers it.

    Args:
        port: The port for clients.
        deadline: When to give up, on the clock of `time.monotonic`.
    """
    line = b""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=_SILENCE_LIMIT) as connection:
        while b"\r\n" not in line and time.monotonic() < deadline:
            try:
                received = connection.recv(65536)
            except TimeoutError:
                if line:
                    continue
                return _answers_tls(connection)
            if not received:
                break
            line += received
    return line.startswith(b"INFO ") and b"\r\n" in line


def _answers_tls(connection: socket.socket) -> bool:
    # Nothing is told to the server here, so whose certificate it has does not matter; and a server that wants one of
    # the client refuses it only after the handshake.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection.settimeout(_HANDSHAKE_LIMIT)
    with contextlib.suppress(OSError), context.wrap_socket(connection):
        return True
    return False
