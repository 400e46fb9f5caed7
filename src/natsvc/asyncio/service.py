"""Services on asyncio, as their users see them."""

from __future__ import annotations

import asyncio
import functools
import signal
from collections.abc import Callable, Generator, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

from natsvc.asyncio.runner import Runner
from natsvc.core import (
    STOP_TIMEOUT,
    AwaitableSelf,
    Done,
    Endpoint,
    EndpointConfig,
    GroupConfig,
    Handler,
    Lifecycle,
    Scope,
    ServiceConfig,
    ServiceDefinition,
    ServiceStats,
    ServiceView,
    configure,
    definition_of,
    endpoint_decorator,
)
from natsvc.errors import NatsvcError
from natsvc.signals import first_signal

__all__ = ["Group", "Service", "add_service"]

_H = TypeVar("_H", bound=Handler)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def add_service(nc: object, config: ServiceConfig | ServiceDefinition | str | None = None, **fields: Any) -> Service:
    """Make a service, and start it by awaiting this or by `async with`.

    Either goes on when the server has confirmed all its subscriptions; while disconnected, at once.

    Args:
        nc: A connection of natsvc, or a connected `nats.aio.client.Client` of nats-py. It stays its owner's: the
            service never closes it.
        config: The configuration, or a definition to run, or the name, or None.
        fields: Fields of ServiceConfig, which override those of `config`.

    Raises:
        ConfigError: A value breaks a rule.
        ConnectionClosedError: The connection is closed.
        PermissionsError: The server refuses a subscription.
    """
    return Service(nc, definition_of(config, fields))


class _Endpoints:
    """Where endpoints and groups are added: a service, or a group of it."""

    _service: Service
    _scope: Scope

    async def add_endpoint(self, config: EndpointConfig | str | None = None, **fields: Any) -> Endpoint:
        """Add an endpoint; return when the server has confirmed its subscription, while disconnected at once.

        Args:
            config: The configuration, or the name, or None.
            fields: Fields of EndpointConfig, which override those of `config`.

        Returns:
            The endpoint with all it inherits.

        Raises:
            ConfigError: A value breaks a rule.
            ServiceStoppedError: The service has stopped, or is about to.
            PermissionsError: The server refuses the subscription; it ends the service.
        """
        endpoint = self._service._runner.add_endpoint(self._scope, configure(EndpointConfig, config, fields))
        await self._service._runner.flush()
        return endpoint

    def endpoint(self, name: str, **fields: Any) -> Callable[[_H], _H]:
        """Make the decorated handler an endpoint.

        It is subscribed ahead of everything the task sends afterwards on the same connection; `flush()` waits until
        the server has confirmed it.

        Args:
            name: The endpoint's name.
            fields: Further fields of EndpointConfig.

        Raises:
            ConfigError: A value breaks a rule.
            ServiceStoppedError: The service has stopped, or is about to.
        """
        return endpoint_decorator(name, fields, functools.partial(self._service._runner.add_endpoint, self._scope))

    def add_group(self, config: GroupConfig | str | None = None, **fields: Any) -> Group:
        """Add a group below this place; it may be awaited, and needs not be.

        Args:
            config: The configuration, or the name, or None.
            fields: Fields of GroupConfig, which override those of `config`.

        Raises:
            ConfigError: A value breaks a rule.
        """
        return Group(self._service, self._scope.group(configure(GroupConfig, config, fields)))


class Group(_Endpoints, AwaitableSelf):
    """A group of endpoints: a subject prefix and a default queue group; groups nest (ADR-32, "Groups")."""

    def __init__(self, service: Service, scope: Scope) -> None:
        self._service = service
        self._scope = scope


class Service(_Endpoints, ServiceView):
    """One instance of a service, made by `add_service`.

    Awaiting it starts it and gives itself. As an async context manager it starts, and stops when the block is left:
    normally as `stop()` does; by an exception, within 5 seconds; by cancellation or Ctrl-C, at once. The exception that
    leaves the block leaves it as itself; without one, what has ended the service is raised.
    """

    def __init__(self, nc: object, definition: ServiceDefinition) -> None:
        self._service = self
        self._scope = Scope()
        self._runner = Runner(self, nc, definition)
        self._state = self._runner.state

    @property
    def stopped(self) -> asyncio.Event:
        """An event that is set when the service has stopped."""
        return self._runner.stopped

    def stats(self) -> ServiceStats:
        """Return what it answers to STATS; after the stop, the final numbers."""
        return self._runner.stats()

    def reset(self) -> Done:
        """Zero all counters and set `started` to now; it may be awaited, and needs not be."""
        self._runner.reset()
        return Done()

    async def start(self) -> None:
        """Start; return when the server has confirmed all subscriptions. Again: no effect.

        Raises:
            ServiceStoppedError: It has stopped, or is about to.
            PermissionsError: The server refuses a subscription.
        """
        self._runner.start()
        try:
            await self.flush()
        except NatsvcError:
            await self._runner.has_stopped()
            raise

    async def flush(self) -> None:
        """Return when the server has confirmed all subscriptions so far; while disconnected, at once.

        Raises:
            PermissionsError: It has refused one, and that ends the service.
        """
        await self._runner.flush()

    async def stop(self, error: BaseException | None = None, *, timeout: float | None = STOP_TIMEOUT) -> None:
        """Stop: take no new requests, handle and answer those that have arrived, then leave.

        It doesn't raise what ended the service, and may be called again: the second call joins the first. Called by a
        handler of the service, it doesn't wait for that handler.

        Args:
            error: What ends the service.
            timeout: Seconds that all of it may take. At the deadline, requests that wait and handlers that run are
                answered with 503, the latter cancelled; blocking handlers are left to themselves.
        """
        await self._runner.stop(error, timeout)

    async def serve_forever(self, *, signals: Iterable[int] | None = _SIGNALS) -> None:
        """Serve until the service has stopped, for whatever reason.

        In the main thread, the first of the signals stops the service; the second acts as if natsvc weren't there.

        Args:
            signals: The signals; an empty tuple for none. Default: SIGTERM and SIGINT.

        Raises:
            BaseException: What ended the service, if it ended by an error.
        """
        if self._state.lifecycle is Lifecycle.NEW:
            await self.start()
        loop = asyncio.get_running_loop()
        with first_signal(
            _SIGNALS if signals is None else signals, lambda: loop.call_soon_threadsafe(self._runner.begin_stop)
        ):
            await self._runner.has_stopped()
        if self.error is not None:
            raise self.error

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except asyncio.CancelledError:
            self._runner.abort()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._runner.leave(error)
        if error is None and self.error is not None:
            raise self.error
