"""What every contender's service answers to and says, and who asks it has to know.

`javascript/service.mjs` has the same names.
"""

from __future__ import annotations

__all__ = ["ECHO", "HEADER", "HEADERS", "READY", "SERVICE", "WAIT", "WAITING", "WINDOW", "echo_subjects"]

SERVICE = "benchmark"
"""The name of every service."""

ECHO = "benchmark.echo"
"""Answers with the request's data."""

HEADERS = "benchmark.headers"
"""Answers with the request's data, and with one of its headers."""

WAIT = "benchmark.wait"
"""Answers with the request's data, but later."""

WAITING = 0.01
"""How much later, in seconds."""

WINDOW = 256
"""How many requests are in flight, and how many handlers that wait may run at once."""

READY = "ready"
"""The first word of what a service prints when it can be asked; the second is how many seconds it took to start."""

HEADER = "Trace"
"""The header that is read, and sent back."""


def echo_subjects(count: int) -> list[str]:
    """Return the subjects of a service with so many endpoints that echo: ECHO alone, or as many as there are to be."""
    return [ECHO] if count == 1 else [f"{ECHO}.{number:04d}" for number in range(count)]
