"""The program behind `python -m benchmarks` and `python -m benchmarks.service`: options in, tables out."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import script
from benchmarks.contenders import CONTENDERS, JAVASCRIPT, REFERENCE
from benchmarks.floors import Verdict, verdicts
from benchmarks.machine import Watch
from benchmarks.metrics import Part
from benchmarks.report import about, check_markers, limit_table, metric_tables, verdict_table, write_between_markers
from benchmarks.results import Results, run

__all__ = ["main"]

_README = Path(__file__).with_name("README.md")

_SCRIPT_ROUNDS = 4
"""How many turns a script has for each round of the others: it is over in no time, and its times vary more."""


def main(
    name: str, description: str, *, parts: Collection[Part], seconds: float, contenders: Collection[str] = CONTENDERS
) -> int:
    """Measure and report.

    Args:
        name: The module that is run.
        description: What it is for.
        parts: What it measures if the command line doesn't say it.
        seconds: The length of its longest measurement if the command line doesn't say it.
        contenders: Who takes part if the command line doesn't say it.

    Returns:
        The exit code: 1 if a floor is missed, or a contender doesn't do what it should.
    """
    given = _arguments(name, description, parts, seconds, contenders)
    begun = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    watch = Watch()
    services = given.parts - {Part.SCRIPT}
    results = run(given.contenders, services, given.rounds, given.seconds) if services else Results()
    scripts = script.run(given.rounds * _SCRIPT_ROUNDS) if Part.SCRIPT in given.parts else script.Scripts()
    meanwhile = watch.others()
    reached = [*verdicts(results), *scripts.verdict()]

    tables = [*metric_tables(results)]
    if (limits := limit_table(results)) is not None:
        tables.append(limits)
    if Part.SCRIPT in given.parts:
        tables.append(scripts.table())
    if reached:
        tables.append(verdict_table(reached))
    remarks = [*_remarks(results, given.rounds, given.seconds)]
    facts = {**about(), "begun": begun, "meanwhile": meanwhile}
    for fact, value in facts.items():
        print(f"{fact:<10}  {value}")
    print("\n".join(["", *remarks]))
    for table in tables:
        print(f"\n{table.text()}")
    if given.json is not None:
        numbers = _numbers(given, facts, results, scripts, reached)
        given.json.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    if given.readme is not None:
        listed = [f"- {fact}: {value}" for fact, value in facts.items()]
        shown = [
            "\n".join(listed),
            "\n".join(f"- {remark}" for remark in remarks),
            *(table.markdown() for table in tables),
        ]
        write_between_markers(given.readme, "\n\n".join(shown))
    return 1 if results.failed or scripts.failed or not all(one.is_floor_reached for one in reached) else 0


def _arguments(
    name: str, description: str, parts: Collection[Part], seconds: float, contenders: Collection[str]
) -> argparse.Namespace:
    default = "all" if contenders is CONTENDERS else ", ".join(map(repr, contenders))
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=description)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender (default: %(default)s)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=seconds,
        help="length of the longest measurement of a turn; others take half of it (default: %(default)s)",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=CONTENDERS,
        metavar="CONTENDER",
        help=f"who takes part: {', '.join(map(repr, CONTENDERS))}; may be repeated (default: {default})",
    )
    parser.add_argument(
        "--measure",
        action="append",
        type=Part,
        choices=[*Part],
        metavar="PART",
        help=f"what is measured: {', '.join(Part)}; may be repeated (default: {', '.join(parts)})",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to this file")
    parser.add_argument(
        "--readme",
        type=Path,
        nargs="?",
        const=_README,
        metavar="FILE",
        help="write the tables into this file, between the two markers it has for them (default: that of benchmarks/)",
    )
    given = parser.parse_args()
    if given.rounds < 1 or not given.seconds > 0:
        parser.error("--rounds and --seconds must be greater than 0")
    if given.readme is not None:
        try:
            check_markers(given.readme)
        except (OSError, ValueError) as error:
            parser.error(str(error))
    given.parts = frozenset(given.measure or parts)
    given.contenders = [one for name, one in CONTENDERS.items() if name in (given.only or contenders)]
    return given


def _remarks(results: Results, rounds: int, seconds: float) -> Iterator[str]:
    if results.turns:
        plural = "" if rounds == 1 else "s"
        yield f"Medians of {rounds} round{plural} with measurements of {seconds:g} s and of half of that."
        if REFERENCE in results.turns:
            yield f"In brackets: the medians of the ratios to {REFERENCE} in the same round."
    if results.turns and not sys.platform.startswith("linux"):
        yield "CPU time and memory were not measured: they are read as Linux shows them."
    for name, reason in results.missing.items():
        yield f"{name} is missing: {reason}."
    for name, reason in results.failed.items():
        yield f"{name} has FAILED: {reason}."
    for name in (REFERENCE, JAVASCRIPT):
        if results.turns and name not in results.turns:
            yield f"{name} was not measured, so there are no ratios to it."


def _numbers(
    given: argparse.Namespace,
    facts: Mapping[str, str],
    results: Results,
    scripts: script.Scripts,
    reached: Sequence[Verdict],
) -> dict[str, object]:
    return {
        "about": facts,
        "rounds": given.rounds,
        "seconds": given.seconds,
        "turns": results.turns,
        "missing": results.missing,
        "failed": results.failed,
        "medians": results.medians(),
        "ratios": results.ratios_to(REFERENCE),
        "scripts": dataclasses.asdict(scripts),
        "verdicts": [
            {
                **dataclasses.asdict(one),
                "is_floor_reached": one.is_floor_reached,
                "is_aim_reached": one.is_aim_reached,
            }
            for one in reached
        ],
    }
