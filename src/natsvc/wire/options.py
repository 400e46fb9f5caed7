"""Where to connect and how: the options of a connection, plain values that are checked when they are made.

Names, defaults and meaning are those of ADR-40 and nats.go. Options hold secrets, and many of them end in logs; so no
repr shows one, and an error about a value that may hold one doesn't show the value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from natsvc.errors import ConfigError
from natsvc.wire.addresses import ServerAddress, is_text, parse_servers
from natsvc.wire.auth import HIDDEN, check_seed, load_nkeys, parse_creds
from natsvc.wire.commands import SEPARATORS

__all__ = ["DEFAULTS", "FLUSH_TIMEOUT", "MAX_PENDING_BYTES", "MAX_PENDING_MESSAGES", "ConnectOptions"]

FLUSH_TIMEOUT = 10.0
"""Seconds that a flush may take, unless the caller says otherwise."""

FAILED_LEAVE_TIMEOUT = 5.0
"""Seconds that leaving the block around a connection may take when it is left by an exception."""

MAX_PENDING_MESSAGES = 65_536
"""The most messages that wait to be taken, unless the user says otherwise."""

MAX_PENDING_BYTES = 64 * 1024 * 1024
"""The most bytes that they may have, unless the user says otherwise."""

MAX_SECONDS = 1_000_000_000
"""The longest time that an option may be, some thirty years."""

MAX_INBOX_PREFIX = 1024
"""So many bytes an inbox prefix may have: a command line of 4,096 must hold more than the reply subject."""

_WILDCARDS = frozenset("*>")


class ConnectOptions:
    """The options of a connection (ADR-40, "Client options").

    At most one of user (with password), token, nkey_seed and creds may be given; credentials in a URL come before them
    for that server. None means "not given" everywhere. All but the servers are given by their names, and none can be
    set afterwards.

    Attributes:
        servers: A URL, several separated by commas, or a sequence of URLs; see `parse_servers`.
        addresses: The servers that these URLs name; not to be given.
        name: What the server calls this connection in its monitoring.
        user: A user name.
        password: The user's password.
        token: A token, instead of a user.
        nkey_seed: The seed of a user's nkey, SUA…; needs the extra `natsvc[nkeys]`.
        creds: The content of a `.creds` file, which holds a JWT and a seed; needs the extra `natsvc[nkeys]`.
        tls: Demand TLS of every server, whether it demands it itself or not.
        tls_handshake_first: Start with the TLS handshake rather than wait for the server's INFO. TLS is then demanded.
        tls_hostname: The name that the certificates of all servers must be for. Default: each server's own.
        allow_reconnect: Connect again when a connection has broken. Off, the first break closes for good.
        max_reconnects: How many attempts at each server may fail between two connections. None: no limit.
        reconnect_wait: Seconds until a server is tried again. They double with each failure.
        reconnect_max_wait: Seconds that this doubling ends at. A longer reconnect_wait stays as it is.
        reconnect_jitter: Up to so many seconds are added at random.
        reconnect_jitter_tls: The same for servers of which TLS is demanded, for there a reconnect costs more.
        connect_timeout: Seconds that one attempt, handshake included, may take.
        retry_on_failed_connect: Go on as after a lost connection when no server could be connected to at first.
        ignore_auth_errors: Try again also where a server has refused the credentials twice in the same words.
        ignore_discovered_servers: Use the given servers only, and none that they name.
        randomize: Try the servers in random order.
        ping_interval: Seconds between two PINGs.
        max_pings_out: When so many PINGs are unanswered and the next one is due, the connection is stale.
        inbox_prefix: What the subjects of replies begin with: subject tokens without wildcards.
        no_echo: Don't receive what was published on this connection.
        reconnect_buffer: How many bytes may be published while disconnected. 0: none.
        max_inbound_payload: How many bytes of headers and data a message that comes in may have.
        max_pending_messages: How many messages may wait in one subscription.
        max_pending_bytes: How many bytes they may have.
        drain_timeout: Seconds that `drain()` may take.

    Raises:
        ConfigError: A value breaks one of these rules. It shows no secret.
        TypeError: There is no such option.
    """

    servers: str | Sequence[str]
    addresses: tuple[ServerAddress, ...]
    name: str | None = None
    user: str | None = None
    password: str | None = None
    token: str | None = None
    nkey_seed: str | bytes | None = None
    creds: str | bytes | None = None
    tls: bool = False
    tls_handshake_first: bool = False
    tls_hostname: str | None = None
    allow_reconnect: bool = True
    max_reconnects: int | None = None
    reconnect_wait: float = 2.0
    reconnect_max_wait: float = 30.0
    reconnect_jitter: float = 0.1
    reconnect_jitter_tls: float = 1.0
    connect_timeout: float = 2.0
    retry_on_failed_connect: bool = False
    ignore_auth_errors: bool = False
    ignore_discovered_servers: bool = False
    randomize: bool = True
    ping_interval: float = 120.0
    max_pings_out: int = 2
    inbox_prefix: str = "_INBOX"
    no_echo: bool = False
    reconnect_buffer: int = 8 * 1024 * 1024
    max_inbound_payload: int = 64 * 1024 * 1024
    max_pending_messages: int = MAX_PENDING_MESSAGES
    max_pending_bytes: int = MAX_PENDING_BYTES
    drain_timeout: float = 30.0

    def __init__(self, servers: str | Sequence[str], **given: Any) -> None:
        unknown = given.keys() - DEFAULTS.keys()
        if unknown:
            raise TypeError(f"ConnectOptions has no option {min(unknown)!r}")
        fields = vars(self)
        fields["servers"] = servers
        fields["addresses"] = parse_servers(servers, field=_named("servers"))
        for name, default in DEFAULTS.items():
            value = given.get(name)
            fields[name] = default if value is None else value
        _check_texts(self)
        _check_credentials(self)
        _check_switches(self)
        _check_numbers(self)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"ConnectOptions.{name} can't be set: options are what they were made with")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"ConnectOptions.{name} can't be deleted: options are what they were made with")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConnectOptions) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # the servers may be a list

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if name not in _SECRETS)
        return f"ConnectOptions({shown})"

    def requires_tls(self, address: ServerAddress) -> bool:
        """Whether a server may be talked to over TLS only, whatever its INFO says."""
        return self.tls or self.tls_handshake_first or address.scheme == "tls"

    def leave_timeout(self, error: BaseException | None) -> float | None:
        """Return how many seconds leaving the block may take; None: by cancellation or Ctrl-C, it closes at once."""
        if error is None:
            return self.drain_timeout
        return FAILED_LEAVE_TIMEOUT if isinstance(error, Exception) else None

    def tls_name(self, address: ServerAddress) -> str:
        """The name that a server's certificate must be for."""
        return self.tls_hostname or address.tls_name


