"""Cancelled at any point where it waits, an operation leaves the connection usable, and nothing behind."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import pytest

from natsvc.asyncio import Connection, Request, ServiceClient, add_service, connect
from natsvc.testing import NatsServer
from tests.worlds import LIMIT


async def echo(request: Request) -> bytes:
    return request.data


async def cancelled_at(number: int, coroutine: Coroutine[Any, Any, Any]) -> bool:
    """Run a coroutine as a task, and cancel it when it waits for the n-th time; return whether it came to that."""
    counted = asyncio.get_running_loop().create_task(_count(coroutine, number))
    await asyncio.wait({counted}, timeout=LIMIT)
    assert counted.done(), "it does not end"
    if counted.cancelled():
        return True
    counted.result()
    return False


async def _count(coroutine: Coroutine[Any, Any, Any], number: int) -> Any:
    return await _counting(coroutine, number)


@types.coroutine
def _counting(coroutine: Coroutine[Any, Any, Any], number: int) -> Generator[Any, Any, Any]:
    step: Callable[[Any], Any] = coroutine.send
    sent: Any = None
    while True:
        try:
            awaited = step(sent)
        except StopIteration as stop:
            return stop.value
        number -= 1
        if number == 0:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        try:
            step, sent = coroutine.send, (yield awaited)
        except BaseException as error:  # noqa: BLE001  # it is the coroutine's
            step, sent = coroutine.throw, error


def clients(server: NatsServer, name: str) -> list[dict[str, Any]]:
    return [one for one in server.monitoring("connz?subs=1")["connections"] if one.get("name") == name]


def subscriptions(server: NatsServer, name: str) -> list[str]:
    return sorted(subject for one in clients(server, name) for subject in one.get("subscriptions_list", ()))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT):
        while not condition():
            await asyncio.sleep(0.005)


async def is_usable(nc: Connection) -> bool:
    async with nc.subscribe(nc.new_inbox()) as subscription:
        await nc.publish(subscription.subject, b"1")
        await nc.flush()
        first = await subscription.receive(LIMIT)
        return first.data == b"1" and (await nc.request("cancel-echo", b"2", timeout=LIMIT)).data == b"2"


async def loop_over_replies(nc: Connection) -> None:
    async for _ in ServiceClient(nc).request_many("cancel-echo", b"x", timeout=LIMIT):
        await asyncio.sleep(0)  # more could come
        break


async def loop_over_replies_in_a_block(nc: Connection) -> None:
    async with ServiceClient(nc).request_many("cancel-echo", b"x", timeout=LIMIT) as replies:
        async for _ in replies:
            await asyncio.sleep(0)
            break


OPERATIONS: dict[str, Callable[[Connection], Coroutine[Any, Any, Any]]] = {
    "request": lambda nc: nc.request("cancel-echo", b"x", timeout=LIMIT),
    "flush": lambda nc: nc.flush(LIMIT),
    "publish": lambda nc: nc.publish("nobody", b"x" * 100_000),
    "call": lambda nc: ServiceClient(nc).request("cancel-echo", b"x", timeout=LIMIT),
    "ping": lambda nc: ServiceClient(nc).ping(limit=1, timeout=LIMIT),
    "replies": loop_over_replies,
    "replies in a block": loop_over_replies_in_a_block,
}


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_cancelled_operation_leaves_the_connection_usable(server: NatsServer, operation: str) -> None:
    async with connect(server.url, name="cancelled") as nc, add_service(nc, name="echoing") as service:
        await service.add_endpoint("cancel-echo", handler=echo)
        await nc.request("cancel-echo", b"", timeout=LIMIT)  # from here on, the inbox is subscribed
        before = subscriptions(server, "cancelled")
        number = 1
        while await cancelled_at(number, OPERATIONS[operation](nc)):
            assert await is_usable(nc)
            assert len(nc._driver.listeners) == 1, "the service alone"
            number += 1
        assert number > 1, "it has waited nowhere"
        async with asyncio.timeout(30):  # what a loop has left behind is unsubscribed soon, by who collects it
            while subscriptions(server, "cancelled") != before:
                await nc.flush()


@pytest.mark.parametrize("way", ["receive", "iteration"])
async def test_a_cancelled_wait_for_a_message_loses_none(server: NatsServer, way: str) -> None:
    async with connect(server.url) as nc, nc.subscribe(nc.new_inbox()) as subscription:

        async def take() -> bytes:
            message = await (subscription.receive() if way == "receive" else anext(subscription))
            return message.data

        assert await cancelled_at(1, take())
        for number in range(10):
            await nc.publish(subscription.subject, str(number))
        assert [await take() for _ in range(10)] == [str(number).encode() for number in range(10)]


async def test_a_cancelled_drain_closes(server: NatsServer) -> None:
    number = 1
    cancelled = True
    while cancelled:
        nc = await connect(server.url, name="drained")
        service = await add_service(nc, name="drained")
        await service.add_endpoint("drained-e", handler=echo)
        subscription = nc.subscribe("drained")
        await nc.publish("drained")
        await nc.flush()

        async def take(messages: Any = subscription) -> list[bytes]:
            return [message.data async for message in messages]

        taking = asyncio.ensure_future(take())
        cancelled = await cancelled_at(number, nc.drain())
        assert nc.is_closed
        assert await taking == [b""]
        async with asyncio.timeout(LIMIT):
            await service.stopped.wait()
        number += 1
    assert number > 2
    await until(lambda: not clients(server, "drained"))


async def test_a_cancelled_connect_leaves_no_connection(server: NatsServer) -> None:
    async def use() -> None:
        async with connect(server.url, name="connecting") as nc:
            await nc.flush()

    number = 1
    while await cancelled_at(number, use()):
        await until(lambda: not clients(server, "connecting"))
        number += 1
    assert number > 2


async def test_a_cancelled_start_leaves_no_subscription(server: NatsServer) -> None:
    async with connect(server.url, name="starting") as nc:

        async def start() -> None:
            await add_service(nc, name="started")

        number = 1
        while await cancelled_at(number, start()):
            await nc.flush()
            assert subscriptions(server, "starting") == []
            assert nc._driver.listeners == []
            number += 1
        assert number > 1


async def test_a_cancelled_wait_for_a_stop_leaves_the_stop_going_on(server: NatsServer) -> None:
    async with connect(server.url, name="stopping") as nc:
        number = 1
        cancelled = True
        while cancelled:
            service = await add_service(nc, name="stopping")
            await service.add_endpoint("stopping-e", handler=echo)
            cancelled = await cancelled_at(number, service.stop())
            async with asyncio.timeout(LIMIT):
                await service.stopped.wait()
            await nc.flush()
            assert subscriptions(server, "stopping") == []
            number += 1
        assert number > 1


async def test_a_cancelled_block_of_a_service_leaves_nothing(server: NatsServer) -> None:
    async with connect(server.url, name="block") as nc, connect(server.url) as caller:
        handling = asyncio.Event()

        async def waits(request: Request) -> None:
            handling.set()
            await asyncio.Event().wait()

        async def serve() -> None:
            async with add_service(nc, name="block") as service:
                await service.add_endpoint("block-e", handler=waits)
                await asyncio.Event().wait()

        serving = asyncio.ensure_future(serve())
        await until(lambda: "block-e" in subscriptions(server, "block"))
        request = asyncio.ensure_future(caller.request("block-e", timeout=LIMIT))
        await handling.wait()
        serving.cancel()
        await asyncio.wait({serving}, timeout=LIMIT)
        assert serving.cancelled()
        request.cancel()
        await nc.flush()
        assert subscriptions(server, "block") == []
        assert nc._driver.listeners == []
