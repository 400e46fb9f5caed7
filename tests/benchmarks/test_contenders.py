"""Every contender does what it is measured at: its service answers rightly, and its caller calls."""

from __future__ import annotations

import pytest

from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.load import Load, Traffic
from benchmarks.measures import measure
from benchmarks.metrics import TABLES, Part
from benchmarks.processes import running
from benchmarks.subjects import ECHO, HEADER, HEADERS, WAIT, WINDOW, echo_subjects
from natsvc.testing import NatsServer


def test_its_service_answers_with_what_was_asked(contender: Contender, server: NatsServer) -> None:
    traffic = [Traffic([ECHO]), Traffic([ECHO], size=65536)]
    if not contender.is_limit:
        traffic.append(Traffic([HEADERS], headers=[(HEADER, "17"), ("User", "alice")]))
    with running(contender.service(server.url, 1)):
        for one in traffic:
            with Load(server.url, one) as load:
                load.verify(32)
                assert load.throughput(0.01).answered >= WINDOW
        if not contender.is_limit:
            with Load(server.url, Traffic([WAIT])) as load:
                load.verify(4)


def test_each_of_its_endpoints_answers(contender: Contender, server: NatsServer) -> None:
    with running(contender.service(server.url, 100)) as process, Load(server.url, Traffic(echo_subjects(100))) as load:
        assert process.starting > 0
        load.verify()


def test_its_caller_calls(contender: Contender, server: NatsServer) -> None:
    numbers = measure(contender, server, [Part.CALLING], seconds=0.05)
    assert bool(numbers) is not contender.is_limit
    assert all(number > 0 for number in numbers.values())


@pytest.mark.parametrize("name", ["nats.micro", "bare thread"])
def test_all_that_is_measured_is_shown(name: str, server: NatsServer) -> None:
    numbers = measure(CONTENDERS[name], server, [*Part], seconds=0.05)
    shown = {metric.key for table in TABLES for metric in table.metrics}
    assert set(numbers) <= shown
    if name == "nats.micro":
        assert set(numbers) >= {key for key in shown if not key.endswith(("cpu_seconds", "cores", "memory_bytes"))}
