"""How much is read at once."""

from __future__ import annotations

import pytest

from natsvc.wire.outbox import READ_SIZE, read_size


@pytest.mark.parametrize(
    ("size", "messages", "expected"),
    [
        (7_000, 100, 7_000),
        (14_000, 200, 7_000),
        (700, 10, 7_000),
        (70, 1, 7_000),
        (300, 10, 4 * 1024),  # not less, however small they are
        (64 * 1024, 60, READ_SIZE),  # nor more
        (64 * 1024, 0, READ_SIZE),  # a part of a large one
        (5, 0, READ_SIZE),
    ],
)
def test_about_a_hundred_messages_are_read_at_once(size: int, messages: int, expected: int) -> None:
    assert read_size(size, messages) == expected
