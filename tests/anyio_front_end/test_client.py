"""The calling side on anyio: what its own lines do; what answers mean is tested where it is decided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from natsvc.anyio import (
    ConfigError,
    ConnectionClosedError,
    PermissionsError,
    Request,
    ServiceClient,
    ServiceError,
    add_service,
    connect,
)
from natsvc.testing import NatsServer
from tests.anyio_front_end.conftest import Run
from tests.anyio_front_end.tools import eventually, subscriptions


async def echo(request: Request) -> bytes:
    return request.data


def test_services_are_found_with_what_they_are_and_how_they_do(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        async with (
            connect(server.url) as nc,
            add_service(nc, name="found") as first,
            add_service(nc, name="found", version="2.0.0") as second,
        ):
            await first.add_endpoint("found-e", handler=echo)
            client = ServiceClient(nc)
            assert {one.id for one in await client.ping("found")} == {first.id, second.id}
            [info] = await client.info("found", first.id)
            assert [endpoint.name for endpoint in info.endpoints] == ["found-e"]
            [stats] = await client.stats("found", second.id)
            assert (stats.version, stats.endpoints) == ("2.0.0", [])
            assert len(await client.ping(limit=1)) == 1
            assert all(one.round_trip is not None for one in await client.ping("found"))

    run(main)


def test_where_nobody_is_there_the_answer_is_empty_at_once(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        async with connect(server.url) as nc:
            with anyio.fail_after(20):
                assert await ServiceClient(nc).ping("nobody", timeout=1000, stall=1000) == []

    run(main)


def test_an_answer_that_stays_away_is_waited_for_no_longer_than_said(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        async with connect(server.url) as nc, nc.subscribe("$SRV.PING.mute"), add_service(nc, name="mute") as service:
            with anyio.fail_after(20):
                [answer] = await ServiceClient(nc).ping("mute", timeout=1000, stall=0.01)
                assert answer.id == service.id
            async with nc.subscribe("$SRV.PING.deaf"):
                assert await ServiceClient(nc).ping("deaf", timeout=0.01) == []

    run(main)


def test_many_calls_at_once_each_get_their_own_answers_and_leave_no_subscription(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        async def call(number: int) -> None:
            client = ServiceClient(nc)
            assert (await client.request("calls-e", b"%d" % number)).data == b"%d" % number
            assert [one.name for one in await client.ping("calls", limit=1)] == ["calls"]

        async with connect(server.url, name="subscribed") as nc, add_service(nc, name="calls") as service:
            await service.add_endpoint("calls-e", handler=echo)
            await nc.request("calls-e")
            before = subscriptions(server, "subscribed")
            async with anyio.create_task_group() as tasks:
                for number in range(50):
                    tasks.start_soon(call, number)
            await nc.flush()
            assert subscriptions(server, "subscribed") == before

    run(main)


def test_an_error_reply_is_raised(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        async def handler(request: Request) -> None:
            await request.respond_error(418, "a teapot", b"tea")

        async with connect(server.url) as nc, add_service(nc, name="teapot") as service:
            await service.add_endpoint("teapot-e", handler=handler)
            with pytest.raises(ServiceError) as caught:
                await ServiceClient(nc).request("teapot-e")
            assert (caught.value.code, caught.value.description, caught.value.data) == ("418", "a teapot", b"tea")

    run(main)


def test_a_connection_that_closes_ends_the_calls_on_it_at_once(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        ended: list[str] = []

        async def ask(call: Callable[[], Any], name: str) -> None:
            with pytest.raises(ConnectionClosedError):
                await call()
            ended.append(name)

        async with connect(server.url) as nc:
            client = ServiceClient(nc)
            deaf, mute = nc.subscribe("$SRV.PING.deaf"), nc.subscribe("mute")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, lambda: client.ping("deaf", timeout=1000), "ping")
                tasks.start_soon(ask, lambda: client.request("mute", timeout=1000), "request")
                await deaf.receive(10)
                await mute.receive(10)
                await nc.close()
            assert sorted(ended) == ["ping", "request"]
            await ask(lambda: client.ping(), "late")

    run(main)


def test_a_question_that_the_server_does_not_allow_is_refused_at_once(
    make_server: Callable[[str], NatsServer], run: Run
) -> None:
    async def main(url: str) -> None:
        async with connect(url) as nc:
            with anyio.fail_after(20), pytest.raises(PermissionsError) as caught:
                await ServiceClient(nc).ping("secret", timeout=1000)
            assert caught.value.subject == "$SRV.PING.secret"

    server = make_server(
        'authorization {users: [{user: u, password: p, permissions: {publish: {deny: ["$SRV.PING.secret"]}}}]}'
    )
    run(lambda: main(server.url.replace("nats://", "nats://u:p@")))


def test_what_breaks_a_rule_is_refused_before_anything_is_sent(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        async with connect(server.url) as nc:
            with pytest.raises(ConfigError):
                ServiceClient(nc, prefix="a b")
            for call in (
                ServiceClient(nc).ping(id="without a name"),
                ServiceClient(nc).info(timeout=-1),
                ServiceClient(nc).request("a", timeout=float("nan")),
            ):
                with pytest.raises(ConfigError):
                    await call

    run(main)


def test_calls_go_on_after_a_reconnect(make_server: Callable[[], NatsServer], run: Run) -> None:
    async def main(server: NatsServer) -> None:
        async with connect(server.url, reconnect_wait=0.01) as nc, add_service(nc, name="again") as service:
            await service.add_endpoint("again-e", handler=echo)
            server.kill()
            await eventually(lambda: not nc.is_connected)
            server.restart()
            await nc.flush(30)
            assert (await ServiceClient(nc).request("again-e", b"x")).data == b"x"
            assert [one.id for one in await ServiceClient(nc).ping("again")] == [service.id]

    server = make_server()
    run(lambda: main(server))
