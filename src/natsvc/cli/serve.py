"""The command that runs a ServiceDefinition of a user's module: it loads, connects, tells that it is up, and drains.

What runs the service stands in `serving`, what finds it in `loading`; here is what both a plain `serve` and each
instance under `--reload` do with them.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from natsvc.cli.loading import load_definition
from natsvc.cli.output import CommandError, UsageError, format_count, in_one_line
from natsvc.cli.serving import FrontEnd, Watch, async_functions, run_service, watch_signals
from natsvc.core import ServiceDefinition, ServiceInfo, definition_of
from natsvc.errors import NatsvcError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from natsvc.cli.settings import ConnectionSettings

__all__ = ["Program", "run", "say", "serve"]

_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_SHOWN_ENDPOINTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run, and how.

    Attributes:
        target: `MODULE:NAME`.
        directory: Where modules are looked for first.
        front_end: Where it runs. None: in threads if all its functions are plain ones, otherwise on asyncio.
        fields: Fields of ServiceConfig, in place of those of the definition.
        metadata: What is added to the definition's metadata.
        log_level: The level of the root logger. None: info, unless the module says otherwise.
    """

    target: str
    directory: Path
    front_end: FrontEnd | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    log_level: str | None = None


def serve(
    settings: ConnectionSettings,
    target: str,
    *,
    directory: Path,
    front_end: FrontEnd | None = None,
    name: str | None = None,
    metadata: Sequence[str] = (),
    max_concurrency: int | None = None,
    log_level: str | None = None,
    reload: bool = False,
) -> None:
    """Run a service until it is told to stop by SIGTERM or SIGINT; then drain.

    Args:
        settings: How to connect.
        target: `MODULE:NAME`.
        directory: Where modules are looked for first.
        front_end: Where it runs. None: in threads if all its functions are plain ones, otherwise on asyncio.
        name: The service's name, in place of the definition's.
        metadata: KEY=VALUE, each added to the definition's metadata.
        max_concurrency: How many handlers of one endpoint run at once, for endpoints that don't say.
        log_level: The level of the root logger. None: info, unless the module says otherwise.
        reload: Start anew when Python files of the directory change.

    Raises:
        UsageError: The target or a KEY=VALUE has another form.
        CommandError: The service can't be loaded, or ended by an error that isn't natsvc's.
        NatsvcError: The service can't be run or connected, or what ended it.
    """
    fields = {"name": name, "max_concurrency": max_concurrency}
    program = Program(
        target=target,
        directory=directory,
        front_end=front_end,
        fields={field: value for field, value in fields.items() if value is not None},
        metadata=_parse_metadata(metadata),
        log_level=log_level,
    )
    if reload:
        from natsvc.cli.reloading import serve_and_reload

        serve_and_reload(settings, program)
    else:
        run(settings, program, watch=watch_signals)


def run(
    settings: ConnectionSettings, program: Program, *, watch: Watch, on_up: Callable[[], object] | None = None
) -> None:
    """Load and run the program, until the stop is asked for or something ends the service.

    Args:
        settings: How to connect.
        program: What to run.
        watch: Makes the block in which the stop may be asked for.
        on_up: Called when the service is up.

    Raises:
        CommandError: As `serve`.
        NatsvcError: As `serve`.
    """
    definition = load_definition(program.target, program.directory)
    _set_up_logging(program.log_level)
    fields = dict(program.fields)
    if program.metadata:
        fields["metadata"] = {**definition.metadata, **program.metadata}
    definition = definition_of(definition, fields)
    front_end = _choose(program.front_end, definition)

    def tell_that_it_is_up(info: ServiceInfo, url: str | None) -> None:
        say(_announcement(info, url, front_end))
        if on_up is not None:
            on_up()

    try:
        run_service(
            front_end,
            definition,
            {**settings.arguments(), "name": definition.name},
            watch=watch,
            on_up=tell_that_it_is_up,
            on_stop=lambda: say(f"{definition.name} stops: it handles what has arrived"),
        )
    except (CommandError, NatsvcError):
        raise
    except Exception as error:
        raise CommandError(f"{definition.name} ended: {type(error).__name__}: {error}") from error


def say(text: str) -> None:
    """Tell the user something that is no result, in one line on stderr."""
    print(f"natsvc: {in_one_line(text)}", file=sys.stderr, flush=True)


def _choose(wanted: FrontEnd | None, definition: ServiceDefinition) -> FrontEnd:
    found = next(async_functions(definition), None)
    if wanted is None:
        return "threads" if found is None else "asyncio"
    if wanted == "threads" and found is not None:
        raise CommandError(f"{found} is an async def, which can't run in threads; use --on asyncio or --on trio")
    return wanted


def _announcement(info: ServiceInfo, url: str | None, front_end: FrontEnd) -> str:
    names = [endpoint.name for endpoint in info.endpoints]
    endpoints = f"{format_count(len(names))} endpoint{'' if len(names) == 1 else 's'}"
    if len(names) > _SHOWN_ENDPOINTS:
        names[_SHOWN_ENDPOINTS:] = ["…"]
    shown = f": {', '.join(names)}" if names else ""
    where = "in threads" if front_end == "threads" else f"on {front_end}"
    return f"{info.name} {info.version} ({info.id}) is up at {url}, {where}, with {endpoints}{shown}"


def _parse_metadata(texts: Sequence[str]) -> dict[str, str]:
    metadata = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"the metadata {text!r} must have the form KEY=VALUE")
        metadata[key] = value
    return metadata


def _set_up_logging(level: str | None) -> None:
    """Log to stderr; a module that has set up logging itself has said how, and keeps it."""
    logging.basicConfig(format=_LOG_FORMAT, level=(level or "info").upper())
    if level is not None:
        logging.getLogger().setLevel(level.upper())
