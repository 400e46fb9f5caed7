"""What a number of measured times amounts to: percentiles and a histogram, exact to the nanosecond.

A mean hides the slow requests, which are the ones that people feel. All times are kept, so nothing here is estimated:
each percentile is a time that was measured, and each time lies in one bucket of the histogram.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

__all__ = ["BUCKETS", "Bucket", "Latency", "histogram", "percentile"]

BUCKETS = 12
"""So many buckets a histogram has at most, as long as its times span fewer powers of ten than that."""

_PERCENTILES = {"p50": (50, 100), "p90": (90, 100), "p99": (99, 100), "p99.9": (999, 1000)}
"""As fractions of whole numbers, for 99.9 has no exact value as a float."""

# Each bound is about 6 % above the one before: the preferred numbers R40 of ISO 3, in hundredths. Every second of them
# makes R20, every fourth R10, and so on, so that coarser buckets have round bounds too.
_R40 = (
    *(100, 106, 112, 118, 125, 132, 140, 150, 160, 170, 180, 190, 200, 212, 224, 236, 250, 265, 280, 300),
    *(315, 335, 355, 375, 400, 425, 450, 475, 500, 530, 560, 600, 630, 670, 710, 750, 800, 850, 900, 950),
)
_STEPS = (1, 2, 4, 8, 20, 40)
_HUNDREDTHS = 100


@dataclass(frozen=True, slots=True)
class Bucket:
    """How many times lie in a range.

    Attributes:
        low: The smallest time that belongs to it, in nanoseconds.
        high: The smallest time above that doesn't any more, in nanoseconds.
        count: How many times lie in it.
    """

    low: int
    high: int
    count: int


@dataclass(frozen=True, slots=True)
class Latency:
    """Measured times in short, each in nanoseconds.

    Attributes:
        count: How many times there are.
        minimum: The shortest.
        mean: Their arithmetic mean, rounded down.
        percentiles: By name: `p50` is the shortest time that at least 50 % of all don't exceed.
        maximum: The longest.
        buckets: The histogram.
    """

    count: int
    minimum: int
    mean: int
    percentiles: dict[str, int]
    maximum: int
    buckets: list[Bucket]

    @classmethod
    def of(cls, times: Iterable[int]) -> Latency | None:
        """Return what these times, in nanoseconds and in any order, amount to; None if there are none."""
        ordered = sorted(times)
        if not ordered:
            return None
        return cls(
            count=len(ordered),
            minimum=ordered[0],
            mean=sum(ordered) // len(ordered),
            percentiles={name: percentile(ordered, *part) for name, part in _PERCENTILES.items()},
            maximum=ordered[-1],
            buckets=histogram(ordered),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON, all times in nanoseconds as in STATS."""
        return {
            "min": self.minimum,
            "mean": self.mean,
            **self.percentiles,
            "max": self.maximum,
            "histogram": [{"from": one.low, "below": one.high, "count": one.count} for one in self.buckets],
        }


def percentile(ordered: Sequence[int], part: int, whole: int) -> int:
    """Return the smallest time that at least part/whole of all times don't exceed (the nearest-rank method).

    Args:
        ordered: The times, at least one, in ascending order.
        part: More than 0, and at most `whole`.
        whole: What part is a part of: 50 of 100 is the median.
    """
    rank = -(-len(ordered) * part // whole)
    return ordered[rank - 1]


def histogram(ordered: Sequence[int], buckets: int = BUCKETS) -> list[Bucket]:
    """Return how the times are distributed: adjoining buckets from the one of the shortest to that of the longest.

    The buckets widen from one to the next by the same ratio, for times differ by ratios: a linear scale that shows the
    slowest has all others in one bucket. The ratio is the smallest that is good for so few buckets.

    Args:
        ordered: The times in nanoseconds, at least one and none negative, in ascending order.
        buckets: How many buckets there may be, if it can be done with one for each power of ten.
    """
    low, high = ordered[0], ordered[-1]
    bounds = [0]
    for step in _STEPS:
        bounds = _bounds(low, high, step)
        if len(bounds) <= buckets + 1:
            break
    found = []
    below = 0
    for start, end in pairwise(bounds):
        up_to = bisect_left(ordered, end)
        found.append(Bucket(start, end, up_to - below))
        below = up_to
    return found


def _bounds(low: int, high: int, step: int) -> list[int]:
    """Return every step-th of the preferred numbers, from the last that isn't above `low` to the first above `high`."""
    bounds = [0]
    power = 10 ** max(0, len(str(low)) - 1)
    while True:
        for number in _R40[::step]:
            # Below 100 ns, several preferred numbers are the same whole number.
            bound = number * power // _HUNDREDTHS
            if bound <= low:
                bounds = [bound]
            elif bound > bounds[-1]:
                bounds.append(bound)
            if bound > high:
                return bounds
        power *= 10
