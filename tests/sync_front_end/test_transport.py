"""Design: a send never waits, on a platform that can tell it so and on one that can't; and Ctrl-C breaks no command."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from natsvc.sync import connect
from natsvc.sync.transport import Transport
from natsvc.testing import NatsServer
from tests.worlds import LIMIT


@pytest.fixture(params=["with the flag", "without"])
def platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Windows has no flag that keeps a single send from waiting."""
    if request.param == "without":
        monkeypatch.setattr("natsvc.sync.transport._AT_ONCE", 0)
    return str(request.param)


@pytest.fixture
def pair(platform: str) -> Iterator[tuple[Transport, socket.socket]]:
    """A transport, and what is at its other end."""
    ours, theirs = socket.socketpair()
    transport = Transport(1)
    transport.adopt(ours)
    theirs.settimeout(LIMIT)
    yield transport, theirs
    transport.release()
    theirs.close()


def take(theirs: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        received += theirs.recv(size - len(received))
    return received


def test_what_the_socket_does_not_take_is_kept_and_sent_first(pair: tuple[Transport, socket.socket]) -> None:
    transport, theirs = pair
    sent = bytes(range(256)) * 40_000
    transport.load(sent)
    assert not transport.send()
    assert transport.has_unsent
    transport.load(b"and then this")
    received = b""
    while not transport.send():
        received += take(theirs, 1)
        received += theirs.recv(1024 * 1024)
        transport.wait_for_room(LIMIT)
    assert not transport.has_unsent
    assert received + take(theirs, len(sent) + 13 - len(received)) == sent + b"and then this"


class Interrupted:
    """A socket in whose send Ctrl-C comes."""

    def send(self, *arguments: Any) -> int:
        raise KeyboardInterrupt


def test_an_interrupted_send_has_sent_nothing_and_can_be_made_again(pair: tuple[Transport, socket.socket]) -> None:
    transport, theirs = pair
    real = transport._write_end
    assert real is not None
    transport.load(b"command")
    transport._write_end = Interrupted()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        transport.send()
    assert transport.unsent == b"command"
    transport._write_end = real
    assert transport.send()
    assert theirs.recv(100) == b"command"


def test_a_connection_works_on_either_platform(server: NatsServer, platform: str) -> None:
    with connect(server.url) as nc:
        subscription = nc.subscribe("platform")
        for number in range(100):
            nc.publish("platform", b"%d" % number + bytes(50_000))
        assert [subscription.receive(LIMIT).data for _ in range(100)] == [
            b"%d" % number + bytes(50_000) for number in range(100)
        ]
