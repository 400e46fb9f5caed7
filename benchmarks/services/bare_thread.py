"""A bare echo in a thread that blocks in its reads and writes."""

from __future__ import annotations

import socket

from benchmarks.services.limit import READ_SIZE, Echo, address

__all__ = ["run"]


def run(url: str, endpoints: int, *, uvloop: bool) -> None:
    """Echo until the server closes the connection."""
    echo = Echo(endpoints)
    with socket.create_connection(address(url)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(echo.greeting)
        while data := connection.recv(READ_SIZE):
            if answer := echo.receive(data):
                connection.sendall(answer)
