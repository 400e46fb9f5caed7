"""What measured times amount to: each percentile is one of them, and each lies in one bucket of the histogram."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsvc.cli.latency import BUCKETS, Bucket, Latency, histogram, percentile

MICROSECOND, MILLISECOND, SECOND = 1_000, 1_000_000, 1_000_000_000

times = st.lists(st.integers(0, 1000 * SECOND), min_size=1, max_size=300)
likely_times = st.lists(st.integers(50 * MICROSECOND, 5 * SECOND), min_size=1, max_size=300)
parts = st.tuples(st.integers(1, 1000), st.just(1000))


def summary(measured: list[int]) -> Latency:
    latency = Latency.of(measured)
    assert latency is not None
    return latency


@given(times, parts)
def test_a_percentile_is_the_smallest_time_that_so_many_do_not_exceed(
    measured: list[int], part: tuple[int, int]
) -> None:
    ordered = sorted(measured)
    found = percentile(ordered, *part)
    wanted = Fraction(*part) * len(ordered)
    assert found in ordered
    assert sum(time <= found for time in ordered) >= wanted
    assert sum(time < found for time in ordered) < wanted


@pytest.mark.parametrize(
    ("count", "part", "whole", "expected"),
    [
        (1, 50, 100, 1),
        (1, 999, 1000, 1),
        (2, 50, 100, 1),
        (3, 50, 100, 2),
        (10, 90, 100, 9),
        (100, 99, 100, 99),
        (100, 100, 100, 100),
        (1000, 999, 1000, 999),  # as floats, 99.9 / 100 * 1000 is more than 999, and would make it 1000
        (1001, 999, 1000, 1000),
    ],
)
def test_percentiles_are_exact(count: int, part: int, whole: int, expected: int) -> None:
    assert percentile(range(1, count + 1), part, whole) == expected


@given(times)
def test_the_order_of_the_times_does_not_matter_and_percentiles_ascend(measured: list[int]) -> None:
    latency = summary(measured)
    assert latency == summary(measured[::-1])
    ascending = [latency.minimum, *latency.percentiles.values(), latency.maximum]
    assert ascending == sorted(ascending)
    assert (latency.minimum, latency.maximum) == (min(measured), max(measured))
    assert latency.count == len(measured)
    assert latency.mean == math.floor(Fraction(sum(measured), len(measured)))
    assert list(latency.percentiles) == ["p50", "p90", "p99", "p99.9"]


def test_no_times_amount_to_nothing() -> None:
    assert Latency.of([]) is None


@given(times)
def test_each_time_lies_in_exactly_one_bucket(measured: list[int]) -> None:
    for bucket in histogram(sorted(measured)):
        assert bucket.count == sum(bucket.low <= time < bucket.high for time in measured)
    assert sum(bucket.count for bucket in histogram(sorted(measured))) == len(measured)


@given(times)
def test_buckets_adjoin_and_neither_the_first_nor_the_last_is_empty(measured: list[int]) -> None:
    buckets = histogram(sorted(measured))
    assert all(one.low < one.high for one in buckets)
    assert all(one.high == other.low for one, other in itertools.pairwise(buckets))
    assert buckets[0].count
    assert buckets[-1].count


@given(likely_times)
def test_there_are_few_buckets(measured: list[int]) -> None:
    assert len(histogram(sorted(measured))) <= BUCKETS


@given(likely_times)
def test_the_bounds_are_round_numbers(measured: list[int]) -> None:
    for bucket in histogram(sorted(measured)):
        assert len(str(bucket.low).rstrip("0")) <= 3


def test_times_that_span_more_powers_of_ten_than_there_may_be_buckets_have_one_bucket_for_each() -> None:
    buckets = histogram([5, 5 * SECOND], buckets=4)
    assert [bucket.low for bucket in buckets] == [10**power for power in range(10)]


def test_the_finest_scale_that_is_good_for_so_few_buckets_is_taken() -> None:
    assert histogram([1000, 1010, 1300], buckets=3) == [
        Bucket(1000, 1120, 2),
        Bucket(1120, 1250, 0),
        Bucket(1250, 1400, 1),
    ]
    assert histogram([1000, 1010, 1300], buckets=2) == [Bucket(1000, 1250, 2), Bucket(1250, 1600, 1)]
    assert histogram([1000, 1010, 1300], buckets=1) == [Bucket(1000, 1600, 3)]


def test_a_time_on_a_bound_belongs_to_the_bucket_above() -> None:
    assert histogram([100 * MICROSECOND]) == [Bucket(100_000, 106_000, 1)]
    assert histogram([99_999]) == [Bucket(95_000, 100_000, 1)]
    assert histogram([0]) == [Bucket(0, 1, 1)]


def test_for_json_all_times_are_nanoseconds() -> None:
    assert summary([MILLISECOND, MILLISECOND]).to_dict() == {
        "min": 1_000_000,
        "mean": 1_000_000,
        "p50": 1_000_000,
        "p90": 1_000_000,
        "p99": 1_000_000,
        "p99.9": 1_000_000,
        "max": 1_000_000,
        "histogram": [{"from": 1_000_000, "below": 1_060_000, "count": 2}],
    }
