"""Design: a stop loses nothing, and ends."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest

from natsvc import ServiceDefinition, ServiceStoppedError
from natsvc.testing import NatsServer
from tests.plain_client import PlainClient
from tests.worlds import LIMIT, Connection, World, eventually, interest


async def echo(request: Any) -> None:
    await request.respond(request.data)


def test_stop_handles_what_has_arrived_and_refuses_what_comes_later(
    world: World, server: NatsServer, client: PlainClient
) -> None:
    connection = world.connect(server.url)
    gate = world.gate()

    async def handler(request: Any) -> bytes:
        await gate.wait()
        return b"served"

    service = connection.add_service("draining")
    service.add_endpoint("draining-e", handler=handler, max_concurrency=2)
    pending = [client.send("draining-e") for _ in range(5)]
    client.flush()
    stopping = service.begin_stop()
    eventually(lambda: "draining-e" not in interest(server))
    assert client.request("draining-e").status == "503"
    assert not stopping.done()
    assert not service.is_stopped
    assert client.request("$SRV.PING.draining").data, "it can be seen while it drains"
    gate.open()
    assert [one.result().data for one in pending] == [b"served"] * 5
    stopping.result(LIMIT)
    assert service.is_stopped
    assert service.error is None
    assert client.request("$SRV.PING.draining").status == "503"
    assert service.stats().endpoints[0].num_requests == 5


def test_after_a_stop_nothing_is_left_on_the_server(world: World, make_server: Callable[[], NatsServer]) -> None:
    server = make_server()
    connection = world.connect(server.url)
    service = connection.add_service("leaving")
    service.add_endpoint("leaving-e", handler=echo)
    assert server.monitoring("subsz")["num_subscriptions"] >= 10
    before = server.monitoring("connz?subs=1")["connections"][0]["subscriptions"]
    service.stop()
    assert server.monitoring("connz?subs=1")["connections"][0]["subscriptions"] == before - 10
    assert connection.is_connected, "the connection belongs to its owner"


def test_after_a_stop_the_final_numbers_stay_and_start_and_add_endpoint_raise(
    connection: Connection, client: PlainClient
) -> None:
    service = connection.add_service("final")
    service.add_endpoint("final-e", handler=echo)
    client.request("final-e")
    service.stop()
    assert service.stats().endpoints[0].num_requests == 1
    assert service.info().endpoints[0].name == "final-e"
    with pytest.raises(ServiceStoppedError):
        service.start()
    with pytest.raises(ServiceStoppedError):
        service.add_endpoint("final-e2", handler=echo)


def test_start_again_has_no_effect(connection: Connection, client: PlainClient) -> None:
    service = connection.add_service("started")
    service.add_endpoint("started-e", handler=echo)
    service.start()
    pending = client.send("$SRV.PING.started")
    assert pending.result().data
    client.flush()
    assert len(pending.replies) == 1


def test_at_the_deadline_what_waits_and_what_runs_is_answered_503_service_stopping(
    world: World, connection: Connection, client: PlainClient
) -> None:
    never = world.gate()
    ended: list[str] = []

    async def handler(request: Any) -> None:
        try:
            await never.wait()
        finally:
            ended.append("cancelled")

    service = connection.add_service("deadline")
    service.add_endpoint("deadline-e", handler=handler, max_concurrency=1)
    pending = [client.send("deadline-e") for _ in range(3)]
    client.flush()
    service.stop(timeout=0.1)
    assert service.is_stopped
    replies = [one.result() for one in pending]
    assert [(one.error_code, one.error) for one in replies] == [("503", "Service stopping")] * 3
    eventually(lambda: ended == ["cancelled"])
    stats = service.stats().endpoints[0]
    assert (stats.num_requests, stats.num_errors, stats.last_error) == (3, 3, "503:Service stopping")
    assert client.request("deadline-e").status == "503"


def test_at_the_deadline_threads_are_abandoned_and_a_later_respond_raises(
    connection: Connection, client: PlainClient
) -> None:
    release = threading.Event()
    raised: list[BaseException] = []

    def handler(request: Any) -> None:
        release.wait(LIMIT)
        try:
            request.respond(b"too late")
        except ServiceStoppedError as error:
            raised.append(error)

    service = connection.add_service("abandoning")
    service.add_endpoint("abandoning-e", handler=handler)
    pending = client.send("abandoning-e")
    client.flush()
    service.stop(timeout=0.1)
    assert pending.result().error_code == "503"
    release.set()
    eventually(lambda: raised)
    client.flush()
    assert len(pending.replies) == 1


def test_a_second_stop_joins_the_first(world: World, connection: Connection, client: PlainClient) -> None:
    gate = world.gate()
    done: list[object] = []

    async def handler(request: Any) -> bytes:
        await gate.wait()
        return b""

    service = connection.add_service("joined", done_handler=lambda service, error: done.append(error))
    service.add_endpoint("joined-e", handler=handler)
    client.send("joined-e")
    client.flush()
    stops = [service.begin_stop() for _ in range(3)]
    assert not any(one.done() for one in stops)
    gate.open()
    for one in stops:
        one.result(LIMIT)
    assert done == [None]


def test_stop_may_be_told_an_error_which_done_handler_and_error_show(connection: Connection) -> None:
    done: list[object] = []
    service = connection.add_service("failed", done_handler=lambda service, error: done.append(error))
    cause = RuntimeError("the database is gone")
    service.stop(cause)
    assert service.error is cause
    assert done == [cause]


def test_a_stop_from_a_handler_does_not_wait_for_that_handler(connection: Connection, client: PlainClient) -> None:
    services: list[Any] = []

    async def handler(request: Any) -> bytes:
        await services[0].service.stop()
        return b"stopped"

    services.append(connection.add_service("self-stopping"))
    services[0].add_endpoint("self-stopping-e", handler=handler)
    assert client.request("self-stopping-e").data == b"stopped"
    eventually(lambda: services[0].is_stopped)
    eventually(lambda: services[0].stats().endpoints[0].num_requests == 1)


def test_a_stop_from_a_handler_that_has_not_waited_lets_those_go_on_that_wait_for_its_slot(
    world: World, connection: Connection, client: PlainClient
) -> None:
    gate = world.gate()
    services: list[Any] = []

    async def handler(request: Any) -> bytes:
        if request.data == b"first":
            await gate.wait()
        if request.data == b"stop":
            await services[0].service.stop()
        return bytes(request.data)

    services.append(connection.add_service("self-stopping-first"))
    services[0].add_endpoint("self-stopping-first-e", handler=handler, max_concurrency=1)
    bodies = [b"first", b"stop", b"third", b"fourth"]
    pending = [client.send("self-stopping-first-e", body) for body in bodies]
    client.flush()
    gate.open()
    assert [one.result().data for one in pending] == bodies
    eventually(lambda: services[0].is_stopped)
    eventually(lambda: services[0].stats().endpoints[0].num_requests == 4)


def test_a_stop_ends_with_the_last_of_very_many_that_have_waited_for_one_slot(
    world: World, server: NatsServer, client: PlainClient
) -> None:
    connection = world.connect(server.url)
    gate = world.gate()

    async def handler(request: Any) -> None:
        if request.data == b"0":
            await gate.wait()
        await request.respond(request.data)

    service = connection.add_service("one-slot")
    service.add_endpoint("one-slot-e", handler=handler, max_concurrency=1)
    pending = [client.send("one-slot-e", b"%d" % number) for number in range(350)]
    client.flush()
    stopping = service.begin_stop()
    eventually(lambda: "one-slot-e" not in interest(server))
    assert client.request("$SRV.PING.one-slot").data, "and nothing else is waited for"
    gate.open()
    stopping.result(LIMIT)
    assert [one.result().data for one in pending] == [b"%d" % number for number in range(350)]


def test_control_handlers_under_way_give_way_to_the_built_in_answer_when_the_service_leaves(
    world: World, connection: Connection, client: PlainClient
) -> None:
    never = world.gate()

    async def hangs(request: Any) -> None:
        await never.wait()

    service = connection.add_service("hanging", info_handler=hangs)
    pending = client.send("$SRV.INFO.hanging")
    client.flush()
    service.stop()
    assert b'"hanging"' in pending.result().data


@pytest.mark.parametrize("handler_is", ["async", "blocking"])
def test_no_request_is_lost_when_one_of_several_instances_stops_under_load(
    world: World, server: NatsServer, handler_is: str
) -> None:
    """Three instances are restarted in turn 30 times under 64 callers, and no caller fails."""

    async def handler(request: Any) -> bytes:
        await world.sleep(0.001)
        return bytes(request.data)

    def blocking(request: Any) -> bytes:
        return bytes(request.data)

    definition = ServiceDefinition("rolling")
    definition.add_endpoint(
        "rolling-e",
        subject=f"rolling.{handler_is}",
        handler=handler if handler_is == "async" else blocking,
        max_workers=4,
    )
    connections = [world.connect(server.url) for _ in range(3)]
    instances = [connection.add_service(definition) for connection in connections]
    over = threading.Event()
    answered = [0] * 64
    failures: list[object] = []

    def call(client: PlainClient, number: int) -> None:
        while not over.is_set():
            data = b"%d/%d" % (number, answered[number])
            try:
                reply = client.request(f"rolling.{handler_is}", data, timeout=LIMIT)
            except Exception as error:  # noqa: BLE001  # any of them is a failure
                failures.append(error)
                return
            if reply.data != data:
                failures.append(reply)
            answered[number] += 1

    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(PlainClient(server.url)) for _ in range(4)]
        threads = [threading.Thread(target=call, args=(clients[number % 4], number)) for number in range(64)]
        for thread in threads:
            thread.start()
        total = 0
        try:
            for turn in range(30):
                retired = instances[turn % 3]
                eventually(lambda: retired.stats().endpoints[0].num_requests > 0)  # noqa: B023  # it is part of the load
                retired.stop()
                total += retired.stats().endpoints[0].num_requests
                assert retired.stats().endpoints[0].num_errors == 0
                instances[turn % 3] = connections[turn % 3].add_service(definition)
        finally:
            over.set()
            for thread in threads:
                thread.join(LIMIT)
        for instance in instances:
            instance.stop()
            total += instance.stats().endpoints[0].num_requests
    assert failures == []
    assert total == sum(answered), "what the instances counted is what the callers got"
