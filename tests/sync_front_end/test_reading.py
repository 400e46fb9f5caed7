"""A thread of a service's may read in the place of the reader thread; no handler may hold up the reading."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from natsvc import ERROR_HEADER
from natsvc.sync import (
    Connection,
    ConnectionClosedError,
    Message,
    NoRespondersError,
    Request,
    RequestTimeoutError,
    Service,
    ServiceClient,
    ServiceError,
    add_service,
    connect,
)
from natsvc.sync import workers as workers_module
from natsvc.sync.attendant import Attendant
from natsvc.sync.workers import Binding, Workers
from natsvc.testing import NatsServer
from natsvc.wire.connection import Deliveries
from tests.sync_front_end.test_driver import transport_of
from tests.worlds import LIMIT, eventually

pytestmark = pytest.mark.usefixtures("always_quick")  # however busy the machine is


@pytest.fixture(params=["at once", "after a while"])
def looked_after(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """When somebody looks whether a handler waits: where none did for long, there is no hurry."""
    monkeypatch.setattr(workers_module, "_CALM", 10**9 if request.param == "at once" else 0)
    return str(request.param)


def binding_of(service: Service, number: int = 0) -> Binding:
    binding = service._runner.state.endpoints[number].binding
    assert isinstance(binding, Binding)
    return binding


def workers_of(service: Service, number: int = 0) -> Workers:
    return binding_of(service, number).workers


def has_it_read(caller: Connection, service: Service, subject: str, number: int = 0) -> Workers:
    """Ask a quick endpoint until one of its threads reads what comes."""
    workers = workers_of(service, number)

    def reads() -> bool:
        caller.request(subject, b"quick", timeout=LIMIT)
        return workers._is_reading

    while True:
        eventually(reads)
        eventually(lambda: not workers.is_watched)
        if workers._is_reading:
            return workers


def publish_in_one_piece(nc: Connection, subject: str, data: list[bytes], reply: str) -> None:
    """So that they are read at once as well."""
    with nc._driver.lock:
        for one in data:
            nc._state.publish(subject, one, reply=reply)
    nc.flush(LIMIT)


def all_answers(caller: Connection, subject: str, data: list[bytes]) -> Iterator[bytes]:
    """The answers to requests that come all at once."""
    with caller.subscribe(caller.new_inbox()) as subscription:
        publish_in_one_piece(caller, subject, data, subscription.subject)
        for _ in data:
            yield subscription.receive(LIMIT).data


@contextmanager
def reading_echo(nc: Connection, caller: Connection, **fields: Any) -> Iterator[tuple[Service, threading.Event]]:
    """A service whose handler waits for the event if it is asked to, and that reads the connection."""
    release = threading.Event()
    with add_service(nc, name="echoing") as service:

        @service.endpoint("echoing-r", **fields)
        def echo(request: Request) -> bytes:
            if request.data == b"wait":
                release.wait(LIMIT)
            return request.data

        has_it_read(caller, service, "echoing-r")
        try:
            yield service, release
        finally:
            release.set()


def test_while_handlers_are_quick_their_thread_reads(any_nc: Connection) -> None:
    with add_service(any_nc, name="quick") as service:

        @service.endpoint("quick-r")
        def echo(request: Request) -> bytes:
            return request.data

        def reads() -> bool:
            any_nc.publish("quick-r", b"quick", reply="nobody")
            return workers_of(service)._is_reading

        eventually(reads)
        data = [b"%d" % number for number in range(2000)]
        assert sorted(all_answers(any_nc, "quick-r", data)) == sorted(data)
        assert service.stats().endpoints[0].num_requests >= 2000


def test_a_handler_that_waits_holds_up_neither_the_reading_nor_those_behind_it(
    nc: Connection, caller: Connection, looked_after: str
) -> None:
    with reading_echo(nc, caller) as (service, release), nc.subscribe("others.>") as others:
        nc.flush(LIMIT)
        answers = all_answers(caller, "echoing-r", [b"wait"] + [b"quick"] * 500)
        assert [next(answers) for _ in range(500)] == [b"quick"] * 500
        caller.publish("others.one", b"heard")
        assert others.receive(LIMIT).data == b"heard"
        assert [ping.id for ping in ServiceClient(caller).ping("echoing")] == [service.id]
        release.set()
        assert list(answers) == [b"wait"]


def test_what_a_handler_asks_for_is_read_though_its_own_thread_has_read_the_request(
    nc: Connection, caller: Connection, looked_after: str
) -> None:
    with add_service(nc, name="asking", max_workers=1) as service:
        service.add_endpoint("inner-r", handler=lambda request: request.data)

        @service.endpoint("asking-r")
        def ask(request: Request) -> bytes:
            return request.data if request.data == b"quick" else nc.request("inner-r", b"inner", timeout=LIMIT).data

        has_it_read(caller, service, "asking-r", 1)
        assert list(all_answers(caller, "asking-r", [b"outer"] * 20)) == [b"inner"] * 20


def test_what_waits_when_the_reading_is_given_back_keeps_its_order(
    nc: Connection, caller: Connection, looked_after: str
) -> None:
    with reading_echo(nc, caller, max_concurrency=1) as (_, release):
        data = [b"%d" % number for number in range(300)]
        answers = all_answers(caller, "echoing-r", [*data[:100], b"wait", *data[100:]])
        assert [next(answers) for _ in range(100)] == data[:100]
        release.set()
        assert list(answers) == [b"wait", *data[100:]]


def test_what_is_too_much_to_wait_behind_a_handler_that_waits_is_refused(nc: Connection, caller: Connection) -> None:
    with reading_echo(nc, caller, max_concurrency=1, max_pending=10) as (service, release):
        before = service.stats().endpoints[0]
        publish_in_one_piece(caller, "echoing-r", [b"wait", *[b"quick"] * 50], "nobody")
        # Of those that were read with the first, all but 10 are refused when it begins to wait, the others at once.
        eventually(lambda: service.stats().endpoints[0].num_errors - before.num_errors == 40)
        release.set()
        eventually(lambda: service.stats().endpoints[0].num_requests - before.num_requests == 51)
        assert service.stats().endpoints[0].last_error == "503:Too many pending requests"


def test_two_endpoints_that_take_turns_lose_nothing(nc: Connection, caller: Connection) -> None:
    with add_service(nc, name="turns") as service:
        for name in ("one", "two", "three"):
            service.add_endpoint(name, subject=f"turns.{name}", handler=lambda request: request.subject)
        subjects = [f"turns.{('one', 'two', 'three')[turn * turn % 3]}" for turn in range(3000)]
        with caller.subscribe(caller.new_inbox()) as subscription:
            for subject in subjects:
                caller.publish(subject, reply=subscription.subject)
            answers = [subscription.receive(LIMIT).data.decode() for _ in subjects]
        assert sorted(answers) == sorted(subjects)
        assert sum(endpoint.num_requests for endpoint in service.stats().endpoints) == 3000


def test_a_thread_that_reads_handles_what_it_reads_for_all_endpoints(nc: Connection, caller: Connection) -> None:
    names: set[str] = set()

    def note(request: Request) -> str:
        names.add(threading.current_thread().name)
        return request.subject

    with add_service(nc, name="many") as service:
        for number in range(10):
            service.add_endpoint(f"many-{number}", subject=f"many.{number}", handler=note)
        for number in range(10):
            workers = has_it_read(caller, service, f"many.{number}", number)
        names.clear()
        workers._look = lambda: None  # type: ignore[method-assign]  # no handler waits, however busy the machine is
        subjects = [f"many.{number * number % 10}" for number in range(1000)]
        with caller.subscribe(caller.new_inbox()) as subscription:
            with caller._driver.lock:
                for subject in subjects:
                    caller._state.publish(subject, b"", reply=subscription.subject)
            caller.flush(LIMIT)
            answers = [subscription.receive(LIMIT).data.decode() for _ in subjects]
    assert answers == subjects
    assert len(names) == 1


def test_before_a_handler_begins_that_is_known_to_wait_what_is_behind_it_is_left_to_others(
    nc: Connection, caller: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if somebody is about to look, which may be some time away."""
    with reading_echo(nc, caller) as (service, release), nc.subscribe("heard") as heard:
        service.add_endpoint("waiting-r", handler=lambda request: release.wait(LIMIT) and b"waited")
        nc.flush(LIMIT)
        workers = has_it_read(caller, service, "echoing-r")
        with caller.subscribe(caller.new_inbox()) as subscription:
            reply = subscription.subject
            monkeypatch.setattr(workers, "_watch", lambda: setattr(workers, "is_watched", True))
            monkeypatch.setattr(workers, "_look", lambda: None)
            with caller._driver.lock:
                for subject in ("echoing-r", "waiting-r", "echoing-r"):
                    caller._state.publish(subject, b"quick", reply=reply)
            caller.publish("heard", b"meanwhile")
            assert [subscription.receive(LIMIT).data for _ in range(2)] == [b"quick"] * 2
            assert heard.receive(LIMIT).data == b"meanwhile"
            monkeypatch.undo()
            release.set()
            assert subscription.receive(LIMIT).data == b"waited"


