"""Design: cancelled at any of its checkpoints, an operation leaves the connection usable, and nothing behind."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from natsvc.anyio import Connection, Request, Service, ServiceClient, Subscription, add_service, connect
from natsvc.testing import NatsServer
from tests.anyio_front_end.conftest import Run
from tests.anyio_front_end.tools import cancelled_at, connections, eventually, subscriptions


async def echo(request: Request) -> bytes:
    return request.data


async def is_usable(nc: Connection) -> bool:
    """Whether requests, flush and subscriptions work as if nothing had happened."""
    async with nc.subscribe(nc.new_inbox()) as subscription:
        await nc.publish(subscription.subject, b"1")
        await nc.flush()
        return (await subscription.receive(10)).data == b"1" and (await nc.request("echo", b"2")).data == b"2"


async def loop_over_replies(nc: Connection) -> None:
    async for _ in ServiceClient(nc).request_many("echo", b"x"):
        await anyio.lowlevel.checkpoint()  # more could come
        break


async def loop_over_replies_in_a_block(nc: Connection) -> None:
    async with ServiceClient(nc).request_many("echo", b"x") as replies:
        async for _ in replies:
            await anyio.lowlevel.checkpoint()
            break


OPERATIONS: dict[str, Callable[[Connection], Awaitable[object]]] = {
    "request": lambda nc: nc.request("echo", b"x"),
    "flush": lambda nc: nc.flush(),
    "publish": lambda nc: nc.publish("nobody", b"x" * 100_000),
    "call": lambda nc: ServiceClient(nc).request("echo", b"x"),
    "ping": lambda nc: ServiceClient(nc).ping(limit=1),
    "replies": loop_over_replies,
    "replies in a block": loop_over_replies_in_a_block,
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_cancelled_operation_leaves_the_connection_usable(server: NatsServer, run: Run, operation: str) -> None:
    async def main() -> int:
        async with connect(server.url, name="subscribed") as nc, add_service(nc, name="echoing") as service:
            await service.add_endpoint("echo", handler=echo)
            await nc.request("echo", b"")  # from here on, the connection's inbox is subscribed
            before = subscriptions(server, "subscribed")
            number = 1
            while await cancelled_at(number, once(OPERATIONS[operation], nc)):
                assert await is_usable(nc)
                assert len(nc._driver.listeners) == 1, "the service alone"
                number += 1
            with anyio.fail_after(30):  # what a loop has left behind is unsubscribed soon, by who collects it
                while subscriptions(server, "subscribed") != before:
                    await nc.flush()
            return number

    assert run(main) > 1, "it has no checkpoint"


async def once(operation: Callable[[Connection], Awaitable[object]], nc: Connection) -> None:
    await operation(nc)


@pytest.mark.parametrize("way", ["receive", "iteration"])
def test_a_cancelled_wait_for_a_message_loses_none(server: NatsServer, run: Run, way: str) -> None:
    async def take(subscription: Subscription) -> None:
        message = await (subscription.receive() if way == "receive" else anext(subscription))
        taken.append(int(message.data))

    taken: list[int] = []

    async def main() -> None:
        async with connect(server.url) as nc, nc.subscribe(nc.new_inbox()) as subscription:
            sent = 0
            for number in (1, 2):
                for _ in range(150):  # enough for the checkpoints of a subscription that is never empty
                    await nc.publish(subscription.subject, b"%d" % sent)
                    sent += 1
                await nc.flush()
                with anyio.move_on_after(10):
                    while len(taken) < sent:
                        await cancelled_at(number, take(subscription))
            assert await cancelled_at(1, take(subscription))
            await nc.publish(subscription.subject, b"%d" % sent)
            await take(subscription)
            assert taken == list(range(sent + 1))

    run(main)


def test_a_cancelled_drain_closes_the_connection(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        number = 1
        cancelled = True
        while cancelled:
            async with (
                connect(server.url, name="drained") as nc,
                add_service(nc, name="drained") as service,
            ):
                await service.add_endpoint("drained-e", handler=echo)
                subscription = nc.subscribe("drained")
                await nc.publish("drained")
                await nc.flush()
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(subscription.receive)
                    cancelled = await cancelled_at(number, nc.drain())
                assert nc.is_closed
                await service.stopped.wait()
                service._runner.state.error = None
            number += 1
            await eventually(lambda: not connections(server, "drained"))
        assert number > 2

    run(main)


def test_a_cancelled_connect_leaves_no_connection(server: NatsServer, run: Run) -> None:
    async def use() -> None:
        async with connect(server.url, name="connecting") as nc:
            entered.append(nc)
            await nc.flush()

    entered: list[Connection] = []

    async def main() -> None:
        number = 1
        while await cancelled_at(number, use()):
            number += 1
            await eventually(lambda: not connections(server, "connecting"))
        assert number > 3
        assert all(nc.is_closed for nc in entered)

    run(main)


def test_a_service_that_is_cancelled_anywhere_leaves_nothing(server: NatsServer, run: Run) -> None:
    async def use(nc: Connection) -> None:
        async with add_service(nc, name="cancelled") as service:
            await service.add_endpoint("cancelled-e", handler=echo)
            await nc.request("cancelled-e", b"")
            services.append(service)

    services: list[Service] = []

    async def main() -> None:
        async with connect(server.url, name="subscribed") as nc, add_service(nc, name="echoing") as other:
            await other.add_endpoint("echo", handler=echo)
            await nc.request("echo", b"")
            before = subscriptions(server, "subscribed")
            number = 1
            while await cancelled_at(number, use(nc)):
                number += 1
                assert await is_usable(nc)
                assert len(nc._driver.listeners) == 1
            assert number > 3
            assert await is_usable(nc)
            await nc.flush()
            assert subscriptions(server, "subscribed") == before
        assert all(service.stopped.is_set() for service in services)

    run(main)


def test_a_cancelled_stop_goes_on_and_can_be_joined(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        number = 1
        cancelled = True
        while cancelled:
            release = anyio.Event()
            answers: list[bytes] = []

            async def handler(request: Request, release: anyio.Event = release) -> bytes:
                await release.wait()
                return b"served"

            async def ask(nc: Connection, answers: list[bytes] = answers) -> None:
                answers.append((await nc.request("stopping-e", b"")).data)

            async with (
                connect(server.url) as nc,
                add_service(nc, name="stopping") as service,
                anyio.create_task_group() as tasks,
            ):
                await service.add_endpoint("stopping-e", handler=handler)
                tasks.start_soon(ask, nc)
                await eventually(functools.partial(is_handling, service))
                tasks.start_soon(open_later, release)
                cancelled = await cancelled_at(number, service.stop())
                await service.stop()
                assert service.stopped.is_set()
            assert answers == [b"served"]
            number += 1
        assert number > 2

    run(main)


def is_handling(service: Service) -> bool:
    return bool(service._runner.state.endpoints[0].active)


async def open_later(event: anyio.Event) -> None:
    for _ in range(3):
        await anyio.sleep(0.001)
    event.set()


def test_a_cancelled_publish_sends_whole_commands_only(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        got: list[bytes] = []

        async def collect(subscription: Subscription) -> None:
            async for message in subscription:
                got.append(message.data)  # noqa: PERF401  # what is there can be looked at meanwhile

        async with connect(server.url) as nc, connect(server.url) as other, anyio.create_task_group() as tasks:
            subscription = other.subscribe("bulk")
            await other.flush()
            tasks.start_soon(collect, subscription)
            bodies = [bytes([65 + number]) * 900_000 for number in range(20)]
            for body in bodies:
                await cancelled_at(1, once(lambda nc, body=body: nc.publish("bulk", body), nc))  # type: ignore[misc]
            await nc.flush()
            await eventually(lambda: len(got) == len(bodies))
            tasks.cancel_scope.cancel()
            assert got == bodies
            assert nc.is_connected

    run(main)


def test_while_the_scope_around_it_is_cancelled_a_connection_still_serves_a_shielded_clean_up(
    server: NatsServer, run: Run
) -> None:
    cleaned: list[Any] = []

    async def main() -> None:
        with anyio.CancelScope() as scope:
            async with connect(server.url) as nc, connect(server.url) as other:
                subscription = other.subscribe("cleaned")
                await other.flush()
                try:
                    scope.cancel()
                    await anyio.sleep_forever()
                finally:
                    with anyio.CancelScope(shield=True):
                        await nc.publish("cleaned", b"up")
                        await nc.flush()
                        cleaned.append((await subscription.receive(10)).data)
        assert cleaned == [b"up"]
        assert nc.is_closed

    run(main)
