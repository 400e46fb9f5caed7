"""What a connection's state machine asks its front-end to do.

Messages are what `received` returns, and bytes to send what `take_outgoing` returns, because they pass all the time.
Everything else is rarer, and is one of these values in `ConnectionState.effects`, to be performed in order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from natsvc.wire.options import ServerAddress

__all__ = ["Callback", "Closed", "Dial", "Disconnect", "Effect", "Notify", "Settle", "StartTls", "Waiter", "WakeAt"]

Waiter: TypeAlias = Callable[[Any], None]
"""Takes what was waited for, or the exception that came in its place. It may be told when nobody waits any more."""

Callback: TypeAlias = Literal["on_disconnect", "on_reconnect", "on_error", "on_lame_duck", "on_close"]
"""The callbacks that a connection's user may give."""


@dataclass(frozen=True, slots=True, eq=False)
class Dial:
    """Open a TCP connection, then call `dialled` or `dial_failed` with this number.

    Attributes:
        number: Which attempt it is. Whatever comes of an attempt after its Disconnect is ignored.
        address: Where to.
    """

    number: int
    address: ServerAddress


@dataclass(frozen=True, slots=True, eq=False)
class StartTls:
    """Begin TLS on the open connection, without reading from it in clear before; then call `tls_started` or `lost`.

    Attributes:
        number: Which attempt it is.
        server_name: The name that the server's certificate must be for.
    """

    number: int
    server_name: str


@dataclass(frozen=True, slots=True, eq=False)
class Disconnect:
    """End the attempt or the connection of this number.

    Attributes:
        number: Which attempt it is.
        last_words: What is still to be written before.
        in_order: Whether to write that, and all that has been handed over, before it ends; otherwise it ends at once.
    """

    number: int
    last_words: bytes = b""
    in_order: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class WakeAt:
    """Call `wake` at this time (nanoseconds) instead of at the time named before; None: not at all."""

    time: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Settle:
    """Tell a waiter what it has waited for."""

    waiter: Waiter
    outcome: Any


@dataclass(frozen=True, slots=True, eq=False)
class Notify:
    """Call one of the user's callbacks, if it was given.

    Attributes:
        callback: Which one.
        arguments: What it gets: `on_disconnect`, `on_error` and `on_close` an exception (or None), `on_reconnect` the
            server's URL, `on_lame_duck` nothing.
        is_told: Whether those whom it concerns are told by a Settle; otherwise it may concern every service.
    """

    callback: Callback
    arguments: tuple[Any, ...] = ()
    is_told: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Closed:
    """The connection is closed for good.

    Attributes:
        error: What closed it; None if its user did.
    """

    error: BaseException | None


Effect: TypeAlias = Dial | StartTls | Disconnect | WakeAt | Settle | Notify | Closed
