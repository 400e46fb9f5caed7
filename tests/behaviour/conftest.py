"""Every test of this suite runs in every world."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from natsvc.testing import NatsServer
from tests.worlds import WORLDS, Connection, World, running_world


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with running_world(request.param) as made:
        yield made


@pytest.fixture
def connection(world: World, server: NatsServer) -> Connection:
    return world.connect(server.url)
