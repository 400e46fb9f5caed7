"""Configuration: what is given, what is not, and what is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

from natsvc import NO_QUEUE_GROUP, ConfigError, EndpointConfig, GroupConfig, ServiceConfig
from natsvc.core.config import MAX_METADATA_SIZE, configure
from natsvc.core.subjects import MAX_CONTROL_LINE

Config = ServiceConfig | GroupConfig | EndpointConfig


def handler(request: object) -> None: ...


def first(request: object, call_next: object) -> None: ...


def second(request: object, call_next: object) -> None: ...


def endpoint_config(name: Any = "a", **fields: Any) -> EndpointConfig:
    return EndpointConfig(name, **{"handler": handler, **fields})


ALL = pytest.mark.parametrize("make", [ServiceConfig, GroupConfig, endpoint_config])
WITH_METADATA = pytest.mark.parametrize("make", [ServiceConfig, endpoint_config])
WITH_LIMITS = WITH_METADATA


def test_a_services_name_is_all_it_needs() -> None:
    config = ServiceConfig("a")
    assert {one.name: getattr(config, one.name) for one in dataclasses.fields(config)} == {
        "name": "a",
        "version": "0.0.1",
        "description": "",
        "metadata": {},
        "queue_group": "q",
        "prefix": "$SRV",
        "ping_handler": None,
        "info_handler": None,
        "stats_handler": None,
        "endpoint_data": None,
        "error_handler": None,
        "done_handler": None,
        "middleware": (),
        "expose_errors": False,
        "max_concurrency": 100,
        "max_pending": 10_000,
        "max_pending_bytes": 64 * 1024 * 1024,
        "timeout": None,
        "max_workers": min(32, (os.cpu_count() or 1) + 4),
    }


def test_an_endpoint_needs_a_name_and_a_handler() -> None:
    config = EndpointConfig("a", handler=handler)
    assert {one.name: getattr(config, one.name) for one in dataclasses.fields(config)} == {
        "name": "a",
        "handler": handler,
        "subject": None,
        "queue_group": None,
        "metadata": {},
        "middleware": (),
        "max_concurrency": None,
        "max_pending": None,
        "max_pending_bytes": None,
        "timeout": None,
        "max_workers": None,
    }


def test_a_groups_name_is_all_it_needs() -> None:
    config = GroupConfig("a")
    assert (config.name, config.queue_group, config.middleware) == ("a", None, ())


@pytest.mark.parametrize("kind", [ServiceConfig, GroupConfig, EndpointConfig])
def test_none_means_not_given_for_every_optional_field(kind: type[Config]) -> None:
    given: dict[str, Any] = {"handler": handler} if kind is EndpointConfig else {}
    optional: dict[str, Any] = {
        one.name: None for one in dataclasses.fields(kind) if one.name not in ("name", "handler")
    }
    assert kind("a", **given, **optional) == kind("a", **given)


@ALL
def test_a_config_is_frozen(make: Any) -> None:
    config = make("a")
    for one in dataclasses.fields(config):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, one.name, None)


@pytest.mark.parametrize("kind", [ServiceConfig, GroupConfig, EndpointConfig])
def test_all_fields_but_the_name_are_keyword_only(kind: type[Config]) -> None:
    assert [one.name for one in dataclasses.fields(kind) if not one.kw_only] == ["name"]
    with pytest.raises(TypeError):
        kind("a", "b")  # type: ignore[call-arg,arg-type]


@pytest.mark.parametrize("make", [ServiceConfig, endpoint_config])
@pytest.mark.parametrize("name", ["", "a b", "a.b", "a\n", "é", None, 1])
def test_a_name_that_adr_32_does_not_allow_is_refused(make: Any, name: object) -> None:
    with pytest.raises(ConfigError, match=r"Config\.name: "):
        make(name)


def test_a_services_name_fits_into_its_control_subjects() -> None:
    assert ServiceConfig("a" * 1000).name
    with pytest.raises(ConfigError):
        ServiceConfig("a" * (MAX_CONTROL_LINE + 1))


def test_a_services_name_and_prefix_fit_into_its_control_subjects_together() -> None:
    with pytest.raises(ConfigError):
        ServiceConfig("a" * 2500, prefix="p" * 2500)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", "1.0"),
        ("version", "1.0.0\n"),
        ("description", 1),
        ("description", "\ud800"),
        ("prefix", ""),
        ("prefix", "a.*"),
        ("prefix", "a b"),
        ("expose_errors", 1),
        ("queue_group", "a b"),
        ("queue_group", "a\n"),
        ("queue_group", 1),
    ],
)
def test_a_service_field_that_breaks_its_rule_is_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        ServiceConfig("a", **{field: value})  # type: ignore[arg-type]
    assert caught.value.field == f"ServiceConfig.{field}"
    assert caught.value.value == value
    assert repr(value) in str(caught.value)
    assert caught.value.rule in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_a_long_refused_value_is_cut_in_the_message() -> None:
    with pytest.raises(ConfigError) as caught:
        ServiceConfig("x " * 10_000)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("subject", ["", "a b", "a..b", "a.>.b", "a*", "a\n", 1])
def test_an_endpoints_subject_must_be_one(subject: Any) -> None:
    with pytest.raises(ConfigError, match=r"EndpointConfig\.subject: "):
        endpoint_config(subject=subject)


@pytest.mark.parametrize("subject", ["a.*.b", "a.>", ">"])
def test_an_endpoints_subject_may_have_wildcards(subject: str) -> None:
    assert endpoint_config(subject=subject).subject == subject


@pytest.mark.parametrize("name", ["", "a.b", "v1.*"])
def test_a_groups_name_may_be_empty_or_have_several_tokens(name: str) -> None:
    assert GroupConfig(name).name == name


@pytest.mark.parametrize("name", [">", "a.>", "a b", "a.", None])
def test_a_groups_name_has_no_wildcard_for_the_rest(name: Any) -> None:
    with pytest.raises(ConfigError, match=r"GroupConfig\.name: "):
        GroupConfig(name)


@ALL
def test_an_empty_queue_group_is_refused_with_both_readings(make: Any) -> None:
    with pytest.raises(ConfigError, match=r"\.queue_group: .*inherit.*NO_QUEUE_GROUP"):
        make("a", queue_group="")


@ALL
def test_no_queue_group_can_be_asked_for(make: Any) -> None:
    assert make("a", queue_group=NO_QUEUE_GROUP).queue_group is NO_QUEUE_GROUP
    assert repr(NO_QUEUE_GROUP) == "NO_QUEUE_GROUP"


@ALL
def test_a_queue_group_is_kept(make: Any) -> None:
    assert make("a", queue_group="workers").queue_group == "workers"


@WITH_METADATA
def test_metadata_is_copied_and_immutable_afterwards(make: Any) -> None:
    given = {"a": "1"}
    config = make("a", metadata=given)
    given["b"] = "2"
    assert config.metadata == {"a": "1"}
    with pytest.raises(TypeError):
        config.metadata["a"] = "2"


@WITH_METADATA
def test_even_empty_metadata_is_immutable(make: Any) -> None:
    with pytest.raises(TypeError):
        make("a").metadata["a"] = "1"


@WITH_METADATA
@pytest.mark.parametrize("metadata", [[], "a", {1: "a"}, {"a": 1}, {"a": None}, {"a": "\ud800"}, {"\ud800": "a"}])
def test_metadata_that_is_not_text_to_text_is_refused(make: Any, metadata: object) -> None:
    with pytest.raises(ConfigError, match=r"Config\.metadata"):
        make("a", metadata=metadata)


@WITH_METADATA
@pytest.mark.parametrize(
    ("fits", "too_much"),
    [
        ({"a": "x" * (MAX_METADATA_SIZE - 1)}, {"a": "x" * MAX_METADATA_SIZE}),
        ({"x" * (MAX_METADATA_SIZE - 1): "a"}, {"x" * MAX_METADATA_SIZE: "a"}),
        ({"ab": "é" * (MAX_METADATA_SIZE // 2 - 1)}, {"ab": "é" * (MAX_METADATA_SIZE // 2)}),
    ],
)
def test_metadata_has_at_most_128_kib_of_keys_and_values(
    make: Any, fits: Mapping[str, str], too_much: Mapping[str, str]
) -> None:
    assert make("a", metadata=fits).metadata == fits
    with pytest.raises(ConfigError, match="131072"):
        make("a", metadata=too_much)


@pytest.mark.parametrize(
    "field", ["ping_handler", "info_handler", "stats_handler", "endpoint_data", "error_handler", "done_handler"]
)
def test_a_services_callbacks_must_be_callable(field: str) -> None:
    with pytest.raises(ConfigError, match=rf"ServiceConfig\.{field}: 'x' must be callable"):
        ServiceConfig("a", **{field: "x"})  # type: ignore[arg-type]
    assert getattr(ServiceConfig("a", **{field: handler}), field) is handler  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["x", None, 1])
def test_an_endpoints_handler_must_be_callable(value: object) -> None:
    with pytest.raises(ConfigError, match=r"EndpointConfig\.handler: "):
        endpoint_config(handler=value)


@ALL
def test_middleware_is_kept_in_its_order_and_copied(make: Any) -> None:
    given = [first, second]
    config = make("a", middleware=given)
    given.clear()
    assert config.middleware == (first, second)


@ALL
@pytest.mark.parametrize("middleware", [first, "ab", {first}, [first, "x"], [None]])
def test_middleware_must_be_a_sequence_of_callables(make: Any, middleware: object) -> None:
    with pytest.raises(ConfigError, match=r"Config\.middleware: "):
        make("a", middleware=middleware)


@WITH_LIMITS
@pytest.mark.parametrize(
    ("field", "least"), [("max_concurrency", 1), ("max_pending", 0), ("max_pending_bytes", 0), ("max_workers", 1)]
)
def test_a_limit_is_an_int_of_at_least_its_least(make: Any, field: str, least: int) -> None:
    assert getattr(make("a", **{field: least}), field) == least
    for value in (least - 1, 1.5, "1", math.inf):
        with pytest.raises(ConfigError, match=rf"Config\.{field}: .* int of at least {least}"):
            make("a", **{field: value})


@WITH_LIMITS
@pytest.mark.parametrize("field", ["max_concurrency", "max_pending", "max_pending_bytes", "max_workers", "timeout"])
@pytest.mark.parametrize("value", [True, False])
def test_a_bool_is_no_limit(make: Any, field: str, value: bool) -> None:
    with pytest.raises(ConfigError, match=rf"Config\.{field}: {value}"):
        make("a", **{field: value})


@WITH_LIMITS
@pytest.mark.parametrize("timeout", [0, 0.0, -1, -0.5, math.nan, -math.inf, "1"])
def test_a_timeout_is_a_number_greater_than_zero(make: Any, timeout: object) -> None:
    with pytest.raises(ConfigError, match=r"Config\.timeout: "):
        make("a", timeout=timeout)


@WITH_LIMITS
@pytest.mark.parametrize("timeout", [1, 0.001, math.inf])
def test_a_timeout_may_be_an_int_a_float_or_infinity(make: Any, timeout: float) -> None:
    assert make("a", timeout=timeout).timeout == timeout


@WITH_LIMITS
def test_a_timeout_larger_than_any_float_is_taken_or_refused_but_no_crash(make: Any) -> None:
    with contextlib.suppress(ConfigError):
        assert make("a", timeout=10**400).timeout > 0


def test_a_leading_string_is_the_name() -> None:
    assert configure(GroupConfig, "a", {}) == GroupConfig("a")


def test_the_name_may_be_a_field_like_the_others() -> None:
    assert configure(ServiceConfig, None, {"name": "a", "version": "1.2.3"}) == ServiceConfig("a", version="1.2.3")


def test_a_config_stands_as_it_is() -> None:
    config = ServiceConfig("a", version="1.2.3")
    assert configure(ServiceConfig, config, {}) is config


def test_fields_override_those_of_a_config() -> None:
    config = configure(ServiceConfig, ServiceConfig("a", version="1.2.3"), {"name": "b", "description": "d"})
    assert config == ServiceConfig("b", version="1.2.3", description="d")


def test_fields_that_are_none_override_nothing() -> None:
    config = ServiceConfig("a", version="1.2.3", timeout=1, metadata={"a": "1"})
    assert (
        configure(ServiceConfig, config, {"version": None, "timeout": None, "metadata": None, "name": None}) == config
    )


def test_an_overriding_field_is_checked_too() -> None:
    with pytest.raises(ConfigError):
        configure(ServiceConfig, ServiceConfig("a"), {"version": "x"})


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="twice"):
        configure(ServiceConfig, "a", {"name": "b"})


@pytest.mark.parametrize(
    "call",
    [
        partial(configure, ServiceConfig, None, {}),
        partial(configure, GroupConfig, None, {"name": None}),
        partial(configure, EndpointConfig, "a", {}),
        partial(configure, EndpointConfig, "a", {"handler": None}),
        partial(configure, EndpointConfig, None, {"handler": handler}),
    ],
)
def test_a_missing_required_field_is_a_config_error(call: Any) -> None:
    with pytest.raises(ConfigError, match="is required"):
        call()


@pytest.mark.parametrize("config", [1, b"a", GroupConfig("a"), {"name": "a"}])
def test_what_is_neither_config_nor_name_is_refused(config: Any) -> None:
    with pytest.raises(ConfigError, match="ServiceConfig"):
        configure(ServiceConfig, config, {})


def test_an_unknown_field_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="colour"):
        configure(ServiceConfig, "a", {"colour": "red"})
