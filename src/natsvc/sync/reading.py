"""Who reads a connection: its reader thread, or in that one's place a thread that handles what it reads.

To hand what has come from one thread to another takes as long as a whole request otherwise does. So as long as handlers
are quick, one of their service's threads reads, and the reader waits; that is 1.4 x the requests a second.

Nothing that a handler does may hold up the reading. So before one begins, a thread that waits for nothing else is told
to have a look (`Driver.do_soon`). It gets its turn as soon as the handler waits for anything, or Python lets another
thread run, and gives the reading back to the reader. So while the reading is lent, one of these is so: a thread of the
stand-in's reads; or one is awake and in no handler, and will read, or have a look taken; or a look is due.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from natsvc.sync.transport import Transport
    from natsvc.wire.connection import Deliveries

__all__ = ["Reading", "StandIn"]


class StandIn(Protocol):
    """Who may read in the reader's place. Its methods are for threads that hold the connection's lock.

    Attributes:
        lent: The transport that it may read, until it gives the reading back.
    """

    lent: Transport | None

    def may_read(self) -> bool:
        """Whether one of its threads is about to look for something to do, and may read then."""
        ...

    def keep(self, deliveries: Deliveries) -> Deliveries:
        """Take messages that are its own, to handle them one after the other; return those to be delivered now."""
        ...


class Reading:
    """The right to read one transport, which is the reader's unless it is lent.

    Attributes:
        is_over: Whether nothing more can be read.
        error: What has ended it in the stand-in's hands; None if the server has closed the connection.
    """

    __slots__ = ("_gate", "error", "is_over")

    def __init__(self) -> None:
        self.is_over = False
        self.error: Exception | None = None
        self._gate = threading.Lock()
        self._gate.acquire()

    def give_back(self) -> None:
        """With the lock held, let the reader read again."""
        self._gate.release()

    def fail(self, error: Exception) -> None:
        """Whatever the stand-in has found instead of messages ends the reading."""
        self.error = error
        self.is_over = True

    def wait(self) -> None:
        """Without the lock, as the reader that has lent it, wait until it is given back.

        Raises:
            Exception: What the stand-in has found instead of bytes.
        """
        self._gate.acquire()
        if self.error is not None:
            raise self.error
