"""The JavaScript library's client finds and calls services of natsvc in every world."""

from __future__ import annotations

from typing import Any

import pytest

from natsvc import NO_QUEUE_GROUP, ErrorCodes, ServiceError
from natsvc.nuid import next_id
from natsvc.sync import add_service, connect
from natsvc.testing import NatsServer
from tests.javascript.node import JavaScriptError, JavaScriptProgram
from tests.worlds import Connection, Service, eventually

pytestmark = pytest.mark.node


async def echo(request: Any) -> None:
    await request.respond(request.data, headers=request.headers)


async def count(request: Any) -> None:
    for number in range(1, int(request.data) + 1):
        await request.respond(b"%d" % number)
    await request.respond()


async def fail(request: Any) -> None:
    raise ServiceError(int(request.data), "not today")


async def crash(_request: Any) -> None:
    raise ValueError("nobody's business")


async def refuse(request: Any) -> None:
    await request.respond_error(request.data.decode(), "in a word", b"more about it")


@pytest.fixture
def service(connection: Connection) -> Service:
    """A service whose endpoints are at `NAME.*`."""
    name = f"natsvc-{next_id()}"
    made = connection.add_service(
        name,
        version="1.2.3",
        description="Echoes, counts and fails",
        metadata={"language": "Python"},
        queue_group="workers",
        endpoint_data=lambda stats: {"subject": stats.subject},
    )
    group = made.add_group(name)
    group.add_endpoint("echo", handler=echo, metadata={"schema": "any"})
    group.add_endpoint("count", handler=count, queue_group="counters")
    group.add_endpoint("fail", handler=fail, queue_group=NO_QUEUE_GROUP)
    group.add_endpoint("crash", handler=crash)
    group.add_endpoint("refuse", handler=refuse)
    return made


def name_of(service: Service) -> str:
    return service.info().name


def test_ping_finds_it(javascript_client: JavaScriptProgram, service: Service) -> None:
    name = name_of(service)
    expected = {
        "type": "io.nats.micro.v1.ping_response",
        "name": name,
        "id": service.id,
        "version": "1.2.3",
        "metadata": {"language": "Python"},
    }
    for given in [(), (name,), (name, service.id)]:
        assert javascript_client.call("ping", *given) == [expected]


def test_info_shows_its_endpoints(javascript_client: JavaScriptProgram, service: Service) -> None:
    name = name_of(service)
    (info,) = javascript_client.call("info", name)
    assert info == {
        "type": "io.nats.micro.v1.info_response",
        "name": name,
        "id": service.id,
        "version": "1.2.3",
        "description": "Echoes, counts and fails",
        "metadata": {"language": "Python"},
        "endpoints": [
            {"name": "echo", "subject": f"{name}.echo", "queue_group": "workers", "metadata": {"schema": "any"}},
            {"name": "count", "subject": f"{name}.count", "queue_group": "counters", "metadata": {}},
            {"name": "fail", "subject": f"{name}.fail", "queue_group": "", "metadata": {}},
            {"name": "crash", "subject": f"{name}.crash", "queue_group": "workers", "metadata": {}},
            {"name": "refuse", "subject": f"{name}.refuse", "queue_group": "workers", "metadata": {}},
        ],
    }


def test_stats_show_what_it_has_counted(javascript_client: JavaScriptProgram, service: Service) -> None:
    name = name_of(service)
    for number in range(5):
        javascript_client.call("request", f"{name}.echo", str(number))
    for code in ("404", "422"):
        javascript_client.call("request", f"{name}.fail", code)
    eventually(lambda: sum(endpoint.num_requests for endpoint in service.stats().endpoints) == 7)
    (stats,) = javascript_client.call("stats", name, service.id)
    assert stats == service.stats().to_dict()
    counted = {one["name"]: (one["num_requests"], one["num_errors"], one["last_error"]) for one in stats["endpoints"]}
    assert counted == {
        "echo": (5, 0, ""),
        "count": (0, 0, ""),
        "fail": (2, 2, "422:not today"),
        "crash": (0, 0, ""),
        "refuse": (0, 0, ""),
    }
    assert stats["endpoints"][0]["data"] == {"subject": f"{name}.echo"}


def test_all_instances_are_found_until_they_stop(
    javascript_client: JavaScriptProgram, connection: Connection, service: Service
) -> None:
    name = name_of(service)
    second = connection.add_service(name, version="1.2.4")
    found = {(ping["id"], ping["version"]) for ping in javascript_client.call("ping", name)}
    assert found == {(service.id, "1.2.3"), (second.id, "1.2.4")}
    service.stop()
    assert [ping["id"] for ping in javascript_client.call("ping", name)] == [second.id]
    with pytest.raises(JavaScriptError, match="no responders"):
        javascript_client.call("request", f"{name}.echo", "")


def test_a_request_gets_the_response_with_its_headers(javascript_client: JavaScriptProgram, service: Service) -> None:
    sent = [["Trace", "17"], ["trace", "a b"]]
    assert javascript_client.call("request", f"{name_of(service)}.echo", "text ü", sent) == {
        "data": "text ü",
        "headers": {"Trace": ["17"], "trace": ["a b"]},
        "error": None,
    }


def test_headers_may_repeat_and_go_beyond_ascii(javascript_client: JavaScriptProgram, server: NatsServer) -> None:
    # On natsvc's own connection: of nats-py's, the former is true for responses alone, the latter not for its 2.10.
    name = f"natsvc-{next_id()}"
    with connect(server.url) as nc, add_service(nc, name=name) as service:
        service.add_endpoint(name, handler=lambda request: request.respond(headers=request.headers))
        reply = javascript_client.call("request", name, "", [["Link", "a ü"], ["Link", "日本"]])
    assert reply["headers"] == {"Link": ["a ü", "日本"]}


def test_several_replies_arrive_in_their_order(javascript_client: JavaScriptProgram, service: Service) -> None:
    replies = javascript_client.call("requestMany", f"{name_of(service)}.count", "100")
    # Here, the empty message that ends them is one of them.
    assert [reply["data"] for reply in replies] == [*(str(number) for number in range(1, 101)), ""]


def test_errors_are_read(javascript_client: JavaScriptProgram, service: Service) -> None:
    failed = javascript_client.call("request", f"{name_of(service)}.fail", "422")
    assert failed["headers"] == {"Nats-Service-Error-Code": ["422"], "Nats-Service-Error": ["not today"]}
    assert failed["error"] == {"code": 422, "message": "not today"}

    crashed = javascript_client.call("request", f"{name_of(service)}.crash", "")
    assert crashed["error"] == {"code": 500, "message": "Internal Server Error"}

    refused = javascript_client.call("request", f"{name_of(service)}.refuse", "409")
    assert refused["error"] == {"code": 409, "message": "in a word"}
    assert refused["data"] == "more about it"


@pytest.mark.parametrize("code", [code for name, code in vars(ErrorCodes).items() if name.isupper()])
def test_codes_in_words_are_read_as_400(javascript_client: JavaScriptProgram, service: Service, code: str) -> None:
    refused = javascript_client.call("request", f"{name_of(service)}.refuse", code)
    assert refused["headers"]["Nats-Service-Error-Code"] == [code]
    assert refused["error"] == {"code": 400, "message": "in a word"}
