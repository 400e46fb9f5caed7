"""Rates: what two looks at the counters of services say of the time in between."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsvc import EndpointStats, ServiceStats
from natsvc.cli.rates import GONE_FOR, Order, Rates, Row, sort_rows

SECOND = 1_000_000_000
MORNING = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def answer(id: str = "A", *endpoints: EndpointStats, name: str = "users", **fields: Any) -> ServiceStats:
    return ServiceStats(name=name, id=id, version="1.0.0", started=MORNING, endpoints=list(endpoints), **fields)


def counted(requests: int, errors: int = 0, time: int = 0, *, name: str = "get", **fields: Any) -> EndpointStats:
    return EndpointStats(
        name=name, subject=f"users.{name}", num_requests=requests, num_errors=errors, processing_time=time, **fields
    )


def only(rates: Rates) -> Row:
    (row,) = rates.rows
    return row


def test_a_rate_is_what_was_counted_over_the_time_it_took() -> None:
    rates = Rates()
    rates.update([answer("A", counted(100, 10, 5_000))], 0)
    rates.update([answer("A", counted(150, 15, 25_000))], 2 * SECOND)
    row = only(rates)
    assert (row.requests_per_second, row.errors_per_second, row.mean_time) == (25.0, 2.5, 400.0)
    assert (row.requests, row.errors) == (150, 15)


def test_before_there_is_a_second_answer_no_rate_is_known() -> None:
    rates = Rates()
    rates.update([answer("A", counted(100, 10, 5_000))], 0)
    row = only(rates)
    assert (row.requests_per_second, row.errors_per_second, row.mean_time) == (None, None, None)


def test_without_requests_there_is_a_rate_and_no_mean_time() -> None:
    rates = Rates()
    for now in (0, SECOND):
        rates.update([answer("A", counted(100, 10, 5_000))], now)
    assert (only(rates).requests_per_second, only(rates).mean_time) == (0.0, None)


def test_counters_that_have_become_smaller_give_no_rate_until_the_next_answer() -> None:
    rates = Rates()
    rates.update([answer("A", counted(100))], 0)
    rates.update([answer("A", counted(30))], SECOND)
    assert only(rates).requests_per_second is None
    rates.update([answer("A", counted(40))], 2 * SECOND)
    assert only(rates).requests_per_second == 10.0


def test_a_reset_shows_by_the_time_it_began_though_more_was_counted_since() -> None:
    rates = Rates()
    rates.update([answer("A", counted(100))], 0)
    later = answer("A", counted(300))
    later.started = MORNING + dt.timedelta(seconds=1)
    rates.update([later], SECOND)
    assert only(rates).requests_per_second is None


def test_an_instance_that_starts_anew_is_another_one() -> None:
    rates = Rates()
    rates.update([answer("A", counted(100))], 0)
    rates.update([answer("B", counted(3))], SECOND)
    gone, new = rates.rows
    assert (gone.id, gone.is_gone, gone.requests, gone.requests_per_second) == ("A", True, 100, None)
    assert (new.id, new.is_gone, new.requests_per_second) == ("B", False, None)


def test_what_has_gone_is_shown_for_a_while() -> None:
    rates = Rates()
    rates.update([answer("A", counted(100))], 0)
    rates.update([], int(GONE_FOR * SECOND))
    assert only(rates).is_gone
    rates.update([], int(GONE_FOR * SECOND) + 1)
    assert rates.rows == []


def test_an_answer_that_was_missing_is_made_up_for_by_the_next_one() -> None:
    rates = Rates()
    rates.update([answer("A", counted(100))], 0)
    rates.update([], SECOND)
    rates.update([answer("A", counted(160))], 3 * SECOND)
    assert (only(rates).is_gone, only(rates).requests_per_second) == (False, 20.0)


def test_an_endpoint_that_is_no_longer_there_is_gone_though_the_instance_is_not() -> None:
    rates = Rates()
    rates.update([answer("A", counted(1), counted(1, name="put"))], 0)
    rates.update([answer("A", counted(1))], SECOND)
    assert {row.endpoint: row.is_gone for row in rates.rows} == {"get": False, "put": True}


def test_an_instance_without_endpoints_is_a_row() -> None:
    rates = Rates()
    for now in (0, SECOND):
        rates.update([answer("A")], now)
    assert (only(rates).id, only(rates).endpoint, only(rates).requests_per_second) == ("A", "", None)


def test_two_endpoints_that_are_called_alike_are_two_rows() -> None:
    rates = Rates()
    rates.update([answer("A", counted(0), counted(0))], 0)
    rates.update([answer("A", counted(1), counted(2))], SECOND)
    assert [row.requests_per_second for row in rates.rows] == [1.0, 2.0]


def test_where_only_the_average_is_told_it_gives_the_mean_time() -> None:
    rates = Rates()
    rates.update([answer("A", counted(10, average_processing_time=100))], 0)
    rates.update([answer("A", counted(20, average_processing_time=200))], SECOND)
    assert only(rates).mean_time == 300.0


steps = st.lists(
    st.tuples(
        st.integers(1, 5 * SECOND),  # the time since the round before
        st.sampled_from(["answers", "answers", "answers", "resets", "is silent"]),
        st.integers(0, 10_000),  # requests since then
        st.integers(0, 10_000),  # how many of them failed, at most
        st.integers(0, 10**12),  # the time they took
    ),
    max_size=30,
)


@given(steps)
def test_rates_and_the_times_they_are_for_give_what_was_counted(taken: list[tuple[int, str, int, int, int]]) -> None:
    """Whatever comes, between two answers without a reset nothing is lost, and nothing is counted twice."""
    rates = Rates(gone_for=float(10**6))
    now = answered_at = requests = errors = time = 0
    started = MORNING
    is_known = False  # whether the counters at the last answer are those that the next one goes on from
    pending = failed = took = 0  # what was counted since the last answer
    for pause, what, more, failing, spent in taken:
        now += pause
        if what == "resets":
            requests = errors = time = pending = failed = took = 0
            started += dt.timedelta(seconds=1)
            is_known = False
        failing = min(more, failing)
        requests, errors, time = requests + more, errors + failing, time + spent
        pending, failed, took = pending + more, failed + failing, took + spent
        if what == "is silent":
            rates.update([], now)
            assert all(row.is_gone and row.requests_per_second is None for row in rates.rows)
            continue
        stats = answer("A", counted(requests, errors, time))
        stats.started = started
        rates.update([stats], now)
        row = only(rates)
        assert not row.is_gone
        assert (row.requests, row.errors) == (requests, errors)
        if not is_known:
            assert (row.requests_per_second, row.errors_per_second, row.mean_time) == (None, None, None)
        else:
            seconds = (now - answered_at) / SECOND
            assert row.requests_per_second is not None
            assert row.errors_per_second is not None
            assert row.requests_per_second * seconds == pytest.approx(pending)
            assert row.errors_per_second * seconds == pytest.approx(failed)
            assert row.mean_time == (pytest.approx(took / pending) if pending else None)
        is_known, answered_at = True, now
        pending = failed = took = 0


numbers = st.none() | st.floats(0, 1e6)
rows = st.builds(
    Row,
    service=st.sampled_from(["users", "orders"]),
    id=st.sampled_from("ABC"),
    endpoint=st.sampled_from(["", "get", "put"]),
    requests_per_second=numbers,
    errors_per_second=numbers,
    mean_time=numbers,
)
FIELDS = {Order.REQUESTS: "requests_per_second", Order.ERRORS: "errors_per_second", Order.TIME: "mean_time"}


@given(st.lists(rows), st.sampled_from(list(FIELDS)), st.booleans())
def test_rows_are_sorted_by_the_number_and_what_is_not_known_comes_last(
    given_rows: list[Row], order: Order, reverse: bool
) -> None:
    done = sort_rows(given_rows, order, reverse=reverse)
    assert sorted(map(id, done)) == sorted(map(id, given_rows))
    values = [getattr(row, FIELDS[order]) for row in done]
    known = [one for one in values if one is not None]
    assert values == known + [None] * (len(values) - len(known))
    assert known == sorted(known, reverse=not reverse)
    for one, other in itertools.pairwise(done):
        if getattr(one, FIELDS[order]) == getattr(other, FIELDS[order]):
            assert (one.service, one.endpoint, one.id) <= (other.service, other.endpoint, other.id)


@given(st.lists(rows), st.booleans())
def test_rows_are_sorted_by_the_names_of_services_then_of_endpoints(given_rows: list[Row], reverse: bool) -> None:
    names = [(row.service, row.endpoint, row.id) for row in sort_rows(given_rows, Order.SERVICE, reverse=reverse)]
    assert names == sorted(names, reverse=reverse)
