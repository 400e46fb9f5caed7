"""Design: any thread may publish, request and respond, and none is in another's way."""

from __future__ import annotations

import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from natsvc.sync import Connection, Request, RequestTimeoutError, ServiceClient, add_service
from natsvc.sync.driver import HIGH_WATER
from natsvc.sync.places import places
from tests.worlds import LIMIT, eventually

THREADS = 32


def all_at_once(call: Any, threads: int = THREADS) -> list[Any]:
    """What a function returns for each of these numbers, called in as many threads."""
    barrier = threading.Barrier(threads)

    def run(number: int) -> Any:
        barrier.wait(LIMIT)
        return call(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def test_every_answer_comes_to_its_asker(any_nc: Connection) -> None:
    with add_service(any_nc, name="echoing") as service:

        @service.endpoint("echoing-e")
        def echo(request: Request) -> bytes:
            return request.data

        def ask(number: int) -> int:
            asked = [b"%d/%d" % (number, turn) for turn in range(1000)]
            return [any_nc.request("echoing-e", data, timeout=LIMIT).data for data in asked] == asked

        assert all_at_once(ask) == [True] * THREADS
        assert service.stats().endpoints[0].num_requests == THREADS * 1000


def test_what_each_thread_publishes_arrives_whole_and_in_its_order(any_nc: Connection) -> None:
    subscription = any_nc.subscribe("from.*")

    def publish(number: int) -> None:
        for turn in range(200):
            any_nc.publish(f"from.{number}", b"%d:" % turn + bytes([number]) * (turn * 50))

    all_at_once(publish, 8)
    any_nc.flush()
    turns = dict.fromkeys(range(8), 0)
    for _ in range(8 * 200):
        message = subscription.receive(LIMIT)
        number = int(message.subject.removeprefix("from."))
        assert message.data == b"%d:" % turns[number] + bytes([number]) * (turns[number] * 50)
        turns[number] += 1


def test_who_publishes_more_than_the_socket_takes_waits_for_room(any_nc: Connection) -> None:
    state = any_nc._state
    sizes: list[int] = []
    subscription = any_nc.subscribe("plenty")

    def publish(number: int) -> None:
        for _ in range(100):
            any_nc.publish("plenty", bytes(100_000))
            sizes.append(state.outgoing_size)

    all_at_once(publish, 4)
    any_nc.flush(LIMIT)
    assert [len(subscription.receive(LIMIT).data) for _ in range(400)] == [100_000] * 400
    # Each thread may add one message before it finds that there is no room.
    assert max(sizes) < HIGH_WATER + 4 * 100_100


def test_a_handler_may_ask_another_service_even_if_all_workers_do(nc: Connection) -> None:
    with add_service(nc, name="outer", max_workers=4) as outer, add_service(nc, name="inner", max_workers=1) as inner:

        @inner.endpoint("inner-e")
        def answer(request: Request) -> bytes:
            return b"<" + request.data + b">"

        @outer.endpoint("outer-e")
        def ask(request: Request) -> bytes:
            return nc.request("inner-e", request.data, timeout=LIMIT).data

        answers = all_at_once(lambda number: nc.request("outer-e", b"%d" % number, timeout=LIMIT).data)
        assert answers == [b"<%d>" % number for number in range(THREADS)]


def test_any_thread_may_respond(nc: Connection, caller: Connection) -> None:
    with add_service(nc, name="handing-on") as service:

        @service.endpoint("handing-on-e")
        def hand_on(request: Request) -> None:
            threading.Thread(target=request.respond, args=(b"from elsewhere",)).start()

        assert caller.request("handing-on-e", timeout=LIMIT).data == b"from elsewhere"


def test_a_response_goes_out_at_once_however_long_its_handler_goes_on(nc: Connection, caller: Connection) -> None:
    """Also when others wait behind it, whose replies could have gone out with it."""
    release = threading.Event()
    with add_service(nc, name="going-on", max_workers=1) as service:

        @service.endpoint("going-on-e")
        def go_on(request: Request) -> None:
            request.respond(request.data)
            if request.data == b"slow":
                release.wait(LIMIT)

        try:
            subscription = caller.subscribe("going-on-answers")
            caller.flush()
            for data in [b"quick"] * 20 + [b"slow"] + [b"quick"] * 20:
                caller.publish("going-on-e", data, reply="going-on-answers")
            while subscription.receive(LIMIT).data != b"slow":
                assert not release.is_set()
        finally:
            release.set()


def test_handlers_that_wait_run_side_by_side_in_as_many_threads_and_no_more(nc: Connection, caller: Connection) -> None:
    together = threading.Barrier(5)
    names: set[str] = set()
    with add_service(nc, name="side-by-side") as service:

        @service.endpoint("side-by-side-e", max_concurrency=8, max_workers=5)
        def meet(request: Request) -> bytes:
            together.wait(LIMIT)
            names.add(threading.current_thread().name)
            return b"met"

        answers = all_at_once(lambda number: caller.request("side-by-side-e", timeout=LIMIT).data, 20)
    assert answers == [b"met"] * 20
    assert len(names) == 5


def test_handlers_that_begin_to_wait_after_many_quick_ones_run_side_by_side_all_the_same(
    nc: Connection, caller: Connection
) -> None:
    together = threading.Barrier(5)
    with add_service(nc, name="sudden", max_workers=5) as service:

        @service.endpoint("sudden-e")
        def meet(request: Request) -> bytes:
            if request.data == b"meet":
                together.wait(LIMIT)
            return request.data

        subscription = caller.subscribe("sudden-answers")
        data = ([b"quick"] * 50 + [b"meet"] * 5) * 5
        for one in data:
            caller.publish("sudden-e", one, reply="sudden-answers")
        answers = sorted(subscription.receive(LIMIT).data for _ in data)
    assert answers == sorted(data)


def test_threads_are_started_on_demand_and_end_with_the_service(nc: Connection, caller: Connection) -> None:
    known: set[int | None] = set()

    def threads() -> int:
        here = {thread.ident for thread in threading.enumerate() if thread.name.startswith("natsvc-demanding")}
        known.update(here)
        return len(here)

    with add_service(nc, name="demanding", max_workers=10) as service:

        @service.endpoint("demanding-e")
        def echo(request: Request) -> bytes:
            return request.data

        assert threads() == 0
        for _ in range(20):
            caller.request("demanding-e", timeout=LIMIT)
        assert threads() == 1
        assert known <= places.keys()
    eventually(lambda: threads() == 0)
    assert known.isdisjoint(places)


def test_endpoints_share_threads_and_none_is_started_while_one_can_do_the_work(
    nc: Connection, caller: Connection
) -> None:
    names: set[str] = set()

    def note(request: Request) -> str:
        names.add(threading.current_thread().name)
        return request.subject

    with add_service(nc, name="sharing") as service:
        for number in range(20):
            service.add_endpoint(f"sharing-{number}", handler=note)
        for number in range(20):
            assert caller.request(f"sharing-{number}", timeout=LIMIT).data == b"sharing-%d" % number
    assert names == {"natsvc-sharing-1"}


def test_an_endpoint_whose_handlers_are_all_stuck_takes_no_thread_from_another(
    nc: Connection, caller: Connection
) -> None:
    release = threading.Event()
    stuck = threading.Semaphore(0)
    together = threading.Barrier(3)

    def get_stuck(request: Request) -> bytes:
        stuck.release()
        release.wait(LIMIT)
        return b"released"

    def meet(request: Request) -> bytes:
        together.wait(LIMIT)
        return b"met"

    with add_service(nc, name="uneven", max_workers=3) as service:
        service.add_endpoint("stuck", handler=get_stuck)
        service.add_endpoint("free", handler=meet)
        answers = caller.subscribe("stuck-answers")
        for _ in range(10):
            caller.publish("stuck", reply="stuck-answers")
        try:
            for _ in range(3):
                assert stuck.acquire(timeout=LIMIT)
            met = all_at_once(lambda _: caller.request("free", timeout=LIMIT).data, 3)
            assert met == [b"met"] * 3
            assert not stuck.acquire(blocking=False), "and uses no more of them than it may"
        finally:
            release.set()
        assert [answers.receive(LIMIT).data for _ in range(10)] == [b"released"] * 10


def test_the_one_thread_that_an_endpoint_may_use_is_always_the_same_and_its_own(
    nc: Connection, caller: Connection
) -> None:
    names: dict[str, set[str]] = {"own": set(), "own-too": set(), "shared": set()}

    def note(request: Request) -> bytes:
        names[request.subject].add(threading.current_thread().name)
        return b""

    with add_service(nc, name="affine") as service:
        service.add_endpoint("own", handler=note, max_workers=1)
        service.add_endpoint("shared", handler=note)
        service.add_endpoint("own-too", handler=note, max_workers=1)
        all_at_once(lambda number: [caller.request(one, timeout=LIMIT) for one in names for _ in range(20)], 8)
    assert names["own"] == {"natsvc-own-1"}
    assert names["own-too"] == {"natsvc-own-too-1"}
    assert all(name.startswith("natsvc-affine-") for name in names["shared"])


def test_a_context_variable_set_by_a_handler_is_seen_by_nobody_else(nc: Connection, caller: Connection) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    variable.set("of add_service")
    with add_service(nc, name="contextual", max_workers=1) as service:
        variable.set("of the body")

        @service.endpoint("contextual-e")
        def look(request: Request) -> str:
            seen = variable.get()
            variable.set("of a handler")
            return seen

        assert [caller.request("contextual-e", timeout=LIMIT).data for _ in range(3)] == [b"of add_service"] * 3


def test_several_threads_may_share_a_subscription(nc: Connection, caller: Connection) -> None:
    subscription = nc.subscribe("shared")
    nc.flush()
    for number in range(1000):
        caller.publish("shared", b"%d" % number)
    caller.flush()
    nc.flush()
    taken = all_at_once(lambda _: [int(subscription.receive(LIMIT).data) for _ in range(125)], 8)
    assert sorted(number for numbers in taken for number in numbers) == list(range(1000))
    assert all(numbers == sorted(numbers) for numbers in taken)


def test_who_waits_for_a_message_is_told_that_none_will_come(nc: Connection) -> None:
    subscription = nc.subscribe("nothing")
    waiting = threading.Thread(target=lambda: ended.append(list(subscription)))
    ended: list[object] = []
    waiting.start()
    eventually(lambda: subscription._waiting)
    subscription.unsubscribe()
    waiting.join(LIMIT)
    assert ended == [[]]


def test_a_request_that_timed_out_leaves_the_connection_usable(nc: Connection) -> None:
    subscription = nc.subscribe("silent")
    with pytest.raises(RequestTimeoutError):
        nc.request("silent", timeout=0.01)
    late = subscription.receive(LIMIT)
    nc.publish(late.reply, b"too late")
    nc.flush()
    with add_service(nc, name="still-there") as service:
        assert [ping.id for ping in ServiceClient(nc).ping("still-there")] == [service.id]
