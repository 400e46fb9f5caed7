"""What is measured of a contender in its turn.

A part's numbers come from a process that is new, or that has done nothing but the parts before: first what the least
traffic disturbs, last what leaves most behind.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Collection, Iterator, Sequence

from benchmarks.callers import Calls
from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.load import Load, Throughput, Traffic
from benchmarks.metrics import Numbers, Part
from benchmarks.processes import Running, cpu_time, memory, run_to_end, running
from benchmarks.subjects import ECHO, HEADER, HEADERS, WAIT, echo_subjects
from natsvc.testing import NatsServer

__all__ = ["measure"]

_WARM_UP = 0.3
"""Seconds of load before the measuring begins: Python specialises its bytecode meanwhile, Node compiles."""

_SHARE = 0.5
"""How much of a turn's seconds the smaller parts take, of which there are more."""

_SIZES = (1024, 65536)
_ENDPOINTS = (10, 1000)

_FEW_HEADERS = ((HEADER, "7a085853722dc6d2"), ("Content-Type", "application/json"), ("User", "alice"))

_FEW_WAITING = 8
"""How many requests see whether a handler that waits answers them well: one that handles them one by one takes long."""

_RESPONDER = CONTENDERS["bare asyncio"]
"""What answers the callers."""


def measure(contender: Contender, server: NatsServer, parts: Collection[Part], seconds: float) -> Numbers:
    """Give a contender its turn.

    Args:
        contender: Who.
        server: The server for all.
        parts: What to measure; what the contender can't do is left out.
        seconds: How long the load of the part `echo` lasts; it is half of that for other parts.

    Raises:
        BenchmarkError: It doesn't answer as it should.
        OSError: It doesn't answer at all.
    """
    numbers: dict[str, float] = {}
    if not {Part.ECHO, Part.LATENCY, Part.SIZES, Part.HEADERS, Part.WAIT}.isdisjoint(parts):
        with running(contender.service(server.url, 1)) as process:
            numbers.update(_with_one_endpoint(contender, process, server, parts, seconds))
    if Part.ENDPOINTS in parts:
        for count in _ENDPOINTS:
            with running(contender.service(server.url, count)) as process:
                numbers.update(_with_endpoints(count, process, server.url, seconds * _SHARE))
    if Part.CALLING in parts and not contender.is_limit:
        with running(_RESPONDER.service(server.url, 1)):
            numbers.update(_calling(contender, server.url, seconds))
    return numbers


def _with_one_endpoint(
    contender: Contender, process: Running, server: NatsServer, parts: Collection[Part], seconds: float
) -> Iterator[tuple[str, float]]:
    if Part.ECHO in parts or Part.LATENCY in parts:
        if Part.ECHO in parts:
            yield from _resident("rest", process)
        with Load(server.url, Traffic([ECHO])) as load:
            load.verify()
            load.throughput(_WARM_UP)
            if Part.ECHO in parts:
                yield from _echo(load, process, server, seconds)
            if Part.LATENCY in parts:
                yield from _spread("latency", load.latencies(seconds * _SHARE))
    if Part.SIZES in parts:
        for size in _SIZES:
            with Load(server.url, Traffic([ECHO], size)) as load:
                load.verify()
                yield _rate(f"echo_{size}", load.throughput(seconds * _SHARE))
        yield from _peak(f"echo_{_SIZES[-1]}", process)
    if contender.is_limit:
        return
    if Part.HEADERS in parts:
        with Load(server.url, Traffic([HEADERS], headers=_FEW_HEADERS)) as load:
            load.verify()
            load.throughput(_WARM_UP)
            before = cpu_time(process.process_id)
            throughput = load.throughput(seconds * _SHARE)
            yield _rate("headers", throughput)
            if (used := _since(before, process.process_id)) is not None:
                yield "headers_cpu_seconds", used / throughput.answered
    if Part.WAIT in parts:
        with Load(server.url, Traffic([WAIT])) as load:
            load.verify(_FEW_WAITING)
            yield _rate("wait", load.throughput(seconds * _SHARE, to_the_last=False))


def _echo(load: Load, process: Running, server: NatsServer, seconds: float) -> Iterator[tuple[str, float]]:
    before = {"service": cpu_time(process.process_id), "server": cpu_time(server.pid)}
    throughput = load.throughput(seconds)
    used = {
        "service": _since(before["service"], process.process_id),
        "server": _since(before["server"], server.pid),
        "load": throughput.cpu,
    }
    yield _rate("echo_16", throughput)
    for name, cpu in used.items():
        if cpu is not None:
            yield f"echo_16_{name}_cpu_seconds", cpu / throughput.answered
            yield f"echo_16_{name}_cores", cpu / throughput.seconds
    yield from _peak("echo_16", process)


def _with_endpoints(count: int, process: Running, url: str, seconds: float) -> Iterator[tuple[str, float]]:
    if count == max(_ENDPOINTS):
        yield f"endpoints_{count}_start_seconds", process.starting
    with Load(url, Traffic(echo_subjects(count))) as load:
        load.verify()
        load.throughput(_WARM_UP)
        yield _rate(f"endpoints_{count}", load.throughput(seconds))


def _calling(contender: Contender, url: str, seconds: float) -> Iterator[tuple[str, float]]:
    calls = Calls(**json.loads(run_to_end(contender.caller(url, seconds), seconds)))
    yield from _spread("call_1", calls.times)
    yield "call_64_requests_per_second", calls.answered / calls.seconds
    yield "call_64_cpu_seconds", calls.cpu / calls.answered


def _rate(name: str, throughput: Throughput) -> tuple[str, float]:
    return f"{name}_requests_per_second", throughput.rate


def _spread(name: str, times: Sequence[float]) -> Iterator[tuple[str, float]]:
    yield f"{name}_median_seconds", statistics.median(times)
    yield f"{name}_p99_seconds", statistics.quantiles(times, n=100)[-1]


def _since(before: float | None, process_id: int) -> float | None:
    after = cpu_time(process_id)
    return None if before is None or after is None else after - before


def _resident(name: str, process: Running) -> Iterator[tuple[str, float]]:
    if (used := memory(process.process_id)) is not None:
        yield f"{name}_memory_bytes", used.resident


def _peak(name: str, process: Running) -> Iterator[tuple[str, float]]:
    if (used := memory(process.process_id)) is not None:
        yield f"{name}_memory_bytes", used.peak
