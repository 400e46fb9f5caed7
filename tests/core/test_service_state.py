"""One service: its life, its subscriptions, its stop, and what it says of itself."""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
from typing import Any

import pytest

from natsvc.core import (
    NO_QUEUE_GROUP,
    BaseRequest,
    EndpointInfo,
    EndpointState,
    EndpointStats,
    GroupConfig,
    Lifecycle,
    Scope,
    ServiceInfo,
    ServicePing,
    ServiceStats,
    ServiceVerb,
)
from natsvc.core.effects import Cancel, Publish, Run, Stopped, Unsubscribe, WakeAt
from natsvc.errors import (
    ConfigError,
    ConnectionClosedError,
    MaxPayloadError,
    PermissionsError,
    RequestTimeoutError,
    ServiceError,
    ServiceStoppedError,
)
from tests.core.machine import (
    LATER,
    SECOND,
    STARTED,
    Machine,
    async_handler,
    blocking_handler,
    counts,
    error_of,
    is_running,
    is_waiting,
)

PING, INFO, STATS = ServiceVerb.PING, ServiceVerb.INFO, ServiceVerb.STATS
STOPPING = ("503", "Service stopping")
INTERNAL = ("500", "Internal Server Error")
TIMED_OUT = ("504", "Request timed out")

CONTROL_SUBJECTS = [
    *("$SRV.PING", "$SRV.PING.svc", "$SRV.PING.svc.ID1"),
    *("$SRV.INFO", "$SRV.INFO.svc", "$SRV.INFO.svc.ID1"),
    *("$SRV.STATS", "$SRV.STATS.svc", "$SRV.STATS.svc.ID1"),
]


def running(max_payload: int = 1024 * 1024, config: dict[str, Any] | None = None, **fields: Any) -> tuple[Machine, Any]:
    """A started service with one endpoint."""
    machine = Machine(max_payload=max_payload, **(config or {}))
    endpoint = machine.add(**fields)
    machine.start()
    return machine, endpoint


def interests(machine: Machine) -> list[tuple[str, str]]:
    return [(interest.subject, interest.queue_group) for interest in machine.interests]


def life(machine: Machine) -> Lifecycle:
    return machine.service.lifecycle


# Start


def test_a_new_service_asks_for_nothing() -> None:
    machine = Machine()
    machine.add()
    assert life(machine) is Lifecycle.NEW
    assert machine.effects == []


def test_the_start_subscribes_nine_control_subjects_without_queue_group() -> None:
    machine = Machine()
    machine.start()
    assert life(machine) is Lifecycle.RUNNING
    assert interests(machine) == [(subject, "") for subject in CONTROL_SUBJECTS]


def test_the_control_subjects_have_the_prefix_of_the_configuration() -> None:
    machine = Machine(prefix="acme.$SRV")
    machine.start()
    assert [subject for subject, _ in interests(machine)] == ["acme." + subject for subject in CONTROL_SUBJECTS]


def test_endpoints_added_before_the_start_are_subscribed_by_it() -> None:
    machine = Machine()
    machine.add("one", subject="a.*")
    machine.add("two", queue_group="workers")
    machine.add("three", queue_group=NO_QUEUE_GROUP)
    machine.start()
    assert interests(machine)[9:] == [("a.*", "q"), ("two", "workers"), ("three", "")]


def test_endpoints_added_after_the_start_are_subscribed_at_once() -> None:
    machine = Machine()
    machine.start()
    machine.add("late")
    assert interests(machine)[9:] == [("late", "q")]


def test_messages_of_a_subscription_go_to_its_endpoint_or_verb() -> None:
    machine, work = running()
    assert [interest.receiver for interest in machine.interests[9:]] == [work]
    verbs = [machine.control(verb) for verb in (PING, INFO, STATS) for _ in range(3)]
    assert [interest.receiver for interest in machine.interests[:9]] == verbs


def test_an_endpoint_of_a_group_has_the_prefix_and_queue_group_of_the_group() -> None:
    machine = Machine()
    machine.start()
    machine.add("create", scope=Scope().group(GroupConfig("users", queue_group="u")).group(GroupConfig("v1")))
    assert interests(machine)[9:] == [("users.v1.create", "u")]


def test_an_endpoint_that_is_refused_is_not_added() -> None:
    machine, _ = running()
    with pytest.raises(ConfigError):
        machine.add("long", subject="x" * 4096)
    assert [state.endpoint.name for state in machine.service.endpoints] == ["work"]
    assert len(machine.interests) == 10


def test_a_second_start_has_no_effect() -> None:
    machine, _ = running()
    before = len(machine.effects)
    machine.service.start(LATER)
    machine.collect()
    assert len(machine.effects) == before
    assert machine.service.started == STARTED


def test_the_start_is_since_when_is_counted() -> None:
    machine = Machine()
    machine.service.start(LATER)
    assert machine.service.stats().started == LATER


@pytest.mark.parametrize("confirmed", [False, True], ids=["draining", "stopped"])
def test_after_a_stop_start_and_add_endpoint_raise(confirmed: bool) -> None:
    machine, _ = running()
    machine.stop()
    if confirmed:
        machine.confirm_all()
    with pytest.raises(ServiceStoppedError):
        machine.start()
    with pytest.raises(ServiceStoppedError):
        machine.add("late")
    assert [state.endpoint.name for state in machine.service.endpoints] == ["work"]


# What runs where


@pytest.mark.parametrize(("handler", "limit"), [(async_handler, 10), (blocking_handler, 3)])
def test_blocking_handlers_are_limited_by_max_workers_too(handler: Any, limit: int) -> None:
    _, work = running(handler=handler, max_concurrency=10, max_workers=3)
    assert work.limit == limit


def test_blocking_handlers_are_limited_by_max_concurrency_too() -> None:
    _, work = running(handler=blocking_handler, max_concurrency=2, max_workers=3)
    assert work.limit == 2


def test_an_async_handler_is_a_config_error_where_none_can_run() -> None:
    machine = Machine(async_handlers=False)
    with pytest.raises(ConfigError, match=r"EndpointConfig\.handler"):
        machine.add(handler=functools.partial(async_handler))
    machine.add(handler=blocking_handler)
    assert len(machine.service.endpoints) == 1


def test_an_async_control_handler_is_a_config_error_where_none_can_run() -> None:
    with pytest.raises(ConfigError, match=r"ServiceConfig\.stats_handler"):
        Machine(async_handlers=False, stats_handler=async_handler)


