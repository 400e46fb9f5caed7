from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from natsvc.testing import NatsServer
from tests.plain_client import Control, Delivery, PlainClient, PlainMessage, PlainParser


def test_two_clients_exchange_a_request_and_its_replies(server: NatsServer, client: PlainClient) -> None:
    with PlainClient(server.url) as other:
        requests = other.subscribe("plain.exchange")
        pending = client.send("plain.exchange", b"\x00question\r\n")
        request = requests.next()
        assert request.subject == "plain.exchange"
        assert request.data == b"\x00question\r\n"
        assert not pending.has_reply
        for answer in (b"one", b"two", b"three"):
            other.publish(request.reply, answer)
        assert pending.result().data == b"one"
        assert pending.has_reply
        assert pending.next().data == b"two"
        assert pending.next().data == b"three"
        assert pending.result().data == b"one"


def test_headers_keep_order_case_and_repetition(client: PlainClient) -> None:
    messages = client.subscribe("plain.headers")
    sent = [("b", "1"), ("A", "zwei: drei"), ("b", ""), ("Nats-Service-Error-Code", "400"), ("Nats-Service-Error", "ü")]
    client.publish("plain.headers", b"body", headers=sent)
    message = messages.next()
    assert message.headers == sent
    assert message.data == b"body"
    assert (message.header("b"), message.header("B")) == ("1", None)
    assert (message.error_code, message.error, message.status) == ("400", "ü", None)


def test_a_message_without_headers_has_neither_headers_nor_status(client: PlainClient) -> None:
    messages = client.subscribe("plain.bare")
    client.publish("plain.bare")
    assert messages.next() == PlainMessage("plain.bare", "", b"")


def test_a_request_that_nobody_hears_gets_status_503(client: PlainClient) -> None:
    reply = client.request("plain.nobody")
    assert reply.status == "503"
    assert reply.data == b""


def test_a_megabyte_of_binary_data_passes_unchanged(client: PlainClient) -> None:
    data = bytes(range(256)) * 4096
    messages = client.subscribe("plain.large")
    client.publish("plain.large", data)
    assert messages.next().data == data
    client.publish("plain.large", data[:-100], headers=[("k", "v")])
    assert messages.next().data == data[:-100]


def test_a_queue_group_shares_the_messages(client: PlainClient) -> None:
    members = [client.subscribe("plain.queue", queue="workers") for _ in range(2)]
    everything = client.subscribe("plain.queue")
    for number in range(100):
        client.publish("plain.queue", str(number).encode())
    client.flush()
    assert everything.waiting == 100
    assert sum(member.waiting for member in members) == 100
    assert all(member.waiting for member in members)


def test_an_ended_subscription_gets_nothing_more(client: PlainClient) -> None:
    messages = client.subscribe("plain.ended")
    messages.unsubscribe()
    assert client.request("plain.ended").status == "503"
    assert messages.waiting == 0


def test_a_timeout_names_the_subject(client: PlainClient) -> None:
    messages = client.subscribe("plain.silent")
    pending = client.send("plain.silent", timeout=0.01)
    with pytest.raises(TimeoutError, match=r"plain\.silent"):
        pending.result()
    messages.next()
    with pytest.raises(TimeoutError, match=r"plain\.silent"):
        messages.next(timeout=0.01)
    with pytest.raises(TimeoutError, match=r"plain\.silent"):
        client.request("plain.silent", timeout=0.01)


def test_user_and_password_come_from_the_url(make_server: Callable[..., NatsServer]) -> None:
    server = make_server(user="a@b", password="p:w")
    with PlainClient(f"nats://a%40b:p%3Aw@127.0.0.1:{server.port}") as client:
        assert client.request("plain.nobody").status == "503"
    with pytest.raises(ConnectionError, match="Authorization Violation"):
        PlainClient(server.url)


def test_errors_of_the_server_are_recorded(make_server: Callable[..., NatsServer]) -> None:
    server = make_server('authorization { users: [{ user: u, password: p, permissions: { publish: "allowed" } }] }')
    with PlainClient(f"nats://u:p@127.0.0.1:{server.port}") as client:
        client.publish("forbidden")
        client.flush()
        assert client.errors == ['Permissions Violation for Publish to "forbidden"']


def test_it_answers_the_pings_of_the_server(make_server: Callable[..., NatsServer]) -> None:
    server = make_server("ping_interval: 50ms\nping_max: 2")
    with PlainClient(server.url) as client:
        subscription = client.subscribe("plain.ping")
        # Ten intervals: without answers, the server would have given up after three.
        with pytest.raises(TimeoutError):
            subscription.next(timeout=0.5)
        assert not client.is_closed
        assert client.errors == []


def test_a_wait_ends_when_the_server_does(make_server: Callable[..., NatsServer]) -> None:
    server = make_server()
    with PlainClient(server.url) as client:
        messages = client.subscribe("plain.lost")
        server.kill()
        began = time.monotonic()
        with pytest.raises(ConnectionError, match=r"plain\.lost"):
            messages.next()
        assert time.monotonic() - began < 5
        assert client.is_closed


STREAM = (
    b'INFO {"a":1} \r\n+OK\r\nMSG a.b 7 3\r\n\r\n\x00\r\nMSG a.b 7 r.1 0\r\n\r\n'
    b"HMSG c 8 24 26\r\nNATS/1.0 503\r\nK:  v \r\n\r\n\xff\xfe\r\n"
    b"HMSG c\t8  r.2 12 12\r\nNATS/1.0\r\n\r\n\r\n-ERR 'No'\r\nPING\r\n"
)
EVENTS = [
    Control("INFO", '{"a":1}'),
    Control("+OK", ""),
    Delivery(7, PlainMessage("a.b", "", b"\r\n\x00")),
    Delivery(7, PlainMessage("a.b", "r.1", b"")),
    Delivery(8, PlainMessage("c", "", b"\xff\xfe", b"NATS/1.0 503\r\nK:  v \r\n\r\n")),
    Delivery(8, PlainMessage("c", "r.2", b"", b"NATS/1.0\r\n\r\n")),
    Control("-ERR", "'No'"),
    Control("PING", ""),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, len(STREAM)])
def test_the_parser_sees_the_same_events_in_any_chunking(size: int) -> None:
    parser = PlainParser()
    chunks = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    assert [event for chunk in chunks for event in parser.feed(chunk)] == EVENTS
