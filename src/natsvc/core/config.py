"""The configuration of a service, its groups and its endpoints: plain values, checked when they are made.

`None` always means "not given": the default or what is inherited then holds. Programs for nats-py's `nats.micro` pass
None freely, and a wrapper can pass on what it was not given itself.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

from natsvc.core.calling import MAX_TIMEOUT
from natsvc.core.subjects import (
    DEFAULT_PREFIX,
    check_control_subjects,
    check_group_name,
    check_name,
    check_prefix,
    check_queue_group,
    check_subject,
    check_text,
    check_version,
)
from natsvc.errors import ConfigError

__all__ = [
    "DEFAULT_QUEUE_GROUP",
    "NO_QUEUE_GROUP",
    "EndpointConfig",
    "GroupConfig",
    "Handler",
    "Middleware",
    "NoQueueGroup",
    "ServiceConfig",
    "configure",
    "endpoint_decorator",
]

DEFAULT_QUEUE_GROUP = "q"
"""The queue group of endpoints that name none (ADR-32, "Request Handling")."""

MAX_METADATA_SIZE = 128 * 1024
"""So many bytes all keys and values of a metadata mapping may have (ADR-33, "Size limit")."""

Handler: TypeAlias = Callable[[Any], Any]
"""What answers a request: called with it, as `async def` or as `def`. What it returns, if not None, is the response."""

Middleware: TypeAlias = Callable[[Any, Callable[[Any], Any]], Any]
"""What stands around handlers: called with the request and `call_next`, which it calls with the request to go on."""


class NoQueueGroup(enum.Enum):
    """The type of NO_QUEUE_GROUP."""

    NO_QUEUE_GROUP = "no queue group"

    def __repr__(self) -> str:
        return self.name


NO_QUEUE_GROUP = NoQueueGroup.NO_QUEUE_GROUP
"""Instead of a queue group: none, so that every instance gets every request."""

_NO_METADATA: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """A service: its identity, and the defaults of its endpoints (ADR-32, "Design").

    Attributes:
        name: The kind of the service, shared by its instances: A-Z a-z 0-9 - _.
        version: A semantic version (SemVer 2.0.0).
        description: What the service is for, shown by INFO.
        metadata: Free text about this instance, str to str, at most 128 KiB in all (ADR-33). It is copied.
        queue_group: For endpoints that name none. NO_QUEUE_GROUP: none, every instance gets every request.
        prefix: The root of the control subjects: subject tokens without wildcards.
        ping_handler: Answers PING with `request.respond` in place of the built-in answer. If it returns a value,
            raises, or ends without responding, the built-in answer is sent and error_handler told.
        info_handler: The same for INFO.
        stats_handler: The same for STATS.
        endpoint_data: Called with each endpoint's EndpointStats; what it returns, anything JSON can hold, becomes
            that endpoint's `data` in STATS (what ADR-32 calls the stats handler). If it fails, data is left out and
            error_handler told.
        error_handler: Called with the service, the error, and the request or None: for unexpected exceptions of
            handlers, timeouts, errors of the connection and of subscriptions; not for ServiceError.
        done_handler: Called once, with the service and the error that ended it or None, when it has stopped.
        middleware: Around every handler of the service, outermost first.
        expose_errors: Put the type and text of an unexpected exception into the error reply and into STATS. Off, both
            say "Internal Server Error" and nothing more.
        max_concurrency: How many handlers of one endpoint run at once.
        max_pending: How many further requests of one endpoint wait; those beyond are answered with error 503.
        max_pending_bytes: How many bytes of headers and data the waiting requests of one endpoint may have.
        timeout: Seconds from a request's arrival until it must be answered; then it is answered with error 504.
            None or infinity: no limit.
        max_workers: How many threads the blocking handlers of one endpoint may use at once. Default: the number of
            processors and 4, at most 32.

    Raises:
        ConfigError: A value breaks one of these rules.
    """

    name: str
    _: KW_ONLY
    version: str = "0.0.1"
    description: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    queue_group: str | NoQueueGroup = DEFAULT_QUEUE_GROUP
    prefix: str = DEFAULT_PREFIX
    ping_handler: Handler | None = None
    info_handler: Handler | None = None
    stats_handler: Handler | None = None
    endpoint_data: Callable[[Any], Any] | None = None
    error_handler: Callable[[Any, BaseException, Any], Awaitable[None] | None] | None = None
    done_handler: Callable[[Any, BaseException | None], Awaitable[None] | None] | None = None
    middleware: Sequence[Middleware] = ()
    expose_errors: bool = False
    max_concurrency: int = 100
    max_pending: int = 10_000
    max_pending_bytes: int = 64 * 1024 * 1024
    timeout: float | None = None
    max_workers: int = field(default_factory=lambda: min(32, (os.cpu_count() or 1) + 4))

    def __post_init__(self) -> None:
        _fill_in(self)
        where = "ServiceConfig"
        check_name(f"{where}.name", self.name)
        check_version(f"{where}.version", self.version)
        check_text(f"{where}.description", self.description)
        check_prefix(f"{where}.prefix", self.prefix)
        check_control_subjects(f"{where}.name", self.name, self.prefix)
        if self.queue_group is not NO_QUEUE_GROUP:
            check_queue_group(f"{where}.queue_group", self.queue_group)
        for name in (
            "ping_handler",
            "info_handler",
            "stats_handler",
            "endpoint_data",
            "error_handler",
            "done_handler",
        ):
            if getattr(self, name) is not None:
                _check_callable(f"{where}.{name}", getattr(self, name))
        if not isinstance(self.expose_errors, bool):
            raise ConfigError(f"{where}.expose_errors", self.expose_errors, "must be True or False")
        _set(self, "metadata", _checked_metadata(f"{where}.metadata", self.metadata))
        _set(self, "middleware", _checked_middleware(f"{where}.middleware", self.middleware))
        _check_limits(where, self)


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """A group: a subject prefix and a default queue group for its endpoints (ADR-32, "Groups").

    Attributes:
        name: The subject prefix; may be empty, may have several tokens, has no `>`.
        queue_group: For endpoints of the group that name none; None inherits, NO_QUEUE_GROUP: none.
        middleware: Around every handler of the group, inside of the service's, outermost first.

    Raises:
        ConfigError: A value breaks one of these rules.
    """

    name: str
    _: KW_ONLY
    queue_group: str | NoQueueGroup | None = None
    middleware: Sequence[Middleware] = ()

    def __post_init__(self) -> None:
        _fill_in(self)
        check_group_name("GroupConfig.name", self.name)
        _check_inherited_queue_group("GroupConfig.queue_group", self.queue_group)
        _set(self, "middleware", _checked_middleware("GroupConfig.middleware", self.middleware))


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """An endpoint: a handler and the subject it answers (ADR-32, "Endpoints").

    Limits that are None are those of the ServiceConfig.

    Attributes:
        name: What the endpoint is called in INFO and STATS: A-Z a-z 0-9 - _.
        handler: What answers its requests.
        subject: What it subscribes to, behind the group's prefix; wildcards are allowed. Default: the name.
        queue_group: None inherits from the group, then the service; NO_QUEUE_GROUP: none.
        metadata: Free text about the endpoint, str to str, at most 128 KiB in all (ADR-33). It is copied.
        middleware: Around this handler, inside of the group's, outermost first.
        max_concurrency: How many of its handlers run at once.
        max_pending: How many further requests wait; those beyond are answered with error 503.
        max_pending_bytes: How many bytes of headers and data the waiting requests may have.
        timeout: Seconds from a request's arrival until it must be answered; then it is answered with error 504. A
            request that has been answered is no longer timed. Infinity: no limit, whatever the service's is.
        max_workers: How many threads its handler may use at once, if it is a blocking one.

    Raises:
        ConfigError: A value breaks one of these rules.
    """

    name: str
    _: KW_ONLY
    handler: Handler
    subject: str | None = None
    queue_group: str | NoQueueGroup | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    middleware: Sequence[Middleware] = ()
    max_concurrency: int | None = None
    max_pending: int | None = None
    max_pending_bytes: int | None = None
    timeout: float | None = None
    max_workers: int | None = None

    def __post_init__(self) -> None:
        _fill_in(self)
        where = "EndpointConfig"
        check_name(f"{where}.name", self.name)
        _check_callable(f"{where}.handler", self.handler)
        if self.subject is not None:
            check_subject(f"{where}.subject", self.subject)
        _check_inherited_queue_group(f"{where}.queue_group", self.queue_group)
        _set(self, "metadata", _checked_metadata(f"{where}.metadata", self.metadata))
        _set(self, "middleware", _checked_middleware(f"{where}.middleware", self.middleware))
        _check_limits(where, self)


_Handler = TypeVar("_Handler", bound=Handler)
_Config = TypeVar("_Config", ServiceConfig, GroupConfig, EndpointConfig)


def configure(kind: type[_Config], config: _Config | str | None, given: Mapping[str, Any]) -> _Config:
    """Return the configuration that a call such as `add_endpoint(config, **given)` means.

    Args:
        kind: The class of the configuration.
        config: A configuration, whose fields `given` overrides; or a str: the name; or None.
        given: Fields by their names; those that are None are not given.

    Raises:
        ConfigError: A required field is missing, or a value breaks a rule.
        TypeError: A field is unknown.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if isinstance(config, kind):
        return dataclasses.replace(config, **given) if given else config
    if isinstance(config, str):
        if "name" in given:
            raise ConfigError(f"{kind.__name__}.name", given["name"], f"is given twice: {config!r} stands before it")
        given["name"] = config
    elif config is not None:
        raise ConfigError(kind.__name__, config, f"must be a {kind.__name__}, or a str: the name")
    for one in dataclasses.fields(kind):
        required = one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
        if required and one.name not in given:
            raise ConfigError(f"{kind.__name__}.{one.name}", None, "is required")
    return kind(**given)


