"""A thread handles what it has read in a row, as long as nothing that it would put off has to be done in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import pytest

from natsvc import ERROR_CODE_HEADER
from natsvc.sync import Connection, Message, Request, Service, add_service
from natsvc.sync import workers as workers_module
from natsvc.sync.workers import Binding, Workers
from natsvc.wire.connection import Deliveries
from tests.sync_front_end.test_reading import binding_of, has_it_read
from tests.worlds import LIMIT, eventually

pytestmark = pytest.mark.usefixtures("always_quick")  # however busy the machine is

Act: TypeAlias = Callable[[bytes], object]


class Row:
    """A service with one thread that reads, and what its handlers do and find."""

    def __init__(self, service: Service, caller: Connection) -> None:
        self.act: Act = lambda data: None
        self.go_on = threading.Event()
        self.handled: list[bytes] = []
        self.service = service
        self._caller = caller

    @property
    def binding(self) -> Binding:
        return binding_of(self.service)

    @property
    def workers(self) -> Workers:
        return self.binding.workers

    def handle(self, request: Request) -> bytes:
        if request.data == b"first":
            self.go_on.wait(LIMIT)
        self.handled.append(request.data)
        self.act(request.data)
        return request.data

    def run(self, others: list[bytes], act: Act, prepare: Callable[[], object] = lambda: None) -> list[Message]:
        """Have a request handled, then others that were read behind it; return the answers."""
        # Nobody else gets a turn in between.
        self.workers._look = lambda: None  # type: ignore[method-assign]
        self.handled.clear()
        self.act = act
        with self._caller.subscribe(self._caller.new_inbox()) as answers:
            reply = answers.subject
            self._caller.publish("row-r", b"first", reply=reply)
            eventually(lambda: self.service._runner.state.endpoints[0].active)
            kept: Deliveries = [(self.binding.take, Message("row-r", one, reply=reply)) for one in others]
            with self.workers.driver.lock:
                assert self.workers.keep(kept) == []
                prepare()
            self.go_on.set()
            return [answers.receive(LIMIT) for _ in range(1 + len(others))]


@pytest.fixture
def row(nc: Connection, caller: Connection) -> Iterator[Row]:
    with running_row(nc, caller) as made:
        yield made


@contextmanager
def running_row(nc: Connection, caller: Connection, **fields: Any) -> Iterator[Row]:
    with add_service(nc, name="row") as service:
        made = Row(service, caller)
        service.add_endpoint("row-r", handler=made.handle, **fields)
        has_it_read(caller, service, "row-r")
        yield made


def test_replies_of_a_row_are_written_together(row: Row, nc: Connection) -> None:
    waiting: list[int] = []
    row.run([b"second", b"third"], lambda data: waiting.append(len(nc._state.outbox.commands)))
    assert waiting == [0, 1, 2]


@pytest.mark.parametrize("limit", ["EARLY", "_TOGETHER"])
def test_a_row_ends_when_there_is_enough_to_write(
    row: Row, nc: Connection, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    waiting: list[int] = []
    monkeypatch.setattr(workers_module, limit, 2 if limit == "EARLY" else 60)
    row.run([b"second", b"third", b"fourth"], lambda data: waiting.append(len(nc._state.outbox.commands)))
    assert waiting == [0, 1, 0, 1]


def test_a_row_ends_with_a_handler_that_is_not_quick(row: Row, nc: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[int] = []

    def note(request: object) -> None:
        waiting.append(len(nc._state.outbox.commands))

    def act(data: bytes) -> None:
        note(data)
        if data == b"slow":
            monkeypatch.setattr(workers_module, "_QUICK", 0)

    row.service.add_endpoint("row-other-r", handler=note)
    other = binding_of(row.service, 1)
    other.is_quick = True
    row.run([b"second", b"slow"], act, lambda: row.workers.keep([(other.take, Message("row-other-r", b""))]))
    eventually(lambda: len(waiting) == 4)
    assert waiting == [0, 1, 2, 0]


@pytest.mark.parametrize("is_waking", [False, True])
def test_a_handler_that_is_not_expected_to_be_quick_is_in_no_row(
    nc: Connection, caller: Connection, is_waking: bool
) -> None:
    slow: list[int] = []
    with running_row(nc, caller) as row:
        workers = row.workers
        row.service.add_endpoint("row-slow-r", handler=lambda request: slow.append(workers._slow))
        take = binding_of(row.service, 1).take

        def prepare() -> None:
            behind: Deliveries = [(take, Message("row-slow-r", b"")), (row.binding.take, Message("row-r", b"last"))]
            assert workers.keep(behind) == []

        def act(data: bytes) -> None:
            slow.append(workers._slow)
            with workers.driver.lock:
                workers._is_waking = is_waking and data == b"second"  # so nobody else is called for what is behind

        row.run([b"second"], act, prepare)
        eventually(lambda: len(slow) == 4)
    assert slow == [0, 0, 1, 0]


def test_when_somebody_has_looked_after_a_row_it_ends_and_is_watched_anew(row: Row) -> None:
    watched: list[bool] = []

    def act(data: bytes) -> None:
        with row.workers.driver.lock:
            watched.append(row.workers.is_watched)
            if data == b"second":
                row.workers.is_watched = False

    row.run([b"second", b"third"], act)
    assert watched == [True, True, True]


def test_what_the_state_machine_asks_for_is_done_before_the_next_handler(row: Row) -> None:
    workers = row.workers
    perform = workers._perform

    def noted_perform() -> None:
        row.handled.append(b"performed")
        perform()

    def act(data: bytes) -> None:
        if data == b"fails":
            workers._perform = noted_perform
            raise ValueError(data)

    row.run([b"second", b"fails", b"fourth"], act)
    assert row.handled == [b"first", b"second", b"fails", b"performed", b"fourth"]


def test_what_is_ready_has_its_turn_before_what_was_read(row: Row) -> None:
    workers = row.workers

    def act(data: bytes) -> None:
        if data == b"second":
            with workers.driver.lock:
                take, message = workers._kept.pop()
                request = workers._receivers[take](message, 0)
                assert request is not None
                workers._ready.append(request)

    row.run([b"second", b"third", b"ready"], act)
    assert row.handled == [b"first", b"second", b"ready", b"third"]


def test_what_is_refused_in_a_row_is_answered(nc: Connection, caller: Connection) -> None:
    with running_row(nc, caller, max_pending=0) as row:
        state = row.service._runner.state.endpoints[0]

        def act(data: bytes) -> None:
            if data == b"second":
                state.limit = 0

        answers = row.run([b"second", b"third", b"fourth"], act)
    assert row.handled == [b"first", b"second"]
    assert sorted(one.headers.get(ERROR_CODE_HEADER, "") for one in answers) == ["", "", "503", "503"]
