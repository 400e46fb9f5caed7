"""What a load's measurement looks like, to the letter, where the numbers are known."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.conftest import LIMIT, Environment
from tests.cli.snapshots import assert_as_before

PROGRAM = """
from natsvc.cli.latency import Latency
from natsvc.cli.load import Measurement
from natsvc.cli.load_report import print_failures, print_histogram, print_latency

measurement = Measurement(sent=1211, duration=2_000_000_000)
measurement.latencies.extend(400_000 + 1_000 * number for number in range(1_000))
measurement.latencies.extend(2_000_000 + 10_000 * number for number in range(200))
measurement.latencies.append(31_000_000)
for _ in range(10):
    measurement.fail("timeout", "the request to 'a' was not answered within 5 s")
measurement.fail("500", "Internal \\x1b[31mServer\\r\\nError")
measurement.fail("404", "who [b]asks[/b] for what isn't there, gets a text that is too long for a line of any terminal")

latency = Latency.of(measurement.latencies)
print_latency("subject: some requests", measurement, latency)
print_histogram(latency.buckets)
print_failures("What went wrong", measurement.failures.values())
"""


@pytest.mark.parametrize("width", ["50", "80", "120", ""])
def test_the_tables_fit_the_width(environment: Environment, width: str) -> None:
    sized = {"COLUMNS": width} if width else {}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**environment, **sized},
        capture_output=True,
        encoding="utf-8",
        timeout=LIMIT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not width or max(map(len, done.stdout.splitlines())) <= int(width)
    assert_as_before(f"load-{width or 'pipe'}", done.stdout)
