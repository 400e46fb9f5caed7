"""Design, section 4, "Security": TLS - whom we trust, what we show, and that nothing is said in clear."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from natsvc import ConfigError, NoServersError
from natsvc.testing import NatsServer
from tests.connection.certificates import WRONG_HOST, Certificates
from tests.connection.front_ends import Connection, FrontEnd
from tests.connection.scripted_server import Script, ScriptedServer, Session
from tests.worlds import eventually

MakeServer = Callable[..., NatsServer]
Play = Callable[[Script], ScriptedServer]


def assert_encrypted(server: NatsServer, connection: Connection) -> None:
    """The server itself says of its only client that it speaks TLS."""
    connection.flush()
    [client] = server.monitoring("connz")["connections"]
    assert client["tls_version"] in {"1.2", "1.3"}


def with_scheme(server: NatsServer, scheme: str) -> str:
    return f"{scheme}://127.0.0.1:{server.port}"


@pytest.fixture
def system_trusts_authority(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    """What OpenSSL calls the system's authorities is the tests' own."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))


def test_a_server_of_a_private_authority_is_trusted_when_the_context_names_it(
    front_end: FrontEnd, make_server: MakeServer, certificates: Certificates
) -> None:
    server = make_server(tls=certificates.server_tls())
    connection = front_end.connect(with_scheme(server, "nats"), tls=certificates.context())
    assert_encrypted(server, connection)
    assert connection.server_info["tls_required"] is True


def test_messages_of_a_megabyte_pass_through_tls_whole_in_both_directions(
    front_end: FrontEnd, make_server: MakeServer, certificates: Certificates
) -> None:
    server = make_server(tls=certificates.server_tls())
    connection = front_end.connect(server.url, tls=certificates.context())
    subscription = connection.subscribe("large")
    sent = [bytes([number]) * (1024 * 1024 - number) for number in range(8)]
    for data in sent:
        connection.publish("large", data)
    assert [subscription.receive().data for _ in sent] == sent


def test_a_service_answers_over_tls(front_end: FrontEnd, make_server: MakeServer, certificates: Certificates) -> None:
    async def echo(request: Any) -> bytes:
        return bytes(request.data)

    server = make_server(tls=certificates.server_tls())
    connection = front_end.connect(server.url, tls=certificates.context())
    connection.add_service("encrypted").add_endpoint("encrypted-e", handler=echo)
    assert [connection.request("encrypted-e", b"%d" % number).data for number in range(20)] == [
        b"%d" % number for number in range(20)
    ]


def test_an_unknown_authority_is_refused(
    front_end: FrontEnd, make_server: MakeServer, certificates: Certificates
) -> None:
    server = make_server(tls=certificates.server_tls())
    with pytest.raises(NoServersError) as caught:
        front_end.connect(server.url, tls=certificates.context(authority=certificates.unknown_authority))
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
    eventually(lambda: server.monitoring("connz")["connections"] == [])


def test_a_certificate_for_another_host_is_refused(
    front_end: FrontEnd, make_server: MakeServer, certificates: Certificates
) -> None:
    server = make_server(tls=certificates.server_tls(certificate=certificates.wrong_host))
    with pytest.raises(NoServersError) as caught:
        front_end.connect(server.url, tls=certificates.context())
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
    assert "127.0.0.1" in str(caught.value.__cause__)


def test_tls_hostname_says_whom_the_certificate_is_to_be_for(
    front_end: FrontEnd, make_server: MakeServer, certificates: Certificates
) -> None:
    server = make_server(tls=certificates.server_tls(certificate=certificates.wrong_host))
    connection = front_end.connect(server.url, tls=certificates.context(), tls_hostname=WRONG_HOST)
    assert_encrypted(server, connection)


def test_the_certificate_must_not_be_for_another_host_than_tls_hostname(
    front_end: FrontEnd, make_server: MakeServer, certificates: Certificates
) -> None:
    server = make_server(tls=certificates.server_tls())
    with pytest.raises(NoServersError) as caught:
        front_end.connect(server.url, tls=certificates.context(), tls_hostname=WRONG_HOST)
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


def test_a_client_certificate_is_shown_to_a_server_that_wants_one(
    front_end: FrontEnd, make_server: MakeServer, certificates: Certificates
) -> None:
    server = make_server(tls=certificates.server_tls(verify=True))
    connection = front_end.connect(server.url, tls=certificates.context(client=True))
    assert_encrypted(server, connection)