DEFAULTS: Final[dict[str, Any]] = {
    name: getattr(ConnectOptions, name) for name in ConnectOptions.__annotations__ if hasattr(ConnectOptions, name)
}
"""The options that need not be given, with what they are then."""

_SECRETS = ("servers", "password", "token", "nkey_seed", "creds")
"""What holds a secret, or may."""


def _named(name: str) -> str:
    return f"ConnectOptions.{name}"


def _check_texts(options: ConnectOptions) -> None:
    for name in ("name", "user", "password", "token", "tls_hostname"):
        value = getattr(options, name)
        shown = HIDDEN if name in ("password", "token") else value
        if value is not None and not is_text(value):
            raise ConfigError(_named(name), shown, "must be a str with a UTF-8 form")
        if value == "" and name != "password":
            raise ConfigError(_named(name), shown, "must not be empty: leave it out (or None)")
    if options.tls_hostname is not None and not SEPARATORS.isdisjoint(options.tls_hostname):
        raise ConfigError(_named("tls_hostname"), options.tls_hostname, "must not contain blanks or control characters")
    prefix = options.inbox_prefix
    if not is_text(prefix) or not all(prefix.split(".")) or not (SEPARATORS | _WILDCARDS).isdisjoint(prefix):
        raise ConfigError(_named("inbox_prefix"), prefix, "must be subject tokens between single dots, no * and no >")
    if len(prefix.encode()) > MAX_INBOX_PREFIX:
        raise ConfigError(_named("inbox_prefix"), prefix, f"must not be longer than {MAX_INBOX_PREFIX} bytes")


def _check_credentials(options: ConnectOptions) -> None:
    if options.password is not None and options.user is None:
        raise ConfigError(_named("password"), HIDDEN, "must have a user with it")
    ways = [name for name in ("user", "token", "nkey_seed", "creds") if getattr(options, name) is not None]
    if len(ways) > 1:
        raise ConfigError(_named(ways[1]), HIDDEN, f"must not be given together with {ways[0]}: one of them is enough")
    if options.nkey_seed is not None:
        check_seed(_named("nkey_seed"), options.nkey_seed)
        load_nkeys(_named("nkey_seed"))
    if options.creds is not None:
        parse_creds(options.creds, field=_named("creds"))
        load_nkeys(_named("creds"))


def _check_switches(options: ConnectOptions) -> None:
    for name, default in DEFAULTS.items():
        value = getattr(options, name)
        if isinstance(default, bool) and not isinstance(value, bool):
            raise ConfigError(_named(name), value, "must be True or False")


def _check_numbers(options: ConnectOptions) -> None:
    for name in ("connect_timeout", "ping_interval", "drain_timeout"):
        value = getattr(options, name)
        if not _is_number(value, int, float) or not 0 < value <= MAX_SECONDS:
            raise ConfigError(_named(name), value, f"must be seconds, greater than 0 and at most {MAX_SECONDS}")
    for name in ("reconnect_wait", "reconnect_max_wait", "reconnect_jitter", "reconnect_jitter_tls"):
        value = getattr(options, name)
        if not _is_number(value, int, float) or not 0 <= value <= MAX_SECONDS:
            raise ConfigError(_named(name), value, f"must be seconds, at least 0 and at most {MAX_SECONDS}")
    for name, least in (
        ("max_pings_out", 1),
        ("reconnect_buffer", 0),
        ("max_inbound_payload", 1),
        ("max_pending_messages", 1),
        ("max_pending_bytes", 1),
    ):
        value = getattr(options, name)
        if not _is_number(value, int) or value < least:
            raise ConfigError(_named(name), value, f"must be an int of at least {least}")
    most = options.max_reconnects
    if most is not None and (not _is_number(most, int) or most < 0):
        raise ConfigError(_named("max_reconnects"), most, "must be an int of at least 0, or None: no limit")


def _is_number(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)
