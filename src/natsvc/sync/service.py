"""Services for blocking threads, as their users see them."""

from __future__ import annotations

import functools
import queue
import signal
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

from natsvc.connecting import require_own
from natsvc.core import (
    STOP_TIMEOUT,
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
from natsvc.sync.connection import Connection
from natsvc.sync.runner import Runner

__all__ = ["Group", "Service", "add_service"]

_H = TypeVar("_H", bound=Handler)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def add_service(
    nc: Connection, config: ServiceConfig | ServiceDefinition | str | None = None, **fields: Any
) -> Service:
    """Make a service, start it, and return when the server has confirmed all its subscriptions.

    While disconnected it returns at once.

    Args:
        nc: A connection of natsvc.sync. It stays its owner's: the service never closes it.
        config: The configuration, or a definition to run, or the name, or None.
        fields: Fields of ServiceConfig, which override those of `config`.

    Raises:
        TypeError: nc is something else.
        ConfigError: A value breaks a rule, or a handler, a middleware or a callback is async.
        ConnectionClosedError: The connection is closed.
        PermissionsError: The server refuses a subscription.
    """
    service = Service(nc, definition_of(config, fields))
    try:
        service.start()
    except BaseException:
        service._runner.abort()
        raise
    return service


class _Endpoints:
    """Where endpoints and groups are added: a service, or a group of it."""

    _service: Service
    _scope: Scope

    def add_endpoint(self, config: EndpointConfig | str | None = None, **fields: Any) -> Endpoint:
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
        return self._service._runner.add_endpoint(self._scope, configure(EndpointConfig, config, fields))

    def endpoint(self, name: str, **fields: Any) -> Callable[[_H], _H]:
        """Make the decorated handler an endpoint; return when the server has confirmed its subscription.

        Args:
            name: The endpoint's name.
            fields: Further fields of EndpointConfig.

        Raises:
            NatsvcError: As `add_endpoint`.
        """
        return endpoint_decorator(name, fields, functools.partial(self._service._runner.add_endpoint, self._scope))

    def add_group(self, config: GroupConfig | str | None = None, **fields: Any) -> Group:
        """Add a group below this place.

        Args:
            config: The configuration, or the name, or None.
            fields: Fields of GroupConfig, which override those of `config`.

        Raises:
            ConfigError: A value breaks a rule.
        """
        return Group(self._service, self._scope.group(configure(GroupConfig, config, fields)))


class Group(_Endpoints):
    """A group of endpoints: a subject prefix and a default queue group; groups nest (ADR-32, "Groups")."""

    def __init__(self, service: Service, scope: Scope) -> None:
        self._service = service
        self._scope = scope


class Service(_Endpoints, ServiceView):
    """One instance of a service, made by `add_service`; all threads of the process may use it at once.

    Its handlers run in its threads, which are started on demand: at most min(max_concurrency, max_workers) of an
    endpoint's at once. Those of an endpoint with max_workers=1 run in a thread of its own.

    As a context manager it stops when the block is left: normally as `stop()` does; by an exception, within 5 seconds;
    by Ctrl-C, at once. The exception that leaves the block leaves it as itself; without one, what has ended the service
    is raised.
    """

    def __init__(self, nc: Connection, definition: ServiceDefinition) -> None:
        require_own(nc, Connection, "natsvc.sync")
        self._service = self
        self._scope = Scope()
        self._runner = Runner(self, nc, definition)
        self._state = self._runner.state

    @property
    def stopped(self) -> threading.Event:
        """An event that is set when the service has stopped."""
        return self._runner.stopped

    def stats(self) -> ServiceStats:
        """Return what it answers to STATS; after the stop, the final numbers."""
        return self._runner.stats()

    def reset(self) -> None:
        """Zero all counters and set `started` to now."""
        self._runner.reset()

    def start(self) -> None:
        """Start; return when the server has confirmed all subscriptions. `add_service` has done so. Again: no effect.

        Raises:
            ServiceStoppedError: It has stopped, or is about to.
            PermissionsError: The server refuses a subscription.
        """
        self._runner.start()
        try:
            self.flush()
        except NatsvcError:
            self._runner.has_stopped()
            raise

    def flush(self) -> None:
        """Return when the server has confirmed all subscriptions so far; while disconnected, at once.

        Raises:
            PermissionsError: It has refused one, and that ends the service.
        """
        self._runner.flush()

    def stop(self, error: BaseException | None = None, *, timeout: float | None = STOP_TIMEOUT) -> None:
        """Stop: take no new requests, handle and answer those that have arrived, then leave.

        It doesn't raise what ended the service, and may be called again: the second call joins the first. Called by a
        handler of the service, in the thread that it runs in, it doesn't wait for that handler.

        Args:
            error: What ends the service.
            timeout: Seconds that all of it may take. At the deadline, requests that wait and handlers that run are
                answered with 503; the latter are left to themselves, for a thread can't be cancelled.
        """
        self._runner.stop(error, timeout)

    def serve_forever(self, *, signals: Iterable[int] | None = _SIGNALS) -> None:
        """Serve until the service has stopped, for whatever reason.

        In the main thread, the first of the signals stops the service; the second acts as if natsvc weren't there.

        Args:
            signals: The signals; an empty tuple for none. Default: SIGTERM and SIGINT.

        Raises:
            BaseException: What ended the service, if it ended by an error.
        """
        if self._state.lifecycle is Lifecycle.NEW:
            self.start()
        # A signal handler may come in the middle of anything: to put something into such a queue is all it may do.
        told: queue.SimpleQueue[bool] = queue.SimpleQueue()
        with first_signal(_SIGNALS if signals is None else signals, functools.partial(told.put, True)):
            self._runner.serve(told)
        if self.error is not None:
            raise self.error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._runner.leave(error)
        if error is None and self.error is not None:
            raise self.error
