"""ServiceDefinition: a service as data, before there is any connection."""

from __future__ import annotations

from typing import Any

import pytest

from natsvc import NO_QUEUE_GROUP, ConfigError, EndpointConfig, GroupConfig, ServiceConfig, ServiceDefinition
from natsvc.core.definition import definition_of


def handler(request: object) -> None: ...


def subjects(definition: ServiceDefinition) -> list[tuple[str, str]]:
    used = (scope.endpoint(config, definition.config) for scope, config in definition.endpoints)
    return [(one.subject, one.queue_group) for one in used]


@pytest.mark.parametrize(
    "definition",
    [
        ServiceDefinition("s", version="1.2.3", description="d", metadata={"a": "1"}),
        ServiceDefinition(name="s", version="1.2.3", description="d", metadata={"a": "1"}),
        ServiceDefinition(ServiceConfig("s", version="1.2.3", description="d", metadata={"a": "1"})),
        ServiceDefinition(ServiceConfig("s", description="d", metadata={"a": "1"}), version="1.2.3"),
    ],
)
def test_a_definition_is_made_like_a_service(definition: ServiceDefinition) -> None:
    assert (definition.name, definition.version, definition.description) == ("s", "1.2.3", "d")
    assert definition.metadata == {"a": "1"}
    assert definition.config == ServiceConfig("s", version="1.2.3", description="d", metadata={"a": "1"})


def test_a_definition_is_checked_when_made() -> None:
    with pytest.raises(ConfigError):
        ServiceDefinition("s", version="1")
    with pytest.raises(ConfigError, match="is required"):
        ServiceDefinition()


def test_an_added_endpoint_is_returned_with_all_it_inherits() -> None:
    used = ServiceDefinition("s", queue_group="w", timeout=5).add_endpoint("e", handler=handler)
    assert (used.name, used.subject, used.queue_group, used.timeout) == ("e", "e", "w", 5)


def test_an_endpoint_may_come_as_a_config_and_fields_that_override_it() -> None:
    config = EndpointConfig("e", handler=handler, subject="a", queue_group="w")
    used = ServiceDefinition("s").add_endpoint(config, subject="b", queue_group=None)
    assert (used.name, used.subject, used.queue_group) == ("e", "b", "w")


def test_the_decorator_adds_the_handler_and_gives_it_back() -> None:
    definition = ServiceDefinition("s")
    assert definition.endpoint("e", subject="a.b")(handler) is handler
    [(_, config)] = definition.endpoints
    assert config == EndpointConfig("e", handler=handler, subject="a.b")


def test_one_handler_may_serve_several_endpoints() -> None:
    definition = ServiceDefinition("s")
    definition.endpoint("a")(definition.endpoint("b")(handler))
    assert subjects(definition) == [("b", "q"), ("a", "q")]


def test_groups_nest_and_pass_their_queue_group_on() -> None:
    definition = ServiceDefinition("s")
    outer = definition.add_group("v1", queue_group="w")
    inner = outer.add_group(GroupConfig("users"), name="people")
    alone = inner.add_group(name="", queue_group=NO_QUEUE_GROUP)
    inner.endpoint("get")(handler)
    alone.add_endpoint("list", handler=handler)
    outer.add_endpoint("top", handler=handler)
    definition.add_endpoint("root", handler=handler)
    assert subjects(definition) == [("v1.people.get", "w"), ("v1.people.list", ""), ("v1.top", "w"), ("root", "q")]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("endpoint", {"name": "a b", "handler": handler}),
        ("endpoint", {"name": "e"}),
        ("endpoint", {"name": "e", "handler": handler, "queue_group": ""}),
        ("endpoint", {"name": "e", "handler": handler, "subject": "a" * 4090}),
        ("group", {"name": "a.>"}),
        ("group", {"name": "g", "queue_group": ""}),
        ("group", {}),
    ],
)
def test_a_refused_endpoint_or_group_leaves_the_definition_as_it_was(kind: str, fields: dict[str, Any]) -> None:
    definition = ServiceDefinition("s")
    with pytest.raises(ConfigError):
        getattr(definition, f"add_{kind}")(**fields)
    assert definition.endpoints == []


def test_what_add_service_is_given_may_be_a_name_a_config_or_fields() -> None:
    for definition in (
        definition_of("s", {"version": "1.2.3"}),
        definition_of(ServiceConfig("s"), {"version": "1.2.3"}),
        definition_of(None, {"name": "s", "version": "1.2.3"}),
    ):
        assert definition.config == ServiceConfig("s", version="1.2.3")
        assert definition.endpoints == []


def test_a_run_takes_what_the_definition_holds_at_that_moment() -> None:
    definition = ServiceDefinition("s")
    definition.add_endpoint("a", handler=handler)
    run = definition_of(definition, {})
    definition.add_endpoint("b", handler=handler)
    assert subjects(run) == [("a", "q")]
    assert subjects(definition_of(definition, {})) == [("a", "q"), ("b", "q")]


def test_what_is_added_to_a_run_is_not_added_to_its_definition() -> None:
    definition = ServiceDefinition("s")
    definition_of(definition, {}).add_endpoint("a", handler=handler)
    assert definition.endpoints == []


def test_fields_of_a_run_override_those_of_the_definition_and_its_endpoints_follow() -> None:
    definition = ServiceDefinition("s", version="1.2.3")
    definition.add_endpoint("a", handler=handler)
    run = definition_of(definition, {"queue_group": "w", "version": None})
    assert run.version == "1.2.3"
    assert subjects(run) == [("a", "w")]
    assert definition.config.queue_group == "q"


def test_what_is_no_definition_config_or_name_is_refused() -> None:
    with pytest.raises(ConfigError):
        definition_of(1, {})  # type: ignore[arg-type]


def test_a_decorator_that_is_not_called_or_has_a_handler_already_is_a_config_error() -> None:
    definition = ServiceDefinition("s")

    async def handler(request: Any) -> None: ...

    with pytest.raises(ConfigError, match="name"):
        definition.endpoint(handler)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="decorated function"):
        definition.endpoint("e", handler=handler)
    assert definition.endpoints == []