def test_an_async_endpoint_data_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"ServiceConfig\.endpoint_data"):
        Machine(endpoint_data=async_handler)


async def async_middleware(request: Any, call_next: Any) -> Any:
    return await call_next(request)


def blocking_middleware(request: Any, call_next: Any) -> Any:
    return call_next(request)


@pytest.mark.parametrize("async_handlers", [True, False])
def test_middleware_of_the_other_kind_is_a_config_error(async_handlers: bool) -> None:
    machine = Machine(async_handlers=async_handlers)
    right, wrong = async_middleware, blocking_middleware
    if not async_handlers:
        right, wrong = wrong, right
    machine.add("right", handler=blocking_handler, middleware=[right])
    with pytest.raises(ConfigError, match="middleware"):
        machine.add("wrong", handler=blocking_handler, middleware=[right, wrong])
    assert [state.endpoint.name for state in machine.service.endpoints] == ["right"]


# Stop


def test_a_stop_goes_step_by_step() -> None:
    machine, work = running()
    first = machine.send(work)
    subscribed = list(machine.interests)
    machine.stop()
    assert life(machine) is Lifecycle.DRAINING
    assert machine.confirmations == ["unsubscribed"]
    assert machine.interests == subscribed[:9], "only the endpoints are unsubscribed"

    second = machine.send(work)
    assert is_running(second), "what the server had sent before it confirmed is run"
    machine.confirm()
    machine.end(first, b"1")
    assert machine.confirmations == [], "a handler still runs"
    machine.end(second, b"2")
    assert machine.bodies == [b"1", b"2"]

    assert machine.confirm() == "flushed"
    assert machine.interests == []
    assert not machine.has_stopped

    assert machine.confirm() == "unsubscribed"
    assert life(machine) is Lifecycle.STOPPED
    assert machine.ended_with == [None]
    assert counts(work) == (2, 0)


def test_an_idle_service_stops_as_fast_as_the_server_confirms() -> None:
    machine, _ = running()
    machine.stop()
    assert machine.confirm_all() == ["unsubscribed", "flushed", "unsubscribed"]
    assert machine.ended_with == [None]


def test_a_service_without_endpoints_stops_too() -> None:
    machine = Machine()
    machine.start()
    machine.stop()
    machine.confirm_all()
    assert machine.ended_with == [None]


def test_the_stop_waits_for_the_server_even_if_no_handler_runs() -> None:
    machine, work = running()
    request = machine.send(work)
    machine.stop()
    machine.end(request)
    assert machine.confirmations == ["unsubscribed"]


def test_the_stop_waits_until_the_last_reply_is_published() -> None:
    machine, work = running()
    request = machine.send(work)
    machine.stop()
    machine.confirm()
    machine.conclude(request, b"ok")
    assert machine.confirmations == []
    machine.finish(request)
    assert machine.confirmations == ["flushed"]


def test_the_stop_runs_what_waits() -> None:
    machine, work = running(max_concurrency=1)
    requests = [machine.send(work) for _ in range(3)]
    machine.stop()
    machine.confirm()
    for request in requests:
        assert machine.confirmations == []
        machine.end(request, b"ok")
    machine.confirm_all()
    assert machine.runs == requests
    assert machine.bodies == [b"ok"] * 3
    assert machine.has_stopped


def test_the_stop_waits_for_every_endpoint() -> None:
    machine, one = running()
    two = machine.add("two")
    first, second = machine.send(one), machine.send(two)
    machine.stop()
    machine.confirm()
    machine.end(second)
    assert machine.confirmations == []
    machine.end(first)
    assert machine.confirmations == ["flushed"]


def test_a_service_that_never_started_stops_at_once() -> None:
    machine = Machine()
    machine.add()
    machine.stop()
    assert [type(effect) for effect in machine.effects] == [Stopped]
    assert life(machine) is Lifecycle.STOPPED


def test_the_control_subjects_answer_while_the_service_drains() -> None:
    machine, work = running()
    machine.send(work)
    machine.stop()
    machine.confirm()
    machine.ask(PING)
    assert len(machine.replies) == 1


@pytest.mark.parametrize("steps", [0, 1, 2], ids=["unsubscribing", "flushing", "leaving"])
def test_the_deadline_ends_a_stop_at_every_step(steps: int) -> None:
    machine, _ = running()
    machine.stop(2.0)
    for _ in range(steps):
        machine.confirm()
    machine.pass_time(2 * SECOND - 1)
    assert not machine.has_stopped
    machine.pass_time(1)
    assert machine.ended_with == [None]
    assert machine.interests == []


def test_at_the_deadline_waiting_requests_and_cancelled_handlers_are_answered_503() -> None:
    machine, work = running(max_concurrency=1)
    runs, waits = machine.send(work, reply="runs"), machine.send(work, reply="waits")
    machine.stop(2.0)
    machine.confirm()
    machine.pass_time(2 * SECOND)
    assert {(reply.subject, error_of(reply)) for reply in machine.replies} == {("runs", STOPPING), ("waits", STOPPING)}
    assert machine.cancelled == [runs]
    assert machine.has_stopped
    assert counts(work) == (2, 2)
    machine.end(runs)
    assert waits not in machine.runs
    assert counts(work) == (2, 2)


def test_at_the_deadline_an_answered_handler_is_cancelled_and_not_answered_again() -> None:
    machine, work = running()
    request = machine.send(work)
    machine.respond(request, b"first of a stream")
    machine.stop(2.0)
    machine.pass_time(2 * SECOND)
    assert machine.bodies == [b"first of a stream"]
    assert machine.cancelled == [request]
    assert counts(work)[0] == 1


def test_at_the_deadline_a_reply_on_its_way_is_not_waited_for() -> None:
    machine, work = running()
    request = machine.send(work)
    machine.conclude(request, b"ok")
    machine.stop(2.0)
    machine.pass_time(2 * SECOND)
    machine.finish(request)
    assert machine.bodies == [b"ok"]
    assert machine.ended_with == [None]
    assert counts(work) == (1, 0)


def test_at_the_deadline_a_timed_out_handler_that_still_runs_is_not_answered_again() -> None:
    machine, work = running(timeout=1.0)
    request = machine.send(work)
    machine.stop(2.0)
    machine.pass_time(2 * SECOND)
    assert machine.errors == [("504", "Request timed out")]
    assert set(machine.cancelled) == {request}
    assert counts(work) == (1, 1)


