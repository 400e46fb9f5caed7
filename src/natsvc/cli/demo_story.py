"""What `natsvc demo` sends, what came of it, and whether that is what must come of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from natsvc.cli import discovery
from natsvc.cli.demo_service import NAME
from natsvc.cli.latency import Latency
from natsvc.cli.load import Measurement, Outgoing, run_load
from natsvc.cli.load_report import measurement_to_dict, print_failures, print_histogram, print_latency
from natsvc.cli.output import format_count, format_duration, identity, number, print_table, print_text, table
from natsvc.errors import NoRespondersError
from natsvc.sync import ServiceClient

if TYPE_CHECKING:
    from natsvc import Message, ServiceStats
    from natsvc.cli.demo_processes import Instance
    from natsvc.cli.settings import ConnectionSettings

__all__ = ["REQUESTS", "Story"]

REQUESTS = 3_000

_CONCURRENCY = 16
_BAD = range(50, REQUESTS, 100)
_UNEXPECTED = REQUESTS // 2
_EXPECTED_FAILURES = {"400": len(_BAD), "500": 1}
_COUNT_LIMIT = 5.0
_POLL_INTERVAL = 0.01


class Story:
    """Requests to the instances of the service, and what came of them.

    Args:
        settings: How to connect.
        instances: The instances, which are the only ones of the service.
    """

    def __init__(self, settings: ConnectionSettings, instances: Sequence[Instance]) -> None:
        self._settings = settings
        self._instances = instances
        self._measurement = Measurement()
        self._nobody: NoRespondersError | None = None
        self._stats: dict[str, ServiceStats] = {}

    def run(self) -> None:
        """Send the requests, and ask the instances what they have counted.

        Raises:
            NatsvcError: A request could not be sent.
            KeyboardInterrupt: Ctrl-C has ended it.
        """
        run_load(
            self._settings.arguments(),
            _requests(),
            total=REQUESTS,
            concurrency=_CONCURRENCY,
            timeout=self._settings.timeout,
            measurement=self._measurement,
            sort=_answered_by,
        )
        if self._measurement.is_interrupted:
            raise KeyboardInterrupt
        with self._settings.connect() as nc:
            client = ServiceClient(nc)
            try:
                client.request(f"{NAME}.nobody", timeout=self._settings.timeout)
            except NoRespondersError as error:
                self._nobody = error
            self._ask(client)

    def problems(self) -> list[str]:
        """Return what is not as it must be, in words."""
        measured, instances = self._measurement, self._instances
        failures = {kind: one.count for kind, one in measured.failures.items()}
        responses = REQUESTS - sum(_EXPECTED_FAILURES.values())
        checks: list[tuple[str, Any, Any]] = [
            ("answers", measured.answered, REQUESTS),
            ("responses", measured.responses.total(), responses),
            ("errors", failures, _EXPECTED_FAILURES),
            ("errors told to the service's owner", len(self._reported()), 1),
            ("instances that responded", sorted(measured.responses), sorted(one.front_end for one in instances)),
            ("instances found", sorted(self._stats), sorted(one.id for one in instances)),
            ("requests counted by the instances", self._counted("num_requests"), REQUESTS),
            ("errors counted by the instances", self._counted("num_errors"), REQUESTS - responses),
            ("requests that nobody was there for", int(self._nobody is not None), 1),
        ]
        return [f"{what}: {found} instead of {wanted}" for what, found, wanted in checks if found != wanted]

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON; times are in nanoseconds."""
        return {
            "requests": measurement_to_dict(self._measurement),
            "instances": [
                {
                    "front_end": one.front_end,
                    "id": one.id,
                    "responses": self._measurement.responses[one.front_end],
                    "num_requests": self._counted("num_requests", one.id),
                    "num_errors": self._counted("num_errors", one.id),
                    "processing_time": self._counted("processing_time", one.id),
                }
                for one in self._instances
            ],
            "problems": self.problems(),
        }

    def tell(self, command: str) -> None:
        """Print it.

        Args:
            command: How to run `natsvc` from the user's shell.
        """
        self._tell_answers()
        print_text("")
        self._tell_errors()
        print_text("")
        self._tell_latency()
        for ask in (discovery.ls, discovery.stats):
            print_text("")
            print_text(f"$ {command} {ask.__name__} {NAME}")
            ask(self._settings, NAME)

    def _tell_answers(self) -> None:
        shown = table(
            "Who answered",
            ["Instance", identity("ID"), number("Requests"), number("Errors"), number("Average\nTime")],
        )
        for one in self._instances:
            requests = self._counted("num_requests", one.id)
            average = self._counted("processing_time", one.id) / max(1, requests)
            errors = self._counted("num_errors", one.id)
            shown.add_row(one.front_end, one.id, format_count(requests), format_count(errors), format_duration(average))
        print_table(shown)

    def _tell_errors(self) -> None:
        print_failures("What went wrong, as it was meant to", self._measurement.failures.values())
        for error in self._reported():
            print_text(f"Behind the 500, for the owner only: {error}")
        if self._nobody is not None:
            print_text(f"And one came back at once: {self._nobody}")

    def _tell_latency(self) -> None:
        latency = Latency.of(self._measurement.latencies)
        if latency is not None:
            title = f"How long answers took, {_CONCURRENCY} requests at once"
            print_latency(title, self._measurement, latency)
            print_text("")
            print_histogram(latency.buckets)

    def _ask(self, client: ServiceClient) -> None:
        """Ask for STATS until all is counted and reported: a response can be here before that has been done there."""
        deadline = time.monotonic() + _COUNT_LIMIT
        while True:
            found = client.stats(NAME, timeout=self._settings.timeout, limit=len(self._instances))
            self._stats = {one.id: one for one in found}
            is_complete = self._counted("num_requests") >= REQUESTS and self._reported()
            if is_complete or time.monotonic() > deadline:
                return
            time.sleep(_POLL_INTERVAL)

    def _reported(self) -> list[str]:
        return [error for one in self._instances for error in one.reported]

    def _counted(self, counter: str, id: str | None = None) -> int:
        """Return a counter's sum over all endpoints: of one instance, or of all."""
        counted = self._stats.values() if id is None else [self._stats[id]] if id in self._stats else []
        return sum(getattr(endpoint, counter) for one in counted for endpoint in one.endpoints)


def _answered_by(response: Message) -> str:
    return str(json.loads(response.data)["by"])


def _requests() -> Iterator[Outgoing]:
    greet, divide = f"{NAME}.greet", f"{NAME}.divide"
    for index in range(REQUESTS):
        if index == _UNEXPECTED:
            yield Outgoing(divide, b'{"a": 1, "b": 0}')
        elif index in _BAD:
            yield Outgoing(greet)
        elif index % 3:
            yield Outgoing(greet, b"Ada")
        else:
            yield Outgoing(divide, b'{"a": 22, "b": 7}')
