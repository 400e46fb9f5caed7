"""Design: all callbacks run one after the other, on one thread of their own; the reader calls nothing of the user's."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from natsvc.sync import Connection, EndpointStats, Request, ServiceClient, add_service, connect
from natsvc.testing import NatsServer
from tests.worlds import LIMIT, eventually

PATIENCE = 5.0
"""Seconds after which a logging handler gives up what it waits for, so that a deadlock fails and doesn't hang."""


def test_all_callbacks_of_a_connection_and_its_services_run_on_one_thread(server: NatsServer) -> None:
    threads: list[str] = []
    inside = threading.Lock()

    def note(*arguments: object) -> None:
        assert inside.acquire(blocking=False), "two at once"
        threads.append(threading.current_thread().name)
        time.sleep(0.001)  # gives another one every chance to break in
        inside.release()

    with connect(server.url, reconnect_wait=0.01, on_disconnect=note, on_reconnect=note, on_close=note) as nc:
        services = [add_service(nc, name="noting", error_handler=note, done_handler=note) for _ in range(3)]
        for number, service in enumerate(services):

            @service.endpoint(f"noting-{number}")
            def fail(request: Request) -> None:
                raise ValueError

            with pytest.raises(Exception, match="500"):
                ServiceClient(nc).request(f"noting-{number}", timeout=LIMIT)
        nc.reconnect()
        nc.flush(LIMIT)
    eventually(lambda: len(threads) == 3 + 2 + 3 + 1)
    assert set(threads) == {"natsvc-callbacks"}
    eventually(lambda: "natsvc-callbacks" not in {thread.name for thread in threading.enumerate()})


def test_what_a_callback_raises_is_logged_and_goes_no_further(nc: Connection, caplog: pytest.LogCaptureFixture) -> None:
    told: list[BaseException] = []

    def error_handler(service: object, error: BaseException, request: object) -> None:
        told.append(error)
        raise SystemExit("mine")

    with add_service(nc, name="raising", error_handler=error_handler) as service:

        @service.endpoint("raising-e")
        def fail(request: Request) -> None:
            raise ValueError

        for _ in range(2):
            nc.publish("raising-e", reply="nobody")
        eventually(lambda: len(told) == 2)

    def broken() -> list[int]:
        return [record.levelno for record in caplog.records if record.name == "natsvc.sync"]

    eventually(lambda: len(broken()) == 2)
    assert broken() == [logging.ERROR] * 2


def test_a_callback_that_hangs_holds_up_neither_requests_nor_control_subjects(
    nc: Connection, caller: Connection
) -> None:
    release = threading.Event()
    service = add_service(nc, name="hung-up", error_handler=lambda *arguments: release.wait(LIMIT))

    @service.endpoint("hung-up-e")
    def echo(request: Request) -> bytes:
        if not request.data:
            raise ValueError
        return request.data

    try:
        caller.request("hung-up-e", timeout=LIMIT)
        assert caller.request("hung-up-e", b"x", timeout=LIMIT).data == b"x"
        assert ServiceClient(caller).ping("hung-up", service.id)
    finally:
        release.set()


def test_a_callback_may_ask_over_the_connection_that_it_is_called_for(nc: Connection) -> None:
    answers: list[Any] = []

    def ask(service: object, error: BaseException, request: object) -> None:
        answers.append(nc.request("asked-e", b"x", timeout=LIMIT).data)

    with add_service(nc, name="asked", error_handler=ask) as service:

        @service.endpoint("asked-e")
        def echo(request: Request) -> bytes:
            if not request.data:
                raise ValueError
            return request.data

        nc.publish("asked-e", reply="nobody")
        eventually(lambda: answers == [b"x"])


def test_endpoint_data_may_take_its_time_and_ask_over_the_connection(nc: Connection, caller: Connection) -> None:
    """For it is called by no reader, and under no lock."""

    def data(stats: EndpointStats) -> dict[str, str]:
        return {"asked": nc.request("data-e", b"for data", timeout=LIMIT).data.decode()}

    with add_service(nc, name="with-data", endpoint_data=data) as service:
        service.endpoint("data-e")(lambda request: request.data)
        [stats] = ServiceClient(caller).stats("with-data", service.id, timeout=LIMIT)
        assert stats.endpoints[0].data == {"asked": "for data"}
        assert service.stats().endpoints[0].data == {"asked": "for data"}


