"""Design: what a service subscribes to, and what it says of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from natsvc import NO_QUEUE_GROUP, ServiceDefinition, ServiceVerb, control_subject
from tests.plain_client import PlainClient
from tests.worlds import Connection, World, eventually, interest


async def echo(request: Any) -> None:
    await request.respond(request.data)


def control_subjects(name: str, id: str, prefix: str = "$SRV") -> set[str]:
    return {
        f"{prefix}.{verb}{rest}" for verb in ("PING", "INFO", "STATS") for rest in ("", f".{name}", f".{name}.{id}")
    }


def test_a_service_has_nine_control_subscriptions_and_none_is_in_a_queue_group(world: World, make_server: Any) -> None:
    server = make_server()
    service = world.connect(server.url).add_service("watched")
    assert interest(server) == dict.fromkeys(control_subjects("watched", service.id), "")


def test_the_prefix_of_the_control_subjects_can_be_chosen(world: World, make_server: Any) -> None:
    server = make_server()
    service = world.connect(server.url).add_service("watched", prefix="acc.$SRV")
    assert set(interest(server)) == control_subjects("watched", service.id, "acc.$SRV")


@pytest.mark.parametrize("verb", list(ServiceVerb))
@pytest.mark.parametrize("how", ["all", "name", "id"])
def test_each_verb_is_answered_for_all_services_by_name_and_by_id(
    connection: Connection, client: PlainClient, verb: ServiceVerb, how: str
) -> None:
    service = connection.add_service(f"asked-{how}", prefix=f"only.{verb}.{how}")
    name = None if how == "all" else f"asked-{how}"
    subject = control_subject(verb, name, service.id if how == "id" else None, f"only.{verb}.{how}")
    answer = json.loads(client.request(subject).data)
    assert (answer["name"], answer["id"]) == (f"asked-{how}", service.id)


def test_the_subject_of_an_endpoint_is_its_name_unless_it_has_one(connection: Connection, client: PlainClient) -> None:
    service = connection.add_service("subjects")
    service.add_endpoint("subjects-by-name", handler=echo)
    service.add_endpoint("other", subject="subjects.by.subject", handler=echo)
    assert client.request("subjects-by-name", b"1").data == b"1"
    assert client.request("subjects.by.subject", b"2").data == b"2"


def test_groups_nest_and_put_their_names_before_the_subject(connection: Connection, client: PlainClient) -> None:
    service = connection.add_service("nested")
    inner = service.add_group("outer-g").add_group("").add_group("inner.deep")
    endpoint = inner.add_endpoint("leaf", handler=echo)
    assert endpoint.subject == "outer-g.inner.deep.leaf"
    assert client.request("outer-g.inner.deep.leaf", b"x").data == b"x"
    assert [one.subject for one in service.info().endpoints] == ["outer-g.inner.deep.leaf"]
    assert [one.subject for one in service.stats().endpoints] == ["outer-g.inner.deep.leaf"]


def test_a_subject_may_have_wildcards(connection: Connection, client: PlainClient) -> None:
    async def subject_of(request: Any) -> bytes:
        return str(request.subject).encode()

    service = connection.add_service("wild")
    service.add_endpoint("star", subject="wild.*.end", handler=subject_of)
    service.add_endpoint("rest", subject="wilder.>", handler=subject_of)
    assert client.request("wild.any.end").data == b"wild.any.end"
    assert client.request("wilder.a.b.c").data == b"wilder.a.b.c"


def test_info_and_stats_show_the_queue_group_really_used(connection: Connection) -> None:
    service = connection.add_service("groups", queue_group="service-group")
    group = service.add_group("g", queue_group="group-group")
    none = service.add_group("n", queue_group=NO_QUEUE_GROUP)
    service.add_endpoint("a", handler=echo)
    service.add_endpoint("b", handler=echo, queue_group="own")
    group.add_endpoint("c", handler=echo)
    group.add_group("below").add_endpoint("d", handler=echo)
    none.add_endpoint("e", handler=echo)
    none.add_endpoint("f", handler=echo, queue_group="again")
    expected = [("a", "service-group"), ("b", "own"), ("c", "group-group"), ("d", "group-group")]
    expected += [("e", ""), ("f", "again")]
    assert [(one.name, one.queue_group) for one in service.info().endpoints] == expected
    assert [(one.name, one.queue_group) for one in service.stats().endpoints] == expected


def test_the_server_is_told_the_queue_group(world: World, make_server: Any) -> None:
    server = make_server()
    service = world.connect(server.url).add_service("told")
    service.add_endpoint("default", handler=echo)
    service.add_endpoint("own", handler=echo, queue_group="mine")
    service.add_endpoint("none", handler=echo, queue_group=NO_QUEUE_GROUP)
    seen = interest(server)
    assert (seen["default"], seen["own"], seen["none"]) == ("q", "mine", "")


def test_instances_share_the_requests_of_a_queue_group(connection: Connection, client: PlainClient) -> None:
    services = [connection.add_service("sharing") for _ in range(2)]
    for service in services:
        service.add_endpoint("sharing-e", handler=echo)
    for _ in range(20):
        client.request("sharing-e")
    eventually(lambda: sum(service.stats().endpoints[0].num_requests for service in services) >= 20)
    assert sum(service.stats().endpoints[0].num_requests for service in services) == 20


def test_without_a_queue_group_every_instance_gets_every_request(connection: Connection, client: PlainClient) -> None:
    for _ in range(2):
        connection.add_service("everyone").add_endpoint("everyone-e", handler=echo, queue_group=NO_QUEUE_GROUP)
    pending = client.send("everyone-e", b"x")
    assert [pending.result().data, pending.next().data] == [b"x", b"x"]


def test_endpoints_added_before_and_after_the_start_are_served_alike(
    connection: Connection, client: PlainClient
) -> None:
    definition = ServiceDefinition("added")
    definition.add_endpoint("added-before", handler=echo)
    service = connection.add_service(definition)
    service.add_endpoint("added-after", handler=echo)
    assert client.request("added-before", b"x").data == client.request("added-after", b"x").data == b"x"
    assert [one.name for one in service.info().endpoints] == ["added-before", "added-after"]
