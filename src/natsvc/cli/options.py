"""The options that commands share, as Typer has them: how to connect, and what is printed.

Names, short forms and variables of the environment are those of the nats CLI. As there, connection options may stand
before the command or after it.
"""

# No `from __future__ import annotations`: Typer needs the annotations themselves, and would have to evaluate them.

import functools
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from natsvc.cli.output import UsageError
from natsvc.cli.settings import ConnectionSettings
from natsvc.headers import Headers

__all__ = [
    "ConnectionSettings",
    "Json",
    "parse_duration",
    "parse_headers",
    "read_data",
    "with_connection",
    "with_connection_defaults",
]

_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_NUMBER = re.compile(r"[0-9]+\.?[0-9]*|\.[0-9]+")
_PART = re.compile(rf"({_NUMBER.pattern})({'|'.join(_SECONDS)})")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")

_WAYS = ({"user", "password"}, {"token"}, {"nkey"}, {"creds"})
"""The ways to say who one is, and the options of each."""


def parse_duration(text: str) -> float:
    """Return the seconds that a duration says: a number of seconds, or as the nats CLI has it: 500ms, 1m30s.

    Raises:
        typer.BadParameter: It is neither, or not more than 0.
    """
    if _NUMBER.fullmatch(text):
        seconds = float(text)
    elif _DURATION.fullmatch(text):
        seconds = sum(float(amount) * _SECONDS[unit] for amount, unit in _PART.findall(text))
    else:
        raise typer.BadParameter(f"{text!r} is not a duration, such as 5, 500ms or 1m30s")
    if not 0 < seconds <= 1e9:
        raise typer.BadParameter(f"{text!r} is not between 0 and thirty years")
    return seconds


def parse_headers(texts: Sequence[str]) -> Headers:
    """Return the headers that options of the form `NAME:VALUE` give; a name may be there several times.

    Raises:
        UsageError: One of them has another form.
        HeaderError: A name or value can't stand in a header.
    """
    headers = Headers()
    for text in texts:
        name, colon, value = text.partition(":")
        if not colon:
            raise UsageError(f"the header {text!r} must have the form NAME:VALUE")
        headers.add(name.strip(), value)
    return headers


def read_data(text: str) -> bytes:
    """Return the body that an argument says: the argument itself, or what stdin has if it is `-`."""
    return sys.stdin.buffer.read() if text == "-" else text.encode("utf-8", "surrogateescape")


_VALUES: dict[str, tuple[list[str], str | None, str | None, str]] = {
    "server": (["--server", "-s"], "NATS_URL", "URL", "Servers to connect to, separated by commas."),
    "user": (["--user"], "NATS_USER", "NAME", "The user; without a password, a token."),
    "password": (["--password"], "NATS_PASSWORD", "PASSWORD", "The user's password."),
    "token": (["--token"], "NATS_TOKEN", "TOKEN", "A token."),
    "nkey": (["--nkey"], "NATS_NKEY", "FILE", "The seed of the user's nkey."),
    "creds": (["--creds"], "NATS_CREDS", "FILE", "The user's credentials: JWT and seed."),
    "tlsca": (["--tlsca"], "NATS_CA", "FILE", "Certificate authorities to trust."),
    "tlscert": (["--tlscert"], "NATS_CERT", "FILE", "The client's certificate."),
    "tlskey": (["--tlskey"], "NATS_KEY", "FILE", "The private key of the certificate."),
    "inbox_prefix": (["--inbox-prefix"], None, "PREFIX", "What the subjects for answers begin with."),
    "context": (["--context"], "NATS_CONTEXT", "NAME", "A context of the nats CLI."),
    "timeout": (["--timeout"], "NATS_TIMEOUT", "DURATION", "How long to wait for answers. [default: 5s]"),
}
"""The connection options that have a value: their names, variable, kind of value, and help."""

_SWITCHES = {
    "tlsfirst": (["--tlsfirst"], "Begin with the TLS handshake, before the server's greeting."),
    "no_context": (["--no-context"], "Use no context, not even the selected one."),
}
"""The connection options that have none."""


def _connection_parameters(*, hidden: bool) -> list[inspect.Parameter]:
    """Return the connection options as parameters of a function for Typer."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    common: dict[str, Any] = {"hidden": hidden, "rich_help_panel": "Connection"}
    parameters = []
    for name, (names, envvar, metavar, text) in _VALUES.items():
        kind, parser = (float, parse_duration) if name == "timeout" else (str, None)
        option = typer.Option(*names, envvar=envvar, metavar=metavar, help=text, parser=parser, **common)
        parameters.append(inspect.Parameter(name, keyword, annotation=Annotated[kind | None, option], default=None))
    for name, (names, text) in _SWITCHES.items():
        option = typer.Option(*names, help=text, **common)
        parameters.append(inspect.Parameter(name, keyword, annotation=Annotated[bool, option], default=False))
    return parameters


_PARAMETERS = _connection_parameters(hidden=False)
_HIDDEN_PARAMETERS = _connection_parameters(hidden=True)

Json = Annotated[bool, typer.Option("--json", "-j", help="Print JSON.")]
"""The option of every command whose result a program may read."""


def with_connection(command: Callable[..., None]) -> Callable[..., None]:
    """Give a Typer command the connection options; it is called with what they say as its `settings`."""

    @functools.wraps(command)
    def run(invocation: typer.Context, **values: Any) -> None:
        given = _on_command_line(invocation, values)
        earlier, environment = invocation.obj
        command(settings=_settings({**earlier, **given}, environment), **values)

    return _with_signature(run, command, without="settings", connection=_PARAMETERS)


def with_connection_defaults(callback: Callable[..., None]) -> Callable[..., None]:
    """Give a Typer application's callback the connection options, for the command that follows."""

    @functools.wraps(callback)
    def run(invocation: typer.Context, **values: Any) -> None:
        everything = dict(values)
        given = _on_command_line(invocation, values)
        environment = {name: everything[name] for name in everything.keys() - given.keys() - values.keys()}
        invocation.obj = (given, environment)
        callback(invocation=invocation, **values)

    return _with_signature(run, callback, without="invocation", connection=_HIDDEN_PARAMETERS)


def _on_command_line(invocation: typer.Context, values: dict[str, Any]) -> dict[str, Any]:
    """Take the connection options out of the values, and return those that the command line has."""
    given = {}
    for name in (*_VALUES, *_SWITCHES):
        value = values.pop(name)
        source = invocation.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            given[name] = value
    return given


def _settings(given: Mapping[str, Any], environment: Mapping[str, Any]) -> ConnectionSettings:
    """Return the settings: what the command line says, then the environment.

    Who says on the command line who they are doesn't mean what the environment says of it in another way.
    """
    if any(given.keys() & way for way in _WAYS):
        superseded = {name for way in _WAYS if not given.keys() & way for name in way}
        environment = {name: value for name, value in environment.items() if name not in superseded}
    values = {**environment, **given}
    return ConnectionSettings(**{name: value for name, value in values.items() if value is not None})


def _with_signature(
    function: Callable[..., None],
    described: Callable[..., None],
    *,
    without: str,
    connection: Sequence[inspect.Parameter],
) -> Callable[..., None]:
    """Return the function with the signature that Typer is to see: its own parameters, and how to connect."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    own = [
        one.replace(kind=keyword) for name, one in inspect.signature(described).parameters.items() if name != without
    ]
    parameters = [inspect.Parameter("invocation", keyword, annotation=typer.Context), *own, *connection]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {one.name: one.annotation for one in parameters}
    return function
