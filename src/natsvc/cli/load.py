"""Sends many requests at once, and measures how they are answered.

It runs on natsvc.asyncio, of whose client one process gets most: a request costs it a third of the CPU time that it
costs a thread of natsvc.sync. Load and measurement share one core, so the times are those that a busy Python client
sees, its own waiting included.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from natsvc.asyncio import connect
from natsvc.core import service_error
from natsvc.errors import NoRespondersError, RequestTimeoutError
from natsvc.signals import first_signal

if TYPE_CHECKING:
    from rich.progress import Progress

    from natsvc.asyncio import Connection
    from natsvc.message import Message

__all__ = ["NO_RESPONDERS", "TIMEOUT", "Failure", "Measurement", "Outgoing", "run_load"]

NO_RESPONDERS = "no responders"
TIMEOUT = "timeout"

_PROGRESS_INTERVAL = 0.1

_clock = time.perf_counter_ns


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request to be sent."""

    subject: str
    data: bytes = b""
    headers: Mapping[str, str] | None = None


@dataclass(slots=True)
class Failure:
    """What went wrong in one way.

    Attributes:
        kind: The code of a service's error, or NO_RESPONDERS, or TIMEOUT.
        text: What the first of them said.
        count: How many there were.
    """

    kind: str
    text: str
    count: int = 0


@dataclass(slots=True)
class Measurement:
    """What came of the requests.

    Attributes:
        sent: How many requests were sent, and were answered or given up; not those that an interruption cut short.
        latencies: The times to each answer in nanoseconds, error replies included.
        failures: What went wrong, by its kind.
        responses: How many there were of each sort, if they were sorted.
        duration: How long it all took, in nanoseconds.
        is_interrupted: Whether Ctrl-C ended it.
    """

    sent: int = 0
    latencies: array[int] = field(default_factory=lambda: array("q"))
    failures: dict[str, Failure] = field(default_factory=dict)
    responses: Counter[str] = field(default_factory=Counter)
    duration: int = 0
    is_interrupted: bool = False

    @property
    def answered(self) -> int:
        """How many requests were answered, error replies included."""
        return len(self.latencies)

    @property
    def failed(self) -> int:
        """How many requests went wrong."""
        return sum(failure.count for failure in self.failures.values())

    @property
    def rate(self) -> float:
        """How many answers came in a second."""
        return self.answered / self.duration * 1e9 if self.duration else 0.0

    def fail(self, kind: str, text: str) -> None:
        """Count a request that went wrong."""
        self.failures.setdefault(kind, Failure(kind, text)).count += 1


def run_load(
    connection: Mapping[str, Any],
    requests: Iterable[Outgoing],
    *,
    total: int,
    concurrency: int,
    timeout: float,
    measurement: Measurement,
    rate: float | None = None,
    sort: Callable[[Message], str] | None = None,
) -> None:
    """Send requests, some of them at once, until all are answered or given up, with a progress bar on a terminal.

    Ctrl-C ends it early; a second one acts as ever. SIGTERM ends it, too, and then does what it would otherwise do:
    an exception of its handler's must not come from the middle of what runs on the event loop.

    Args:
        connection: The arguments for `connect`.
        requests: What to send.
        total: How many that are.
        concurrency: How many are in flight at once.
        timeout: Seconds to wait for an answer.
        measurement: Where to note what comes of them; it is good also when an exception is raised.
        rate: How many to send in a second. None: each as soon as an earlier one is done.
        sort: Returns of which sort a response is. None: they are not sorted.

    Raises:
        NoRespondersError: The very first to come back says that nobody is there.
        NatsvcError: A request can't be sent, or the connection is closed for good.
    """
    load = _Load(requests, timeout=timeout, measurement=measurement, rate=rate, sort=sort)
    with _progress_bar(total) as progress:
        asyncio.run(load.run(connection, min(concurrency, total), progress))
    if load.is_terminated:
        signal.raise_signal(signal.SIGTERM)


