"""Design: what is too large is refused before anything is written, and the connection lives on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from natsvc import MaxPayloadError, ServiceError
from natsvc.testing import NatsServer
from tests.plain_client import PlainClient
from tests.worlds import Connection, World, eventually

LIMIT = 1024


@pytest.fixture
def small(make_server: Callable[[str], NatsServer]) -> NatsServer:
    return make_server(f"max_payload: {LIMIT}")


@pytest.fixture
def connection(world: World, small: NatsServer) -> Connection:
    return world.connect(small.url)


@pytest.fixture
def client(small: NatsServer) -> Iterator[PlainClient]:
    with PlainClient(small.url) as connected:
        yield connected


async def raise_too_much(request: Any) -> None:
    raise ServiceError(400, "x" * 2 * LIMIT)


async def respond_too_much(request: Any) -> None:
    await request.respond(b"x" * (LIMIT + 1))


async def respond_too_many_headers(request: Any) -> None:
    await request.respond(b"x" * (LIMIT - 20), headers={"X-Pushes": "it over"})


async def return_too_much(request: Any) -> bytes:
    return b"x" * (LIMIT + 1)


async def swallow_it(request: Any) -> None:
    with pytest.raises(MaxPayloadError):
        await request.respond(b"x" * (LIMIT + 1))


def block_with_too_much(request: Any) -> None:
    request.respond(b"x" * (LIMIT + 1))


@pytest.mark.parametrize(
    "handler",
    [raise_too_much, respond_too_much, respond_too_many_headers, return_too_much, swallow_it, block_with_too_much],
)
def test_a_reply_over_max_payload_ends_in_a_500_and_a_living_connection(
    connection: Connection, client: PlainClient, handler: Any
) -> None:
    service = connection.add_service("sized")
    service.add_endpoint("sized-e", handler=handler)
    assert client.request("sized-e").error_code == "500"
    eventually(lambda: service.stats().endpoints[0].num_errors == 1)
    assert client.request("sized-e").error_code == "500", "the connection is still the same"


def test_a_reply_of_exactly_max_payload_is_sent(connection: Connection, client: PlainClient) -> None:
    async def handler(request: Any) -> None:
        headers = {"X": "1"}
        block = len(b"NATS/1.0\r\nX: 1\r\n\r\n")
        await request.respond(b"x" * (LIMIT - block), headers=headers)
        await request.respond(b"x" * LIMIT)

    connection.add_service("exact").add_endpoint("exact-e", handler=handler)
    pending = client.send("exact-e")
    assert pending.result().header("X") == "1"
    assert len(pending.next().data) == LIMIT


def test_after_a_refused_response_a_smaller_one_can_be_sent(connection: Connection, client: PlainClient) -> None:
    async def handler(request: Any) -> None:
        try:
            await request.respond(b"x" * (LIMIT + 1))
        except MaxPayloadError as error:
            await request.respond(str(error.limit))

    service = connection.add_service("smaller")
    service.add_endpoint("smaller-e", handler=handler)
    assert client.request("smaller-e").data == b"1024"
    eventually(lambda: service.stats().endpoints[0].num_requests == 1)
    assert service.stats().endpoints[0].num_errors == 0


def test_a_reply_subject_too_long_for_a_command_line_is_refused_and_the_connection_lives(
    connection: Connection, client: PlainClient
) -> None:
    async def handler(request: Any) -> None:
        with pytest.raises(MaxPayloadError, match="command line"):
            await request.respond(b"x" * 100, headers={"X": "1"})

    service = connection.add_service("long-reply")
    service.add_endpoint("lr", handler=handler)
    client.publish("lr", b"", reply="r" * (4096 - len("lr  0")))
    eventually(lambda: service.stats().endpoints[0].num_requests == 1)
    assert client.request("$SRV.PING.long-reply").data