def test_a_thread_that_is_known_to_wait_is_not_expected_to_go_on_soon(
    nc: Connection, caller: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, begun = threading.Event(), threading.Event()

    def wait(request: Request) -> None:
        begun.set()
        release.wait(LIMIT)

    with add_service(nc, name="uneven") as service:
        service.add_endpoint("waiting-r", handler=wait)
        service.add_endpoint("quick-r", handler=lambda request: request.data, timeout=3600)
        workers = workers_of(service)
        assert caller.request("quick-r", timeout=LIMIT).data == b""
        caller.publish("waiting-r")
        try:
            assert begun.wait(LIMIT)
            looks: list[None] = []
            monkeypatch.setattr(workers, "_watch", lambda: looks.append(None))
            assert caller.request("quick-r", b"meanwhile", timeout=LIMIT).data == b"meanwhile"
            assert not looks, "a thread was woken at once"
        finally:
            release.set()
        eventually(lambda: not workers._slow)


def test_what_is_read_for_an_endpoint_with_a_timeout_counts_from_its_arrival(
    nc: Connection, caller: Connection, looked_after: str
) -> None:
    with reading_echo(nc, caller, max_workers=2) as (service, _):
        service.add_endpoint("timed-r", handler=lambda request: b"in time", timeout=3600)
        workers = has_it_read(caller, service, "echoing-r")
        timed = service._runner.state.endpoints[1]
        with nc._driver.lock:
            deliveries: Deliveries = [
                (binding_of(service).take, Message("echoing-r", b"quick", reply="nobody")),
                (timed.binding.take, Message("timed-r", reply="nobody")),
            ]
            assert workers.keep(deliveries) == deliveries[1:]
            workers.admit()
        for _ in range(20):
            assert list(all_answers(caller, "timed-r", [b""] * 20)) == [b"in time"] * 20
            assert caller.request("echoing-r", b"quick", timeout=LIMIT).data == b"quick"


def test_with_a_timeout_no_thread_of_the_endpoint_reads_for_the_deadline_counts_from_the_arrival(
    nc: Connection, caller: Connection
) -> None:
    with add_service(nc, name="timed") as service:

        @service.endpoint("timed-r", timeout=0.05, max_concurrency=1)
        def wait(request: Request) -> bytes:
            if request.data == b"wait":
                release.wait(LIMIT)
            return request.data

        release = threading.Event()
        for _ in range(50):
            assert caller.request("timed-r", b"quick", timeout=LIMIT).data == b"quick"
            assert workers_of(service).lent is None
        try:
            caller.publish("timed-r", b"wait", reply="nobody")
            with pytest.raises(ServiceError) as caught:
                ServiceClient(caller).request("timed-r", b"behind", timeout=LIMIT)
            assert caught.value.code == "504"
        finally:
            release.set()


def test_the_threads_end_with_the_service_though_one_of_them_waits_for_bytes(
    nc: Connection, caller: Connection
) -> None:
    def threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("natsvc-echoing")]

    with reading_echo(nc, caller):
        assert threads()
    eventually(lambda: threads() == [])
    nc.flush(LIMIT)
    with reading_echo(nc, caller):
        assert caller.request("echoing-r", b"again", timeout=LIMIT).data == b"again"


