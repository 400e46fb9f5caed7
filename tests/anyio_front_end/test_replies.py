"""The replies to one request on anyio: what becomes of the object that yields them."""

from __future__ import annotations

import functools
import gc
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from natsvc.anyio import Connection, Message, Replies, ServiceClient, Subscription, connect
from natsvc.testing import NatsServer
from tests.anyio_front_end.conftest import Run
from tests.anyio_front_end.tools import eventually, subscriptions

Main = Callable[["Asked"], Awaitable[None]]


class Asked:
    """A client, and what its requests come to."""

    def __init__(self, server: NatsServer, nc: Connection, other: Connection) -> None:
        self.nc = nc
        self.services = ServiceClient(nc)
        self.requests: Subscription = other.subscribe("asked")
        self.publish = other.publish
        self.flush = other.flush
        self._server = server

    @property
    def left(self) -> list[str]:
        """What the client's connection is subscribed to."""
        return subscriptions(self._server, "asking")

    async def begun(self, replies: Replies) -> str:
        """Take the first reply; return where more of them go to."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take_into, [], replies, 1)
            reply = (await self.requests.receive(30)).reply
            await self.publish(reply, b"first")
        return reply

    async def no_request(self) -> bool:
        """Whether none has come that was not taken."""
        await self.nc.flush()
        await self.flush()
        with anyio.move_on_after(0):
            await self.requests.receive(0.01)
            return False
        return True


async def take_into(taken: list[bytes], replies: Replies, enough: int | None = None) -> None:
    async for message in replies:
        taken.append(message.data)
        if len(taken) == enough:
            break


@pytest.fixture
def run_asked(server: NatsServer, run: Run) -> Callable[[Main], None]:
    async def with_connections(main: Main) -> None:
        async with connect(server.url, name="asking") as nc, connect(server.url) as other:
            asked = Asked(server, nc, other)
            await other.flush()
            await main(asked)

    return lambda main: run(functools.partial(with_connections, main))


RunAsked = Callable[[Main], None]


def test_a_wait_that_is_cancelled_in_a_block_loses_no_reply_and_can_be_gone_on_with(run_asked: RunAsked) -> None:
    async def main(asked: Asked) -> None:
        async with asked.services.request_many("asked", timeout=30) as replies:
            for _ in range(3):
                with anyio.move_on_after(0.01) as scope:
                    await anext(replies)
                assert scope.cancelled_caught
            reply = (await asked.requests.receive(30)).reply
            await asked.publish(reply, b"1")
            await asked.publish(reply)
            assert [message.data async for message in replies] == [b"1"]
            assert replies.ended_by == "empty message"
        assert await asked.no_request()
        assert asked.left == []

    run_asked(main)


def test_a_wait_that_is_cancelled_without_a_block_ends_it(run_asked: RunAsked) -> None:
    async def main(asked: Asked) -> None:
        replies = asked.services.request_many("asked", timeout=1000)
        with anyio.move_on_after(0.01):
            await anext(replies)
        assert asked.nc._driver.listeners == []
        await asked.nc.flush()
        assert asked.left == []
        assert [message async for message in replies] == []

    run_asked(main)


def test_in_a_cancelled_scope_a_block_is_left_without_waiting(run_asked: RunAsked) -> None:
    async def main(asked: Asked) -> None:
        with anyio.CancelScope() as scope:
            async with asked.services.request_many("asked", timeout=1000) as replies:
                scope.cancel()
                await anext(replies)
        await asked.nc.flush()
        assert asked.left == []

    run_asked(main)


def test_what_is_made_and_not_used_sends_nothing(run_asked: RunAsked) -> None:
    async def main(asked: Asked) -> None:
        replies = asked.services.request_many("asked")
        await replies.close()
        assert [message async for message in replies] == []
        del replies
        asked.services.request_many("asked")
        assert await asked.no_request()

    run_asked(main)


def test_closed_it_ends_for_whoever_waits_for_more(run_asked: RunAsked) -> None:
    async def main(asked: Asked) -> None:
        taken: list[bytes] = []
        async with anyio.create_task_group() as tasks:
            replies = asked.services.request_many("asked", timeout=1000)
            reply = await asked.begun(replies)
            tasks.start_soon(take_into, taken, replies)
            await anyio.lowlevel.checkpoint()
            await replies.close()
            await replies.close()
        assert taken == []
        assert replies.ended_by is None
        await eventually(lambda: reply not in asked.left)

    run_asked(main)


def test_when_it_is_over_it_yields_nothing_and_sends_nothing_again(run_asked: RunAsked) -> None:
    async def main(asked: Asked) -> None:
        replies = asked.services.request_many("asked", timeout=30, limit=1)
        assert repr(replies) == "<Replies to 'asked'>"
        await asked.begun(replies)
        for _ in range(2):
            async with replies:
                assert [message async for message in replies] == []
        assert await asked.no_request()

    run_asked(main)


def test_several_tasks_may_share_it(run_asked: RunAsked) -> None:
    async def main(asked: Asked) -> None:
        taken: list[bytes] = []
        replies = asked.services.request_many("asked", timeout=30)
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(take_into, taken, replies)
            reply = (await asked.requests.receive(30)).reply
            for number in range(100):
                await asked.publish(reply, b"%d" % number)
            await asked.publish(reply)
        assert sorted(int(one) for one in taken) == list(range(100))
        assert await asked.no_request()

    run_asked(main)


def test_it_ends_when_nobody_has_it_any_more_in_whatever_thread_that_is(run_asked: RunAsked) -> None:
    async def main(asked: Asked) -> None:
        held = [asked.services.request_many("asked", timeout=1000)]
        reply = await asked.begun(held[0])
        thread = threading.Thread(target=held.clear)
        thread.start()
        await anyio.to_thread.run_sync(thread.join)
        await eventually(lambda: reply not in asked.left)

    run_asked(main)


def test_it_ends_when_only_the_garbage_collector_finds_it(run_asked: RunAsked) -> None:
    async def main(asked: Asked) -> None:
        replies: Any = asked.services.request_many("asked", timeout=1000)
        reply = await asked.begun(replies)
        replies.itself = replies
        del replies
        gc.collect()
        await eventually(lambda: reply not in asked.left)

    run_asked(main)


def test_it_may_be_dropped_after_its_connection_and_its_event_loop_have_ended(run_asked: RunAsked) -> None:
    held: list[Replies] = []

    async def main(asked: Asked) -> None:
        held.append(await asked.services.request_many("asked", timeout=1000).__aenter__())

    run_asked(main)
    held.clear()
    gc.collect()


def test_other_tasks_have_their_turn_while_replies_are_there_to_be_taken(run_asked: RunAsked) -> None:
    async def main(asked: Asked) -> None:
        turns: list[int] = []
        taken: list[Message] = []

        async def take_turns() -> None:
            while True:
                turns.append(len(taken))
                await anyio.lowlevel.checkpoint()

        async with asked.services.request_many("asked", timeout=30) as replies:
            reply = (await asked.requests.receive(30)).reply
            for number in range(1000):
                await asked.publish(reply, b"%d" % number)
            await asked.publish(reply)
            await eventually(lambda: replies.ended_by)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(take_turns)
                async for message in replies:
                    taken.append(message)  # noqa: PERF401  # the other task looks at it meanwhile
                tasks.cancel_scope.cancel()
        assert len(taken) == 1000
        assert len(turns) > 5  # one for each that the loop has left to others, in whatever order they have it

    run_asked(main)