def endpoint_decorator(
    name: str, given: Mapping[str, Any], add: Callable[[EndpointConfig], object]
) -> Callable[[_Handler], _Handler]:
    """Return the decorator that `endpoint(name, **given)` is: it adds the decorated handler and leaves it as it is.

    Args:
        name: The endpoint's name.
        given: Further fields by their names.
        add: What adds an endpoint.

    Raises:
        ConfigError: The name is none, as when the decorator is used without being called, or a handler is given.
    """
    check_name("EndpointConfig.name", name)
    if given.get("handler") is not None:
        raise ConfigError("EndpointConfig.handler", given["handler"], "must be the decorated function")

    def register(handler: _Handler) -> _Handler:
        add(configure(EndpointConfig, name, {**given, "handler": handler}))
        return handler

    return register


def _set(config: object, name: str, value: object) -> None:
    object.__setattr__(config, name, value)  # the dataclass is frozen for everyone else


def _fill_in(config: ServiceConfig | GroupConfig | EndpointConfig) -> None:
    """Put the default in the place of None, which means "not given"."""
    for one in dataclasses.fields(config):
        if getattr(config, one.name) is not None:
            continue
        if one.default_factory is not dataclasses.MISSING:
            _set(config, one.name, one.default_factory())
        elif one.default is not dataclasses.MISSING:
            _set(config, one.name, one.default)


