"""Scopes: what an endpoint inherits from its groups and its service."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from typing import Any

import pytest

from natsvc import NO_QUEUE_GROUP, ConfigError, Endpoint, EndpointConfig, GroupConfig, ServiceConfig
from natsvc.core.config import NoQueueGroup
from natsvc.core.scope import Scope

QueueGroup = str | NoQueueGroup | None


def handler(request: object) -> None: ...


def endpoint(scope: Scope | None = None, service: ServiceConfig | None = None, /, **fields: Any) -> Endpoint:
    config = EndpointConfig(**{"name": "e", "handler": handler, **fields})
    return (scope or Scope()).endpoint(config, service or ServiceConfig("s"))


def test_an_endpoints_subject_is_its_name_unless_given() -> None:
    assert endpoint().subject == "e"
    assert endpoint(subject="a.*").subject == "a.*"


@pytest.mark.parametrize(
    ("groups", "subject"),
    [
        ([""], "e"),
        (["g"], "g.e"),
        (["g", "h"], "g.h.e"),
        (["g.h", "", "i"], "g.h.i.e"),
        (["", ""], "e"),
        (["*"], "*.e"),
    ],
)
def test_groups_nest_as_prefixes_of_the_subject(groups: list[str], subject: str) -> None:
    scope = Scope()
    for name in groups:
        scope = scope.group(GroupConfig(name))
    assert endpoint(scope).subject == subject


@pytest.mark.parametrize(
    ("service", "outer", "inner", "own", "used"),
    [
        (None, None, None, None, "q"),
        ("s", None, None, None, "s"),
        ("s", "o", None, None, "o"),
        ("s", "o", "i", None, "i"),
        ("s", "o", "i", "e", "e"),
        ("s", None, "i", None, "i"),
        (NO_QUEUE_GROUP, None, None, None, ""),
        ("s", NO_QUEUE_GROUP, None, None, ""),
        ("s", "o", NO_QUEUE_GROUP, None, ""),
        ("s", "o", "i", NO_QUEUE_GROUP, ""),
        (NO_QUEUE_GROUP, "o", None, None, "o"),
        ("s", NO_QUEUE_GROUP, "i", None, "i"),
        ("s", "o", NO_QUEUE_GROUP, "e", "e"),
    ],
)
def test_the_nearest_queue_group_is_used(
    service: QueueGroup, outer: QueueGroup, inner: QueueGroup, own: QueueGroup, used: str
) -> None:
    scope = Scope().group(GroupConfig("o", queue_group=outer)).group(GroupConfig("i", queue_group=inner))
    config = ServiceConfig("s", queue_group=service)  # type: ignore[arg-type]  # None: not given
    assert endpoint(scope, config, queue_group=own).queue_group == used


def test_a_group_does_not_change_the_scope_it_stands_in() -> None:
    scope = Scope()
    scope.group(GroupConfig("g", queue_group="x"))
    assert scope == Scope()


def test_middleware_goes_from_the_service_through_the_groups_to_the_endpoint() -> None:
    def named() -> Any:
        def middleware(request: object, call_next: object) -> None: ...

        return middleware

    service, outer, inner, own_first, own_second = (named() for _ in range(5))
    scope = Scope().group(GroupConfig("o", middleware=[outer])).group(GroupConfig("i", middleware=[inner]))
    config = ServiceConfig("s", middleware=[service])
    used = endpoint(scope, config, middleware=[own_first, own_second]).middleware
    assert used == (service, outer, inner, own_first, own_second)


@pytest.mark.parametrize(
    ("field", "inherited", "own"),
    [
        ("max_concurrency", 7, 1),
        ("max_pending", 7, 0),
        ("max_pending_bytes", 7, 0),
        ("max_workers", 7, 1),
        ("timeout", 7, 0.5),
    ],
)
def test_limits_that_are_not_given_are_the_services(field: str, inherited: int, own: float) -> None:
    service = ServiceConfig("s", **{field: inherited})  # type: ignore[arg-type]
    assert getattr(endpoint(None, service), field) == inherited
    assert getattr(endpoint(None, service, **{field: own}), field) == own


def test_without_any_timeout_there_is_none() -> None:
    assert endpoint().timeout is None


def test_infinity_is_no_timeout_whatever_the_services_is() -> None:
    assert endpoint(None, ServiceConfig("s", timeout=1), timeout=math.inf).timeout is None
    assert endpoint(None, ServiceConfig("s", timeout=math.inf)).timeout is None
    assert endpoint(None, ServiceConfig("s", timeout=math.inf), timeout=1).timeout == 1


@pytest.mark.parametrize("timeout", [1e300, 10**400], ids=["float", "int"])
def test_a_timeout_can_be_counted_in_nanoseconds(timeout: float) -> None:
    with contextlib.suppress(ConfigError):
        used = endpoint(timeout=timeout).timeout
        assert used is None or math.isfinite(used * 1e9)


def test_an_endpoint_shows_its_name_handler_and_metadata() -> None:
    used = endpoint(metadata={"a": "1"})
    assert (used.name, used.handler, used.metadata) == ("e", handler, {"a": "1"})
    with pytest.raises(TypeError):
        used.metadata["a"] = "2"  # type: ignore[index]


def test_an_endpoint_is_frozen() -> None:
    used = endpoint()
    for one in dataclasses.fields(used):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(used, one.name, None)


def test_a_subscription_that_no_command_line_can_hold_is_refused() -> None:
    scope = Scope().group(GroupConfig("g" * 2000))
    assert endpoint(scope, subject="e" * 2000).subject
    with pytest.raises(ConfigError, match="4096"):
        endpoint(scope, subject="e" * 2100)
    with pytest.raises(ConfigError, match="4096"):
        endpoint(scope, subject="e" * 1000, queue_group="q" * 1100)
    with pytest.raises(ConfigError, match="4096"):
        endpoint(scope, subject="é" * 1100)
