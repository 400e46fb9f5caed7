"""The turns: contenders one after the other, in several rounds, and what all of it comes to.

What counts are the ratios between them: they hold from machine to machine far better than the numbers do. They are
taken within a round, so that a moment in which the machine is slow is part of both, and their median is reported.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.contenders import Contender
from benchmarks.measures import measure
from benchmarks.metrics import Numbers, Part
from benchmarks.processes import BenchmarkError
from natsvc.testing import NatsServer

__all__ = ["Results", "run"]


@dataclass(slots=True)
class Results:
    """What came of it.

    Attributes:
        turns: The numbers of every turn, by the contenders' names.
        missing: Why others have none: they are not on this machine.
        failed: Why others have none: they don't do what they should.
    """

    turns: dict[str, list[Numbers]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def medians(self) -> dict[str, Numbers]:
        """Return the median of each number, over the rounds."""
        return {name: _medians(turns) for name, turns in self.turns.items()}

    def ratios_to(self, other: str) -> dict[str, Numbers]:
        """Return the medians of the ratios to another contender's numbers in the same round; none if it has none."""
        others = self.turns.get(other)
        if others is None:
            return {}
        return {
            name: _medians([_ratios(one, two) for one, two in zip(turns, others, strict=True)])
            for name, turns in self.turns.items()
        }


def run(contenders: Sequence[Contender], parts: Collection[Part], rounds: int, seconds: float) -> Results:
    """Let the contenders take turns.

    Args:
        contenders: Who takes part.
        parts: What is measured.
        rounds: How many turns each has.
        seconds: The length of the longest measurement of a turn.
    """
    results = Results()
    present = []
    for contender in contenders:
        if (reason := contender.missing()) is None:
            present.append(contender)
            results.turns[contender.name] = []
        else:
            results.missing[contender.name] = reason
    with NatsServer() as server:
        for number in range(rounds):
            for contender in _rotated(present, number):
                if contender.name in results.failed:
                    continue
                print(f"round {number + 1} of {rounds}: {contender.name}", file=sys.stderr, flush=True)
                try:
                    results.turns[contender.name].append(measure(contender, server, parts, seconds))
                except (BenchmarkError, OSError) as error:
                    results.failed[contender.name] = f"{type(error).__name__}: {error}"
                    del results.turns[contender.name]
    return results


def _rotated(contenders: Sequence[Contender], number: int) -> Iterator[Contender]:
    """Begin every round with another one, so that none always comes after the same."""
    first = number % len(contenders) if contenders else 0
    yield from contenders[first:]
    yield from contenders[:first]


def _medians(turns: Sequence[Mapping[str, float]]) -> Numbers:
    return {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}


def _ratios(numbers: Numbers, others: Numbers) -> Numbers:
    return {key: number / others[key] for key, number in numbers.items() if others.get(key)}