def test_at_the_deadline_of_the_stop_replies_are_published_before_it_is_said_to_have_stopped() -> None:
    machine, work = running()
    machine.send(work)
    machine.stop(2.0)
    machine.pass_time(2 * SECOND)
    order = [type(effect) for effect in machine.effects if isinstance(effect, (Publish, Cancel, Stopped))]
    assert order == [Publish, Cancel, Stopped]


def test_unsubscribing_at_the_deadline_waits_for_no_confirmation() -> None:
    machine, work = running()
    machine.send(work)
    machine.stop(2.0)
    machine.pass_time(2 * SECOND)
    unsubscribed = [effect for effect in machine.effects if isinstance(effect, Unsubscribe)]
    assert [effect.confirm for effect in unsubscribed] == [True, False]


def test_the_stop_sets_the_timer_to_its_deadline() -> None:
    machine, _ = running()
    machine.stop(2.0)
    assert [effect.time for effect in machine.effects if isinstance(effect, WakeAt)] == [machine.now + 2 * SECOND]


def test_a_stop_takes_at_most_30_seconds_unless_told_otherwise() -> None:
    machine, work = running()
    machine.send(work)
    machine.service.stop(machine.now)
    machine.collect()
    machine.pass_time(30 * SECOND - 1)
    assert not machine.has_stopped
    machine.pass_time(1)
    assert machine.has_stopped


@pytest.mark.parametrize("timeout", [0.0, -1.0])
def test_a_stop_without_time_ends_when_the_timer_gets_its_turn(timeout: float) -> None:
    machine, work = running()
    machine.send(work)
    machine.stop(timeout)
    machine.pass_time(0)
    assert machine.ended_with == [None]
    assert machine.errors == [STOPPING]


def test_a_stop_may_be_given_all_the_time_in_the_world() -> None:
    machine, work = running()
    request = machine.send(work)
    machine.stop(float("inf"))
    assert machine.wake_at is None
    machine.pass_time(10**12 * SECOND)
    assert not machine.has_stopped
    machine.end(request)
    machine.confirm_all()
    assert machine.ended_with == [None]


@pytest.mark.parametrize("timeouts", [(2.0, float("inf")), (float("inf"), 2.0)], ids=["first", "second"])
def test_of_a_stop_with_a_deadline_and_one_without_the_deadline_counts(timeouts: tuple[float, float]) -> None:
    machine, work = running()
    machine.send(work)
    for timeout in timeouts:
        machine.stop(timeout)
    machine.pass_time(2 * SECOND - 1)
    assert not machine.has_stopped
    machine.pass_time(1)
    assert machine.ended_with == [None]


@pytest.mark.parametrize("timeout", [1_000_000_001, 1e300, 10**400], ids=["int", "float", "more than a float holds"])
def test_a_stop_may_be_given_more_time_than_a_timer_can_wait(timeout: float) -> None:
    machine, _ = running()
    machine.stop(timeout)
    assert machine.wake_at is None
    machine.confirm_all()
    assert machine.ended_with == [None]


@pytest.mark.parametrize("timeout", [float("nan"), "5", True, [1]])
def test_a_timeout_that_is_no_number_is_a_config_error_and_nothing_has_begun(timeout: Any) -> None:
    machine, work = running(max_concurrency=1)
    request, waits = machine.send(work), machine.send(work)
    before = len(machine.effects)
    with pytest.raises(ConfigError, match="timeout") as caught:
        machine.stop(timeout, error=ValueError("why"), caller=request)
    machine.collect()
    assert caught.value.field == "timeout"
    assert len(machine.effects) == before
    assert life(machine) is Lifecycle.RUNNING
    assert (machine.service.error, machine.service.stop_callers) == (None, set())
    assert work.active == {request}
    assert is_waiting(waits)
    assert not machine.service.is_draining


def test_a_timeout_that_is_no_number_is_a_config_error_for_a_stop_that_joins_another_too() -> None:
    machine, _ = running()
    machine.stop(2.0)
    with pytest.raises(ConfigError):
        machine.stop(float("nan"))
    machine.pass_time(2 * SECOND)
    assert machine.ended_with == [None]


def test_requests_still_expire_while_the_service_drains() -> None:
    machine, work = running(timeout=1.0)
    request = machine.send(work)
    machine.stop()
    machine.confirm()
    machine.pass_time(SECOND)
    assert machine.errors == [("504", "Request timed out")]
    assert machine.confirmations == [], "the handler still runs"
    machine.end(request)
    machine.confirm_all()
    assert machine.has_stopped


def test_a_second_stop_joins_the_first() -> None:
    machine, _ = running()
    machine.stop(2.0)
    machine.pass_time(SECOND)
    machine.stop(60.0)
    assert machine.confirmations == ["unsubscribed"]
    machine.pass_time(SECOND)
    assert machine.ended_with == [None]


def test_a_second_stop_may_shorten_the_first() -> None:
    machine, _ = running()
    machine.stop(60.0)
    machine.stop(1.0)
    machine.pass_time(SECOND)
    assert machine.ended_with == [None]


def test_the_error_of_the_first_stop_that_has_one_counts() -> None:
    machine, _ = running()
    first, second = ValueError("first"), ValueError("second")
    machine.stop()
    machine.stop(error=first)
    machine.stop(error=second)
    machine.confirm_all()
    assert machine.service.error is first
    assert machine.ended_with == [first]


def test_after_the_stop_another_stop_changes_nothing() -> None:
    machine, _ = running()
    machine.stop()
    machine.confirm_all()
    before = len(machine.effects)
    machine.stop(error=ValueError("late"))
    machine.abort()
    machine.leave(ValueError("late"))
    machine.close_connection(ConnectionClosedError("late"))
    machine.lose_subscription(PermissionsError("subscription", "late"))
    machine.service.unsubscribed(machine.now)
    machine.service.flushed()
    machine.pass_time(60 * SECOND)
    assert len(machine.effects) == before
    assert machine.service.error is None


def test_confirmations_that_nothing_waits_for_change_nothing() -> None:
    machine, work = running()
    machine.send(work)
    machine.service.unsubscribed(machine.now)
    machine.service.flushed()
    machine.stop()
    machine.service.flushed()
    machine.collect()
    assert life(machine) is Lifecycle.DRAINING
    assert machine.confirmations == ["unsubscribed"]


def test_a_message_that_comes_after_the_end_is_answered_503_and_not_counted() -> None:
    machine, work = running()
    machine.abort()
    machine.send(work)
    assert machine.errors == [STOPPING]
    assert machine.runs == []
    assert counts(work) == (0, 0)