@pytest.mark.parametrize("turn", range(10))
def test_a_stop_answers_what_one_of_the_threads_has_read(server: NatsServer, caller: Connection, turn: int) -> None:
    with connect(server.url) as nc, caller.subscribe(caller.new_inbox()) as subscription:
        with add_service(nc, name="stopping") as service:
            service.add_endpoint("stopping-r", handler=lambda request: request.data)
            has_it_read(caller, service, "stopping-r")
            caller.flush()
            stopping = threading.Thread(target=service.stop)
            for number in range(1000):
                if number == turn * 100:
                    stopping.start()
                caller.publish("stopping-r", b"%d" % number, reply=subscription.subject)
            caller.flush()
            stopping.join(LIMIT)
        answers = []
        caller.publish(subscription.subject, b"last")
        while (data := subscription.receive(LIMIT).data) != b"last":
            answers.append(int(data) if data else -1)  # without data: there is nobody any more
        taken = [number for number in answers if number >= 0]
        assert sorted(taken) == list(range(len(taken)))
        assert len(answers) == 1000


def test_it_survives_a_reconnect(make_server: Callable[..., NatsServer]) -> None:
    server = make_server()
    with (
        connect(server.url, reconnect_wait=0.05) as nc,
        connect(server.url, reconnect_wait=0.05) as caller,
        reading_echo(nc, caller) as (service, _),
    ):
        before = service.stats().endpoints[0].num_requests
        transport = transport_of(nc)
        server.restart()
        eventually(lambda: nc._driver._transport not in (None, transport) and nc.is_connected and caller.is_connected)
        caller.flush(LIMIT)
        has_it_read(caller, service, "echoing-r")
        assert service.stats().endpoints[0].num_requests > before
        assert transport.reading.is_over


