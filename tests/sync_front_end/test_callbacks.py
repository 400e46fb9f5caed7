"""Design: all callbacks run one after the other, on one thread of their own; the reader calls nothing of the user's."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import pytest

from natsvc.sync import Connection, EndpointStats, Request, ServiceClient, add_service, connect
from natsvc.testing import NatsServer
from tests.worlds import LIMIT, eventually


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
    broken = [record for record in caplog.records if record.name == "natsvc.sync"]
    assert [record.levelno for record in broken] == [logging.ERROR] * 2


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


def test_a_logging_handler_may_publish_what_it_is_given(nc: Connection) -> None:
    class Publishes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            nc.publish("logs", record.getMessage())

    logger = logging.getLogger("natsvc")
    handler = Publishes()
    logger.addHandler(handler)
    try:
        logs = nc.subscribe("logs")
        with add_service(nc, name="logged") as service:

            @service.endpoint("logged-e")
            def fail(request: Request) -> None:
                raise ValueError

            assert nc.request("logged-e", timeout=LIMIT).headers["Nats-Service-Error-Code"] == "500"
            assert "logged-e" in logs.receive(LIMIT).data.decode()
    finally:
        logger.removeHandler(handler)
