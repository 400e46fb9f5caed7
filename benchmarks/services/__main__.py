"""Runs a service of one kind until stdin ends."""

from __future__ import annotations

import importlib
import sys

from benchmarks.children import end_with_stdin

_KINDS = {
    "nats.micro": "nats_micro:run",
    "natsio": "natsio_micro:run",
    "natsvc on nats-py": "natsvc_asyncio:run_on_nats_py",
    "natsvc": "natsvc_asyncio:run",
    "natsvc.anyio on asyncio": "natsvc_anyio:run_on_asyncio",
    "natsvc.anyio on trio": "natsvc_anyio:run_on_trio",
    "natsvc.sync": "natsvc_sync:run",
    "bare asyncio": "bare_asyncio:run",
    "bare trio": "bare_trio:run",
    "bare thread": "bare_thread:run",
}
"""Module and function of each kind. The function takes a URL, a number of endpoints, and whether to use uvloop."""


def main(kind: str, url: str, endpoints: str, *options: str) -> None:
    """Run it."""
    end_with_stdin()
    module, function = _KINDS[kind].split(":")
    getattr(importlib.import_module(f"benchmarks.services.{module}"), function)(
        url, int(endpoints), uvloop="uvloop" in options
    )


main(*sys.argv[1:])
