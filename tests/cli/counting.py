"""A service of which the test says what it has counted."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any

from natsvc.sync import connect


class Counting:
    """Instances that count as much as they are told to, in each round that they are asked in.

    Attributes:
        endpoints: What the endpoints of each instance have counted, by the instance's id.
        growth: What is added to that whenever somebody asks.
        rounds: How often somebody has asked.
    """

    def __init__(self) -> None:
        self.endpoints: dict[str, dict[str, dict[str, Any]]] = {}
        self.growth: dict[str, dict[str, dict[str, int]]] = {}
        self.rounds = 0
        self._lock = threading.Lock()

    def add(self, id: str, **growth: dict[str, int]) -> None:
        """Add an instance with such endpoints."""
        with self._lock:
            self.endpoints[id] = {
                name: {"num_requests": 0, "num_errors": 0, "processing_time": 0, "last_error": ""} for name in growth
            }
            self.growth[id] = growth

    def remove(self, id: str) -> None:
        """Have an instance answer no more."""
        with self._lock:
            del self.endpoints[id], self.growth[id]

    def answers(self) -> list[str]:
        """Count, and return what all instances answer."""
        with self._lock:
            self.rounds += 1
            for id, grown in self.growth.items():
                for name, counts in grown.items():
                    for field, amount in counts.items():
                        self.endpoints[id][name][field] += amount
            return [
                json.dumps(
                    {
                        "type": "io.nats.micro.v1.stats_response",
                        "name": "orders",
                        "id": id,
                        "endpoints": [{"name": name, **counts} for name, counts in endpoints.items()],
                    }
                )
                for id, endpoints in self.endpoints.items()
            ]


@contextlib.contextmanager
def counting(url: str) -> Iterator[Counting]:
    """Have such a service answer while the block runs."""
    service = Counting()
    with connect(url) as nc, nc.subscribe("$SRV.>") as subscription:

        def answer() -> None:
            for message in subscription:
                if message.subject not in ("$SRV.STATS", "$SRV.STATS.orders"):
                    continue
                for text in service.answers():
                    nc.publish(message.reply, text)

        thread = threading.Thread(target=answer)
        thread.start()
        nc.flush()
        try:
            yield service
        finally:
            subscription.unsubscribe()
            thread.join()
