"""A request with several replies: which are yielded, what ends them, and whose time it is that passes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from natsvc import (
    ConfigError,
    ConnectionClosedError,
    Message,
    NoRespondersError,
    RequestTimeoutError,
    ServiceError,
    SlowConsumerError,
)
from natsvc.core import ReplyStream
from natsvc.wire.backlog import Backlog

SECOND = 1_000_000_000
MILLISECOND = SECOND // 1000
NOW = 5_000 * SECOND
EMPTY = Message("inbox")
NO_RESPONDERS = Message("inbox", headers=b"NATS/1.0 503 No Responders\r\n\r\n")


def reply(number: int = 0, **headers: str) -> Message:
    return Message("inbox", b"%d" % number, headers=headers)


def error_reply(data: bytes = b"") -> Message:
    return Message("inbox", data, headers={"Nats-Service-Error-Code": "404", "Nats-Service-Error": "gone", "A": "1"})


def stream(
    limit: int | None = None, timeout: int = SECOND, stall: int | None = SECOND // 4, room: int = 1000
) -> ReplyStream:
    made = ReplyStream("asked", Backlog("asked", room, 10**9), timeout_ns=timeout, stall_ns=stall, limit=limit)
    made.begin(NOW)
    return made


def asked(**given: Any) -> ReplyStream:
    values: dict[str, Any] = {"timeout": None, "stall": None, "limit": None} | given
    made = ReplyStream.of("asked", Backlog("asked", 10, 10**9), **values)
    made.begin(NOW)
    return made


def taken(replies: ReplyStream) -> list[bytes]:
    """All that can be taken now."""
    taken: list[bytes] = []
    while (message := replies.take()) is not None:
        taken.append(message.data)
    return taken


# What is yielded


def test_replies_are_taken_in_the_order_in_which_they_came() -> None:
    replies = stream()
    for number in range(5):
        replies.received(reply(number), NOW)
    assert taken(replies) == [b"0", b"1", b"2", b"3", b"4"]
    assert not replies.is_over
    assert replies.ended_by is None


def test_a_reply_keeps_its_headers() -> None:
    replies = stream()
    replies.received(reply(A="1"), NOW)
    message = replies.take()
    assert message is not None
    assert dict(message.headers) == {"A": "1"}


@pytest.mark.parametrize("message", [EMPTY, Message("inbox", headers={"A": "1"})])
def test_an_empty_message_ends_it_and_is_not_yielded(message: Message) -> None:
    replies = stream()
    replies.received(reply(1), NOW)
    replies.received(message, NOW)
    assert (replies.is_over, replies.ended_by) == (True, "empty message")
    assert taken(replies) == [b"1"]


def test_an_empty_message_alone_is_an_end_without_replies_and_no_failure() -> None:
    replies = stream()
    replies.received(EMPTY, NOW)
    assert replies.is_over
    assert taken(replies) == []


@pytest.mark.parametrize("data", [b"", b"more"])
def test_an_error_reply_is_raised_when_what_came_before_has_been_taken(data: bytes) -> None:
    replies = stream()
    replies.received(reply(1), NOW)
    replies.received(error_reply(data), NOW)
    replies.received(reply(2), NOW)
    assert (replies.is_over, replies.ended_by) == (True, None)
    message = replies.take()
    assert message is not None
    assert message.data == b"1"
    for _ in range(2):  # whoever asks again learns the same
        with pytest.raises(ServiceError) as caught:
            replies.take()
    error = caught.value
    assert (error.code, error.description, error.data) == ("404", "gone", data)
    assert error.headers is not None
    assert error.headers["A"] == "1"


def test_that_nobody_is_there_is_a_failure_for_a_request_asks_for_something() -> None:
    replies = stream()
    replies.received(NO_RESPONDERS, NOW)
    assert replies.is_over
    with pytest.raises(NoRespondersError) as caught:
        replies.take()
    assert caught.value.subject == "asked"


def test_a_503_with_data_is_a_reply() -> None:
    replies = stream()
    replies.received(Message("inbox", b"data", headers=b"NATS/1.0 503\r\n\r\n"), NOW)
    assert taken(replies) == [b"data"]


def test_what_comes_after_the_end_is_not_yielded() -> None:
    replies = stream(limit=2)
    for number in range(4):
        replies.received(reply(number), NOW)
    replies.received(EMPTY, NOW)
    replies.received(error_reply(), NOW)
    assert (replies.is_over, replies.ended_by) == (True, "limit")
    assert taken(replies) == [b"0", b"1"]


# Time


def test_nothing_within_the_timeout_is_a_failure() -> None:
    replies = stream()
    assert replies.deadline == NOW + SECOND
    replies.wake(NOW + SECOND - 1)
    assert not replies.is_over
    replies.wake(NOW + SECOND)
    assert (replies.is_over, replies.ended_by) == (True, None)
    with pytest.raises(RequestTimeoutError, match="'asked' was not answered within 1 s"):
        replies.take()


def test_the_timeout_is_an_end_if_something_came() -> None:
    replies = stream(stall=None)
    replies.received(reply(1), NOW)
    assert replies.deadline == NOW + SECOND
    replies.wake(NOW + SECOND)
    assert (replies.is_over, replies.ended_by) == (True, "timeout")
    assert taken(replies) == [b"1"]


def test_the_stall_counts_from_each_reply_and_ends_it() -> None:
    replies = stream()
    for at in (100, 200):
        replies.received(reply(), NOW + at)
        assert replies.deadline == NOW + at + SECOND // 4
    replies.wake(NOW + 100 + SECOND // 4)
    assert not replies.is_over
    replies.wake(NOW + 200 + SECOND // 4)
    assert (replies.is_over, replies.ended_by) == (True, "stall")


def test_no_reply_moves_the_end_beyond_the_timeout() -> None:
    replies = stream()
    replies.received(reply(), NOW + SECOND - 1)
    assert replies.deadline == NOW + SECOND


def test_the_time_that_a_caller_takes_over_a_reply_is_not_the_services() -> None:
    """Each has come in time, though all are taken at the end."""
    replies = stream()
    for number in range(3):
        replies.received(reply(number), NOW + (number + 1) * SECOND // 5)
        replies.wake(NOW + (number + 1) * SECOND // 5 + 1)
    assert not replies.is_over
    assert taken(replies) == [b"0", b"1", b"2"]


def test_a_program_that_was_too_busy_to_look_is_given_a_moment_for_what_came_meanwhile() -> None:
    replies = stream(timeout=10 * SECOND)
    replies.received(reply(1), NOW)
    late = NOW + SECOND
    replies.wake(late)
    assert not replies.is_over
    assert late < replies.deadline <= late + SECOND // 10
    replies.received(reply(2), late + 1)
    assert replies.deadline == late + 1 + SECOND // 4
    replies.wake(replies.deadline)
    assert replies.ended_by == "stall"


def test_that_moment_is_given_once_for_each_silence() -> None:
    replies = stream(timeout=100 * SECOND)
    for at in (0, 10 * SECOND):
        replies.received(reply(), NOW + at)
        replies.wake(NOW + at + SECOND)
        assert not replies.is_over
    replies.wake(NOW + 12 * SECOND)
    assert replies.is_over


def test_that_moment_is_given_once_for_the_timeout_whatever_comes_in_it() -> None:
    replies = stream(stall=None)
    replies.wake(NOW + 2 * SECOND)
    assert not replies.is_over
    end = replies.deadline
    replies.received(reply(1), NOW + 2 * SECOND + 1)
    assert replies.deadline == end
    replies.wake(NOW + 3 * SECOND)
    assert (replies.is_over, replies.ended_by) == (True, "timeout")


def test_the_moment_for_a_silence_does_not_reach_beyond_the_timeout() -> None:
    replies = stream()
    replies.received(reply(), NOW)
    replies.wake(NOW + SECOND - MILLISECOND)
    assert replies.deadline == NOW + SECOND


# Ends by others


def test_a_failure_is_raised_when_what_came_before_has_been_taken() -> None:
    replies = stream()
    replies.received(reply(1), NOW)
    replies.failed(ConnectionClosedError("closed"))
    message = replies.take()
    assert message is not None
    with pytest.raises(ConnectionClosedError):
        replies.take()


def test_a_failure_after_the_end_changes_nothing() -> None:
    replies = stream(limit=1)
    replies.received(reply(1), NOW)
    replies.failed(ConnectionClosedError("closed"))
    assert taken(replies) == [b"1"]


def test_what_there_is_no_room_for_is_a_failure_and_no_silent_loss() -> None:
    replies = stream(room=2)
    for number in range(3):
        replies.received(reply(number), NOW)
    assert replies.is_over
    assert [message.data for message in (replies.take(), replies.take()) if message] == [b"0", b"1"]
    with pytest.raises(SlowConsumerError) as caught:
        replies.take()
    assert (caught.value.subject, caught.value.dropped) == ("asked", 1)


def test_closed_it_forgets_what_nobody_has_taken() -> None:
    replies = stream()
    replies.received(reply(1), NOW)
    replies.close()
    replies.close()
    replies.received(reply(2), NOW)
    replies.failed(ConnectionClosedError("closed"))
    assert replies.is_over
    assert taken(replies) == []


# What a user asks for


def test_the_timeout_is_five_seconds_and_a_pause_is_no_end_unless_that_is_asked_for() -> None:
    replies = asked()
    assert replies.deadline == NOW + 5 * SECOND
    replies.received(reply(), NOW)
    assert replies.deadline == NOW + 5 * SECOND


def test_timeout_and_stall_are_seconds() -> None:
    replies = asked(timeout=2, stall=0.5)
    assert replies.deadline == NOW + 2 * SECOND
    replies.received(reply(), NOW)
    assert replies.deadline == NOW + SECOND // 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("timeout", value) for value in (-1, math.inf, math.nan, True, "1")),
        *(("stall", value) for value in (-1, math.inf, math.nan, True, "1")),
        *(("limit", value) for value in (0, -1, True, 1.0, "1", math.inf)),
    ],
)
def test_what_breaks_a_rule_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        asked(**{field: value})
    assert (caught.value.field, caught.value.value) == (field, value)


class StreamMachine(RuleBasedStateMachine):
    """A stream yields what a model does that knows the end only as the earliest and the latest time it may have."""

    ROOM = 6
    LATE = 5 * MILLISECOND
    MOMENT = 50 * MILLISECOND

    @initialize(timeout=st.integers(0, 100), stall=st.none() | st.integers(0, 40), limit=st.none() | st.integers(1, 8))
    def begin(self, timeout: int, stall: int | None, limit: int | None) -> None:
        self.now = NOW
        self.end = NOW + timeout * MILLISECOND
        self.stall = None if stall is None else stall * MILLISECOND
        self.limit = limit
        self.arrived = 0
        self.waiting: list[int] = []
        self.last: int | None = None
        self.is_over = False
        self.error: type[BaseException] | None = None
        self.stream = stream(limit, timeout * MILLISECOND, self.stall, self.ROOM)

    @property
    def due(self) -> int:
        if self.last is None or self.stall is None:
            return self.end
        return min(self.end, self.last + self.stall)

    @rule(milliseconds=st.sampled_from([0, 1, 5, 6, 20, 49, 51]))
    def pass_time(self, milliseconds: int) -> None:
        self.now += milliseconds * MILLISECOND

    @rule()
    def wait_for_the_deadline(self) -> None:
        self.now = max(self.now, self.stream.deadline)

    @rule()
    def wake(self) -> None:
        before = self.is_over
        self.stream.wake(self.now)
        if before:
            return
        if self.stream.is_over:
            assert self.now >= self.due, "it ends no earlier"
            self.is_over = True
            self.error = RequestTimeoutError if self.arrived == 0 else None
        else:
            assert self.stream.deadline > self.now, "there is a next time to look"
            assert self.stream.deadline <= max(self.now + self.MOMENT, self.due)
            assert self.now < self.due or self.now > self.due + self.LATE, "on time, it is over at the first look"

    @rule()
    def look_on_time_until_it_is_over(self) -> None:
        """Without another reply, a program that looks when it should needs two looks at most."""
        for _ in range(2):
            self.now = max(self.now, self.stream.deadline)
            self.wake()
        assert self.is_over

    @rule()
    def reply(self) -> None:
        self.stream.received(reply(self.arrived), self.now)
        if self.is_over:
            return
        if len(self.waiting) == self.ROOM:
            self.is_over, self.error = True, SlowConsumerError
            return
        self.waiting.append(self.arrived)
        self.arrived += 1
        self.last = self.now
        self.is_over = self.arrived == self.limit

    @rule(
        end=st.sampled_from(
            [
                (lambda one, now: one.received(EMPTY, now), None),
                (lambda one, now: one.received(error_reply(), now), ServiceError),
                (lambda one, now: one.received(NO_RESPONDERS, now), NoRespondersError),
                (lambda one, now: one.failed(ConnectionClosedError("closed")), ConnectionClosedError),
            ]
        )
    )
    def end_it(self, end: tuple[Callable[[ReplyStream, int], None], type[BaseException] | None]) -> None:
        do, error = end
        do(self.stream, self.now)
        if not self.is_over:
            self.is_over, self.error = True, error

    @precondition(lambda self: self.waiting)
    @rule()
    def take(self) -> None:
        message = self.stream.take()
        assert message is not None
        assert message.data == b"%d" % self.waiting.pop(0)

    @precondition(lambda self: not self.waiting)
    @rule()
    def take_in_vain(self) -> None:
        if self.error is None:
            assert self.stream.take() is None
        else:
            with pytest.raises(self.error):
                self.stream.take()

    @rule()
    def close(self) -> None:
        self.stream.close()
        self.is_over = True
        self.waiting.clear()

    @invariant()
    def agrees(self) -> None:
        assert self.stream.is_over == self.is_over
        assert self.stream.ended_by is None or self.is_over


TestReplyStream = StreamMachine.TestCase