def test_what_fails_while_it_reads_breaks_the_connection_and_not_the_thread(
    nc: Connection, caller: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reading_echo(nc, caller) as (service, _):
        transport = transport_of(nc)

        def fails(*arguments: object) -> None:
            monkeypatch.undo()
            raise LookupError("what has come is not for us")

        monkeypatch.setattr(nc._driver.state, "received", fails)
        with pytest.raises((RequestTimeoutError, NoRespondersError)):
            caller.request("echoing-r", b"lost", timeout=0.2)
        eventually(lambda: nc._driver._transport not in (None, transport) and nc.is_connected)
        assert isinstance(transport.reading.error, LookupError)
        has_it_read(caller, service, "echoing-r")


def test_a_thread_that_fails_otherwise_gives_the_reading_back(
    nc: Connection, caller: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: shown.append(arguments.exc_value))
    with reading_echo(nc, caller) as (service, _):

        def fails() -> None:
            raise LookupError("of our own making")

        monkeypatch.setattr(workers_of(service), "_settle", fails)
        caller.publish("echoing-r", b"read in vain", reply="nobody")
        eventually(lambda: shown)
        nc.flush(LIMIT)
        assert [str(error) for error in shown] == ["of our own making"]
        monkeypatch.delattr(workers_of(service), "_settle")
        assert caller.request("echoing-r", b"handled by another", timeout=LIMIT).data == b"handled by another"


def test_the_connection_may_be_closed_while_it_reads(server: NatsServer, caller: Connection) -> None:
    with connect(server.url) as nc:
        service = add_service(nc, name="closed-on")
        service.add_endpoint("closed-on-r", handler=lambda request: request.data)
        has_it_read(caller, service, "closed-on-r")
        nc.close()
        assert service.stopped.wait(LIMIT)
    eventually(lambda: not [one for one in threading.enumerate() if one.name.startswith("natsvc-closed-on")])


def test_where_no_thread_can_be_started_to_look_after_it_the_reading_is_given_back_before_a_handler_begins(
    nc: Connection, caller: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reading_echo(nc, caller) as (service, _), nc.subscribe("heard") as heard:
        nc.flush(LIMIT)
        monkeypatch.setattr(Attendant, "take", lambda *arguments: False)
        monkeypatch.setattr(workers_of(service), "_wake", lambda: None)
        publish_in_one_piece(caller, "echoing-r", [b"wait", *[b"quick"] * 100], "answers")
        caller.publish("heard", b"meanwhile")
        assert heard.receive(LIMIT).data == b"meanwhile"


def keep_behind_a_handler(caller: Connection, service: Service, reply: str, count: int) -> Binding:
    """Have so many requests wait that nobody but their thread knows of, as if they had been read with its own."""
    binding = binding_of(service)
    workers = binding.workers
    workers._look = lambda: None  # type: ignore[method-assign]  # as if it had no turn for long
    caller.publish("echoing-r", b"wait", reply=reply)
    eventually(lambda: service._runner.state.endpoints[0].active)
    with workers.driver.lock:
        assert workers.keep([(binding.take, Message("echoing-r", b"quick", reply=reply))] * count) == []
    return binding


def test_what_has_been_read_counts_as_arrived_when_a_stop_begins(nc: Connection, caller: Connection) -> None:
    with (
        reading_echo(nc, caller, max_workers=1) as (service, release),
        caller.subscribe(caller.new_inbox()) as subscription,
    ):
        binding = keep_behind_a_handler(caller, service, subscription.subject, 20)
        workers = binding.workers
        stopping = threading.Thread(target=service.stop)
        stopping.start()
        eventually(lambda: service._state.is_draining)
        assert not workers._kept
        with nc._driver.lock:
            more: Deliveries = [(binding.take, Message("echoing-r", b"quick", reply="nobody"))]
            assert workers.keep(more) == more, "from now on, it counts at once"
        nc.reconnect()  # without a connection there is nobody to wait for
        release.set()
        stopping.join(LIMIT)
        assert [subscription.receive(LIMIT).data for _ in range(21)] == [b"wait", *[b"quick"] * 20]


@pytest.mark.parametrize("how", ["deadline", "at once", "closed"])
def test_what_has_been_read_is_answered_and_counted_also_by_a_stop_that_does_not_wait(
    nc: Connection, caller: Connection, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    with (
        suppress(ConnectionClosedError),
        reading_echo(nc, caller, max_workers=1) as (service, release),
        caller.subscribe(caller.new_inbox()) as subscription,
    ):
        workers = keep_behind_a_handler(caller, service, subscription.subject, 20).workers
        before = service.stats().endpoints[0]
        if how == "deadline":
            service.stop(timeout=0)
        elif how == "at once":
            service._runner.abort()
        else:
            nc.close()
        assert service.stopped.is_set()
        after = service.stats().endpoints[0]
        assert after.num_requests - before.num_requests == 21
        if how == "deadline":
            answers = [subscription.receive(LIMIT) for _ in range(21)]
            assert {answer.headers[ERROR_HEADER] for answer in answers} == {"Service stopping"}
        release.set()
        eventually(lambda: workers._threads == 0)
    assert not [record for record in caplog.records if "could not be sent" in record.getMessage()]


def test_what_has_been_read_comes_before_what_the_reader_delivers(nc: Connection, caller: Connection) -> None:
    with (
        reading_echo(nc, caller, max_concurrency=1) as (service, release),
        caller.subscribe(caller.new_inbox()) as subscription,
    ):
        binding = keep_behind_a_handler(caller, service, subscription.subject, 20)
        with nc._driver.lock:
            binding.take(Message("echoing-r", b"last", reply=subscription.subject))
        release.set()
        answers = [subscription.receive(LIMIT).data for _ in range(22)]
        assert answers == [b"wait", *[b"quick"] * 20, b"last"]


def test_a_thread_that_reads_keeps_no_request_alive(nc: Connection, caller: Connection) -> None:
    handled: list[weakref.ref[Request]] = []
    with add_service(nc, name="forgetful") as service:

        @service.endpoint("forgetful-r")
        def remember(request: Request) -> bytes:
            handled.append(weakref.ref(request))
            return request.data

        has_it_read(caller, service, "forgetful-r")
        eventually(lambda: handled and not any(one() for one in handled))


def test_a_handler_that_has_failed_leaves_nothing_for_the_garbage_collector(nc: Connection, caller: Connection) -> None:
    failed: list[weakref.ref[Request]] = []

    def fail(request: Request) -> None:
        failed.append(weakref.ref(request))
        raise ServiceError(400, "it fails")

    with add_service(nc, name="failing") as service:
        service.add_endpoint("failing-r", handler=fail)
        gc.disable()
        try:
            for _ in range(3):
                with pytest.raises(ServiceError):
                    ServiceClient(caller).request("failing-r", b"", timeout=LIMIT)
            eventually(lambda: not any(one() for one in failed))
        finally:
            gc.enable()


def test_a_handler_that_goes_on_for_ever_keeps_none_alive_of_those_before_it(
    nc: Connection, caller: Connection
) -> None:
    handled: list[weakref.ref[Request]] = []
    begun, release = threading.Event(), threading.Event()

    def remember(request: Request) -> bytes:
        handled.append(weakref.ref(request))
        if request.data == b"wait":
            begun.set()
            release.wait(LIMIT)
        return request.data

    with add_service(nc, name="going-on") as service:
        service.add_endpoint("lasting-r", handler=remember)
        try:
            for data in (b"quick", b"quick", b"wait"):
                caller.publish("lasting-r", data, reply="nobody")
            assert begun.wait(LIMIT)
            eventually(lambda: [one() is not None for one in handled] == [False, False, True])
        finally:
            release.set()


def test_where_most_is_for_others_the_reader_reads(
    nc: Connection, caller: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "_UNLENT", 10**12)
    with reading_echo(nc, caller) as (service, _), nc.subscribe("others") as others:
        nc.flush(LIMIT)
        publish_in_one_piece(caller, "others", [b"x"] * 5, "nobody")
        assert [others.receive(LIMIT).data for _ in range(5)] == [b"x"] * 5
        eventually(lambda: workers_of(service).lent is None)
        for _ in range(50):
            assert caller.request("echoing-r", b"quick", timeout=LIMIT).data == b"quick"
            assert workers_of(service).lent is None


def test_where_a_handler_has_waited_none_of_its_threads_reads_for_a_while(
    nc: Connection, caller: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "_UNLENT", 10**12)
    with reading_echo(nc, caller) as (service, release):
        caller.publish("echoing-r", b"wait")
        eventually(lambda: nc._driver.lends_at)
        release.set()
        for _ in range(50):
            assert caller.request("echoing-r", b"quick", timeout=LIMIT).data == b"quick"
            assert workers_of(service).lent is None


def test_a_response_goes_out_though_its_handler_goes_on(nc: Connection, caller: Connection, looked_after: str) -> None:
    release = threading.Event()
    with add_service(nc, name="going-on") as service:

        @service.endpoint("going-on-r")
        def go_on(request: Request) -> None:
            request.respond(request.data)
            if request.data == b"wait":
                release.wait(LIMIT)

        has_it_read(caller, service, "going-on-r")
        try:
            assert caller.request("going-on-r", b"wait", timeout=LIMIT).data == b"wait"
        finally:
            release.set()


def test_a_thread_that_finds_nothing_to_do_leaves_the_look_to_those_who_rely_on_it(
    nc: Connection, caller: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "_CALM", 0)
    monkeypatch.setattr(workers_module, "_PATIENCE", 10**9)  # the look comes after the thread that finds nothing
    begun, go_on, release = threading.Semaphore(0), threading.Event(), threading.Event()

    def handle(request: Request) -> bytes:
        begun.release()
        {b"busy": go_on, b"wait": release}.get(request.data, go_on).wait(LIMIT)
        return request.data

    with add_service(nc, name="relied-on") as service, caller.subscribe(caller.new_inbox()) as subscription:
        service.add_endpoint("relied-on-r", handler=handle, timeout=3600)  # so nobody reads in the reader's place
        binding, workers = binding_of(service), workers_of(service)
        for data in (b"busy", b"busy"):  # two threads
            caller.publish("relied-on-r", data, reply=subscription.subject)
        assert all(begun.acquire(timeout=LIMIT) for _ in range(2))
        go_on.set()
        assert [subscription.receive(LIMIT).data for _ in range(2)] == [b"busy"] * 2
        eventually(lambda: len(workers._idle) == 2)
        go_on.clear()
        caller.publish("relied-on-r", b"busy", reply=subscription.subject)
        eventually(lambda: workers._busy == 1)
        with nc._driver.lock:
            binding.is_quick = True
            for data in (b"left", b"wait"):
                binding.take(Message("relied-on-r", data, reply=subscription.subject))
            assert workers.is_watched
        try:
            go_on.set()
            assert all(begun.acquire(timeout=LIMIT) for _ in range(3))
            with nc._driver.lock:
                workers._wake()
            eventually(lambda: len(workers._idle) == 1 and not workers._is_waking)
            assert [subscription.receive(LIMIT).data for _ in range(2)] == [b"busy", b"left"]
            assert not release.is_set()
        finally:
            release.set()
        assert subscription.receive(LIMIT).data == b"wait"


def test_nobody_hurries_to_look_after_handlers_that_do_not_wait_until_one_does(
    nc: Connection, caller: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "_CALM", 3)
    with reading_echo(nc, caller) as (service, release):
        workers = workers_of(service)

        def is_calm() -> bool:
            caller.request("echoing-r", b"quick", timeout=LIMIT)
            return workers._calm > 3

        eventually(is_calm)
        caller.publish("echoing-r", b"wait")
        eventually(lambda: workers._calm == 0)
        assert caller.request("echoing-r", b"quick", timeout=LIMIT).data == b"quick"
        release.set()
        eventually(is_calm)


def test_when_nothing_comes_nobody_looks(nc: Connection, caller: Connection, looked_after: str) -> None:
    with reading_echo(nc, caller) as (service, _):
        workers = workers_of(service)
        assert caller.request("echoing-r", b"quick", timeout=LIMIT).data == b"quick"
        eventually(lambda: not workers.is_watched)
        assert workers not in nc._driver.alarms._due


def test_where_handlers_are_no_longer_quick_the_reading_is_given_back_and_no_thread_is_started_for_nothing(
    nc: Connection, caller: Connection
) -> None:
    with reading_echo(nc, caller) as (service, _):
        workers = workers_of(service)
        with nc._driver.lock:
            binding_of(service).is_quick = False
        threads = workers._threads
        assert caller.request("echoing-r", b"not quick", timeout=LIMIT).data == b"not quick"
        eventually(lambda: not workers._busy or workers._is_reading)
        assert workers._threads == threads
