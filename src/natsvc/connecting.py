"""What every front-end does alike before it connects: read the credentials, make the TLS context, sort the options.

It stands between front-ends and the wire, because it reads files, which a state machine doesn't.
"""

# No `from __future__ import annotations`, for TypedDict compiles every annotation that is a text: all of them together
# take as long as a connection to be made.

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, cast, get_args

from natsvc.errors import ConfigError
from natsvc.wire.effects import Callback
from natsvc.wire.options import ConnectOptions
from natsvc.wire.values import Value

if TYPE_CHECKING:
    from ssl import SSLContext
else:
    SSLContext = object  # ssl takes its time to be loaded, and most connections don't need it

__all__ = ["DEFAULT_SERVER", "ConnectArguments", "Preparation", "prepare", "require_own"]

DEFAULT_SERVER = "nats://127.0.0.1:4222"
"""The server that is connected to unless another is given."""

_CREDS_MARK = "-----BEGIN NATS USER JWT-----"


class ConnectArguments(TypedDict, total=False):
    """The options of `connect`, beside the servers (ADR-40). Times are in seconds, sizes in bytes.

    Attributes:
        name: What the server calls the connection in its monitoring. Default: nothing.
        user: The user. Credentials in a server's URL override those given here.
        password: The user's password.
        token: The token, where the server asks for one.
        nkey_seed: The user's nkey seed (`SU…`); needs `pip install 'natsvc[nkeys]'`.
        creds: The path of a .creds file, or its content; needs `pip install 'natsvc[nkeys]'`.
        tls: True demands TLS, with the system's certificate authorities; a context, with what it says of authorities
            and client certificates. Default: TLS where the server or the URL (`tls://`) asks for it.
        tls_hostname: The name that the server's certificate must be for. Default: the host of its URL.
        tls_handshake_first: Begin TLS before the server has said anything, as its `handshake_first` asks. Default: no.
        max_reconnects: How often in a row a server may fail before it is given up. Default: for ever.
        allow_reconnect: Whether to connect anew when the connection is lost. Default: yes.
        reconnect_wait: The time before a server is tried again; it grows while none can be reached. Default: 2.
        reconnect_max_wait: The time that it grows to. Default: 30.
        reconnect_jitter: The most that chance adds to it, so that not all clients come at once. Default: 0.1.
        reconnect_jitter_tls: The same for connections with TLS, which are dearer to make. Default: 1.
        reconnect_buffer: The most that is kept of what is published while disconnected. Default: 8 MiB.
        connect_timeout: The time that one attempt at one server may take. Default: 2.
        retry_on_failed_connect: Go on trying in the background if the first round of attempts fails. Default: no.
        ping_interval: The time between two PINGs that show whether the server is still there. Default: 120.
        max_pings_out: So many unanswered ones mean that it is not, when the next one is due. Default: 2.
        ignore_discovered_servers: Use only the servers that were given, not those a cluster announces. Default: no.
        randomize: Try the servers in random order. Default: yes.
        ignore_auth_errors: Go on trying when a server refuses the credentials twice running. Default: no.
        inbox_prefix: What the subjects for answers begin with. Default: `_INBOX`.
        no_echo: Don't get what the connection itself has published. Default: no.
        max_inbound_payload: The largest message that is taken from a server. Default: 64 MiB.
        max_pending_messages: The most messages that wait in one subscription. Default: 65,536.
        max_pending_bytes: The most bytes that wait in one subscription. Default: 64 MiB.
        drain_timeout: The time that `drain`, and leaving the block, may take. Default: 30.
        on_disconnect: Called with the cause (None if it was asked for) when the connection is lost.
        on_reconnect: Called with the server's URL when it is there again.
        on_error: Called with an error that concerns no call: refused permissions, a slow subscription, the server's.
        on_lame_duck: Called without arguments when the server is about to shut down.
        on_close: Called with the cause (None if it was asked for) when the connection is closed for good.
    """

    name: str | None
    user: str | None
    password: str | None
    token: str | None
    nkey_seed: str | bytes | None
    creds: str | bytes | os.PathLike[str] | None
    tls: bool | SSLContext | None
    tls_hostname: str | None
    tls_handshake_first: bool
    max_reconnects: int | None
    allow_reconnect: bool
    reconnect_wait: float
    reconnect_max_wait: float
    reconnect_jitter: float
    reconnect_jitter_tls: float
    reconnect_buffer: int
    connect_timeout: float
    retry_on_failed_connect: bool
    ping_interval: float
    max_pings_out: int
    ignore_discovered_servers: bool
    randomize: bool
    ignore_auth_errors: bool
    inbox_prefix: str
    no_echo: bool
    max_inbound_payload: int
    max_pending_messages: int
    max_pending_bytes: int
    drain_timeout: float
    on_disconnect: Callable[[BaseException | None], Any] | None
    on_reconnect: Callable[[str], Any] | None
    on_error: Callable[[BaseException], Any] | None
    on_lame_duck: Callable[[], Any] | None
    on_close: Callable[[BaseException | None], Any] | None


