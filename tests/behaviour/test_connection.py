"""Design: the service and the connection under it - lost, drained, closed, refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from natsvc import ConnectionClosedError, NatsvcError, PermissionsError, ServiceDefinition
from natsvc.testing import NatsServer
from tests.plain_client import PlainClient
from tests.worlds import LIMIT, Connection, World, eventually, interest


async def echo(request: Any) -> None:
    await request.respond(request.data)


def test_the_service_survives_a_reconnect_with_the_same_id_and_stats(
    world: World, make_server: Callable[[], NatsServer]
) -> None:
    server = make_server()
    connection = world.connect(server.url)
    service = connection.add_service("surviving")
    service.add_endpoint("surviving-e", handler=echo)
    with PlainClient(server.url) as client:
        assert client.request("surviving-e", b"1").data == b"1"
        eventually(lambda: service.stats().endpoints[0].num_requests == 1)
    server.kill()
    eventually(lambda: not connection.is_connected)
    server.restart()
    eventually(lambda: connection.is_connected)
    with PlainClient(server.url) as client:
        eventually(lambda: client.request("surviving-e", b"2").data == b"2")
        assert json.loads(client.request("$SRV.PING.surviving").data)["id"] == service.id
    eventually(lambda: service.stats().endpoints[0].num_requests >= 2)


def test_replies_made_while_disconnected_go_out_after_the_reconnect(
    world: World, make_server: Callable[..., NatsServer]
) -> None:
    # A stream takes the reply, for nobody could be sure to subscribe before the service is there again.
    server = make_server(jetstream=True)
    connection = world.connect(server.url)
    gate = world.gate()
    begun: list[Any] = []

    async def handler(request: Any) -> bytes:
        begun.append(request)
        await gate.wait()
        return b"made while disconnected"

    service = connection.add_service("buffering")
    service.add_endpoint("buffering-e", handler=handler)
    with PlainClient(server.url) as client:
        created = client.request("$JS.API.STREAM.CREATE.ANSWERS", b'{"name": "ANSWERS", "subjects": ["answers.here"]}')
        assert "error" not in json.loads(created.data)
        client.publish("buffering-e", b"", reply="answers.here")
        eventually(lambda: begun)  # what the server has taken, it may not have passed on yet
    server.kill()
    eventually(lambda: not connection.is_connected)
    gate.open()
    eventually(lambda: service.stats().endpoints[0].num_requests == 1)
    server.restart()
    with PlainClient(server.url) as client:

        def kept() -> str:
            found = client.request("$JS.API.STREAM.MSG.GET.ANSWERS", b'{"last_by_subj": "answers.here"}')
            return str(json.loads(found.data).get("message", {}).get("data", ""))

        eventually(lambda: base64.b64decode(kept()) == b"made while disconnected")


def test_while_disconnected_add_service_and_add_endpoint_and_stop_return_at_once(
    world: World, make_server: Callable[[], NatsServer]
) -> None:
    server = make_server()
    connection = world.connect(server.url)
    running = connection.add_service("before")
    server.kill()
    eventually(lambda: not connection.is_connected)
    running.add_endpoint("before-e", handler=echo)
    added = connection.add_service("meanwhile")
    added.add_endpoint("meanwhile-e", handler=echo)
    gone = connection.add_service("gone")
    gone.stop()
    assert gone.is_stopped
    server.restart()
    with PlainClient(server.url) as client:
        eventually(lambda: client.request("meanwhile-e", b"x").data == b"x")
        eventually(lambda: client.request("before-e", b"x").data == b"x")
        assert client.request("$SRV.PING.gone").status == "503"


def test_draining_the_connection_first_stops_the_services_and_waits_for_their_handlers(
    world: World, server: NatsServer, client: PlainClient
) -> None:
    connection = world.connect(server.url)
    gate = world.gate()
    stopped: list[object] = []

    async def handler(request: Any) -> bytes:
        await gate.wait()
        return b"served"

    services = [
        connection.add_service(f"drained-{number}", done_handler=lambda service, error: stopped.append(error))
        for number in range(2)
    ]
    for service in services:
        service.add_endpoint("drained-e", subject=f"drained.{service.info().name}", handler=handler)
    pending = [client.send(f"drained.drained-{number}") for number in (0, 1) for _ in range(10)]
    client.flush()
    draining = connection.begin_drain()
    eventually(lambda: not {"drained.drained-0", "drained.drained-1"} & interest(server).keys())
    assert not draining.done()
    gate.open()
    assert [one.result().data for one in pending] == [b"served"] * 20
    draining.result(LIMIT)
    assert connection.is_closed
    assert stopped == [None, None]
    assert [service.error for service in services] == [None, None]


def test_no_request_is_lost_when_owners_drain_their_connections_under_load(
    world: World, server: NatsServer, client: PlainClient
) -> None:
    async def handler(request: Any) -> bytes:
        await world.sleep(0.002)
        return bytes(request.data)

    definition = ServiceDefinition("drain-rolling")
    definition.add_endpoint("drain-rolling-e", handler=handler)
    connections = [world.connect(server.url) for _ in range(2)]
    for connection in connections:
        connection.add_service(definition)
    sent = []
    for turn in range(20):
        sent += [client.send("drain-rolling-e", b"%d" % number) for number in range(100)]
        connections[turn % 2].drain()
        connections[turn % 2] = world.connect(server.url)
        connections[turn % 2].add_service(definition)
    assert [one.result(LIMIT).data for one in sent] == [b"%d" % number for number in range(100)] * 20


def test_the_connection_closing_for_good_ends_the_service_with_an_error(
    world: World, server: NatsServer, client: PlainClient
) -> None:
    connection = world.connect(server.url)
    never = world.gate()
    seen: list[str] = []
    told: list[object] = []

    async def handler(request: Any) -> None:
        seen.append("begun")
        try:
            await never.wait()
        finally:
            seen.append("cancelled")

    service = connection.add_service(
        "cut",
        done_handler=lambda service, error: told.append(error),
        error_handler=lambda service, error, request: told.append(error),
    )
    service.add_endpoint("cut-e", handler=handler)
    client.send("cut-e")
    eventually(lambda: seen == ["begun"])
    connection.close()
    eventually(lambda: service.is_stopped)
    assert isinstance(service.error, ConnectionClosedError)
    eventually(lambda: told == [service.error, service.error])
    eventually(lambda: seen == ["begun", "cancelled"])
    service.stop()  # on a closed connection it doesn't raise
    with pytest.raises(ConnectionClosedError):
        connection.add_service("too-late")


DENIED = """
authorization {
    users: [
        {user: free, password: pw}
        {user: bound, password: pw, permissions: {subscribe: {deny: ["Denied.>", "$SRV.INFO.>"]}}}
        {user: mute, password: pw, permissions: {publish: {deny: ["silent.>"]}}}
    ]
}
"""


def url_of(server: NatsServer, user: str) -> str:
    return server.url.replace("nats://", f"nats://{user}:pw@")


def test_an_endpoint_subscription_that_is_refused_ends_the_service(
    world: World, make_server: Callable[[str], NatsServer]
) -> None:
    server = make_server(DENIED.replace(', "$SRV.INFO.>"', ""))
    service = world.connect(url_of(server, "bound")).add_service("refused")
    service.add_endpoint("allowed", handler=echo)
    with pytest.raises(PermissionsError) as caught:
        service.add_endpoint("not-allowed", subject="Denied.here", handler=echo)
    assert caught.value.subject == "Denied.here"
    eventually(lambda: service.is_stopped)
    assert service.error is caught.value
    with PlainClient(url_of(server, "free")) as client:
        assert client.request("allowed").status == "503"


def test_a_control_subscription_that_is_refused_ends_the_service(
    world: World, make_server: Callable[[str], NatsServer]
) -> None:
    server = make_server(DENIED)
    connection = world.connect(url_of(server, "bound"))
    with pytest.raises(PermissionsError) as caught:
        connection.add_service("uncontrolled")
    assert caught.value.subject.startswith("$SRV.INFO.uncontrolled")
    with PlainClient(url_of(server, "free")) as client:
        eventually(lambda: client.request("$SRV.PING.uncontrolled").status == "503")


def test_a_subscription_lost_later_ends_the_service(world: World, make_server: Callable[[str], NatsServer]) -> None:
    server = make_server(DENIED)
    told: list[object] = []
    service = world.connect(url_of(server, "bound").replace("bound", "mute")).add_service(
        "losing", error_handler=lambda service, error, request: told.append(error)
    )
    service.add_endpoint("losing-e", handler=echo)
    server.reload(
        DENIED.replace('permissions: {publish: {deny: ["silent.>"]}}', 'permissions: {subscribe: {deny: ["losing-e"]}}')
    )
    eventually(lambda: service.is_stopped)
    assert isinstance(service.error, PermissionsError)
    assert service.error.subject == "losing-e"
    assert told == [service.error]


def test_a_reply_that_the_server_refuses_is_told_to_the_error_handler_and_ends_nothing(
    world: World, make_server: Callable[[str], NatsServer]
) -> None:
    server = make_server(DENIED)
    told: list[Any] = []
    service = world.connect(url_of(server, "mute")).add_service(
        "muted", error_handler=lambda service, error, request: told.append(error)
    )
    service.add_endpoint("muted-e", handler=echo)
    with PlainClient(url_of(server, "free")) as client:
        client.publish("muted-e", b"", reply="silent.one")
        eventually(lambda: told)
        assert isinstance(told[0], PermissionsError)
        assert (told[0].operation, told[0].subject) == ("publish", "silent.one")
        assert client.request("muted-e", b"x").data == b"x"


def test_a_service_needs_a_connection(world: World, connection: Connection) -> None:
    connection.close()
    with pytest.raises(NatsvcError):
        connection.add_service("unconnected")
