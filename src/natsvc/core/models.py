"""What services answer to PING, INFO and STATS (ADR-32, "Discovery and Status"), to be written and to be read.

Writing gives the JSON exactly as ADR-32 has it. Reading takes what services of every language send: unknown fields
are skipped, optional ones may be missing or null. Only what makes an answer useless is an error: no object, another
type, no name, no id, an endpoint without a name.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from natsvc.core.ready import AwaitableSelf
from natsvc.errors import InvalidAnswerError

__all__ = [
    "INFO_RESPONSE_TYPE",
    "PING_RESPONSE_TYPE",
    "STATS_RESPONSE_TYPE",
    "EndpointInfo",
    "EndpointStats",
    "ServiceInfo",
    "ServicePing",
    "ServiceStats",
]

INFO_RESPONSE_TYPE = "io.nats.micro.v1.info_response"
PING_RESPONSE_TYPE = "io.nats.micro.v1.ping_response"
STATS_RESPONSE_TYPE = "io.nats.micro.v1.stats_response"

_FRACTION = re.compile(r"\.(\d+)")
_LEAP_SECOND = re.compile(r"(T\d\d:\d\d):60")


@dataclass(slots=True, kw_only=True)
class _Identity(AwaitableSelf):
    """What every answer begins with (ADR-32, "Standard Field")."""

    TYPE: ClassVar[str]

    name: str
    id: str
    version: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def type(self) -> str:
        """The answer's type, such as `io.nats.micro.v1.info_response`."""
        return self.TYPE

    def to_dict(self) -> dict[str, Any]:
        """Return what stands in the JSON answer."""
        return self._identity()

    def _identity(self) -> dict[str, Any]:
        return {
            "type": self.TYPE,
            "name": self.name,
            "id": self.id,
            "version": self.version,
            "metadata": dict(self.metadata),
        }


