"""`natsvc serve` as a process: started in a directory with the user's modules, heard, told to stop, waited for."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Self

import pytest

from natsvc import NatsvcError
from natsvc.sync import Connection
from tests.cli.conftest import LIMIT, Environment

USERS = """
import asyncio
import time

from natsvc import ServiceDefinition

VERSION = "1.0.0"

plain = ServiceDefinition("users", version=VERSION, metadata={"region": "eu"})
mixed = ServiceDefinition("users", version=VERSION)


@plain.endpoint("version", subject="users.version")
def version(request):
    return VERSION


@plain.endpoint("slow", subject="users.slow")
def slow(request):
    print("begun", flush=True)
    time.sleep(float(request.data))
    return b"done"


@mixed.endpoint("version", subject="users.version")
async def version_on_the_loop(request):
    return VERSION


@mixed.add_group("users").endpoint("slow")
async def slow_on_the_loop(request):
    print("begun", flush=True)
    await asyncio.sleep(float(request.data))
    return b"done"


class Services:
    users = plain
"""


class Serving:
    """One such process. What it writes is read as it comes, so that it never waits for a reader."""

    def __init__(self, arguments: tuple[str, ...], directory: Path, environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "natsvc", "serve", *arguments],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,  # so that a signal can go to all of its processes, as Ctrl-C does
        )
        self.lines: list[str] = []
        self.from_stdout: list[str] = []
        self._heard: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._readers = [
            threading.Thread(target=self._read, args=(stream,)) for stream in (self.process.stdout, self.process.stderr)
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Iterator[str]) -> None:
        for line in stream:
            if stream is self.process.stdout:
                self.from_stdout.append(line.rstrip("\n"))
            self._heard.put(line.rstrip("\n"))
        self._heard.put(None)

    def hear(self, text: str) -> str:
        """Wait for a line, of either stream, with the text in it; those before it have been heard then."""
        while True:
            try:
                line = self._heard.get(timeout=LIMIT)
            except queue.Empty:
                line = None
            assert line is not None, f"no {text!r} in {self.lines}"
            self.lines.append(line)
            if text in line:
                return line

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Return the exit status, when all that was written has been read."""
        status = self.process.wait(LIMIT)
        self.close()
        while not self._heard.empty():
            line = self._heard.get()
            if line is not None:
                self.lines.append(line)
        return status

    def close(self) -> None:
        """Kill it and all of its processes, if they still run."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(LIMIT)
        for reader in self._readers:
            reader.join(LIMIT)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()


Serve = Callable[..., Serving]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The user's directory, with a module `users` that has the services `plain` and `mixed`."""
    path = tmp_path / "project"
    path.mkdir()
    (path / "users.py").write_text(USERS, encoding="utf-8")
    return path


@pytest.fixture
def serve(directory: Path, environment: Environment) -> Iterator[Serve]:
    """Starts `natsvc serve` with the arguments; what still runs is killed after the test."""
    with contextlib.ExitStack() as running:

        def serve(*arguments: str) -> Serving:
            serving = Serving(arguments, directory, environment)
            running.callback(serving.close)
            return serving

        yield serve


class Callers:
    """Threads that send requests, one after the other, and note how each of them ended.

    The service must answer for as long as there are callers: an error of any kind is a request that was lost.
    """

    def __init__(self, nc: Connection, subject: str, count: int = 8) -> None:
        self.answers: list[bytes] = []
        self.errors: list[NatsvcError] = []
        self._nc = nc
        self._subject = subject
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(LIMIT)

    def _call(self) -> None:
        while not self._ended.is_set():
            try:
                self.answers.append(self._nc.request(self._subject, timeout=LIMIT).data)
            except NatsvcError as error:
                self.errors.append(error)


def request_in_flight(nc: Connection, serving: Serving, seconds: float) -> Callable[[], bytes]:
    """Send a request that takes so long, and wait until its handler has begun; what is returned waits for the reply."""
    inbox = nc.new_inbox()
    replies = nc.subscribe(inbox)
    nc.publish("users.slow", str(seconds), reply=inbox)
    nc.flush()
    serving.hear("begun")

    def reply() -> bytes:
        with replies:
            return replies.receive(timeout=LIMIT).data

    return reply
