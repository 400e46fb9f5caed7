"""Every test of this suite runs in every world."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from natsvc.testing import NatsServer
from tests.worlds import WORLDS, Connection, World, running_world


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest, make_server: object) -> Iterator[World]:
    # A server of the test's own ends after the world: nats-py can't be closed while it tries to reconnect.
    with running_world(request.param) as made:
        yield made


@pytest.fixture
def connection(world: World, server: NatsServer) -> Connection:
    return world.connect(server.url)
