"""What a connection's owner can see of it: the same in every world, because looking waits for nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from natsvc.wire.connection import ConnectionState

__all__ = ["ConnectionView"]


class ConnectionView:
    """The part of every front-end's Connection that only looks at the state machine."""

    __slots__ = ()

    _state: ConnectionState

    @property
    def is_connected(self) -> bool:
        """Whether there is a server at the other end at the moment."""
        return self._state.is_connected

    @property
    def is_closed(self) -> bool:
        """Whether it is closed for good."""
        return self._state.is_closed

    @property
    def connected_url(self) -> str | None:
        """The URL of the server, without credentials; None while there is none."""
        return self._state.connected_url

    @property
    def server_info(self) -> Mapping[str, Any]:
        """What the server last said of itself (its INFO); empty before the first has said something."""
        return dict(self._state.server_info)

    @property
    def max_payload(self) -> int:
        """The most bytes of headers and data that the server takes in one message."""
        return self._state.max_payload

    def new_inbox(self) -> str:
        """Return a subject that nobody else uses, to be subscribed to for answers."""
        return self._state.new_inbox()