_CALLBACKS: tuple[Callback, ...] = get_args(Callback)


class Preparation(Value):
    """All that a front-end needs to connect.

    Attributes:
        options: What the state machine needs.
        tls_context: The user's TLS context, if there is one.
        callbacks: The user's callbacks, by the names of their options.
    """

    __slots__ = ("callbacks", "options", "tls_context")

    def __init__(
        self, options: ConnectOptions, tls_context: SSLContext | None, callbacks: dict[Callback, Callable[..., Any]]
    ) -> None:
        self.options = options
        self.tls_context = tls_context
        self.callbacks = callbacks

    def make_tls_context(self) -> SSLContext:
        """Return the user's TLS context, or one with the system's certificate authorities."""
        if self.tls_context is not None:
            return self.tls_context
        import ssl

        return ssl.create_default_context()


def prepare(servers: str | Sequence[str] | None, arguments: ConnectArguments) -> Preparation:
    """Sort and check what `connect` was given.

    Raises:
        ConfigError: An option breaks a rule, is unknown, or the .creds file can't be read.
    """
    # None always means "not given".
    servers = DEFAULT_SERVER if servers is None else servers
    given: dict[str, Any] = {name: value for name, value in arguments.items() if value is not None}
    unknown = given.keys() - ConnectArguments.__annotations__.keys()
    if unknown:
        name = min(unknown)
        raise ConfigError(f"connect({name}=...)", "", "is no option of a connection")
    callbacks = {name: given.pop(name) for name in _CALLBACKS if name in given}
    for name, callback in callbacks.items():
        if not callable(callback):
            raise ConfigError(name, callback, "must be a function")
    tls = given.pop("tls", False)
    if not isinstance(tls, bool) and not _is_tls_context(tls):
        raise ConfigError("tls", tls, "must be True, False or an ssl.SSLContext")
    if "creds" in given:
        given["creds"] = _read_creds(given["creds"])
    options = ConnectOptions(servers, tls=tls is not False, **given)
    return Preparation(options, None if isinstance(tls, bool) else tls, callbacks)


def require_own(nc: object, kind: type[object], front_end: str) -> None:
    """Check that a connection is of the front-end that it is given to.

    Args:
        nc: The connection.
        kind: What it must be.
        front_end: The front-end, such as `natsvc.sync`.

    Raises:
        TypeError: It is of another front-end, or no connection at all.
    """
    if isinstance(nc, kind):
        return
    theirs = type(nc).__module__.removesuffix(".connection")
    if theirs.startswith("natsvc."):
        raise TypeError(f"nc is a connection of {theirs}, not of {front_end}: take everything from {theirs}")
    raise TypeError(
        f"nc must be a connection made by {front_end}.connect, not {type(nc).__module__}.{type(nc).__name__}"
    )


def _is_tls_context(value: object) -> bool:
    # If ssl isn't loaded, nobody has a context of it.
    return "ssl" in sys.modules and isinstance(value, sys.modules["ssl"].SSLContext)


def _read_creds(creds: object) -> str:
    text = creds.decode("utf-8", "replace") if isinstance(creds, bytes) else creds
    if isinstance(text, str) and _CREDS_MARK in text:
        return text
    if not isinstance(text, (str, os.PathLike)):
        raise ConfigError("creds", f"<{type(creds).__name__}>", "must be the path of a .creds file, or its content")
    from pathlib import Path

    try:
        return Path(cast("str", text)).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        # The value may be the content of a file, with a secret in it: so it isn't shown.
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise ConfigError("creds", "<not shown>", f"must be a file that can be read: {reason}") from None
