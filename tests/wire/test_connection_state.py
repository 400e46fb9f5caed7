"""The state machine of a connection, by the rules of ADR-40: every rule without a socket and without waiting."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from natsvc.errors import (
    AuthorizationError,
    ConnectionClosedError,
    ConnectionLostError,
    HeaderError,
    MaxPayloadError,
    NoRespondersError,
    NoServersError,
    OutboundBufferError,
    PermissionsError,
    ProtocolError,
    RequestTimeoutError,
    ServerError,
    StaleConnectionError,
    SubjectError,
)
from natsvc.headers import Headers
from natsvc.wire.connection import Status
from natsvc.wire.effects import Closed, Dial, Disconnect, Notify, StartTls, WakeAt
from natsvc.wire.outbox import EARLY, WRITE_SIZE
from tests.wire.machine import SECOND, Machine, Waiting


def hello(sent: bytes) -> dict[str, Any]:
    """The fields of the CONNECT that was sent."""
    line = next(line for line in sent.split(b"\r\n") if line.startswith(b"CONNECT "))
    fields: dict[str, Any] = json.loads(line[len(b"CONNECT ") :])
    return fields


# The handshake


def test_opening_dials_the_first_server_at_once() -> None:
    machine = Machine("nats://a:1").open()
    (dial,) = machine.all(Dial)
    assert (dial.address.host, dial.address.port) == ("a", 1)
    assert machine.state.status is Status.CONNECTING


def test_nothing_is_sent_before_the_server_has_greeted() -> None:
    machine = Machine().open().dial()
    assert machine.sent == b""


def test_the_greeting_is_answered_by_connect_and_ping() -> None:
    machine = Machine(name="me").open().dial()
    machine.greet()
    assert re.fullmatch(rb"CONNECT \{.*\}\r\nPING\r\n", machine.sent)
    fields = hello(machine.sent)
    assert fields["name"] == "me"
    assert fields["version"] == "1.2.3"
    assert (fields["verbose"], fields["headers"], fields["no_responders"]) == (False, True, True)


def test_the_pong_opens_the_connection() -> None:
    machine = Machine("nats://a:1").open().dial()
    machine.greet(server_name="s1")
    assert not machine.opened.is_settled
    machine.receive(b"PONG\r\n")
    assert machine.opened.outcome is None
    assert machine.state.is_connected
    assert machine.state.connected_url == "nats://a:1"
    assert machine.state.server_info["server_name"] == "s1"
    assert machine.notices("on_reconnect") == []


def test_ok_says_nothing() -> None:
    machine = Machine().open().dial()
    machine.greet()
    machine.receive(b"+OK\r\nPONG\r\n")
    assert machine.opened.outcome is None


def test_a_ping_of_the_server_during_the_handshake_is_answered() -> None:
    machine = Machine().open().dial()
    machine.greet()
    machine.take_sent()
    machine.receive(b"PING\r\n")
    assert machine.take_sent() == b"PONG\r\n"


def test_the_largest_payload_is_what_the_server_says() -> None:
    assert Machine().open().state.max_payload == 1024 * 1024
    assert Machine().connected(max_payload=77).state.max_payload == 77


@pytest.mark.parametrize("strange", [None, "77", 0, -1, 1.5, True])
def test_a_strange_max_payload_is_not_believed(strange: object) -> None:
    assert Machine().connected(max_payload=strange).state.max_payload == 1024 * 1024


def test_what_a_server_says_that_does_not_let_us_in_is_not_relied_on() -> None:
    machine = Machine(["nats://a:1", "nats://b:1"]).open().dial()
    machine.greet(max_payload=10, server_name="odd")
    machine.receive(b"-ERR 'Authorization Violation'\r\n")
    assert machine.state.max_payload == 1024 * 1024
    assert machine.state.server_info == {}


def test_a_ping_before_the_pong_that_lets_us_in_is_answered() -> None:
    machine = Machine().open().dial()
    machine.greet()
    machine.take_sent()
    machine.receive(b"PING\r\nPONG\r\n")
    assert machine.take_sent() == b"PONG\r\n"


def test_a_reason_without_words_is_named_by_its_type() -> None:
    machine = Machine().open()
    machine.state.dial_failed(machine.number, TimeoutError(), machine.now)
    machine.perform()
    assert str(machine.opened.outcome).endswith(": TimeoutError")


def test_a_server_that_says_nothing_is_left_at_the_deadline() -> None:
    machine = Machine(connect_timeout=2.0).open().dial()
    machine.pass_time(1.9)
    assert not machine.is_cut
    machine.pass_time(0.2)
    assert machine.is_cut
    assert isinstance(machine.opened.outcome, NoServersError)
    assert isinstance(machine.opened.outcome.__cause__, TimeoutError)
    assert machine.closed_by is machine.opened.outcome


def test_a_server_that_doesnt_answer_connect_is_left_at_the_deadline_too() -> None:
    machine = Machine(connect_timeout=2.0).open().dial()
    machine.greet()
    machine.pass_time(2.0)
    assert isinstance(machine.opened.outcome, NoServersError)


def test_without_a_server_opening_fails_with_the_reason() -> None:
    machine = Machine("nats://a:1").open()
    machine.refuse()
    error = machine.opened.outcome
    assert isinstance(error, NoServersError)
    assert isinstance(error.__cause__, ConnectionRefusedError)
    assert "nats://a:1" in str(error)
    assert machine.state.is_closed
    assert machine.notices("on_close") == []  # there was no connection yet


def test_each_server_is_tried_once_and_without_waiting() -> None:
    machine = Machine(["nats://a:1", "nats://b:1"]).open()
    machine.refuse()
    assert machine.dialled_hosts == ["a", "b"]
    machine.let_in()
    assert machine.state.connected_url == "nats://b:1"


def test_a_server_that_hangs_up_during_the_handshake_is_a_failed_attempt() -> None:
    machine = Machine(["nats://a:1", "nats://b:1"]).open().dial()
    machine.lose()
    assert machine.dialled_hosts == ["a", "b"]


def test_what_the_server_says_before_it_hangs_up_is_the_reason() -> None:
    machine = Machine().open().dial()
    machine.greet()
    machine.receive(b"-ERR 'maximum connections exceeded'\r\n")
    assert isinstance(machine.opened.outcome.__cause__, ServerError)
    assert "maximum connections exceeded" in str(machine.opened.outcome)


def test_refused_credentials_are_an_authorization_error() -> None:
    machine = Machine(user="u", password="topsecret").open().dial()
    machine.greet(auth_required=True)
    assert hello(machine.sent)["pass"] == "topsecret"
    machine.receive(b"-ERR 'Authorization Violation'\r\n")
    assert isinstance(machine.opened.outcome, AuthorizationError)
    assert "topsecret" not in repr(machine.opened.outcome)


def test_of_several_reasons_refused_credentials_are_told() -> None:
    machine = Machine(["nats://a:1", "nats://b:1"]).open().dial()
    machine.greet()
    machine.receive(b"-ERR 'Authorization Violation'\r\n")
    machine.refuse()
    assert isinstance(machine.opened.outcome, AuthorizationError)


def test_an_nkey_without_a_nonce_to_sign_fails_the_attempt() -> None:
    nkeys = pytest.importorskip("nkeys")
    seed = nkeys.encode_seed(b"0" * 32, nkeys.PREFIX_BYTE_USER).decode()
    machine = Machine(nkey_seed=seed).open().dial()
    machine.greet()
    assert isinstance(machine.opened.outcome, AuthorizationError)


def test_with_retry_on_failed_connect_the_connection_is_there_before_the_server_is() -> None:
    machine = Machine(retry_on_failed_connect=True, reconnect_wait=2.0).open()
    machine.refuse()
    assert machine.opened.outcome is None
    assert machine.state.status is Status.RECONNECTING
    machine.publish("early", b"x")
    machine.wait_for_dial().let_in()
    assert machine.sent.endswith(b"PUB early 1\r\nx\r\n")
    assert machine.notices("on_reconnect") == ["nats://a:1"]


# TLS


def test_tls_is_started_where_the_server_demands_it() -> None:
    machine = Machine("nats://host:1").open().dial()
    machine.greet(tls_required=True)
    assert machine.last(StartTls).server_name == "host"
    assert machine.sent == b""
    machine.start_tls()
    assert hello(machine.sent)["tls_required"] is True
    machine.receive(b"PONG\r\n")
    assert machine.state.is_connected


def test_tls_is_started_where_the_user_demands_it_and_the_server_offers_it() -> None:
    machine = Machine("tls://host:1").open().dial()
    machine.greet(tls_available=True)
    assert machine.asked_for_tls


def test_tls_that_the_server_only_offers_is_not_used() -> None:
    machine = Machine("nats://host:1").open().dial()
    machine.greet(tls_available=True)
    assert not machine.asked_for_tls
    assert hello(machine.sent)["tls_required"] is False


def test_no_password_is_sent_in_clear_where_tls_is_demanded() -> None:
    machine = Machine("tls://u:topsecret@host:1").open().dial()
    machine.greet()
    assert machine.sent == b""
    assert isinstance(machine.opened.outcome, NoServersError)


def test_handshake_first_starts_tls_before_the_greeting() -> None:
    machine = Machine("nats://host:1", tls_handshake_first=True, tls_hostname="other").open().dial()
    assert machine.last(StartTls).server_name == "other"
    machine.start_tls()
    assert machine.sent == b""
    machine.greet(tls_required=True)
    assert len(machine.all(StartTls)) == 1
    assert hello(machine.sent)["tls_required"] is True


@pytest.mark.parametrize("injected", [b'INFO {"evil": true}\r\n', b"PING\r\n", b"MSG a 1 1\r\nx\r\nPONG\r\n", b"PI"])
def test_bytes_in_clear_where_tls_is_to_begin_are_a_protocol_error(injected: bytes) -> None:
    machine = Machine("nats://host:1").open().dial()
    machine.receive(b'INFO {"tls_required": true}\r\n' + injected)
    assert isinstance(machine.opened.outcome.__cause__, ProtocolError)
    assert machine.sent == b""


def test_a_server_that_has_not_let_us_in_delivers_nothing() -> None:
    machine = Machine("nats://a:1").connected()
    _, received = machine.subscribe("a")
    machine.lose()
    machine.wait_for_dial().dial()
    machine.receive(b"MSG a 1 1\r\nx\r\n")
    machine.greet()
    machine.receive(b"MSG a 1 1\r\nx\r\nPONG\r\nMSG a 1 1\r\ny\r\n")
    assert [message.data for message in received.messages] == [b"y"]


def test_an_nkey_without_a_nonce_fails_also_after_tls() -> None:
    nkeys = pytest.importorskip("nkeys")
    seed = nkeys.encode_seed(b"0" * 32, nkeys.PREFIX_BYTE_USER).decode()
    machine = Machine(nkey_seed=seed).open().dial()
    machine.greet(tls_required=True)
    machine.start_tls()
    assert isinstance(machine.opened.outcome, AuthorizationError)


def test_a_failed_tls_handshake_is_a_failed_attempt() -> None:
    machine = Machine("tls://host:1").open().dial()
    machine.greet(tls_required=True)
    machine.lose(OSError("bad certificate"))
    assert "bad certificate" in str(machine.opened.outcome)


# What the front-end says too late


def test_what_comes_of_an_attempt_that_is_over_changes_nothing() -> None:
    machine = Machine(["nats://a:1", "nats://b:1"]).open().dial()
    old = machine.number
    machine.lose()
    machine.dial()
    state = machine.state
    state.dialled(old)
    state.dial_failed(old, OSError(), machine.now)
    state.tls_started(old, machine.now)
    state.lost(old, None, machine.now)
    assert state.received(old, b"PING\r\n", machine.now) == []
    machine.perform()
    assert machine.dialled_hosts == ["a", "b"]
    machine.greet()
    machine.receive(b"PONG\r\n")
    assert state.is_connected


def test_a_wake_before_its_time_asks_to_be_woken_again() -> None:
    machine = Machine(ping_interval=120.0).connected()
    at = machine.wake_at
    assert at is not None
    machine.noted.clear()
    machine.now = at - 1
    machine.state.wake(machine.now)
    machine.perform()
    assert machine.sent == b""
    assert machine.wake_at == at
    machine.pass_time(1)
    assert machine.sent == b"PING\r\n"


def test_a_wake_that_nobody_has_asked_for_changes_nothing() -> None:
    machine = Machine().connected()
    machine.close()
    machine.state.wake(machine.now)
    assert machine.state.effects == []


# Publishing


def test_a_message_is_published() -> None:
    machine = Machine().connected()
    machine.publish("a.b", b"data", reply="r")
    machine.publish("a.b", b"", headers={"Key": "value"})
    assert machine.sent == b"PUB a.b r 4\r\ndata\r\nHPUB a.b 24 24\r\nNATS/1.0\r\nKey: value\r\n\r\n\r\n"


def test_a_subject_to_publish_to_is_text() -> None:
    machine = Machine().connected()
    with pytest.raises(SubjectError, match="must be a str"):
        machine.state.publish(b"a 1\r\nx\r\nPUB b", b"hello")  # type: ignore[arg-type]
    machine.perform()
    assert machine.sent == b""


@pytest.mark.parametrize("reply", [b"_INBOX.1", b"_INBOX.\xff\xfe", b"a\x01b", "größe".encode(), b"r" * 4000])
@pytest.mark.parametrize("headers", [{}, {"a": "b"}])
def test_an_answer_goes_to_the_bytes_that_asked_for_it(reply: bytes, headers: dict[str, str]) -> None:
    machine = Machine().connected()
    block = Headers(headers).encode() if headers else b""
    machine.state.answer((reply, b"hello", None, block))
    sizes = b"%d %d" % (len(block), len(block) + 5) if headers else b"5"
    machine.perform()
    assert machine.sent == b"%b %b %b\r\n%bhello\r\n" % (b"HPUB" if headers else b"PUB", reply, sizes, block)


def test_an_answer_to_a_reply_subject_longer_than_the_server_reads_is_refused() -> None:
    machine = Machine().connected()
    with pytest.raises(MaxPayloadError) as caught:
        machine.state.send(b"r" * 4095, b"hello", "", b"")
    assert caught.value.part == "command line"
    machine.perform()
    assert machine.sent == b""


@pytest.mark.parametrize("size", [0, 1024, 1025, 2000])
def test_an_answer_of_any_size_is_sent_whole(size: int) -> None:
    machine = Machine().connected()
    machine.state.answer((b"r", b"x" * size, None, b""))
    machine.perform()
    assert machine.sent == b"PUB r %d\r\n%b\r\n" % (size, b"x" * size)


@pytest.mark.parametrize("size", [31, 2000])
def test_an_answer_that_the_server_does_not_take_is_refused(size: int) -> None:
    machine = Machine().connected(max_payload=30)
    with pytest.raises(MaxPayloadError) as caught:
        machine.state.answer((b"r", b"x" * size, None, b""))
    assert (caught.value.size, caught.value.limit) == (size, 30)
    assert not machine.state.has_outgoing


def test_while_disconnected_answers_are_kept_as_far_as_there_is_room() -> None:
    machine = Machine(reconnect_buffer=25).connected()
    machine.lose()
    for data in b"1", b"2":
        machine.state.answer((b"r", data, None, b""))
    with pytest.raises(OutboundBufferError):
        machine.state.answer((b"r", b"3", None, b""))
    machine.wait_for_dial().let_in()
    assert machine.sent.endswith(b"PUB r 1\r\n1\r\nPUB r 1\r\n2\r\n")


def test_after_the_close_there_are_no_answers() -> None:
    machine = Machine().connected()
    machine.state.close()
    with pytest.raises(ConnectionClosedError):
        machine.state.answer((b"r", b"", None, b""))


def test_the_writing_of_an_answer_has_to_be_seen_to_unless_it_is_due() -> None:
    machine = Machine().connected()
    assert machine.state.answer((b"r", b"", None, b""))
    machine.state.is_write_due = True
    assert not machine.state.answer((b"r", b"", None, b""))


@pytest.mark.parametrize(("data", "number"), [(b"", EARLY), (b"x" * 2000, WRITE_SIZE // 2000 + 1)])
def test_the_writing_of_many_answers_and_of_large_ones_has_to_be_seen_to_in_any_case(data: bytes, number: int) -> None:
    machine = Machine().connected()
    machine.state.is_write_due = True
    seen = [machine.state.answer((b"r", data, None, b"")) for _ in range(number)]
    assert seen.index(True) == number - 1
    machine.state.take_outgoing()
    assert not machine.state.answer((b"r", data, None, b""))


def test_text_is_published_as_utf_8() -> None:
    machine = Machine().connected()
    machine.state.publish("a", "é")
    machine.perform()
    assert machine.sent == b"PUB a 2\r\n\xc3\xa9\r\n"


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPING", "a\tb", "a\x00", None])
def test_a_bad_subject_is_refused(subject: Any) -> None:
    machine = Machine().connected()
    with pytest.raises(SubjectError):
        machine.state.publish(subject, b"")
    with pytest.raises(SubjectError):
        machine.state.subscribe(subject, "", print, print)
    assert not machine.state.has_outgoing


def test_a_bad_header_is_refused() -> None:
    machine = Machine().connected()
    with pytest.raises(HeaderError):
        machine.state.publish("a", b"", headers={"a": "x\r\nb: y"})
    assert not machine.state.has_outgoing


def test_headers_and_data_beyond_max_payload_are_refused_before_anything_is_sent() -> None:
    machine = Machine().connected(max_payload=30)
    machine.publish("a", b"x" * 30)
    with pytest.raises(MaxPayloadError) as caught:
        machine.publish("a", b"x" * 10, headers={"Key": "value"})
    assert (caught.value.size, caught.value.limit) == (34, 30)


def test_while_disconnected_messages_are_kept_and_sent_after_the_reconnect() -> None:
    machine = Machine().connected()
    machine.lose()
    machine.publish("a", b"1")
    machine.publish("a", b"2")
    assert machine.sent == b""
    machine.wait_for_dial().let_in()
    assert machine.sent.endswith(b"PUB a 1\r\n1\r\nPUB a 1\r\n2\r\n")


def test_what_was_not_handed_over_when_the_connection_broke_is_sent_after_the_reconnect() -> None:
    machine = Machine().connected()
    machine.state.publish("a", b"1")
    machine.state.ping(Waiting())
    machine.lose()
    machine.wait_for_dial().let_in()
    assert machine.sent.endswith(b"PING\r\nPUB a 1\r\n1\r\n")
    assert machine.sent.count(b"PING") == 1  # that of the handshake


def test_the_reconnect_buffer_is_bounded_and_keeps_the_oldest() -> None:
    machine = Machine(reconnect_buffer=25).connected()
    machine.lose()
    machine.publish("a", b"1")
    machine.publish("a", b"2")
    with pytest.raises(OutboundBufferError):
        machine.publish("a", b"3")
    assert machine.state.outgoing_size == len(b"PUB a 1\r\n1\r\n") * 2
    machine.wait_for_dial().let_in()
    assert machine.sent.endswith(b"PUB a 1\r\n1\r\nPUB a 1\r\n2\r\n")


def test_a_kept_message_that_the_next_server_does_not_take_is_reported_and_not_sent() -> None:
    machine = Machine().connected(max_payload=100)
    machine.lose()
    machine.publish("a", b"x" * 50)
    machine.publish("a", b"y")
    machine.wait_for_dial().let_in(max_payload=10)
    assert b"xxx" not in machine.sent
    assert machine.sent.endswith(b"PUB a 1\r\ny\r\n")
    (error,) = machine.notices("on_error")
    assert isinstance(error, MaxPayloadError)
    assert (error.size, error.limit) == (50, 10)


# Subscriptions


def test_a_subscription_gets_its_messages() -> None:
    machine = Machine().connected()
    _, received = machine.subscribe("a.*", "q")
    assert machine.take_sent() == b"SUB a.* q 1\r\n"
    machine.receive(b"MSG a.b 1 reply 4\r\ndata\r\n")
    (message,) = received.messages
    assert (message.subject, message.reply, message.data) == ("a.b", "reply", b"data")


def test_messages_of_nobody_are_ignored() -> None:
    machine = Machine().connected()
    machine.receive(b"MSG a.b 99 4\r\ndata\r\n")
    assert machine.state.is_connected


def test_after_unsubscribe_messages_are_delivered_until_the_server_has_taken_note() -> None:
    machine = Machine().connected()
    subscription, received = machine.subscribe("a")
    machine.state.unsubscribe(subscription)
    machine.state.unsubscribe(subscription)
    machine.perform()
    assert machine.take_sent() == b"SUB a 1\r\nUNSUB 1\r\n"
    machine.receive(b"MSG a 1 1\r\nx\r\n")
    assert len(received.messages) == 1
    machine.state.forget(subscription)
    machine.perform()
    machine.receive(b"MSG a 1 1\r\nx\r\n")
    assert len(received.messages) == 1
    assert machine.take_sent() == b""


def test_a_subscription_that_the_server_refuses_gets_nothing_that_comes_after_that_in_the_same_bytes() -> None:
    machine = Machine().connected()
    _, refused = machine.subscribe("a")
    _, other = machine.subscribe("b")
    machine.receive(
        b"MSG a 1 1\r\nx\r\n-ERR 'Permissions Violation for Subscription to \"a\"'\r\n"
        b"MSG a 1 1\r\ny\r\nMSG b 2 1\r\nz\r\n"
    )
    assert [message.data for message in refused.messages] == [b"x"]
    assert [message.data for message in other.messages] == [b"z"]


def test_forgetting_unsubscribes_where_that_has_not_been_done() -> None:
    machine = Machine().connected()
    subscription, _ = machine.subscribe("a")
    machine.state.forget(subscription)
    machine.state.forget(subscription)
    machine.perform()
    assert machine.sent == b"SUB a 1\r\nUNSUB 1\r\n"


def test_subscriptions_are_made_again_after_a_reconnect_ahead_of_what_was_published() -> None:
    machine = Machine().connected()
    machine.subscribe("a", "q")
    leaving, _ = machine.subscribe("b")
    machine.state.unsubscribe(leaving)
    machine.lose()
    machine.subscribe("c")
    machine.publish("x")
    machine.take_sent()
    machine.wait_for_dial().let_in()
    assert machine.sent.endswith(b"PING\r\nSUB a q 1\r\nSUB c 3\r\nPUB x 0\r\n\r\n")


def test_a_subscription_unsubscribed_while_disconnected_is_not_made_again() -> None:
    machine = Machine().connected()
    subscription, _ = machine.subscribe("a")
    machine.lose()
    machine.state.unsubscribe(subscription)
    machine.take_sent()
    machine.wait_for_dial().let_in()
    assert b"SUB" not in machine.sent


def test_a_refused_subscription_ends_and_is_not_made_again() -> None:
    machine = Machine().connected()
    _, first = machine.subscribe("secret.x", "q")
    _, other = machine.subscribe("secret.x")
    machine.receive(b'-ERR \'Permissions Violation for Subscription to "secret.x" using queue "q"\'\r\n')
    error = first.outcome
    assert isinstance(error, PermissionsError)
    assert (error.operation, error.subject) == ("subscription", "secret.x")
    assert not other.is_settled
    assert machine.notices("on_error") == [error]
    machine.lose()
    machine.take_sent()
    machine.wait_for_dial().let_in()
    assert b"SUB secret.x 2\r\n" in machine.sent
    assert b" q " not in machine.sent


def test_of_several_alike_new_permissions_end_the_one_they_name() -> None:
    machine = Machine().connected()
    _, first = machine.subscribe("a")
    _, second = machine.subscribe("a")
    machine.receive(b'-ERR \'Permissions Violation for Subscription to "a" (sid "2")\'\r\n')
    assert not first.is_settled
    assert isinstance(second.outcome, PermissionsError)


def test_a_refused_publication_is_reported_with_its_subject() -> None:
    machine = Machine().connected()
    machine.receive(b"-ERR 'Permissions Violation for Publish to \"Secret.X\"'\r\n")
    (error,) = machine.notices("on_error")
    assert isinstance(error, PermissionsError)
    assert (error.operation, error.subject) == ("publish", "Secret.X")
    assert machine.state.is_connected


def test_the_subscriptions_beyond_the_servers_limit_are_the_last_ones() -> None:
    machine = Machine().connected()
    (_, first), (_, second), (_, third) = (machine.subscribe(subject) for subject in "abc")
    machine.receive(b"-ERR 'maximum subscriptions exceeded'\r\n" * 2)
    assert not first.is_settled
    assert isinstance(second.outcome, ServerError)
    assert isinstance(third.outcome, ServerError)
    assert len(machine.notices("on_error")) == 2


def test_a_subscription_that_is_taken_for_the_refused_one_is_unsubscribed() -> None:
    machine = Machine().connected()
    machine.subscribe("a")
    machine.take_sent()
    machine.receive(b"-ERR 'maximum subscriptions exceeded'\r\n")
    assert machine.take_sent() == b"UNSUB 1\r\n"


def test_too_many_subscriptions_where_there_is_none_is_reported_only() -> None:
    machine = Machine().connected()
    machine.receive(b"-ERR 'maximum subscriptions exceeded'\r\n")
    assert len(machine.notices("on_error")) == 1


def test_an_invalid_subject_is_an_event() -> None:
    machine = Machine().connected()
    machine.receive(b"-ERR 'Invalid Subject'\r\n")
    assert isinstance(machine.notices("on_error")[0], ServerError)
    assert machine.state.is_connected


# Flush


def test_a_flush_is_over_when_the_server_has_answered_all_pings_before_it() -> None:
    machine = Machine().connected()
    first, second = machine.ping(), machine.ping()
    machine.receive(b"PONG\r\n")
    assert first.is_settled
    assert not second.is_settled
    machine.receive(b"PONG\r\n")
    assert second.outcome is None


def test_a_flush_breaks_with_the_connection() -> None:
    machine = Machine().connected()
    waiting = machine.ping()
    machine.lose(OSError("cable"))
    assert isinstance(waiting.outcome, ConnectionLostError)
    assert str(waiting.outcome.__cause__) == "cable"


def test_a_confirmation_is_over_with_the_pong_with_the_connection_or_at_once_without_one() -> None:
    machine = Machine().connected()
    answered, broken, without, closed = Waiting(), Waiting(), Waiting(), Waiting()
    machine.state.confirm(answered)
    machine.state.confirm(broken)
    machine.perform()
    machine.receive(b"PONG\r\n")
    assert answered.outcome is None
    assert not broken.is_settled
    machine.lose()
    assert broken.outcome is None
    machine.state.confirm(without)
    machine.perform()
    assert without.outcome is None
    machine.wait_for_dial().let_in()
    machine.state.confirm(closed)
    machine.close()
    assert isinstance(closed.outcome, ConnectionClosedError)


def test_all_flushes_while_disconnected_share_one_ping_and_those_given_up_have_none() -> None:
    machine = Machine().connected()
    machine.lose()
    given_up, first, second = machine.ping(), machine.ping(), machine.ping()
    machine.state.forget_ping(given_up)
    machine.state.forget_ping(given_up)
    machine.wait_for_dial().let_in()
    assert machine.sent.count(b"PING\r\n") == 2  # the other one is the handshake's
    machine.receive(b"PONG\r\n")
    assert (first.outcome, second.outcome) == (None, None)
    assert not given_up.is_settled


def test_a_flush_while_disconnected_waits_for_the_reconnect() -> None:
    machine = Machine().connected()
    machine.lose()
    machine.publish("a")
    waiting = machine.ping()
    machine.wait_for_dial().let_in()
    assert machine.sent.endswith(b"PUB a 0\r\n\r\nPING\r\n")
    assert not waiting.is_settled
    machine.receive(b"PONG\r\n")
    assert waiting.outcome is None


def test_a_pong_that_nobody_has_asked_for_is_ignored() -> None:
    machine = Machine().connected()
    machine.receive(b"PONG\r\n")
    assert machine.state.is_connected


# Requests


def test_requests_share_one_subscription_and_each_gets_its_own_answer() -> None:
    machine = Machine().connected()
    first_reply, first = machine.request("svc", b"1")
    second_reply, second = machine.request("svc", b"2")
    sent = machine.take_sent()
    assert sent.count(b"SUB ") == 1
    inbox = first_reply.rpartition(".")[0]
    assert inbox.startswith("_INBOX.")
    assert f"SUB {inbox}.* 1\r\n".encode() in sent
    assert f"PUB svc {second_reply} 1\r\n2\r\n".encode() in sent
    machine.receive(f"MSG {second_reply} 1 3\r\ntwo\r\nMSG {first_reply} 1 3\r\none\r\n".encode())
    assert (first.outcome.data, second.outcome.data) == (b"one", b"two")


def test_a_second_answer_and_one_that_nobody_waits_for_are_dropped() -> None:
    machine = Machine().connected()
    reply, waiting = machine.request("svc")
    late_reply, late = machine.request("svc")
    machine.state.forget_request(late_reply)
    machine.receive(f"MSG {reply} 1 1\r\na\r\nMSG {reply} 1 1\r\nb\r\nMSG {late_reply} 1 1\r\nc\r\n".encode())
    assert waiting.outcome.data == b"a"
    assert not late.is_settled


def test_no_responders_are_an_error_that_names_the_subject() -> None:
    machine = Machine().connected()
    reply, waiting = machine.request("svc")
    machine.receive(f"HMSG {reply} 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n".encode())
    assert isinstance(waiting.outcome, NoRespondersError)
    assert waiting.outcome.subject == "svc"


def test_a_status_beside_data_is_an_answer() -> None:
    machine = Machine().connected()
    reply, waiting = machine.request("svc")
    machine.receive(f"HMSG {reply} 1 16 17\r\nNATS/1.0 503\r\n\r\nx\r\n".encode())
    assert waiting.outcome.data == b"x"


def test_a_request_outlives_a_reconnect() -> None:
    machine = Machine().connected()
    reply, waiting = machine.request("svc")
    machine.lose()
    machine.wait_for_dial().let_in()
    assert not waiting.is_settled
    machine.receive(f"MSG {reply} 1 1\r\na\r\n".encode())
    assert waiting.outcome.data == b"a"


def test_a_request_is_told_when_its_time_is_over() -> None:
    machine = Machine().connected()
    _, long = machine.request("svc.long", timeout=3)
    _, short = machine.request("svc.short", timeout=0.5)
    _, patient = machine.request("svc.patient")
    assert machine.wake_at == machine.now + SECOND // 2
    machine.pass_time(0.499)
    assert not short.is_settled
    machine.pass_time(0.001)
    assert isinstance(short.outcome, RequestTimeoutError)
    assert str(short.outcome) == "the request to 'svc.short' was not answered within 0.5 s"
    assert not long.is_settled
    machine.pass_time(100)
    assert isinstance(long.outcome, RequestTimeoutError)
    assert not patient.is_settled


def test_an_answer_that_comes_too_late_is_dropped() -> None:
    machine = Machine().connected()
    reply, waiting = machine.request("svc", timeout=1)
    machine.pass_time(1)
    machine.receive(f"MSG {reply} 1 1\r\na\r\n".encode())
    assert isinstance(waiting.outcome, RequestTimeoutError)


def test_the_time_of_a_request_runs_also_while_there_is_no_connection() -> None:
    machine = Machine(reconnect_wait=100.0).connected()
    _, waiting = machine.request("svc", timeout=3)
    machine.lose()
    _, meanwhile = machine.request("svc", timeout=2)
    machine.pass_time(3)
    assert isinstance(waiting.outcome, RequestTimeoutError)
    assert isinstance(meanwhile.outcome, RequestTimeoutError)
    machine.wait_for_dial().let_in()


def test_the_server_is_asked_whether_it_is_there_whatever_requests_time_out() -> None:
    machine = Machine(ping_interval=10.0).connected()
    for _ in range(3):
        machine.request("svc", timeout=4)
        machine.pass_time(5)
    assert machine.take_sent().count(b"PING") == 1


def test_for_requests_that_were_answered_nobody_is_woken_each_time_and_nothing_is_kept() -> None:
    machine = Machine().connected()
    wakes = len(machine.all(WakeAt))
    for _ in range(10_000):
        reply, _ = machine.request("svc", timeout=5)
        machine.now += 1_000_000
        machine.receive(f"MSG {reply} 1 1\r\na\r\n".encode())
    assert len(machine.all(WakeAt)) - wakes == 1
    inbox = machine.state._inbox
    assert inbox is not None
    assert len(inbox) == 0
    assert len(inbox._deadlines) < 100
    machine.pass_time(5)
    assert machine.wake_at == machine.state._wake_at


def test_a_request_that_can_not_be_sent_is_not_waited_for() -> None:
    machine = Machine().connected(max_payload=1)
    with pytest.raises(MaxPayloadError):
        machine.request("svc", b"12")
    assert machine.state._inbox is not None
    assert len(machine.state._inbox) == 0


def test_where_the_inbox_is_refused_requests_fail_at_once() -> None:
    machine = Machine(inbox_prefix="_private").connected()
    reply, waiting = machine.request("svc")
    inbox = reply.rpartition(".")[0] + ".*"
    machine.receive(f"-ERR 'Permissions Violation for Subscription to \"{inbox}\"'\r\n".encode())
    assert isinstance(waiting.outcome, PermissionsError)
    machine.take_sent()
    machine.request("svc")
    assert b"SUB _private." in machine.sent  # it may be allowed by now


def test_a_request_that_the_user_may_not_send_fails_at_once() -> None:
    machine = Machine().connected()
    _, forbidden = machine.request("secret")
    _, allowed = machine.request("svc")
    machine.receive(b"-ERR 'Permissions Violation for Publish to \"secret\"'\r\n")
    assert isinstance(forbidden.outcome, PermissionsError)
    assert not allowed.is_settled


def test_all_answers_to_a_collection_are_received_until_it_is_forgotten() -> None:
    machine = Machine().connected()
    machine.take_sent()
    subscription, received, failed = machine.collect("svc", b"x")
    inbox = subscription.subject
    assert machine.sent.endswith(f"SUB {inbox} 1\r\nPUB svc {inbox} 1\r\nx\r\n".encode())
    answer = f"MSG {inbox} 1 1\r\ny\r\n".encode()
    machine.receive(2 * answer)
    machine.state.forget(subscription)
    machine.receive(answer)
    assert [message.data for message in received.messages] == [b"y", b"y"]
    assert not failed.is_settled


def test_a_collection_that_the_user_may_not_send_or_receive_fails() -> None:
    machine = Machine().connected()
    _, _, forbidden = machine.collect("secret")
    inbox, _, unheard = machine.collect("svc")
    _, _, allowed = machine.collect("svc")
    machine.receive(b"-ERR 'Permissions Violation for Publish to \"secret\"'\r\n")
    machine.receive(f"-ERR 'Permissions Violation for Subscription to \"{inbox.subject}\"'\r\n".encode())
    assert isinstance(forbidden.outcome, PermissionsError)
    assert isinstance(unheard.outcome, PermissionsError)
    assert not allowed.is_settled


@pytest.mark.parametrize("error", [None, OSError("broken")])
def test_when_the_connection_is_closed_a_collection_fails(error: OSError | None) -> None:
    machine = Machine().connected()
    _, _, failed = machine.collect("svc")
    machine.close(error)
    assert isinstance(failed.outcome, ConnectionClosedError)


def test_a_collection_that_cannot_be_sent_leaves_no_subscription() -> None:
    machine = Machine().connected()
    with pytest.raises(SubjectError):
        machine.collect("not a subject")
    assert machine.state._subscriptions == {}


def test_forgetting_a_request_without_any_inbox_changes_nothing() -> None:
    Machine().connected().state.forget_request("x")


def test_inboxes_are_all_different() -> None:
    state = Machine(inbox_prefix="_me").state
    inboxes = {state.new_inbox() for _ in range(100)}
    assert len(inboxes) == 100
    assert all(re.fullmatch(r"_me\.[0-9A-Za-z]{22}", inbox) for inbox in inboxes)


# Losing a connection


def test_a_lost_connection_is_told_and_another_one_made() -> None:
    machine = Machine("nats://a:1", reconnect_wait=2.0).connected()
    machine.lose(OSError("cable"))
    assert machine.state.status is Status.RECONNECTING
    assert not machine.state.is_connected
    assert machine.state.connected_url is None
    assert str(machine.notices("on_disconnect")[0]) == "cable"
    machine.wait_for_dial().let_in()
    assert machine.state.is_connected
    assert machine.notices("on_reconnect") == ["nats://a:1"]


def test_another_server_is_tried_at_once_and_the_lost_one_after_a_wait() -> None:
    machine = Machine(["nats://a:1", "nats://b:1"], reconnect_wait=2.0).connected()
    machine.lose()
    assert machine.dialled_hosts == ["a", "b"]
    machine.refuse()
    assert machine.dialled_hosts == ["a", "b"]
    machine.pass_time(2.1)
    assert machine.dialled_hosts == ["a", "b", "a"]


def test_servers_that_the_server_names_are_used() -> None:
    machine = Machine("nats://a:1").connected(connect_urls=["b:2", 7, "c:\x00"])
    machine.lose()
    assert machine.dialled_hosts == ["a", "b"]


def test_a_server_that_is_named_in_clear_needs_a_certificate_for_the_name_of_the_one_that_named_it() -> None:
    machine = Machine("tls://alice:topsecret@good.example:1").open().dial()
    machine.greet(tls_required=True, connect_urls=["evil.example:4222"])
    machine.start_tls()
    machine.receive(b"PONG\r\n")
    machine.lose()
    assert machine.dialled_hosts[-1] == "evil.example"
    machine.dial()
    machine.greet(tls_required=True)
    assert machine.last(StartTls).server_name == "good.example"


def test_a_server_that_is_named_under_tls_has_a_name_of_its_own() -> None:
    machine = Machine("tls://good.example:1").open().dial()
    machine.greet(tls_required=True, connect_urls=["other.example:4222"])
    machine.start_tls()
    machine.receive(b"PONG\r\n")
    machine.greet(tls_required=True, connect_urls=["other.example:4222"])
    machine.lose()
    machine.dial()
    machine.greet(tls_required=True)
    assert machine.last(StartTls).server_name == "other.example"


def test_without_reconnects_allowed_the_first_loss_closes() -> None:
    machine = Machine(allow_reconnect=False).connected()
    machine.lose(OSError("cable"))
    assert machine.state.is_closed
    assert isinstance(machine.closed_by, NoServersError)
    assert str(machine.closed_by.__cause__) == "cable"
    assert machine.notices("on_close") == [machine.closed_by]


def test_when_all_reconnects_are_used_up_it_closes() -> None:
    machine = Machine(max_reconnects=2, reconnect_wait=1.0).connected()
    machine.lose()
    for _ in range(2):
        machine.wait_for_dial().refuse()
    assert machine.state.is_closed
    assert isinstance(machine.closed_by, NoServersError)


def test_reconnecting_on_demand_does_not_wait() -> None:
    machine = Machine("nats://a:1").connected()
    machine.state.reconnect(machine.now)
    machine.perform()
    assert machine.dialled_hosts == ["a", "a"]
    assert machine.all(Disconnect)[-1].number == 1
    assert machine.notices("on_disconnect") == [None]


def test_reconnecting_on_demand_sends_what_is_still_to_be_sent_first() -> None:
    machine = Machine("nats://a:1").connected()
    machine.state.publish("a", b"x")
    machine.state.reconnect(machine.now)
    machine.perform()
    (cut,) = machine.all(Disconnect)
    assert (cut.last_words, cut.in_order) == (b"PUB a 1\r\nx\r\n", True)
    machine.let_in()
    assert b"PUB" not in machine.sent


def test_reconnecting_on_demand_ends_a_wait() -> None:
    machine = Machine("nats://a:1").connected()
    machine.lose()
    machine.wait_for_dial().refuse()
    dialled = len(machine.dialled_hosts)
    machine.state.reconnect(machine.now)
    machine.perform()
    assert len(machine.dialled_hosts) == dialled + 1
    machine.state.reconnect(machine.now)  # an attempt is under way
    machine.perform()
    assert len(machine.dialled_hosts) == dialled + 1


def test_what_follows_the_end_of_a_connection_in_the_same_bytes_is_ignored() -> None:
    machine = Machine(["nats://a:1", "nats://b:1"]).connected()
    _, received = machine.subscribe("x")
    machine.receive(b"-ERR 'User Authentication Revoked'\r\n-ERR 'whatever'\r\nMSG x 1 1\r\ny\r\n")
    assert machine.dialled_hosts == ["a", "b"]
    assert received.messages == []
    assert not machine.is_cut


def test_bad_bytes_end_the_connection_and_it_is_made_anew() -> None:
    machine = Machine(["nats://a:1", "nats://b:1"]).connected()
    _, received = machine.subscribe("x")
    machine.receive(b"MSG x 1 1\r\ny\r\nWHAT\r\nMSG x 1 1\r\nz\r\n")
    assert [message.data for message in received.messages] == [b"y"]
    assert isinstance(machine.notices("on_disconnect")[0], ProtocolError)
    assert machine.dialled_hosts == ["a", "b"]


def test_half_a_message_of_a_lost_connection_is_not_delivered() -> None:
    machine = Machine(["nats://a:1", "nats://b:1"]).connected()
    _, received = machine.subscribe("x")
    machine.receive(b"MSG x 1 5\r\nab")
    machine.lose()
    machine.let_in()
    machine.receive(b"MSG x 1 1\r\nz\r\n")
    assert [message.data for message in received.messages] == [b"z"]


def test_an_unknown_error_is_reported_and_the_reason_if_the_server_hangs_up() -> None:
    machine = Machine().connected()
    machine.receive(b"-ERR 'Slow Consumer'\r\n")
    assert machine.state.is_connected
    assert isinstance(machine.notices("on_error")[0], ServerError)
    machine.lose()
    assert machine.notices("on_disconnect") == machine.notices("on_error")


def test_an_error_is_no_reason_any_more_once_the_server_has_gone_on() -> None:
    machine = Machine().connected()
    machine.receive(b"-ERR 'Odd'\r\n")
    machine.ping()
    machine.receive(b"PONG\r\n")
    machine.lose(OSError("cable"))
    assert str(machine.notices("on_disconnect")[0]) == "cable"


def test_a_lame_duck_is_told_once() -> None:
    machine = Machine().connected()
    machine.greet(ldm=True)
    machine.greet(ldm=True)
    assert len(machine.notices("on_lame_duck")) == 1
    assert machine.state.is_connected


# Credentials that are refused later


def test_revoked_credentials_close_the_connection_after_the_second_refusal() -> None:
    machine = Machine("nats://a:1", reconnect_wait=1.0).connected()
    machine.receive(b"-ERR 'User Authentication Revoked'\r\n")
    assert isinstance(machine.notices("on_error")[0], AuthorizationError)
    for refusals in (1, 2):
        machine.wait_for_dial().dial()
        machine.greet()
        assert not machine.state.is_closed
        machine.receive(b"-ERR 'Authorization Violation'\r\n")
        assert machine.state.is_closed is (refusals == 2)
    assert isinstance(machine.closed_by, AuthorizationError)


def test_refused_credentials_are_tried_for_ever_if_that_is_asked_for() -> None:
    machine = Machine("nats://a:1", reconnect_wait=1.0, ignore_auth_errors=True).connected()
    machine.lose()
    for _ in range(5):
        machine.wait_for_dial().dial()
        machine.greet()
        machine.receive(b"-ERR 'Authorization Violation'\r\n")
        assert not machine.state.is_closed


# Keep-alive


def test_a_ping_is_sent_after_each_interval() -> None:
    machine = Machine(ping_interval=120.0).connected()
    machine.pass_time(119)
    assert machine.sent == b""
    machine.pass_time(1)
    assert machine.take_sent() == b"PING\r\n"
    machine.receive(b"PONG\r\n")
    machine.pass_time(120)
    assert machine.take_sent() == b"PING\r\n"


def test_a_server_that_leaves_pings_unanswered_is_left() -> None:
    machine = Machine(ping_interval=120.0, max_pings_out=2).connected()
    machine.pass_time(359)
    assert machine.take_sent() == b"PING\r\nPING\r\n"
    assert machine.state.is_connected
    machine.pass_time(1)
    (error,) = machine.notices("on_disconnect")
    assert isinstance(error, StaleConnectionError)
    assert not machine.state.is_connected


def test_a_pong_in_time_shows_that_the_server_is_there() -> None:
    machine = Machine(ping_interval=120.0, max_pings_out=2).connected()
    for _ in range(10):
        machine.pass_time(240)
        machine.receive(b"PONG\r\nPONG\r\n")
    assert machine.state.is_connected


def test_a_ping_of_the_server_is_answered() -> None:
    machine = Machine().connected()
    machine.receive(b"PING\r\n")
    assert machine.sent == b"PONG\r\n"


# Closing


def test_closing_sends_what_is_still_to_be_sent_and_hangs_up() -> None:
    machine = Machine().connected()
    machine.state.publish("a", b"x")
    machine.close()
    assert machine.last(Disconnect).last_words == b"PUB a 1\r\nx\r\n"
    assert machine.closed_by is None
    assert machine.notices("on_close") == [None]
    assert machine.wake_at is None
    machine.close()
    assert len(machine.all(Closed)) == 1


def test_closing_tells_everybody_who_waits() -> None:
    machine = Machine().connected()
    _, received = machine.subscribe("a")
    _, answer = machine.request("svc")
    ping = machine.ping()
    machine.close()
    assert received.outcome is None
    assert isinstance(answer.outcome, ConnectionClosedError)
    assert isinstance(ping.outcome, ConnectionClosedError)


def test_a_connection_that_is_closed_by_an_error_tells_it_to_everybody() -> None:
    machine = Machine(allow_reconnect=False).connected()
    _, received = machine.subscribe("a")
    _, answer = machine.request("svc")
    machine.lose(OSError("cable"))
    for waiting in (received, answer):
        assert isinstance(waiting.outcome, ConnectionClosedError)
        assert waiting.outcome.__cause__ is machine.closed_by


def test_closing_while_disconnected_tells_those_who_wait_for_the_reconnect() -> None:
    machine = Machine().connected()
    machine.lose()
    ping = machine.ping()
    machine.close()
    assert isinstance(ping.outcome, ConnectionClosedError)
    dialled = len(machine.dialled_hosts)
    machine.pass_time(100)
    assert len(machine.dialled_hosts) == dialled


def test_closing_during_the_first_attempt_ends_it() -> None:
    machine = Machine().open()
    machine.close()
    assert machine.is_cut
    assert isinstance(machine.opened.outcome, ConnectionClosedError)
    machine.state.dialled(machine.number)
    machine.perform()
    assert machine.state.is_closed


def test_on_a_closed_connection_everything_says_so() -> None:
    machine = Machine().connected()
    subscription, _ = machine.subscribe("a")
    machine.close()
    state = machine.state
    for attempt in (
        lambda: state.publish("a", b""),
        lambda: state.subscribe("a", "", print, print),
        lambda: state.request("a", b"", None, print),
        lambda: state.ping(print),
        lambda: state.reconnect(machine.now),
    ):
        with pytest.raises(ConnectionClosedError):
            attempt()
    state.forget(subscription)
    assert not state.has_outgoing
    assert state.take_outgoing() == b""
    assert not machine.all(Notify)[:-1]


def test_a_connection_that_drains_takes_no_new_subscriptions_but_still_publishes() -> None:
    machine = Machine().connected()
    machine.state.is_draining = True
    with pytest.raises(ConnectionClosedError):
        machine.state.subscribe("a", "", print, print)
    machine.publish("a", b"x")
    assert machine.sent == b"PUB a 1\r\nx\r\n"


def test_before_it_is_opened_it_can_not_be_used() -> None:
    state = Machine().state
    for attempt in (
        state.check_usable,
        lambda: state.publish("a", b""),
        lambda: state.ping(print),
        lambda: state.subscribe("a", "", print, print),
    ):
        with pytest.raises(ConnectionClosedError, match="has not been made yet"):
            attempt()


def test_closed_before_it_was_opened_it_stays_closed() -> None:
    machine = Machine()
    machine.close()
    with pytest.raises(ConnectionClosedError):
        machine.state.open(machine.opened, machine.now)
    assert machine.notices("on_close") == []


def test_what_was_published_while_disconnected_and_is_lost_by_closing_is_reported() -> None:
    machine = Machine().connected()
    machine.lose()
    machine.publish("a", b"x")
    machine.close()
    (error,) = machine.notices("on_error")
    assert isinstance(error, ConnectionLostError)
    assert "12 bytes" in str(error)


def test_only_one_timer_is_wanted_at_a_time() -> None:
    machine = Machine(ping_interval=120.0, connect_timeout=2.0).open()
    assert machine.all(WakeAt)[-1].time == machine.now + 2 * SECOND
    machine.let_in()
    assert machine.all(WakeAt)[-1].time == machine.now + 120 * SECOND
