"""The commands that ask services what they are and how they do: ls, info, stats, ping.

Tables show the fields that people look for; the JSON of a command is what the services have answered, in full.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import TYPE_CHECKING, TypeVar

from natsvc.cli.output import (
    CommandError,
    UsageError,
    format_count,
    format_duration,
    identity,
    number,
    print_json,
    print_note,
    print_table,
    print_text,
    table,
)
from natsvc.sync import ServiceClient

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

    from natsvc import EndpointStats, ServiceInfo, ServiceStats
    from natsvc.cli.settings import ConnectionSettings

__all__ = ["info", "ls", "ping", "stats"]

Found = TypeVar("Found")


def ls(settings: ConnectionSettings, name: str | None = None, *, as_json: bool = False) -> None:
    """List the instances of all services, or of one; that there are none is no error."""
    with settings.connect() as nc:
        found = ServiceClient(nc).info(name, timeout=settings.timeout)
    found.sort(key=lambda one: (one.name, one.id))
    if as_json:
        print_json([one.to_dict() for one in found])
        return
    if not found:
        print_note("there are no services" if name is None else f"there is no service {name!r}")
        return
    shown = table(None, ["Name", "Version", identity("ID"), "Description"])
    for one in found:
        shown.add_row(one.name, one.version, one.id, one.description)
    print_table(shown)


def info(
    settings: ConnectionSettings,
    name: str,
    id: str | None = None,
    *,
    endpoint: str | None = None,
    as_json: bool = False,
) -> None:
    """Show one instance of a service, the first that answers unless an id is given: what it is and how it does.

    Args:
        settings: How to connect.
        name: The service.
        id: The instance.
        endpoint: A regular expression: only the endpoints in whose names it is found are shown.
        as_json: Print the answers to INFO and STATS.

    Raises:
        CommandError: There is no such instance.
        UsageError: The regular expression is none.
    """
    pattern = _compile(endpoint)
    with settings.connect() as nc:
        client = ServiceClient(nc)
        facts = _only(client.info(name, id, timeout=settings.timeout, limit=1), name, id)
        counted = _only(client.stats(name, facts.id, timeout=settings.timeout), name, facts.id)
    facts.endpoints = [one for one in facts.endpoints if pattern.search(one.name)]
    counted.endpoints = [one for one in counted.endpoints if pattern.search(one.name)]
    if as_json:
        print_json({"info": facts.to_dict(), "stats": counted.to_dict()})
    else:
        _print_info(facts, counted)


def stats(settings: ConnectionSettings, name: str, id: str | None = None, *, as_json: bool = False) -> None:
    """Show what each instance of a service has counted, and the sums.

    Raises:
        CommandError: There is no such service, or no such instance.
    """
    with settings.connect() as nc:
        found = ServiceClient(nc).stats(name, id, timeout=settings.timeout)
    _only(found, name, id)
    found.sort(key=lambda one: (one.name, one.id))
    if as_json:
        print_json([one.to_dict() for one in found])
        return
    shown = table(
        None,
        [
            identity("ID"),
            "Endpoint",
            number("Requests"),
            "Queue\nGroup",
            number("Errors"),
            number("Processing\nTime"),
            number("Average\nTime"),
        ],
    )
    for instance in found:
        for one in instance.endpoints:
            shown.add_row(
                instance.id,
                one.name,
                format_count(one.num_requests),
                one.queue_group,
                format_count(one.num_errors),
                format_duration(one.processing_time),
                format_duration(one.average_processing_time),
            )
    _set_sums(shown, [one for instance in found for one in instance.endpoints])
    print_table(shown)


def ping(settings: ConnectionSettings, name: str | None = None, *, as_json: bool = False) -> None:
    """Show which instances answer, and how long each took.

    Raises:
        CommandError: None did: as a liveness probe, the command then ends with status 1.
    """
    with settings.connect() as nc:
        found = ServiceClient(nc).ping(name, timeout=settings.timeout)
    if as_json:
        print_json([{**one.to_dict(), "round_trip": one.round_trip} for one in found])
    if not found:
        raise CommandError("no service answers" if name is None else f"no service {name!r} answers")
    if as_json:
        return
    shown = table(None, ["Name", "Version", identity("ID"), number("Round Trip")])
    for one in found:
        shown.add_row(one.name, one.version, one.id, format_duration((one.round_trip or 0) * 1e9))
    print_table(shown)


def _compile(expression: str | None) -> re.Pattern[str]:
    try:
        return re.compile(expression or "")
    except re.error as error:
        raise UsageError(f"--endpoint: {expression!r} is not a regular expression: {error}") from None


def _only(found: Sequence[Found], name: str, id: str | None) -> Found:
    """Return the first answer; it is an error if there is none."""
    if found:
        return found[0]
    raise CommandError(f"no service {name!r} answers" + ("" if id is None else f" with the id {id!r}"))


def _print_info(facts: ServiceInfo, counted: ServiceStats) -> None:
    about = table(None, ["", ""])
    about.show_header = False
    about.add_row("Service", f"{facts.name} ({facts.id})")
    about.add_row("Description", facts.description)
    about.add_row("Version", facts.version)
    about.add_row("Started", _started(counted.started))
    about.add_row("Metadata", _lines(facts.metadata))
    print_table(about)

    endpoints = table("Endpoints", ["Name", "Subject", "Queue Group", "Metadata"])
    for endpoint in facts.endpoints:
        endpoints.add_row(endpoint.name, endpoint.subject, endpoint.queue_group, _lines(endpoint.metadata))
    print_text("")
    print_table(endpoints)

    numbers = table(
        "Statistics",
        [
            "Name",
            number("Requests"),
            number("Errors"),
            number("Processing\nTime"),
            number("Average\nTime"),
            "Last Error",
        ],
    )
    for one in counted.endpoints:
        numbers.add_row(
            one.name,
            format_count(one.num_requests),
            format_count(one.num_errors),
            format_duration(one.processing_time),
            format_duration(one.average_processing_time),
            one.last_error,
        )
    print_text("")
    print_table(numbers)

    for one in counted.endpoints:
        if one.data is not None:
            print_text(f"\nData of {one.name}\n{json.dumps(one.data, indent=2, ensure_ascii=False)}")


def _set_sums(shown: Table, endpoints: Sequence[EndpointStats]) -> None:
    requests = sum(one.num_requests for one in endpoints)
    processing_time = sum(one.processing_time for one in endpoints)
    sums = [
        "",
        "",
        format_count(requests),
        "",
        format_count(sum(one.num_errors for one in endpoints)),
        format_duration(processing_time),
        format_duration(processing_time // requests if requests else 0),
    ]
    for column, text in zip(shown.columns, sums, strict=True):
        column.footer = text
    shown.show_footer = len(endpoints) > 1


def _started(time: dt.datetime | None) -> str:
    if time is None:
        return ""
    age = dt.datetime.now(dt.UTC) - time
    return f"{time:%Y-%m-%d %H:%M:%S} UTC ({format_duration(max(0.0, age.total_seconds()) * 1e9)} ago)"


def _lines(metadata: Mapping[str, str]) -> str:
    return "\n".join(f"{key}: {value}" for key, value in sorted(metadata.items()))
