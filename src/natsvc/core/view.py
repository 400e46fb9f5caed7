"""What can be seen of a service, and of replies: the same in every world, because looking waits for nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from natsvc.core.ending import EndingReason
    from natsvc.core.models import ServiceInfo, ServicePing, ServiceStats
    from natsvc.core.service import ServiceState
    from natsvc.core.streaming import ReplyStream

__all__ = ["RepliesView", "ServiceView"]


class ServiceView:
    """The part of every front-end's Service that only looks at the state machine."""

    __slots__ = ()

    _state: ServiceState

    @property
    def id(self) -> str:
        """The id of this instance."""
        return self._state.id

    @property
    def name(self) -> str:
        """The kind of the service."""
        return self._state.config.name

    @property
    def version(self) -> str:
        """The version of the service."""
        return self._state.config.version

    @property
    def metadata(self) -> Mapping[str, str]:
        """What its configuration says about this instance."""
        return self._state.config.metadata

    @property
    def error(self) -> BaseException | None:
        """What ended the service; None while it runs, and if it was stopped without an error."""
        return self._state.error

    def info(self) -> ServiceInfo:
        """Return what it answers to INFO."""
        return self._state.info()

    def stats(self) -> ServiceStats:
        """Return what it answers to STATS; after the stop, the final numbers."""
        return self._state.stats()

    def ping(self) -> ServicePing:
        """Return what it answers to PING."""
        return self._state.ping()


class RepliesView:
    """The part of every front-end's Replies that only looks at the state machine."""

    __slots__ = ()

    _stream: ReplyStream

    @property
    def ended_by(self) -> EndingReason | None:
        """What has ended the replies: "empty message", "limit", "stall" or "timeout".

        None while more can come; also when an error has ended them, or `close`.
        """
        return self._stream.ended_by

    def __repr__(self) -> str:
        return f"<Replies to {self._stream.subject!r}>"
