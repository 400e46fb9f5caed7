"""Connections of natsvc.sync to the session's server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from natsvc.sync import Connection, connect
from natsvc.testing import NatsServer
from tests.connection.certificates import Certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def nc(server: NatsServer) -> Iterator[Connection]:
    """The connection that services run on."""
    with connect(server.url, reconnect_wait=0.05) as connection:
        yield connection


@pytest.fixture
def caller(server: NatsServer) -> Iterator[Connection]:
    """Another connection, to ask from."""
    with connect(server.url) as connection:
        yield connection


@pytest.fixture(params=["plain", "TLS"])
def any_nc(
    request: pytest.FixtureRequest,
    server: NatsServer,
    make_server: Callable[..., NatsServer],
    certificates: Certificates,
) -> Iterator[Connection]:
    """A connection without encryption, and one with it."""
    with ExitStack() as stack:
        if request.param == "plain":
            yield stack.enter_context(connect(server.url))
        else:
            encrypted = make_server(tls=certificates.server_tls())
            yield stack.enter_context(connect(encrypted.url, tls=certificates.context()))


@pytest.fixture
def always_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every handler for a quick one, once one has ended."""
    monkeypatch.setattr("natsvc.sync.workers._QUICK", 3600 * 10**9)
