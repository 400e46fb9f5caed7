"""Results that need no waiting, and may be awaited all the same.

Programs for nats-py's `nats.micro` are written either way, with `await` and without, and both are to work.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Self

__all__ = ["AwaitableSelf", "Done"]


class AwaitableSelf:
    """Something that gives itself when it is awaited."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, Self]:
        yield from ()
        return self


class Done:
    """What is returned by something that is done already; awaiting it gives None."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        yield from ()
