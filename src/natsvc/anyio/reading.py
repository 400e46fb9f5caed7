"""Who reads a connection: its reading task, or in that one's place a task that handles what it reads.

Where handlers don't wait, their task keeps the reading, and the reading task waits: so tasks are not switched for what
comes, and a request that comes alone is answered in 0.9 x the time.

No handler may hold up the reading: the task gives it back as soon as one waits for anything, and when it ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import anyio

if TYPE_CHECKING:
    from natsvc.anyio.sockets import Socket

__all__ = ["Reading", "StandIn"]


class StandIn(Protocol):
    """A task that may read in the reader's place.

    Attributes:
        lent: What it may read, until it gives it back.
    """

    lent: Reading | None

    def leave_reading(self) -> None:
        """Give the reading back: at once or, if it waits for bytes, as soon as it has its turn; then it ends."""
        ...


class Reading:
    """The right to read one socket, which is the reading task's unless it is lent.

    Args:
        socket: What is to be read.

    Attributes:
        socket: What is to be read.
    """

    __slots__ = ("_is_back", "_stand_in", "socket")

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self._stand_in: StandIn | None = None
        self._is_back: anyio.Event | None = None

    def lend(self, stand_in: StandIn) -> None:
        """Have another task read, until it gives the reading back; then `wait` for that."""
        self._stand_in = stand_in
        stand_in.lent = self

    def give_back(self) -> None:
        """Let the reading task read again."""
        stand_in, self._stand_in = self._stand_in, None
        if stand_in is not None:
            stand_in.lent = None
        if self._is_back is not None:
            self._is_back.set()

    async def wait(self) -> None:
        """Wait, as the reading task, until the reading is given back."""
        if self._stand_in is not None:
            self._is_back = anyio.Event()
            await self._is_back.wait()

    async def end(self) -> None:
        """Return when nobody waits for the socket any more, whatever is cancelled meanwhile."""
        if self._stand_in is not None:
            self._stand_in.leave_reading()
            with anyio.CancelScope(shield=True):
                await self.wait()
