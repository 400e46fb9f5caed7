"""What a client says of itself in CONNECT, and how it proves who it is.

A server challenges with a nonce in its INFO; users with an nkey answer with its public key and a signature, users with
a `.creds` file with their JWT and a signature. No error raised here holds a secret, neither itself nor in its context.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from natsvc.errors import AuthorizationError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from natsvc.wire.addresses import ServerAddress
    from natsvc.wire.options import ConnectOptions

__all__ = ["HIDDEN", "check_seed", "connect_fields", "load_nkeys", "parse_creds"]

PROTOCOL = 1
"""The client protocol: the server may send further INFOs at any time (ADR-40, "Minimal example")."""


class _Hidden:
    """The type of HIDDEN."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<hidden>"


HIDDEN: Final = _Hidden()
"""What stands in an error in the place of a value that is a secret, or may hold one."""

# Patterns are texts, compiled when they are first needed, as base64 is loaded: most connections have neither.
_SEED = r"[A-Z2-7]{58}"
_USER_SEED = b"\x95\x00"  # the kinds "seed" and "user" of nkeys, 5 and 8 bits from the top: in base32 "SUA"
_JWT = r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+"
_BEGINNING = r"-{3,} ?BEGIN [A-Z ]*?(JWT|SEED) ?-{3,}"


def connect_fields(
    options: ConnectOptions, address: ServerAddress, info: Mapping[str, Any], *, version: str
) -> dict[str, object]:
    """Return the fields of the CONNECT that answers a server's INFO.

    As in nats.go, credentials in the server's URL stand in the place of user, password, token and nkey of the options;
    the JWT of a `.creds` file is sent whatever the URL has. Headers and no-responders are asked for unless the server
    says that it has no headers, for then it would close the connection.

    Args:
        options: The options of the connection.
        address: The server, with the credentials that its URL has.
        info: What the server's INFO says.
        version: The version of this client.

    Raises:
        AuthorizationError: An nkey is to be used, and the server has sent no nonce to sign.
        ConfigError: A signature is needed, and the package `nkeys` is not installed.
    """
    headers = info.get("headers") is not False
    fields: dict[str, object] = {
        "verbose": False,
        "pedantic": False,
        "tls_required": options.requires_tls(address),
        "lang": "python",
        "version": version,
        "protocol": PROTOCOL,
        "echo": not options.no_echo,
        "headers": headers,
        "no_responders": headers,
    }
    if options.name is not None:
        fields["name"] = options.name
    nonce = info.get("nonce")
    nonce = nonce if isinstance(nonce, str) else ""
    if address.has_credentials:
        fields.update(_plain(address.user, address.password, address.token))
    elif options.nkey_seed is not None:
        if not nonce:
            raise AuthorizationError(f"{address.url} takes no nkeys: its INFO has no nonce to sign")
        fields["nkey"], fields["sig"] = _sign(check_seed("nkey_seed", options.nkey_seed), nonce)
    else:
        fields.update(_plain(options.user, options.password, options.token))
    if options.creds is not None:
        fields["jwt"], seed = parse_creds(options.creds)
        if nonce:  # a server that asks for no signature may still take the JWT, or need none
            fields["sig"] = _sign(seed, nonce)[1]
    return fields


def parse_creds(content: object, *, field: str = "creds") -> tuple[str, str]:
    """Return the JWT and the nkey seed that a `.creds` file holds.

    Args:
        content: The content of the file, str or bytes.
        field: What it is called in an error.

    Raises:
        ConfigError: It has not exactly one JWT and one seed of a user between lines of dashes.
    """
    blocks = {"JWT": "", "SEED": ""}
    kind = ""
    for line in _decoded(content).splitlines():
        text = line.strip()
        if text.startswith("---"):
            beginning = re.fullmatch(_BEGINNING, text)
            kind = beginning[1] if beginning else ""
        elif kind:
            blocks[kind] += text
    if not re.fullmatch(_JWT, blocks["JWT"]):
        raise ConfigError(field, HIDDEN, "must be the content of a .creds file, with a JWT behind BEGIN NATS USER JWT")
    if not _is_user_seed(blocks["SEED"]):
        raise ConfigError(field, HIDDEN, "must have the seed of a user, SUA…, behind BEGIN USER NKEY SEED")
    return blocks["JWT"], blocks["SEED"]


def check_seed(field: str, seed: object) -> str:
    """Return the nkey seed of a user as text without blanks around it.

    Its checksum is looked at too, so that a mistyped seed is found before a server refuses it.

    Args:
        field: What it is called in an error.
        seed: The seed, str or bytes.

    Raises:
        ConfigError: It is no seed of a user.
    """
    text = _decoded(seed).strip()
    if not _is_user_seed(text):
        raise ConfigError(field, HIDDEN, "must be the nkey seed of a user: SUA and 55 more letters and digits")
    return text


def load_nkeys(field: str) -> Any:
    """Return the module `nkeys`, which signs; it is an extra, and imported by nobody who needs no signature.

    Args:
        field: What needs it.

    Raises:
        ConfigError: It is not installed.
    """
    import importlib

    try:
        return importlib.import_module("nkeys")
    except ImportError as missing:
        raise ConfigError(field, HIDDEN, "needs a package for signing: pip install 'natsvc[nkeys]'") from missing


def _plain(user: str | None, password: str | None, token: str | None) -> dict[str, object]:
    given = {"user": user, "pass": password, "auth_token": token}
    return {name: value for name, value in given.items() if value is not None}


def _sign(seed: str, nonce: str) -> tuple[str, str]:
    """Return the public key and the signature, as they stand in CONNECT."""
    import base64

    keys = load_nkeys("nkeys").from_seed(seed.encode())
    try:
        signature = keys.sign(nonce.encode("utf-8", "surrogatepass"))
        return keys.public_key.decode(), base64.urlsafe_b64encode(signature).rstrip(b"=").decode()
    finally:
        keys.wipe()


def _decoded(content: object) -> str:
    """Return the text; what is none gives an empty one, for an error with the bytes in it would show them."""
    if isinstance(content, bytes):
        return content.decode("utf-8", "replace")
    return content if isinstance(content, str) else ""


def _is_user_seed(text: str) -> bool:
    import base64
    import binascii

    if not re.fullmatch(_SEED, text):
        return False
    raw = base64.b32decode(text + "=" * (-len(text) % 8))
    return raw.startswith(_USER_SEED) and binascii.crc_hqx(raw[:-2], 0).to_bytes(2, "little") == raw[-2:]
