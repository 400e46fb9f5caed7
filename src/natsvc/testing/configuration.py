"""What a nats-server is told: options that are checked when they are given, and the text that they become.

The server's language is forgiving: of two settings the later counts, a word may be a string or a variable, and a
mistake shows far from where it was made. So what tests often need are options, and a value can't end its string.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TypeAlias

from natsvc.errors import ConfigError
from natsvc.wire.auth import HIDDEN

__all__ = ["CHOSEN_BY_SERVER", "HOST", "ServerCluster", "ServerOptions", "ServerTLS", "check_name"]

HOST = "127.0.0.1"
"""Where everything listens that the tests start: nobody else can reach it."""

CHOSEN_BY_SERVER = -1
"""As a port: nats-server asks the system for a free one, and nobody can take it in between."""

StrPath: TypeAlias = str | os.PathLike[str]

_NAME = re.compile(r"[^\x00-\x20\x7f]+")
_ESCAPED = re.compile(r'[\x00-\x1f\x7f"\\]')
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class ServerTLS:
    """The TLS of a nats-server for its clients. All files are PEM; a relative path is made absolute at once.

    Attributes:
        certificate: The file of the server's certificate, and of what leads from it to the authority.
        key: The file of its private key. Default: it is in the file of the certificate.
        ca: The file of the authorities whose clients are let in. Default: none.
        verify: Whether clients must show a certificate, which one of `ca` has signed. Default: no.
        handshake_first: Whether TLS comes before the server's greeting, which clients must know. Default: no.

    Raises:
        ConfigError: Something is of the wrong type, or `verify` has no `ca`.
    """

    certificate: StrPath
    key: StrPath | None = None
    _: KW_ONLY
    ca: StrPath | None = None
    verify: bool = False
    handshake_first: bool = False

    def __post_init__(self) -> None:
        _set(self, "certificate", _absolute("ServerTLS.certificate", self.certificate))
        for name in ("key", "ca"):
            if (path := getattr(self, name)) is not None:
                _set(self, name, _absolute(f"ServerTLS.{name}", path))
        for name in ("verify", "handshake_first"):
            _check_bool(f"ServerTLS.{name}", getattr(self, name))
        if self.verify and self.ca is None:
            raise ConfigError("ServerTLS.verify", self.verify, "must have a ca with it: whose clients are let in")


@dataclass(frozen=True, slots=True)
class ServerCluster:
    """The place of a nats-server in a cluster; [NatsCluster][natsvc.testing.NatsCluster] makes them for its servers.

    Attributes:
        name: The name of the cluster, the same for all of its servers, without blanks.
        port: The port for routes from the others.
        routes: The ports for routes of servers that this one connects to. They tell it of the others. Default: none,
            it waits for others to come.

    Raises:
        ConfigError: The name has blanks, or something is of the wrong type.
    """

    name: str
    port: int
    routes: Sequence[int] = ()

    def __post_init__(self) -> None:
        check_name("ServerCluster.name", self.name)
        _check_port("ServerCluster.port", self.port)
        if not isinstance(self.routes, Sequence):
            raise ConfigError("ServerCluster.routes", self.routes, "must be a sequence of ports")
        _set(self, "routes", tuple(self.routes))
        for index, port in enumerate(self.routes):
            _check_port(f"ServerCluster.routes[{index}]", port)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """All that a server is told, as [NatsServer][natsvc.testing.NatsServer] explains it.

    Raises:
        ConfigError: A value is of the wrong type or breaks a rule, or two don't go together.
    """

    config: str | None = field(default=None, repr=False)
    port: int | None = None
    name: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    tls: ServerTLS | None = None
    jetstream: bool = False
    cluster: ServerCluster | None = None

    def __post_init__(self) -> None:
        if self.config is not None:
            if not isinstance(self.config, str):
                rule = "must be a str: the text, not the path of a file"
                raise ConfigError("NatsServer.config", type(self.config), rule)
            _check_encodable("NatsServer.config", self.config, HIDDEN)
        if self.port is not None:
            _check_port("NatsServer.port", self.port)
        if self.name is not None:
            check_name("NatsServer.name", self.name)
        for name in ("user", "password", "token"):
            if (value := getattr(self, name)) is not None:
                _check_text(f"NatsServer.{name}", value, is_secret=name != "user")
        if self.user is None and self.password is not None:
            raise ConfigError("NatsServer.password", HIDDEN, "must have a user with it")
        if self.user is not None and self.password is None:
            raise ConfigError("NatsServer.user", self.user, "must have a password with it")
        if self.user is not None and self.token is not None:
            raise ConfigError("NatsServer.token", HIDDEN, "must not be given together with a user")
        for name, kind in (("tls", ServerTLS), ("cluster", ServerCluster)):
            if not isinstance(value := getattr(self, name), kind | None):
                raise ConfigError(f"NatsServer.{name}", value, f"must be a {kind.__name__}")
        _check_bool("NatsServer.jetstream", self.jetstream)

    def text(self, *, store: Path) -> str:
        """Return the text of the configuration file.

        The ports are not in it, and neither are name and JetStream on the command line: there, nats-server forgets them
        in a reload, and refuses it for a change of the name or ends JetStream.

        Args:
            store: The directory of JetStream's store.
        """
        # `config` begins on the first line, so that the line numbers in the server's complaints are those of that text.
        # Of two settings the later counts: a `jetstream` block in it, which has limits, but none of the other options.
        parts = [f"jetstream: enabled; {self.config or ''}" if self.jetstream else self.config or ""]
        if self.jetstream:
            parts.append(f"store_dir: {_quoted_path(store)}")
        if self.name is not None:
            parts.append(f"server_name: {_quoted(self.name)}")
        if self.user is not None and self.password is not None:
            lines = [f"user: {_quoted(self.user)}", f"password: {_quoted(self.password)}"]
            parts.append(_block("authorization", lines))
        if self.token is not None:
            parts.append(_block("authorization", [f"token: {_quoted(self.token)}"]))
        if self.tls is not None:
            parts.append(_tls_block(self.tls))
        if self.cluster is not None:
            parts.append(_cluster_block(self.cluster))
        # The command line can't set the monitoring's host.
        parts.append(f"http: {_quoted(f'{HOST}:{CHOSEN_BY_SERVER}')}")
        return "\n".join([*parts, ""])


def check_name(name: str, value: object) -> None:
    """Check the name of a server or a cluster.

    Args:
        name: What it is called in the error.
        value: What was given.

    Raises:
        ConfigError: It is not a str, empty, or has blanks, which nats-server refuses.
    """
    _check_text(name, value)
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ConfigError(name, value, "must not contain blanks or control characters")


def _tls_block(tls: ServerTLS) -> str:
    certificate = _quoted_path(tls.certificate)
    lines = [f"cert_file: {certificate}", f"key_file: {_quoted_path(tls.key) if tls.key else certificate}"]
    if tls.ca is not None:
        lines.append(f"ca_file: {_quoted_path(tls.ca)}")
    lines += [f"{name}: true" for name in ("verify", "handshake_first") if getattr(tls, name)]
    return _block("tls", lines)


def _cluster_block(cluster: ServerCluster) -> str:
    listen = _quoted(f"{HOST}:{cluster.port}")
    routes = ", ".join(_quoted(f"nats://{HOST}:{port}") for port in cluster.routes)
    return _block("cluster", [f"name: {_quoted(cluster.name)}", f"listen: {listen}", f"routes: [{routes}]"])


def _block(name: str, lines: Sequence[str]) -> str:
    return "\n".join([f"{name} {{", *(f"    {line}" for line in lines), "}"])


def _quoted(text: str) -> str:
    # In quotes, nats-server knows \xHH, \\ and \" among others, and expands no variable.
    return f'"{_ESCAPED.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return f"\\{character}" if character in '"\\' else f"\\x{ord(character):02x}"


def _quoted_path(path: StrPath) -> str:
    return _quoted(Path(path).as_posix())


def _absolute(name: str, path: object) -> Path:
    # The server would read it from the directory that this process happens to be in at each start.
    if not isinstance(path, (str, os.PathLike)) or not isinstance(text := os.fspath(path), str):
        raise ConfigError(name, path, "must be the path of a file")
    _check_text(name, text)
    return Path(text).absolute()


def _check_text(name: str, text: object, *, is_secret: bool = False) -> None:
    shown = HIDDEN if is_secret else text
    if not isinstance(text, str):
        raise ConfigError(name, shown, "must be a str")
    if not text:
        raise ConfigError(name, shown, "must not be empty")
    _check_encodable(name, text, shown)


def _check_encodable(name: str, text: str, shown: object) -> None:
    # Searched for and not tried: the exception of a failed attempt has the whole text, and would be this one's context.
    if _SURROGATE.search(text):
        raise ConfigError(name, shown, "must have a UTF-8 form")


def _check_bool(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigError(name, value, "must be True or False")


def _check_port(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 65536:
        raise ConfigError(name, value, "must be an int from 1 to 65535")


def _set(instance: object, name: str, value: object) -> None:
    object.__setattr__(instance, name, value)  # frozen: this is its making
