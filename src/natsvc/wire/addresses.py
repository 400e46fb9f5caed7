"""Servers by their URLs: where they are, and what a URL says of how to connect to them.

A URL may hold a secret, and many end in logs; so no repr shows one, and an error about a URL that may hold one doesn't
show the URL.

Modules that only some servers' URLs need are imported where they are needed: they take longer to load than all of this.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from natsvc.errors import ConfigError
from natsvc.wire.auth import HIDDEN
from natsvc.wire.commands import SEPARATORS
from natsvc.wire.values import Value

__all__ = ["DEFAULT_PORT", "ServerAddress", "discovered_server", "is_text", "parse_servers"]

DEFAULT_PORT = 4222
"""Where a NATS server listens when nobody says otherwise."""

_MAY_HOLD_SECRET = re.compile(r"@|:(?!//)(?![0-9]*$)")  # credentials, or what follows a colon and is no port
_PERCENT_ENCODED = r"(?:[^%]|%[0-9A-Fa-f]{2})*"
_LONGEST_LABEL = 63
_LONGEST_PORT = 5


class ServerAddress(Value):
    """A server: where it is, and what its URL says of how to connect to it.

    Attributes:
        scheme: "nats" or "tls"; the latter demands TLS of this server.
        host: A host name, or an IP address without brackets.
        port: The TCP port.
        user: The user name of the URL, percent-decoded, or None.
        password: Its password, or None. May be empty.
        token: Its token: what stands before an @ without a colon, or None.
        tls_name: The name that the server's certificate must be for. Default: the host.
    """

    __slots__ = ("host", "password", "port", "scheme", "tls_name", "token", "user")

    def __init__(
        self,
        scheme: str,
        host: str,
        port: int = DEFAULT_PORT,
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        tls_name: str = "",
    ) -> None:
        self.scheme = scheme
        self.host = host
        self.port = port
        self.user = user
        self.password = password
        self.token = token
        self.tls_name = tls_name or host

    @property
    def url(self) -> str:
        """The URL without credentials, for people and logs."""
        host = f"[{self.host.replace('%', '%25')}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def has_credentials(self) -> bool:
        """Whether the URL has a user or a token."""
        return self.user is not None or self.token is not None

    def __repr__(self) -> str:
        return f"<ServerAddress {self.url}>"


def parse_servers(servers: str | Sequence[str], *, field: str = "servers") -> tuple[ServerAddress, ...]:
    """Return the servers that URLs name, each once, in their order.

    A URL is `host`, `host:port`, or either with `nats://` or `tls://`, and with `user:password@` or `token@` before the
    host, where special characters are percent-encoded. IPv6 addresses stand in brackets. The default port is 4222.

    Args:
        servers: One URL, several separated by commas, or a sequence of URLs.
        field: What it is called in an error.

    Raises:
        ConfigError: There is no URL, or one of them can't be read. It doesn't show a URL that has credentials.
    """
    hidden = False
    if isinstance(servers, str):
        urls: Sequence[object] = [url for one in servers.split(",") if (url := one.strip(" "))]
        hidden = "@" in servers  # a comma in a password splits it
    elif isinstance(servers, Sequence) and not isinstance(servers, (bytes, bytearray, memoryview)):
        urls = servers
    else:
        raise ConfigError(field, type(servers), "must be a URL, or a sequence of URLs")
    if not urls:
        raise ConfigError(field, servers, "must have at least one URL")
    return tuple(dict.fromkeys(_parse(f"{field}[{index}]", url, hidden=hidden) for index, url in enumerate(urls)))


def discovered_server(url: object, learned_from: ServerAddress, *, in_clear: bool = False) -> ServerAddress:
    """Return a server of an INFO's `connect_urls`.

    It inherits scheme and credentials of the server that named it, and if it is an IP address, which certificates
    rarely hold, its TLS name too (as in nats.go). One that was named in clear always inherits the TLS name: otherwise
    whoever sits in between could name a host of theirs, and be sent the credentials.

    Args:
        url: An entry of `connect_urls`: `host:port`.
        learned_from: The server that sent the INFO.
        in_clear: Whether the INFO came before the TLS that the connection has.

    Raises:
        ConfigError: It is not of that form.
    """
    if not isinstance(url, str) or "@" in url or "://" in url:
        raise ConfigError("connect_urls", HIDDEN, "must be host:port")
    found = _parse("connect_urls", f"{learned_from.scheme}://{url}")
    return ServerAddress(
        found.scheme,
        found.host,
        found.port,
        learned_from.user,
        learned_from.password,
        learned_from.token,
        learned_from.tls_name if in_clear or _is_ip_address(found.host) else found.host,
    )


def is_text(value: object) -> bool:
    """Whether it is a str that has a UTF-8 form."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parse(where: str, url: object, *, hidden: bool = False) -> ServerAddress:
    if not isinstance(url, str):
        raise ConfigError(where, type(url), "must be a str: a URL")
    hidden = hidden or _MAY_HOLD_SECRET.search(url) is not None
    shown = HIDDEN if hidden else url
    if not SEPARATORS.isdisjoint(url):
        raise ConfigError(where, shown, "must not contain blanks or control characters")
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "nats", url
    scheme = scheme.lower()
    if scheme in ("ws", "wss"):
        raise ConfigError(where, shown, "must begin with nats:// or tls://; WebSocket is not supported")
    if scheme not in ("nats", "tls"):
        raise ConfigError(where, shown, "must begin with nats:// or tls://, or with the host")
    authority, _, path = rest.partition("/")
    if path:
        raise ConfigError(where, shown, "must end with host and port; within credentials, / is written as %2F")
    credentials, at, location = authority.rpartition("@")
    user, password, token = _parse_credentials(where, credentials) if at else (None, None, None)
    host, port = _parse_location(where, location, hidden=hidden)
    return ServerAddress(scheme, host, port, user, password, token)


