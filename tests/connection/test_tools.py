"""The tools of this suite, against what doesn't come from natsvc: nats-py and a plain socket."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import nats
import pytest

from natsvc.testing import NatsServer
from tests.connection.certificates import Certificates
from tests.connection.credentials import Operator
from tests.connection.scripted_server import ScriptedServer, Session
from tests.plain_client import PlainClient
from tests.worlds import LIMIT


def serve(session: Session) -> None:
    session.welcome(max_payload=4321)
    session.serve()


def await_end(server: ScriptedServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT) as client:
        assert client.recv(1) == b""


def test_a_scripted_server_is_one_that_a_client_understands() -> None:
    with ScriptedServer(serve) as server:
        with PlainClient(server.url) as client:
            assert client.info["max_payload"] == 4321
            client.publish("news", b"PUB \r\n", headers=[("name", "value")])
            client.subscribe("in")
            [session] = server.sessions
            assert session.connect["lang"] == "plain"
            assert session.published == [("news", b"NATS/1.0\r\nname: value\r\n\r\nPUB \r\n")]
        assert {"in"} < session.subscriptions.keys()


def test_a_scripted_server_delivers_messages() -> None:
    def script(session: Session) -> None:
        session.welcome()
        session.await_subscription("in")
        session.deliver("in", b"message", reply="back")
        session.serve()

    with ScriptedServer(script) as server, PlainClient(server.url) as client:
        message = client.subscribe("in").next()
        assert (message.data, message.reply) == (b"message", "back")


@pytest.mark.parametrize("script", [Session.ignore, serve])
def test_a_scripted_server_ends_with_its_block_whatever_its_clients_do(script: Callable[[Session], None]) -> None:
    before = threading.active_count()
    with ScriptedServer(script) as server:
        client = socket.create_connection(("127.0.0.1", server.port), timeout=10.0)
    with client, pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", server.port))
    assert threading.active_count() == before


def test_what_a_script_fails_with_is_raised_at_the_end_of_the_block() -> None:
    def script(session: Session) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), ScriptedServer(script) as server:
        await_end(server)


def test_a_failure_of_the_block_is_not_replaced_by_one_of_the_script() -> None:
    def script(session: Session) -> None:
        raise ZeroDivisionError

    with pytest.raises(KeyError), ScriptedServer(script) as server:
        await_end(server)
        raise KeyError


@pytest.mark.parametrize("first", [False, True])
async def test_the_certificates_are_good_for_other_clients(
    make_server: Callable[..., NatsServer], certificates: Certificates, first: bool
) -> None:
    server = make_server(tls=certificates.server_tls(verify=True, handshake_first=first))
    nc = await nats.connect(server.url, tls=certificates.context(client=True), tls_handshake_first=first)
    await nc.flush()
    await nc.close()


async def test_the_credentials_are_good_for_other_clients_until_they_are_revoked(
    make_server: Callable[[str], NatsServer], tmp_path: Path
) -> None:
    operator = Operator()
    user = operator.account.user()
    path = tmp_path / "user.creds"
    path.write_text(user.creds)
    server = make_server(operator.server_config())
    closed = asyncio.Event()

    async def note_close() -> None:
        closed.set()

    nc = await nats.connect(server.url, user_credentials=str(path), allow_reconnect=False, closed_cb=note_close)
    await nc.flush()
    assert not closed.is_set()
    operator.account.revoke(user)
    server.reload(operator.server_config())
    await asyncio.wait_for(closed.wait(), LIMIT)
