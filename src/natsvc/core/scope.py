"""What an endpoint inherits from where it stands: a subject prefix, a queue group, middleware.

A service is one scope, each of its groups is another below it. Resolving an endpoint in its scope gives what it really
uses, and that is what INFO and STATS show.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from natsvc.core.config import (
    NO_QUEUE_GROUP,
    EndpointConfig,
    GroupConfig,
    Handler,
    Middleware,
    NoQueueGroup,
    ServiceConfig,
)
from natsvc.core.subjects import MAX_CONTROL_LINE, SID_LENGTH, join_subject
from natsvc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Endpoint", "Scope"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """An endpoint as it is really used: everything inherited is filled in.

    Attributes:
        name: The name, as configured.
        subject: The whole subject, with the prefixes of its groups.
        queue_group: The queue group, "" if it has none.
        metadata: The metadata; it can't be changed.
        handler: What answers its requests.
        middleware: All middleware around the handler, outermost first.
        max_concurrency: How many of its handlers run at once.
        max_pending: How many further requests wait.
        max_pending_bytes: How many bytes of headers and data those may have.
        timeout: Seconds from arrival to answer, or None.
        max_workers: How many threads its handler may use, if it is a blocking one.
    """

    name: str
    subject: str
    queue_group: str
    metadata: Mapping[str, str]
    handler: Handler
    middleware: tuple[Middleware, ...]
    max_concurrency: int
    max_pending: int
    max_pending_bytes: int
    timeout: float | None
    max_workers: int


@dataclass(frozen=True, slots=True)
class Scope:
    """Where endpoints are added: the service itself, or one of its groups.

    Attributes:
        prefix: The subject prefix, "" for none.
        queue_group: The queue group of the nearest group that has one; None: the service's.
        middleware: The groups' middleware, outermost first.
    """

    prefix: str = ""
    queue_group: str | NoQueueGroup | None = None
    middleware: tuple[Middleware, ...] = ()

    def group(self, config: GroupConfig) -> Scope:
        """Return the scope of a group in this one."""
        return Scope(
            prefix=join_subject(self.prefix, config.name),
            queue_group=self.queue_group if config.queue_group is None else config.queue_group,
            middleware=(*self.middleware, *config.middleware),
        )

    def endpoint(self, config: EndpointConfig, service: ServiceConfig) -> Endpoint:
        """Return an endpoint of this scope with all it inherits.

        Raises:
            ConfigError: The whole subject and the queue group are too long to subscribe to.
        """
        queue_group = config.queue_group or self.queue_group or service.queue_group
        subject = join_subject(self.prefix, config.subject or config.name)
        group_name = "" if queue_group is NO_QUEUE_GROUP else str(queue_group)
        if len(f"{subject} {group_name} ".encode()) + SID_LENGTH > MAX_CONTROL_LINE:
            rule = f"must, with its groups and queue group, be a subscription of at most {MAX_CONTROL_LINE} bytes"
            raise ConfigError("EndpointConfig.subject", subject, rule)
        timeout = _first(config.timeout, service.timeout)
        return Endpoint(
            name=config.name,
            subject=subject,
            queue_group=group_name,
            metadata=config.metadata,
            handler=config.handler,
            middleware=(*service.middleware, *self.middleware, *config.middleware),
            max_concurrency=config.max_concurrency or service.max_concurrency,
            max_pending=_first(config.max_pending, service.max_pending),
            max_pending_bytes=_first(config.max_pending_bytes, service.max_pending_bytes),
            timeout=None if timeout is None or math.isinf(timeout) else timeout,
            max_workers=config.max_workers or service.max_workers,
        )


def _first(own: _T | None, inherited: _T) -> _T:
    return inherited if own is None else own
