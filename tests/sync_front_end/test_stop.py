"""Design: a stop, from wherever it is called, loses nothing and ends; so does leaving a block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

import natsvc.asyncio
from natsvc.sync import (
    ConfigError,
    Connection,
    ConnectionClosedError,
    NoRespondersError,
    Request,
    Service,
    ServiceClient,
    ServiceError,
    ServiceStoppedError,
    add_service,
    connect,
)
from natsvc.testing import NatsServer
from tests.sync_world import begin
from tests.worlds import LIMIT, eventually


def test_add_service_returns_when_it_can_be_asked(nc: Connection, caller: Connection) -> None:
    service = add_service(nc, name="added")
    assert caller.request("$SRV.PING.added", timeout=LIMIT).data
    service.stop()
    assert service.stopped.is_set()


def test_the_decorator_returns_when_the_endpoint_can_be_asked(nc: Connection, caller: Connection) -> None:
    with add_service(nc, name="decorated") as service:
        for number in range(20):

            @service.endpoint(f"decorated-{number}")
            def echo(request: Request) -> bytes:
                return request.data

            assert caller.request(f"decorated-{number}", b"x", timeout=LIMIT).data == b"x"


def test_leaving_the_block_stops_the_service(nc: Connection, caller: Connection) -> None:
    begun, release = threading.Event(), threading.Event()
    with add_service(nc, name="left") as service:

        @service.endpoint("left-e")
        def slow(request: Request) -> bytes:
            begun.set()
            release.wait(LIMIT)
            return b"served"

        answer = begin(caller.request, "left-e", timeout=LIMIT)
        begun.wait(LIMIT)
        threading.Timer(0.05, release.set).start()
    assert service.stopped.is_set()
    assert answer.result(LIMIT).data == b"served"
    with pytest.raises(NoRespondersError):
        caller.request("left-e", timeout=LIMIT)
    assert nc.is_connected


def test_an_exception_leaves_the_block_as_itself_and_waits_for_a_stuck_handler_5_seconds_at_most(
    nc: Connection, caller: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("natsvc.core.service._FAILED_STOP_TIMEOUT", 0.05)
    begun, release = threading.Event(), threading.Event()
    with pytest.raises(KeyError, match="mine"), add_service(nc, name="excepted") as service:

        @service.endpoint("excepted-e")
        def stuck(request: Request) -> None:
            begun.set()
            release.wait(LIMIT)

        answer = begin(ServiceClient(caller).request, "excepted-e", timeout=LIMIT)
        begun.wait(LIMIT)
        raise KeyError("mine")
    with pytest.raises(ServiceError, match="503"):
        answer.result(LIMIT)
    release.set()


def test_by_ctrl_c_the_block_is_left_at_once(nc: Connection, caller: Connection) -> None:
    begun, release = threading.Event(), threading.Event()
    with pytest.raises(KeyboardInterrupt), add_service(nc, name="interrupted") as service:

        @service.endpoint("interrupted-e")
        def stuck(request: Request) -> None:
            begun.set()
            release.wait(LIMIT)

        answer = begin(ServiceClient(caller).request, "interrupted-e", timeout=LIMIT)
        begun.wait(LIMIT)
        raise KeyboardInterrupt
    assert service.stopped.is_set()
    with pytest.raises(ServiceError, match="503"):
        answer.result(LIMIT)
    release.set()


def test_a_handler_may_stop_its_own_service(nc: Connection, caller: Connection) -> None:
    with add_service(nc, name="self-stopping") as service:

        @service.endpoint("self-stopping-e")
        def stop(request: Request) -> bytes:
            service.stop()
            assert service.stopped.is_set()
            return b"too late to be sent"

        begin(caller.request, "self-stopping-e", timeout=LIMIT)
        assert service.stopped.wait(LIMIT)
    eventually(lambda: service.stats().endpoints[0].num_requests == 1)


def test_all_handlers_of_a_service_may_stop_it_at_once(nc: Connection, caller: Connection) -> None:
    together = threading.Barrier(3)
    returned: list[bool] = []
    service = add_service(nc, name="all-stopping", max_workers=3)

    @service.endpoint("all-stopping-e")
    def stop(request: Request) -> None:
        request.respond(b"stopping")
        together.wait(LIMIT)
        service.stop()
        returned.append(service.stopped.is_set())

    answers = [begin(caller.request, "all-stopping-e", timeout=LIMIT) for _ in range(3)]
    assert [answer.result(LIMIT).data for answer in answers] == [b"stopping"] * 3
    eventually(lambda: returned == [True] * 3)


def test_what_waits_for_the_slot_of_a_handler_that_stops_the_service_is_served(
    nc: Connection, caller: Connection
) -> None:
    begun, both_wait = threading.Event(), threading.Event()
    service = add_service(nc, name="slot", max_workers=1)

    @service.endpoint("slot-e")
    def stop(request: Request) -> bytes | None:
        if request.data:
            return request.data
        begun.set()
        both_wait.wait(LIMIT)
        service.stop()
        return None

    caller.publish("slot-e")
    assert begun.wait(LIMIT)
    answer = begin(caller.request, "slot-e", b"served", timeout=LIMIT)
    eventually(lambda: service._state.endpoints[0].waiting)
    both_wait.set()
    assert answer.result(LIMIT).data == b"served"
    assert service.stopped.wait(LIMIT)


def test_two_threads_may_stop_it_at_once(nc: Connection) -> None:
    for _ in range(50):
        done: list[object] = []
        service = add_service(nc, name="twice", done_handler=lambda service, error, done=done: done.append(error))
        for stop in [begin(service.stop), begin(service.stop)]:
            stop.result(LIMIT)
        assert done == [None]


def test_it_may_be_stopped_while_the_connection_is_down_and_comes_back(make_server: Callable[[], NatsServer]) -> None:
    server = make_server()
    with connect(server.url, reconnect_wait=0.01) as nc:
        for number in range(5):
            service = add_service(nc, name=f"down-{number}")
            server.kill()
            stop = begin(service.stop)  # at whatever moment of the loss and of the return that is
            server.restart()
            stop.result(LIMIT)
            assert service.error is None
            eventually(lambda: nc.is_connected)


def test_a_done_handler_may_call_stop_and_close(server: NatsServer) -> None:
    done: list[bool] = []
    nc = connect(server.url)

    def done_handler(service: Service, error: BaseException | None) -> None:
        service.stop()
        nc.close()
        done.append(service.stopped.is_set())

    add_service(nc, name="self-joined", done_handler=done_handler).stop()
    assert done == [True]


def test_a_done_handler_that_hangs_delays_the_stop_no_longer_than_that_may_take(nc: Connection) -> None:
    release = threading.Event()
    service = add_service(nc, name="hanging-done", done_handler=lambda service, error: release.wait(LIMIT))
    service.stop(timeout=0.05)
    assert not release.is_set()
    release.set()


def test_a_handler_may_drain_the_connection_of_its_own_service(server: NatsServer, caller: Connection) -> None:
    nc = connect(server.url)
    drained: list[bool] = []
    service = add_service(nc, name="draining-itself")

    @service.endpoint("draining-itself-e")
    def drain(request: Request) -> None:
        request.respond(b"bye")
        nc.drain()
        drained.append(nc.is_closed)

    assert caller.request("draining-itself-e", timeout=LIMIT).data == b"bye"
    assert service.stopped.wait(LIMIT)
    eventually(lambda: drained == [True])


def test_what_has_ended_the_service_is_raised_when_the_block_is_left_and_by_serve_forever(server: NatsServer) -> None:
    with connect(server.url) as nc, pytest.raises(ConnectionClosedError), add_service(nc, name="ended") as service:
        threading.Timer(0.02, nc.close).start()
        with pytest.raises(ConnectionClosedError):
            service.serve_forever()


def test_serve_forever_returns_when_the_service_is_stopped(nc: Connection) -> None:
    with add_service(nc, name="returning") as service:
        serving = begin(service.serve_forever)
        service.stop()
        serving.result(LIMIT)
        service.serve_forever()


def test_after_the_stop_nothing_can_be_added_or_sent(nc: Connection, caller: Connection) -> None:
    requests: list[Request] = []
    service = add_service(nc, name="over")
    service.add_endpoint("over-e", handler=requests.append)
    caller.publish("over-e", reply="nowhere")
    eventually(lambda: requests)
    service.stop()
    with pytest.raises(ServiceStoppedError):
        service.endpoint("late")(lambda request: None)
    with pytest.raises(ServiceStoppedError):
        requests[0].respond(b"")


@pytest.mark.parametrize(
    ("what", "fields"),
    [
        ("handler", {}),
        ("error_handler", {"error_handler": None}),
        ("done_handler", {"done_handler": None}),
        ("stats_handler", {"stats_handler": None}),
        ("endpoint_data", {"endpoint_data": None}),
        ("middleware", {"middleware": [None]}),
    ],
)
def test_nothing_may_be_async(nc: Connection, what: str, fields: dict[str, Any]) -> None:
    async def never(*arguments: object) -> None: ...

    for name, value in fields.items():
        fields[name] = [never] if isinstance(value, list) else never
    with pytest.raises(ConfigError, match=what):
        add_service(nc, name="async", **fields).add_endpoint("e", handler=never if what == "handler" else print)


def test_callbacks_of_a_connection_may_not_be_async_either() -> None:
    async def never(*arguments: object) -> None: ...

    with pytest.raises(ConfigError, match="on_error"):
        connect(on_error=never)


def test_a_connection_of_another_front_end_is_a_typed_error_that_names_it(server: NatsServer) -> None:
    async def main() -> None:
        async with natsvc.asyncio.connect(server.url) as nc:
            for give in (lambda: add_service(nc, name="other"), lambda: ServiceClient(nc)):  # type: ignore[arg-type]
                with pytest.raises(TypeError, match=r"natsvc\.asyncio"):
                    give()

    asyncio.run(main())
    with pytest.raises(TypeError, match=r"natsvc\.sync\.connect"):
        add_service("nats://localhost", name="other")  # type: ignore[arg-type]