@dataclass(slots=True, kw_only=True)
class ServicePing(_Identity):
    """The answer to PING.

    Attributes:
        name: The kind of the service.
        id: The id of this instance.
        version: The version of the service.
        metadata: What the service's configuration says about it.
        round_trip: How many seconds passed from asking until this answer was there; None if it was not asked for by a
            ServiceClient. It is no part of the answer: not sent, and not compared.
    """

    TYPE: ClassVar[str] = PING_RESPONSE_TYPE

    round_trip: float | None = field(default=None, compare=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ServicePing:
        """Read an answer of any service.

        Raises:
            InvalidAnswerError: It is not a PING answer.
        """
        return cls(**_read_identity("PING", data, cls.TYPE))


@dataclass(slots=True, kw_only=True)
class EndpointInfo:
    """An endpoint in the answer to INFO.

    Attributes:
        name: The endpoint's name.
        subject: Its whole subject.
        queue_group: Its queue group, "" if it has none.
        metadata: What its configuration says about it.
    """

    name: str
    subject: str = ""
    queue_group: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return what stands in the JSON answer."""
        return {
            "name": self.name,
            "subject": self.subject,
            "queue_group": self.queue_group,
            "metadata": dict(self.metadata),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> EndpointInfo:
        """Read an endpoint of any service.

        Raises:
            InvalidAnswerError: It is not an object, or has no name.
        """
        data = _read_object("INFO endpoint", data)
        return cls(
            name=_read_required("INFO endpoint", data, "name"),
            subject=_read_text(data, "subject"),
            queue_group=_read_text(data, "queue_group"),
            metadata=_read_metadata(data),
        )


@dataclass(slots=True, kw_only=True)
class ServiceInfo(_Identity):
    """The answer to INFO.

    Attributes:
        name: The kind of the service.
        id: The id of this instance.
        version: The version of the service.
        metadata: What the service's configuration says about it.
        description: What the service is for.
        endpoints: Its endpoints in the order in which they were added.
    """

    TYPE: ClassVar[str] = INFO_RESPONSE_TYPE

    description: str = ""
    endpoints: list[EndpointInfo] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return what stands in the JSON answer."""
        return {
            **self._identity(),
            "description": self.description,
            "endpoints": [endpoint.to_dict() for endpoint in self.endpoints],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ServiceInfo:
        """Read an answer of any service.

        Raises:
            InvalidAnswerError: It is not an INFO answer.
        """
        return cls(
            **_read_identity("INFO", data, cls.TYPE),
            description=_read_text(data, "description"),
            endpoints=[EndpointInfo.from_dict(one) for one in _read_list("INFO", data, "endpoints")],
        )


@dataclass(slots=True, kw_only=True)
class EndpointStats:
    """An endpoint in the answer to STATS.

    Attributes:
        name: The endpoint's name.
        subject: Its whole subject.
        queue_group: Its queue group, "" if it has none.
        num_requests: How many requests are finished.
        num_errors: How many of them ended with an error.
        last_error: The last error as it was sent, `code:description`; "" if there was none.
        processing_time: The time all handlers took together, in nanoseconds.
        average_processing_time: processing_time / num_requests, in nanoseconds, rounded down.
        data: What the service adds of its own; None if nothing.
    """

    name: str
    subject: str = ""
    queue_group: str = ""
    num_requests: int = 0
    num_errors: int = 0
    last_error: str = ""
    processing_time: int = 0
    average_processing_time: int = 0
    data: Any = None

    def to_dict(self) -> dict[str, Any]:
        """Return what stands in the JSON answer."""
        stats = {
            "name": self.name,
            "subject": self.subject,
            "queue_group": self.queue_group,
            "num_requests": self.num_requests,
            "num_errors": self.num_errors,
            "last_error": self.last_error,
            "processing_time": self.processing_time,
            "average_processing_time": self.average_processing_time,
        }
        if self.data is not None:
            stats["data"] = self.data
        return stats

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> EndpointStats:
        """Read an endpoint of any service.

        Raises:
            InvalidAnswerError: It is not an object, or has no name.
        """
        data = _read_object("STATS endpoint", data)
        return cls(
            name=_read_required("STATS endpoint", data, "name"),
            subject=_read_text(data, "subject"),
            queue_group=_read_text(data, "queue_group"),
            num_requests=_read_count("STATS endpoint", data, "num_requests"),
            num_errors=_read_count("STATS endpoint", data, "num_errors"),
            last_error=_read_text(data, "last_error"),
            processing_time=_read_count("STATS endpoint", data, "processing_time"),
            average_processing_time=_read_count("STATS endpoint", data, "average_processing_time"),
            data=data.get("data"),
        )


@dataclass(slots=True, kw_only=True)
class ServiceStats(_Identity):
    """The answer to STATS.

    Attributes:
        name: The kind of the service.
        id: The id of this instance.
        version: The version of the service.
        metadata: What the service's configuration says about it.
        started: Since when the instance counts, with time zone; None if it doesn't say.
        endpoints: Its endpoints in the order in which they were added.
    """

    TYPE: ClassVar[str] = STATS_RESPONSE_TYPE

    started: dt.datetime | None = None
    endpoints: list[EndpointStats] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return what stands in the JSON answer."""
        return {
            **self._identity(),
            "started": _write_time(self.started),
            "endpoints": [endpoint.to_dict() for endpoint in self.endpoints],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ServiceStats:
        """Read an answer of any service.

        Raises:
            InvalidAnswerError: It is not a STATS answer.
        """
        return cls(
            **_read_identity("STATS", data, cls.TYPE),
            started=_read_time("STATS", data, "started"),
            endpoints=[EndpointStats.from_dict(one) for one in _read_list("STATS", data, "endpoints")],
        )


def _write_time(time: dt.datetime | None) -> str | None:
    """RFC 3339 in UTC with six fractional digits always: readers that expect a fraction find one."""
    if time is None:
        return None
    return time.astimezone(dt.UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _read_object(what: str, data: object) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise InvalidAnswerError(what, data, "must be a JSON object")
    return data


def _read_identity(what: str, data: object, expected: str) -> dict[str, Any]:
    answer = _read_object(what, data)
    if answer.get("type") not in (None, expected):
        raise InvalidAnswerError(f"{what} type", answer["type"], f"must be {expected}")
    return {
        "name": _read_required(what, answer, "name"),
        "id": _read_required(what, answer, "id"),
        "version": _read_text(answer, "version"),
        "metadata": _read_metadata(answer),
    }


def _read_required(what: str, data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidAnswerError(f"{what} {name}", value, "must be a text that is not empty")
    return value


def _read_text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return "" if value is None else str(value)


def _read_metadata(data: Mapping[str, Any]) -> dict[str, str]:
    metadata = data.get("metadata")
    return {str(key): str(value) for key, value in metadata.items()} if isinstance(metadata, Mapping) else {}


def _read_list(what: str, data: Mapping[str, Any], name: str) -> list[Any]:
    value = data.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidAnswerError(f"{what} {name}", value, "must be a list")
    return value


def _read_count(what: str, data: Mapping[str, Any], name: str) -> int:
    value = data.get(name)
    if value is None:
        return 0
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidAnswerError(f"{what} {name}", value, "must be a number") from None


def _read_time(what: str, data: Mapping[str, Any], name: str) -> dt.datetime | None:
    value = data.get(name)
    if not value:
        return None
    try:
        # Go writes nanoseconds, and datetime takes no more than microseconds.
        text = _FRACTION.sub(lambda match: "." + match[1][:6].ljust(6, "0"), value.upper(), count=1)
        time = dt.datetime.fromisoformat(_LEAP_SECOND.sub(r"\1:59", text))
        return time.astimezone(dt.UTC) if time.tzinfo else time.replace(tzinfo=dt.UTC)
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise InvalidAnswerError(f"{what} {name}", value, "must be a time as RFC 3339 has it") from None
