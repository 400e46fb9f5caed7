"""How long `natsvc --version` takes, beside what importing Typer alone takes.

    python -m benchmarks.command

Whole processes are measured, from their start to their end, for that is what who types a command waits for. The two
take turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

LIMIT = 2.0
"""How many times as long as importing Typer the command may take to print its version."""

PROCESSES = {
    "import typer": ["-c", "import typer"],
    "natsvc --version": ["-m", "natsvc", "--version"],
}


# What is installed has been compiled; a tree of sources in which Python may not write would be compiled each time.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def measure(arguments: list[str]) -> float:
    """Return the seconds that Python takes with these arguments."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=ENVIRONMENT, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def main() -> int:
    """Measure and report; the exit code is 1 if the limit is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.command", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=20, help="turns of each process (default: %(default)s)")
    given = parser.parse_args()
    for arguments in PROCESSES.values():
        measure(arguments)  # Python compiles what it has not yet
    times: dict[str, list[float]] = {name: [] for name in PROCESSES}
    for _ in range(given.rounds):
        for name, arguments in PROCESSES.items():
            times[name].append(measure(arguments))
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    for name, median in medians.items():
        print(f"{name:<16} {median * 1e3:6.1f} ms")
    ratio = medians["natsvc --version"] / medians["import typer"]
    print(f"natsvc --version takes {ratio:.2f} x the time of importing Typer; the limit is {LIMIT:g} x")
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
