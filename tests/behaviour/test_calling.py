"""Design: what a ServiceClient learns of services, and what of a reply is an error."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from natsvc import (
    ConfigError,
    ConnectionClosedError,
    NoRespondersError,
    PermissionsError,
    RequestTimeoutError,
    ServiceError,
)
from natsvc.testing import NatsServer
from tests.callers import Caller, caller
from tests.plain_client import PlainClient
from tests.worlds import LIMIT, Connection, World

VERBS = ["ping", "info", "stats"]


@pytest.fixture
def services(connection: Connection) -> Caller:
    return caller(connection)


async def echo(request: Any) -> Any:
    return request.data


def answer(kind: str = "ping", **fields: Any) -> bytes:
    content = {"type": f"io.nats.micro.v1.{kind}_response", "name": "raw", "id": "i", "version": "1.0.0"}
    return json.dumps(content | fields).encode()


# Asking what services are


def test_services_are_found_with_what_they_are_and_how_they_do(connection: Connection, services: Caller) -> None:
    first = connection.add_service("found", version="1.2.3", description="d", metadata={"a": "b"})
    second = connection.add_service("found")
    first.add_endpoint("found-e", subject="found.e", handler=echo)
    pings = services.begin("ping", "found").result(LIMIT)
    assert {ping.id for ping in pings} == {first.id, second.id}
    info = {info.id: info for info in services.begin("info", "found").result(LIMIT)}
    assert info == {first.id: first.info(), second.id: second.info()}
    stats = {stats.id: stats for stats in services.begin("stats", "found").result(LIMIT)}
    assert stats == {first.id: first.stats(), second.id: second.stats()}
    assert {"found"} <= {ping.name for ping in services.begin("ping").result(LIMIT)}


def test_a_ping_carries_its_round_trip_time(services: Caller, client: PlainClient) -> None:
    subscription = client.subscribe("$SRV.PING.slow")
    pending = services.begin("ping", "slow", timeout=LIMIT, limit=2)
    reply = subscription.next().reply
    client.publish(reply, answer(id="quick"))
    with pytest.raises(TimeoutError):
        pending.result(0.1)
    client.publish(reply, answer(id="slow"))
    quick, slow = pending.result(LIMIT)
    assert 0 < quick.round_trip < slow.round_trip < LIMIT
    assert slow.round_trip >= 0.1, "in seconds, from the question to this answer"


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_not_json_or_of_another_type_is_skipped_and_logged_and_ends_nothing(
    services: Caller, client: PlainClient, caplog: pytest.LogCaptureFixture, verb: str
) -> None:
    subscription = client.subscribe(f"$SRV.{verb.upper()}.mixed")
    with caplog.at_level(logging.WARNING, "natsvc.client"):
        pending = services.begin(verb, "mixed", timeout=LIMIT, stall=LIMIT, limit=2)
        reply = subscription.next().reply
        started = "2024-01-01T00:00:00.000000Z"
        client.publish(reply, b"not JSON")
        client.publish(reply, answer(verb, id="a", started=started))
        client.publish(reply, answer("ping" if verb == "info" else "info"))
        client.publish(reply, b"[]")
        client.publish(reply, b"", headers=[("Nats-Service-Error-Code", "500"), ("Nats-Service-Error", "broken")])
        client.publish(reply, answer(verb, id="b", started=started))
        assert [one.id for one in pending.result(LIMIT)] == ["a", "b"]
    assert [record.name for record in caplog.records] == ["natsvc.client"] * 4
    assert all(f"$SRV.{verb.upper()}.mixed was skipped" in text for text in caplog.messages)


@pytest.mark.parametrize("verb", VERBS)
def test_where_nobody_is_there_the_answer_is_empty_at_once(services: Caller, verb: str) -> None:
    assert services.begin(verb, "nobody-of-this-name", timeout=10 * LIMIT, stall=10 * LIMIT).result(LIMIT) == []


def test_where_nobody_answers_it_ends_after_the_timeout(services: Caller, client: PlainClient) -> None:
    client.subscribe("$SRV.INFO.silent")
    assert services.begin("info", "silent", timeout=0.05, stall=10 * LIMIT).result(LIMIT) == []


def test_it_ends_when_nothing_has_come_for_the_stall_since_the_last_answer(
    services: Caller, client: PlainClient
) -> None:
    subscription = client.subscribe("$SRV.PING.stalling")
    pending = services.begin("ping", "stalling", timeout=10 * LIMIT, stall=0.1)
    reply = subscription.next().reply
    with pytest.raises(TimeoutError):
        pending.result(0.3)  # the stall doesn't run before the first answer
    client.publish(reply, answer(id="only"))
    assert [ping.id for ping in pending.result(LIMIT)] == ["only"]


def test_it_ends_with_as_many_answers_as_asked_for(services: Caller, client: PlainClient) -> None:
    subscription = client.subscribe("$SRV.PING.many")
    pending = services.begin("ping", "many", timeout=10 * LIMIT, stall=10 * LIMIT, limit=3)
    reply = subscription.next().reply
    for number in range(10):
        client.publish(reply, answer(id=str(number)))
    assert [ping.id for ping in pending.result(LIMIT)] == ["0", "1", "2"]


@pytest.mark.parametrize("verb", VERBS)
def test_an_id_asks_for_one_answer(connection: Connection, services: Caller, verb: str) -> None:
    first = connection.add_service("singled-out")
    connection.add_service("singled-out")
    pending = services.begin(verb, "singled-out", first.id, timeout=10 * LIMIT, stall=10 * LIMIT)
    assert [one.id for one in pending.result(LIMIT)] == [first.id]


def test_services_below_another_prefix_are_asked_there(connection: Connection, services: Caller) -> None:
    service = connection.add_service("elsewhere", prefix="my.services")
    elsewhere = caller(connection, prefix="my.services")
    assert [ping.id for ping in elsewhere.begin("ping", "elsewhere").result(LIMIT)] == [service.id]
    assert services.begin("ping", "elsewhere").result(LIMIT) == []


@pytest.mark.parametrize(
    ("field", "given"),
    [("timeout", {"timeout": -1}), ("stall", {"stall": float("inf")}), ("limit", {"limit": 0}), ("id", {"id": "i"})],
)
@pytest.mark.parametrize("verb", VERBS)
def test_a_question_that_breaks_a_rule_is_refused_before_anything_is_sent(
    services: Caller, client: PlainClient, verb: str, field: str, given: dict[str, Any]
) -> None:
    subscription = client.subscribe("$SRV.>")
    with pytest.raises(ConfigError) as caught:
        services.begin(verb, **given).result(LIMIT)
    assert caught.value.field == field
    client.flush()
    assert subscription.waiting == 0


# Sending requests


def test_a_request_returns_the_first_response(services: Caller, client: PlainClient) -> None:
    subscription = client.subscribe("asked")
    pending = services.begin("request", "asked", "text ü", headers={"A": "1"}, timeout=LIMIT)
    request = subscription.next()
    assert (request.data, request.headers) == ("text ü".encode(), [("A", "1")])
    client.publish(request.reply, b"first", headers=[("B", "2")])
    client.publish(request.reply, b"second")
    reply = pending.result(LIMIT)
    assert (reply.data, dict(reply.headers)) == (b"first", {"B": "2"})


def test_an_error_reply_is_raised_with_all_that_it_says(connection: Connection, services: Caller) -> None:
    async def refuse(request: Any) -> None:
        await request.respond_error(404, "no such user", b"more", headers={"B": "2"})

    connection.add_service("refusing").add_endpoint("refusing-e", handler=refuse)
    with pytest.raises(ServiceError) as caught:
        services.begin("request", "refusing-e", timeout=LIMIT).result(LIMIT)
    error = caught.value
    assert (error.code, error.description, error.data) == ("404", "no such user", b"more")
    assert error.headers is not None
    assert error.headers["B"] == "2"


@pytest.mark.parametrize(
    ("headers", "text"),
    [([("Nats-Service-Error", "broken")], "500: broken"), ([("Nats-Service-Error-Code", "42")], "42: 42")],
)
def test_one_error_header_is_enough(
    services: Caller, client: PlainClient, headers: list[tuple[str, str]], text: str
) -> None:
    subscription = client.subscribe("half-an-error")
    pending = services.begin("request", "half-an-error", timeout=LIMIT)
    client.publish(subscription.next().reply, b"", headers=headers)
    with pytest.raises(ServiceError, match=f"^{text}$"):
        pending.result(LIMIT)


def test_a_request_that_nobody_listens_to_is_refused_at_once(services: Caller) -> None:
    with pytest.raises(NoRespondersError) as caught:
        services.begin("request", "nobody-listens-here", timeout=10 * LIMIT).result(LIMIT)
    assert caught.value.subject == "nobody-listens-here"


@pytest.mark.parametrize("timeout", [0.05, 0])
def test_a_request_that_nobody_answers_ends_after_its_timeout(
    services: Caller, client: PlainClient, timeout: float
) -> None:
    client.subscribe("never-answered")
    with pytest.raises(RequestTimeoutError, match="'never-answered' was not answered within 0"):
        services.begin("request", "never-answered", timeout=timeout).result(LIMIT)


def test_on_a_closed_connection_each_call_says_so(connection: Connection, services: Caller) -> None:
    connection.close()
    for call, arguments in (("ping", ()), ("info", ()), ("stats", ()), ("request", ("anywhere",))):
        with pytest.raises(ConnectionClosedError):
            services.begin(call, *arguments).result(LIMIT)


def test_a_connection_that_closes_ends_the_calls_on_it_at_once(
    connection: Connection, services: Caller, client: PlainClient
) -> None:
    asked = [client.subscribe("$SRV.PING.left-waiting"), client.subscribe("left-waiting")]
    calls = [
        services.begin("ping", "left-waiting", timeout=10 * LIMIT),
        services.begin("request", "left-waiting", timeout=10 * LIMIT),
    ]
    for subscription in asked:
        subscription.next()
    connection.close()
    assert [type(call.exception(LIMIT)) for call in calls] == [ConnectionClosedError] * 2


@pytest.mark.parametrize(
    ("denied", "operation"),
    [('publish: {deny: "$SRV.PING.secret"}', "publish"), ('subscribe: {deny: "_INBOX.*"}', "subscription")],
)
def test_a_question_that_the_server_does_not_allow_is_refused_at_once(
    world: World, make_server: Callable[[str], NatsServer], denied: str, operation: str
) -> None:
    server = make_server(f"authorization {{users: [{{user: u, password: p, permissions: {{{denied}}}}}]}}")
    url = server.url.replace("nats://", "nats://u:p@")
    with PlainClient(url) as silent:
        silent.subscribe("$SRV.PING.*")
        with pytest.raises(PermissionsError) as caught:
            caller(world.connect(url)).begin("ping", "secret", timeout=10 * LIMIT).result(LIMIT)
        assert caught.value.operation == operation
        assert (caught.value.subject == "$SRV.PING.secret") == (operation == "publish")
