"""The commands of `natsvc`: their words, options and help. What a command does is imported when it runs."""

# No `from __future__ import annotations`: Typer needs the annotations themselves, and would have to evaluate them.

import enum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from natsvc import __version__
from natsvc.cli.options import ConnectionSettings, Json, parse_duration, with_connection, with_connection_defaults

__all__ = ["app"]

_ALIASES = {"list": "ls", "l": "ls", "i": "info", "req": "request"}
"""The other words that the nats CLI has for its commands."""


class _Commands(TyperGroup):
    """The commands, by their names and by their aliases."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return super().get_command(ctx, _ALIASES.get(cmd_name, cmd_name))


app = typer.Typer(
    cls=_Commands,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ServiceName = Annotated[str, typer.Argument(metavar="NAME", help="The service.", show_default=False)]
OptionalServiceName = Annotated[
    str | None, typer.Argument(metavar="NAME", help="The service. All, unless it is given.", show_default=False)
]
InstanceId = Annotated[
    str | None, typer.Argument(metavar="ID", help="The id of one of its instances.", show_default=False)
]


def _print_version(wanted: bool) -> None:
    if wanted:
        print("natsvc", __version__)
        raise typer.Exit


class FrontEnd(enum.StrEnum):
    """Where a service runs."""

    ASYNCIO = "asyncio"
    TRIO = "trio"
    THREADS = "threads"


class LogLevel(enum.StrEnum):
    """What is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class Order(enum.StrEnum):
    """What the rows of `top` are sorted by."""

    SERVICE = "service"
    REQUESTS = "requests"
    ERRORS = "errors"
    TIME = "time"


@app.callback()
@with_connection_defaults
def natsvc(
    invocation: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find, watch, call and run NATS services.

    How to connect is told before or after the command; see the help of a command for the options.
    """
    if invocation.invoked_subcommand is None:
        print(invocation.get_help())
        raise typer.Exit(2)


@app.command()
@with_connection
def ls(settings: ConnectionSettings, name: OptionalServiceName = None, as_json: Json = False) -> None:
    """List the instances of all services, or of one (also: list, l)."""
    from natsvc.cli.discovery import ls

    ls(settings, name, as_json=as_json)


@app.command()
@with_connection
def info(
    settings: ConnectionSettings,
    name: ServiceName,
    id: InstanceId = None,
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", "-e", metavar="REGEXP", help="Show the endpoints with such names only.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show an instance of a service: what it is, its endpoints, how they do (also: i)."""
    from natsvc.cli.discovery import info

    info(settings, name, id, endpoint=endpoint, as_json=as_json)


@app.command()
@with_connection
def stats(settings: ConnectionSettings, name: ServiceName, id: InstanceId = None, as_json: Json = False) -> None:
    """Show what the endpoints of a service have counted, for each instance."""
    from natsvc.cli.discovery import stats

    stats(settings, name, id, as_json=as_json)


@app.command()
@with_connection
def ping(settings: ConnectionSettings, name: OptionalServiceName = None, as_json: Json = False) -> None:
    """Show which instances answer, and how fast. Ends with status 1 if none does."""
    from natsvc.cli.discovery import ping

    ping(settings, name, as_json=as_json)


@app.command()
@with_connection
def request(
    settings: ConnectionSettings,
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="The service.", show_default=False)],
    endpoint: Annotated[str, typer.Argument(metavar="ENDPOINT", help="The endpoint's name.", show_default=False)],
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="The body; - reads it from stdin.", show_default=False)
    ] = "",
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="NAME:VALUE", help="A header; may be repeated.")
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="How many requests to send.")] = 1,
    raw: Annotated[bool, typer.Option("--raw", "-r", help="Print the response's body, and nothing else.")] = False,
    as_json: Json = False,
) -> None:
    """Send a request to an endpoint of a service, and print the response (also: req)."""
    from natsvc.cli.request import request

    request(settings, service, endpoint, data, headers=header or [], count=count, raw=raw, as_json=as_json)


