"""Servers and an observer for all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from natsvc.testing import NatsServer
from tests.plain_client import PlainClient


@pytest.fixture(scope="session")
def server() -> Iterator[NatsServer]:
    """One server for all tests that don't stop or configure it."""
    with NatsServer() as running:
        yield running


@pytest.fixture
def client(server: NatsServer) -> Iterator[PlainClient]:
    with PlainClient(server.url) as connected:
        yield connected


@pytest.fixture
def make_server() -> Iterator[Callable[..., NatsServer]]:
    """Starts servers of the test's own, `make_server(config=None)`; they end with the test."""
    with ExitStack() as running:

        def make(config: str | None = None) -> NatsServer:
            return running.enter_context(NatsServer(config=config))

        yield make
