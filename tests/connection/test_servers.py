"""Design, section 4, "Servers": which one is connected to, and which one next."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import pytest

from natsvc import (
    ConnectionClosedError,
    MaxPayloadError,
    NatsvcError,
    NoServersError,
    ServerError,
    StaleConnectionError,
)
from natsvc.testing import NatsServer
from tests.connection.front_ends import Connection, FrontEnd
from tests.connection.scripted_server import Script, ScriptedServer, Session
from tests.plain_client import PlainClient
from tests.worlds import LIMIT, eventually

MakeServer: TypeAlias = Callable[..., NatsServer]
MakeCluster: TypeAlias = Callable[..., Sequence[NatsServer]]
Play: TypeAlias = Callable[[Script], ScriptedServer]

LAME_DUCK = "lame_duck_grace_period: 1ms\nlame_duck_duration: 30s"
"""The server sends its clients away one by one, the only one at once."""

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="these signals are POSIX's")


def serve(session: Session) -> None:
    session.welcome()
    session.serve()


def server_of(connection: Connection, servers: Sequence[NatsServer]) -> NatsServer:
    return next(server for server in servers if server.url == connection.connected_url)


def test_nobody_listening_is_an_error_with_the_cause(front_end: FrontEnd, make_server: MakeServer) -> None:
    server = make_server()
    server.kill()
    with pytest.raises(NoServersError) as caught:
        front_end.connect(server.url)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


def greet_only(session: Session) -> None:
    session.greet()
    session.ignore()


@pytest.mark.parametrize("script", [Session.ignore, greet_only], ids=["silent from the start", "silent after INFO"])
def test_a_server_is_given_up_after_the_connect_timeout(front_end: FrontEnd, play: Play, script: Script) -> None:
    server = play(script)
    with pytest.raises(NoServersError) as caught:
        front_end.connect(server.url, connect_timeout=0.2)
    assert isinstance(caught.value.__cause__, TimeoutError)
    assert len(server.sessions) == 1


def test_the_next_server_is_tried_when_one_does_not_answer(
    front_end: FrontEnd, play: Play, make_server: MakeServer
) -> None:
    silent, real = play(Session.ignore), make_server()
    connection = front_end.connect([silent.url, real.url], connect_timeout=0.5, randomize=False)
    assert connection.connected_url == real.url


def test_a_connection_that_may_come_later_is_there_at_once(front_end: FrontEnd, make_server: MakeServer) -> None:
    server = make_server()
    server.kill()
    connection = front_end.connect(server.url, retry_on_failed_connect=True)
    assert not connection.is_connected
    assert not connection.is_closed
    subscription = connection.subscribe("early")
    connection.publish("early", b"said before there was a server")
    server.restart()
    assert subscription.receive().data == b"said before there was a server"
    assert connection.is_connected


@contextlib.contextmanager
def full(server: NatsServer) -> Iterator[None]:
    """For the block, the one connection that the server takes is in use."""
    eventually(lambda: server.monitoring()["connections"] == 0)  # its start takes one
    with PlainClient(server.url):
        yield


def test_a_full_server_refuses_in_its_own_words(front_end: FrontEnd, make_server: MakeServer) -> None:
    server = make_server("max_connections: 1")
    with full(server):
        with pytest.raises(NoServersError) as caught:
            front_end.connect(server.url)
        assert isinstance(caught.value.__cause__, ServerError)
        assert "maximum connections exceeded" in str(caught.value.__cause__).lower()


def test_a_full_server_is_entered_when_there_is_room(front_end: FrontEnd, make_server: MakeServer) -> None:
    server = make_server("max_connections: 1")
    with full(server):
        connection = front_end.connect(server.url, retry_on_failed_connect=True)
        assert not connection.is_connected
    eventually(lambda: connection.is_connected)


def test_reconnects_are_counted_and_the_last_one_closes(front_end: FrontEnd, make_server: MakeServer) -> None:
    server = make_server()
    connection = front_end.connect(server.url, max_reconnects=3)
    subscription = connection.subscribe("anything")
    server.kill()
    eventually(lambda: connection.events.of("on_close"))
    assert connection.is_closed
    [error] = connection.events.of("on_close")
    assert isinstance(error, NoServersError)
    assert isinstance(error.__cause__, ConnectionError)
    with pytest.raises(ConnectionClosedError):
        subscription.receive()
    with pytest.raises(ConnectionClosedError):
        connection.publish("anything")
    with pytest.raises(ConnectionClosedError):
        connection.flush()


def test_the_callbacks_tell_the_life_of_a_connection(front_end: FrontEnd, make_server: MakeServer) -> None:
    server = make_server()
    connection = front_end.connect(server.url)
    assert connection.events == []
    server.restart()
    eventually(lambda: connection.events.of("on_reconnect"))
    connection.close()
    eventually(lambda: connection.events.of("on_close"))
    assert [event.callback for event in connection.events] == ["on_disconnect", "on_reconnect", "on_close"]
    [error] = connection.events.of("on_disconnect")
    assert isinstance(error, (NatsvcError, ConnectionError))
    assert connection.events.of("on_reconnect") == [server.url]
    assert connection.events.of("on_close") == [None]


def test_a_close_while_reconnecting_is_told_once(front_end: FrontEnd, make_server: MakeServer) -> None:
    server = make_server()
    connection = front_end.connect(server.url)
    server.kill()
    eventually(lambda: not connection.is_connected)
    connection.close()
    connection.close()
    eventually(lambda: connection.events.of("on_close"))
    assert connection.is_closed
    assert connection.events.of("on_close") == [None]


def test_a_reconnect_on_demand_keeps_subscriptions_and_waits_for_nothing(
    front_end: FrontEnd, make_server: MakeServer
) -> None:
    server = make_server()
    connection = front_end.connect(server.url, reconnect_wait=1000.0, reconnect_jitter=0.0)
    subscription = connection.subscribe("kept")
    before = connection.server_info["client_id"]
    connection.reconnect()
    eventually(lambda: connection.events.of("on_reconnect"))
    assert connection.server_info["client_id"] != before
    connection.publish("kept", b"x")
    assert subscription.receive().data == b"x"


def test_a_cluster_that_loses_our_server_keeps_us(front_end: FrontEnd, make_cluster: MakeCluster) -> None:
    servers = make_cluster("", "", "")
    connection = front_end.connect(servers[0].url)
    subscription = connection.subscribe("kept")
    ours = server_of(connection, servers)
    ours.kill()
    eventually(lambda: connection.events.of("on_reconnect"))
    others = [server for server in servers if server is not ours]
    [url] = connection.events.of("on_reconnect")
    assert url in {server.url for server in others}
    server_of(connection, others).kill()
    eventually(lambda: len(connection.events.of("on_reconnect")) == 2)
    [last] = [server for server in others if server.is_running]
    assert connection.connected_url == last.url
    with PlainClient(last.url) as client:
        connection.flush()
        client.publish("kept", b"through the last server")
    assert subscription.receive().data == b"through the last server"


def test_discovered_servers_are_not_used_if_they_are_to_be_ignored(
    front_end: FrontEnd, make_cluster: MakeCluster
) -> None:
    servers = make_cluster("", "")
    connection = front_end.connect(servers[0].url, ignore_discovered_servers=True, max_reconnects=3)
    servers[0].kill()
    eventually(lambda: connection.events.of("on_close"))
    assert connection.events.of("on_reconnect") == []


def test_servers_told_of_later_are_used_and_strange_ones_do_no_harm(front_end: FrontEnd, play: Play) -> None:
    def leave(session: Session) -> None:
        session.welcome()
        session.greet(connect_urls=["", "::", "no port:x", "[::1]:0", "\t", 7, None, f"127.0.0.1:{other.port}"])
        session.await_subscription("go")

    other = play(serve)
    first = play(leave)
    connection = front_end.connect(first.url, connect_timeout=1.0)
    connection.subscribe("go")
    eventually(lambda: other.url in connection.events.of("on_reconnect"))


def test_max_payload_is_that_of_the_server_we_are_on(front_end: FrontEnd, make_cluster: MakeCluster) -> None:
    roomy, tight, publishing = make_cluster("", "max_payload: 4096", "")
    connection = front_end.connect([roomy.url, tight.url], randomize=False, ignore_discovered_servers=True)
    subscription = connection.subscribe("sized")
    connection.publish("sized", bytes(100_000))
    assert len(subscription.receive().data) == 100_000
    assert connection.max_payload == 1024 * 1024
    roomy.kill()
    eventually(lambda: connection.connected_url == tight.url)
    assert connection.max_payload == 4096
    with pytest.raises(MaxPayloadError) as caught:
        connection.publish("sized", bytes(4097))
    assert (caught.value.size, caught.value.limit) == (4097, 4096)
    with PlainClient(publishing.url) as client:
        # The interest in it takes a moment to get from one server to the other.
        eventually(lambda: "sized" in str(publishing.monitoring("routez?subs=1")))
        client.publish("sized", bytes(100_000))
    assert len(subscription.receive().data) == 100_000
    assert connection.is_connected


def test_what_was_published_meanwhile_and_is_too_large_for_the_next_server_is_reported_and_left_out(
    front_end: FrontEnd, make_server: MakeServer
) -> None:
    server = make_server()
    connection = front_end.connect(server.url)
    subscription = connection.subscribe("sized")
    connection.flush()
    server.kill()
    eventually(lambda: not connection.is_connected)
    connection.publish("sized", b"first")
    connection.publish("sized", bytes(5000))
    connection.publish("sized", b"last")
    server.config = "max_payload: 4096"
    server.restart()
    assert [subscription.receive().data for _ in range(2)] == [b"first", b"last"]
    eventually(lambda: connection.events.of("on_error"))
    [error] = connection.events.of("on_error")
    assert isinstance(error, MaxPayloadError)
    assert (error.size, error.limit) == (5000, 4096)
    connection.flush()
    assert connection.events.of("on_reconnect") == [server.url]


@posix_only
def test_a_server_in_lame_duck_mode_says_so_and_sends_us_to_another(
    front_end: FrontEnd, make_cluster: MakeCluster
) -> None:
    leaving, staying = make_cluster(LAME_DUCK, "")
    connection = front_end.connect(leaving.url)
    subscription = connection.subscribe("kept")
    connection.flush()
    os.kill(leaving.pid, signal.SIGUSR2)
    eventually(lambda: connection.events.of("on_lame_duck"))
    eventually(lambda: connection.connected_url == staying.url)
    assert connection.events.of("on_lame_duck") == [None]
    connection.publish("kept", b"x")
    assert subscription.receive().data == b"x"


@posix_only
def test_a_server_that_is_paused_is_left_and_found_again(front_end: FrontEnd, make_server: MakeServer) -> None:
    server = make_server()
    connection = front_end.connect(server.url, ping_interval=0.1, max_pings_out=2, connect_timeout=0.2)
    subscription = connection.subscribe("kept")
    connection.flush()
    os.kill(server.pid, signal.SIGSTOP)
    try:
        eventually(lambda: connection.events.of("on_disconnect"))
        assert not connection.is_connected
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert isinstance(connection.events.of("on_disconnect")[0], StaleConnectionError)
    eventually(lambda: connection.events.of("on_reconnect"))
    connection.publish("kept", b"x")
    assert subscription.receive().data == b"x"


def test_a_server_that_answers_no_ping_is_stale_and_left(front_end: FrontEnd, play: Play) -> None:
    pings: list[int] = []

    def script(session: Session) -> None:
        session.welcome()
        if session.number > 1:
            session.serve()
        while True:
            if session.read()[0] == b"PING":
                pings.append(session.number)

    server = play(script)
    connection = front_end.connect(server.url, ping_interval=0.05, max_pings_out=2)
    eventually(lambda: connection.events.of("on_reconnect"))
    [error] = connection.events.of("on_disconnect")
    assert isinstance(error, StaleConnectionError)
    assert pings == [1, 1]


def test_a_server_that_answers_pings_is_never_stale(front_end: FrontEnd, play: Play) -> None:
    answered = threading.Semaphore(0)

    def script(session: Session) -> None:
        session.welcome()
        while True:
            session.answer_ping()
            answered.release()

    connection = front_end.connect(play(script).url, ping_interval=0.2, max_pings_out=2)
    for _ in range(6):
        assert answered.acquire(timeout=LIMIT)
    assert connection.events == []


def test_the_pings_of_the_server_are_answered(front_end: FrontEnd, play: Play) -> None:
    ponged = threading.Event()

    def script(session: Session) -> None:
        session.welcome()
        session.send(b"PING\r\n")
        while session.read()[0] != b"PONG":
            pass
        ponged.set()
        session.serve()

    front_end.connect(play(script).url)
    assert ponged.wait(LIMIT)