# Stop from a handler


def test_a_stop_from_a_handler_does_not_wait_for_that_handler() -> None:
    machine, work = running()
    request = machine.send(work)
    machine.stop(caller=request)
    assert machine.confirm_all() == ["unsubscribed", "flushed", "unsubscribed"]
    assert machine.has_stopped
    assert machine.cancelled == []


def test_a_handler_that_has_stopped_the_service_may_still_answer() -> None:
    machine, work = running()
    request = machine.send(work)
    machine.stop(caller=request)
    machine.confirm_all()
    machine.respond(request, b"stopped")
    machine.end(request, b"bye")
    assert machine.bodies == [b"stopped", b"bye"]
    assert counts(work) == (1, 0)


def test_a_stop_from_a_handler_waits_for_the_other_handlers() -> None:
    machine, work = running()
    caller, other = machine.send(work), machine.send(work)
    machine.stop(caller=caller)
    machine.confirm()
    assert machine.confirmations == []
    machine.end(other)
    assert machine.confirmations == ["flushed"]


def test_a_handler_may_join_a_stop_that_waits_for_it() -> None:
    machine, work = running()
    request = machine.send(work)
    machine.stop()
    machine.confirm()
    assert machine.confirmations == []
    machine.stop(caller=request)
    assert machine.confirmations == ["flushed"]


def test_two_handlers_may_wait_for_the_same_stop() -> None:
    machine, work = running()
    for request in (machine.send(work), machine.send(work)):
        machine.stop(caller=request)
    machine.confirm_all()
    assert machine.has_stopped


def test_a_handler_that_has_given_up_its_stop_is_forgotten_when_it_ends() -> None:
    machine, work = running()
    caller, other = machine.send(work), machine.send(work)
    machine.stop(caller=caller)
    machine.confirm()
    machine.end(caller)
    assert machine.service.stop_callers == set()
    machine.end(other)
    machine.confirm_all()
    assert machine.has_stopped


def test_at_the_deadline_the_handler_that_waits_for_the_stop_is_not_cancelled() -> None:
    machine, work = running()
    caller, other = machine.send(work), machine.send(work)
    machine.stop(2.0, caller=caller)
    machine.confirm()
    machine.pass_time(2 * SECOND)
    assert machine.has_stopped
    assert machine.cancelled == [other]
    machine.end(caller, b"stopped")
    assert machine.bodies == [b"", b"stopped"]


def test_a_stop_from_a_handler_of_another_service_waits_for_all_handlers() -> None:
    machine, work = running()
    other, elsewhere = running()
    machine.send(work)
    machine.stop(caller=other.send(elsewhere))
    machine.confirm()
    assert machine.confirmations == []


def test_a_stop_from_the_handler_with_the_only_slot_does_not_hold_up_what_waits_until_the_deadline() -> None:
    machine, work = running(max_concurrency=1)
    caller, waits = machine.send(work), machine.send(work)
    machine.stop(caller=caller)
    assert list(work.waiting) == [], "it waits for the slot of a handler that waits for it"
    assert machine.runs == [caller, waits]
    assert is_running(waits)
    machine.confirm()
    assert machine.confirmations == []
    machine.end(waits, b"ok")
    machine.confirm_all()
    assert machine.has_stopped
    assert machine.bodies == [b"ok"]


def test_a_handler_that_stops_the_service_leaves_its_slot_at_once() -> None:
    machine, work = running(max_concurrency=1)
    caller = machine.send(work)
    machine.stop(caller=caller)
    assert work.active == set()
    assert machine.service.stop_callers == {caller}
    assert is_running(caller)
    following = machine.send(work)
    assert is_running(following), "what the server had sent before it confirmed gets the free slot"
    assert machine.runs == [caller, following]


def test_the_slot_of_a_handler_that_stops_the_service_goes_to_the_oldest_that_waits_for_it() -> None:
    machine, work = running(max_concurrency=1)
    other = machine.add("other", max_concurrency=1)
    caller, oldest, younger = (machine.send(work) for _ in range(3))
    elsewhere, waits_elsewhere = machine.send(other), machine.send(other)
    machine.stop(caller=caller)
    assert [effect.request for effect in machine.effects if isinstance(effect, Run)] == [oldest]
    assert work.active == {oldest}
    assert list(work.waiting) == [younger]
    assert other.active == {elsewhere}
    assert list(other.waiting) == [waits_elsewhere]


def test_the_end_of_a_handler_that_has_stopped_the_service_frees_no_second_slot() -> None:
    machine, work = running(max_concurrency=1)
    caller, second, third = (machine.send(work) for _ in range(3))
    machine.stop(caller=caller)
    machine.end(caller, b"stopping")
    assert is_waiting(third)
    assert machine.runs == [caller, second]
    assert machine.service.stop_callers == set()
    assert counts(work) == (1, 0)
    machine.end(second)
    assert machine.runs == [caller, second, third]
    machine.end(third)
    machine.confirm_all()
    assert machine.has_stopped
    assert counts(work) == (3, 0)


def test_a_handler_that_stops_the_service_twice_frees_one_slot() -> None:
    machine, work = running(max_concurrency=1)
    caller, second, third = (machine.send(work) for _ in range(3))
    machine.stop(caller=caller)
    machine.stop(caller=caller)
    assert machine.runs == [caller, second]
    assert is_waiting(third)
    assert machine.service.stop_callers == {caller}


def test_handlers_that_stop_the_service_one_after_the_other_let_all_run_that_wait() -> None:
    machine, work = running(max_concurrency=1)
    requests = [machine.send(work) for _ in range(3)]
    for request in requests:
        machine.stop(caller=request)
    assert machine.runs == requests
    assert machine.service.stop_callers == set(requests)
    machine.confirm_all()
    assert machine.has_stopped


def test_a_stop_by_a_handler_that_has_ended_frees_no_slot() -> None:
    machine, work = running(max_concurrency=1)
    ended, runs, waits = (machine.send(work) for _ in range(3))
    machine.end(ended)
    machine.stop(caller=ended)
    assert machine.service.stop_callers == set()
    assert work.active == {runs}
    assert is_waiting(waits)


def test_a_stop_by_what_an_ended_handler_has_left_behind_waits_for_the_reply_on_its_way() -> None:
    machine, work = running()
    request = machine.send(work)
    machine.conclude(request, b"ok")
    machine.stop(caller=request)
    machine.confirm()
    assert machine.confirmations == [], "the reply is not published yet"
    machine.finish(request)
    machine.confirm_all()
    assert machine.has_stopped
    assert counts(work) == (1, 0)


