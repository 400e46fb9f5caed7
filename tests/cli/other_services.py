"""Services as other languages write them, whose every answer is known: tables of them can be compared to the letter.

They leave out what ADR-32 makes optional, send null where Go does, fields that nobody knows, and what a terminal would
obey if it were printed as it is.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any

from natsvc.sync import Connection, Subscription, connect

FIRST, SECOND, OTHER = "S1tkQvd8ZQ4yXk6tY0bH2a", "S2M9r1JmW7cPZs3VgA5uEe", "gQ2vJpLxNn8RfT0dKhYw4C"

INFOS: list[dict[str, Any]] = [
    {
        "type": "io.nats.micro.v1.info_response",
        "name": "orders",
        "id": FIRST,
        "version": "2.3.1",
        "description": "Takes orders, and tells the warehouse what to send to whom",
        "metadata": {"region": "eu-west", "team": "sales"},
        "endpoints": [
            {"name": "create", "subject": "orders.create", "queue_group": "q", "metadata": {"schema": "orders.v2"}},
            {"name": "cancel", "subject": "orders.*.cancel", "queue_group": "q", "metadata": None},
            {"name": "watch", "subject": "orders.watch"},
        ],
        "unknown": [1, 2, 3],
    },
    {
        "type": "io.nats.micro.v1.info_response",
        "name": "orders",
        "id": SECOND,
        "version": "2.4.0-rc.1",
        "description": "Takes orders, and tells the warehouse what to send to whom",
        "metadata": None,
        "endpoints": [{"name": "create", "subject": "orders.create", "queue_group": "q"}],
    },
    {"name": "clock", "id": OTHER, "version": "0.0.1", "description": "\x1b[31mred\x1b[0m [bold]日本語[/bold]\x07"},
]

STATS: list[dict[str, Any]] = [
    {
        "type": "io.nats.micro.v1.stats_response",
        "name": "orders",
        "id": FIRST,
        "version": "2.3.1",
        "metadata": None,
        "started": "2024-02-29T12:34:56.123456789Z",
        "endpoints": [
            {
                "name": "create",
                "subject": "orders.create",
                "queue_group": "q",
                "num_requests": 1234567,
                "num_errors": 12,
                "last_error": "404:no such \x1b[31marticle",
                "processing_time": 98_765_432_100,
                "average_processing_time": 80_000,
                "data": {"cache": {"hits": 7}},
            },
            {"name": "cancel", "subject": "orders.*.cancel", "queue_group": "q"},
            {"name": "watch", "num_requests": 3, "processing_time": 7_500_000_000, "average_processing_time": 2.5e9},
        ],
    },
    {
        "name": "orders",
        "id": SECOND,
        "started": None,
        "endpoints": [{"name": "create", "num_requests": 1, "processing_time": 950, "average_processing_time": 950}],
    },
    {"name": "clock", "id": OTHER, "endpoints": None},
]


@contextlib.contextmanager
def other_services(url: str) -> Iterator[Connection]:
    """Have these services answer, and one that answers what is no JSON, while the block runs."""
    with connect(url) as nc:
        subscriptions = [nc.subscribe(f"$SRV.{verb}.>") for verb in ("PING", "INFO", "STATS")]
        subscriptions += [nc.subscribe(f"$SRV.{verb}") for verb in ("PING", "INFO", "STATS")]
        threads = [threading.Thread(target=_answer, args=(nc, one)) for one in subscriptions]
        for thread in threads:
            thread.start()
        nc.flush()
        try:
            yield nc
        finally:
            for one in subscriptions:
                one.unsubscribe()
            for thread in threads:
                thread.join()


def _answer(nc: Connection, subscription: Subscription) -> None:
    for message in subscription:
        _, verb, *asked = message.subject.split(".")
        for answer in {"PING": INFOS, "INFO": INFOS, "STATS": STATS}[verb]:
            if [answer["name"], answer["id"]][: len(asked)] != asked:
                continue
            if verb == "PING":
                answer = {name: answer[name] for name in ("name", "id", "version")}
            nc.publish(message.reply, json.dumps(answer))
