"""A service as data: what it is and what it answers, before there is any connection.

It says nothing of where it runs. A module can hold one, any front-end can run it, as often as wanted: each run takes
what the definition holds at that moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from natsvc.core.config import EndpointConfig, GroupConfig, Handler, ServiceConfig, configure, endpoint_decorator
from natsvc.core.scope import Endpoint, Scope

__all__ = ["GroupDefinition", "ServiceDefinition", "definition_of"]

_H = TypeVar("_H", bound=Handler)


class GroupDefinition:
    """A group of a ServiceDefinition: a subject prefix and a default queue group; groups nest."""

    def __init__(self, definition: ServiceDefinition, scope: Scope) -> None:
        self._definition = definition
        self._scope = scope

    def add_endpoint(self, config: EndpointConfig | str | None = None, **fields: Any) -> Endpoint:
        """Add an endpoint.

        Args:
            config: The configuration, or the name, or None.
            fields: Fields of EndpointConfig, which override those of `config`.

        Returns:
            The endpoint with all it inherits.

        Raises:
            ConfigError: A value breaks a rule.
        """
        return self._definition._add(self._scope, configure(EndpointConfig, config, fields))

    def endpoint(self, name: str, **fields: Any) -> Callable[[_H], _H]:
        """Make the decorated handler an endpoint.

        Args:
            name: The endpoint's name.
            fields: Further fields of EndpointConfig.

        Raises:
            ConfigError: A value breaks a rule.
        """
        return endpoint_decorator(name, fields, self.add_endpoint)

    def add_group(self, config: GroupConfig | str | None = None, **fields: Any) -> GroupDefinition:
        """Add a group below this one.

        Args:
            config: The configuration, or the name, or None.
            fields: Fields of GroupConfig, which override those of `config`.

        Raises:
            ConfigError: A value breaks a rule.
        """
        return GroupDefinition(self._definition, self._scope.group(configure(GroupConfig, config, fields)))


class ServiceDefinition(GroupDefinition):
    """A service as data, to be run by `add_service(nc, definition)`.

    Args:
        config: The configuration, or the name, or None.
        fields: Fields of ServiceConfig, which override those of `config`.

    Raises:
        ConfigError: A value breaks a rule.

    Attributes:
        config: The service's configuration.
        endpoints: What has been added, with the scope each stands in.
    """

    def __init__(self, config: ServiceConfig | str | None = None, **fields: Any) -> None:
        super().__init__(self, Scope())
        self.config = configure(ServiceConfig, config, fields)
        self.endpoints: list[tuple[Scope, EndpointConfig]] = []

    @property
    def name(self) -> str:
        """The kind of the service."""
        return self.config.name

    @property
    def version(self) -> str:
        """The version of the service."""
        return self.config.version

    @property
    def description(self) -> str:
        """What the service is for."""
        return self.config.description

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the configuration says about the service."""
        return self.config.metadata

    def _add(self, scope: Scope, config: EndpointConfig) -> Endpoint:
        endpoint = scope.endpoint(config, self.config)
        self.endpoints.append((scope, config))
        return endpoint


def definition_of(
    config: ServiceConfig | ServiceDefinition | str | None, fields: Mapping[str, Any]
) -> ServiceDefinition:
    """Return what the arguments of `add_service` mean.

    Args:
        config: A configuration, a definition, the name, or None.
        fields: Fields of ServiceConfig, which override those of `config`.

    Raises:
        ConfigError: A value breaks a rule.
    """
    given = config.config if isinstance(config, ServiceDefinition) else config
    definition = ServiceDefinition(configure(ServiceConfig, given, fields))
    if isinstance(config, ServiceDefinition):
        definition.endpoints += config.endpoints
    return definition
