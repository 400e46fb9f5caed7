"""What changes between two looks at the counters of services: requests and errors a second, and the mean time.

It does no I/O and reads no clock: answers and times go in, rows come out. Counters of any language are taken as they
come. They may begin anew, when a service resets them; instances may come, go, or leave out an answer.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from natsvc.core import ServiceStats

if TYPE_CHECKING:
    import datetime as dt

__all__ = ["GONE_FOR", "Order", "Rates", "Row", "sort_rows"]

GONE_FOR = 10.0
"""Seconds for which an instance that no longer answers is still shown."""


class Order(enum.StrEnum):
    """What rows are sorted by."""

    SERVICE = "service"
    REQUESTS = "requests"
    ERRORS = "errors"
    TIME = "time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An endpoint of an instance, or an instance that has none.

    Attributes:
        service: The service's name.
        id: The instance's id.
        version: The service's version, "" if it says none.
        endpoint: The endpoint's name, "" if the instance has none.
        subject: The endpoint's subject.
        requests: The requests that the instance has counted.
        errors: The errors that it has counted.
        requests_per_second: In the last interval; None: not known.
        errors_per_second: In the last interval; None: not known.
        mean_time: Nanoseconds that the handler took for a request in the last interval; None: there was none.
        last_error: The last error, as the service tells it; "" if there was none.
        is_gone: Whether the instance did not answer, or no longer has that endpoint.
    """

    service: str
    id: str
    version: str = ""
    endpoint: str = ""
    subject: str = ""
    requests: int = 0
    errors: int = 0
    requests_per_second: float | None = None
    errors_per_second: float | None = None
    mean_time: float | None = None
    last_error: str = ""
    is_gone: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "name": self.service,
            "id": self.id,
            "version": self.version,
            "endpoint": self.endpoint,
            "subject": self.subject,
            "num_requests": self.requests,
            "num_errors": self.errors,
            "requests_per_second": self.requests_per_second,
            "errors_per_second": self.errors_per_second,
            "mean_processing_time": None if self.mean_time is None else round(self.mean_time),
            "last_error": self.last_error,
            "gone": self.is_gone,
        }


_Key = tuple[str, str, str, str, int]


@dataclass(frozen=True, slots=True)
class _Sample:
    """The counters of an endpoint, and when that was."""

    row: Row
    at: int
    time: int
    started: dt.datetime | None


class Rates:
    """The rows of all endpoints that there are, or were a moment ago.

    Args:
        gone_for: Seconds for which what no longer answers is still there.
    """

    def __init__(self, gone_for: float = GONE_FOR) -> None:
        self._gone_for = int(gone_for * 1e9)
        self._samples: dict[_Key, _Sample] = {}

    @property
    def rows(self) -> list[Row]:
        """The rows, in the order in which they have come."""
        return [sample.row for sample in self._samples.values()]

    def update(self, answers: Iterable[ServiceStats], now: int) -> None:
        """Take the answers of one round.

        A rate is what was counted since the endpoint's last answer, over the time since then. Where counters have begun
        anew in between, or there was no answer before, nobody knows what the rate is, so there is none.

        Args:
            answers: What the instances have answered to STATS.
            now: When they were asked, in nanoseconds; later than in the round before.
        """
        current: dict[_Key, _Sample] = {}
        for answer in answers:
            for sample in _samples(answer, now):
                key = _key(sample.row, current)
                current[key] = _compare(self._samples.get(key), sample)
        for key, sample in self._samples.items():
            if key in current:
                self._samples[key] = current.pop(key)
            else:
                row = replace(
                    sample.row, requests_per_second=None, errors_per_second=None, mean_time=None, is_gone=True
                )
                self._samples[key] = replace(sample, row=row)
        self._samples.update(current)
        self._samples = {key: one for key, one in self._samples.items() if now - one.at <= self._gone_for}


def sort_rows(rows: Iterable[Row], order: Order, *, reverse: bool = False) -> list[Row]:
    """Return the rows in an order: services by name, numbers from the largest on; ties by service, endpoint and id.

    Args:
        rows: The rows.
        order: What they are sorted by.
        reverse: From the smallest number on, or the names from the end on. What is not known comes last all the same.
    """
    named = sorted(rows, key=_names, reverse=reverse and order is Order.SERVICE)
    if order is Order.SERVICE:
        return named
    known = [row for row in named if _amount(row, order) is not None]
    unknown = [row for row in named if _amount(row, order) is None]
    return sorted(known, key=lambda row: _amount(row, order) or 0.0, reverse=not reverse) + unknown


def _names(row: Row) -> tuple[str, ...]:
    return (row.service, row.endpoint, row.id)


def _amount(row: Row, order: Order) -> float | None:
    match order:
        case Order.REQUESTS:
            return row.requests_per_second
        case Order.ERRORS:
            return row.errors_per_second
        case _:
            return row.mean_time


def _key(row: Row, taken: dict[_Key, _Sample]) -> _Key:
    """Return what identifies the row; nothing keeps a service from having two endpoints that are called alike."""
    occurrence = 0
    while (key := (row.service, row.id, row.endpoint, row.subject, occurrence)) in taken:
        occurrence += 1
    return key


def _samples(answer: ServiceStats, now: int) -> Iterator[_Sample]:
    instance = Row(service=answer.name, id=answer.id, version=answer.version)
    if not answer.endpoints:
        yield _Sample(instance, now, 0, answer.started)
    for endpoint in answer.endpoints:
        row = replace(
            instance,
            endpoint=endpoint.name,
            subject=endpoint.subject,
            requests=endpoint.num_requests,
            errors=endpoint.num_errors,
            last_error=endpoint.last_error,
        )
        # Some leave out the sum, though ADR-32 has it, and tell the average only.
        time = endpoint.processing_time or endpoint.average_processing_time * endpoint.num_requests
        yield _Sample(row, now, time, answer.started)


def _compare(before: _Sample | None, sample: _Sample) -> _Sample:
    """Return the sample with the rates since the one before."""
    if before is None or sample.at <= before.at or not sample.row.endpoint:
        return sample
    requests = sample.row.requests - before.row.requests
    errors = sample.row.errors - before.row.errors
    time = sample.time - before.time
    if sample.started != before.started or min(requests, errors, time) < 0:
        return sample
    seconds = (sample.at - before.at) / 1e9
    row = replace(
        sample.row,
        requests_per_second=requests / seconds,
        errors_per_second=errors / seconds,
        mean_time=time / requests if requests else None,
    )
    return replace(sample, row=row)
