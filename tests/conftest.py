"""Servers and an observer for all tests: the fixtures that natsvc has for its users, by shorter names."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from natsvc.testing import NatsServer
from tests.plain_client import PlainClient

# A run in the background of a shell hands down an ignored SIGINT, to the programs that tests start as well.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def server(nats_server: NatsServer) -> NatsServer:
    """One server for all tests that don't stop or configure it."""
    return nats_server


@pytest.fixture
def client(server: NatsServer) -> Iterator[PlainClient]:
    with PlainClient(server.url) as connected:
        yield connected


@pytest.fixture
def make_server(make_nats_server: Callable[..., NatsServer]) -> Callable[..., NatsServer]:
    """Starts servers of the test's own, `make_server(config=None, **options)`; they end with the test."""

    def make(config: str | None = None, **options: Any) -> NatsServer:
        return make_nats_server(config=config, **options)

    return make
