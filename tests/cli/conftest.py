"""The command as its users meet it: a process with arguments, an environment, and three streams."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

LIMIT = 60.0
"""Seconds that a command may take; none is expected to take long."""

Environment = dict[str, str]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """What a command sees: nothing of the user's own connection settings, and no terminal's width."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("NATS_") and name not in ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TERM")
    }
    return {**kept, "XDG_CONFIG_HOME": str(tmp_path / "config"), "PYTHONIOENCODING": "utf-8", "TERM": "xterm-256color"}


@pytest.fixture
def run(environment: Environment) -> Run:
    """Runs `natsvc` with the arguments until it ends: `run("ls", "--json", env={"NATS_URL": url}, input="text")`."""

    def run(
        *arguments: str, env: Environment | None = None, input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "natsvc", *arguments],
            env={**environment, **(env or {})},
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            encoding="utf-8",
            timeout=LIMIT,
            check=False,
        )

    return run


@pytest.fixture
def start(environment: Environment) -> Iterator[Start]:
    """Starts `natsvc` with the arguments, its streams as pipes; a process that still runs is killed after the test."""
    with ExitStack() as running:

        def start(*arguments: str, env: Environment | None = None) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-m", "natsvc", *arguments],
                env={**environment, **(env or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
            )
            running.enter_context(process)
            running.callback(process.kill)
            return process

        yield start
