"""The command that puts load on a subject, whoever answers there, and tells how fast that goes.

Any answer will do: of a service in any language, or of a plain subscriber that replies.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from natsvc.cli.latency import Latency
from natsvc.cli.load import Measurement, Outgoing, run_load
from natsvc.cli.load_report import measurement_to_dict, print_failures, print_histogram, print_latency
from natsvc.cli.options import parse_headers, read_data
from natsvc.cli.output import CommandError, UsageError, format_count, format_duration, print_json, print_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from natsvc.cli.settings import ConnectionSettings

__all__ = ["bench"]

_DEFAULT_SIZE = 16
_FILLING = b"0123456789abcdef"


def bench(
    settings: ConnectionSettings,
    subject: str,
    *,
    requests: int,
    concurrency: int,
    data: str | None = None,
    size: int | None = None,
    headers: Sequence[str] = (),
    rate: float | None = None,
    as_json: bool = False,
) -> None:
    """Send requests, some of them at once, and print how they were answered; Ctrl-C ends it, and prints what there is.

    Args:
        settings: How to connect, and how long to wait for an answer.
        subject: Where the requests go.
        requests: How many there are.
        concurrency: How many are in flight at once.
        data: What each has in its body, or `-`: what stdin has.
        size: How many bytes of no meaning each has in its body instead. Default: 16.
        headers: The headers of each, as NAME:VALUE.
        rate: How many to send in a second, if the service can keep up. None: each as soon as one before it is done.
        as_json: Print JSON.

    Raises:
        UsageError: There are both data and a size.
        CommandError: Not one request was answered.
        NoRespondersError: Nobody is there to answer.
        NatsvcError: A request can't be sent, or the connection is closed for good.
        KeyboardInterrupt: Ctrl-C has ended it.
    """
    if data is not None and size is not None:
        raise UsageError("--data and --size exclude each other")
    outgoing = Outgoing(subject, _body(data, size), parse_headers(headers) or None)
    measurement = Measurement()
    try:
        run_load(
            settings.arguments(),
            itertools.repeat(outgoing, requests),
            total=requests,
            concurrency=concurrency,
            timeout=settings.timeout,
            rate=rate,
            measurement=measurement,
        )
    finally:
        # Also when it was cut short by an error: what was measured until then may show why.
        if measurement.sent:
            _show(subject, outgoing, concurrency, measurement, as_json=as_json)
    if measurement.is_interrupted:
        raise KeyboardInterrupt
    if not measurement.answered:
        raise CommandError(f"none of {format_count(measurement.sent)} requests was answered")


def _body(data: str | None, size: int | None) -> bytes:
    if data is not None:
        return read_data(data)
    size = _DEFAULT_SIZE if size is None else size
    return (_FILLING * (size // len(_FILLING) + 1))[:size]


def _show(subject: str, outgoing: Outgoing, concurrency: int, measurement: Measurement, *, as_json: bool) -> None:
    if as_json:
        sent = {"subject": subject, "size": len(outgoing.data), "concurrency": concurrency}
        print_json({**sent, **measurement_to_dict(measurement)})
        return
    size = len(outgoing.data)
    title = (
        f"{subject}: {format_count(measurement.sent)} requests of {format_count(size)} byte{'s' * (size != 1)}, "
        f"{format_count(concurrency)} at once, in {format_duration(measurement.duration)}"
    )
    latency = Latency.of(measurement.latencies)
    if latency is not None:
        print_latency(title, measurement, latency)
        print_text("")
        print_histogram(latency.buckets)
    if measurement.failures:
        if latency is not None:
            print_text("")
        print_failures(None, measurement.failures.values())
