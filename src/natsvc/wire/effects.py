"""What a connection's state machine asks its front-end to do.

Messages are what `received` returns, and bytes to send what `take_outgoing` returns, because they pass all the time.
Everything else is rarer, and is one of these values in `ConnectionState.effects`, to be performed in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from natsvc.wire.values import Value

if TYPE_CHECKING:
    from natsvc.wire.addresses import ServerAddress

__all__ = ["Callback", "Closed", "Dial", "Disconnect", "Effect", "Notify", "Settle", "StartTls", "Waiter", "WakeAt"]

Waiter: TypeAlias = Callable[[Any], None]
"""Takes what was waited for, or the exception that came in its place. It may be told when nobody waits any more."""

Callback: TypeAlias = Literal["on_disconnect", "on_reconnect", "on_error", "on_lame_duck", "on_close"]
"""The callbacks that a connection's user may give."""


class Dial(Value):
    """Open a TCP connection, then call `dialled` or `dial_failed` with this number.

    Attributes:
        number: Which attempt it is. Whatever comes of an attempt after its Disconnect is ignored.
        address: Where to.
    """

    __slots__ = __match_args__ = ("number", "address")

    def __init__(self, number: int, address: ServerAddress) -> None:
        self.number = number
        self.address = address


class StartTls(Value):
    """Begin TLS on the open connection, without reading from it in clear before; then call `tls_started` or `lost`.

    Attributes:
        number: Which attempt it is.
        server_name: The name that the server's certificate must be for.
    """

    __slots__ = __match_args__ = ("number", "server_name")

    def __init__(self, number: int, server_name: str) -> None:
        self.number = number
        self.server_name = server_name


class Disconnect(Value):
    """End the attempt or the connection of this number.

    Attributes:
        number: Which attempt it is.
        last_words: What is still to be written before.
        in_order: Whether to write that, and all that has been handed over, before it ends; otherwise it ends at once.
    """

    __slots__ = __match_args__ = ("number", "last_words", "in_order")

    def __init__(self, number: int, last_words: bytes = b"", in_order: bool = False) -> None:
        self.number = number
        self.last_words = last_words
        self.in_order = in_order


class WakeAt(Value):
    """Call `wake` at this time (nanoseconds) instead of at the time named before; None: not at all."""

    __slots__ = __match_args__ = ("time",)

    def __init__(self, time: int | None) -> None:
        self.time = time


class Settle(Value):
    """Tell a waiter what it has waited for."""

    __slots__ = __match_args__ = ("waiter", "outcome")

    def __init__(self, waiter: Waiter, outcome: Any) -> None:
        self.waiter = waiter
        self.outcome = outcome


class Notify(Value):
    """Call one of the user's callbacks, if it was given.

    Attributes:
        callback: Which one.
        arguments: What it gets: `on_disconnect`, `on_error` and `on_close` an exception (or None), `on_reconnect` the
            server's URL, `on_lame_duck` nothing.
        is_told: Whether those whom it concerns are told by a Settle; otherwise it may concern every service.
    """

    __slots__ = __match_args__ = ("callback", "arguments", "is_told")

    def __init__(self, callback: Callback, arguments: tuple[Any, ...] = (), is_told: bool = False) -> None:
        self.callback = callback
        self.arguments = arguments
        self.is_told = is_told


class Closed(Value):
    """The connection is closed for good.

    Attributes:
        error: What closed it; None if its user did.
    """

    __slots__ = __match_args__ = ("error",)

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


Effect: TypeAlias = Dial | StartTls | Disconnect | WakeAt | Settle | Notify | Closed
