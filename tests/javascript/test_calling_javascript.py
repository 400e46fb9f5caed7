"""natsvc's ServiceClient, in every world, finds and calls a service of the JavaScript library."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest

from natsvc import EndpointInfo, EndpointStats, ServiceError, ServiceInfo, ServicePing, ServiceStats
from tests.callers import Caller, caller
from tests.javascript.conftest import JavaScriptService
from tests.worlds import LIMIT, Connection, eventually

pytestmark = pytest.mark.node

ENDPOINTS = ["echo", "upper", "count", "fail", "break", "refuse"]


Ask: TypeAlias = Callable[..., Any]
"""Calls a ServiceClient's method, `ask("ping", "user-service")`, and returns what it returns."""


@pytest.fixture
def calling(connection: Connection) -> Iterator[Caller]:
    made = caller(connection)
    yield made
    made.close()


@pytest.fixture
def ask(calling: Caller) -> Ask:
    return lambda method, *given, **named: calling.begin(method, *given, **named).result(2 * LIMIT)


def stats_of(ask: Ask, service: JavaScriptService) -> dict[str, EndpointStats]:
    """The stats of its endpoints, by their names."""
    (stats,) = ask("stats", service.name, service.id, timeout=LIMIT)
    return {endpoint.name: endpoint for endpoint in stats.endpoints}


def test_it_answers_ping(ask: Ask, javascript_service: JavaScriptService) -> None:
    name, id = javascript_service.name, javascript_service.id
    expected = ServicePing(name=name, id=id, version="2.3.4", metadata={"language": "JavaScript"})
    for given in [(), (name,), (name, id)]:
        (ping,) = ask("ping", *given, timeout=LIMIT)
        assert ping == expected
        assert 0 < ping.round_trip < LIMIT


def test_it_answers_info(ask: Ask, javascript_service: JavaScriptService) -> None:
    name = javascript_service.name
    (info,) = ask("info", name, limit=1, timeout=LIMIT)
    assert info == ServiceInfo(
        name=name,
        id=javascript_service.id,
        version="2.3.4",
        description="Echoes, counts and fails",
        metadata={"language": "JavaScript"},
        endpoints=[
            EndpointInfo(
                name=endpoint,
                subject=f"{name}.{endpoint}",
                queue_group="upper-workers" if endpoint == "upper" else "q",
                metadata={"schema": "any"} if endpoint == "echo" else {},
            )
            for endpoint in ENDPOINTS
        ],
    )


def test_its_replies_are_iterated_over_to_the_empty_one(calling: Caller, javascript_service: JavaScriptService) -> None:
    subject = f"{javascript_service.name}.count"
    replies = calling.begin_loop(subject, b"3", block=True, timeout=LIMIT).result(2 * LIMIT)
    assert replies.data == [b"1", b"2", b"3"]
    assert replies.ended_by == "empty message"


def test_it_answers_stats(ask: Ask, javascript_service: JavaScriptService) -> None:
    name = javascript_service.name
    (stats,) = ask("stats", name, limit=1, timeout=LIMIT)
    assert isinstance(stats, ServiceStats)
    assert stats.started is not None
    assert abs(dt.datetime.now(dt.UTC) - stats.started) < dt.timedelta(seconds=2 * LIMIT)
    stats.started = None
    assert stats == ServiceStats(
        name=name,
        id=javascript_service.id,
        version="2.3.4",
        metadata={"language": "JavaScript"},
        endpoints=[
            EndpointStats(
                name=endpoint,
                subject=f"{name}.{endpoint}",
                queue_group="upper-workers" if endpoint == "upper" else "q",
                data={"subject": f"{name}.{endpoint}", "tags": ["a", "ü"]},
            )
            for endpoint in ENDPOINTS
        ],
    )


def test_it_echoes_data_and_headers(ask: Ask, javascript_service: JavaScriptService) -> None:
    reply = ask("request", f"{javascript_service.name}.echo", "text ü", headers={"Trace": "17"}, timeout=LIMIT)
    assert (reply.data, reply.headers["Trace"]) == ("text ü".encode(), "17")


def test_of_several_replies_a_request_returns_the_first(ask: Ask, javascript_service: JavaScriptService) -> None:
    assert ask("request", f"{javascript_service.name}.count", b"3", timeout=LIMIT).data == b"1"


@pytest.mark.parametrize(
    ("endpoint", "code", "description", "data"),
    [
        ("fail", "422", "not today", b""),
        ("break", "500", "an unexpected state", b""),
        ("refuse", "404", "no such user", b"more about it"),
    ],
)
def test_its_errors_are_raised(
    ask: Ask, javascript_service: JavaScriptService, endpoint: str, code: str, description: str, data: bytes
) -> None:
    with pytest.raises(ServiceError) as caught:
        ask("request", f"{javascript_service.name}.{endpoint}", timeout=LIMIT)
    assert (caught.value.code, caught.value.description, caught.value.data) == (code, description, data)


def test_its_stats_count_requests_and_errors(ask: Ask, javascript_service: JavaScriptService) -> None:
    name = javascript_service.name
    for number in range(5):
        ask("request", f"{name}.echo", b"%d" % number, timeout=LIMIT)
        assert ask("request", f"{name}.upper", f"a{number}", timeout=LIMIT).data == b"A%d" % number
    for endpoint in ("fail", "fail", "break"):
        with pytest.raises(ServiceError):
            ask("request", f"{name}.{endpoint}", timeout=LIMIT)
    # An iterator counts a request when it is asked for the next one, after the reply.
    eventually(lambda: stats_of(ask, javascript_service)["upper"].num_requests == 5)
    counted = stats_of(ask, javascript_service)
    assert {endpoint: (one.num_requests, one.num_errors) for endpoint, one in counted.items()} == {
        **dict.fromkeys(ENDPOINTS, (0, 0)),
        "echo": (5, 0),
        "upper": (5, 0),
        "fail": (2, 2),
        "break": (1, 1),
    }
    # Its averages may have a fraction.
    assert all(type(one.average_processing_time) is int for one in counted.values())


def test_what_its_stats_say_differs_in_what_the_documentation_names(
    ask: Ask, javascript_service: JavaScriptService
) -> None:
    name = javascript_service.name
    for endpoint in ("fail", "refuse"):
        with pytest.raises(ServiceError):
            ask("request", f"{name}.{endpoint}", timeout=LIMIT)
    counted = stats_of(ask, javascript_service)
    assert counted["fail"].last_error == "not today"
    assert (counted["refuse"].num_requests, counted["refuse"].num_errors) == (1, 0)
    assert [one.processing_time % 1_000_000 for one in counted.values()] == [0] * len(ENDPOINTS)
