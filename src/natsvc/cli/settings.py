"""How a command reaches the server: what was given, completed by the nats CLI's context, as arguments for `connect`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from natsvc.cli.context import Context
    from natsvc.sync import Connection

__all__ = ["DEFAULT_TIMEOUT", "ConnectionSettings"]

DEFAULT_TIMEOUT = 5.0
"""Seconds to wait for answers, as the nats CLI does."""

_CONNECT_TIMEOUT = 2.0
_CONNECTION_NAME = "natsvc command"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """What the connection options of a command say; None means "not given".

    Attributes:
        server: URLs, separated by commas.
        user: A user; without a password it is a token, as in the nats CLI.
        password: The user's password.
        token: A token.
        nkey: The path of a file that holds the seed of a user's nkey.
        creds: The path of a .creds file.
        tlsca: The path of the certificate authorities that servers' certificates must come from.
        tlscert: The path of the client's certificate.
        tlskey: The path of its private key.
        tlsfirst: Begin with the TLS handshake, before the server has said anything.
        inbox_prefix: What the subjects for answers begin with.
        context: The name of a context of the nats CLI, or the path of its file. None: the one that is selected.
        no_context: Use no context, not even the one that is selected.
        timeout: Seconds to wait for answers.
    """

    server: str | None = field(default=None, repr=False)
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    nkey: str | None = None
    creds: str | None = None
    tlsca: str | None = None
    tlscert: str | None = None
    tlskey: str | None = None
    tlsfirst: bool = False
    inbox_prefix: str | None = None
    context: str | None = None
    no_context: bool = False
    timeout: float = DEFAULT_TIMEOUT

    def arguments(self) -> dict[str, Any]:
        """Return the arguments for the `connect` of any front-end.

        What was given wins over the context: credentials as a whole, everything else one by one. A password alone is
        that of the context's user.

        Raises:
            CommandError: A file can't be read, or the context asks for what natsvc doesn't have.
        """
        from natsvc.cli.context import Context
        from natsvc.cli.credentials import make_tls_context

        context = self._load_context() or Context()
        arguments: dict[str, Any] = {
            "servers": self.server or context.url,
            "name": _CONNECTION_NAME,
            "tls": make_tls_context(self.tlsca or context.ca, self.tlscert or context.cert, self.tlskey or context.key),
            "tls_handshake_first": self.tlsfirst or context.tls_first,
            "inbox_prefix": self.inbox_prefix or context.inbox_prefix,
            "connect_timeout": min(self.timeout, _CONNECT_TIMEOUT),
            **self._credentials(context),
        }
        return {name: value for name, value in arguments.items() if value is not None}

    def connect(self) -> Connection:
        """Connect, with blocking threads.

        Raises:
            CommandError: As `arguments`.
            NatsvcError: What `natsvc.sync.connect` raises.
        """
        from natsvc.cli.output import log_to_stderr
        from natsvc.sync import connect

        log_to_stderr()
        return connect(**self.arguments())

    def _load_context(self) -> Context | None:
        from natsvc.cli.context import load_context

        return None if self.no_context else load_context(self.context)

    def _credentials(self, context: Context) -> dict[str, Any]:
        from natsvc.cli.credentials import find_seed, normal_creds, read_text

        is_token = self.user is not None and self.password is None
        nkey, creds = f"--nkey: {self.nkey}", f"--creds: {self.creds}"
        given = {
            "user": None if is_token else self.user,
            "password": self.password,
            "token": self.user if is_token and self.token is None else self.token,
            "nkey_seed": None if self.nkey is None else find_seed(nkey, read_text("--nkey", self.nkey)),
            "creds": None if self.creds is None else normal_creds(creds, read_text("--creds", self.creds)),
        }
        credentials = {name: value for name, value in given.items() if value is not None}
        if not credentials:
            return context.credentials()
        if credentials.keys() == {"password"} and context.user is not None:
            credentials["user"] = context.user
        return credentials
