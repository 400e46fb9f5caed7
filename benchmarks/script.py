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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks import javascript
from benchmarks.contenders import CONTENDERS, JAVASCRIPT
from benchmarks.floors import Floor, Verdict
from benchmarks.report import Table, verdict_table
from natsvc.sync import Request, add_service, connect
from natsvc.testing import NatsServer

__all__ = ["Scripts", "run"]

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


@dataclass(slots=True)
class Scripts:
    """What came of it.

    Attributes:
        times: The seconds that each script took each time.
        missing: Why others have none: what they need is not on this machine.
        failed: Why others have none: they were answered wrongly, or not.
    """

    times: dict[str, list[float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def verdict(self) -> Iterator[Verdict]:
        """Yield how natsvc.sync stands beside what it has to reach, if both were measured."""
        if _NATSVC in self.times and _REFERENCE in self.times:
            ratio = statistics.median(self.times[_NATSVC]) / statistics.median(self.times[_REFERENCE])
            yield Verdict(_NATSVC, _FLOOR, ratio)

    def table(self) -> Table:
        """Return the medians as a table."""
        medians = {name: statistics.median(taken) for name, taken in self.times.items()}
        reference = medians.get(_REFERENCE)
        rows = [["script with", "wall time", ""]]
        for name, median in medians.items():
            rows.append([name, f"{median * 1e3:.1f} ms", "" if reference is None else f"{median / reference:.2f} x"])
        rows += [[name, "missing", ""] for name in self.missing]
        rows += [[name, "FAILED", ""] for name in self.failed]
        remarks = [f"{name} is missing: {reason}." for name, reason in self.missing.items()]
        remarks += [f"{name} has FAILED: {reason}" for name, reason in self.failed.items()]
        return Table("A script that connects, asks once and ends", rows, remarks)


def run(rounds: int) -> Scripts:
    """Let the scripts take turns.

    Args:
        rounds: How many each has.
    """
    commands, missing = _commands()
    scripts = Scripts(missing=missing)
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

        for number in range(rounds + 1):
            print(f"scripts, round {number} of {rounds}", file=sys.stderr, flush=True)
            for name, command in commands.items():
                if name in scripts.failed:
                    continue
                try:
                    taken = _measure(command, server.url, environment)
                except subprocess.CalledProcessError as error:
                    scripts.failed[name] = f"code {error.returncode}."
                    scripts.times.pop(name, None)
                    continue
                if number > 0:  # in the first one, Python compiles it all
                    scripts.times.setdefault(name, []).append(taken)
    return scripts


def main() -> int:
    """Measure and report; the exit code is 1 if the floor is missed, or a script fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.script", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=20, help="turns of each script (default: %(default)s)")
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("--rounds must be greater than 0")
    scripts = run(given.rounds)
    reached = [*scripts.verdict()]
    print(scripts.table().text())
    print()
    print(verdict_table(reached).text())
    return 1 if scripts.failed or not all(one.is_floor_reached for one in reached) else 0


if __name__ == "__main__":
    sys.exit(main())
