"""Asking services: which answers are taken, when it is over, and what of a reply is an error."""

from __future__ import annotations

import json
import logging
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from natsvc import ConfigError, ConnectionClosedError, Message, ServiceError, ServiceInfo, ServicePing, ServiceStats
from natsvc.core import Gathering, check_duration, checked_reply, service_error
from natsvc.core.calling import MAX_TIMEOUT

SECOND = 1_000_000_000
NOW = 5_000 * SECOND
NO_RESPONDERS = Message("inbox", headers=b"NATS/1.0 503 No Responders\r\n\r\n")
NO_DURATIONS: list[Any] = [-1, -0.001, math.inf, -math.inf, math.nan, True, False, "1", 1j]


def answer(kind: str = "ping", **fields: Any) -> Message:
    content = {"type": f"io.nats.micro.v1.{kind}_response", "name": "s", "id": "i", "version": "1.0.0", "metadata": {}}
    return Message("inbox", json.dumps(content | fields).encode())


def gathering(limit: int | None = None, timeout: int = SECOND, stall: int = SECOND // 4) -> Gathering[ServicePing]:
    return Gathering(ServicePing, "$SRV.PING", timeout_ns=timeout, stall_ns=stall, limit=limit, now=NOW)


def asked(name: str | None = None, id: str | None = None, **given: Any) -> Gathering[ServicePing]:
    values: dict[str, Any] = {"prefix": None, "timeout": None, "stall": None, "limit": None} | given
    return Gathering.of(ServicePing, name, id, now=NOW, **values)


@pytest.mark.parametrize(
    ("kind", "content", "data"),
    [
        (ServicePing, {}, "ping"),
        (ServiceInfo, {"description": "d", "endpoints": [{"name": "e"}]}, "info"),
        (ServiceStats, {"started": "2024-01-01T00:00:00.000000Z", "endpoints": [{"name": "e"}]}, "stats"),
    ],
)
def test_answers_are_kept_in_the_order_in_which_they_come(kind: Any, content: dict[str, Any], data: str) -> None:
    pending = Gathering(kind, "asked", timeout_ns=SECOND, stall_ns=SECOND, limit=None, now=NOW)
    for id in ("b", "a", "c"):
        pending.received(answer(data, id=id, **content), NOW)
    assert [type(one) for one in pending.answers] == [kind] * 3
    assert [one.id for one in pending.result()] == ["b", "a", "c"]
    assert not pending.is_over


@pytest.mark.parametrize(
    ("kind", "subject"),
    [(ServicePing, "my.PING.s.i"), (ServiceInfo, "my.INFO.s.i"), (ServiceStats, "my.STATS.s.i")],
)
def test_each_kind_of_answer_is_asked_for_on_its_own_subject(kind: Any, subject: str) -> None:
    pending = Gathering.of(kind, "s", "i", prefix="my", timeout=None, stall=None, limit=None, now=NOW)
    assert pending.subject == subject


def test_all_services_are_asked_unless_there_is_a_name() -> None:
    assert asked().subject == "$SRV.PING"
    assert asked("s").subject == "$SRV.PING.s"


def test_without_an_answer_it_goes_on_until_the_timeout() -> None:
    pending = gathering()
    assert pending.deadline == NOW + SECOND
    pending.wake(NOW + SECOND - 1)
    assert not pending.is_over
    pending.wake(NOW + SECOND)
    assert pending.is_over
    assert pending.result() == []


def test_the_stall_begins_with_the_first_answer_and_anew_with_each() -> None:
    pending = gathering()
    pending.received(answer(), NOW + 100)
    assert pending.deadline == NOW + 100 + SECOND // 4
    pending.received(answer(), NOW + 200)
    assert pending.deadline == NOW + 200 + SECOND // 4
    pending.wake(NOW + 100 + SECOND // 4)
    assert not pending.is_over
    pending.wake(NOW + 200 + SECOND // 4)
    assert pending.is_over


def test_no_answer_moves_the_end_beyond_the_timeout() -> None:
    pending = gathering()
    pending.received(answer(), NOW + SECOND - 1)
    assert pending.deadline == NOW + SECOND


def test_what_has_come_before_anybody_looked_at_the_clock_counts() -> None:
    """An event loop may be late; what it finds then was there in time, for all that it can tell."""
    pending = gathering()
    pending.received(answer(), NOW + 2 * SECOND)
    pending.wake(NOW + 2 * SECOND)
    pending.wake(pending.deadline)
    assert pending.is_over
    assert len(pending.result()) == 1


def test_as_many_answers_as_asked_for_end_it() -> None:
    pending = gathering(limit=2)
    pending.received(answer(id="a"), NOW)
    assert not pending.is_over
    pending.received(answer(id="b"), NOW)
    assert pending.is_over
    pending.received(answer(id="c"), NOW)
    assert [one.id for one in pending.result()] == ["a", "b"]


def test_one_answer_is_enough_of_one_instance() -> None:
    pending = asked("s", "i")
    pending.received(answer(), NOW)
    assert pending.is_over


def test_a_limit_that_is_given_counts_also_for_one_instance() -> None:
    pending = asked("s", "i", limit=2)
    pending.received(answer(), NOW)
    assert not pending.is_over
    pending.received(answer(), NOW)
    assert pending.is_over


def test_without_an_id_no_number_of_answers_ends_it() -> None:
    pending = asked("s")
    for _ in range(1000):
        pending.received(answer(), NOW)
    assert not pending.is_over


def test_nobody_there_is_no_answer_at_once() -> None:
    pending = gathering()
    pending.received(NO_RESPONDERS, NOW)
    assert pending.is_over
    assert pending.result() == []


def test_a_503_with_data_is_not_the_servers_word_that_nobody_is_there() -> None:
    pending = gathering()
    pending.received(Message("inbox", answer().data, headers=b"NATS/1.0 503\r\n\r\n"), NOW)
    assert not pending.is_over
    assert len(pending.answers) == 1


def test_a_ping_tells_how_long_it_took() -> None:
    pending = gathering()
    pending.received(answer(), NOW + SECOND // 8)
    pending.received(answer(), NOW + SECOND // 4)
    assert [one.round_trip for one in pending.answers] == [0.125, 0.25]


def test_the_round_trip_is_not_part_of_the_answer() -> None:
    pending = gathering()
    pending.received(answer(), NOW + 1)
    (ping,) = pending.answers
    assert "round_trip" not in ping.to_dict()
    assert ping == ServicePing(name="s", id="i", version="1.0.0")
    assert ServicePing(name="s", id="i").round_trip is None


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Message("inbox", b""), "Expecting value"),
        (Message("inbox", b"not JSON"), "Expecting value"),
        (Message("inbox", b"\xff\xfe\xff"), "utf-16"),
        (Message("inbox", b"[" * 1_000_000), "recursion"),
        (Message("inbox", b"1" * 10_000), "digits"),
        (Message("inbox", b"[]"), "must be a JSON object"),
        (Message("inbox", b"null"), "must be a JSON object"),
        (answer("info"), r"must be io\.nats\.micro\.v1\.ping_response"),
        (answer(id=None), "must be a text that is not empty"),
        (Message("inbox", headers={"Nats-Service-Error-Code": "500", "Nats-Service-Error": "no idea"}), "500: no idea"),
    ],
)
def test_what_is_no_answer_is_skipped_and_logged_and_ends_nothing(message: Message, reason: str) -> None:
    pending = gathering(limit=1)
    skipped = pending.received(message, NOW)
    assert not pending.is_over
    assert pending.deadline == NOW + SECOND
    assert skipped is not None
    assert skipped.level == logging.WARNING
    logged = skipped.message % skipped.arguments
    assert re.match(f"an answer to \\$SRV\\.PING was skipped: .*{reason}", logged)
    assert len(logged) < 500
    assert pending.received(answer(), NOW) is None
    assert pending.is_over
    assert len(pending.result()) == 1


def test_what_it_fails_with_is_raised_for_all_that_has_come() -> None:
    pending = gathering()
    pending.received(answer(), NOW)
    pending.failed(ConnectionClosedError("closed"))
    assert pending.is_over
    with pytest.raises(ConnectionClosedError, match="closed"):
        pending.result()


def test_a_failure_after_its_end_changes_nothing() -> None:
    pending = gathering(limit=1)
    pending.received(answer(), NOW)
    pending.failed(ConnectionClosedError("closed"))
    assert len(pending.result()) == 1


def test_of_two_failures_the_first_counts() -> None:
    pending = gathering()
    pending.failed(ConnectionClosedError("first"))
    pending.failed(ConnectionClosedError("second"))
    with pytest.raises(ConnectionClosedError, match="first"):
        pending.result()


def test_the_defaults_are_one_second_and_a_quarter_of_a_second() -> None:
    pending = asked()
    assert pending.deadline == NOW + SECOND
    pending.received(answer(), NOW)
    assert pending.deadline == NOW + SECOND // 4


def test_timeout_and_stall_are_seconds() -> None:
    pending = asked(timeout=0.5, stall=0.125)
    assert pending.deadline == NOW + SECOND // 2
    pending.received(answer(), NOW)
    assert pending.deadline == NOW + SECOND // 8


@pytest.mark.parametrize("field", ["timeout", "stall"])
@pytest.mark.parametrize("value", NO_DURATIONS)
def test_what_is_no_duration_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match="finite number of seconds") as caught:
        asked(**{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize("limit", [0, -1, True, 1.0, "1", math.inf])
def test_what_is_no_number_of_answers_is_refused(limit: object) -> None:
    with pytest.raises(ConfigError, match="whole number") as caught:
        asked(limit=limit)
    assert caught.value.field == "limit"


@pytest.mark.parametrize(
    ("field", "given"), [("id", {"id": "i"}), ("name", {"name": "a.b"}), ("prefix", {"prefix": "*"})]
)
def test_what_no_control_subject_can_be_made_of_is_refused(field: str, given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        asked(**given)
    assert caught.value.field == field


@pytest.mark.parametrize(("given", "seconds"), [(None, 7.0), (0, 0.0), (2, 2.0), (0.5, 0.5), (10**400, MAX_TIMEOUT)])
def test_a_duration_has_a_default_and_a_greatest_value(given: object, seconds: float) -> None:
    assert check_duration("timeout", given, 7.0) == seconds


@pytest.mark.parametrize("headers", [{}, {"Status": "503"}, {"nats-service-error": "other case"}])
def test_a_reply_without_an_error_header_is_a_response(headers: dict[str, str]) -> None:
    reply = Message("inbox", b"data", headers=headers)
    assert service_error(reply) is None
    assert checked_reply(reply) is reply


@pytest.mark.parametrize(
    ("headers", "code", "description"),
    [
        ({"Nats-Service-Error-Code": "404", "Nats-Service-Error": "not here"}, "404", "not here"),
        ({"Nats-Service-Error": "not here"}, "500", "not here"),
        ({"Nats-Service-Error-Code": "404"}, "404", "404"),
        ({"Nats-Service-Error-Code": "", "Nats-Service-Error": ""}, "500", "500"),
    ],
)
def test_either_error_header_makes_an_error_with_the_replys_data_and_headers(
    headers: dict[str, str], code: str, description: str
) -> None:
    with pytest.raises(ServiceError) as caught:
        checked_reply(Message("inbox", b"data", headers=headers | {"Other": "kept"}))
    error = caught.value
    assert (error.code, error.description, error.data) == (code, description, b"data")
    assert error.headers is not None
    assert dict(error.headers) == headers | {"Other": "kept"}


@given(
    st.binary() | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(lambda one: json.dumps(one).encode())
)
def test_no_bytes_whatever_raise(data: bytes) -> None:
    pending = gathering()
    pending.received(Message("inbox", data), NOW)
    assert not pending.is_over


class GatheringMachine(RuleBasedStateMachine):
    """A gathering agrees with a model that keeps the times of all answers and computes the end from them."""

    @initialize(timeout=st.integers(0, 2000), stall=st.integers(0, 500), limit=st.none() | st.integers(1, 5))
    def begin(self, timeout: int, stall: int, limit: int | None) -> None:
        self.now = NOW
        self.end = NOW + timeout
        self.stall = stall
        self.limit = limit
        self.taken: list[tuple[str, int]] = []
        self.over = False
        self.error: BaseException | None = None
        self.gathering = gathering(limit, timeout, stall)

    @rule(nanoseconds=st.integers(0, 700))
    def pass_time(self, nanoseconds: int) -> None:
        self.now += nanoseconds

    @rule()
    def wake(self) -> None:
        self.gathering.wake(self.now)
        last = [at for _, at in self.taken][-1:]
        self.over = self.over or self.now >= self.end or any(self.now >= at + self.stall for at in last)

    @rule(id=st.sampled_from("abc"))
    def take(self, id: str) -> None:
        self.gathering.received(answer(id=id), self.now)
        if not self.over:
            self.taken.append((id, self.now))
            self.over = len(self.taken) == self.limit

    @rule(message=st.sampled_from([Message("inbox", b"junk"), answer("stats")]))
    def junk(self, message: Message) -> None:
        self.gathering.received(message, self.now)

    @rule()
    def nobody_there(self) -> None:
        self.gathering.received(NO_RESPONDERS, self.now)
        self.over = True

    @rule()
    def fail(self) -> None:
        error = ConnectionClosedError("closed")
        self.gathering.failed(error)
        if not self.over:
            self.error = error
            self.over = True

    @invariant()
    def agrees(self) -> None:
        assert self.gathering.is_over == self.over
        assert [one.id for one in self.gathering.answers] == [id for id, _ in self.taken]
        assert self.gathering.deadline <= self.end
        if self.error is None:
            assert self.gathering.result() is self.gathering.answers
        else:
            with pytest.raises(ConnectionClosedError):
                self.gathering.result()


TestGathering = GatheringMachine.TestCase