class _Load:
    """Requests on their way; see `run_load`."""

    def __init__(
        self,
        requests: Iterable[Outgoing],
        *,
        timeout: float,
        measurement: Measurement,
        rate: float | None,
        sort: Callable[[Message], str] | None,
    ) -> None:
        self._requests: Iterator[tuple[int, Outgoing]] = enumerate(requests)
        self._timeout = timeout
        self._measurement = measurement
        self._interval = None if rate is None else 1e9 / rate
        self._sort = sort
        self._began = 0
        self.is_terminated = False

    async def run(self, connection: Mapping[str, Any], concurrency: int, progress: Progress | None) -> None:
        measurement = self._measurement
        async with connect(**connection) as nc:
            self._began = _clock()
            callers = [asyncio.create_task(self._call(nc)) for _ in range(concurrency)]

            def interrupt() -> None:
                measurement.is_interrupted = True
                end()

            def terminate() -> None:
                self.is_terminated = True
                end()

            def end() -> None:
                for caller in callers:
                    caller.cancel()

            loop = asyncio.get_running_loop()
            watch = None if progress is None else asyncio.create_task(self._watch(progress))
            try:
                with (
                    first_signal((signal.SIGINT,), lambda: loop.call_soon_threadsafe(interrupt)),
                    first_signal((signal.SIGTERM,), lambda: loop.call_soon_threadsafe(terminate)),
                ):
                    await asyncio.wait(callers, return_when=asyncio.FIRST_EXCEPTION)
            finally:
                measurement.duration = _clock() - self._began
                for task in (*callers, watch):
                    if task is not None:
                        task.cancel()
            outcomes = await asyncio.gather(*callers, return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, Exception):
                    raise outcome

    async def _call(self, nc: Connection) -> None:
        """Send one request after the other; all callers take from the same."""
        measurement, latencies = self._measurement, self._measurement.latencies
        for index, outgoing in self._requests:
            began = _clock() if self._interval is None else await self._turn(index)
            try:
                reply = await nc.request(
                    outgoing.subject, outgoing.data, timeout=self._timeout, headers=outgoing.headers
                )
            except RequestTimeoutError as error:
                measurement.fail(TIMEOUT, str(error))
            except NoRespondersError as error:
                if not measurement.sent:
                    raise
                measurement.fail(NO_RESPONDERS, str(error))
            else:
                latencies.append(_clock() - began)
                self._take(reply)
            measurement.sent += 1

    def _take(self, reply: Message) -> None:
        error = service_error(reply)
        if error is not None:
            self._measurement.fail(error.code, error.description)
        elif self._sort is not None:
            self._measurement.responses[self._sort(reply)] += 1

    async def _turn(self, index: int) -> int:
        """Wait until a request is due; return the time from which its latency counts.

        That is when it was due, if all callers were busy then: otherwise a service that is too slow would hold up the
        very requests that show it ("coordinated omission"). Our own timer's lateness isn't the service's.
        """
        assert self._interval is not None  # noqa: S101 - the caller has seen to it
        due = self._began + round(index * self._interval)
        wait = due - _clock()
        if wait <= 0:
            return due
        await asyncio.sleep(wait / 1e9)
        return _clock()

    async def _watch(self, progress: Progress) -> None:
        while True:
            progress.update(progress.task_ids[0], completed=self._measurement.sent, refresh=True)
            await asyncio.sleep(_PROGRESS_INTERVAL)


@contextlib.contextmanager
def _progress_bar(total: int) -> Iterator[Progress | None]:
    """Show a progress bar on stderr within the block; None, and nothing is shown, if that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TimeRemainingColumn

    # Narrower than the terminal, so that the ^C which it echoes doesn't begin a line that nobody would remove again.
    columns = (BarColumn(), TaskProgressColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # It is drawn by the one thread that sends: a second would take turns with it for the interpreter.
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True) as progress:
        progress.add_task("requests", total=total)
        yield progress
