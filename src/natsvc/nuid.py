"""Unique ids in NATS's own form: 22 characters of 0-9 A-Z a-z.

Service ids and inboxes are made of them. 12 characters come from the operating system's random source, 10 count up
from a random start in random steps: as unique as a UUID, cheap to make, and free of anything that a subject can't hold.
"""

from __future__ import annotations

import random
import secrets

__all__ = ["Nuid", "next_id"]

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PREFIX_LENGTH = 12
_SEQUENCE_LENGTH = 10
_SEQUENCE_END: int = 62**_SEQUENCE_LENGTH
_SMALLEST_STEP, _LARGEST_STEP = 33, 333


class Nuid:
    """A source of unique ids; not for use by several threads at once."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()
        self._renew()

    def next(self) -> str:
        """Return the next id."""
        self._sequence += self._step
        if self._sequence >= _SEQUENCE_END:
            self._renew()
        left = self._sequence
        text = ""
        for _ in range(_SEQUENCE_LENGTH):
            left, digit = divmod(left, 62)
            text = _DIGITS[digit] + text
        return self._prefix + text

    def _renew(self) -> None:
        self._prefix = "".join(secrets.choice(_DIGITS) for _ in range(_PREFIX_LENGTH))
        self._sequence = self._random.randrange(_SEQUENCE_END // 2)
        self._step = self._random.randint(_SMALLEST_STEP, _LARGEST_STEP)


def next_id() -> str:
    """Return an id from a source of its own: for what is made rarely, from any thread."""
    return Nuid().next()
