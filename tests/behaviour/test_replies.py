"""Design: which replies `request_many` yields, what ends them, and that nothing of them is left on the server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from natsvc import (
    ConfigError,
    ConnectionClosedError,
    HeaderError,
    MaxPayloadError,
    Message,
    NoRespondersError,
    PermissionsError,
    RequestTimeoutError,
    ServiceError,
    SlowConsumerError,
    SubjectError,
)
from natsvc.testing import NatsServer
from tests.callers import Caller, Replies, caller
from tests.plain_client import PlainClient
from tests.worlds import LIMIT, Connection, World, eventually, interest


@pytest.fixture
def services(connection: Connection) -> Iterator[Caller]:
    made = caller(connection)
    yield made
    made.close()


@pytest.fixture(params=["loop", "block"])
def block(request: pytest.FixtureRequest) -> bool:
    """Whether there is a block around the loop."""
    return bool(request.param == "block")


@pytest.fixture(autouse=True)
def nothing_is_left(server: NatsServer) -> Iterator[None]:
    """However the loop is left, no subscription is: also while the connection is still there."""
    yield
    eventually(lambda: not inboxes(server))


def inboxes(server: NatsServer) -> list[str]:
    """The inboxes that are subscribed to, apart from those that all requests of a connection share."""
    return [subject for subject in interest(server) if subject.startswith("_INBOX.") and not subject.endswith(".*")]


def ended(pending: Future[Replies]) -> Replies:
    """Wait for a loop, which must not end by an error."""
    replies = pending.result(LIMIT)
    if replies.error is not None:
        raise replies.error
    return replies


def failed(pending: Future[Replies], error: type[BaseException]) -> Any:
    """Wait for a loop, which must end by an error; return that."""
    replies = pending.result(LIMIT)
    assert isinstance(replies.error, error), replies
    return replies.error


# What is yielded, and what ends it


def test_the_responses_of_a_service_are_yielded_up_to_an_empty_message(
    connection: Connection, services: Caller, block: bool
) -> None:
    async def count(request: Any) -> None:
        for number in range(int(request.data)):
            await request.respond(b"%d" % number)
        await request.respond()

    connection.add_service("counting").add_endpoint("counting-e", handler=count)
    replies = ended(services.begin_loop("counting-e", b"300", block=block, timeout=LIMIT))
    assert replies.data == [b"%d" % number for number in range(300)]
    assert replies.ended_by == ("empty message" if block else None)


def test_the_request_is_sent_once_with_its_data_and_headers(services: Caller, client: PlainClient, block: bool) -> None:
    subscription = client.subscribe("asked")
    pending = services.begin_loop("asked", "text ü", headers={"A": "1"}, timeout=LIMIT, block=block)
    request = subscription.next()
    assert (request.data, request.headers) == ("text ü".encode(), [("A", "1")])
    client.publish(request.reply, b"1")
    client.publish(request.reply)
    assert ended(pending).data == [b"1"]
    client.flush()
    assert subscription.waiting == 0


def test_all_who_are_asked_may_reply(connection: Connection, services: Caller) -> None:
    for name in ("a", "b", "c"):

        async def handle(request: Any, name: str = name) -> str:
            return name

        connection.add_service(f"one-of-{name}").add_endpoint(
            "scattered-e", subject="scattered", handler=handle, queue_group=f"q-{name}"
        )
    replies = ended(services.begin_loop("scattered", timeout=LIMIT, limit=3))
    assert sorted(replies.data) == [b"a", b"b", b"c"]


def test_it_ends_with_as_many_replies_as_asked_for(services: Caller, client: PlainClient) -> None:
    subscription = client.subscribe("many")
    pending = services.begin_loop("many", timeout=10 * LIMIT, limit=3, block=True)
    reply = subscription.next().reply
    for number in range(10):
        client.publish(reply, b"%d" % number)
    replies = ended(pending)
    assert (replies.data, replies.ended_by) == ([b"0", b"1", b"2"], "limit")


def test_it_ends_when_nothing_has_come_for_the_stall_since_the_last_reply(
    services: Caller, client: PlainClient
) -> None:
    subscription = client.subscribe("stalling")
    pending = services.begin_loop("stalling", timeout=10 * LIMIT, stall=0.1, block=True)
    reply = subscription.next().reply
    with pytest.raises(TimeoutError):
        pending.result(0.3)  # the stall doesn't run before the first reply
    client.publish(reply, b"1")
    replies = ended(pending)
    assert (replies.data, replies.ended_by) == ([b"1"], "stall")


def test_a_pause_is_no_end_unless_that_is_asked_for(services: Caller, client: PlainClient) -> None:
    subscription = client.subscribe("pausing")
    pending = services.begin_loop("pausing", timeout=LIMIT)
    reply = subscription.next().reply
    client.publish(reply, b"1")
    with pytest.raises(TimeoutError):
        pending.result(0.5)
    client.publish(reply, b"2")
    client.publish(reply)
    assert ended(pending).data == [b"1", b"2"]


def test_the_timeout_is_an_end_if_something_came(services: Caller, client: PlainClient) -> None:
    subscription = client.subscribe("unending")
    pending = services.begin_loop("unending", timeout=1.0, block=True)
    client.publish(subscription.next().reply, b"1")
    replies = ended(pending)
    assert (replies.data, replies.ended_by) == ([b"1"], "timeout")


@pytest.mark.parametrize("timeout", [0.05, 0])
def test_nothing_within_the_timeout_is_an_error(
    services: Caller, client: PlainClient, timeout: float, block: bool
) -> None:
    client.subscribe("silent")
    error = failed(services.begin_loop("silent", timeout=timeout, stall=LIMIT, block=block), RequestTimeoutError)
    assert str(error).startswith("the request to 'silent' was not answered within 0")


def test_that_nobody_listens_is_an_error_at_once(services: Caller, block: bool) -> None:
    error = failed(services.begin_loop("nobody-listens-here", timeout=10 * LIMIT, block=block), NoRespondersError)
    assert error.subject == "nobody-listens-here"


def test_an_error_reply_is_raised_behind_the_replies_before_it(services: Caller, client: PlainClient) -> None:
    subscription = client.subscribe("failing")
    pending = services.begin_loop("failing", timeout=10 * LIMIT)
    reply = subscription.next().reply
    client.publish(reply, b"1")
    client.publish(
        reply,
        b"more",
        headers=[("Nats-Service-Error-Code", "409"), ("Nats-Service-Error", "conflict"), ("B", "2")],
    )
    client.publish(reply, b"2")
    error = failed(pending, ServiceError)
    assert pending.result().data == [b"1"]
    assert (error.code, error.description, error.data) == ("409", "conflict", b"more")
    assert error.headers["B"] == "2"


# Whoever takes his time


def test_the_time_that_is_taken_over_a_reply_is_no_stall(world: World, services: Caller, client: PlainClient) -> None:
    """The caller pauses for longer than the stall, and lets others have their turn meanwhile."""
    subscription = client.subscribe("steady")
    taken = world.gate()

    async def work(reply: Message) -> None:
        if reply.data == b"0":
            await taken.wait()

    pending = services.begin_loop("steady", timeout=LIMIT, stall=1.0, work=work, block=True)
    reply = subscription.next().reply
    for number in range(4):
        client.publish(reply, b"%d" % number)
        with pytest.raises(TimeoutError):
            pending.result(0.4)
    taken.open()
    client.publish(reply)
    replies = ended(pending)
    assert replies.data == [b"%d" % number for number in range(4)]
    assert replies.ended_by == "empty message"


def test_a_caller_who_blocks_its_own_world_does_not_make_the_service_look_silent(
    services: Caller, client: PlainClient
) -> None:
    """An event loop that is blocked sees neither what comes, nor that it comes in time."""
    subscription = client.subscribe("blocked")
    has_begun = threading.Event()

    async def work(reply: Message) -> None:
        if reply.data == b"0":
            has_begun.set()
            time.sleep(1.5)

    pending = services.begin_loop("blocked", timeout=LIMIT, stall=0.75, work=work, block=True)
    reply = subscription.next().reply
    client.publish(reply, b"0")
    assert has_begun.wait(LIMIT)
    for number in range(1, 5):
        client.publish(reply, b"%d" % number)
        time.sleep(0.1)
    client.publish(reply)
    replies = ended(pending)
    assert replies.data == [b"0", b"1", b"2", b"3", b"4"]
    assert replies.ended_by == "empty message"


def test_what_comes_while_nobody_takes_it_waits_and_is_taken_after_the_end(
    world: World, server: NatsServer, services: Caller, client: PlainClient
) -> None:
    subscription = client.subscribe("waiting")
    may_go_on = world.gate()

    async def work(reply: Message) -> None:
        await may_go_on.wait()

    pending = services.begin_loop("waiting", timeout=LIMIT, work=work)
    reply = subscription.next().reply
    for number in range(1000):
        client.publish(reply, b"%d" % number)
    client.publish(reply)
    eventually(lambda: reply not in interest(server))
    assert not pending.done()
    may_go_on.open()
    assert ended(pending).data == [b"%d" % number for number in range(1000)]


def test_more_than_is_kept_is_an_error_behind_what_is_kept(
    world: World, server: NatsServer, services: Caller, client: PlainClient
) -> None:
    subscription = client.subscribe("flooding")
    may_go_on = world.gate()
    taken: list[bytes] = []

    async def work(reply: Message) -> None:
        taken.append(reply.data)
        if reply.data == b"first":
            await may_go_on.wait()

    pending = services.begin_loop("flooding", timeout=LIMIT, work=work)
    reply = subscription.next().reply
    client.publish(reply, b"first")
    eventually(lambda: taken)
    for number in range(65_540):
        client.publish(reply, b"%d" % number)
    eventually(lambda: reply not in interest(server))
    may_go_on.open()
    error = failed(pending, SlowConsumerError)
    assert error.subject == "flooding"
    assert taken == [b"first", *(b"%d" % number for number in range(65_536))]


# However the loop is left


def test_a_loop_that_is_broken_out_of_leaves_no_subscription_and_a_usable_connection(
    server: NatsServer, services: Caller, client: PlainClient, block: bool
) -> None:
    subscription = client.subscribe("broken-out-of")
    for _ in range(3):
        pending = services.begin_loop("broken-out-of", timeout=1000, enough=2, block=block)
        reply = subscription.next().reply
        for number in range(4):
            client.publish(reply, b"%d" % number)
        assert ended(pending).data == [b"0", b"1"]
        eventually(lambda: not inboxes(server))


def test_a_loop_that_is_left_by_an_exception_leaves_no_subscription(
    server: NatsServer, services: Caller, client: PlainClient, block: bool
) -> None:
    async def work(reply: Message) -> None:
        raise ZeroDivisionError

    subscription = client.subscribe("raised-in")
    pending = services.begin_loop("raised-in", timeout=1000, work=work, block=block)
    client.publish(subscription.next().reply, b"1")
    failed(pending, ZeroDivisionError)
    eventually(lambda: not inboxes(server))


def test_what_nobody_goes_on_with_is_unsubscribed_at_its_end(
    world: World, server: NatsServer, services: Caller, client: PlainClient
) -> None:
    """The loop is neither left nor does it ask for more: the deadline does without it."""
    subscription = client.subscribe("forgotten")
    may_go_on = world.gate()

    async def work(reply: Message) -> None:
        await may_go_on.wait()

    pending = services.begin_loop("forgotten", timeout=LIMIT, stall=0.3, work=work)
    client.publish(subscription.next().reply, b"1")
    eventually(lambda: not inboxes(server))
    assert not pending.done()
    may_go_on.open()
    assert ended(pending).data == [b"1"]


def test_many_at_once_each_get_their_own_replies(connection: Connection, services: Caller) -> None:
    async def thrice(request: Any) -> None:
        for _ in range(3):
            await request.respond(request.data)
        await request.respond()

    connection.add_service("thrice").add_endpoint("thrice-e", handler=thrice)
    loops = [services.begin_loop("thrice-e", b"%d" % number, timeout=LIMIT) for number in range(50)]
    assert [ended(loop).data for loop in loops] == [[b"%d" % number] * 3 for number in range(50)]


# When it can't be asked, or not be answered


@pytest.mark.parametrize(
    ("field", "given"),
    [("timeout", {"timeout": -1}), ("stall", {"stall": float("nan")}), ("limit", {"limit": 0})],
)
def test_what_breaks_a_rule_is_refused(services: Caller, field: str, given: dict[str, Any]) -> None:
    assert failed(services.begin_loop("anywhere", **given), ConfigError).field == field


def test_what_cannot_be_sent_is_refused_and_the_connection_stays(
    connection: Connection, services: Caller, client: PlainClient, block: bool
) -> None:
    for subject in ("", "a b", "a\r\nPUB b 0\r\n", None):
        failed(services.begin_loop(subject, block=block), SubjectError)
    failed(services.begin_loop("s" * 4096, block=block), MaxPayloadError)
    failed(services.begin_loop("anywhere", b"x" * (1024 * 1024 + 1), block=block), MaxPayloadError)
    failed(services.begin_loop("anywhere", headers={"A B": "1"}, block=block), HeaderError)
    failed(services.begin_loop("anywhere", 1, block=block), TypeError)
    assert connection.is_connected
    failed(services.begin_loop("nobody-listens-here", timeout=LIMIT), NoRespondersError)


def test_a_connection_that_closes_ends_it_behind_what_has_come(
    connection: Connection, services: Caller, client: PlainClient, block: bool
) -> None:
    subscription = client.subscribe("left-waiting")
    came: list[bytes] = []

    async def work(reply: Message) -> None:
        came.append(reply.data)

    pending = services.begin_loop("left-waiting", timeout=10 * LIMIT, work=work, block=block)
    client.publish(subscription.next().reply, b"1")
    eventually(lambda: came)
    connection.close()
    failed(pending, ConnectionClosedError)
    assert pending.result().data == [b"1"]
    failed(services.begin_loop("left-waiting", block=block), ConnectionClosedError)


def test_it_goes_on_after_a_reconnect(world: World, make_server: Callable[[], NatsServer]) -> None:
    server = make_server()
    connection = world.connect(server.url)
    with PlainClient(server.url) as client:
        subscription = client.subscribe("outliving")
        pending = caller(connection).begin_loop("outliving", timeout=LIMIT)
        reply = subscription.next().reply
        client.publish(reply, b"1")
        server.kill()
    eventually(lambda: not connection.is_connected)
    server.restart()
    eventually(lambda: reply in interest(server))
    with PlainClient(server.url) as client:
        client.publish(reply, b"2")
        client.publish(reply)
        assert ended(pending).data[-1:] == [b"2"]


@pytest.mark.parametrize(
    ("denied", "operation"),
    [('publish: {deny: "secret"}', "publish"), ('subscribe: {deny: "_INBOX.*"}', "subscription")],
)
def test_what_the_server_does_not_allow_is_refused_at_once(
    world: World, make_server: Callable[[str], NatsServer], denied: str, operation: str
) -> None:
    server = make_server(f"authorization {{users: [{{user: u, password: p, permissions: {{{denied}}}}}]}}")
    url = server.url.replace("nats://", "nats://u:p@")
    with PlainClient(url) as silent:
        silent.subscribe("secret")
        services = caller(world.connect(url))
        error = failed(services.begin_loop("secret", timeout=10 * LIMIT), PermissionsError)
        assert error.operation == operation
        assert (error.subject == "secret") == (operation == "publish")