@contextmanager
def logging_to(emit: Callable[[logging.LogRecord], object]) -> Iterator[None]:
    """Have a handler of one's own get what natsvc logs."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            emit(record)

    logger = logging.getLogger("natsvc")
    handler = Handler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def fail_once(nc: Connection, caller: Connection, name: str) -> None:
    """Have a handler raise, and wait for the answer to its request."""
    with add_service(nc, name=name) as service:

        @service.endpoint(f"{name}-e")
        def fail(request: Request) -> None:
            raise ValueError

        assert caller.request(f"{name}-e", timeout=LIMIT).headers["Nats-Service-Error-Code"] == "500"


def test_a_logging_handler_may_publish_what_it_is_given(nc: Connection, caller: Connection) -> None:
    with logging_to(lambda record: nc.publish("logs", record.getMessage())):
        logs = nc.subscribe("logs")
        fail_once(nc, caller, "logged")
        assert "logged-e" in logs.receive(LIMIT).data.decode()


def test_a_logging_handler_may_publish_from_another_thread_and_wait_for_it(nc: Connection, caller: Connection) -> None:
    published: list[bool] = []

    def emit(record: logging.LogRecord) -> None:
        other = threading.Thread(target=nc.publish, args=("logs", record.getMessage()))
        other.start()
        other.join(PATIENCE)
        published.append(not other.is_alive())

    with logging_to(emit):
        fail_once(nc, caller, "elsewhere")
        eventually(lambda: published)
    assert published == [True]


def test_a_logging_handler_may_take_a_lock_under_which_another_thread_publishes(
    nc: Connection, caller: Connection
) -> None:
    mine = threading.Lock()
    holds, emitting = threading.Event(), threading.Event()
    taken: list[bool] = []

    def publish() -> None:
        with mine:
            holds.set()
            if emitting.wait(LIMIT):
                nc.publish("logs", "by the other")

    def emit(record: logging.LogRecord) -> None:
        emitting.set()
        taken.append(mine.acquire(timeout=PATIENCE))
        if taken[-1]:
            nc.publish("logs", record.getMessage())
            mine.release()

    logs = nc.subscribe("logs")
    other = threading.Thread(target=publish)
    other.start()
    assert holds.wait(LIMIT)
    with logging_to(emit):
        fail_once(nc, caller, "ordered")
        other.join(LIMIT)
        eventually(lambda: taken)
    assert taken == [True], "each has waited for the other's lock"
    assert logs.receive(LIMIT).data == b"by the other"
    assert b"ordered-e" in logs.receive(LIMIT).data


def test_what_a_logging_handler_raises_goes_to_the_threads_hook_and_no_further(
    nc: Connection, caller: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooked: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda given: hooked.append(given.exc_value))

    def emit(record: logging.LogRecord) -> None:
        raise OSError("the disk is full")

    with logging_to(emit):
        for number in (1, 2):
            fail_once(nc, caller, "disk")
            eventually(lambda: len(hooked) == number)  # noqa: B023  # it is over before the next one
    assert [str(error) for error in hooked] == ["the disk is full"] * 2


def test_what_is_logged_comes_before_the_error_handler_is_called_and_on_the_same_thread(
    nc: Connection, caller: Connection
) -> None:
    happened: list[tuple[str, str]] = []

    def note(what: str) -> None:
        happened.append((what, threading.current_thread().name))

    with (
        logging_to(lambda record: note("logged")),
        add_service(nc, name="in-order", error_handler=lambda *arguments: note("told")) as service,
    ):

        @service.endpoint("in-order-e")
        def fail(request: Request) -> None:
            raise ValueError

        for _ in range(10):
            caller.publish("in-order-e", reply="nobody")
        eventually(lambda: len(happened) == 20)
    assert happened == [("logged", "natsvc-callbacks"), ("told", "natsvc-callbacks")] * 10


def test_what_waits_to_be_logged_is_logged_also_after_the_connection_is_closed(
    server: NatsServer, caller: Connection
) -> None:
    release = threading.Event()
    logged: list[str] = []

    def emit(record: logging.LogRecord) -> None:
        release.wait(LIMIT)
        logged.append(record.getMessage())

    with logging_to(emit):
        with connect(server.url) as nc:
            fail_once(nc, caller, "closing")
        assert logged == []
        release.set()
        eventually(lambda: logged)
    assert logged == ["endpoint 'closing-e': the handler failed"]