def test_without_a_client_certificate_a_server_that_wants_one_is_not_connected_to(
    front_end: FrontEnd, make_server: MakeServer, certificates: Certificates
) -> None:
    server = make_server(tls=certificates.server_tls(verify=True))
    with pytest.raises(NoServersError) as caught:
        front_end.connect(server.url, tls=certificates.context())
    # The server's refusal follows the handshake, and may be overtaken by the reset that what we have sent meets.
    assert isinstance(caught.value.__cause__, (ssl.SSLError, ConnectionError))
    eventually(lambda: server.monitoring("connz")["connections"] == [])


@pytest.mark.parametrize("verify", [False, True], ids=["without a client certificate", "with a client certificate"])
def test_the_handshake_may_come_before_anything_else(
    front_end: FrontEnd, make_server: MakeServer, certificates: Certificates, verify: bool
) -> None:
    server = make_server(tls=certificates.server_tls(verify=verify, handshake_first=True))
    connection = front_end.connect(server.url, tls=certificates.context(client=verify), tls_handshake_first=True)
    assert_encrypted(server, connection)


def test_a_server_that_waits_for_the_handshake_is_given_up_by_a_client_that_waits_for_info(
    front_end: FrontEnd, make_server: MakeServer, certificates: Certificates
) -> None:
    server = make_server(tls=certificates.server_tls(handshake_first=True))
    with pytest.raises(NoServersError) as caught:
        front_end.connect(server.url, tls=certificates.context(), connect_timeout=0.3)
    assert isinstance(caught.value.__cause__, TimeoutError)


def test_the_handshake_first_fails_on_a_server_that_greets_in_clear(
    front_end: FrontEnd, make_server: MakeServer, certificates: Certificates
) -> None:
    server = make_server(tls=certificates.server_tls())
    with pytest.raises(NoServersError) as caught:
        front_end.connect(server.url, tls=certificates.context(), tls_handshake_first=True)
    assert isinstance(caught.value.__cause__, ssl.SSLError)


@pytest.mark.usefixtures("system_trusts_authority")
def test_a_tls_url_asks_for_tls_with_the_authorities_of_the_system(
    front_end: FrontEnd, make_server: MakeServer, certificates: Certificates
) -> None:
    server = make_server(tls=certificates.server_tls())
    assert server.url.startswith("tls://")
    connection = front_end.connect(server.url)
    assert_encrypted(server, connection)
    assert connection.connected_url == server.url


@pytest.mark.usefixtures("system_trusts_authority")
def test_tls_true_asks_for_tls_with_the_authorities_of_the_system(
    front_end: FrontEnd, make_server: MakeServer, certificates: Certificates
) -> None:
    server = make_server(tls=certificates.server_tls())
    assert_encrypted(server, front_end.connect(with_scheme(server, "nats"), tls=True))


@pytest.mark.usefixtures("system_trusts_authority")
def test_tls_is_taken_up_when_the_server_demands_it(
    front_end: FrontEnd, make_server: MakeServer, certificates: Certificates
) -> None:
    server = make_server(tls=certificates.server_tls())
    assert_encrypted(server, front_end.connect(with_scheme(server, "nats")))


@pytest.mark.parametrize("scheme", ["nats", "tls"])
def test_an_authority_that_the_system_does_not_know_is_refused_also_when_only_the_server_asked_for_tls(
    front_end: FrontEnd, make_server: MakeServer, certificates: Certificates, scheme: str
) -> None:
    server = make_server(tls=certificates.server_tls())
    with pytest.raises(NoServersError) as caught:
        front_end.connect(with_scheme(server, scheme))
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


@pytest.mark.parametrize("how", ["tls option", "tls URL", "context"])
def test_who_asks_for_tls_says_nothing_to_a_server_without_it(
    front_end: FrontEnd, play: Play, certificates: Certificates, how: str
) -> None:
    def script(session: Session) -> None:
        session.greet()
        session.ignore()

    server = play(script)
    url = server.url.replace("nats://", "tls://" if how == "tls URL" else "nats://")
    tls = {"tls option": True, "tls URL": None, "context": certificates.context()}[how]
    with pytest.raises(NoServersError) as caught:
        front_end.connect(url, user="alice", password="never in clear", connect_timeout=5.0, tls=tls)
    assert caught.value.__cause__ is not None
    assert not isinstance(caught.value.__cause__, TimeoutError), "it is known at once, so nobody is to wait for it"
    assert [session.commands for session in server.sessions] == [[]]


