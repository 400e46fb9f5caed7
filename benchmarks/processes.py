"""Processes that are measured: started for a block, ended with it, and looked at from outside.

CPU time and memory are the operating system's numbers, so that a contender needs no code to tell them, whatever its
language: Linux gives them for any process. Elsewhere they are not measured, and the reports say so.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.subjects import READY

__all__ = ["BenchmarkError", "Memory", "Running", "cpu_time", "memory", "run_to_end", "running"]

ROOT = Path(__file__).parent.parent

_LIMIT = 30.0
"""Seconds after which a process that should have said or done something hangs."""


class BenchmarkError(Exception):
    """A contender doesn't do what every contender must; its numbers would mean nothing."""


@dataclass(frozen=True, slots=True)
class Running:
    """A contender that can be asked.

    Attributes:
        process_id: Its process.
        starting: Seconds that its service took to start, on a connection that was there.
    """

    process_id: int
    starting: float


@dataclass(frozen=True, slots=True)
class Memory:
    """What a process has in memory, in bytes.

    Attributes:
        resident: Now.
        peak: The most it ever was.
    """

    resident: int
    peak: int


@contextlib.contextmanager
def running(command: Sequence[str]) -> Iterator[Running]:
    """Run a contender for the block.

    Its stdin is a pipe that nobody writes to: it ends with that pipe, so also if this process is killed.

    Raises:
        BenchmarkError: It ended, or was silent for 30 seconds, instead of saying that it is ready.
    """
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        try:
            assert process.stdout is not None
            with _killed_after(process, _LIMIT):
                words = process.stdout.readline().split()
            if len(words) != 2 or words[0] != READY:
                raise BenchmarkError(f"it could not be started: {' '.join(command)}")
            yield Running(process.pid, float(words[1]))
        finally:
            process.kill()


def run_to_end(command: Sequence[str], seconds: float) -> str:
    """Run a process that is to work for some seconds; return what it has printed.

    Raises:
        BenchmarkError: It failed, or took 30 seconds longer.
    """
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        try:
            assert process.stdout is not None
            with _killed_after(process, seconds + _LIMIT):
                printed = process.stdout.read()
                code = process.wait()
        finally:
            process.kill()
    if code != 0:
        raise BenchmarkError(f"it ended with code {code}: {' '.join(command)}")
    return printed


@contextlib.contextmanager
def _killed_after(process: subprocess.Popen[str], seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def cpu_time(process_id: int) -> float | None:
    """Return the seconds of CPU time that all threads of a process have used so far; None if that can't be known.

    It is what clock_getcpuclockid(3) leads to, to the nanosecond; /proc/PID/stat would tell it in steps of 10 ms.
    """
    if not sys.platform.startswith("linux"):
        return None
    # As the kernel makes the id of a process's clock: MAKE_PROCESS_CPUCLOCK(process_id, CPUCLOCK_SCHED).
    return time.clock_gettime((~process_id << 3) | 2)


def memory(process_id: int) -> Memory | None:
    """Return what a process has in memory; None if that can't be known."""
    try:
        lines = Path(f"/proc/{process_id}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines)
    if "VmRSS" not in fields or "VmHWM" not in fields:
        return None
    return Memory(resident=_bytes(fields["VmRSS"]), peak=_bytes(fields["VmHWM"]))


def _bytes(value: str) -> int:
    number, unit = value.split()
    assert unit == "kB"
    return int(number) * 1024
