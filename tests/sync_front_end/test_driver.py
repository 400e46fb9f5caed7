"""What goes wrong under a connection in threads: a socket that breaks or takes nothing, Ctrl-C, no more threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from natsvc.sync import Connection, ConnectionLostError, Request, add_service, connect
from natsvc.sync.driver import HIGH_WATER, Driver
from natsvc.sync.transport import Transport
from natsvc.testing import NatsServer
from tests.worlds import LIMIT, eventually


def transport_of(nc: Connection) -> Transport:
    transport = nc._driver._transport
    assert transport is not None
    return transport


def test_who_waits_for_room_in_a_socket_that_breaks_waits_no_longer_and_the_connection_is_made_anew(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(server.url, reconnect_wait=0.05) as nc:
        transport = transport_of(nc)
        monkeypatch.setattr(transport, "send", lambda: False)
        monkeypatch.setattr(transport, "wait_for_room", lambda timeout: threading.Event().wait(0.01))

        def flood() -> None:
            for _ in range(30):
                nc.publish("flood", b"x" * 10_000)

        waiting = threading.Thread(target=flood)
        waiting.start()
        eventually(lambda: nc._driver._is_room_awaited)
        # The reader is among those who wait, so it can't be the one to find out.
        nc._driver._broke(transport, ConnectionResetError("reset"))
        waiting.join(LIMIT)
        assert not waiting.is_alive()
        eventually(lambda: nc._driver._transport is not transport and nc.is_connected)
        nc.flush(LIMIT)


def test_no_more_is_loaded_while_as_much_as_may_wait_is_unsent(server: NatsServer) -> None:
    with connect(server.url) as nc:
        driver, transport = nc._driver, transport_of(nc)
        loaded = transport._loaded
        with driver.lock:
            nc._state.publish("kept", b"x")
            transport._loaded = (b"x" * HIGH_WATER, deque())
            assert driver._take(transport) == b""
            assert nc._state.has_outgoing
            transport._loaded = (b"x" * (HIGH_WATER - 1), deque())
            assert driver._take(transport) == b"PUB kept 1\r\nx\r\n"
            transport._loaded, transport.is_loading = loaded, False
        nc.flush(LIMIT)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_ctrl_c_around_a_write_leaves_nobody_silenced(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    with connect(server.url) as nc, nc.subscribe("silenced") as subscription:
        nc.flush(LIMIT)
        finish_write = Driver.finish_write

        def interrupted(driver: Driver, transport: Transport) -> None:
            monkeypatch.undo()
            if moment == "after":
                finish_write(driver, transport)
            raise KeyboardInterrupt

        monkeypatch.setattr(Driver, "finish_write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            nc.publish("silenced", b"x")
        assert subscription.receive(LIMIT).data == b"x"
        nc.flush(LIMIT)


def no_thread_named(part: str, times: int) -> Callable[[threading.Thread], None]:
    """Stand in for Thread.start, for a system that gives no more threads for a while."""
    start = threading.Thread.start
    left = [times]

    def refuse(thread: threading.Thread) -> None:
        if part in thread.name and left[0]:
            left[0] -= 1
            raise RuntimeError("can't start new thread")
        start(thread)

    return refuse


def test_where_no_thread_can_be_started_requests_wait_for_the_next_one(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    with (
        connect(server.url) as nc,
        connect(server.url) as caller,
        add_service(nc, name="starved", error_handler=lambda service, error, request: told.append(error)) as service,
    ):

        @service.endpoint("starved-e")
        def echo(request: Request) -> bytes:
            return request.data

        replies = caller.subscribe("starved.replies")
        caller.flush(LIMIT)
        monkeypatch.setattr(threading.Thread, "start", no_thread_named("natsvc-starved", 1))
        caller.publish("starved-e", b"first", reply="starved.replies")
        eventually(lambda: told)
        assert "can't start new thread" in str(told[0])
        caller.publish("starved-e", b"second", reply="starved.replies")
        # Two threads may answer them, in either order.
        assert {replies.receive(LIMIT).data for _ in range(2)} == {b"first", b"second"}


def test_an_attempt_without_a_thread_has_failed_and_another_one_follows(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(server.url, reconnect_wait=0.01) as nc:
        monkeypatch.setattr(threading.Thread, "start", no_thread_named("natsvc-reader", 2))
        nc.reconnect()
        nc.flush(LIMIT)
        assert nc.is_connected


def test_a_reader_that_fails_has_lost_its_connection(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[Any] = []
    with connect(server.url, reconnect_wait=0.01, on_disconnect=lost.append) as nc:

        def fail(*_: object) -> Any:
            monkeypatch.undo()
            raise RuntimeError("the reader's own")

        monkeypatch.setattr(nc._state, "received", fail)
        with pytest.raises(ConnectionLostError):
            nc.flush(LIMIT)
        eventually(lambda: lost)
        assert "the reader's own" in str(lost[0])
        nc.flush(LIMIT)


def test_handlers_that_drain_their_connection_wait_for_each_other_no_longer_than_needed(server: NatsServer) -> None:
    begun = threading.Barrier(2)
    drained: list[bytes] = []
    errors: list[Any] = []
    with connect(server.url) as caller:
        nc = connect(server.url, on_error=errors.append)
        service = add_service(nc, name="draining")

        @service.endpoint("draining-e")
        def drain(request: Request) -> None:
            begun.wait(LIMIT)
            nc.drain()
            drained.append(request.data)

        caller.publish("draining-e", b"1", reply="nobody")
        caller.publish("draining-e", b"2", reply="nobody")
        eventually(lambda: len(drained) == 2)
        eventually(lambda: nc.is_closed)
    assert errors == [], "neither has used up its time"


def test_a_done_handler_that_takes_its_time_is_not_waited_for_beyond_that_of_a_drain(server: NatsServer) -> None:
    released = threading.Event()
    nc = connect(server.url, drain_timeout=0.2)
    add_service(nc, name="slow-done", done_handler=lambda service, error: released.wait(LIMIT))
    draining = threading.Thread(target=nc.drain)
    draining.start()
    draining.join(LIMIT / 2)
    assert not draining.is_alive()
    released.set()


def test_the_bodys_exception_leaves_the_block_also_when_somebody_else_closes(server: NatsServer) -> None:
    with pytest.raises(ZeroDivisionError), connect(server.url) as nc:

        def confirm(timeout: float | None = None) -> None:
            nc.close()
            nc._state.check_open()

        nc._driver.confirm = confirm  # type: ignore[method-assign]  # another thread closes at this moment
        raise ZeroDivisionError


def publish_at_once(nc: Connection, caller: Connection, subject: str, bodies: list[bytes], reply: str) -> None:
    """Publish what a service gets in one piece: while it can't take anything, all but the first is kept for it."""
    with nc._driver.lock:
        for body in bodies:
            caller.publish(subject, body, reply=reply)
        caller.flush(LIMIT)


