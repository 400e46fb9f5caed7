"""What nobody has taken yet is bounded; what is dropped is the newest, and that is told once each time it begins."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsvc.errors import NatsvcError, SlowConsumerError
from natsvc.message import Message
from natsvc.wire.backlog import Backlog


def message(data: bytes = b"") -> Message:
    return Message("a", data)


def test_messages_come_out_in_their_order() -> None:
    backlog = Backlog("a", 10, 100)
    first, second = message(), message()
    backlog.put(first)
    backlog.put(second)
    assert len(backlog) == 2
    assert [backlog.take(), backlog.take(), backlog.take()] == [first, second, None]


def test_beyond_the_most_messages_the_newest_is_dropped_and_told() -> None:
    backlog = Backlog("a.b", 1, 100)
    kept = message()
    assert backlog.put(kept) is None
    error = backlog.put(message())
    assert isinstance(error, SlowConsumerError)
    assert (error.subject, error.dropped) == ("a.b", 1)
    assert backlog.take() is kept
    assert backlog.take() is None


def test_beyond_the_most_bytes_the_newest_is_dropped() -> None:
    backlog = Backlog("a", 10, 5)
    assert backlog.put(message(b"12345")) is None
    assert backlog.put(message(b"6")) is not None
    backlog.take()
    assert backlog.put(message(b"12345")) is None


def test_headers_count_as_bytes() -> None:
    backlog = Backlog("a", 10, 5)
    assert backlog.put(Message("a", b"", headers=b"NATS/1.0\r\n\r\n")) is not None


def test_dropping_is_told_once_until_there_was_room_again() -> None:
    backlog = Backlog("a", 1, 100)
    backlog.put(message())
    told = [backlog.put(message()) for _ in range(3)]
    assert [error is not None for error in told] == [True, False, False]
    backlog.take()
    assert backlog.put(message()) is None
    error = backlog.put(message())
    assert error is not None
    assert error.dropped == 4
    assert backlog.dropped == 4


def test_after_the_end_nothing_more_comes_and_the_rest_can_be_taken() -> None:
    backlog = Backlog("a", 10, 100)
    kept = message()
    backlog.put(kept)
    backlog.end()
    assert backlog.put(message()) is None
    assert backlog.dropped == 0
    assert backlog.is_ended
    assert backlog.error is None
    assert [backlog.take(), backlog.take()] == [kept, None]


def test_the_first_end_counts() -> None:
    backlog = Backlog("a", 10, 100)
    error = NatsvcError("gone")
    backlog.end(error)
    backlog.end()
    assert backlog.error is error


def test_cleared_it_is_empty_and_has_room() -> None:
    backlog = Backlog("a", 10, 5)
    backlog.put(message(b"12345"))
    backlog.clear()
    assert len(backlog) == 0
    assert backlog.put(message(b"12345")) is None


@given(st.lists(st.one_of(st.integers(0, 6), st.none())), st.integers(1, 4), st.integers(1, 12))
def test_it_is_a_queue_within_both_bounds(steps: list[int | None], max_messages: int, max_bytes: int) -> None:
    backlog = Backlog("a", max_messages, max_bytes)
    model: deque[Message] = deque()
    dropped = 0
    for size in steps:
        if size is None:
            assert backlog.take() is (model.popleft() if model else None)
            continue
        one = message(b"x" * size)
        backlog.put(one)
        if len(model) < max_messages and sum(len(kept.data) for kept in model) + size <= max_bytes:
            model.append(one)
        else:
            dropped += 1
        assert len(backlog) == len(model)
        assert backlog.dropped == dropped


@pytest.mark.parametrize("count", [0, 3])
def test_its_length_is_what_can_be_taken(count: int) -> None:
    backlog = Backlog("a", 10, 100)
    for _ in range(count):
        backlog.put(message())
    assert len(backlog) == count
