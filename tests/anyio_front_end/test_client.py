"""The calling side on anyio: what its own lines do; what answers mean is tested where it is decided."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from natsvc.anyio import ConfigError, Request, ServiceClient, add_service, connect
from natsvc.testing import NatsServer
from tests.anyio_front_end.conftest import Run
from tests.anyio_front_end.tools import eventually, subscriptions


async def echo(request: Request) -> bytes:
    return request.data


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