def _check_callable(where: str, value: object) -> None:
    if not callable(value):
        raise ConfigError(where, value, "must be callable")


def _check_inherited_queue_group(where: str, value: object) -> None:
    if value is not None and value is not NO_QUEUE_GROUP:
        check_queue_group(where, value)


def _checked_metadata(where: str, value: object) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        raise ConfigError(where, value, "must be a mapping of str to str")
    if not value:
        return _NO_METADATA
    copied = dict(value)
    size = 0
    for key, text in copied.items():
        size += len(check_text(f"{where} key", key).encode())
        size += len(check_text(f"{where}[{key!r}]", text).encode())
    if size > MAX_METADATA_SIZE:
        raise ConfigError(
            where, value, f"has {size} bytes of keys and values, {MAX_METADATA_SIZE} are allowed (ADR-33)"
        )
    return MappingProxyType(copied)


def _checked_middleware(where: str, value: object) -> tuple[Middleware, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ConfigError(where, value, "must be a sequence of callables, outermost first")
    for one in value:
        _check_callable(where, one)
    return tuple(value)


def _check_limits(where: str, config: ServiceConfig | EndpointConfig) -> None:
    for name, least in (("max_concurrency", 1), ("max_pending", 0), ("max_pending_bytes", 0), ("max_workers", 1)):
        value = getattr(config, name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConfigError(f"{where}.{name}", value, f"must be an int of at least {least}")
    timeout = config.timeout
    if timeout is None:
        return
    number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if not number or not (0 < timeout <= MAX_TIMEOUT or timeout == math.inf):
        rule = f"must be seconds, greater than 0 and at most {MAX_TIMEOUT}, or infinity"
        raise ConfigError(f"{where}.timeout", timeout, rule)
