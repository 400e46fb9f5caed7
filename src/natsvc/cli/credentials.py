"""Reads the files that options and contexts name: nkey seeds, certificates, and values kept outside a context.

An error names the file and never shows what is in it.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from natsvc.cli.output import CommandError
from natsvc.wire.auth import parse_creds

if TYPE_CHECKING:
    import ssl

__all__ = [
    "expand",
    "find_seed",
    "format_creds",
    "make_tls_context",
    "normal_creds",
    "read_referenced",
    "read_text",
    "resolve",
]

_SCHEME = re.compile(r"(file|env|data|op|nsc):", re.IGNORECASE)
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_SEED = re.compile(r"^\s*(SU[A-Z2-7]{56,})\s*$", re.MULTILINE)
_CREDS = """-----BEGIN NATS USER JWT-----
{jwt}
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
{seed}
------END USER NKEY SEED------
"""


def expand(path: str) -> str:
    """Return a path, or a `file://` reference to one, with its variables and `~` replaced.

    As in the nats CLI, a variable that is not set is empty.
    """
    path = _VARIABLE.sub(lambda match: os.environ.get(match[1] or match[2], ""), path.removeprefix("file://"))
    return os.path.expanduser(path)  # noqa: PTH111  # pathlib's raises where there is no such user


def resolve(field: str, reference: str) -> str:
    """Return the value that stands in a context, or that a reference there leads to.

    Args:
        field: What it is called in an error.
        reference: The value; or `file://` and a path, `env://` and a variable's name, or `data:;base64,` and the value.

    Raises:
        CommandError: It leads nowhere, or to a tool that natsvc does not run: `op://` and `nsc://`.
    """
    found = _SCHEME.match(reference)
    if found is None:
        return reference
    scheme, rest = found[1].lower(), reference[found.end() :].removeprefix("//")
    if scheme == "file":
        return read_text(field, rest).rstrip("\r\n")
    if scheme == "env":
        if value := os.environ.get(rest):
            return value.rstrip("\r\n")
        raise CommandError(f"{field}: the environment variable {rest!r} is not set")
    if scheme == "data":
        return _decode_data(field, rest)
    raise CommandError(f"{field}: natsvc does not look up {scheme}:// references; put the value or its file there")


def read_referenced(field: str, reference: str) -> str:
    """Return the content that a reference leads to, or what is in the file if it is a path.

    Raises:
        CommandError: The file can't be read, or the reference leads nowhere.
    """
    return resolve(field, reference) if _SCHEME.match(reference) else read_text(field, reference)


def read_text(field: str, path: str) -> str:
    """Return what is in a text file.

    Raises:
        CommandError: It can't be read.
    """
    try:
        return Path(expand(path)).read_text(encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{field}: {path}: {error.strerror}") from None
    except ValueError:
        raise CommandError(f"{field}: {path}: not a text file") from None


def find_seed(field: str, text: str) -> str:
    """Return the seed that stands in the content of an nkey file, with or without lines of dashes around it.

    Raises:
        CommandError: There is none.
    """
    found = _SEED.search(text)
    if found is None:
        raise CommandError(f"{field}: no seed of a user's nkey (SU…) in there")
    return found[1]


def normal_creds(field: str, text: str) -> str:
    """Return the content of a .creds file in the form in which every part of natsvc knows it.

    Raises:
        ConfigError: It is not the content of a .creds file.
    """
    return format_creds(*parse_creds(text, field=field))


def format_creds(jwt: str, seed: str) -> str:
    """Return what a .creds file with this JWT and this seed has."""
    return _CREDS.format(jwt=jwt, seed=seed)


def make_tls_context(ca: str | None, cert: str | None, key: str | None) -> ssl.SSLContext | None:
    """Return the TLS context for what is given; None if nothing is.

    Args:
        ca: The file of the certificate authorities to trust. None: the system's.
        cert: The file of the client's certificate.
        key: The file of its private key.

    Raises:
        CommandError: A file can't be used, or there is a certificate without its key.
    """
    if ca is None and cert is None and key is None:
        return None
    import ssl  # it takes its time to be loaded, and most connections don't need it

    if (cert is None) != (key is None):
        raise CommandError(f"the client's {'certificate' if cert is None else 'private key'} is missing")
    try:
        context = ssl.create_default_context(cafile=None if ca is None else expand(ca))
    except OSError as error:
        raise CommandError(f"the certificate authorities {ca} can't be used: {_reason(error)}") from None
    if cert is not None and key is not None:
        try:
            context.load_cert_chain(expand(cert), expand(key))
        except OSError as error:
            raise CommandError(f"the certificate {cert} with the key {key} can't be used: {_reason(error)}") from None
    return context


def _decode_data(field: str, rest: str) -> str:
    kind, comma, payload = rest.partition(",")
    if not comma or "base64" not in [part.strip() for part in kind.split(";")]:
        raise CommandError(f"{field}: a data: reference must be data:;base64, and the value")
    try:
        return base64.b64decode(payload, validate=True).decode().rstrip("\r\n")
    except (binascii.Error, UnicodeDecodeError):
        raise CommandError(f"{field}: the data: reference is not base64 of a text") from None


def _reason(error: OSError) -> str:
    """Say why a file is of no use; the errors of ssl have a text of OpenSSL's instead of the system's."""
    reason = getattr(error, "reason", None)
    return str(reason or error.strerror or error)
