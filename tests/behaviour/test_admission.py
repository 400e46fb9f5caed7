"""Design: how many handlers run, how many requests wait, and what becomes of the rest."""

from __future__ import annotations

import threading
from typing import Any

from tests.plain_client import PlainClient
from tests.worlds import LIMIT, Connection, Service, World, eventually


def counts(service: Service) -> tuple[int, int]:
    stats = service.stats().endpoints[0]
    return stats.num_requests, stats.num_errors


def test_up_to_max_concurrency_handlers_run_at_once(world: World, connection: Connection, client: PlainClient) -> None:
    gate = world.gate()
    running: list[bytes] = []

    async def handler(request: Any) -> bytes:
        running.append(request.data)
        await gate.wait()
        return bytes(request.data)

    connection.add_service("side-by-side").add_endpoint("side-by-side-e", handler=handler, max_concurrency=5)
    pending = [client.send("side-by-side-e", b"%d" % number) for number in range(8)]
    eventually(lambda: len(running) == 5)
    client.flush()
    assert running == [b"0", b"1", b"2", b"3", b"4"]
    gate.open()
    assert [one.result().data for one in pending] == [b"%d" % number for number in range(8)]
    assert running == [b"%d" % number for number in range(8)], "those that waited ran in arrival order"


def test_beyond_max_pending_a_request_is_answered_with_503_at_once_and_counted(
    world: World, connection: Connection, client: PlainClient
) -> None:
    gate = world.gate()

    async def handler(request: Any) -> bytes:
        await gate.wait()
        return b"served"

    service = connection.add_service("full")
    service.add_endpoint("full-e", handler=handler, max_concurrency=1, max_pending=2)
    served = [client.send("full-e") for _ in range(3)]
    refused = client.request("full-e")
    assert refused.error_code == "503"
    assert counts(service) == (1, 1)
    assert not any(one.has_reply for one in served)
    gate.open()
    assert [one.result().data for one in served] == [b"served"] * 3
    eventually(lambda: counts(service) == (4, 1))


def test_beyond_max_pending_bytes_a_request_is_answered_with_503(
    world: World, connection: Connection, client: PlainClient
) -> None:
    gate = world.gate()

    async def handler(request: Any) -> None:
        await gate.wait()
        await request.respond(b"served")

    connection.add_service("heavy").add_endpoint("heavy-e", handler=handler, max_concurrency=1, max_pending_bytes=1000)
    first = client.send("heavy-e", b"x" * 2000)  # it runs, and what runs doesn't wait
    second = client.send("heavy-e", b"x" * 600)
    assert client.request("heavy-e", b"x" * 600).error_code == "503"
    third = client.send("heavy-e", b"x" * 400)
    gate.open()
    assert [one.result().data for one in (first, second, third)] == [b"served"] * 3


def test_max_concurrency_1_keeps_strict_order(world: World, connection: Connection, client: PlainClient) -> None:
    order: list[bytes] = []

    async def handler(request: Any) -> bytes:
        order.append(request.data)
        await world.sleep(0)
        order.append(request.data)
        return b""

    connection.add_service("ordered").add_endpoint("ordered-e", handler=handler, max_concurrency=1)
    pending = [client.send("ordered-e", b"%d" % number) for number in range(50)]
    for one in pending:
        one.result()
    assert order == [b"%d" % number for number in range(50) for _ in range(2)]


def test_one_slow_endpoint_never_holds_up_another_nor_the_control_subjects(
    world: World, connection: Connection, client: PlainClient
) -> None:
    gate = world.gate()

    async def slow(request: Any) -> bytes:
        await gate.wait()
        return b"slow"

    async def quick(request: Any) -> bytes:
        return b"quick"

    service = connection.add_service("uneven")
    service.add_endpoint("uneven-slow", handler=slow, max_concurrency=1, max_pending=1)
    service.add_endpoint("uneven-quick", handler=quick)
    pending = [client.send("uneven-slow") for _ in range(2)]
    assert client.request("uneven-quick").data == b"quick"
    assert client.request("$SRV.PING.uneven").data
    gate.open()
    assert [one.result().data for one in pending] == [b"slow", b"slow"]


def test_blocking_handlers_run_side_by_side_in_max_workers_threads(connection: Connection, client: PlainClient) -> None:
    barrier = threading.Barrier(3)
    running = threading.Semaphore(3)

    def handler(request: Any) -> bytes:
        if not running.acquire(blocking=False):
            return b"too many"
        barrier.wait(LIMIT)  # nobody passes unless three run at once
        running.release()
        return b"together"

    connection.add_service("threads").add_endpoint("threads-e", handler=handler, max_workers=3)
    pending = [client.send("threads-e") for _ in range(9)]
    assert [one.result().data for one in pending] == [b"together"] * 9


def test_a_stuck_blocking_endpoint_holds_up_no_other_and_no_control_handler(
    connection: Connection, client: PlainClient
) -> None:
    release = threading.Event()

    def stuck(request: Any) -> None:
        release.wait(LIMIT)

    def quick(request: Any) -> bytes:
        return b"quick"

    def statistics(request: Any) -> None:
        request.respond(b'{"mine": 1}')

    service = connection.add_service("stuck", stats_handler=statistics, max_workers=1)
    service.add_endpoint("stuck-e", handler=stuck)
    service.add_endpoint("stuck-quick", handler=quick)
    for _ in range(3):
        client.send("stuck-e")
    try:
        assert client.request("stuck-quick").data == b"quick"
        assert client.request("$SRV.STATS.stuck").data == b'{"mine": 1}'
    finally:
        release.set()


def test_max_concurrency_bounds_blocking_handlers_too(connection: Connection, client: PlainClient) -> None:
    alone = threading.Lock()

    def handler(request: Any) -> bytes:
        if not alone.acquire(blocking=False):
            return b"not alone"
        threading.Event().wait(0.001)  # gives another thread every chance to break in
        alone.release()
        return b"alone"

    connection.add_service("alone").add_endpoint("alone-e", handler=handler, max_concurrency=1, max_workers=8)
    pending = [client.send("alone-e") for _ in range(20)]
    assert {one.result().data for one in pending} == {b"alone"}
