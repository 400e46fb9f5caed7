"""Design: what may be awaited or not, and when a subscription is live."""

from __future__ import annotations

from typing import Any

import pytest
from nats.aio.client import Client

import natsvc.asyncio
from natsvc.asyncio import (
    ConfigError,
    ConnectionClosedError,
    EndpointConfig,
    GroupConfig,
    Request,
    ServiceConfig,
    ServiceDefinition,
    add_service,
)


async def echo(request: Request) -> None:
    await request.respond(request.data)


async def test_what_does_no_io_may_be_awaited_or_not(nc: Client) -> None:
    async with add_service(nc, name="either-way") as service:
        plain, awaited = service.add_group("a"), await service.add_group("a")
        assert (type(plain), type(await awaited.add_group("b"))) == (natsvc.asyncio.Group, natsvc.asyncio.Group)
        service.reset()
        await service.reset()
        assert await service.info() == service.info()
        assert await service.stats() == service.stats()
        assert await service.ping() == service.ping()


async def test_a_decorated_handler_is_subscribed_before_what_the_task_sends_afterwards(
    nc: Client,
) -> None:
    async with add_service(nc, name="decorated") as service:

        @service.endpoint("decorated-e")
        async def handler(request: Request) -> bytes:
            return b"served"

        group = service.add_group("decorated-g")

        @group.endpoint("e", subject="deep.e", metadata={"k": "v"})
        async def deep(request: Request) -> bytes:
            return b"deep"

        assert (await nc.request("decorated-e", b"", timeout=30)).data == b"served"
        assert (await nc.request("decorated-g.deep.e", b"", timeout=30)).data == b"deep"


async def test_flush_waits_until_a_decorated_handler_can_be_reached_from_elsewhere(nc: Client, caller: Client) -> None:
    async with add_service(nc, name="flushed") as service:
        service.endpoint("flushed-e")(echo)
        await service.flush()
        assert (await caller.request("flushed-e", b"x", timeout=30)).data == b"x"


async def test_a_decorator_leaves_the_function_what_it_is(nc: Client) -> None:
    async with add_service(nc, name="unchanged") as service:
        assert service.endpoint("unchanged-e")(echo) is echo


async def test_names_lead_and_fields_override(nc: Client) -> None:
    async with add_service(nc, ServiceConfig("configured", version="1.0.0"), version="2.0.0") as service:
        assert (service.name, service.version, service.metadata) == ("configured", "2.0.0", {})
        config = EndpointConfig("configured-e", handler=echo, subject="a.b")
        endpoint = await service.add_endpoint(config, subject="a.c", queue_group=None)
        assert (endpoint.name, endpoint.subject, endpoint.queue_group) == ("configured-e", "a.c", "q")
        assert (await service.add_endpoint("leading", handler=echo)).name == "leading"
        assert (await service.add_group(GroupConfig("g")).add_endpoint("e", handler=echo)).subject == "g.e"


async def test_a_definition_is_run_as_often_as_wanted(nc: Client, caller: Client) -> None:
    definition = ServiceDefinition("defined", version="1.0.0")

    @definition.endpoint("defined-e")
    async def handler(request: Request) -> bytes:
        return b"served"

    definition.add_group("defined-g").add_endpoint("e", handler=handler)
    async with add_service(nc, definition) as one, add_service(nc, definition, version="1.1.0") as two:
        assert one.id != two.id
        assert (one.version, two.version) == ("1.0.0", "1.1.0")
        assert [endpoint.subject for endpoint in two.info().endpoints] == ["defined-e", "defined-g.e"]
        assert (await caller.request("defined-g.e", b"", timeout=30)).data == b"served"


async def test_a_definition_of_very_many_endpoints_is_subscribed_whole(nc: Client, caller: Client) -> None:
    definition = ServiceDefinition("many")
    for number in range(1500):
        definition.add_endpoint(f"many-{number}", handler=echo)
    async with add_service(nc, definition):
        assert (await caller.request("many-0", b"first", timeout=30)).data == b"first"
        assert (await caller.request("many-1499", b"last", timeout=30)).data == b"last"


@pytest.mark.parametrize("nc", ["nats://127.0.0.1:4222", None, 7])
async def test_something_that_is_no_connection_is_a_type_error(nc: Any) -> None:
    with pytest.raises(TypeError, match=type(nc).__name__):
        add_service(nc, name="nothing")


async def test_a_client_that_was_never_connected_is_refused() -> None:
    with pytest.raises(ConnectionClosedError):
        add_service(Client(), name="nothing")


async def test_async_and_plain_middleware_and_endpoint_data_are_told_apart(nc: Client) -> None:
    def plain(request: Any, call_next: Any) -> Any:
        return call_next(request)

    async def data(stats: Any) -> None: ...

    async with add_service(nc, name="told-apart") as service:
        with pytest.raises(ConfigError, match="async def"):
            await service.add_endpoint("told-apart-e", handler=echo, middleware=[plain])
    with pytest.raises(ConfigError, match="endpoint_data"):
        add_service(nc, name="told-apart", endpoint_data=data)
