"""Answers to PING, INFO and STATS: written exactly, read tolerantly."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsvc import (
    INFO_RESPONSE_TYPE,
    PING_RESPONSE_TYPE,
    STATS_RESPONSE_TYPE,
    EndpointInfo,
    EndpointStats,
    InvalidAnswerError,
    ServiceInfo,
    ServicePing,
    ServiceStats,
)

Model = ServicePing | ServiceInfo | ServiceStats | EndpointInfo | EndpointStats

IDENTITY: dict[str, Any] = {"name": "users", "id": "id1", "version": "1.2.3"}
ANSWERS: list[type[ServicePing | ServiceInfo | ServiceStats]] = [ServicePing, ServiceInfo, ServiceStats]
ENDPOINTS: list[type[EndpointInfo | EndpointStats]] = [EndpointInfo, EndpointStats]
EACH_ANSWER = pytest.mark.parametrize("kind", ANSWERS)

TEXT = st.text()
FULL = st.text(min_size=1)
METADATA = st.dictionaries(TEXT, TEXT)
COUNT = st.integers(min_value=0, max_value=2**63)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FINITE_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
TIME = st.datetimes(timezones=st.just(dt.UTC))
IDENTITY_FIELDS: dict[str, Any] = {"name": FULL, "id": FULL, "version": TEXT, "metadata": METADATA}
ENDPOINT_FIELDS: dict[str, Any] = {"name": FULL, "subject": TEXT, "queue_group": TEXT}
ENDPOINT_INFO = st.builds(EndpointInfo, **ENDPOINT_FIELDS, metadata=METADATA)
ENDPOINT_STATS = st.builds(
    EndpointStats,
    **ENDPOINT_FIELDS,
    num_requests=COUNT,
    num_errors=COUNT,
    last_error=TEXT,
    processing_time=COUNT,
    average_processing_time=COUNT,
    data=FINITE_JSON,
)
MODELS = st.one_of(
    ENDPOINT_INFO,
    ENDPOINT_STATS,
    st.builds(ServicePing, **IDENTITY_FIELDS),
    st.builds(ServiceInfo, **IDENTITY_FIELDS, description=TEXT, endpoints=st.lists(ENDPOINT_INFO, max_size=3)),
    st.builds(
        ServiceStats, **IDENTITY_FIELDS, started=TIME | st.none(), endpoints=st.lists(ENDPOINT_STATS, max_size=3)
    ),
)


def times(**options: Any) -> st.SearchStrategy[str]:
    offsets = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))
    return st.datetimes(timezones=offsets, **options).map(dt.datetime.isoformat)


def answers() -> st.SearchStrategy[Any]:
    """JSON that looks like an answer, with anything whatever in any of its fields."""
    endpoint = st.fixed_dictionaries(
        {},
        optional={
            "name": FULL | JSON,
            "subject": JSON,
            "queue_group": JSON,
            "metadata": JSON,
            "num_requests": JSON | st.text("0123456789_. +-e", max_size=5),
            "num_errors": JSON,
            "processing_time": JSON,
            "average_processing_time": JSON,
            "last_error": JSON,
            "data": JSON,
        },
    )
    answer = st.fixed_dictionaries(
        {"name": FULL, "id": FULL},
        optional={
            "type": st.sampled_from([INFO_RESPONSE_TYPE, STATS_RESPONSE_TYPE, PING_RESPONSE_TYPE]) | JSON,
            "version": JSON,
            "metadata": JSON,
            "description": JSON,
            "started": JSON | times() | st.text("0123456789-:.TZ+", max_size=40),
            "endpoints": st.lists(endpoint | JSON, max_size=3) | JSON,
        },
    )
    return answer | endpoint | JSON


@given(MODELS)
def test_what_is_written_is_read_as_the_same(model: Model) -> None:
    assert type(model).from_dict(json.loads(json.dumps(model.to_dict()))) == model


@given(st.sampled_from([*ANSWERS, *ENDPOINTS]), answers())
def test_any_json_is_an_answer_or_an_invalid_answer_error(kind: type[Model], data: Any) -> None:
    outcome: Model | str
    try:
        outcome = kind.from_dict(data)
    except InvalidAnswerError as error:
        outcome = str(error)
    assert isinstance(outcome, (kind, str))


@given(answers())
def test_an_answer_that_was_read_can_be_written_again(data: Any) -> None:
    for kind in ANSWERS:
        with contextlib.suppress(InvalidAnswerError):
            assert kind.from_dict(data).to_dict()["name"] == data["name"]


@pytest.mark.parametrize("started", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-10:00"])
def test_a_start_at_the_edge_of_the_calendar_is_invalid_or_can_be_written_again(started: str) -> None:
    with contextlib.suppress(InvalidAnswerError):
        assert ServiceStats.from_dict({**IDENTITY, "started": started}).to_dict()["started"]


def test_a_ping_answer_is_the_identity_alone() -> None:
    assert ServicePing(**IDENTITY, metadata={"a": "1"}).to_dict() == {
        "type": "io.nats.micro.v1.ping_response",
        "name": "users",
        "id": "id1",
        "version": "1.2.3",
        "metadata": {"a": "1"},
    }


def test_an_info_answer_adds_description_and_endpoints() -> None:
    endpoint = EndpointInfo(name="e", subject="g.e", queue_group="q", metadata={"b": "2"})
    assert ServiceInfo(**IDENTITY, description="d", endpoints=[endpoint]).to_dict() == {
        "type": "io.nats.micro.v1.info_response",
        "name": "users",
        "id": "id1",
        "version": "1.2.3",
        "metadata": {},
        "description": "d",
        "endpoints": [{"name": "e", "subject": "g.e", "queue_group": "q", "metadata": {"b": "2"}}],
    }


def test_a_stats_answer_adds_started_and_endpoints() -> None:
    endpoint = EndpointStats(
        name="e",
        subject="g.e",
        queue_group="",
        num_requests=2,
        num_errors=1,
        last_error="404:no such user",
        processing_time=300,
        average_processing_time=150,
    )
    started = dt.datetime(2024, 1, 2, 3, 4, 5, 67, dt.UTC)
    assert ServiceStats(**IDENTITY, started=started, endpoints=[endpoint]).to_dict() == {
        "type": "io.nats.micro.v1.stats_response",
        "name": "users",
        "id": "id1",
        "version": "1.2.3",
        "metadata": {},
        "started": "2024-01-02T03:04:05.000067Z",
        "endpoints": [
            {
                "name": "e",
                "subject": "g.e",
                "queue_group": "",
                "num_requests": 2,
                "num_errors": 1,
                "last_error": "404:no such user",
                "processing_time": 300,
                "average_processing_time": 150,
            }
        ],
    }


@pytest.mark.parametrize("data", [{"a": 1}, [], 0, "", False])
def test_an_endpoints_data_is_written_if_there_is_any(data: object) -> None:
    assert EndpointStats(name="e", data=data).to_dict()["data"] == data
    assert "data" not in EndpointStats(name="e").to_dict()


def test_the_written_time_always_has_six_digits_and_is_utc() -> None:
    time = dt.datetime(2024, 1, 1, 0, 30, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    assert ServiceStats(**IDENTITY, started=time).to_dict()["started"] == "2023-12-31T23:30:00.000000Z"


@EACH_ANSWER
def test_the_type_of_an_answer_is_adr_32s(kind: type[ServicePing]) -> None:
    expected = {ServicePing: PING_RESPONSE_TYPE, ServiceInfo: INFO_RESPONSE_TYPE, ServiceStats: STATS_RESPONSE_TYPE}
    assert kind(**IDENTITY).type == kind(**IDENTITY).to_dict()["type"] == expected[kind]


def test_written_metadata_is_a_copy() -> None:
    metadata = {"a": "1"}
    ServicePing(**IDENTITY, metadata=metadata).to_dict()["metadata"]["b"] = "2"
    EndpointInfo(name="e", metadata=metadata).to_dict()["metadata"]["b"] = "2"
    assert metadata == {"a": "1"}


@EACH_ANSWER
@pytest.mark.parametrize("given", [{}, {"version": None, "metadata": None, "type": None, "endpoints": None}])
def test_missing_and_null_optional_fields_are_their_defaults(
    kind: type[ServicePing], given: Mapping[str, object]
) -> None:
    assert kind.from_dict({"name": "users", "id": "id1", **given}) == kind(name="users", id="id1")


def test_null_fields_of_info_and_stats_are_their_defaults() -> None:
    nulls = dict.fromkeys(["description", "started", "endpoints"])
    assert ServiceInfo.from_dict({**IDENTITY, **nulls}) == ServiceInfo(**IDENTITY)
    assert ServiceStats.from_dict({**IDENTITY, **nulls}) == ServiceStats(**IDENTITY)


@pytest.mark.parametrize("kind", ENDPOINTS)
def test_missing_and_null_fields_of_an_endpoint_are_their_defaults(kind: type[EndpointInfo]) -> None:
    assert kind.from_dict({"name": "e"}) == kind(name="e")
    assert kind.from_dict({**dict.fromkeys(kind(name="e").to_dict()), "data": None, "name": "e"}) == kind(name="e")


@EACH_ANSWER
def test_unknown_fields_are_skipped(kind: type[ServicePing]) -> None:
    assert kind.from_dict({**IDENTITY, "api_urls": ["x"], "self": 1, "TYPE": 2}) == kind(**IDENTITY)


@pytest.mark.parametrize("kind", ENDPOINTS)
def test_unknown_fields_of_an_endpoint_are_skipped(kind: type[EndpointInfo]) -> None:
    assert kind.from_dict({"name": "e", "schema": {"request": ""}}) == kind(name="e")


@EACH_ANSWER
@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "x",
        1,
        {},
        {"name": "a"},
        {"id": "b"},
        {"name": "", "id": "b"},
        {"name": "a", "id": None},
        {"name": 1, "id": "b"},
        {"name": "a", "id": "b", "type": "io.nats.micro.v1.schema_response"},
        {"name": "a", "id": "b", "type": 1},
    ],
)
def test_what_is_no_object_or_has_another_type_no_name_or_no_id_is_no_answer(
    kind: type[ServicePing], data: Any
) -> None:
    with pytest.raises(InvalidAnswerError):
        kind.from_dict(data)


@pytest.mark.parametrize("kind", [ServiceInfo, ServiceStats])
@pytest.mark.parametrize("endpoints", [{}, "e", 1, [None], ["e"], [{}], [{"name": ""}], [{"name": 1}]])
def test_endpoints_must_be_a_list_of_objects_with_a_name(kind: type[ServiceInfo], endpoints: Any) -> None:
    with pytest.raises(InvalidAnswerError):
        kind.from_dict({**IDENTITY, "endpoints": endpoints})


@pytest.mark.parametrize("field", ["num_requests", "num_errors", "processing_time", "average_processing_time"])
@pytest.mark.parametrize("value", ["many", [], {}, float("inf"), float("nan")])
def test_counts_must_be_numbers(field: str, value: object) -> None:
    with pytest.raises(InvalidAnswerError, match=field):
        EndpointStats.from_dict({"name": "e", field: value})


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("2024-01-02T03:04:05.123456789Z", 123456),  # Go, Rust and Java
        ("2024-01-02T03:04:05.1234567Z", 123456),  # .NET
        ("2024-01-02T03:04:05.123456Z", 123456),  # Python
        ("2024-01-02T03:04:05.123Z", 123000),  # JavaScript
        ("2024-01-02T03:04:05.1Z", 100000),  # Go leaves trailing zeros out
        ("2024-01-02T03:04:05Z", 0),
        ("2024-01-02T05:04:05.5+02:00", 500000),
        ("2024-01-02T03:04:05.5", 500000),
    ],
)
def test_every_languages_time_is_read(text: str, microsecond: int) -> None:
    started = ServiceStats.from_dict({**IDENTITY, "started": text}).started
    assert started == dt.datetime(2024, 1, 2, 3, 4, 5, microsecond, dt.UTC)


@pytest.mark.parametrize("text", ["2024-01-02t03:04:05z", "2024-01-02T03:04:05.5z", "2016-12-31T23:59:60Z"])
def test_every_form_of_a_time_that_rfc_3339_allows_is_read(text: str) -> None:
    assert ServiceStats.from_dict({**IDENTITY, "started": text}).started is not None


@pytest.mark.parametrize("text", ["yesterday", "2024-13-01T00:00:00Z", 1704164645, True, ["2024"], {"a": 1}])
def test_what_is_no_time_is_invalid(text: object) -> None:
    with pytest.raises(InvalidAnswerError, match="started"):
        ServiceStats.from_dict({**IDENTITY, "started": text})


def test_the_answer_of_a_go_service_is_read() -> None:
    stats = ServiceStats.from_dict(
        json.loads("""{
            "name": "CoolAddService", "id": "nVKwPrVIeKF1MFMsvLbgVV", "version": "0.1.0", "metadata": null,
            "type": "io.nats.micro.v1.stats_response", "started": "2024-01-02T03:04:05.123456789Z",
            "endpoints": [{"name": "add", "subject": "svc.add", "queue_group": "q", "num_requests": 2, "num_errors": 0,
                           "last_error": "", "processing_time": 3000, "average_processing_time": 1500}]
        }""")
    )
    assert stats.metadata == {}
    assert stats.started == dt.datetime(2024, 1, 2, 3, 4, 5, 123456, dt.UTC)
    assert stats.endpoints == [
        EndpointStats(
            name="add",
            subject="svc.add",
            queue_group="q",
            num_requests=2,
            processing_time=3000,
            average_processing_time=1500,
        )
    ]


def test_the_answer_of_a_javascript_service_is_read() -> None:
    stats = ServiceStats.from_dict(
        json.loads("""{
            "type": "io.nats.micro.v1.stats_response", "name": "max", "id": "id1", "version": "0.0.1",
            "started": "2024-01-02T03:04:05.123Z", "metadata": {},
            "endpoints": [{"name": "max", "subject": "max", "num_requests": 1, "num_errors": 1,
                           "processing_time": 1000000, "average_processing_time": 1000000.0,
                           "last_error": "400:no", "data": {"min": 1}}]
        }""")
    )
    [endpoint] = stats.endpoints
    assert stats.started == dt.datetime(2024, 1, 2, 3, 4, 5, 123000, dt.UTC)
    assert (endpoint.queue_group, endpoint.last_error, endpoint.data) == ("", "400:no", {"min": 1})
    assert (endpoint.processing_time, endpoint.average_processing_time) == (1_000_000, 1_000_000)


@pytest.mark.parametrize("model", [ServicePing(**IDENTITY), ServiceInfo(**IDENTITY), ServiceStats(**IDENTITY)])
def test_an_answer_may_be_awaited_and_gives_itself(model: ServicePing | ServiceInfo | ServiceStats) -> None:
    async def wait() -> object:
        return await model

    with pytest.raises(StopIteration) as caught:
        wait().send(None)
    assert caught.value.value is model