@pytest.fixture
def accept(certificates: Certificates) -> ssl.SSLContext:
    """What a scripted server does its handshake with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(certificates.server))
    return context


FORGED_INFO = b'INFO {"server_id": "FORGED", "max_payload": 7, "proto": 1, "headers": true}\r\n'


@pytest.mark.parametrize(
    "forged",
    [FORGED_INFO, b"PONG\r\n", b"-ERR 'Authorization Violation'\r\n", b"MSG here 1 1000\r\n", b"INFO {"],
    ids=lambda forged: forged[:8].decode(),
)
def test_what_comes_in_clear_behind_a_demand_for_tls_is_not_believed(
    front_end: FrontEnd, play: Play, certificates: Certificates, accept: ssl.SSLContext, forged: bytes
) -> None:
    def script(session: Session) -> None:
        session.greet(forged if session.number == 1 else b"", tls_required=True)
        session.start_tls(accept)
        session.answer_ping()
        session.serve()

    server = play(script)
    connection = front_end.connect(
        server.url, tls=certificates.context(), retry_on_failed_connect=True, connect_timeout=1.0
    )
    eventually(lambda: connection.is_connected)
    connection.flush()
    assert connection.server_info["server_id"] != "FORGED"
    assert connection.max_payload != 7


@pytest.mark.parametrize("place", ["before INFO", "behind INFO", "around the handshake"])
def test_no_message_is_taken_in_clear_while_tls_is_to_begin(
    front_end: FrontEnd, play: Play, certificates: Certificates, accept: ssl.SSLContext, place: str
) -> None:
    def script(session: Session) -> None:
        before = behind = b""
        if session.number == 2:
            sid = server.sessions[0].subscriptions["here"]
            forged = b"MSG here %b 6\r\nforged\r\n" % sid
            before, behind = {
                "before INFO": (forged, b""),
                "behind INFO": (b"", forged),
                "around the handshake": (b"", b"MSG here %b 4\r\n" % sid),  # of which the PONG would be the data
            }[place]
        session.send(before)
        session.greet(behind, tls_required=True)
        session.start_tls(accept)
        session.answer_ping()
        session.await_subscription("here")
        if session.number > 1:
            session.deliver("here", b"genuine")
            session.serve()

    server = play(script)
    connection = front_end.connect(server.url, tls=certificates.context(), connect_timeout=1.0)
    assert connection.subscribe("here").receive().data == b"genuine"


def test_a_reconnect_is_encrypted_and_checked_like_the_first_connection(
    front_end: FrontEnd, make_server: MakeServer, certificates: Certificates
) -> None:
    server = make_server(tls=certificates.server_tls())
    connection = front_end.connect(server.url, tls=certificates.context())
    subscription = connection.subscribe("again")
    server.kill()
    eventually(lambda: not connection.is_connected)
    server.tls = certificates.server_tls(certificate=certificates.wrong_host)
    server.restart()
    eventually(lambda: "bad certificate" in server.log or "TLS handshake error" in server.log)
    assert not connection.is_connected
    server.tls = certificates.server_tls()
    server.restart()
    eventually(lambda: connection.is_connected)
    assert_encrypted(server, connection)
    connection.publish("again", b"still here")
    assert subscription.receive().data == b"still here"


def test_a_server_learned_from_another_has_the_tls_name_of_that_one(
    front_end: FrontEnd, make_cluster: Callable[..., Sequence[NatsServer]], certificates: Certificates
) -> None:
    # Servers tell of each other by address; this certificate is for a name only, and that is what was connected to.
    first, second = make_cluster("", "", tls=certificates.server_tls(certificate=certificates.name_only))
    connection = front_end.connect(f"nats://localhost:{first.port}", tls=certificates.context())
    assert connection.connected_url == f"nats://localhost:{first.port}"
    connection.flush()
    first.kill()
    eventually(lambda: connection.events.of("on_reconnect") == [with_scheme(second, "nats")])


def test_tls_that_is_neither_a_context_nor_a_bool_is_refused(front_end: FrontEnd) -> None:
    with pytest.raises(ConfigError, match="tls"):
        front_end.connect("nats://127.0.0.1:4222", tls="yes")
