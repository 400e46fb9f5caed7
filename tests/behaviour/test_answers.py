"""Design: the answers to PING, INFO and STATS, as any client sees them."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any

import pytest
from nats.micro.service import ServiceInfo as NatsPyInfo
from nats.micro.service import ServicePing as NatsPyPing
from nats.micro.service import ServiceStats as NatsPyStats

from natsvc import EndpointStats, ServiceInfo, ServicePing, ServiceStats
from tests.plain_client import PlainClient
from tests.worlds import Connection, Service, eventually


async def echo(request: Any) -> None:
    await request.respond(request.data)


def ask(client: PlainClient, verb: str, service: Service) -> dict[str, Any]:
    info = service.info()
    answer: dict[str, Any] = json.loads(client.request(f"$SRV.{verb}.{info.name}.{info.id}").data)
    return answer


def test_ping_has_the_identity_and_nothing_else(connection: Connection, client: PlainClient) -> None:
    service = connection.add_service("identity", version="1.2.3", metadata={"team": "a"})
    assert ask(client, "PING", service) == {
        "type": "io.nats.micro.v1.ping_response",
        "name": "identity",
        "id": service.id,
        "version": "1.2.3",
        "metadata": {"team": "a"},
    }


def test_info_has_description_and_endpoints(connection: Connection, client: PlainClient) -> None:
    service = connection.add_service("informed", description="What it is, für people")
    service.add_endpoint("informed-e", handler=echo, metadata={"k": "v"}, subject="informed.e")
    assert ask(client, "INFO", service) == {
        "type": "io.nats.micro.v1.info_response",
        "name": "informed",
        "id": service.id,
        "version": "0.0.1",
        "metadata": {},
        "description": "What it is, für people",
        "endpoints": [
            {"name": "informed-e", "subject": "informed.e", "queue_group": "q", "metadata": {"k": "v"}},
        ],
    }


def test_stats_have_counters_and_no_data_if_there_is_none(connection: Connection, client: PlainClient) -> None:
    service = connection.add_service("counted")
    service.add_endpoint("counted-e", handler=echo)
    for _ in range(3):
        client.request("counted-e")
    eventually(lambda: service.stats().endpoints[0].num_requests == 3)
    answer = ask(client, "STATS", service)
    (endpoint,) = answer.pop("endpoints")
    started = answer.pop("started")
    assert answer == {
        "type": "io.nats.micro.v1.stats_response",
        "name": "counted",
        "id": service.id,
        "version": "0.0.1",
        "metadata": {},
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", started)
    assert abs(dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(started)) < dt.timedelta(minutes=1)
    total = endpoint.pop("processing_time")
    assert isinstance(total, int)
    assert total > 0
    assert endpoint == {
        "name": "counted-e",
        "subject": "counted-e",
        "queue_group": "q",
        "num_requests": 3,
        "num_errors": 0,
        "last_error": "",
        "average_processing_time": total // 3,
    }


def test_the_methods_of_the_service_say_what_the_answers_say(connection: Connection, client: PlainClient) -> None:
    service = connection.add_service("same", version="2.0.0")
    service.add_endpoint("same-e", handler=echo)
    assert ServiceInfo.from_dict(ask(client, "INFO", service)) == service.info()
    assert ServiceStats.from_dict(ask(client, "STATS", service)) == service.stats()
    assert ServicePing.from_dict(ask(client, "PING", service)).id == service.id


def test_a_metadata_dict_changed_after_the_fact_changes_nothing(connection: Connection, client: PlainClient) -> None:
    metadata = {"k": "old"}
    service = connection.add_service("copied", metadata=metadata)
    service.add_endpoint("copied-e", handler=echo, metadata=metadata)
    metadata["k"] = "new"
    metadata["other"] = "more"
    assert ask(client, "PING", service)["metadata"] == {"k": "old"}
    assert ask(client, "INFO", service)["endpoints"][0]["metadata"] == {"k": "old"}


def test_endpoint_data_becomes_data_in_stats(connection: Connection, client: PlainClient) -> None:
    def data(stats: EndpointStats) -> dict[str, object]:
        return {"name": stats.name, "requests": stats.num_requests}

    service = connection.add_service("with-data", endpoint_data=data)
    service.add_endpoint("with-data-e", handler=echo)
    assert ask(client, "STATS", service)["endpoints"][0]["data"] == {"name": "with-data-e", "requests": 0}


@pytest.mark.parametrize("broken", [lambda stats: 1 / 0, lambda stats: object(), lambda stats: float("nan")])
def test_if_endpoint_data_fails_data_is_left_out_and_error_handler_told(
    connection: Connection, client: PlainClient, broken: Any
) -> None:
    told: list[tuple[Any, BaseException, Any]] = []
    service = connection.add_service(
        "broken-data", endpoint_data=broken, error_handler=lambda *arguments: told.append(arguments)
    )
    service.add_endpoint("broken-data-e", handler=echo)
    assert "data" not in ask(client, "STATS", service)["endpoints"][0]
    eventually(lambda: told)
    assert isinstance(told[0][1], Exception)
    assert told[0][2] is None


def test_a_control_handler_answers_in_place_of_the_built_in_answer(connection: Connection, client: PlainClient) -> None:
    async def custom(request: Any) -> None:
        await request.respond_json({"mine": request.subject})

    service = connection.add_service("custom", stats_handler=custom, ping_handler=custom, info_handler=custom)
    for verb in ("STATS", "PING", "INFO"):
        assert ask(client, verb, service) == {"mine": f"$SRV.{verb}.custom.{service.id}"}


async def returns(request: Any) -> bytes:
    return b"{}"


async def raises(request: Any) -> None:
    raise ValueError("broken")


async def is_silent(request: Any) -> None:
    return


@pytest.mark.parametrize("broken", [returns, raises, is_silent])
def test_a_control_handler_that_does_not_respond_gives_way_to_the_built_in_answer_and_error_handler_is_told(
    connection: Connection, client: PlainClient, broken: Any
) -> None:
    told: list[BaseException] = []
    service = connection.add_service(
        "gives-way", info_handler=broken, error_handler=lambda service, error, request: told.append(error)
    )
    assert ask(client, "INFO", service)["name"] == "gives-way"
    eventually(lambda: len(told) == 1)


def test_a_control_handler_may_be_a_blocking_one(connection: Connection, client: PlainClient) -> None:
    def custom(request: Any) -> None:
        request.respond(b'{"blocking": true}')

    service = connection.add_service("blocking-control", stats_handler=custom)
    assert ask(client, "STATS", service) == {"blocking": True}


def test_an_answer_larger_than_max_payload_ends_in_a_500_and_a_living_connection(world: Any, make_server: Any) -> None:
    server = make_server("max_payload: 2048")
    service = world.connect(server.url).add_service("large", description="x" * 4000)
    with PlainClient(server.url) as client:
        assert client.request("$SRV.INFO.large").error_code == "500"
        assert ask(client, "PING", service)["id"] == service.id


def test_nats_pys_own_models_read_the_three_answers(connection: Connection, client: PlainClient) -> None:
    service = connection.add_service("read", version="1.0.0", endpoint_data=lambda stats: {"any": "thing"})
    service.add_endpoint("read-e", handler=echo)
    client.request("read-e")
    eventually(lambda: service.stats().endpoints[0].num_requests == 1)
    assert NatsPyPing.from_dict(ask(client, "PING", service)).id == service.id
    info = NatsPyInfo.from_dict(ask(client, "INFO", service))
    assert [(one.name, one.queue_group) for one in info.endpoints] == [("read-e", "q")]
    stats = NatsPyStats.from_dict(ask(client, "STATS", service))
    assert [(one.num_requests, one.last_error, one.data) for one in stats.endpoints] == [(1, "", {"any": "thing"})]