@app.command()
@with_connection
def bench(
    settings: ConnectionSettings,
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="Where the requests go.", show_default=False)],
    requests: Annotated[int, typer.Option("--requests", "-n", min=1, help="How many requests to send.")] = 10_000,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, help="How many are in flight at once.")
    ] = 64,
    size: Annotated[
        int | None,
        typer.Option("--size", min=0, metavar="BYTES", help="The size of the requests' bodies. [default: 16]"),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="DATA", help="The requests' body instead; - reads it from stdin.")
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="NAME:VALUE", help="A header; may be repeated.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate", min=0.001, help="Requests to send in a second. As many as possible, unless it is given."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Put load on whoever answers to a subject, and show how fast that goes."""
    from natsvc.cli.bench import bench

    bench(
        settings,
        subject,
        requests=requests,
        concurrency=concurrency,
        data=data,
        size=size,
        headers=header or [],
        rate=rate,
        as_json=as_json,
    )


@app.command()
@with_connection
def demo(
    settings: ConnectionSettings,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep running, so that other commands can be tried on the service.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a service on asyncio, on trio and in threads, send it some thousand requests, and show what came of them.

    On the server or the context that is given; otherwise on a nats-server of its own.
    """
    from natsvc.cli.demo import demo

    demo(settings, keep=keep, as_json=as_json)


@app.command()
@with_connection
def serve(
    settings: ConnectionSettings,
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:NAME", help="A ServiceDefinition: its module, and its name.", show_default=False
        ),
    ],
    on: Annotated[
        FrontEnd | None,
        typer.Option(
            "--on", help="Where handlers run. Unless it is given: threads if all are plain functions, else asyncio."
        ),
    ] = None,
    reload: Annotated[
        bool, typer.Option("--reload", help="Start anew when Python files below the directory change.")
    ] = False,
    app_dir: Annotated[
        Path, typer.Option("--app-dir", metavar="DIRECTORY", help="Where the module is looked for first.")
    ] = Path(),
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="The service's name, in place of its own.")
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option("--metadata", metavar="KEY=VALUE", help="Added to the service's metadata; may be repeated."),
    ] = None,
    max_concurrency: Annotated[
        int | None,
        typer.Option(
            "--max-concurrency", min=1, help="How many handlers of an endpoint run at once, where it doesn't say."
        ),
    ] = None,
    log_level: Annotated[
        LogLevel | None,
        typer.Option("--log-level", help="What is logged. Unless it is given: info, or what the module says."),
    ] = None,
) -> None:
    """Run a service that a Python module defines, until SIGTERM or Ctrl-C; then let it finish what has arrived."""
    from natsvc.cli.serve import serve

    serve(
        settings,
        target,
        directory=app_dir,
        front_end=None if on is None else on.value,
        name=name,
        metadata=metadata or [],
        max_concurrency=max_concurrency,
        log_level=None if log_level is None else log_level.value,
        reload=reload,
    )


@app.command()
@with_connection
def top(
    settings: ConnectionSettings,
    name: OptionalServiceName = None,
    interval: Annotated[
        float | None,
        typer.Option(
            "--interval",
            "-i",
            metavar="DURATION",
            parser=parse_duration,
            help="From one look at the services to the next. 1s, unless it is given.",
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="Stop after so many intervals. Never, unless it is given.")
    ] = None,
    sort: Annotated[Order, typer.Option("--sort", help="What the rows are sorted by at first.")] = Order.REQUESTS,
    reverse: Annotated[bool, typer.Option("--reverse", help="Sort the other way round.")] = False,
    as_json: Json = False,
) -> None:
    """Show the load of services as it changes: requests and errors a second, mean times.

    Keys: s, r, e and t sort by service, requests, errors and time; R turns the order round; q quits.
    """
    from natsvc.cli.rates import Order
    from natsvc.cli.top import top

    top(
        settings,
        name,
        interval=1.0 if interval is None else interval,
        count=count,
        order=Order(sort.value),
        reverse=reverse,
        as_json=as_json,
    )
