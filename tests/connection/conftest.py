"""Every test of this suite runs in every front-end, against servers and keys made for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from natsvc.testing import NatsCluster, NatsServer
from tests.connection.certificates import Certificates
from tests.connection.front_ends import FRONT_ENDS, FrontEnd, running_front_end
from tests.connection.scripted_server import Script, ScriptedServer


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def play() -> Iterator[Callable[[Script], ScriptedServer]]:
    """Starts scripted servers, `play(script)`; they end with the test."""
    with ExitStack() as running:

        def start(script: Script) -> ScriptedServer:
            return running.enter_context(ScriptedServer(script))

        yield start


@pytest.fixture
def make_cluster(make_nats_cluster: Callable[..., NatsCluster]) -> Callable[..., Sequence[NatsServer]]:
    """Starts a cluster, `make_cluster(config, config, ..., **options)`, whose servers know each other."""

    def make(*configs: str, **options: Any) -> Sequence[NatsServer]:
        return make_nats_cluster(len(configs), config=configs, **options).servers

    return make


@pytest.fixture(params=FRONT_ENDS)
def front_end(
    request: pytest.FixtureRequest, make_nats_server: object, make_nats_cluster: object, play: object
) -> Iterator[FrontEnd]:
    # Asking for the servers makes them end after it: its connections are closed while they are there.
    with running_front_end(request.param) as running:
        yield running
