"""The calling side on asyncio: on either kind of connection, with services of natsvc, of nats.micro, and of nobody."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import nats.micro
import pytest
from nats.aio.client import Client
from nats.micro.service import EndpointConfig as MicroEndpointConfig

from natsvc.asyncio import (
    ConfigError,
    ConnectionClosedError,
    HeaderError,
    Headers,
    MaxPayloadError,
    NoRespondersError,
    OutboundBufferError,
    Request,
    ServiceClient,
    ServiceError,
    SubjectError,
    add_service,
)
from natsvc.testing import NatsServer
from tests.plain_client import PlainClient, PlainSubscription
from tests.worlds import LIMIT, confirmed, connect_nats_py, connect_natsvc, interest

CONNECT: dict[str, Callable[[str], Awaitable[Any]]] = {"natsvc": connect_natsvc, "nats-py": connect_nats_py}


@pytest.fixture(params=list(CONNECT))
def connect(request: pytest.FixtureRequest) -> Callable[[str], Awaitable[Any]]:
    return CONNECT[request.param]


@pytest.fixture
async def nc(server: NatsServer, connect: Callable[[str], Awaitable[Any]]) -> AsyncIterator[Any]:
    connection = await connect(server.url)
    yield connection
    await connection.close()


@pytest.fixture
async def services(nc: Any) -> ServiceClient:
    return ServiceClient(nc)


async def echo(request: Request) -> None:
    await request.respond(request.data, headers=request.headers)


async def answer_nothing(_request: object) -> None:
    return


async def until(condition: Callable[[], object]) -> None:
    """Wait for what must come true, with the event loop going on."""
    async with asyncio.timeout(LIMIT):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.005)


def inboxes(server: NatsServer) -> list[str]:
    """The inboxes that are subscribed to, apart from those that all requests of a connection share."""
    return [subject for subject in interest(server) if subject.startswith("_INBOX.") and not subject.endswith(".*")]


def ping_answer(id: str) -> bytes:
    return json.dumps({"type": "io.nats.micro.v1.ping_response", "name": "raw", "id": id}).encode()


async def asked(subscription: PlainSubscription) -> str:
    """Wait for a question; return where the answers go to."""
    return (await asyncio.to_thread(subscription.next, LIMIT)).reply


# Asking what services are


@pytest.mark.filterwarnings("ignore:.*utcnow:DeprecationWarning")
async def test_services_of_nats_micro_are_found_too(caller: Client, services: ServiceClient) -> None:
    service = await nats.micro.add_service(caller, name="micro", version="1.0.0", description="d")
    await service.add_endpoint(MicroEndpointConfig(name="micro-e", handler=answer_nothing))
    await confirmed(caller)
    (ping,) = await services.ping("micro")
    (info,) = await services.info("micro", ping.id)
    (stats,) = await services.stats("micro", ping.id)
    assert (info.name, info.version, info.description) == ("micro", "1.0.0", "d")
    assert [endpoint.subject for endpoint in info.endpoints] == ["micro-e"]
    assert [endpoint.num_requests for endpoint in stats.endpoints] == [0]
    assert stats.started is not None
    await service.stop()


async def test_without_a_name_all_services_are_asked(nc: Any, services: ServiceClient) -> None:
    async with add_service(nc, name="one-of-all"), add_service(nc, name="another-of-all"):
        assert {"one-of-all", "another-of-all"} <= {ping.name for ping in await services.ping()}


async def test_more_answers_than_come_in_one_turn_are_all_taken(services: ServiceClient, client: PlainClient) -> None:
    subscription = client.subscribe("$SRV.PING.crowd")
    pending = asyncio.create_task(services.ping("crowd", timeout=LIMIT, stall=LIMIT, limit=2000))
    reply = await asked(subscription)
    for number in range(2000):
        client.publish(reply, ping_answer(str(number)))
    assert [ping.id for ping in await pending] == [str(number) for number in range(2000)]


# Sending requests


async def test_a_request_returns_the_response(nc: Any, services: ServiceClient) -> None:
    async with add_service(nc, name="responding") as service:
        await service.add_endpoint("responding-e", handler=echo)
        reply = await services.request("responding-e", "text ü", headers={"A": "1"}, timeout=LIMIT)
        assert reply.data == "text ü".encode()
        assert reply.headers["A"] == "1"
        assert (await services.request("responding-e", timeout=None)).data == b""


async def test_a_request_is_sent_with_all_its_headers(services: ServiceClient, client: PlainClient) -> None:
    subscription = client.subscribe("with-headers")
    pending = asyncio.create_task(
        services.request("with-headers", b"data", headers=Headers([("A", "1"), ("A", "2")]), timeout=LIMIT)
    )
    request = await asyncio.to_thread(subscription.next, LIMIT)
    client.publish(request.reply, b"answer")
    assert (request.headers, request.data) == ([("A", "1"), ("A", "2")], b"data")
    assert (await pending).data == b"answer"


@pytest.mark.filterwarnings("ignore:.*utcnow:DeprecationWarning")
async def test_an_error_reply_of_nats_micro_is_raised(caller: Client, services: ServiceClient) -> None:
    async def fail(_request: object) -> None:
        raise nats.micro.request.ServiceError("409", "conflict")

    service = await nats.micro.add_service(caller, name="micro-failing", version="1.0.0")
    await service.add_endpoint(MicroEndpointConfig(name="micro-failing-e", handler=fail))
    await confirmed(caller)
    with pytest.raises(ServiceError) as caught:
        await services.request("micro-failing-e", timeout=LIMIT)
    assert (caught.value.code, caught.value.description) == ("409", "conflict")
    await service.stop()


@pytest.mark.parametrize("timeout", [-1, float("inf"), float("nan"), True, "1"])
async def test_what_is_no_timeout_is_refused(services: ServiceClient, timeout: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        await services.request("nobody-listens-here", timeout=timeout)
    assert caught.value.field == "timeout"


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB b 0\r\n", "\udfff\ud800", None, b"a"])
async def test_a_subject_that_cannot_be_sent_is_refused(services: ServiceClient, subject: Any) -> None:
    with pytest.raises(SubjectError):
        await services.request(subject, timeout=LIMIT)


async def test_a_request_that_the_server_would_hang_up_on_is_refused_and_the_connection_stays(
    nc: Any, services: ServiceClient
) -> None:
    with pytest.raises(MaxPayloadError):
        await services.request("too-much", b"x" * nc.max_payload, headers={"A": "1"})
    for subject in ("s" * 4096, "s" * 4080):
        with pytest.raises(MaxPayloadError):
            await services.request(subject)
    with pytest.raises(MaxPayloadError):
        await services.ping("s" * 4060)
    assert await services.ping("nobody-of-this-name") == []


async def test_headers_and_data_that_cannot_be_sent_are_refused(services: ServiceClient) -> None:
    with pytest.raises(HeaderError):
        await services.request("not-sent", headers={"A B": "1"})
    with pytest.raises(TypeError):
        await services.request("not-sent", 1)  # type: ignore[arg-type]


async def test_a_header_that_is_no_utf_8_is_sent_by_natsvc_and_refused_by_nats_py(services: ServiceClient) -> None:
    with pytest.raises((HeaderError, NoRespondersError)):
        await services.request("nobody-listens-here", headers={"A": "\udc80"}, timeout=LIMIT)


# Many at once, and cancelled


async def test_many_calls_at_once_each_get_their_own_answers(nc: Any, services: ServiceClient) -> None:
    async with add_service(nc, name="busy") as service:
        await service.add_endpoint("busy-e", handler=echo)
        requests = [services.request("busy-e", b"%d" % number, timeout=LIMIT) for number in range(200)]
        pings = [services.ping("busy", service.id, timeout=LIMIT) for _ in range(100)]
        replies, found = await asyncio.gather(asyncio.gather(*requests), asyncio.gather(*pings))
        assert [reply.data for reply in replies] == [b"%d" % number for number in range(200)]
        assert [[ping.id for ping in one] for one in found] == [[service.id]] * 100


async def test_a_handler_may_call_other_services_on_its_own_connection(nc: Any, services: ServiceClient) -> None:
    async def forward(request: Request) -> bytes:
        return (await services.request("inner", request.data, timeout=LIMIT)).data

    async with add_service(nc, name="outer-and-inner") as service:
        await service.add_endpoint("outer", handler=forward)
        await service.add_endpoint("inner", handler=echo)
        assert (await services.request("outer", b"through", timeout=LIMIT)).data == b"through"


async def test_no_call_leaves_a_subscription_on_the_server(
    server: NatsServer, services: ServiceClient, client: PlainClient
) -> None:
    client.subscribe("$SRV.*.unanswered")
    await services.ping("unanswered", timeout=0.02)
    await services.info("nobody-of-this-name")
    with pytest.raises(MaxPayloadError):
        await services.ping("s" * 4060)
    await until(lambda: not inboxes(server))


async def test_a_cancelled_call_leaves_the_connection_usable_and_no_subscription_on_the_server(
    server: NatsServer, nc: Any, services: ServiceClient, client: PlainClient
) -> None:
    """Cancelled before it begins, at its first wait, some turns of the loop after that, and when all has been sent."""
    client.subscribe("$SRV.*.cancelled")
    client.subscribe("cancelled")
    calls: list[Callable[[], Any]] = [
        lambda: services.ping("cancelled", timeout=LIMIT),
        lambda: services.info("cancelled", timeout=LIMIT),
        lambda: services.stats("cancelled", timeout=LIMIT),
        lambda: services.request("cancelled", timeout=LIMIT),
    ]
    for call in calls:
        for turns in (0, 1, 2, 3, 5, 10):
            task = asyncio.create_task(call())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        task = asyncio.create_task(call())
        await confirmed(nc)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with add_service(nc, name="after-all") as service:
        await service.add_endpoint("after-all-e", handler=echo)
        assert (await services.request("after-all-e", b"x", timeout=LIMIT)).data == b"x"
        assert len(await services.ping("after-all", limit=1)) == 1
    await until(lambda: not inboxes(server))


# When the connection ends, breaks, or is not there


async def test_a_client_can_be_made_before_its_nats_py_connection_is_connected(server: NatsServer) -> None:
    nc = Client()
    services = ServiceClient(nc)
    with pytest.raises(ConnectionClosedError, match="never connected"):
        await services.ping()
    await nc.connect(server.url)
    assert await services.ping("nobody-of-this-name") == []
    await nc.close()


async def test_a_call_that_outlives_the_server_leaves_nothing_behind_after_the_reconnect(
    make_server: Callable[[], NatsServer], connect: Callable[[str], Awaitable[Any]]
) -> None:
    server = await asyncio.to_thread(make_server)
    nc = await connect(server.url)
    services = ServiceClient(nc)
    with PlainClient(server.url) as silent:
        silent.subscribe("$SRV.PING.outlived")
        pending = asyncio.create_task(services.ping("outlived", timeout=10 * LIMIT))
        await confirmed(nc)
        await asyncio.to_thread(server.kill)
        await until(lambda: not nc.is_connected)
        pending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pending
        assert await services.ping("meanwhile", timeout=0.01) == []
    await asyncio.to_thread(server.restart)
    await until(lambda: nc.is_connected)
    await confirmed(nc)
    await until(lambda: not inboxes(server))
    assert await services.ping("nobody-of-this-name", timeout=LIMIT) == []
    await nc.close()


async def test_more_than_is_kept_while_disconnected_is_a_typed_error(make_server: Callable[[], NatsServer]) -> None:
    server = await asyncio.to_thread(make_server)
    nc = await nats.connect(server.url, pending_size=0, reconnect_time_wait=0.05, error_cb=_ignore)
    services = ServiceClient(nc)
    await asyncio.to_thread(server.kill)
    await until(lambda: not nc.is_connected)
    with pytest.raises(OutboundBufferError):
        await services.ping("not-kept", timeout=LIMIT)
    with pytest.raises(OutboundBufferError):
        await services.request("not-kept", b"x", timeout=LIMIT)
    await asyncio.to_thread(server.restart)
    await until(lambda: nc.is_connected)
    await confirmed(nc)
    await until(lambda: not inboxes(server))
    await nc.close()


async def _ignore(_error: Exception) -> None:
    return


async def test_what_is_refused_of_others_concerns_no_question(
    make_server: Callable[..., NatsServer], connect: Callable[[str], Awaitable[Any]]
) -> None:
    server = await asyncio.to_thread(
        make_server, 'authorization {users: [{user: u, password: p, permissions: {publish: {deny: "no"}}}]}'
    )
    with PlainClient(server.url.replace("nats://", "nats://u:p@")) as raw:
        subscription = raw.subscribe("$SRV.PING.secret")
        nc = await connect(server.url.replace("nats://", "nats://u:p@"))
        pending = asyncio.create_task(ServiceClient(nc).ping("secret", timeout=LIMIT, limit=1))
        reply = await asked(subscription)
        await nc.publish("no", b"")
        await confirmed(nc)
        raw.publish(reply, ping_answer("allowed"))
        assert [ping.id for ping in await pending] == ["allowed"]
        await nc.close()


# What a client can be made of


@pytest.mark.parametrize("nc", [None, "nats://127.0.0.1:4222", object(), Client])
def test_what_is_no_connection_is_refused(nc: object) -> None:
    with pytest.raises(TypeError, match="Connection of natsvc"):
        ServiceClient(nc)


async def test_a_prefix_that_no_subject_can_have_is_refused_when_the_client_is_made(nc: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        ServiceClient(nc, prefix="a b")
    assert caught.value.field == "prefix"


async def test_no_prefix_given_as_none_is_the_default_prefix(nc: Any) -> None:
    async with add_service(nc, name="by-default"):
        assert len(await ServiceClient(nc, prefix=None).ping("by-default", limit=1)) == 1
