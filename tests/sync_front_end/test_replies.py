"""The replies to one request in threads: what becomes of the object that yields them."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import Future
from typing import Any

import pytest

from natsvc.sync import Connection, Message, Replies, ServiceClient
from natsvc.testing import NatsServer
from tests.plain_client import PlainClient, PlainSubscription
from tests.sync_world import begin
from tests.worlds import LIMIT, eventually, interest


@pytest.fixture
def services(nc: Connection) -> ServiceClient:
    return ServiceClient(nc)


@pytest.fixture
def subscription(client: PlainClient) -> PlainSubscription:
    """What the requests come to; the test answers them."""
    return client.subscribe("asked")


def begun(replies: Replies, subscription: PlainSubscription, client: PlainClient) -> str:
    """Take the first reply; return where more of them go to."""
    first = begin(next, replies)
    reply = subscription.next().reply
    client.publish(reply, b"first")
    assert first.result(LIMIT).data == b"first"
    return reply


def drop(held: list[Replies]) -> None:
    """Let go of the only reference; the frames of those that had another one are gone."""
    eventually(lambda: len(gc.get_referrers(held[0])) == 1)
    held.clear()


def test_a_wait_that_is_interrupted_in_a_block_loses_no_reply_and_can_be_gone_on_with(
    services: ServiceClient, subscription: PlainSubscription, client: PlainClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with services.request_many("asked", timeout=LIMIT) as replies:
        with monkeypatch.context() as patched:
            patched.setattr(replies._reception._changed, "wait", interrupt)
            with pytest.raises(KeyboardInterrupt):
                next(replies)
        reply = subscription.next().reply
        client.publish(reply, b"1")
        client.publish(reply)
        assert [message.data for message in replies] == [b"1"]
        assert replies.ended_by == "empty message"


def test_a_wait_that_is_interrupted_without_a_block_ends_it(
    nc: Connection,
    server: NatsServer,
    services: ServiceClient,
    subscription: PlainSubscription,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replies = services.request_many("asked", timeout=1000)
    monkeypatch.setattr(replies._reception._changed, "wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        next(replies)
    reply = subscription.next().reply
    assert nc._driver.listeners == []
    nc.flush()
    assert reply not in interest(server)
    assert list(replies) == []


def interrupt(_timeout: float) -> bool:
    raise KeyboardInterrupt


def test_what_is_made_and_not_used_sends_nothing(
    nc: Connection, services: ServiceClient, subscription: PlainSubscription
) -> None:
    replies = services.request_many("asked")
    replies.close()
    assert list(replies) == []
    del replies
    services.request_many("asked")
    nc.flush()
    assert subscription.waiting == 0


def test_closed_it_ends_for_whoever_waits_for_more(
    server: NatsServer, services: ServiceClient, subscription: PlainSubscription, client: PlainClient
) -> None:
    replies = services.request_many("asked", timeout=1000)
    reply = begun(replies, subscription, client)
    waiting: Future[list[Message]] = begin(list, replies)
    replies.close()
    replies.close()
    assert waiting.result(LIMIT) == []
    assert replies.ended_by is None
    eventually(lambda: reply not in interest(server))


def test_when_it_is_over_it_yields_nothing_and_sends_nothing_again(
    nc: Connection, services: ServiceClient, subscription: PlainSubscription, client: PlainClient
) -> None:
    replies = services.request_many("asked", timeout=LIMIT, limit=1)
    assert repr(replies) == "<Replies to 'asked'>"
    begun(replies, subscription, client)
    for _ in range(2):
        with replies:
            assert list(replies) == []
    nc.flush()
    assert subscription.waiting == 0
    assert list(nc._driver.alarms._due) == [nc._driver], "of the stream, nothing is due any more"


def test_several_threads_may_share_it_and_send_one_request(
    nc: Connection, services: ServiceClient, subscription: PlainSubscription, client: PlainClient
) -> None:
    replies = services.request_many("asked", timeout=LIMIT)
    threads: list[Future[list[Message]]] = [begin(list, replies) for _ in range(8)]
    reply = subscription.next().reply
    for number in range(1000):
        client.publish(reply, b"%d" % number)
    client.publish(reply)
    taken = [[int(message.data) for message in thread.result(LIMIT)] for thread in threads]
    assert sorted(number for some in taken for number in some) == list(range(1000))
    assert all(some == sorted(some) for some in taken)
    nc.flush()
    assert subscription.waiting == 0


@pytest.mark.parametrize("thread", ["its own", "another"])
def test_it_ends_when_nobody_has_it_any_more(
    server: NatsServer, services: ServiceClient, subscription: PlainSubscription, client: PlainClient, thread: str
) -> None:
    held = [services.request_many("asked", timeout=1000)]
    reply = begun(held[0], subscription, client)
    if thread == "its own":
        drop(held)
    else:
        begin(drop, held).result(LIMIT)
    eventually(lambda: reply not in interest(server))


def test_it_ends_when_only_the_garbage_collector_finds_it(
    server: NatsServer, services: ServiceClient, subscription: PlainSubscription, client: PlainClient
) -> None:
    replies: Any = services.request_many("asked", timeout=1000)
    reply = begun(replies, subscription, client)
    replies.itself = replies
    del replies
    eventually(lambda: gc.collect() or reply not in interest(server))


def test_dropped_in_the_middle_of_something_that_holds_the_lock_it_ends(
    nc: Connection, server: NatsServer, services: ServiceClient, subscription: PlainSubscription, client: PlainClient
) -> None:
    held = [services.request_many("asked", timeout=1000)]
    reply = begun(held[0], subscription, client)
    with nc._driver.lock:
        drop(held)
    eventually(lambda: reply not in interest(server))


def test_dropped_while_another_thread_has_the_lock_it_waits_for_nothing_and_ends_with_the_next_reply(
    nc: Connection, server: NatsServer, services: ServiceClient, subscription: PlainSubscription, client: PlainClient
) -> None:
    held = [services.request_many("asked", timeout=1000)]
    reply = begun(held[0], subscription, client)
    dropped = threading.Event()

    def drop_it() -> None:
        drop(held)
        dropped.set()

    with nc._driver.lock:
        dropping = begin(drop_it)
        assert dropped.wait(LIMIT), "it has waited for the lock"
    dropping.result(LIMIT)
    nc.flush()
    assert reply in interest(server)
    client.publish(reply, b"more")
    eventually(lambda: reply not in interest(server))


def test_interrupted_while_it_is_made_it_ends_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    ignored: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", ignored.append)
    replies = Replies.__new__(Replies)
    del replies
    assert ignored == []
