"""How long a blocking script takes that connects, asks once and ends: with natsvc.sync, and with nats-py.

    python -m benchmarks.script

Whole processes are measured, from their start to their end, for that is what a cron job pays. The two take turns, and
find the modules that they import compiled already, however these were installed and whatever the environment says.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping

from natsvc.sync import Request, add_service, connect
from natsvc.testing import NatsServer

FLOOR = 0.5
"""The share of the time with nats-py that the script with natsvc.sync may take."""

SCRIPTS = {
    "nats-py": """
import asyncio, sys
import nats

async def main():
    nc = await nats.connect(sys.argv[1])
    assert (await nc.request("benchmark.script", b"question")).data == b"question"
    await nc.close()

asyncio.run(main())
""",
    "natsvc.sync": """
import sys
from natsvc.sync import connect

with connect(sys.argv[1]) as nc:
    assert nc.request("benchmark.script", b"question").data == b"question"
""",
    "Python alone": "",
}


def measure(script: str, url: str, environment: Mapping[str, str]) -> float:
    """Return the seconds that a script takes."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", script, url], check=True, env=environment)
    return time.perf_counter() - begun


def with_compiled_modules_in(directory: str) -> dict[str, str]:
    """Return an environment in which Python keeps what it has compiled in a directory, and finds it there.

    Otherwise it would be found for packages that pip has compiled, and not for one that is worked on, if Python is not
    to write beside the sources.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**environment, "PYTHONPYCACHEPREFIX": directory}


def main() -> int:
    """Measure and report; the exit code is 1 if the floor is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.script", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=20, help="turns of each script (default: %(default)s)")
    given = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in SCRIPTS}
    with (
        tempfile.TemporaryDirectory() as directory,
        NatsServer() as server,
        connect(server.url) as nc,
        add_service(nc, name="benchmark") as service,
    ):
        environment = with_compiled_modules_in(directory)

        @service.endpoint("echo", subject="benchmark.script")
        def echo(request: Request) -> bytes:
            return request.data

        for script in SCRIPTS.values():
            measure(script, server.url, environment)  # Python compiles it all
        for _ in range(given.rounds):
            for name, script in SCRIPTS.items():
                times[name].append(measure(script, server.url, environment))
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    ratio = medians["natsvc.sync"] / medians["nats-py"]
    for name, median in medians.items():
        print(f"{name:<12} {median * 1e3:6.1f} ms")
    print(f"natsvc.sync takes {ratio:.2f} x the time of nats-py; the floor is {FLOOR} x")
    return 0 if ratio <= FLOOR else 1


if __name__ == "__main__":
    sys.exit(main())