def test_what_got_the_slot_of_a_handler_that_stops_the_service_is_cut_off_at_the_deadline() -> None:
    machine, work = running(max_concurrency=1)
    caller, second = machine.send(work, reply="caller"), machine.send(work, reply="second")
    machine.send(work, reply="third")
    machine.stop(2.0, caller=caller)
    machine.confirm()
    machine.pass_time(2 * SECOND)
    assert machine.ended_with == [None]
    assert machine.cancelled == [second]
    assert {(reply.subject, error_of(reply)) for reply in machine.replies} == {
        ("second", STOPPING),
        ("third", STOPPING),
    }


def test_what_is_overdue_does_not_get_the_slot_of_a_handler_that_stops_the_service() -> None:
    machine, work = running(max_concurrency=1, timeout=1.0)
    caller = machine.send(work)
    machine.respond(caller, b"stopping")
    machine.send(work)
    machine.be_busy(SECOND)
    machine.stop(caller=caller)
    assert machine.runs == [caller]
    assert machine.errors == [TIMED_OUT]
    assert not work.waiting
    assert machine.confirm_all() == ["unsubscribed", "flushed", "unsubscribed"]


def test_a_handler_that_has_stopped_the_service_is_cancelled_at_the_deadline_of_its_request() -> None:
    machine, work = running(timeout=1.0)
    caller, other = machine.send(work), machine.send(work)
    machine.respond(other, b"a stream")
    machine.stop(caller=caller)
    machine.confirm()
    machine.pass_time(SECOND)
    assert machine.errors == [TIMED_OUT]
    assert machine.cancelled == [caller]
    machine.end(caller)
    assert machine.service.stop_callers == set()
    assert counts(work) == (1, 1)
    assert machine.confirmations == []
    machine.end(other)
    machine.confirm_all()
    assert machine.has_stopped


def test_a_timed_out_handler_that_stops_the_service_frees_its_slot_too() -> None:
    machine, work = running(max_concurrency=1, timeout=1.0)
    caller = machine.send(work)
    machine.pass_time(SECOND)
    waits = machine.send(work)
    machine.stop(caller=caller)
    assert machine.runs == [caller, waits]
    machine.end(waits)
    machine.confirm_all()
    assert machine.has_stopped
    assert counts(work) == (2, 1)


def test_the_stop_goes_on_when_the_last_that_waited_has_expired() -> None:
    machine, work = running(max_concurrency=1, timeout=1.0)
    caller = machine.send(work)
    machine.respond(caller, b"stopping")
    runs, waits = machine.send(work), machine.send(work)
    machine.stop(caller=caller)
    machine.confirm()
    machine.respond(runs, b"a stream")
    machine.pass_time(SECOND)
    assert machine.errors == [TIMED_OUT]
    assert machine.confirmations == [], "a handler still runs"
    machine.end(runs)
    assert waits not in machine.runs
    assert machine.confirmations == ["flushed"]


def test_the_stop_goes_on_when_the_last_that_waited_is_overdue_and_the_timer_late() -> None:
    machine, work = running(max_concurrency=1, timeout=1.0)
    request, waits = machine.send(work), machine.send(work)
    machine.stop()
    machine.confirm()
    machine.be_busy(SECOND)
    machine.end(request)
    assert waits not in machine.runs
    assert machine.confirmations == ["flushed"]


# Leaving the block, abort


def test_leaving_the_block_normally_is_a_stop() -> None:
    machine, work = running()
    machine.send(work)
    machine.leave(None)
    machine.pass_time(30 * SECOND - 1)
    assert not machine.has_stopped
    machine.pass_time(1)
    assert machine.has_stopped


def test_leaving_the_block_by_an_exception_is_a_stop_of_at_most_5_seconds() -> None:
    machine, work = running()
    machine.send(work)
    machine.leave(ValueError("the body's"))
    machine.pass_time(5 * SECOND - 1)
    assert not machine.has_stopped
    machine.pass_time(1)
    assert machine.ended_with == [None], "the body's exception is not what ended the service"


class Cancelled(BaseException):
    """What a front-end's loop cancels with."""


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        Cancelled(),
        BaseExceptionGroup("", [KeyboardInterrupt()]),
    ],
    ids=["KeyboardInterrupt", "cancellation", "group"],
)
def test_leaving_the_block_by_cancellation_waits_for_nothing(error: BaseException) -> None:
    machine, work = running()
    request = machine.send(work)
    machine.leave(error)
    assert machine.cancelled == [request]
    assert machine.ended_with == [None]
    assert machine.confirmations == []


def test_abort_cancels_handlers_answers_503_and_stops_at_once() -> None:
    machine, work = running(max_concurrency=1)
    request = machine.send(work)
    machine.send(work)
    machine.abort()
    assert machine.errors == [STOPPING, STOPPING]
    assert machine.cancelled == [request]
    assert machine.interests == []
    assert machine.ended_with == [None]
    assert counts(work) == (2, 2)


def test_abort_cuts_a_stop_short() -> None:
    machine, work = running()
    machine.send(work)
    machine.stop()
    machine.confirm()
    machine.abort()
    assert machine.ended_with == [None]
    machine.pass_time(60 * SECOND)
    assert machine.ended_with == [None]


def test_a_new_service_can_be_aborted() -> None:
    machine = Machine()
    machine.abort()
    assert machine.ended_with == [None]


# Connection and subscriptions lost


def test_the_end_of_the_connection_ends_the_service_with_its_error() -> None:
    machine, work = running(max_concurrency=1)
    runs = machine.send(work)
    machine.send(work)
    gone = ConnectionClosedError("gone")
    machine.close_connection(gone)
    assert machine.ended_with == [gone]
    assert machine.service.error is gone
    assert machine.reports == [(gone, None)]
    assert machine.cancelled == [runs]
    assert counts(work) == (2, 2)


@pytest.mark.parametrize("draining", [False, True], ids=["running", "draining"])
def test_on_a_closed_connection_nothing_is_published(draining: bool) -> None:
    machine, work = running(config={"ping_handler": async_handler, "max_concurrency": 1})
    request = machine.send(work)
    machine.send(work)
    machine.ask(PING)
    control_request = machine.made[-1]
    machine.ask(PING)
    if draining:
        machine.stop()
        machine.confirm()
    machine.close_connection(ConnectionClosedError("gone"))
    machine.pass_time(60 * SECOND)
    assert machine.replies == []
    assert machine.cancelled == [request, control_request]
    assert not machine.control(PING).waiting
    assert counts(work) == (2, 2)