def _parse_credentials(where: str, credentials: str) -> tuple[str | None, str | None, str | None]:
    """Return user, password and token."""
    first, colon, second = credentials.partition(":")
    parts = [_percent_decoded(one) for one in (first, second)]
    if None in parts:
        raise ConfigError(where, HIDDEN, "must have credentials that are UTF-8, percent-encoded; % is written as %25")
    if not parts[0]:
        raise ConfigError(where, HIDDEN, "must have a user or a token before its @")
    return (parts[0], parts[1], None) if colon else (None, None, parts[0])


def _percent_decoded(text: str) -> str | None:
    # None rather than an exception: one that tells what can't be decoded would carry a secret along.
    if not re.fullmatch(_PERCENT_ENCODED, text) or not is_text(text):
        return None
    from urllib.parse import unquote_to_bytes

    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        return None


def _parse_location(where: str, location: str, *, hidden: bool) -> tuple[str, int]:
    """Return host and port.

    A port that is none may be a password whose host is missing, so an error doesn't show it.
    """
    bracket = location.startswith("[")
    if bracket:
        name, closing, behind = location[1:].partition("]")
        host = _ipv6_address(name.replace("%25", "%", 1)) if closing else None
        colon, port = behind[:1], behind[1:]
    else:
        name, colon, port = location.partition(":")
        host = name.lower() if _is_host_name(name) else None
    if host is None:
        rule = "must have a host: a name, an IPv4 address, or an IPv6 address in brackets"
        raise ConfigError(where, HIDDEN if hidden or (colon and not bracket) else location, rule)
    if colon not in ("", ":") or (port and not _is_port(port)):
        rule = "must be followed by nothing or a port from 1 to 65535; an IPv6 address stands in brackets"
        raise ConfigError(where, HIDDEN if hidden else host, rule)
    return host, int(port) if port else DEFAULT_PORT


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _LONGEST_PORT and 0 < int(text) < 65536


def _is_host_name(name: str) -> bool:
    labels = name.removesuffix(".").split(".")
    if not all(labels) or not all(one.isalnum() or one in "-_." for one in name):
        return False
    if name.isascii():  # as nearly always: then the codec below, which takes its time to be loaded, looks at this alone
        return max(map(len, labels)) <= _LONGEST_LABEL
    try:
        name.encode("idna")  # what the system's resolver will be asked for
    except UnicodeError:
        return False
    return True


def _ipv6_address(text: str) -> str | None:
    import ipaddress

    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        return None


def _is_ip_address(host: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
