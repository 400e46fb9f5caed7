"""The command that sends requests to an endpoint, which it finds by its name.

The response's body goes to stdout, and everything about it to stderr, so that what comes next in a pipe gets the body.
"""

from __future__ import annotations

import base64
import sys
import time
from typing import TYPE_CHECKING, Any

from natsvc.cli.options import parse_headers, read_data
from natsvc.cli.output import CommandError, format_count, format_duration, in_one_line, print_json, printable
from natsvc.sync import ServiceClient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from natsvc import Message
    from natsvc.cli.settings import ConnectionSettings

__all__ = ["request"]


def request(
    settings: ConnectionSettings,
    service: str,
    endpoint: str,
    data: str = "",
    *,
    headers: Sequence[str] = (),
    count: int = 1,
    raw: bool = False,
    as_json: bool = False,
) -> None:
    """Send requests, one after the other, and print each response; the first error ends it.

    Args:
        settings: How to connect.
        service: The name of the service.
        endpoint: The name of its endpoint; the first instance that answers INFO says what its subject is.
        data: The body, or `-`: what stdin has.
        headers: Headers, each as NAME:VALUE.
        count: How many requests.
        raw: Print the body as it is, and nothing else; of several, each ends with a line break.
        as_json: Print each response as a JSON object.

    Raises:
        CommandError: There is no such service or endpoint.
        ServiceError: The response is an error.
        NatsvcError: No response came.
    """
    sent_headers = parse_headers(headers)
    body = read_data(data)
    with settings.connect() as nc:
        client = ServiceClient(nc)
        subject = _find_subject(client, service, endpoint, settings.timeout)
        for _ in range(count):
            began = time.perf_counter_ns()
            response = client.request(subject, body, timeout=settings.timeout, headers=sent_headers)
            taken = time.perf_counter_ns() - began
            if as_json:
                print_json(_to_dict(subject, response, taken))
            elif raw:
                _print_raw(response.data, in_a_line=count > 1)
            else:
                _print_response(subject, response, taken)


def _find_subject(client: ServiceClient, service: str, endpoint: str, timeout: float) -> str:
    found = client.info(service, timeout=timeout, limit=1)
    if not found:
        raise CommandError(f"no service {service!r} answers")
    endpoints = found[0].endpoints
    subject = next((one.subject for one in endpoints if one.name == endpoint), None)
    if subject is None:
        names = ", ".join(one.name for one in endpoints) or "none at all"
        raise CommandError(f"the service {service!r} has no endpoint {endpoint!r}; it has: {names}")
    if {"*", ">"}.intersection(subject.split(".")):
        raise CommandError(
            f"the endpoint {endpoint!r} listens to {subject!r}, which is no subject to send one request to"
        )
    return subject


def _to_dict(subject: str, response: Message, taken: int) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "subject": subject,
        "round_trip": taken / 1e9,
        "headers": {name: response.headers.get_all(name) for name in response.headers},
    }
    try:
        shown["data"] = response.data.decode()
    except UnicodeDecodeError:
        shown["data_base64"] = base64.b64encode(response.data).decode()
    return shown


def _print_raw(data: bytes, *, in_a_line: bool) -> None:
    sys.stdout.buffer.write(data + b"\n" if in_a_line else data)
    sys.stdout.buffer.flush()


def _print_response(subject: str, response: Message, taken: int) -> None:
    size = format_count(len(response.data))
    print(f"{in_one_line(subject)}: {size} bytes in {format_duration(taken)}", file=sys.stderr)
    for name, value in response.headers.pairs():
        print(f"{name}: {in_one_line(value)}", file=sys.stderr)
    print(printable(response.data.decode("utf-8", "backslashreplace")))