def test_at_the_end_of_the_connection_a_handler_that_waits_for_the_stop_is_not_cancelled() -> None:
    machine, work = running(max_concurrency=1)
    caller, second = machine.send(work), machine.send(work)
    machine.stop(caller=caller)
    machine.close_connection(ConnectionClosedError("gone"))
    assert machine.cancelled == [second]
    assert machine.replies == []
    machine.end(caller)
    assert counts(work) == (2, 1)


def test_on_a_closed_connection_a_handler_that_waits_for_the_stop_is_not_answered_at_its_deadline() -> None:
    machine, work = running(timeout=1.0)
    caller = machine.send(work)
    machine.stop(caller=caller)
    machine.close_connection(ConnectionClosedError("gone"))
    machine.pass_time(SECOND)
    assert machine.replies == []
    machine.end(caller)
    assert counts(work)[0] == 1


def test_the_end_of_the_connection_cuts_a_stop_short_and_is_its_error() -> None:
    machine, _ = running()
    machine.stop()
    machine.confirm()
    gone = ConnectionClosedError("gone")
    machine.close_connection(gone)
    assert machine.ended_with == [gone]


def test_once_all_replies_are_confirmed_the_end_of_the_connection_is_no_error() -> None:
    machine, _ = running()
    machine.stop()
    machine.confirm()
    assert machine.confirm() == "flushed"
    machine.close_connection(ConnectionClosedError("gone"))
    assert machine.ended_with == [None]
    assert machine.reports == []


def test_the_error_of_a_stop_stays_when_the_connection_ends() -> None:
    machine, _ = running()
    error = ValueError("first")
    machine.stop(error=error)
    machine.close_connection(ConnectionClosedError("gone"))
    assert machine.ended_with == [error]


def test_a_lost_subscription_ends_the_service_and_its_handlers_finish() -> None:
    machine, work = running()
    request = machine.send(work)
    refused = PermissionsError("subscription", "work")
    machine.lose_subscription(refused)
    assert machine.reports == [(refused, None)]
    machine.confirm()
    machine.end(request, b"ok")
    machine.confirm_all()
    assert machine.bodies == [b"ok"]
    assert machine.ended_with == [refused]
    assert machine.service.error is refused


# What it says of itself


def full_machine() -> tuple[Machine, EndpointState]:
    machine = Machine(version="1.2.3", description="greets", metadata={"a": "b"})
    work = machine.add(subject="users.*", metadata={"c": "d"})
    machine.start()
    return machine, work


def answer(machine: Machine, verb: ServiceVerb) -> dict[str, Any]:
    machine.ask(verb, reply="inbox")
    reply = machine.replies.pop()
    assert (reply.subject, reply.headers) == ("inbox", None)
    decoded: dict[str, Any] = json.loads(reply.data)
    return decoded


def test_ping_says_who_it_is() -> None:
    machine, _ = full_machine()
    assert machine.service.ping() == ServicePing(name="svc", id="ID1", version="1.2.3", metadata={"a": "b"})
    assert answer(machine, PING) == {
        "type": "io.nats.micro.v1.ping_response",
        "name": "svc",
        "id": "ID1",
        "version": "1.2.3",
        "metadata": {"a": "b"},
    }


def test_info_says_what_it_offers() -> None:
    machine, _ = full_machine()
    assert machine.service.info() == ServiceInfo(
        name="svc",
        id="ID1",
        version="1.2.3",
        metadata={"a": "b"},
        description="greets",
        endpoints=[EndpointInfo(name="work", subject="users.*", queue_group="q", metadata={"c": "d"})],
    )
    assert answer(machine, INFO) == {
        "type": "io.nats.micro.v1.info_response",
        "name": "svc",
        "id": "ID1",
        "version": "1.2.3",
        "metadata": {"a": "b"},
        "description": "greets",
        "endpoints": [{"name": "work", "subject": "users.*", "queue_group": "q", "metadata": {"c": "d"}}],
    }


def test_stats_say_how_it_does() -> None:
    machine, work = full_machine()
    machine.end(machine.send(work), b"ok")
    failed = machine.send(work)
    machine.pass_time(9)
    machine.end(failed, error=ServiceError(404, "x"))
    machine.replies.clear()
    assert machine.service.stats() == ServiceStats(
        name="svc",
        id="ID1",
        version="1.2.3",
        metadata={"a": "b"},
        started=STARTED,
        endpoints=[
            EndpointStats(
                name="work",
                subject="users.*",
                queue_group="q",
                num_requests=2,
                num_errors=1,
                last_error="404:x",
                processing_time=9,
                average_processing_time=4,
            )
        ],
    )
    assert answer(machine, STATS) == {
        "type": "io.nats.micro.v1.stats_response",
        "name": "svc",
        "id": "ID1",
        "version": "1.2.3",
        "metadata": {"a": "b"},
        "started": "2025-01-02T03:04:05.000678Z",
        "endpoints": [
            {
                "name": "work",
                "subject": "users.*",
                "queue_group": "q",
                "num_requests": 2,
                "num_errors": 1,
                "last_error": "404:x",
                "processing_time": 9,
                "average_processing_time": 4,
            }
        ],
    }


def test_metadata_and_endpoints_are_empty_and_never_null() -> None:
    machine = Machine()
    machine.start()
    assert answer(machine, PING)["metadata"] == {}
    assert answer(machine, INFO)["endpoints"] == []
    assert answer(machine, STATS)["endpoints"] == []


def test_an_endpoint_without_queue_group_shows_an_empty_one() -> None:
    machine, _ = running(queue_group=NO_QUEUE_GROUP)
    assert answer(machine, INFO)["endpoints"][0]["queue_group"] == ""
    assert answer(machine, STATS)["endpoints"][0]["queue_group"] == ""


def test_info_shows_an_endpoint_added_after_it_was_asked_before() -> None:
    machine, _ = running()
    assert len(answer(machine, INFO)["endpoints"]) == 1
    machine.add("late")
    assert [endpoint["name"] for endpoint in answer(machine, INFO)["endpoints"]] == ["work", "late"]


@pytest.mark.parametrize("verb", [PING, INFO, STATS])
def test_who_asks_again_gets_the_same_answer(verb: ServiceVerb) -> None:
    machine, _ = full_machine()
    assert answer(machine, verb) == answer(machine, verb)


