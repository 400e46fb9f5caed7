"""Asks services for PING, INFO or STATS, and gathers what they answer.

All kinds of programs answer on control subjects, so what is no answer is skipped: it must not cost the others theirs.
And to ask whether somebody is there is no mistake where nobody is: then there is no answer, at once.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Generic, TypeVar

from natsvc.core.calling import service_error
from natsvc.core.effects import WARNING, Log
from natsvc.core.ending import Ending, check_limit, nanoseconds
from natsvc.core.models import ServiceInfo, ServicePing, ServiceStats
from natsvc.core.subjects import ServiceVerb, control_subject
from natsvc.message import Message, as_message, says_no_responders

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


class Gathering(Ending, Generic[Answer]):
    """The answers to one question, while they come in.

    Args:
        kind: The model of the answers; what is something else is skipped.
        subject: The control subject to ask.
        timeout_ns: How long it takes at most.
        stall_ns: How long it goes on after an answer; it counts from the first answer on.
        limit: How many answers end it. None: no number does.
        now: The time, from which the timeout and round trips count.

    Attributes:
        subject: Where to publish the question, with a reply subject whose messages go to `received`.
        answers: What has come, in the order in which it came.
    """

    __slots__ = ("_began", "_kind", "answers", "subject")

    def __init__(
        self, kind: type[Answer], subject: str, *, timeout_ns: int, stall_ns: int, limit: int | None, now: int
    ) -> None:
        super().__init__(timeout_ns=timeout_ns, stall_ns=stall_ns, limit=limit)
        self.subject = subject
        self.answers: list[Answer] = []
        self._kind: type[Answer] = kind
        self._began = now
        self.begin(now)

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
        return cls(
            kind,
            subject,
            timeout_ns=nanoseconds("timeout", timeout, GATHER_TIMEOUT),
            stall_ns=nanoseconds("stall", stall, GATHER_STALL),
            limit=1 if limit is None and id is not None else check_limit(limit),
            now=now,
        )

    def received(self, delivery: Delivery, now: int) -> Log | None:
        """Take a message that has come to the reply subject; if it is skipped, return what is to be logged of that."""
        if self.is_over:
            return None
        message = as_message(delivery, Message)
        if says_no_responders(message):
            self.is_over = True
            return None
        answer = self._read(message)
        if isinstance(answer, Exception):
            return Log(WARNING, "an answer to %s was skipped: %s", (self.subject, answer))
        if isinstance(answer, ServicePing):
            answer.round_trip = (now - self._began) / 1e9
        self.answers.append(answer)
        self._answered(now)
        return None

    def result(self) -> list[Answer]:
        """Return the answers, or raise what it has failed with."""
        if self._error is not None:
            raise self._error
        return self.answers

    def _read(self, message: Message) -> Answer | Exception:
        """Return the answer that a message is, or why it is none."""
        refused = service_error(message)
        if refused is not None:
            return refused
        try:
            return self._kind.from_dict(json.loads(message.data))
        except (ValueError, RecursionError) as error:  # neither JSON nor an answer, or nested too deep to be one
            return error
