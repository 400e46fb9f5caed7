"""The connection and its services on uvloop: another event loop of asyncio, with transports and timers of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from natsvc.asyncio import Request, ServiceClient, add_service, connect
from natsvc.testing import NatsServer
from tests.connection.certificates import Certificates
from tests.worlds import LIMIT

if sys.platform == "win32":
    pytest.skip("there is no uvloop for Windows", allow_module_level=True)

import uvloop


def run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(main, LIMIT))


async def serve_and_call(url: str, **options: Any) -> None:
    async with connect(url, **options) as nc, add_service(nc, name="on-uvloop") as service:

        @service.endpoint("on-uvloop-e")
        async def echo(request: Request) -> bytes:
            return request.data

        await service.flush()
        client = ServiceClient(nc)
        answers = await asyncio.gather(*(client.request("on-uvloop-e", str(number)) for number in range(500)))
        assert [answer.data for answer in answers] == [str(number).encode() for number in range(500)]
        large = b"x" * nc.max_payload
        assert (await nc.request("on-uvloop-e", large, timeout=LIMIT)).data == large
        assert [ping.id for ping in await client.ping("on-uvloop")] == [service.id]
        await nc.reconnect()
        await nc.flush(LIMIT)
        assert (await client.request("on-uvloop-e", b"again")).data == b"again"


def test_a_service_answers(server: NatsServer) -> None:
    run(serve_and_call(server.url))


def test_a_service_answers_over_tls(make_server: Callable[..., NatsServer], tmp_path: Path) -> None:
    certificates = Certificates.make(tmp_path)
    server = make_server(tls=certificates.server_tls())
    run(serve_and_call(server.url, tls=certificates.context()))


def test_the_connection_comes_back_when_its_server_does(make_server: Callable[..., NatsServer]) -> None:
    server = make_server()

    async def main() -> None:
        async with connect(server.url, reconnect_wait=0.05, ping_interval=0.01) as nc:
            for _ in range(3):
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
                await nc.flush(LIMIT)
                assert nc.is_connected

    run(main())


def test_keep_alives_go_on_in_a_busy_loop(server: NatsServer) -> None:
    async def main() -> None:
        async with connect(server.url, ping_interval=0.003) as nc:
            sent = server.monitoring()["in_msgs"]
            state = nc._state
            pings = 0
            while pings < 20:
                before = state._pings_out
                await asyncio.sleep(0)
                pings += state._pings_out > before
            assert server.monitoring()["in_msgs"] == sent

    run(main())
