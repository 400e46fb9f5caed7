"""Unique ids in NATS's own form: 22 characters of 0-9 A-Z a-z.

Service ids and inboxes are made of them. 12 characters come from the operating system's random source, 10 count up
from a random start in random steps: as unique as a UUID, cheap to make, and free of anything that a subject can't hold.
"""

from __future__ import annotations

import os

__all__ = ["Nuid", "next_id"]

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PREFIX_LENGTH = 12
_SEQUENCE_LENGTH = 10
_SEQUENCE_END: int = 62**_SEQUENCE_LENGTH
_SMALLEST_STEP, _LARGEST_STEP = 33, 333


class Nuid:
    """A source of unique ids; not for use by several threads at once."""

    def __init__(self) -> None:
        self._renew()

    def next(self) -> str:
        """Return the next id."""
        self._sequence += self._step
        if self._sequence >= _SEQUENCE_END:
            self._renew()
        return self._prefix + _written(self._sequence, _SEQUENCE_LENGTH)

    def _renew(self) -> None:
        self._prefix = _written(_random(62**_PREFIX_LENGTH), _PREFIX_LENGTH)
        self._sequence = _random(_SEQUENCE_END // 2)
        self._step = _SMALLEST_STEP + _random(_LARGEST_STEP - _SMALLEST_STEP + 1)


def next_id() -> str:
    """Return an id from a source of its own: for what is made rarely, from any thread."""
    return Nuid().next()


def _random(end: int) -> int:
    """Return a number from 0 to below `end`, of which nobody can know more than that it was made here.

    The modules `secrets` and `random` do the same, and loading them takes longer than to connect. Of the 128 bits at
    least 56 are more than any `end` here needs, so no number is likelier than another by more than 2**-56.
    """
    return int.from_bytes(os.urandom(16), "big") % end


def _written(number: int, length: int) -> str:
    """Return a number in base 62, with so many digits."""
    text = ""
    for _ in range(length):
        number, digit = divmod(number, 62)
        text = _DIGITS[digit] + text
    return text
