"""How a service hears of what happens to the connection that it is on."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Listener"]


class Listener:
    """What a connection tells a service on it, with its lock held.

    Attributes:
        connection_closed: The connection is closed for good; with the cause.
        connection_error: Something else went wrong that a service's owner may want to know.
        begin_drain: The connection is about to be drained: begin to stop. Called without the lock.
        has_drained: Wait until that is done, for so many seconds, and raise TimeoutError if it isn't then. Called
            without the lock.
    """

    __slots__ = ("begin_drain", "connection_closed", "connection_error", "has_drained")

    def __init__(
        self,
        connection_closed: Callable[[BaseException], object],
        connection_error: Callable[[BaseException], object],
        begin_drain: Callable[[], object],
        has_drained: Callable[[float], object],
    ) -> None:
        self.connection_closed = connection_closed
        self.connection_error = connection_error
        self.begin_drain = begin_drain
        self.has_drained = has_drained
