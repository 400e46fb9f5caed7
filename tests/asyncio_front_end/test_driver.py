"""How the driver of a connection reads and writes: together what comes together, no more than the socket takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from natsvc.asyncio import Connection, add_service, connect
from natsvc.asyncio.driver import _Socket
from natsvc.testing import NatsServer
from tests.plain_client import PlainClient
from tests.worlds import LIMIT


@pytest.fixture
async def nc(server: NatsServer) -> AsyncIterator[Connection]:
    async with connect(server.url) as connection:
        yield connection


class Recorded:
    """A transport that notes what is done to it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.writes: list[bytes] = []
        self.is_reading = True

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        self.transport.write(data)

    def pause_reading(self) -> None:
        self.is_reading = False
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        self.is_reading = True
        self.transport.resume_reading()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)


def record(nc: Connection) -> tuple[_Socket, Recorded]:
    socket = nc._driver._socket
    assert socket is not None
    assert socket.transport is not None
    recorded = Recorded(socket.transport)
    socket.transport = recorded  # type: ignore[assignment]
    return socket, recorded


async def test_what_is_published_in_one_turn_of_the_loop_is_written_at_once(nc: Connection) -> None:
    _, recorded = record(nc)
    await asyncio.gather(*(nc.publish("a", str(number)) for number in range(50)))
    await nc.flush()
    assert recorded.writes[0].count(b"PUB a 1\r\n") + recorded.writes[0].count(b"PUB a 2\r\n") == 50


async def test_the_replies_to_what_came_together_are_written_together(nc: Connection, client: PlainClient) -> None:
    async with add_service(nc, name="together") as service:

        @service.endpoint("together-e")
        async def echo(request: Any) -> bytes:
            return bytes(request.data)

        await service.flush()
        socket, recorded = record(nc)
        sid = max(nc._state._subscriptions)
        socket.data_received(f"MSG together-e {sid} nobody.waits 1\r\nx\r\n".encode() * 100)
        await nc.flush()
        assert recorded.writes[0].count(b"PUB nobody.waits 1\r\nx\r\n") in (0, 100)  # 0 without eager tasks
        assert b"".join(recorded.writes).count(b"PUB nobody.waits 1\r\nx\r\n") == 100


async def test_while_the_socket_takes_nothing_publishers_wait_and_nothing_is_read(nc: Connection) -> None:
    socket, recorded = record(nc)
    socket.pause_writing()
    assert not recorded.is_reading
    publishing = asyncio.ensure_future(nc.publish("a", b"x"))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not publishing.done()
    assert recorded.writes == []
    socket.resume_writing()
    await publishing
    assert recorded.is_reading
    await nc.flush()


async def test_a_cancelled_publisher_leaves_the_connection_usable_and_its_message_whole(nc: Connection) -> None:
    subscription = nc.subscribe("whole")
    await nc.flush()
    socket, _ = record(nc)
    socket.pause_writing()
    publishing = asyncio.ensure_future(nc.publish("whole", b"x" * 1_000))
    await asyncio.sleep(0)
    publishing.cancel()
    socket.resume_writing()
    assert (await subscription.receive(LIMIT)).data == b"x" * 1_000


async def test_while_many_messages_are_delivered_in_turns_nothing_more_is_read(nc: Connection) -> None:
    subscription = nc.subscribe("turns")
    await nc.flush()
    socket, recorded = record(nc)
    sid = max(nc._state._subscriptions)
    socket.data_received(b"".join(f"MSG turns {sid} 4\r\n{number:04}\r\n".encode() for number in range(1_000)))
    assert not recorded.is_reading
    assert len(subscription._backlog) < 1_000
    socket.pause_writing()
    socket.resume_writing()
    assert not recorded.is_reading  # there is still something to deliver
    socket.data_received(f"MSG turns {sid} 4\r\nlast\r\n".encode())
    for number in range(1_000):
        assert (await subscription.receive(LIMIT)).data == f"{number:04}".encode()
    assert (await subscription.receive(LIMIT)).data == b"last"
    await nc.flush()
    assert recorded.is_reading


async def test_a_receiver_that_fails_does_not_silence_the_connection(nc: Connection) -> None:
    def fail(message: Any) -> None:
        raise RuntimeError("a receiver's own")

    nc._state.subscribe("failing", "", fail, lambda _: None)
    socket, recorded = record(nc)
    with pytest.raises(RuntimeError, match="a receiver's own"):
        socket.data_received(f"MSG failing {nc._state._last_sid} 1\r\nx\r\n".encode())
    await nc.publish("a", b"x")
    await nc.flush()
    assert b"PUB a 1\r\nx\r\n" in b"".join(recorded.writes)