def test_stats_are_of_the_moment_they_are_asked_in() -> None:
    machine, work = running()
    assert answer(machine, STATS)["endpoints"][0]["num_requests"] == 0
    machine.end(machine.send(work))
    assert answer(machine, STATS)["endpoints"][0]["num_requests"] == 1


@pytest.mark.parametrize("verb", [PING, INFO, STATS])
@pytest.mark.parametrize("config", [{}, {"ping_handler": None}], ids=["built in", "None"])
def test_who_asks_without_reply_subject_gets_no_answer(verb: ServiceVerb, config: dict[str, Any]) -> None:
    machine, _ = running(config=config)
    machine.ask(verb, reply="")
    assert machine.replies == []
    assert machine.reports == []


def test_control_verbs_are_not_counted_in_the_stats() -> None:
    machine, work = running()
    for verb in (PING, INFO, STATS):
        machine.ask(verb)
    assert counts(work) == (0, 0)


def test_an_answer_too_large_for_the_server_becomes_an_error_reply_and_is_reported() -> None:
    machine, _ = running(max_payload=200, config={"description": "x" * 300})
    machine.ask(INFO)
    assert machine.errors == [INTERNAL]
    [(error, request)] = machine.reports
    assert isinstance(error, MaxPayloadError)
    assert request is None


def test_an_answer_for_which_not_even_an_error_reply_fits_is_not_sent() -> None:
    machine, _ = running(max_payload=20)
    machine.ask(PING)
    assert machine.replies == []


def test_the_final_numbers_stay_after_the_stop() -> None:
    machine, work = running()
    machine.end(machine.send(work), error=ServiceError(404, "x"))
    machine.stop()
    machine.confirm_all()
    stats = machine.service.stats().endpoints[0]
    assert (stats.num_requests, stats.num_errors, stats.last_error) == (1, 1, "404:x")
    assert [endpoint.name for endpoint in machine.service.info().endpoints] == ["work"]


def test_reset_zeroes_all_counters_and_counts_from_now() -> None:
    machine, work = running()
    request = machine.send(work)
    machine.pass_time(10)
    machine.end(request, error=ServiceError(404, "x"))
    machine.service.reset(LATER)
    stats = machine.service.stats()
    assert stats.started == LATER
    assert stats.endpoints == [EndpointStats(name="work", subject="work", queue_group="q")]


# Data of endpoints


@dataclasses.dataclass
class Extra:
    requests: int


@pytest.mark.parametrize(
    ("data", "shown"), [({"a": 1}, {"a": 1}), ([1], [1]), ("text", "text"), (0, 0), (Extra(7), {"requests": 7})]
)
def test_what_endpoint_data_returns_is_the_data_of_that_endpoint(data: object, shown: object) -> None:
    machine, _ = running(config={"endpoint_data": lambda stats: data})
    assert machine.service.stats().endpoints[0].data == data
    assert answer(machine, STATS)["endpoints"][0]["data"] == shown


def test_endpoint_data_is_called_with_the_stats_of_each_endpoint() -> None:
    machine, work = running(config={"endpoint_data": lambda stats: [stats.name, stats.num_requests]})
    machine.add("two")
    machine.end(machine.send(work))
    assert [endpoint.data for endpoint in machine.service.stats().endpoints] == [["work", 1], ["two", 0]]


def test_without_data_there_is_no_field_for_it() -> None:
    machine, _ = running(config={"endpoint_data": lambda stats: None})
    assert "data" not in answer(machine, STATS)["endpoints"][0]
    assert machine.reports == []


def failing_data(stats: EndpointStats) -> object:
    raise KeyError(stats.name)


@pytest.mark.parametrize(
    ("endpoint_data", "kind"),
    [
        (failing_data, KeyError),
        (lambda stats: object(), TypeError),
        (lambda stats: float("inf"), ValueError),
        (lambda stats: "\ud800", ValueError),
    ],
)
def test_endpoint_data_that_fails_is_left_out_and_reported(endpoint_data: Any, kind: type[Exception]) -> None:
    machine, _ = running(config={"endpoint_data": endpoint_data})
    stats = answer(machine, STATS)["endpoints"][0]
    assert "data" not in stats
    assert stats["name"] == "work"
    [(error, request)] = machine.reports
    assert isinstance(error, kind)
    assert request is None
    [logged] = machine.logged
    assert (logged.level, logged.error) == (logging.ERROR, error)
    assert logged.message % logged.arguments == "service 'svc': no data for endpoint 'work'"


# Control handlers of the user


def asked(verb: ServiceVerb = PING, **config: Any) -> tuple[Machine, BaseRequest]:
    """A service of which a verb with a handler of the user's is asked."""
    machine = Machine(**{f"{verb.lower()}_handler": async_handler, **config})
    machine.start()
    machine.ask(verb, reply="inbox")
    return machine, machine.runs[-1]


def is_built_in(body: bytes, verb: ServiceVerb = PING) -> bool:
    decoded: dict[str, str] = json.loads(body)
    return decoded["type"] == f"io.nats.micro.v1.{verb.lower()}_response"


@pytest.mark.parametrize("verb", [PING, INFO, STATS])
def test_a_control_handler_answers_in_place_of_the_built_in_answer(verb: ServiceVerb) -> None:
    machine, request = asked(verb)
    machine.respond(request, b"mine")
    machine.end(request)
    assert machine.bodies == [b"mine"]
    assert machine.reports == []


def test_the_other_verbs_keep_their_built_in_answers() -> None:
    machine, _ = asked(STATS)
    machine.ask(PING)
    machine.ask(INFO)
    assert is_built_in(machine.bodies[0], PING)
    assert is_built_in(machine.bodies[1], INFO)


def test_a_control_handler_may_respond_with_an_error() -> None:
    machine, request = asked()
    machine.respond_error(request, 403, "not for you")
    machine.end(request)
    assert machine.errors == [("403", "not for you")]
    assert machine.reports == []


@pytest.mark.parametrize(
    ("result", "error", "kind"),
    [
        (b"value", None, TypeError),
        (None, None, RuntimeError),
        (None, ValueError("why"), ValueError),
        (None, ExceptionGroup("", [ValueError("why")]), ValueError),
        (None, GeneratorExit(), GeneratorExit),
    ],
    ids=["returns a value", "does not respond", "raises", "raises a group of one", "GeneratorExit"],
)
@pytest.mark.parametrize("verb", [PING, INFO, STATS])
def test_in_place_of_a_failed_control_handler_the_built_in_answer_is_sent_and_error_handler_told(
    verb: ServiceVerb, result: object, error: BaseException | None, kind: type[BaseException]
) -> None:
    machine, request = asked(verb)
    machine.end(request, result, error)
    [body] = machine.bodies
    assert is_built_in(body, verb)
    [(reported, about)] = machine.reports
    assert isinstance(reported, kind)
    assert about is request


