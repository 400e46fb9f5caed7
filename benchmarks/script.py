"""How long a script takes that connects, asks once and ends: with natsvc.sync, with nats-py, and with others.

    python -m benchmarks.script

Whole processes are measured, from their start to their end, for that is what a cron job pays. They take turns, and
find the modules that they import compiled already, however these were installed and whatever the environment says.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

from benchmarks import javascript
from benchmarks.contenders import CONTENDERS, JAVASCRIPT
from benchmarks.floors import Floor, Verdict
from benchmarks.report import Table, verdict_table
from natsvc.sync import Request, add_service, connect
from natsvc.testing import NatsServer

__all__ = ["run", "table", "verdict"]

_REFERENCE = "nats-py"
_NATSVC = "natsvc.sync"
_FLOOR = Floor("time of a script, to nats-py's", floor=0.5, aim=0.5)

_ON_ASYNCIO = """
import asyncio, sys
import {package}

async def main():
    nc = await {package}.connect(sys.argv[1])
    assert (await nc.request("benchmark.script", b"question")).data == b"question"
    await nc.close()

asyncio.run(main())
"""

_SCRIPTS = {
    _REFERENCE: _ON_ASYNCIO.format(package="nats"),
    _NATSVC: """
import sys
from natsvc.sync import connect

with connect(sys.argv[1]) as nc:
    assert nc.request("benchmark.script", b"question").data == b"question"
""",
    "natsvc.asyncio": _ON_ASYNCIO.format(package="natsvc.asyncio"),
    "natsio": _ON_ASYNCIO.format(package="natsio"),
    "Python alone": "",
}


def _commands() -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return the command of each script that can be run here, and why others can't."""
    commands = {name: [sys.executable, "-c", script] for name, script in _SCRIPTS.items()}
    reasons = {name: CONTENDERS[name].missing() for name in ("natsio", JAVASCRIPT)}
    missing = {name: reason for name, reason in reasons.items() if reason is not None}
    if JAVASCRIPT not in missing:
        commands[JAVASCRIPT] = [shutil.which("node") or "node", str(javascript.installation() / "script.mjs")]
    return {name: command for name, command in commands.items() if name not in missing}, missing


def _measure(command: Sequence[str], url: str, environment: Mapping[str, str]) -> float:
    begun = time.perf_counter()
    subprocess.run([*command, url], check=True, env=environment)
    return time.perf_counter() - begun


def _with_compiled_modules_in(directory: str) -> dict[str, str]:
    """Return an environment in which Python keeps what it has compiled in a directory, and finds it there.

    Otherwise it would be found for packages that pip has compiled, and not for one that is worked on, if Python is not
    to write beside the sources.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**environment, "PYTHONPYCACHEPREFIX": directory}


def run(rounds: int) -> dict[str, list[float]]:
    """Let the scripts take turns.

    Args:
        rounds: How many each has.

    Returns:
        The seconds that each took each time.

    Raises:
        subprocess.CalledProcessError: A script was answered wrongly, or not.
    """
    commands, _ = _commands()
    times: dict[str, list[float]] = {name: [] for name in commands}
    with (
        tempfile.TemporaryDirectory() as directory,
        NatsServer() as server,
        connect(server.url) as nc,
        add_service(nc, name="benchmark") as service,
    ):
        environment = _with_compiled_modules_in(directory)

        @service.endpoint("echo", subject="benchmark.script")
        def echo(request: Request) -> bytes:
            return request.data

        for command in commands.values():
            _measure(command, server.url, environment)  # Python compiles it all
        for number in range(rounds):
            print(f"scripts, round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for name, command in commands.items():
                times[name].append(_measure(command, server.url, environment))
    return times


def table(times: Mapping[str, Sequence[float]]) -> Table:
    """Return the medians as a table."""
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    rows = [["script with", "wall time", ""]]
    for name, median in medians.items():
        rows.append([name, f"{median * 1e3:.1f} ms", f"{median / medians[_REFERENCE]:.2f} x"])
    _, missing = _commands()
    return Table(
        "A script that connects, asks once and ends",
        rows,
        [f"{name}: not measured, {reason}" for name, reason in missing.items()],
    )


def verdict(times: Mapping[str, Sequence[float]]) -> Verdict:
    """Return how natsvc.sync stands beside what it has to reach."""
    return Verdict(_NATSVC, _FLOOR, statistics.median(times[_NATSVC]) / statistics.median(times[_REFERENCE]))


def main() -> int:
    """Measure and report; the exit code is 1 if the floor is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.script", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=20, help="turns of each script (default: %(default)s)")
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("--rounds must be greater than 0")
    times = run(given.rounds)
    reached = verdict(times)
    print(table(times).text())
    print()
    print(verdict_table([reached]).text())
    return 0 if reached.is_floor_reached else 1


if __name__ == "__main__":
    sys.exit(main())
