"""How the driver of a connection reads and writes: together what comes together, no more than the socket takes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from natsvc.asyncio import Connection, add_service, connect
from natsvc.asyncio.carrying import IS_EAGER
from natsvc.asyncio.driver import _Socket
from natsvc.testing import NatsServer
from natsvc.wire.outbox import EARLY
from tests.connection.scripted_server import ScriptedServer, Session
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


@pytest.mark.skipif(not IS_EAGER, reason="without eager tasks, the replies come in another turn")
async def test_of_many_replies_those_that_are_there_early_are_written_early_once(nc: Connection) -> None:
    async with add_service(nc, name="early") as service:

        @service.endpoint("early-e")
        async def echo(request: Any) -> bytes:
            return bytes(request.data)

        await service.flush()
        socket, recorded = record(nc)
        sid = max(nc._state._subscriptions)
        for expected in ([EARLY - 1], [EARLY, 100]):
            recorded.writes.clear()
            socket.data_received(f"MSG early-e {sid} nobody.waits 1\r\nx\r\n".encode() * sum(expected))
            assert [write.count(b"PUB nobody.waits ") for write in recorded.writes] == expected


async def test_a_handler_that_responds_without_an_end_lets_the_loop_turn(nc: Connection, client: PlainClient) -> None:
    is_over = asyncio.Event()

    async with add_service(nc, name="endless") as service:

        @service.endpoint("endless-e")
        async def endless(request: Any) -> None:
            while not is_over.is_set():
                await request.respond(b"x" * 1024)

        await service.flush()
        asking = asyncio.ensure_future(nc.request("endless-e", timeout=LIMIT))
        asyncio.get_running_loop().call_later(0.1, is_over.set)
        async with asyncio.timeout(LIMIT):
            await is_over.wait()
            assert (await asking).data == b"x" * 1024


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


@contextlib.asynccontextmanager
async def responding(nc: Connection) -> AsyncIterator[tuple[bytes, list[bytes]]]:
    """A service that responds with little; yields the bytes of a request, and what it has done."""
    done: list[bytes] = []
    async with add_service(nc, name="pressed") as service:

        @service.endpoint("pressed-e")
        async def respond(request: Any) -> None:
            await request.respond(b"little")
            done.append(request.data)

        await service.flush()
        yield b"MSG pressed-e %d r 1\r\nx\r\n" % max(nc._state._subscriptions), done


async def let_loop_turn() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_while_the_socket_takes_nothing_who_responds_waits_however_little_it_is(nc: Connection) -> None:
    async with responding(nc) as (request, done):
        socket, _ = record(nc)
        socket.pause_writing()
        nc._driver.send()
        assert not nc._state.is_write_due
        socket.data_received(request * 2)  # they were read before
        await let_loop_turn()
        assert not done
        socket.resume_writing()
        await let_loop_turn()
        assert len(done) == 2


@pytest.mark.skipif(not IS_EAGER, reason="without eager tasks, the replies come in another turn")
async def test_who_responds_after_the_socket_is_full_waits_also_where_more_was_read(nc: Connection) -> None:
    async with responding(nc) as (request, done):
        socket, recorded = record(nc)
        write = recorded.write

        def write_and_pause(data: bytes) -> None:
            write(data)
            socket.pause_writing()

        recorded.write = write_and_pause  # type: ignore[method-assign]
        socket.data_received(request * (EARLY + 2))  # the first EARLY replies are written at once
        recorded.write = write  # type: ignore[method-assign]
        await let_loop_turn()
        assert len(done) == EARLY
        socket.resume_writing()
        await let_loop_turn()
        assert len(done) == EARLY + 2


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


async def test_what_is_settled_while_messages_are_delivered_in_turns_waits_behind_them(nc: Connection) -> None:
    subscription = nc.subscribe("turns")
    await nc.flush()
    socket, _ = record(nc)
    sid = max(nc._state._subscriptions)
    draining = asyncio.ensure_future(subscription.drain())
    await asyncio.sleep(0)
    messages = b"".join(f"MSG turns {sid} 4\r\n{number:04}\r\n".encode() for number in range(1_000))
    socket.data_received(messages + b"PONG\r\n")
    nc._driver.perform()  # as a timer or a user's call would
    await draining
    assert [message.data async for message in subscription] == [f"{number:04}".encode() for number in range(1_000)]


async def test_while_messages_are_delivered_in_turns_a_new_connection_is_not_read_either(nc: Connection) -> None:
    # So slow that the new connection is there long before all is delivered.
    sid = nc._state.subscribe("turns", "", lambda _: time.sleep(0.0001), lambda _: None).sid
    await nc.flush()
    socket, _ = record(nc)
    socket.data_received(f"MSG turns {sid} 1\r\nx\r\n".encode() * 10_000)
    await nc.reconnect()
    async with asyncio.timeout(LIMIT):
        while not nc.is_connected:
            await asyncio.sleep(0)
    assert nc._driver._undelivered
    new, recorded = record(nc)
    new.data_received(f"MSG turns {sid} 1\r\nx\r\n".encode())
    assert not recorded.is_reading
    await nc.flush()
    assert recorded.is_reading
    assert not nc._driver._undelivered


async def test_closing_during_a_tls_handshake_that_goes_nowhere_ends() -> None:
    def greet(session: Session) -> None:
        session.greet(tls_required=True)
        session.ignore()

    with ScriptedServer(greet) as server:
        nc = connect(server.url, tls=True, retry_on_failed_connect=True, connect_timeout=0.05, reconnect_wait=0.01)
        async with asyncio.timeout(LIMIT):
            async with nc:
                attempts = nc._state._last_number
                while nc._state._last_number < attempts + 3:
                    await asyncio.sleep(0.01)
                assert len(nc._driver._sockets) <= 1
    assert nc._driver._sockets == set()


async def test_of_a_name_with_several_addresses_each_is_tried(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        # The first address is of a network for documentation: nobody answers there, or nothing leads there.
        return [(2, 1, 6, "", (address, port)) for address in ("192.0.2.1", "127.0.0.1")]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    async with connect(f"nats://several.example:{server.port}", connect_timeout=1.0) as nc:
        assert nc.is_connected


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
