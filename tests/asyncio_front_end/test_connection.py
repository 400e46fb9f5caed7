"""natsvc's own connection on asyncio, with a real server at the other end."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from natsvc.asyncio import (
    ConfigError,
    Connection,
    ConnectionClosedError,
    HeaderError,
    MaxPayloadError,
    Message,
    NoRespondersError,
    NoServersError,
    RequestTimeoutError,
    SlowConsumerError,
    SubjectError,
    SubscriptionClosedError,
    add_service,
    connect,
)
from natsvc.testing import NatsServer
from tests.worlds import LIMIT, interest


@pytest.fixture
async def nc(server: NatsServer) -> AsyncIterator[Connection]:
    async with connect(server.url) as connection:
        yield connection


async def until(condition: Callable[[], object]) -> None:
    """Wait for what must come true, with the event loop going on."""
    async with asyncio.timeout(LIMIT):
        while not condition():
            await asyncio.sleep(0.005)


# Connecting


async def test_awaiting_connect_gives_the_connection(server: NatsServer) -> None:
    nc = await connect(server.url)
    assert isinstance(nc, Connection)
    assert nc.is_connected
    assert nc.connected_url == server.url
    assert nc.server_info["max_payload"] == nc.max_payload
    await nc.close()
    assert nc.is_closed
    assert not nc.is_connected
    assert nc.connected_url is None


async def test_leaving_the_block_closes(server: NatsServer) -> None:
    async with connect(server.url, name="a-name-of-its-own") as nc:
        assert nc.is_connected
        (mine,) = (one for one in server.monitoring("connz")["connections"] if one.get("name") == "a-name-of-its-own")
        assert (mine["lang"], mine["version"]) == ("python", __import__("natsvc").__version__)
    assert nc.is_closed
    await until(
        lambda: "a-name-of-its-own" not in [one.get("name") for one in server.monitoring("connz")["connections"]]
    )


async def test_a_connection_can_be_awaited_and_used_as_a_block(server: NatsServer) -> None:
    async with await connect(server.url) as nc:
        assert nc.is_connected
    assert nc.is_closed


async def test_awaiting_it_again_waits_for_the_same_connection(server: NatsServer) -> None:
    nc = connect(server.url)
    first, second = await asyncio.gather(_await(nc), _await(nc))
    assert first is second is nc
    assert nc.is_connected
    assert await nc is nc
    await nc.close()
    with pytest.raises(ConnectionClosedError):
        await nc


async def test_a_connection_that_could_not_be_made_is_not_made_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    nc = connect(f"nats://127.0.0.1:{port}")
    with pytest.raises(NoServersError):
        await nc
    with pytest.raises(ConnectionClosedError):
        await nc


async def _await(nc: Connection) -> Connection:
    return await nc


async def test_a_server_that_is_not_there_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(NoServersError) as caught:
        await connect(f"nats://127.0.0.1:{port}")
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


async def test_a_host_that_does_not_exist_is_told() -> None:
    with pytest.raises(NoServersError):
        await connect("nats://no-such-host.invalid")


async def test_a_cancelled_connect_leaves_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connecting = asyncio.ensure_future(_connect(f"nats://127.0.0.1:{silent.getsockname()[1]}"))
        accepted, _ = await asyncio.get_running_loop().run_in_executor(None, silent.accept)
        with accepted:
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            accepted.settimeout(LIMIT)
            assert await asyncio.to_thread(_read_to_the_end, accepted) == b""


async def _connect(url: str) -> Connection:
    return await connect(url)


def _read_to_the_end(connection: socket.socket) -> bytes:
    """Return the last of what comes; a connection that is cut off gives nothing."""
    try:
        return connection.recv(1)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"nmae": "x"}, "nmae"),
        ({"reconnect_wait": -1}, "reconnect_wait"),
        ({"tls": "yes"}, "tls"),
        ({"on_error": 5}, "on_error"),
        ({"creds": "/no/such/file"}, "creds"),
        ({"creds": 5}, "creds"),
    ],
)
async def test_a_bad_option_is_named(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        connect("nats://127.0.0.1", **options)
    assert field in str(caught.value)


async def test_none_means_not_given(server: NatsServer) -> None:
    async with connect(server.url, name=None, user=None, on_error=None, tls=None) as nc:
        assert nc.is_connected


# Publishing, subscribing


async def test_a_published_message_comes_with_its_reply_and_headers(nc: Connection) -> None:
    subscription = nc.subscribe("front.*")
    await nc.publish("front.a", b"data", reply="back", headers={"Key": "value"})
    message = await subscription.receive(LIMIT)
    assert (message.subject, message.data, message.reply) == ("front.a", b"data", "back")
    assert message.headers["Key"] == "value"
    assert subscription.subject == "front.*"
    assert subscription.queue_group == ""


async def test_a_subscription_may_be_awaited_or_not(nc: Connection) -> None:
    assert (await nc.subscribe("a")).subject == nc.subscribe("a").subject


async def test_a_subscription_is_an_iterator_that_ends_when_it_is_drained(nc: Connection) -> None:
    subscription = nc.subscribe("drained")
    for number in range(10):
        await nc.publish("drained", str(number))
    await subscription.drain()
    await nc.publish("drained", b"too late")
    assert [message.data async for message in subscription] == [str(number).encode() for number in range(10)]
    with pytest.raises(SubscriptionClosedError):
        await subscription.receive()


async def test_unsubscribing_ends_the_iteration_and_drops_what_is_there(nc: Connection, server: NatsServer) -> None:
    async with nc.subscribe("dropped.here") as subscription:
        await nc.publish("dropped.here", b"x")
        await nc.flush()
    assert [message async for message in subscription] == []
    await nc.flush()
    assert "dropped.here" not in interest(server)
    await subscription.unsubscribe()


async def test_a_waiting_iteration_ends_with_the_subscription(nc: Connection) -> None:
    subscription = nc.subscribe("a")
    waiting = asyncio.ensure_future(subscription.__anext__())
    await asyncio.sleep(0)
    await subscription.unsubscribe()
    with pytest.raises(StopAsyncIteration):
        await waiting


async def test_queue_groups_share_the_messages(nc: Connection) -> None:
    first, second = nc.subscribe("shared", queue="q"), nc.subscribe("shared", queue="q")
    assert first.queue_group == "q"
    for _ in range(50):
        await nc.publish("shared")
    await first.drain()
    await second.drain()
    counts = [len([message async for message in one]) for one in (first, second)]
    assert sum(counts) == 50


async def test_several_receivers_get_different_messages(nc: Connection) -> None:
    subscription = nc.subscribe("several")
    receivers = [asyncio.ensure_future(subscription.receive(LIMIT)) for _ in range(5)]
    await asyncio.sleep(0)
    for number in range(5):
        await nc.publish("several", str(number))
    assert {(await receiver).data for receiver in receivers} == {b"0", b"1", b"2", b"3", b"4"}


async def test_receiving_gives_up_in_time(nc: Connection) -> None:
    subscription = nc.subscribe("silent")
    with pytest.raises(RequestTimeoutError, match="silent"):
        await subscription.receive(0.01)
    await nc.publish("silent", b"x")
    assert (await subscription.receive(LIMIT)).data == b"x"


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), True, "1"])
async def test_a_bad_timeout_is_refused(nc: Connection, timeout: Any) -> None:
    with pytest.raises(ConfigError, match="timeout"):
        await nc.flush(timeout)
    with pytest.raises(ConfigError, match="timeout"):
        await nc.request("a", timeout=timeout)


async def test_cancelling_a_receiver_loses_no_message(nc: Connection) -> None:
    subscription = nc.subscribe("cancelled")
    receiver = asyncio.ensure_future(subscription.receive())
    await asyncio.sleep(0)
    await nc.publish("cancelled", b"x")
    receiver.cancel()
    assert (await subscription.receive(LIMIT)).data == b"x"


async def test_a_slow_subscription_is_bounded_and_reported_once(server: NatsServer) -> None:
    errors: list[BaseException] = []
    async with connect(server.url, max_pending_messages=3, on_error=errors.append) as nc:
        subscription = nc.subscribe("slow")
        for number in range(10):
            await nc.publish("slow", str(number))
        await nc.flush()
        assert subscription.dropped == 7
        (error,) = errors
        assert isinstance(error, SlowConsumerError)
        assert error.subject == "slow"
        assert [(await subscription.receive(LIMIT)).data for _ in range(3)] == [b"0", b"1", b"2"]


async def test_bad_arguments_are_refused_and_the_connection_goes_on(nc: Connection) -> None:
    with pytest.raises(SubjectError):
        await nc.publish("a b")
    with pytest.raises(SubjectError):
        await nc.publish("a", reply="r\r\nPING")
    with pytest.raises(SubjectError):
        nc.subscribe("a", queue="q q")
    with pytest.raises(HeaderError):
        await nc.publish("a", headers={"x": "a\nb"})
    with pytest.raises(MaxPayloadError):
        await nc.publish("a", b"x" * (nc.max_payload + 1))
    with pytest.raises(TypeError):
        await nc.publish("a", 5)  # type: ignore[arg-type]
    await nc.flush()


async def test_a_message_of_the_largest_size_passes(nc: Connection) -> None:
    subscription = nc.subscribe("large")
    data = b"x" * nc.max_payload
    await nc.publish("large", data)
    assert (await subscription.receive(LIMIT)).data == data


async def test_a_publisher_without_pause_is_held_back_by_the_socket_and_leaves_others_their_turn(
    nc: Connection,
) -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.ensure_future(take_turns())
    largest = 0
    for _ in range(2_000):
        await nc.publish("flood", b"x" * 8_192)
        largest = max(largest, nc._state.outgoing_size)
    other.cancel()
    await nc.flush()
    assert turns > 100
    assert largest < 256 * 1024


async def test_many_messages_at_once_all_arrive_in_order(nc: Connection) -> None:
    subscription = nc.subscribe("many")
    for number in range(20_000):
        await nc.publish("many", str(number))
    for number in range(20_000):
        assert (await subscription.receive(LIMIT)).data == str(number).encode()


# Requests


async def test_a_request_gets_its_answer(nc: Connection) -> None:
    subscription = nc.subscribe("svc")

    async def answer() -> None:
        async for message in subscription:
            await nc.publish(message.reply, message.data.upper(), headers=message.headers)

    answering = asyncio.ensure_future(answer())
    answers = await asyncio.gather(
        *(nc.request("svc", f"a{number}", headers={"n": str(number)}, timeout=LIMIT) for number in range(100))
    )
    assert [message.data for message in answers] == [f"A{number}".encode() for number in range(100)]
    assert [message.headers["n"] for message in answers] == [str(number) for number in range(100)]
    answering.cancel()


async def test_a_request_that_nobody_answers_gives_up_in_time(nc: Connection) -> None:
    nc.subscribe("deaf")
    with pytest.raises(RequestTimeoutError, match="deaf"):
        await nc.request("deaf", timeout=0.01)


async def test_a_request_to_nobody_fails_at_once(nc: Connection) -> None:
    with pytest.raises(NoRespondersError):
        await nc.request("nobody.is.there", timeout=LIMIT)


async def test_a_cancelled_request_leaves_the_connection_usable(nc: Connection) -> None:
    subscription = nc.subscribe("later")
    request = asyncio.ensure_future(nc.request("later", timeout=LIMIT))
    message = await subscription.receive(LIMIT)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await nc.publish(message.reply, b"too late")
    again = asyncio.ensure_future(nc.request("later", timeout=LIMIT))
    await nc.publish((await subscription.receive(LIMIT)).reply, b"in time")
    assert (await again).data == b"in time"
    assert nc._state._inbox is not None
    assert len(nc._state._inbox) == 0


# Flush


async def test_a_flush_confirms_what_was_sent(nc: Connection, server: NatsServer) -> None:
    nc.subscribe("flushed.here")
    await nc.flush()
    assert "flushed.here" in interest(server)


async def test_a_cancelled_flush_leaves_the_connection_usable(nc: Connection) -> None:
    for _ in range(3):
        flush = asyncio.ensure_future(nc.flush())
        await asyncio.sleep(0)
        flush.cancel()
    await nc.flush()
    with pytest.raises(RequestTimeoutError):
        await nc.flush(0)
    await nc.flush()


# Closing, draining


async def test_what_was_published_before_closing_arrives(server: NatsServer, nc: Connection) -> None:
    subscription = nc.subscribe("last.words")
    await nc.flush()
    other = await connect(server.url)
    for number in range(1_000):
        await other.publish("last.words", str(number))
    await other.close()
    for number in range(1_000):
        assert (await subscription.receive(LIMIT)).data == str(number).encode()


async def test_closing_ends_iterations_and_requests(server: NatsServer) -> None:
    nc = await connect(server.url)
    subscription = nc.subscribe("deaf")
    request = asyncio.ensure_future(nc.request("deaf", timeout=LIMIT))
    iteration = asyncio.ensure_future(nc.subscribe("silent").__anext__())
    await subscription.receive(LIMIT)
    await nc.close()
    with pytest.raises(ConnectionClosedError):
        await request
    with pytest.raises(StopAsyncIteration):
        await iteration
    for use in (nc.publish("a"), nc.request("a"), nc.flush(), nc.drain(), nc.reconnect()):
        with pytest.raises(ConnectionClosedError):
            await use
    with pytest.raises(ConnectionClosedError):
        nc.subscribe("a")
    await nc.close()


async def test_draining_lets_subscriptions_be_taken_to_the_end(server: NatsServer, nc: Connection) -> None:
    other = await connect(server.url)
    subscription = other.subscribe("to.the.end")
    await other.flush()
    for number in range(100):
        await nc.publish("to.the.end", str(number))
    await nc.flush()
    taken = []

    async def take() -> None:
        async for message in subscription:
            await asyncio.sleep(0)
            taken.append(message.data)
            await other.publish("taken", message.data)

    replies = nc.subscribe("taken")
    await nc.flush()
    taking = asyncio.ensure_future(take())
    await other.drain()
    await taking
    assert taken == [str(number).encode() for number in range(100)]
    assert other.is_closed
    for number in range(100):
        assert (await replies.receive(LIMIT)).data == str(number).encode()


async def test_a_drain_waits_for_nobody_longer_than_its_limit(server: NatsServer) -> None:
    errors: list[BaseException] = []
    nc = await connect(server.url, drain_timeout=0.05, on_error=errors.append)
    nc.subscribe("untaken")
    await nc.publish("untaken")
    await nc.flush()
    await nc.drain()
    assert nc.is_closed
    assert [type(error) for error in errors] == [RequestTimeoutError]


async def test_a_cancelled_drain_closes(server: NatsServer) -> None:
    nc = await connect(server.url)
    nc.subscribe("untaken")
    await nc.publish("untaken")
    await nc.flush()
    draining = asyncio.ensure_future(nc.drain())
    await asyncio.sleep(0)
    draining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await draining
    assert nc.is_closed


async def test_a_second_drain_and_leaving_the_block_wait_for_the_first(server: NatsServer, nc: Connection) -> None:
    async with connect(server.url) as draining:
        subscription = draining.subscribe("taken.slowly")
        answers = nc.subscribe("answers")
        for number in range(5):
            await draining.publish("taken.slowly", str(number))
        await draining.flush()
        await nc.flush()

        async def take() -> None:
            async for message in subscription:
                await asyncio.sleep(0.01)
                await draining.publish("answers", message.data)

        taking = asyncio.ensure_future(take())
        first = asyncio.ensure_future(draining.drain())
        await asyncio.sleep(0)
        second = asyncio.ensure_future(draining.drain())
        await asyncio.sleep(0)
    await first
    await second
    await taking
    assert [(await answers.receive(LIMIT)).data for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]


async def test_closing_ends_a_drain_that_waits_for_a_consumer(server: NatsServer) -> None:
    nc = await connect(server.url)
    nc.subscribe("untaken")
    await nc.publish("untaken")
    await nc.flush()
    draining = asyncio.ensure_future(nc.drain())
    await until(lambda: nc._state.is_draining)
    await nc.close()
    await draining


async def test_with_a_server_that_is_frozen_drain_and_leaving_end_in_time(
    make_server: Callable[..., NatsServer],
) -> None:
    server = make_server()
    errors: list[BaseException] = []
    drained = await connect(server.url, drain_timeout=0.1, on_error=errors.append)
    subscription = drained.subscribe("a")
    await drained.flush()
    async with connect(server.url, drain_timeout=0.1, on_error=errors.append) as left:
        os.kill(server.pid, signal.SIGSTOP)
        os.waitpid(server.pid, os.WUNTRACED)
        try:
            async with asyncio.timeout(LIMIT):
                with pytest.raises(RequestTimeoutError):
                    await subscription.drain()
                await drained.drain()
                await left.__aexit__(None, None, None)
        finally:
            os.kill(server.pid, signal.SIGCONT)
    assert [type(error) for error in errors] == [RequestTimeoutError, RequestTimeoutError]


async def test_no_new_subscriptions_while_it_drains(server: NatsServer) -> None:
    nc = await connect(server.url)
    subscription = nc.subscribe("untaken")
    await nc.publish("untaken")
    await nc.flush()
    draining = asyncio.ensure_future(nc.drain())
    await until(lambda: nc._state.is_draining)
    with pytest.raises(ConnectionClosedError):
        nc.subscribe("a")
    with pytest.raises(ConnectionClosedError):
        add_service(nc, name="late")
    await subscription.receive()
    await subscription.unsubscribe()
    await draining


# The block around it


async def test_the_bodys_exception_leaves_the_block_as_itself(server: NatsServer) -> None:
    with pytest.raises(ZeroDivisionError):
        async with connect(server.url) as nc:
            raise ZeroDivisionError
    assert nc.is_closed


async def test_a_cancelled_block_closes_at_once(server: NatsServer) -> None:
    entered = asyncio.Event()
    connections: list[Connection] = []

    async def body() -> None:
        async with connect(server.url) as nc:
            connections.append(nc)
            entered.set()
            await asyncio.Event().wait()

    running = asyncio.ensure_future(body())
    await entered.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert connections[0].is_closed


async def test_leaving_the_block_stops_the_services_and_waits_for_their_handlers(server: NatsServer) -> None:
    gate = asyncio.Event()
    async with connect(server.url) as caller:
        async with connect(server.url) as nc:
            service = await add_service(nc, name="slow")

            @service.endpoint("work", subject="slow.work")
            async def work(request: Any) -> bytes:
                await gate.wait()
                return b"done"

            await service.flush()
            answer = asyncio.ensure_future(caller.request("slow.work", timeout=LIMIT))
            await until(lambda: service._state.endpoints[0].active)
            asyncio.get_running_loop().call_later(0.01, gate.set)
        assert (await answer).data == b"done"
        assert service.stopped.is_set()
        assert service.error is None


# Reconnecting, callbacks


async def test_losing_the_server_is_told_and_mended(make_server: Callable[..., NatsServer]) -> None:
    server = make_server()
    told: list[Any] = []
    nc = await connect(
        server.url,
        reconnect_wait=0.05,
        on_disconnect=lambda error: told.append(("disconnect", type(error))),
        on_reconnect=lambda url: told.append(("reconnect", url)),
        on_close=lambda error: told.append(("close", error)),
    )
    subscription = nc.subscribe("still.here")
    await nc.flush()
    server.kill()
    await until(lambda: not nc.is_connected)
    await nc.publish("still.here", b"meanwhile")
    server.start()
    assert (await subscription.receive(LIMIT)).data == b"meanwhile"
    await nc.close()
    assert told[1:] == [("reconnect", server.url), ("close", None)]
    assert told[0][0] == "disconnect"


async def test_reconnecting_on_demand(nc: Connection, server: NatsServer) -> None:
    subscription = nc.subscribe("again")
    before = nc.server_info["client_id"]
    await nc.reconnect()
    assert not nc.is_connected
    await nc.flush(LIMIT)
    assert nc.server_info["client_id"] != before
    await nc.publish("again")
    await subscription.receive(LIMIT)


async def test_callbacks_may_be_async_and_what_they_raise_is_logged(
    server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    told = asyncio.Event()

    async def on_close(error: BaseException | None) -> None:
        await asyncio.sleep(0)
        told.set()
        raise RuntimeError("from an async callback")

    def on_disconnect(error: BaseException | None) -> None:
        raise RuntimeError("from a plain callback")

    nc = await connect(server.url, on_close=on_close, on_disconnect=on_disconnect)
    with caplog.at_level(logging.ERROR):
        await nc.reconnect()
        await nc.flush(LIMIT)
        await nc.close()
        await told.wait()
        await until(lambda: "from an async callback" in caplog.text)
    assert "from a plain callback" in caplog.text


async def test_a_callback_that_raises_a_cancellation_stops_nothing(server: NatsServer) -> None:
    def on_disconnect(error: BaseException | None) -> None:
        raise asyncio.CancelledError

    async with connect(server.url, on_disconnect=on_disconnect) as nc:
        await nc.reconnect()
        await nc.flush(LIMIT)


async def test_an_inbox_is_a_subject_of_its_own(nc: Connection) -> None:
    assert re.fullmatch(r"_INBOX\.[0-9A-Za-z]{22}", nc.new_inbox())
    assert nc.new_inbox() != nc.new_inbox()


async def test_reprs_hold_no_secret(server: NatsServer) -> None:
    async with connect(server.url.replace("nats://", "nats://user:topsecret@")) as nc:
        assert "topsecret" not in repr(nc)
        assert "topsecret" not in repr(vars(nc))
        assert "topsecret" not in str(nc.connected_url)
        assert isinstance(nc.subscribe("a"), object)
        assert "a" in repr(nc.subscribe("a"))


async def test_a_message_is_natsvcs_own(nc: Connection) -> None:
    subscription = nc.subscribe("own")
    await nc.publish("own")
    assert isinstance(await subscription.receive(LIMIT), Message)


async def test_handlers_that_drain_their_connection_wait_for_each_other_no_longer_than_needed(
    server: NatsServer,
) -> None:
    errors: list[BaseException] = []
    drained: list[bytes] = []
    both = asyncio.Barrier(2)
    async with connect(server.url) as caller:
        nc = await connect(server.url, on_error=errors.append)
        service = await add_service(nc, name="draining")

        @service.endpoint("draining-e")
        async def drain(request: Any) -> None:
            await both.wait()
            await nc.drain()
            drained.append(request.data)

        await service.flush()
        await caller.publish("draining-e", b"1", reply="nobody")
        await caller.publish("draining-e", b"2", reply="nobody")
        await until(lambda: len(drained) == 2)
    assert nc.is_closed
    assert errors == [], "neither has used up its time"


async def test_the_bodys_exception_leaves_the_block_also_when_somebody_else_closes(server: NatsServer) -> None:
    with pytest.raises(ZeroDivisionError):
        async with connect(server.url) as nc:
            asyncio.get_running_loop().call_soon(nc._driver.close)
            raise ZeroDivisionError
