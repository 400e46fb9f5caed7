"""The replies to one request on asyncio: what becomes of the object that yields them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest

from natsvc.asyncio import Replies, ServiceClient
from natsvc.core import ReplyStream
from natsvc.testing import NatsServer
from natsvc.wire.backlog import Backlog
from tests.plain_client import PlainClient, PlainSubscription
from tests.worlds import LIMIT, confirmed, connect_nats_py, connect_natsvc, interest

CONNECT: dict[str, Callable[[str], Awaitable[Any]]] = {"natsvc": connect_natsvc, "nats-py": connect_nats_py}


@pytest.fixture(params=list(CONNECT))
async def nc(request: pytest.FixtureRequest, server: NatsServer) -> AsyncIterator[Any]:
    connection = await CONNECT[request.param](server.url)
    yield connection
    await connection.close()


@pytest.fixture
async def services(nc: Any) -> ServiceClient:
    return ServiceClient(nc)


@pytest.fixture
def subscription(client: PlainClient) -> PlainSubscription:
    """What the requests come to; the test answers them."""
    return client.subscribe("asked")


async def until(condition: Callable[[], object]) -> None:
    """Wait for what must come true, with the event loop going on."""
    async with asyncio.timeout(LIMIT):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.005)


def inboxes(server: NatsServer) -> list[str]:
    """The inboxes that are subscribed to, apart from those that all requests of a connection share."""
    return [subject for subject in interest(server) if subject.startswith("_INBOX.") and not subject.endswith(".*")]


async def asked(subscription: PlainSubscription) -> str:
    """Wait for a request; return where the replies go to."""
    return (await asyncio.to_thread(subscription.next, LIMIT)).reply


async def begun(replies: Replies, subscription: PlainSubscription, client: PlainClient) -> str:
    """Take the first reply; return where more of them go to."""
    first = asyncio.ensure_future(anext(replies))
    reply = await asked(subscription)
    client.publish(reply, b"first")
    assert (await first).data == b"first"
    return reply


async def test_a_wait_that_is_cancelled_in_a_block_loses_no_reply_and_can_be_gone_on_with(
    services: ServiceClient, subscription: PlainSubscription, client: PlainClient
) -> None:
    async with services.request_many("asked", timeout=LIMIT) as replies:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await anext(replies)
        reply = await asked(subscription)
        client.publish(reply, b"1")
        client.publish(reply)
        assert [message.data async for message in replies] == [b"1"]
        assert replies.ended_by == "empty message"
        assert subscription.waiting == 0


async def test_a_wait_that_is_cancelled_without_a_block_ends_it(
    server: NatsServer, nc: Any, services: ServiceClient, subscription: PlainSubscription
) -> None:
    replies = services.request_many("asked", timeout=1000)
    waiting = asyncio.ensure_future(anext(replies))
    await asked(subscription)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await confirmed(nc)
    await until(lambda: not inboxes(server))
    assert [message async for message in replies] == []


async def test_what_is_made_and_not_used_sends_nothing(
    services: ServiceClient, nc: Any, subscription: PlainSubscription
) -> None:
    replies = services.request_many("asked")
    await replies.close()
    assert [message async for message in replies] == []
    del replies
    services.request_many("asked")
    await confirmed(nc)
    assert subscription.waiting == 0


async def test_closed_it_ends_for_whoever_waits_for_more(
    server: NatsServer, services: ServiceClient, subscription: PlainSubscription, client: PlainClient
) -> None:
    replies = services.request_many("asked", timeout=1000)
    reply = await begun(replies, subscription, client)
    waiting = asyncio.ensure_future(anext(replies, None))
    await asyncio.sleep(0)
    await replies.close()
    await replies.close()
    assert await waiting is None
    assert replies.ended_by is None
    await until(lambda: reply not in interest(server))


async def test_when_it_is_over_it_yields_nothing_and_sends_nothing_again(
    services: ServiceClient, nc: Any, subscription: PlainSubscription, client: PlainClient
) -> None:
    replies = services.request_many("asked", timeout=LIMIT, limit=1)
    await begun(replies, subscription, client)
    for _ in range(2):
        async with replies:
            assert [message async for message in replies] == []
    await confirmed(nc)
    assert subscription.waiting == 0


async def test_several_tasks_may_share_it(
    services: ServiceClient, subscription: PlainSubscription, client: PlainClient
) -> None:
    replies = services.request_many("asked", timeout=LIMIT)

    async def take() -> list[bytes]:
        return [message.data async for message in replies]

    tasks = [asyncio.ensure_future(take()) for _ in range(3)]
    reply = await asked(subscription)
    for number in range(100):
        client.publish(reply, b"%d" % number)
    client.publish(reply)
    taken = await asyncio.gather(*tasks)
    assert sorted(int(one) for some in taken for one in some) == list(range(100))
    assert subscription.waiting == 0


async def test_it_ends_when_nobody_has_it_any_more_in_whatever_thread_that_is(
    server: NatsServer, services: ServiceClient, subscription: PlainSubscription, client: PlainClient
) -> None:
    held = [services.request_many("asked", timeout=1000)]
    reply = await begun(held[0], subscription, client)
    thread = threading.Thread(target=held.clear)
    thread.start()
    await asyncio.to_thread(thread.join)
    await until(lambda: reply not in interest(server))


async def test_it_ends_when_only_the_garbage_collector_finds_it(
    server: NatsServer, services: ServiceClient, subscription: PlainSubscription, client: PlainClient
) -> None:
    replies: Any = services.request_many("asked", timeout=1000)
    reply = await begun(replies, subscription, client)
    replies.itself = replies
    del replies
    gc.collect()
    await until(lambda: reply not in interest(server))


def test_it_may_be_dropped_after_its_event_loop_is_closed() -> None:
    class Silence:
        """A connection on which nothing ever comes."""

        def collect(self, *_: object) -> contextlib.AbstractContextManager[None]:
            return contextlib.nullcontext()

    async def enter() -> Replies:
        stream = ReplyStream.of("asked", Backlog("asked", 1, 1), timeout=1000, stall=None, limit=None)
        return await Replies(cast("Any", Silence()), stream, b"", None).__aenter__()

    replies = asyncio.run(enter())
    assert repr(replies) == "<Replies to 'asked'>"
    del replies
    gc.collect()
