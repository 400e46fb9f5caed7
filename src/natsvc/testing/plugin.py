"""Fixtures for pytest; whoever has natsvc installed has them, without a line in a conftest.py.

pytest loads this in every run, also of projects that never ask for a server, and before coverage begins to count. So it
imports nothing of natsvc until a fixture is used.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from natsvc.testing import NatsCluster, NatsServer

__all__ = ["make_nats_cluster", "make_nats_server", "nats_server"]


@pytest.fixture(scope="session")
def nats_server() -> Iterator[NatsServer]:
    """A nats-server without any options, the same for all tests (with pytest-xdist: for those of one worker).

    A test that stops it, kills it or fills it up is to start one of its own with `make_nats_server`.
    """
    from natsvc.testing.server import NatsServer

    with NatsServer() as server:
        yield server


@pytest.fixture
def make_nats_server() -> Iterator[Callable[..., NatsServer]]:
    """Starts nats-servers of the test's own: `make_nats_server(jetstream=True)`; they end with the test.

    It takes what `natsvc.testing.NatsServer` takes.
    """
    from natsvc.testing.server import NatsServer

    with ExitStack() as running:

        def make(**options: Any) -> NatsServer:
            return running.enter_context(NatsServer(**options))

        yield make


@pytest.fixture
def make_nats_cluster() -> Iterator[Callable[..., NatsCluster]]:
    """Starts clusters of the test's own: `make_nats_cluster(3, jetstream=True)`; they end with the test.

    It takes what `natsvc.testing.NatsCluster` takes.
    """
    from natsvc.testing.cluster import NatsCluster

    with ExitStack() as running:

        def make(size: int = 3, **options: Any) -> NatsCluster:
            return running.enter_context(NatsCluster(size, **options))

        yield make
