"""The JavaScript library's services and client, on a server with nothing else, and natsvc in all its worlds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from natsvc.nuid import next_id
from natsvc.testing import NatsServer
from tests.javascript.node import JavaScriptProgram, find_tool, install
from tests.worlds import WORLDS, Connection, World, running_world


@pytest.fixture(scope="session")
def server() -> Iterator[NatsServer]:
    """A server of these tests' own: no other test meets the JavaScript services, and they meet no other services."""
    with NatsServer() as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the library and the programs are installed: once, also if several processes share the tests."""
    find_tool("node")
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    directory = root / "javascript"
    done = root / "javascript-is-installed"
    with FileLock(root / "javascript.lock"):
        if not done.exists():
            install(directory)
            done.touch()
    return directory


@pytest.fixture(scope="session")
def javascript_services(server: NatsServer, installation: Path) -> Iterator[JavaScriptProgram]:
    """The program that runs JavaScript services."""
    with JavaScriptProgram(["service.mjs", server.url], installation) as program:
        yield program


@dataclass(frozen=True)
class JavaScriptService:
    """A running instance of a service; its endpoints are at `NAME.*`."""

    name: str
    id: str


@pytest.fixture
def javascript_service(javascript_services: JavaScriptProgram) -> Iterator[JavaScriptService]:
    """A JavaScript service of the test's own."""
    name = f"javascript-{next_id()}"
    id = javascript_services.call("start", name)
    yield JavaScriptService(name, id)
    javascript_services.call("stop", id)


@pytest.fixture(scope="session")
def javascript_client(server: NatsServer, installation: Path) -> Iterator[JavaScriptProgram]:
    """The program that is a JavaScript client."""
    with JavaScriptProgram(["client.mjs", server.url], installation) as program:
        yield program


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with running_world(request.param) as made:
        yield made


@pytest.fixture
def connection(world: World, server: NatsServer) -> Connection:
    return world.connect(server.url)
