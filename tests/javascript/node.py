"""Node, the JavaScript library installed for it, and the programs of this directory running on it.

The programs are copied to where the library is installed, outside of the checkout: Node looks for what a module imports
in the directories above that module, and nowhere else.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.worlds import LIMIT

__all__ = ["JavaScriptError", "JavaScriptProgram", "find_tool", "install"]

SOURCE = Path(__file__).parent


def find_tool(name: str) -> str:
    """Return where a command of Node is; the test is skipped without it, but fails where nothing may be skipped."""
    if (found := shutil.which(name)) is not None:
        return found
    reason = f"the command {name} is not on this machine"
    if os.environ.get("CI"):
        pytest.fail(f"{reason}; in continuous integration that is an error")
    pytest.skip(reason)


def install(directory: Path) -> None:
    """Install the library and the programs in a directory."""
    directory.mkdir(exist_ok=True)
    for file in [SOURCE / "package.json", *SOURCE.glob("*.mjs")]:
        shutil.copy(file, directory)
    options = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
    run = subprocess.run(
        [find_tool("npm"), "install", *options], cwd=directory, capture_output=True, encoding="utf-8", check=False
    )
    if run.returncode != 0:
        pytest.fail(f"npm install has failed:\n{run.stdout}{run.stderr}")


class JavaScriptError(Exception):
    """What a call into JavaScript has thrown.

    Attributes:
        name: The name of its class.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name


class JavaScriptProgram:
    """A program of this directory, running for the block; its functions are called one at a time.

    Args:
        command: The program and its arguments.
        directory: Where it has been installed.
    """

    def __init__(self, command: Sequence[str], directory: Path) -> None:
        self._process = subprocess.Popen(
            [find_tool("node"), *command],
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        self._outcomes: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._outcomes.put(line)
        self._outcomes.put("")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        with self._process:
            self._process.stdin.close()
            try:
                self._process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                self._process.kill()
            self._reader.join()
        assert self._process.returncode == 0, "the program has not ended well; stderr has what it said"

    def call(self, function: str, *given: Any) -> Any:
        """Call a function of the program, and return what that returns.

        Raises:
            JavaScriptError: It has thrown an error.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"call": function, "given": given}) + "\n")
        self._process.stdin.flush()
        line = self._outcomes.get(timeout=LIMIT)
        assert line, "the program has ended; stderr has what it said"
        outcome = json.loads(line)
        if "error" in outcome:
            raise JavaScriptError(**outcome["error"])
        return outcome.get("result")
