"""What names, subjects and queue groups may look like, and where a service's control subjects are.

The rules are ADR-32's for names, and the server's for subjects, a little stricter: what the server would take for
something else than it looks (a tab, a wildcard glued to other characters) is refused. Each check returns its value, so
that a rule stands in one expression with what it guards.
"""

from __future__ import annotations

import enum
import re

from natsvc.errors import ConfigError

__all__ = [
    "DEFAULT_PREFIX",
    "MAX_CONTROL_LINE",
    "SID_LENGTH",
    "ServiceVerb",
    "check_control_subjects",
    "check_group_name",
    "check_name",
    "check_prefix",
    "check_queue_group",
    "check_subject",
    "check_text",
    "check_version",
    "control_subject",
    "join_subject",
]

DEFAULT_PREFIX = "$SRV"
"""The root of all control subjects (ADR-32, "Discovery and Status")."""

MAX_CONTROL_LINE = 4096
"""The longest list of command arguments, in bytes, that a server takes by default (its `max_control_line`)."""

ID_LENGTH = 22
"""The length of a service's id, in characters."""

SID_LENGTH = 20
"""The longest number that a subscription can get on its connection, in digits."""

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_SEPARATORS = re.compile(r"[\x00-\x20\x7f]")
_NUMBER = r"(?:0|[1-9][0-9]*)"
_PRERELEASE = r"(?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"
_SEMVER = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}"
    rf"(?:-{_PRERELEASE}(?:\.{_PRERELEASE})*)?"
    r"(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?"
)


class ServiceVerb(enum.StrEnum):
    """What a service can be asked on its control subjects (ADR-32, "Discovery and Status")."""

    PING = "PING"
    STATS = "STATS"
    INFO = "INFO"


def control_subject(
    verb: ServiceVerb | str, name: str | None = None, id: str | None = None, prefix: str | None = None
) -> str:
    """Return the subject to ask all services, those of one name, or one instance.

    Args:
        verb: PING, INFO or STATS.
        name: The service's name; None asks all services.
        id: The instance's id; None asks all instances of that name.
        prefix: The root of the control subjects. Default: `$SRV`.

    Raises:
        ConfigError: The verb is unknown, an id comes without a name, or one of them can't stand in a subject.
    """
    try:
        tokens = [DEFAULT_PREFIX, ServiceVerb(verb).value]
    except ValueError:
        raise ConfigError("verb", verb, "must be one of PING, INFO, STATS") from None
    if prefix is not None:
        tokens[0] = check_prefix("prefix", prefix)
    if name is not None:
        tokens.append(check_name("name", name))
    if id is not None:
        if name is None:
            raise ConfigError("id", id, "needs the service's name beside it")
        tokens.append(_check_literal("id", id))
    return ".".join(tokens)


def join_subject(prefix: str, subject: str) -> str:
    """Put a group's prefix, which may be empty, before a subject."""
    return f"{prefix}.{subject}" if prefix and subject else prefix or subject


def check_name(field: str, value: object) -> str:
    """A service's or endpoint's name: A-Z a-z 0-9 dash underscore (ADR-32, "Design")."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ConfigError(field, value, "must be one or more of A-Z a-z 0-9 - _")
    return value


def check_version(field: str, value: object) -> str:
    """A version as https://semver.org has it, version 2.0.0 of that page."""
    if not isinstance(value, str) or not _SEMVER.fullmatch(value):
        raise ConfigError(field, value, "must be a semantic version such as 1.2.3 or 2.0.0-rc.1 (SemVer 2.0.0)")
    return value


def check_text(field: str, value: object) -> str:
    """Any text that JSON can carry to every other language."""
    if not isinstance(value, str):
        raise ConfigError(field, value, "must be a str")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigError(field, value, "must be encodable as UTF-8") from None
    return value


def check_subject(field: str, value: object) -> str:
    """A subject to subscribe to: tokens between dots; `*` stands for one token, `>` for the rest."""
    tokens = _check_tokens(field, value)
    for position, token in enumerate(tokens, 1):
        if token == ">" and position < len(tokens):
            raise ConfigError(field, value, "may have > as its last token only")
        if len(token) > 1 and ("*" in token or ">" in token):
            raise ConfigError(field, value, "may have * and > as whole tokens only")
    return ".".join(tokens)


def check_group_name(field: str, value: object) -> str:
    """A group's name: a subject prefix, perhaps empty, in which `>` would swallow what follows (ADR-32, "Groups")."""
    if value == "":
        return ""
    subject = check_subject(field, value)
    if ">" in subject:
        raise ConfigError(field, value, "must not contain >, for endpoints' subjects follow it")
    return subject


def check_prefix(field: str, value: object) -> str:
    """The root of the control subjects: one or more literal tokens."""
    return _check_literal(field, value)


def check_control_subjects(field: str, name: str, prefix: str) -> None:
    """The longest control subject of a service, with a subscription's number behind it, is a command line."""
    longest = f"{prefix}.STATS.{name}.{'0' * ID_LENGTH} {'0' * SID_LENGTH}"
    if len(longest.encode()) > MAX_CONTROL_LINE:
        raise ConfigError(field, name, f"must, with the prefix, give subscriptions of at most {MAX_CONTROL_LINE} bytes")


def check_queue_group(field: str, value: object) -> str:
    """A queue group: any text without blanks and control characters."""
    if value == "":
        raise ConfigError(
            field,
            value,
            "must not be empty: leave it out (or None) to inherit the queue group, "
            "or give NO_QUEUE_GROUP to have none, so that every instance gets every request",
        )
    return _check_argument(field, value)


def _check_literal(field: str, value: object) -> str:
    tokens = _check_tokens(field, value)
    if any("*" in token or ">" in token for token in tokens):
        raise ConfigError(field, value, "must not contain the wildcards * and >")
    return ".".join(tokens)


def _check_tokens(field: str, value: object) -> list[str]:
    tokens = _check_argument(field, value).split(".")
    if "" in tokens:
        raise ConfigError(field, value, "must be tokens between single dots, none of them empty")
    return tokens


def _check_argument(field: str, value: object) -> str:
    text = check_text(field, value)
    if _SEPARATORS.search(text):
        raise ConfigError(field, value, "must not contain blanks or control characters")
    if len(text.encode()) > MAX_CONTROL_LINE:
        raise ConfigError(field, value, f"must not be longer than {MAX_CONTROL_LINE} bytes")
    return text
