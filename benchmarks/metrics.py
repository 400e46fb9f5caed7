"""The numbers: what each is called, what it is measured in, and how a table shows it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["CPU", "RATE", "TABLES", "Metric", "MetricTable", "Numbers", "Part"]


class Part(enum.StrEnum):
    """What can be measured without the rest."""

    ECHO = "echo"
    LATENCY = "latency"
    SIZES = "sizes"
    HEADERS = "headers"
    WAIT = "wait"
    ENDPOINTS = "endpoints"
    CALLING = "calling"
    SCRIPT = "script"


@dataclass(frozen=True, slots=True)
class Metric:
    """One of the numbers that a turn of a contender gives.

    Attributes:
        key: Its name in JSON, with its unit.
        title: What stands above its column.
        digits: How many digits behind the point are worth showing.
        scale: What the number is multiplied with to be shown.
        unit: What stands behind it.
        is_compared: Whether its ratio to the reference is shown.
    """

    key: str
    title: str
    digits: int = 0
    scale: float = 1.0
    unit: str = ""
    is_compared: bool = True

    def shown(self, number: float) -> str:
        """Return the number as text."""
        return f"{number * self.scale:,.{self.digits}f}{self.unit}"


Numbers = Mapping[str, float]
"""What was measured, by the keys of the metrics; what could not be measured is not there."""


@dataclass(frozen=True, slots=True)
class MetricTable:
    """Metrics that are shown together."""

    title: str
    metrics: tuple[Metric, ...]


RATE = "echo_16_requests_per_second"
"""The key of the number that counts most."""

CPU = "echo_16_service_cpu_seconds"
"""The key of the number that nobody else on the machine touches."""

_RATE = "requests_per_second"
_MIB = 1 / 1024 / 1024

TABLES = (
    MetricTable(
        "Requests a second, 256 in flight",
        (
            Metric(RATE, "16 B"),
            Metric(f"echo_1024_{_RATE}", "1 KiB"),
            Metric(f"echo_65536_{_RATE}", "64 KiB"),
            Metric(f"headers_{_RATE}", "headers"),
            Metric(f"wait_{_RATE}", "handler waits 10 ms"),
        ),
    ),
    MetricTable(
        "CPU time for a request, and the latency of one request at a time",
        (
            Metric(CPU, "CPU, 16 B", digits=1, scale=1e6, unit=" us"),
            Metric("headers_cpu_seconds", "CPU, headers", digits=1, scale=1e6, unit=" us"),
            Metric("latency_median_seconds", "latency, median", scale=1e6, unit=" us"),
            Metric("latency_p99_seconds", "latency, p99", scale=1e6, unit=" us"),
        ),
    ),
    MetricTable(
        "Many endpoints: requests spread over all of them, and the start of a service until all are confirmed",
        (
            Metric(f"endpoints_10_{_RATE}", "10, requests/s"),
            Metric(f"endpoints_1000_{_RATE}", "1,000, requests/s"),
            Metric("endpoints_1000_start_seconds", "1,000, start", scale=1e3, unit=" ms"),
        ),
    ),
    MetricTable(
        "Memory (RSS): at rest, and at most so far under load",
        (
            Metric("rest_memory_bytes", "at rest", digits=1, scale=_MIB, unit=" MiB"),
            Metric("echo_16_memory_bytes", "load of 16 B", digits=1, scale=_MIB, unit=" MiB"),
            Metric("echo_65536_memory_bytes", "load of 64 KiB", digits=1, scale=_MIB, unit=" MiB"),
        ),
    ),
    MetricTable(
        "The calling side: `request` from one task or thread, and from 64",
        (
            Metric("call_1_median_seconds", "one: median", scale=1e6, unit=" us"),
            Metric("call_1_p99_seconds", "one: p99", scale=1e6, unit=" us"),
            Metric(f"call_64_{_RATE}", "64: requests/s"),
            Metric("call_64_cpu_seconds", "64: CPU for a request", digits=1, scale=1e6, unit=" us"),
        ),
    ),
    MetricTable(
        "Who uses how much of a core at 16 B, and what a request costs beside the service",
        (
            Metric("echo_16_service_cores", "service", scale=100, unit=" %", is_compared=False),
            Metric("echo_16_server_cores", "nats-server", scale=100, unit=" %", is_compared=False),
            Metric("echo_16_load_cores", "load", scale=100, unit=" %", is_compared=False),
            Metric("echo_16_server_cpu_seconds", "nats-server", digits=2, scale=1e6, unit=" us", is_compared=False),
            Metric("echo_16_load_cpu_seconds", "load", digits=2, scale=1e6, unit=" us", is_compared=False),
        ),
    ),
)
"""All numbers, in the order of the report."""
