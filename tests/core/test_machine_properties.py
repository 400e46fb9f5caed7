"""Whatever happens in whatever order, a service agrees with a model of it that was written from the design alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from natsvc.core import BaseRequest, EndpointState
from natsvc.errors import ConnectionClosedError, NoReplyError, PermissionsError, ServiceError, ServiceStoppedError
from natsvc.message import Message
from tests.core.machine import LATER, MILLISECOND, SECOND, Machine, error_of

MAX_PAYLOAD = 500


@dataclass
class Asked:
    """A request, as the model sees it."""

    number: int
    size: int
    has_reply: bool
    deadline: int | None
    state: str = "waiting"  # waiting, running, publishing, cut off, over
    began: int = 0
    elapsed: int = 0
    answered: bool = False
    failed: bool = False
    told: list[str] = field(default_factory=list)

    @property
    def is_timed(self) -> bool:
        return self.deadline is not None and self.state in ("waiting", "running") and not self.answered

    def tell(self, what: str) -> None:
        if self.has_reply:
            self.told.append(what)


@dataclass
class Place:
    """An endpoint, as the model sees it."""

    limit: int
    max_pending: int
    max_bytes: int
    timeout: int | None
    held: list[Asked] = field(default_factory=list)
    callers: list[Asked] = field(default_factory=list)  # they wait for the stop, and hold no slot
    queue: list[Asked] = field(default_factory=list)
    requests: int = 0
    errors: int = 0
    time: int = 0
    counted: int = 0  # as requests, but not reset

    @property
    def at_work(self) -> list[Asked]:
        return self.held + self.callers

    def count(self, asked: Asked) -> None:
        self.counted += 1
        self.requests += 1
        self.errors += asked.failed
        self.time += asked.elapsed


PLACES: tuple[tuple[int, int, int, int | None], ...] = ((2, 4, 100, SECOND), (1, 2, 60, 2 * SECOND), (1, 3, 60, None))


class Model:
    """What the design says of a service, in the plainest words."""

    def __init__(self) -> None:
        self.now = 0
        self.places: list[Place] = []
        self.life = "new"
        self.step = ""
        self.deadline: int | None = None
        self.error: BaseException | None = None
        self.runs: list[Asked] = []
        self.cancelled: set[int] = set()
        self.reports = 0
        self.admitted = 0

    @property
    def is_over(self) -> bool:
        return self.life in ("draining", "stopped")

    @property
    def due(self) -> list[int]:
        if self.life == "stopped":
            return []  # nobody wakes a service that has stopped
        due = [one.deadline for place in self.places for one in place.at_work + place.queue if one.is_timed]
        if self.life == "draining":
            due.append(self.deadline)
        return [time for time in due if time is not None]

    @property
    def subscriptions(self) -> int:
        if self.life == "running":
            return 9 + len(self.places)
        return 9 if self.life == "draining" and self.step != "leaving" else 0

    def receive(self, place: Place, asked: Asked) -> None:
        if self.life == "stopped":
            asked.state = "over"
            asked.tell("503")
            return
        self.admitted += 1
        if len(place.held) == place.limit:
            self.expire(place)
        if len(place.held) < place.limit:
            self.run(place, asked)
        elif len(place.queue) == place.max_pending or sum(w.size for w in place.queue) + asked.size > place.max_bytes:
            self.refuse(place, asked, "503")
        else:
            place.queue.append(asked)

    def run(self, place: Place, asked: Asked) -> None:
        asked.state, asked.began = "running", self.now
        place.held.append(asked)
        self.runs.append(asked)

    def run_next(self, place: Place) -> None:
        if place.queue:
            self.expire(place)
        if place.queue:
            self.run(place, place.queue.pop(0))

    def refuse(self, place: Place, asked: Asked, code: str, *, tell: bool = True) -> None:
        if asked.state == "running":
            asked.elapsed = self.now - asked.began
            self.cancelled.add(asked.number)
            asked.state = "cut off"
        else:
            asked.state = "over"
        if tell:
            asked.tell(code)
        asked.failed = True
        place.count(asked)

    def conclude(self, asked: Asked, outcome: str) -> None:
        if asked.state != "running":
            return
        asked.state = "publishing"
        asked.elapsed = self.now - asked.began
        if outcome == "unexpected" or (outcome == "too large" and asked.has_reply):
            self.reports += 1
        if outcome == "nothing":
            return
        asked.failed = asked.failed or outcome != "bytes" or not asked.has_reply
        asked.tell({"bytes": "ok", "service error": "404"}.get(outcome, "500"))

    def finish(self, place: Place, asked: Asked) -> None:
        if asked.state == "publishing":
            place.count(asked)
        asked.state = "cut off" if asked.state == "cut off" else "over"
        if asked in place.callers:
            place.callers.remove(asked)
        else:
            place.held.remove(asked)
            self.run_next(place)
        self.progress()

    def progress(self) -> None:
        if self.step == "handling" and not any(place.held or place.queue for place in self.places):
            self.step = "flushing"

    def leave_slot(self, place: Place, caller: Asked) -> None:
        if self.life != "stopped" and caller in place.held:
            place.held.remove(caller)
            place.callers.append(caller)
            self.run_next(place)

    def stop(self, timeout: float, error: BaseException | None) -> None:
        if self.life == "stopped":
            return
        self.error = self.error or error
        if self.life == "new":
            self.life = "stopped"
            return
        if timeout != math.inf:
            deadline = self.now + int(timeout * SECOND)
            self.deadline = deadline if self.deadline is None else min(deadline, self.deadline)
        if self.life == "running":
            self.life, self.step = "draining", "unsubscribing"
        self.progress()

    def confirm(self) -> None:
        if self.life == "stopped":
            return
        if self.step == "leaving":
            self.life = "stopped"
        else:
            self.step = {"unsubscribing": "handling", "flushing": "leaving"}[self.step]
            self.progress()

    def cut_off(self, *, tell: bool) -> None:
        if self.life == "stopped":
            return
        self.life = "stopped"
        for place in self.places:
            for asked in place.queue:
                self.refuse(place, asked, "503", tell=tell)
            place.queue.clear()
            for asked in place.held:
                self.cancelled.add(asked.number)
                if asked.state == "running":
                    self.refuse(place, asked, "503", tell=tell and not asked.answered)
                elif asked.state == "publishing":
                    place.count(asked)
                    asked.state = "over"

    def expire(self, place: Place) -> None:
        for asked in place.at_work + place.queue:
            if asked.is_timed and asked.deadline is not None and asked.deadline <= self.now:
                self.reports += 1
                self.refuse(place, asked, "504")
        place.queue = [asked for asked in place.queue if asked.state == "waiting"]

    def wake(self) -> None:
        if self.life == "stopped":
            return
        for place in self.places:
            self.expire(place)
        if self.life == "draining" and self.deadline is not None and self.deadline <= self.now:
            self.cut_off(tell=True)

    def pass_time(self, until: int) -> None:
        while self.due and min(self.due) <= until:
            self.now = max(self.now, min(self.due))
            self.wake()
        self.now = until


OUTCOMES: dict[str, tuple[object, BaseException | None]] = {
    "nothing": (None, None),
    "bytes": (b"ok", None),
    "too large": (b"x" * (MAX_PAYLOAD + 1), None),
    "service error": (None, ServiceError(404, "no such user")),
    "unexpected": (None, ValueError("why")),
}

pick = st.integers(min_value=0, max_value=7)
outcomes = st.sampled_from(sorted(OUTCOMES))
timeouts = st.sampled_from([30.0, 2.0, 0.5, 0.0, math.inf])
errors = st.sampled_from([None, ValueError("ended it")])


class ServiceMachine(RuleBasedStateMachine):
    """Does to a service and to the model the same, and compares."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine(max_payload=MAX_PAYLOAD)
        self.model = Model()
        self.model.now = self.machine.now
        self.asked: list[Asked] = []
        self.requests: list[BaseRequest] = []
        self.numbers: dict[BaseRequest, int] = {}
        self.where: list[Place] = []
        self.told: dict[str, list[str]] = {}
        self.replies_read = 0
        self.is_closed = False

    @property
    def states(self) -> list[EndpointState]:
        return self.machine.service.endpoints

    def at_work(self, *kinds: str) -> list[Asked]:
        return [asked for place in self.model.places for asked in place.at_work if not kinds or asked.state in kinds]

    # Life

    @initialize(endpoints=st.sampled_from([2, 3, 2, 1, 0]), starts=st.sampled_from([True, True, True, False]))
    def begin(self, endpoints: int, starts: bool) -> None:
        for _ in range(endpoints):
            self.add_endpoint()
        if starts:
            self.start()

    @precondition(lambda self: self.model.life != "running" or not self.states)
    @rule(starts=st.booleans())
    def another_beginning(self, starts: bool) -> None:
        """It may come late or too late."""
        if starts:
            self.start()
        else:
            self.add_endpoint()

    def add_endpoint(self) -> None:
        limit, max_pending, max_bytes, timeout = PLACES[len(self.states) % len(PLACES)]
        fields: dict[str, Any] = {"max_concurrency": limit, "max_pending": max_pending, "max_pending_bytes": max_bytes}
        if timeout is not None:
            fields["timeout"] = timeout / SECOND
        name = f"endpoint-{len(self.states)}"
        if self.model.is_over:
            with pytest.raises(ServiceStoppedError):
                self.machine.add(name, **fields)
        else:
            self.machine.add(name, **fields)
            self.model.places.append(Place(limit, max_pending, max_bytes, timeout))

    def start(self) -> None:
        if self.model.is_over:
            with pytest.raises(ServiceStoppedError):
                self.machine.start()
        else:
            self.machine.start()
            self.model.life = "running"

    @precondition(lambda self: len(self.asked) > 8 or not self.states)
    @rule(timeout=timeouts, error=errors, is_lost=st.sampled_from([False, False, True]))
    def stop(self, timeout: float, error: BaseException | None, is_lost: bool) -> None:
        if is_lost:
            timeout, error = 30.0, PermissionsError("subscription", "work")
            self.machine.lose_subscription(error)
            self.model.reports += self.model.life != "stopped"
        else:
            self.machine.stop(timeout, error=error)
        self.model.stop(timeout, error)

    @precondition(lambda self: self.at_work("running", "cut off") and len(self.asked) > 4)
    @rule(which=pick, timeout=timeouts, is_waited_for=st.booleans())
    def stop_from_a_handler(self, which: int, timeout: float, is_waited_for: bool) -> None:
        """From one that has been answered in its place too, and from one that has done so before."""
        candidates = self.at_work("running", "cut off")
        if is_waited_for:
            candidates = [asked for asked in candidates if self.where[asked.number].queue] or candidates
        asked = candidates[which % len(candidates)]
        self.machine.stop(timeout, caller=self.requests[asked.number])
        self.model.leave_slot(self.where[asked.number], asked)
        self.model.stop(timeout, None)

    @precondition(lambda self: self.machine.confirmations)
    @rule(times=st.integers(min_value=1, max_value=3))
    def server_confirms(self, times: int) -> None:
        for _ in range(times):
            if self.machine.confirmations:
                self.machine.confirm()
                self.model.confirm()

    @precondition(lambda self: len(self.asked) > 20 or self.model.step == "leaving")
    @rule(closes=st.booleans())
    def abort(self, closes: bool) -> None:
        if closes:
            self.close_connection()
        else:
            self.machine.abort()
            self.model.cut_off(tell=True)

    def close_connection(self) -> None:
        error = ConnectionClosedError("gone")
        self.machine.close_connection(error)
        if self.model.life != "stopped" and self.model.step != "leaving":
            self.model.error = self.model.error or error
            self.model.reports += 1
        self.model.cut_off(tell=False)
        self.is_closed = True

    @rule()
    def reset(self) -> None:
        self.machine.service.reset(LATER)
        for place in self.model.places:
            place.requests = place.errors = place.time = 0

    @rule(milliseconds=st.sampled_from([300, 0, 1, 1000, 5000]))
    def time_passes(self, milliseconds: int) -> None:
        self.machine.pass_time(milliseconds * MILLISECOND)
        self.model.pass_time(self.machine.now)

    @precondition(lambda self: any(place.queue and place.timeout for place in self.model.places))
    @rule(milliseconds=st.sampled_from([1000, 300, 2000]))
    def time_passes_and_the_timer_is_late(self, milliseconds: int) -> None:
        self.machine.be_busy(milliseconds * MILLISECOND)
        self.model.now = self.machine.now

    @rule()
    def timer_goes_off(self) -> None:
        """At last, or too early."""
        self.machine.wake()
        self.model.wake()

    # Requests

    def can_receive(self) -> bool:
        subscribed = self.model.life == "running" or self.model.step == "unsubscribing"
        return bool(self.states) and (subscribed or self.model.life == "stopped") and not self.is_closed

    @precondition(can_receive)
    @rule(which=pick, size=st.sampled_from([20, 0, 10, 40, 60]), has_reply=st.sampled_from([True, True, False]))
    def receive_one(self, which: int, size: int, has_reply: bool) -> None:
        self.receive(which, size, has_reply)

    @precondition(lambda self: self.can_receive() and self.model.life != "stopped")
    @rule(which=pick, times=st.integers(min_value=2, max_value=5))
    def receive_many(self, which: int, times: int) -> None:
        """So that slots and queues are full more often."""
        for _ in range(times):
            self.receive(which, 20, True)

    def receive(self, which: int, size: int, has_reply: bool) -> None:
        place = self.model.places[which % len(self.states)]
        number = len(self.asked)
        deadline = None if place.timeout is None else self.model.now + place.timeout
        asked = Asked(number, size, has_reply, deadline)
        reply = f"inbox.{number}" if has_reply else ""
        self.machine.receive(self.states[which % len(self.states)], Message("x", b"x" * size, reply=reply))
        self.model.receive(place, asked)
        self.asked.append(asked)
        self.where.append(place)
        self.requests.append(self.machine.made[-1])
        self.numbers[self.machine.made[-1]] = number

    @precondition(lambda self: self.at_work("running", "cut off"))
    @rule(which=pick, outcome=outcomes)
    def one_handler_ends(self, which: int, outcome: str) -> None:
        self.handler_ends(which, outcome)

    def handler_ends(self, which: int, outcome: str) -> None:
        candidates = self.at_work("running", "cut off")
        asked = candidates[which % len(candidates)]
        result, error = OUTCOMES[outcome]
        self.machine.end(self.requests[asked.number], result, error)
        self.model.conclude(asked, outcome)
        self.model.finish(self.where[asked.number], asked)

    @precondition(lambda self: self.at_work("running", "cut off"))
    @rule(times=st.integers(min_value=2, max_value=8))
    def many_handlers_end(self, times: int) -> None:
        for which in range(times):
            if self.at_work("running", "cut off"):
                self.handler_ends(which, "bytes")

    @precondition(lambda self: self.at_work("running"))
    @rule(which=pick, outcome=outcomes)
    def handler_ends_and_its_reply_takes_time(self, which: int, outcome: str) -> None:
        candidates = self.at_work("running")
        asked = candidates[which % len(candidates)]
        result, error = OUTCOMES[outcome]
        self.machine.conclude(self.requests[asked.number], result, error)
        self.model.conclude(asked, outcome)

    @precondition(lambda self: self.at_work("publishing", "over"))
    @rule(which=pick)
    def reply_is_published(self, which: int) -> None:
        candidates = self.at_work("publishing", "over")
        asked = candidates[which % len(candidates)]
        self.machine.finish(self.requests[asked.number])
        self.model.finish(self.where[asked.number], asked)

    @precondition(lambda self: any(asked.began for asked in self.asked))
    @rule(which=st.integers(min_value=0, max_value=30), is_over=st.booleans())
    def handler_responds(self, which: int, is_over: bool) -> None:
        """It may: early or late, once or often."""
        candidates = self.at_work("cut off") if is_over else self.at_work("running")
        candidates = candidates or [asked for asked in self.asked if asked.began]
        asked = candidates[which % len(candidates)]
        request = self.requests[asked.number]
        if asked.state != "running" and self.model.life == "stopped":
            with pytest.raises(ServiceStoppedError):
                self.machine.respond(request, b"ok")
        elif asked.state == "cut off":
            self.machine.respond(request, b"ok")
        elif not asked.has_reply:
            with pytest.raises(NoReplyError):
                self.machine.respond(request, b"ok")
            asked.failed = True
        else:
            self.machine.respond(request, b"ok")
            asked.tell("ok")
            asked.answered = True

    # What always holds

    @invariant()
    def the_limits_hold(self) -> None:
        for state in self.states:
            assert len(state.active) <= state.limit
            assert len(state.waiting) <= state.endpoint.max_pending
            assert state.waiting_bytes == sum(len(request.data) for request in state.waiting)
            assert state.waiting_bytes <= state.endpoint.max_pending_bytes

    @invariant()
    def who_runs_and_who_waits_is_as_the_model_says_and_in_order_of_arrival(self) -> None:
        for state, place in zip(self.states, self.model.places, strict=True):
            assert state.active == {self.requests[asked.number] for asked in place.held}
            assert list(state.waiting) == [self.requests[asked.number] for asked in place.queue]
            assert [asked.number for asked in place.queue] == sorted(asked.number for asked in place.queue)

    @invariant()
    def handlers_are_run_when_the_model_says_and_never_when_their_request_is_overdue(self) -> None:
        assert [self.numbers[request] for request in self.machine.runs] == [asked.number for asked in self.model.runs]
        assert all(asked.deadline is None or asked.began < asked.deadline for asked in self.model.runs)

    @invariant()
    def who_has_stopped_the_service_is_at_work_and_holds_no_slot(self) -> None:
        callers = {self.requests[asked.number] for place in self.model.places for asked in place.callers}
        assert self.machine.service.stop_callers == callers

    @invariant()
    def the_counts_are_as_the_model_says(self) -> None:
        for state, place in zip(self.states, self.model.places, strict=True):
            stats = state.stats()
            assert (stats.num_requests, stats.num_errors) == (place.requests, place.errors)
            assert stats.processing_time == place.time
            assert stats.average_processing_time * stats.num_requests <= stats.processing_time

    @invariant()
    def every_caller_is_told_what_the_model_says(self) -> None:
        for reply in self.machine.replies[self.replies_read :]:
            error = error_of(reply)
            self.told.setdefault(reply.subject, []).append("ok" if error is None else error[0])
        self.replies_read = len(self.machine.replies)
        assert self.told == {f"inbox.{asked.number}": asked.told for asked in self.asked if asked.told}

    @invariant()
    def nobody_gets_two_error_replies(self) -> None:
        assert all(sum(what != "ok" for what in told) <= 1 for told in self.told.values())

    @invariant()
    def handlers_are_cancelled_that_were_answered_in_their_place(self) -> None:
        cancelled = {self.numbers[request] for request in self.machine.cancelled}
        assert cancelled == self.model.cancelled

    @invariant()
    def unexpected_errors_are_reported_once(self) -> None:
        assert len(self.machine.reports) == self.model.reports

    @invariant()
    def it_stops_when_the_model_says_and_once(self) -> None:
        assert self.machine.service.lifecycle.value == self.model.life
        assert self.machine.ended_with == ([self.model.error] if self.model.life == "stopped" else [])

    @invariant()
    def the_steps_of_the_stop_are_as_the_model_says(self) -> None:
        if self.model.life != "stopped":
            waits = {"unsubscribing": ["unsubscribed"], "flushing": ["flushed"], "leaving": ["unsubscribed"]}
            assert self.machine.confirmations == waits.get(self.model.step, [])
        assert len(self.machine.interests) == self.model.subscriptions

    @invariant()
    def the_timer_is_set_for_what_is_due_next(self) -> None:
        if self.model.due:
            assert self.machine.wake_at is not None
            assert self.machine.wake_at <= min(self.model.due)

    @invariant()
    def after_the_end_nothing_runs_but_what_was_cancelled(self) -> None:
        if self.model.life == "stopped":
            assert {request for state in self.states for request in state.active} <= set(self.machine.cancelled)
            assert not any(state.waiting for state in self.states)

    def teardown(self) -> None:
        """Whatever has happened, the service can be stopped, and then every request has been counted once."""
        if len(self.asked) % 2 and self.model.life != "new":
            self.machine.stop(60.0)
            self.machine.confirm_all()
            while self.at_work() and not self.machine.has_stopped:
                asked = self.at_work()[0]
                self.machine.end(self.requests[asked.number])
                self.model.conclude(asked, "nothing")
                self.model.finish(self.where[asked.number], asked)
            self.machine.confirm_all()
        else:
            self.machine.stop(1.0)
            self.machine.pass_time(SECOND)
        assert len(self.machine.ended_with) == 1
        for state in self.states:
            for request in [*state.active, *self.machine.service.stop_callers]:
                self.machine.end(request)
        assert not any(state.active or state.waiting or state.waiting_bytes for state in self.states)
        before = sum(place.counted - place.requests for place in self.model.places)
        counted = sum(state.stats().num_requests for state in self.states)
        assert before + counted == self.model.admitted
        self.machine.pass_time(100 * SECOND)
        assert len(self.machine.ended_with) == 1


TestServiceMachine = ServiceMachine.TestCase
TestServiceMachine.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