@pytest.mark.usefixtures("always_quick")
def test_a_handler_that_streams_waits_for_room_though_another_thread_is_to_write_its_replies(
    server: NatsServer,
) -> None:
    gate = threading.Event()
    together: list[bool] = []
    waiting: list[int] = []
    with (
        connect(server.url) as nc,
        connect(server.url) as caller,
        add_service(nc, name="streaming", max_workers=2) as service,
    ):

        @service.endpoint("streaming-e")
        def stream(request: Request) -> bytes:
            if request.data == b"stream":
                workers = request._endpoint.binding.workers
                for _ in range(100):
                    request.respond(b"x" * 10_000)
                    together.append(workers.writes_together and workers.is_watched)
                    waiting.append(nc._driver.state.outgoing_size)
            return b""

        answers = caller.subscribe("streaming-answers")
        caller.request("streaming-e", b"quick", timeout=LIMIT)
        with nc._driver.lock:
            assert nc._driver.do_soon(lambda: gate.wait(LIMIT))
        try:
            bodies = [b"quick"] * 10 + [b"stream"] + [b"quick"] * 10
            publish_at_once(nc, caller, "streaming-e", bodies, "streaming-answers")
            for _ in range(len(bodies) + 100):
                answers.receive(LIMIT)
        finally:
            gate.set()
    assert any(together), "it has left its replies to that thread"
    assert max(waiting) < 2 * HIGH_WATER


@pytest.mark.usefixtures("always_quick")
def test_a_response_left_to_another_thread_goes_out_while_its_handler_goes_on(server: NatsServer) -> None:
    gate, answered = threading.Event(), threading.Event()
    left: list[bool] = []
    with (
        connect(server.url) as nc,
        connect(server.url) as caller,
        add_service(nc, name="leaving", max_workers=2) as service,
    ):

        @service.endpoint("leaving-e")
        def leave(request: Request) -> bytes | None:
            if request.data != b"slow":
                return b""
            request.respond(b"slow")
            left.append(nc._driver.state.outgoing_size > 0)
            gate.set()
            answered.wait(LIMIT)
            return None

        answers = caller.subscribe("leaving-answers")
        caller.request("leaving-e", b"quick", timeout=LIMIT)
        with nc._driver.lock:
            assert nc._driver.do_soon(lambda: gate.wait(LIMIT))
        try:
            publish_at_once(nc, caller, "leaving-e", [b"quick"] * 10 + [b"slow"] * 2, "leaving-answers")
            while answers.receive(LIMIT).data != b"slow":
                assert not answered.is_set()
        finally:
            gate.set()
            answered.set()
    assert left[0], "it was not written at once"


