"""The contexts of the nats CLI (ADR-21): named sets of connection settings, one JSON file each.

They are only read here; `nats context` makes, selects and edits them.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from natsvc.cli.credentials import expand, find_seed, format_creds, normal_creds, read_referenced, resolve
from natsvc.cli.output import CommandError

__all__ = ["Context", "load_context"]

_NAME = re.compile(r"[^/\\\x00-\x1f]+")
_PLACE = ("url", "cert", "key", "ca", "inbox_prefix")
_CREDENTIALS = ("user", "password", "token", "nkey", "creds", "user_jwt", "user_seed")
_NOT_SUPPORTED = {
    "nsc": "looks up credentials with nsc: name the .creds file in its creds instead",
    "socks_proxy": "asks for a SOCKS proxy, which natsvc can't use",
    "windows_cert_store": "takes certificates from a Windows store, which natsvc can't read",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a context says, with the names of ADR-21; None where it says nothing.

    Attributes:
        label: What it is called in an error.
        url: The servers' URLs, separated by commas.
        tls_first: Whether to begin with the TLS handshake.
        inbox_prefix: What the subjects for answers begin with.
        ca: The file of the certificate authorities.
        cert: The file of the client's certificate.
        key: The file of its private key.
    """

    label: str = "the context"
    url: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    creds: str | None = field(default=None, repr=False)
    nkey: str | None = field(default=None, repr=False)
    cert: str | None = None
    key: str | None = None
    ca: str | None = None
    inbox_prefix: str | None = None
    user_jwt: str | None = field(default=None, repr=False)
    user_seed: str | None = field(default=None, repr=False)
    tls_first: bool = False

    def credentials(self) -> dict[str, Any]:
        """Return the credentials as arguments for `connect`.

        Raises:
            CommandError: A file can't be read, or a reference leads nowhere.
        """
        found: dict[str, Any] = {
            "user": self.user,
            "password": self._resolved("password"),
            "token": self._resolved("token"),
            "nkey_seed": self._seed(),
            "creds": self._creds(),
        }
        if found["user"] is None:
            del found["password"]
        return {name: value for name, value in found.items() if value is not None}

    def _resolved(self, name: str) -> str | None:
        value: str | None = getattr(self, name)
        return None if value is None else resolve(f"{self.label}: {name}", value)

    def _content(self, name: str) -> str | None:
        value: str | None = getattr(self, name)
        return None if value is None else read_referenced(f"{self.label}: {name}", value)

    def _seed(self) -> str | None:
        content = self._content("nkey")
        return None if content is None else find_seed(f"{self.label}: nkey", content)

    def _creds(self) -> str | None:
        content = self._content("creds")
        if content is not None:
            return normal_creds(f"{self.label}: creds", content)
        jwt, seed = self._resolved("user_jwt"), self._resolved("user_seed")
        if jwt is None:
            return None
        if seed is None:
            raise CommandError(f"{self.label} has a user_jwt without user_seed, which natsvc can't connect with")
        return normal_creds(f"{self.label}: user_jwt and user_seed", format_creds(jwt, seed))


def load_context(name: str | None) -> Context | None:
    """Return a context of the nats CLI.

    Args:
        name: The name of the context, or the path of its file, which ends with `.json`. None: the one that is selected.

    Returns:
        The context; None if none is asked for, and none is selected.

    Raises:
        CommandError: There is no such context, it can't be read, or it asks for what natsvc doesn't have.
    """
    directory = _config_directory()
    if name is not None and name.endswith(".json") and Path(expand(name)).is_file():
        return _read(f"the context {name}", Path(expand(name)))
    label = f"the context {name!r}"
    if name is None:
        name = _selected(directory)
        if name is None:
            return None
        label = f"the selected context {name!r}"
    path = directory / "context" / f"{name}.json"
    if not _NAME.fullmatch(name) or ".." in name or not path.is_file():
        raise CommandError(f"{label} does not exist; there are: {', '.join(_names(directory)) or 'none'}")
    return _read(label, path)


def _config_directory() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "nats"


def _selected(directory: Path) -> str | None:
    try:
        return (directory / "context.txt").read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CommandError(f"{directory / 'context.txt'} can't be read: {error}") from None


def _names(directory: Path) -> list[str]:
    return sorted(path.stem for path in (directory / "context").glob("*.json"))


def _read(label: str, path: Path) -> Context:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"{label} can't be read: {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise CommandError(f"{label} can't be read: {path} is not JSON") from None
    if not isinstance(found, dict):
        raise CommandError(f"{label} can't be read: {path} is not a JSON object")
    for name, problem in _NOT_SUPPORTED.items():
        if found.get(name):
            raise CommandError(f"{label} {problem}; or leave the context out with --no-context")
    texts = {name: found.get(name) or None for name in (*_PLACE, *_CREDENTIALS)}
    for name, value in texts.items():
        if not isinstance(value, str | None):
            raise CommandError(f"{label} can't be used: its {name} is not a text")
    return Context(label=label, tls_first=found.get("tls_first") is True, **texts)