@pytest.mark.parametrize(("result", "error"), [(b"value", None), (None, ValueError("why"))])
def test_a_control_handler_that_fails_after_its_answer_is_reported_and_no_second_answer_sent(
    result: object, error: BaseException | None
) -> None:
    machine, request = asked()
    machine.respond(request, b"mine")
    machine.end(request, result, error)
    assert machine.bodies == [b"mine"]
    assert len(machine.reports) == 1


def test_an_answer_of_a_control_handler_too_large_for_the_server_gives_the_built_in_answer() -> None:
    machine, request = asked()
    with pytest.raises(MaxPayloadError) as caught:
        machine.respond(request, b"x" * (machine.max_payload + 1))
    machine.end(request)
    assert is_built_in(machine.bodies[0])
    assert machine.reports == [(caught.value, request)]


def test_in_place_of_a_control_handler_that_takes_too_long_the_built_in_answer_is_sent() -> None:
    machine, request = asked(timeout=1.0)
    machine.pass_time(SECOND)
    assert is_built_in(machine.bodies[0])
    assert machine.cancelled == [request]
    [(error, about)] = machine.reports
    assert isinstance(error, RequestTimeoutError)
    assert about is request
    machine.respond(request, b"late")
    machine.end(request, b"late")
    assert len(machine.replies) == 1


def test_control_handlers_have_no_timeout_if_the_service_has_an_infinite_one() -> None:
    machine, _ = asked(timeout=float("inf"))
    assert machine.wake_at is None


def test_in_place_of_a_control_handler_that_the_end_cuts_off_the_built_in_answer_is_sent() -> None:
    machine, request = asked()
    machine.abort()
    assert is_built_in(machine.bodies[0])
    assert machine.cancelled == [request]
    with pytest.raises(ServiceStoppedError):
        machine.respond(request, b"late")


def test_an_answered_control_handler_that_the_end_cuts_off_is_not_answered_again() -> None:
    machine, request = asked()
    machine.respond(request, b"mine")
    machine.abort()
    assert machine.bodies == [b"mine"]
    assert machine.cancelled == [request]


def test_a_stop_does_not_wait_for_control_handlers() -> None:
    machine, request = asked()
    machine.stop()
    machine.confirm_all()
    assert machine.has_stopped
    assert is_built_in(machine.bodies[0])
    assert machine.cancelled == [request]


def test_a_stop_from_a_control_handler_leaves_it_alone() -> None:
    machine, request = asked()
    machine.stop(caller=request)
    machine.confirm_all()
    assert machine.has_stopped
    assert machine.cancelled == []
    machine.respond(request, b"stopped")
    machine.end(request)
    assert machine.bodies == [b"stopped"]
    assert machine.service.stop_callers == set()


def test_a_stop_from_a_control_handler_lets_the_next_that_asks_have_its_slot() -> None:
    machine, request = asked(max_concurrency=1)
    machine.ask(PING)
    machine.ask(PING)
    machine.stop(caller=request)
    assert machine.runs == machine.made[:2]
    machine.end(request)
    assert machine.runs == machine.made[:2], "its slot was free before"


def test_when_too_many_wait_for_a_control_handler_the_built_in_answer_is_sent_at_once() -> None:
    machine, _ = asked(max_concurrency=1, max_pending=0)
    machine.ask(PING)
    assert is_built_in(machine.bodies[0])
    assert machine.reports == []


def test_a_blocking_control_handler_has_one_worker() -> None:
    machine = Machine(stats_handler=blocking_handler, max_concurrency=10, max_workers=10)
    assert machine.control(STATS).limit == 1


def test_a_control_handler_that_runs_does_not_hold_up_endpoints() -> None:
    machine = Machine(ping_handler=blocking_handler, max_concurrency=1)
    work = machine.add()
    machine.start()
    machine.ask(PING)
    assert is_running(machine.send(work))


@pytest.mark.parametrize("verb", [PING, INFO, STATS])
def test_who_asks_without_reply_subject_is_ignored_and_no_control_handler_run(
    verb: ServiceVerb,
) -> None:
    machine, request = asked(verb, max_concurrency=1, max_pending=1, timeout=1.0)
    wake_at = machine.wake_at
    machine.be_busy(1)
    for _ in range(3):
        machine.ask(verb, reply="")
    assert (machine.made, machine.runs) == ([request], [request])
    assert machine.wake_at == wake_at
    machine.ask(verb)
    assert len(machine.control(verb).waiting) == 1, "those ignored hold no place"
    machine.respond(request, b"mine")
    machine.end(request)
    assert machine.bodies == [b"mine"]
    assert machine.reports == []
    assert machine.logged == []


@pytest.mark.parametrize("config", [{}, {"ping_handler": async_handler}], ids=["built in", "handler"])
@pytest.mark.parametrize("how", ["stopped", "aborted", "connection closed"])
def test_after_the_end_who_asks_is_ignored(how: str, config: dict[str, Any]) -> None:
    machine, _ = running(config=config)
    if how == "stopped":
        machine.stop()
        machine.confirm_all()
    elif how == "aborted":
        machine.abort()
    else:
        machine.close_connection(ConnectionClosedError("gone"))
    assert machine.has_stopped
    machine.ask(PING)
    machine.ask(PING, reply="")
    assert (machine.made, machine.replies) == ([], [])
    assert not machine.control(PING).active


def test_a_stop_before_the_start_leaves_the_done_handler_as_long_as_it_was_given() -> None:
    machine = Machine()
    machine.service.stop(0, timeout=2.0)
    assert machine.service.time_left(0) == 2.0
    assert machine.service.time_left(3 * SECOND) == 0.0


def test_a_service_that_has_ended_by_itself_leaves_its_done_handler_as_long_as_a_stop_has() -> None:
    machine = Machine()
    machine.start()
    machine.service.connection_closed(100 * SECOND, OSError("gone"))
    assert machine.service.time_left(110 * SECOND) == 20.0


def test_an_aborted_service_leaves_its_done_handler_no_time() -> None:
    machine = Machine()
    machine.start()
    machine.service.abort(5 * SECOND)
    assert machine.service.time_left(5 * SECOND) == 0.0
