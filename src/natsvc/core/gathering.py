"""Asks services for PING, INFO or STATS, and gathers what they answer.

Nobody knows how many will answer, so the end is a matter of time: a gathering is over after its timeout, when for a
while nothing more has come, when it has as many answers as were asked for, or when nobody is there to give one.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Generic, TypeVar

from natsvc.core.calling import check_duration, service_error
from natsvc.core.models import ServiceInfo, ServicePing, ServiceStats
from natsvc.core.subjects import ServiceVerb, control_subject
from natsvc.errors import ConfigError
from natsvc.message import Message

if TYPE_CHECKING:
    from typing import Self

    from natsvc.message import Delivery

__all__ = ["GATHER_STALL", "GATHER_TIMEOUT", "Answer", "Gathering"]

GATHER_TIMEOUT = 1.0
"""Seconds that a gathering takes at most, unless the caller says otherwise."""

GATHER_STALL = 0.25
"""Seconds after an answer within which the next one has to come, unless the caller says otherwise."""

Answer = TypeVar("Answer", ServicePing, ServiceInfo, ServiceStats)
"""What is gathered."""

_VERBS = {ServicePing: ServiceVerb.PING, ServiceInfo: ServiceVerb.INFO, ServiceStats: ServiceVerb.STATS}

_logger = logging.getLogger("natsvc.client")


class Gathering(Generic[Answer]):
    """The answers to one question, while they come in.

    Times are nanoseconds of any clock that only goes forward.

    Args:
        kind: The model of the answers; what is something else is skipped and logged.
        subject: The control subject to ask.
        timeout_ns: How long it takes at most.
        stall_ns: How long it goes on after an answer; it counts from the first answer on.
        limit: How many answers end it. None: no number does.
        now: The time, from which the timeout and round trips count.

    Attributes:
        subject: Where to publish the question, with a reply subject whose messages go to `received`.
        answers: What has come, in the order in which it came.
        deadline: When to call `wake`, unless something comes before; each answer can move it, either way.
        is_over: Whether there is nothing more to wait for.
    """

    __slots__ = ("_began", "_end", "_error", "_kind", "_limit", "_stall", "answers", "deadline", "is_over", "subject")

    def __init__(
        self, kind: type[Answer], subject: str, *, timeout_ns: int, stall_ns: int, limit: int | None, now: int
    ) -> None:
        self.subject = subject
        self.answers: list[Answer] = []
        self.deadline = now + timeout_ns
        self.is_over = False
        self._kind: type[Answer] = kind
        self._began = now
        self._end = self.deadline
        self._stall = stall_ns
        self._limit = limit
        self._error: BaseException | None = None

    @classmethod
    def of(
        cls,
        kind: type[Answer],
        name: str | None,
        id: str | None,
        *,
        prefix: str | None,
        timeout: float | None,
        stall: float | None,
        limit: int | None,
        now: int,
    ) -> Self:
        """Return the gathering that a user asks for; None means the default.

        Args:
            kind: The model of the answers.
            name: Ask the services of this name. Default: all.
            id: Ask this instance of that name. Default: all instances.
            prefix: The root of the control subjects. Default: `$SRV`.
            timeout: Seconds that it takes at most. Default: 1.
            stall: Seconds after an answer within which the next one has to come. Default: 0.25.
            limit: How many answers are enough. Default: one if there is an id, otherwise no number is.
            now: The time.

        Raises:
            ConfigError: A value breaks a rule, or an id comes without a name.
        """
        subject = control_subject(_VERBS[kind], name, id, prefix)
        if limit is None:
            limit = None if id is None else 1
        elif isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise ConfigError("limit", limit, "must be a whole number, 1 or more")
        return cls(
            kind,
            subject,
            timeout_ns=_nanoseconds(check_duration("timeout", timeout, GATHER_TIMEOUT)),
            stall_ns=_nanoseconds(check_duration("stall", stall, GATHER_STALL)),
            limit=limit,
            now=now,
        )

    def received(self, delivery: Delivery, now: int) -> None:
        """Take a message that has come to the reply subject."""
        if self.is_over:
            return
        message = Message.of(delivery)
        if message.says_no_responders:
            self.is_over = True
            return
        answer = self._read(message)
        if answer is None:
            return
        if isinstance(answer, ServicePing):
            answer.round_trip = (now - self._began) / 1e9
        self.answers.append(answer)
        self.deadline = min(self._end, now + self._stall)
        self.is_over = len(self.answers) == self._limit

    def wake(self, now: int) -> None:
        """Take note of the time; what has come late, but before this, counts."""
        if now >= self.deadline:
            self.is_over = True

    def failed(self, error: BaseException) -> None:
        """Take note that no answer can come any more; of a gathering that is over, nothing happens."""
        if not self.is_over:
            self._error = error
            self.is_over = True

    def result(self) -> list[Answer]:
        """Return the answers, or raise what it has failed with."""
        if self._error is not None:
            raise self._error
        return self.answers

    def _read(self, message: Message) -> Answer | None:
        refused: Exception | None = service_error(message)
        if refused is None:
            try:
                return self._kind.from_dict(json.loads(message.data))
            except (ValueError, RecursionError) as error:  # neither JSON nor an answer, or nested too deep to be one
                refused = error
        _logger.warning("an answer to %s was skipped: %s", self.subject, refused)
        return None


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1_000_000_000)
