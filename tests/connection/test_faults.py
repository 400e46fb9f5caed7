"""Design, section 4: lost connections, broken bytes, full buffers - nothing hangs, nobody is left in the dark."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias

import pytest

from natsvc import (
    ConnectionLostError,
    Message,
    NatsvcError,
    NoRespondersError,
    NoServersError,
    OutboundBufferError,
    ProtocolError,
    RequestTimeoutError,
    ServerError,
    SlowConsumerError,
)
from natsvc.testing import NatsServer
from tests.connection.front_ends import Connection, FrontEnd
from tests.connection.scripted_server import Script, ScriptedServer, Session
from tests.worlds import LIMIT, eventually

MakeServer: TypeAlias = Callable[..., NatsServer]
Play: TypeAlias = Callable[[Script], ScriptedServer]


def at_first(once: Callable[[Session], None]) -> Script:
    """A server that does something strange to the first connection, as soon as it has subscribed to "here"."""

    def script(session: Session) -> None:
        session.welcome()
        session.await_subscription("here")
        if session.number == 1:
            once(session)
            return
        session.deliver("here", b"whole")
        session.serve()

    return script


def outcome(future: Future[Message]) -> Message | BaseException:
    """How a request ended; that it has not ended is a failure of the test."""
    try:
        return future.result(LIMIT)
    except NatsvcError as error:
        return error


def await_some_of(futures: list[Future[Message]], count: int) -> None:
    eventually(lambda: sum(future.done() for future in futures) >= count)


def test_a_service_survives_the_death_of_its_server_under_load(front_end: FrontEnd, make_server: MakeServer) -> None:
    async def echo(request: Any) -> bytes:
        await front_end.sleep(0.01)
        return bytes(request.data)

    server = make_server()
    service = front_end.connect(server.url).add_service("enduring")
    service.add_endpoint("enduring-e", handler=echo, max_concurrency=50)
    caller = front_end.connect(server.url)
    identity = service.id
    assert caller.request("enduring-e", b"before").data == b"before"
    eventually(lambda: service.stats().endpoints[0].num_requests == 1)

    timeout = 3.0
    sent = []
    for turn in range(3):
        began = time.monotonic()
        asked = [caller.begin_request("enduring-e", b"%d" % number, timeout=timeout) for number in range(300)]
        # In the middle of it: some have their answers, most have not.
        await_some_of(asked, 20)
        server.kill()
        server.restart()
        outcomes = [outcome(one) for one in asked]
        assert time.monotonic() - began < timeout + LIMIT / 3
        sent.append(outcomes)
        eventually(lambda: _answers(caller, "enduring-e"))
        caller.flush()
        assert len(caller.events.of("on_reconnect")) == turn + 1
    for outcomes in sent:
        for number, one in enumerate(outcomes):
            if isinstance(one, Message):
                assert one.data == b"%d" % number
            else:
                assert isinstance(one, (RequestTimeoutError, NoRespondersError, ConnectionLostError))
    assert service.id == identity
    assert not service.is_stopped
    answered = sum(isinstance(one, Message) for outcomes in sent for one in outcomes)
    assert service.stats().endpoints[0].num_requests > answered
    assert service.stats().endpoints[0].num_errors == 0


def _answers(caller: Connection, subject: str) -> bool:
    try:
        return caller.request(subject, b"?", timeout=1.0).data == b"?"
    except (NoRespondersError, RequestTimeoutError, ConnectionLostError):
        return False


def test_replies_made_while_disconnected_go_out_after_the_reconnect(front_end: FrontEnd, play: Play) -> None:
    lost, ready = threading.Event(), threading.Event()

    async def handler(request: Any) -> bytes:
        while not ready.is_set():
            await front_end.sleep(0.005)
        return b"made while disconnected"

    def script(session: Session) -> None:
        if session.number == 1:
            session.welcome()
            session.await_subscription("ask")
            session.answer_ping()
            session.deliver("ask", b"", reply="answer.here")
            session.answer_ping()
            return
        session.wait(lost)
        session.welcome()
        session.serve()

    server = play(script)
    connection = front_end.connect(server.url, connect_timeout=LIMIT)
    service = connection.add_service("buffering")
    service.add_endpoint("buffering-e", subject="ask", handler=handler)
    connection.flush()
    eventually(lambda: connection.events.of("on_disconnect"))
    ready.set()
    eventually(lambda: service.stats().endpoints[0].num_requests == 1)
    lost.set()
    eventually(lambda: ("answer.here", b"made while disconnected") in server.sessions[-1].published)


def test_a_half_message_is_not_delivered(front_end: FrontEnd, play: Play) -> None:
    def cut(session: Session) -> None:
        session.send(b"MSG here %b 100\r\nonly half of it" % session.subscriptions["here"])
        session.end()

    connection = front_end.connect(play(at_first(cut)).url)
    subscription = connection.subscribe("here")
    assert subscription.receive().data == b"whole"
    connection.flush()
    eventually(lambda: len(connection.events.of("on_reconnect")) == 1)


def test_a_half_line_is_not_continued_by_the_next_connection(front_end: FrontEnd, play: Play) -> None:
    def cut(session: Session) -> None:
        session.send(b"MSG here %b 10" % session.subscriptions["here"])
        session.end()

    subscription = front_end.connect(play(at_first(cut)).url).subscribe("here")
    assert subscription.receive().data == b"whole"


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        bytes(range(256)) * 8 + b"\r\n",
        b"MSG here\r\n",
        b"MSG here 1 -1\r\n\r\n",
        b"MSG here 1 nine\r\n",
        b"MSG here 1 99999999999999999999\r\n",
        b"HMSG here 1 20 10\r\n",
        b"MSG here 1 2\r\nlonger than said\r\n",
        b"INFO {nonsense\r\n",
        b"INFO []\r\n",
        b"-ERR " + b"x" * 100_000,
        b"x" * 10_000_000,
    ],
    ids=lambda garbage: repr(garbage[:30]),
)
def test_garbage_is_a_protocol_error_and_a_reconnect(front_end: FrontEnd, play: Play, garbage: bytes) -> None:
    def send_it(session: Session) -> None:
        session.send(garbage)
        session.ignore()

    connection = front_end.connect(play(at_first(send_it)).url)
    subscription = connection.subscribe("here")
    assert subscription.receive().data == b"whole"
    [error] = connection.events.of("on_disconnect")
    assert isinstance(error, ProtocolError)
    assert len(repr(error)) < 2000


def test_a_message_larger_than_we_want_is_a_protocol_error_before_it_has_come(front_end: FrontEnd, play: Play) -> None:
    def announce(session: Session) -> None:
        session.send(b"MSG here %b 1001\r\n" % session.subscriptions["here"])
        session.ignore()

    connection = front_end.connect(play(at_first(announce)).url, max_inbound_payload=1000)
    subscription = connection.subscribe("here")
    assert subscription.receive().data == b"whole"
    [error] = connection.events.of("on_disconnect")
    assert isinstance(error, ProtocolError)


def test_garbage_in_place_of_a_greeting_is_no_server(front_end: FrontEnd, play: Play) -> None:
    server = play(lambda session: session.send(b"SSH-2.0-OpenSSH_9.2\r\n"))
    with pytest.raises(NoServersError) as caught:
        front_end.connect(server.url)
    assert isinstance(caught.value.__cause__, ProtocolError)


def test_an_error_that_we_do_not_know_is_the_server_s_to_act_on(front_end: FrontEnd, play: Play) -> None:
    def complain(session: Session) -> None:
        session.send(b"-ERR 'Something Else Entirely'\r\n")

    connection = front_end.connect(play(at_first(complain)).url)
    assert connection.subscribe("here").receive().data == b"whole"
    [error] = connection.events.of("on_disconnect")
    assert isinstance(error, ServerError)
    assert str(error) == "Something Else Entirely"


def test_an_invalid_subject_is_an_event_and_no_more(front_end: FrontEnd, play: Play) -> None:
    def script(session: Session) -> None:
        session.welcome()
        session.send(b"-ERR 'Invalid Subject'\r\n")
        session.serve()

    connection = front_end.connect(play(script).url)
    eventually(lambda: connection.events.of("on_error"))
    connection.flush()
    [error] = connection.events.of("on_error")
    assert isinstance(error, ServerError)
    assert connection.events.of("on_disconnect") == []


def test_a_flush_that_the_server_does_not_confirm_ends_with_the_connection(front_end: FrontEnd, play: Play) -> None:
    def script(session: Session) -> None:
        session.welcome()
        if session.number > 1:
            session.serve()
        while session.read()[0] != b"PING":
            pass
        session.cut()

    connection = front_end.connect(play(script).url)
    with pytest.raises(ConnectionLostError):
        connection.flush()
    eventually(lambda: connection.is_connected)
    connection.flush()


def test_what_does_not_fit_into_the_reconnect_buffer_is_refused_and_the_rest_arrives(
    front_end: FrontEnd, play: Play
) -> None:
    away, back = threading.Event(), threading.Event()

    def script(session: Session) -> None:
        if session.number == 1:
            session.welcome()
            session.wait(away)
            return
        session.wait(back)
        session.welcome()
        session.serve()

    server = play(script)
    connection = front_end.connect(server.url, reconnect_buffer=1000, connect_timeout=LIMIT)
    away.set()
    eventually(lambda: connection.events.of("on_disconnect"))
    kept = []
    with pytest.raises(OutboundBufferError):
        for number in itertools.count():
            data = b"%03d" % number + bytes(97)
            connection.publish("kept", data)
            kept.append(("kept", data))
    assert 5 <= len(kept) < 10
    back.set()
    connection.flush()
    connection.publish("kept", b"room again")
    connection.flush()
    assert server.sessions[-1].published == [*kept, ("kept", b"room again")]


def test_whoever_publishes_waits_while_the_server_reads_nothing(front_end: FrontEnd, play: Play) -> None:
    reading = threading.Event()
    total, data = 100, bytes(1024 * 1024)
    published: list[int] = []

    def script(session: Session) -> None:
        session.welcome()
        session.wait(reading)
        session.serve()

    def publish() -> None:
        for number in range(total):
            connection.publish("large", data)
            published.append(number)

    server = play(script)
    connection = front_end.connect(server.url)
    with ThreadPoolExecutor() as threads:
        publishing = threads.submit(publish)
        try:
            stalled = Stalled(lambda: len(published))
            eventually(lambda: stalled.check() or publishing.done())
            assert len(published) < total
        finally:
            reading.set()
        publishing.result(LIMIT)
    connection.flush()
    assert len(server.sessions[0].published) == total


def test_a_request_ends_after_its_time_also_while_the_server_reads_nothing(front_end: FrontEnd, play: Play) -> None:
    ended = threading.Event()

    def script(session: Session) -> None:
        session.welcome()
        session.wait(ended)

    connection = front_end.connect(play(script).url)
    try:
        for _ in range(30):  # the first of them are more than the socket takes
            with pytest.raises(RequestTimeoutError):
                connection.begin_request("large", bytes(1024 * 1024), timeout=0.01).result(LIMIT)
    finally:
        ended.set()


class Stalled:
    """Whether a number stays as it is, for some tens of looks at it."""

    def __init__(self, number: Callable[[], int]) -> None:
        self._number = number
        self._last = -1
        self._looks = 0

    def check(self) -> bool:
        last, self._last = self._last, self._number()
        self._looks = self._looks + 1 if last == self._last else 0
        return self._looks > 40


def test_a_slow_subscriber_loses_the_newest_and_is_told_once_per_episode(
    front_end: FrontEnd, make_server: MakeServer
) -> None:
    connection = front_end.connect(make_server().url, max_pending_messages=10)
    subscription = connection.subscribe("fast")

    def publish(first: int, count: int) -> None:
        for number in range(first, first + count):
            connection.publish("fast", b"%d" % number)
        connection.flush()

    publish(0, 25)
    eventually(lambda: subscription.dropped == 15)
    assert [subscription.receive().data for _ in range(10)] == [b"%d" % number for number in range(10)]
    publish(100, 12)
    eventually(lambda: subscription.dropped == 17)
    assert [subscription.receive().data for _ in range(10)] == [b"%d" % number for number in range(100, 110)]
    eventually(lambda: len(connection.events.of("on_error")) >= 2)
    errors = connection.events.of("on_error")
    assert [type(error) for error in errors] == [SlowConsumerError, SlowConsumerError]
    assert [(error.subject, error.dropped) for error in errors] == [("fast", 1), ("fast", 16)]


def test_a_slow_subscriber_is_bounded_in_bytes_too(front_end: FrontEnd, make_server: MakeServer) -> None:
    connection = front_end.connect(make_server().url, max_pending_bytes=10_000)
    subscription = connection.subscribe("fast")
    for _ in range(5):
        connection.publish("fast", bytes(4000))
    connection.flush()
    eventually(lambda: subscription.dropped == 3)


def test_a_slow_subscriber_holds_up_nobody_else(front_end: FrontEnd, make_server: MakeServer) -> None:
    connection = front_end.connect(make_server().url, max_pending_messages=5)
    slow, quick = connection.subscribe("both"), connection.subscribe("both")
    for number in range(100):
        connection.publish("both", b"%d" % number)
        assert quick.receive().data == b"%d" % number
    eventually(lambda: slow.dropped == 95)
    assert quick.dropped == 0


def test_one_subscription_too_many_is_an_event_and_the_others_go_on(
    front_end: FrontEnd, make_server: MakeServer
) -> None:
    connection = front_end.connect(make_server("max_subscriptions: 2").url)
    first, second = connection.subscribe("first"), connection.subscribe("second")
    connection.subscribe("third")
    connection.flush()
    eventually(lambda: connection.events.of("on_error"))
    [error] = connection.events.of("on_error")
    assert isinstance(error, ServerError)
    assert "maximum subscriptions exceeded" in str(error).lower()
    for subscription, subject in ((first, "first"), (second, "second")):
        connection.publish(subject, b"x")
        assert subscription.receive().data == b"x"
    assert connection.events.of("on_disconnect") == []
