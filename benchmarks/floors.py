"""What natsvc has to reach, and what it is meant to: ratios to other contenders in the same run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.contenders import CONTENDERS, JAVASCRIPT, REFERENCE
from benchmarks.metrics import CPU, RATE, Numbers, Part
from benchmarks.results import Results

__all__ = ["CONTESTANTS", "PARTS", "Floor", "Verdict", "verdicts"]

PARTS = (Part.ECHO, Part.LATENCY, Part.WAIT)
"""What has to be measured for it."""


@dataclass(frozen=True, slots=True)
class Floor:
    """The ratio that has to be reached, and the one that is meant to be.

    Attributes:
        title: What of.
        floor: At least this rate, or at most this time. None: there is only an aim.
        aim: The same, better.
        key: The number's key, as in `metrics.py`.
        more_is_better: Whether it is a rate.
    """

    title: str
    floor: float | None
    aim: float
    key: str = ""
    more_is_better: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a contender stands beside it."""

    contender: str
    floor: Floor
    ratio: float

    @property
    def is_floor_reached(self) -> bool:
        """Whether it does what it has to."""
        return self.floor.floor is None or self._reaches(self.floor.floor)

    @property
    def is_aim_reached(self) -> bool:
        """Whether it does what it is meant to."""
        return self._reaches(self.floor.aim)

    def _reaches(self, wanted: float) -> bool:
        return self.ratio >= wanted if self.floor.more_is_better else self.ratio <= wanted


def _rate(floor: float, aim: float) -> Floor:
    return Floor("requests/s", floor, aim, RATE, more_is_better=True)


def _cpu(floor: float, aim: float) -> Floor:
    return Floor("CPU time", floor, aim, CPU)


def _latency(floor: float, aim: float) -> Floor:
    return Floor("latency", floor, aim, "latency_median_seconds")


_WAIT = Floor("requests/s, handler waits", 150, 150, "wait_requests_per_second", more_is_better=True)

_FLOORS = {
    "natsvc on nats-py": (_rate(0.8, 1.0), _cpu(1.2, 1.0), _latency(1.1, 1.0), _WAIT),
    "natsvc": (_rate(1.7, 2.2), _cpu(0.65, 0.5), _latency(0.95, 0.8), _WAIT),
    "natsvc.anyio on asyncio": (_rate(1.5, 2.2), _cpu(0.9, 0.6), _latency(1.1, 0.85), _WAIT),
    "natsvc.anyio on trio": (_rate(1.5, 2.2), _cpu(0.9, 0.6), _latency(1.1, 0.85), _WAIT),
    "natsvc.sync": (_rate(2.0, 2.8), _cpu(0.5, 0.35), _latency(0.85, 0.7)),
}
"""Ratios to the reference."""

CONTESTANTS = (REFERENCE, *_FLOORS, JAVASCRIPT)
"""Who has to take part for it."""

_NEAR_JAVASCRIPT = Floor("requests/s, to JavaScript's", None, 0.8, RATE, more_is_better=True)
"""Ratio to JavaScript's, for the best front-ends."""

_BEST = 2
"""How many of them."""

_FRONT_ENDS = {
    "natsvc": "natsvc.asyncio",
    "natsvc.anyio on asyncio": "natsvc.anyio",
    "natsvc.anyio on trio": "natsvc.anyio",
    "natsvc.sync": "natsvc.sync",
}
"""The front-ends of natsvc, by the kinds of contenders that show how fast they are."""


def verdicts(results: Results) -> Iterator[Verdict]:
    """Yield how each contender stands beside what it has to reach, as far as that was measured."""
    ratios = results.ratios_to(REFERENCE)
    for contender, floors in _FLOORS.items():
        for floor in floors:
            if (ratio := ratios.get(contender, {}).get(floor.key)) is not None:
                yield Verdict(contender, floor, ratio)
    for contender, ratio in _best_front_ends(results.ratios_to(JAVASCRIPT)):
        yield Verdict(contender, _NEAR_JAVASCRIPT, ratio)


def _best_front_ends(ratios: Mapping[str, Numbers]) -> list[tuple[str, float]]:
    """Return the best contender of each front-end, best first."""
    best: dict[str, tuple[str, float]] = {}
    for contender, numbers in ratios.items():
        front_end = _FRONT_ENDS.get(CONTENDERS[contender].kind)
        ratio = numbers.get(RATE)
        if front_end is not None and ratio is not None and (front_end not in best or ratio > best[front_end][1]):
            best[front_end] = contender, ratio
    return sorted(best.values(), key=lambda one: one[1], reverse=True)[:_BEST]