@pytest.mark.usefixtures("always_quick")
def test_requests_do_not_wait_for_a_thread_that_waits_for_room(server: NatsServer) -> None:
    without_room: list[threading.Thread] = []
    in_room, room = threading.Event(), threading.Event()

    class Full(Driver):
        """For one thread, the socket takes nothing."""

        @property
        def is_full(self) -> bool:
            return threading.current_thread() in without_room

        def room(self) -> None:
            if self.is_full:
                without_room.clear()
                in_room.set()
                room.wait(LIMIT)

    with (
        connect(server.url) as nc,
        connect(server.url) as caller,
        add_service(nc, name="roomless", max_workers=2) as service,
    ):
        nc._driver.__class__ = Full

        @service.endpoint("roomless-e")
        def echo(request: Request) -> bytes:
            if request.data == b"full":
                without_room.append(threading.current_thread())
            return request.data

        try:
            caller.publish("roomless-e", b"full")
            assert in_room.wait(LIMIT)
            assert caller.request("roomless-e", b"meanwhile", timeout=LIMIT).data == b"meanwhile"
        finally:
            room.set()


class FullOfReplies(Driver):
    """The socket takes no replies: whoever has handled a request waits until it does."""

    room_is_there = threading.Event()

    @property
    def is_full(self) -> bool:
        return threading.current_thread().name.startswith("natsvc-crowded") and not self.room_is_there.is_set()

    def room(self) -> None:
        if self.is_full:
            self.room_is_there.wait(LIMIT)


@pytest.mark.parametrize(("max_workers", "threads"), [(3, 4), (1, 1)])
def test_where_the_socket_is_full_there_are_no_more_threads_than_handlers_may_run(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch, max_workers: int, threads: int
) -> None:
    monkeypatch.setattr("natsvc.sync.workers._QUICK", 0)  # each reply is written by itself
    with (
        connect(server.url) as nc,
        connect(server.url) as caller,
        add_service(nc, name="crowded", max_workers=max_workers) as service,
    ):
        FullOfReplies.room_is_there = threading.Event()
        nc._driver.__class__ = FullOfReplies

        @service.endpoint("crowded", timeout=3600)  # so that all that is read counts at once
        def echo(request: Request) -> bytes:
            return request.data

        (state,) = service._runner.state.endpoints
        workers = state.binding.workers
        answers = caller.subscribe("crowded-answers")
        try:
            publish_at_once(nc, caller, "crowded", [b"x"] * 50, "crowded-answers")
            eventually(lambda: state.num_requests + len(state.active) + len(state.waiting) == 50)
            for _ in range(10):
                eventually(lambda: workers._busy == workers._threads >= threads and not workers._is_waking)
                with nc._driver.lock:
                    workers._look()
            assert workers._threads == threads
        finally:
            FullOfReplies.room_is_there.set()
        for _ in range(50):
            answers.receive(LIMIT)


def test_whoever_looks_after_requests_writes_what_was_left_to_be_written(server: NatsServer) -> None:
    with connect(server.url) as nc, connect(server.url) as caller, add_service(nc, name="left") as service:

        @service.endpoint("left-e")
        def echo(request: Request) -> bytes:
            return request.data

        (state,) = service._runner.state.endpoints
        subscription = caller.subscribe("left-there")
        caller.flush(LIMIT)
        with nc._driver.lock:
            nc._driver.state.publish("left-there", b"x")
        state.binding.workers._look_soon()
        assert nc._driver.state.outgoing_size == 0, "and nobody else had to, such as who answers the server's PING"
        assert subscription.receive(LIMIT).data == b"x"


@pytest.mark.usefixtures("always_quick")
def test_that_no_thread_can_be_started_is_told_while_all_others_wait(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, told = threading.Event(), threading.Event()
    with (
        connect(server.url) as nc,
        connect(server.url) as caller,
        add_service(nc, name="told", max_workers=2, error_handler=lambda *_: told.set()) as service,
    ):

        @service.endpoint("told-e")
        def wait(request: Request) -> bytes:
            if request.data == b"wait":
                release.wait(LIMIT)
            return request.data

        caller.request("told-e", b"quick", timeout=LIMIT)
        monkeypatch.setattr(threading.Thread, "start", no_thread_named("natsvc-told", 100))
        try:
            publish_at_once(nc, caller, "told-e", [b"wait"] * 2, "nobody.waits")
            assert told.wait(LIMIT)
            assert not release.is_set()
        finally:
            release.set()


def test_what_fails_in_the_thread_that_helps_others_does_not_end_it(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: shown.append(arguments.exc_value))
    done = threading.Event()

    def fail() -> None:
        raise ValueError("in between")

    with connect(server.url) as nc:
        with nc._driver.lock:
            assert nc._driver.do_soon(fail)
            assert nc._driver.do_soon(done.set)
        assert done.wait(LIMIT)
    assert [str(error) for error in shown] == ["in between"]
