"""Design: what a timeout does, and what is counted as processing time."""

from __future__ import annotations

import threading
from typing import Any

from natsvc import RequestTimeoutError
from tests.plain_client import PlainClient
from tests.worlds import LIMIT, Connection, Service, World, eventually


def counts(service: Service) -> tuple[int, int, str]:
    stats = service.stats().endpoints[0]
    return stats.num_requests, stats.num_errors, stats.last_error


def test_a_running_handler_is_cancelled_at_the_deadline_and_its_caller_gets_504(
    world: World, connection: Connection, client: PlainClient
) -> None:
    never = world.gate()
    ended: list[str] = []
    told: list[Any] = []

    async def handler(request: Any) -> bytes:
        try:
            await never.wait()
        finally:
            ended.append("cancelled")
        return b"too late"

    service = connection.add_service(
        "late", error_handler=lambda service, error, request: told.append((error, request.subject))
    )
    service.add_endpoint("late-e", handler=handler, timeout=0.05)
    reply = client.request("late-e")
    assert reply.error_code == "504"
    eventually(lambda: ended == ["cancelled"])
    assert counts(service) == (1, 1, f"504:{reply.error}")
    eventually(lambda: told)
    assert isinstance(told[0][0], RequestTimeoutError)
    assert told[0][1] == "late-e"


def test_the_504_does_not_wait_for_the_handlers_clean_up(
    world: World, connection: Connection, client: PlainClient
) -> None:
    never, cleaned = world.gate(), world.gate()

    async def handler(request: Any) -> None:
        try:
            await never.wait()
        except BaseException:
            await cleaned.wait()
            raise

    service = connection.add_service("cleaning")
    service.add_endpoint("cleaning-e", handler=handler, timeout=0.05, max_concurrency=1)
    assert client.request("cleaning-e").error_code == "504"
    # Its slot is taken until the clean-up is over: the next one waits for it, and expires.
    assert client.request("cleaning-e").error_code == "504"
    cleaned.open()


def test_a_request_that_expires_while_it_waits_gets_504_and_never_runs(
    world: World, connection: Connection, client: PlainClient
) -> None:
    gate = world.gate()
    ran: list[bytes] = []

    async def handler(request: Any) -> bytes:
        ran.append(request.data)
        await request.respond(b"first")  # answered: it is no longer timed
        await gate.wait()
        return b"second"

    service = connection.add_service("expiring")
    service.add_endpoint("expiring-e", handler=handler, timeout=0.1, max_concurrency=1)
    first = client.send("expiring-e", b"1")
    assert first.result().data == b"first"
    assert client.request("expiring-e", b"2").error_code == "504"
    gate.open()
    assert first.next().data == b"second"
    eventually(lambda: counts(service)[:2] == (2, 1))
    assert ran == [b"1"]


def test_a_blocking_handler_is_not_cancelled_its_late_response_dropped_and_its_slot_kept(
    connection: Connection, client: PlainClient
) -> None:
    release = threading.Event()
    responded = threading.Event()

    def handler(request: Any) -> bytes:
        release.wait(LIMIT)
        request.respond(b"too late")
        responded.set()
        return b"later still"

    service = connection.add_service("blocked")
    service.add_endpoint("blocked-e", handler=handler, timeout=0.05, max_workers=1)
    pending = client.send("blocked-e")
    assert pending.result().error_code == "504"
    assert client.request("blocked-e").error_code == "504"  # it waited for the slot, in vain
    release.set()
    assert responded.wait(LIMIT)
    client.flush()
    assert len(pending.replies) == 1
    assert counts(service)[:2] == (2, 2)


def test_the_timeout_of_the_service_holds_unless_the_endpoint_has_its_own(
    world: World, connection: Connection, client: PlainClient
) -> None:
    gate = world.gate()

    async def handler(request: Any) -> bytes:
        await gate.wait()
        return b"done"

    service = connection.add_service("defaults", timeout=0.05)
    service.add_endpoint("defaults-timed", handler=handler)
    service.add_endpoint("defaults-untimed", handler=handler, timeout=float("inf"))
    untimed = client.send("defaults-untimed")
    assert client.request("defaults-timed").error_code == "504"
    gate.open()
    assert untimed.result().data == b"done"


def test_one_timer_serves_requests_of_all_endpoints_in_the_order_of_their_deadlines(
    world: World, connection: Connection, client: PlainClient
) -> None:
    never = world.gate()
    expired: list[str] = []

    async def handler(request: Any) -> None:
        await never.wait()

    service = connection.add_service(
        "many-timeouts", error_handler=lambda service, error, request: expired.append(request.subject)
    )
    for name, timeout in (("t-long", 0.6), ("t-short", 0.05), ("t-middle", 0.3)):
        service.add_endpoint(name, handler=handler, timeout=timeout)
    pending = [client.send(name) for name in ("t-long", "t-short", "t-middle")]
    assert [one.result().error_code for one in pending] == ["504"] * 3
    eventually(lambda: expired == ["t-short", "t-middle", "t-long"])


def test_processing_time_counts_the_handler_and_not_the_waiting(
    world: World, connection: Connection, client: PlainClient
) -> None:
    gate = world.gate()

    async def handler(request: Any) -> bytes:
        if request.data == b"slow":
            await gate.wait()
        return b""

    service = connection.add_service("timed")
    service.add_endpoint("timed-e", handler=handler, max_concurrency=1)
    slow = client.send("timed-e", b"slow")
    quick = [client.send("timed-e") for _ in range(9)]
    client.flush()
    assert counts(service) == (0, 0, "")
    gate.open()
    slow.result()
    for one in quick:
        one.result()
    eventually(lambda: counts(service) == (10, 0, ""))
    stats = service.stats().endpoints[0]
    assert stats.average_processing_time == stats.processing_time // 10


def test_reset_zeroes_all_counters_and_sets_started_to_now(connection: Connection, client: PlainClient) -> None:
    async def handler(request: Any) -> bytes:
        raise ValueError

    service = connection.add_service("reset")
    service.add_endpoint("reset-e", handler=handler)
    client.request("reset-e")
    eventually(lambda: counts(service)[0] == 1)
    before = service.stats().started
    service.reset()
    stats = service.stats()
    assert before is not None
    assert stats.started is not None
    assert stats.started > before
    endpoint = stats.endpoints[0]
    assert (endpoint.num_requests, endpoint.num_errors, endpoint.processing_time, endpoint.last_error) == (0, 0, 0, "")
