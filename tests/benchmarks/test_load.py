"""The load generator counts what was answered, and finds out who answers wrongly."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from benchmarks.load import Load, Traffic
from benchmarks.processes import BenchmarkError
from benchmarks.subjects import WINDOW
from natsvc.nuid import next_id
from natsvc.sync import Request, Service, add_service, connect
from natsvc.testing import NatsServer
from tests.worlds import eventually

Serve = Callable[[Callable[[Request], bytes | None]], str]


@pytest.fixture
def service(server: NatsServer) -> Iterator[Service]:
    with connect(server.url) as nc, add_service(nc, name="answering") as started:
        yield started


@pytest.fixture
def serve(service: Service) -> Serve:
    """Has a handler answer, and returns the subject."""

    def serve(handler: Callable[[Request], bytes | None]) -> str:
        return service.add_endpoint("e", subject=next_id(), handler=handler).subject

    return serve


def test_it_counts_what_the_service_has_answered(server: NatsServer, service: Service, serve: Serve) -> None:
    subject = serve(lambda request: request.data)
    with Load(server.url, Traffic([subject])) as load:
        load.verify()
        throughput = load.throughput(0.05)
        times = load.latencies(0.05)
    assert throughput.seconds >= 0.05
    assert throughput.rate == throughput.answered / throughput.seconds
    total = WINDOW + throughput.answered + len(times)
    eventually(lambda: service.stats().endpoints[0].num_requests == total)


def other_data(request: Request) -> bytes:
    return request.data[::-1]


def twice(request: Request) -> None:
    request.respond(request.data)
    request.respond(request.data)


def with_an_error(request: Request) -> None:
    request.respond_error(500, "broken", request.data[:-1])


@pytest.mark.parametrize("handler", [other_data, twice, with_an_error])
def test_wrong_answers_are_found(handler: Callable[[Request], bytes | None], server: NatsServer, serve: Serve) -> None:
    with Load(server.url, Traffic([serve(handler)])) as load, pytest.raises(BenchmarkError):
        load.verify()


def test_a_missing_header_is_found(server: NatsServer, serve: Serve) -> None:
    traffic = Traffic([serve(lambda request: request.data)], headers=[("Trace", "17")])
    with Load(server.url, traffic) as load, pytest.raises(BenchmarkError, match="without the header"):
        load.verify()


def test_answers_that_become_longer_while_they_are_counted_are_found(server: NatsServer, serve: Serve) -> None:
    answered: list[Request] = []

    def answer(request: Request) -> bytes:
        answered.append(request)
        return request.data if len(answered) <= WINDOW else b"more " + request.data

    with Load(server.url, Traffic([serve(answer)])) as load:
        load.verify()
        with pytest.raises(BenchmarkError, match="bytes"):
            load.throughput(0.05)
