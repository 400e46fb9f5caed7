"""The command natsvc finds, describes and calls a service of the JavaScript library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from natsvc.testing import NatsServer
from tests.javascript.conftest import JavaScriptService
from tests.javascript.node import JavaScriptProgram
from tests.worlds import LIMIT

pytestmark = pytest.mark.node

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(server: NatsServer, tmp_path: Path) -> Run:
    """Runs the command until it ends: `run("ls", "--json")`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NATS_")}
    environment = {
        **kept,
        "NATS_URL": server.url,
        "XDG_CONFIG_HOME": str(tmp_path),
        "COLUMNS": "200",
        "PYTHONIOENCODING": "utf-8",
    }

    def run(*arguments: str, input: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "natsvc", *arguments],
            env=environment,
            input=input,
            capture_output=True,
            encoding="utf-8",
            timeout=LIMIT,
            check=False,
        )

    return run


def read(done: subprocess.CompletedProcess[str]) -> Any:
    """What a command that must have done well has printed as JSON."""
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def has_row(done: subprocess.CompletedProcess[str], *cells: str) -> bool:
    """Whether a table of the output has a row that begins with these cells."""
    assert (done.returncode, done.stderr) == (0, "")
    words = " ".join(cells).split()
    return any(line.split()[: len(words)] == words for line in done.stdout.splitlines())


def test_ls_lists_it(run: Run, javascript_service: JavaScriptService) -> None:
    name, id = javascript_service.name, javascript_service.id
    for given in [(), (name,)]:
        assert has_row(run("ls", *given), name, "2.3.4", id, "Echoes, counts and fails")
        (listed,) = read(run("ls", *given, "--json"))
        assert (listed["name"], listed["id"], listed["version"]) == (name, id, "2.3.4")


def test_ping_reaches_it_until_it_stops(
    run: Run, javascript_services: JavaScriptProgram, javascript_service: JavaScriptService
) -> None:
    name = javascript_service.name
    id = javascript_services.call("start", f"{name}-stopping")
    assert has_row(run("ping", f"{name}-stopping"), f"{name}-stopping", "2.3.4", id)
    javascript_services.call("stop", id)
    gone = run("ping", f"{name}-stopping")
    assert (gone.returncode, gone.stdout) == (1, "")


def test_info_describes_it(run: Run, javascript_service: JavaScriptService) -> None:
    name, id = javascript_service.name, javascript_service.id
    shown = run("info", name)
    assert has_row(shown, "Service", f"{name} ({id})")
    assert has_row(shown, "Metadata", "language: JavaScript")
    assert has_row(shown, "echo", f"{name}.echo", "q", "schema: any")
    assert has_row(shown, "upper", f"{name}.upper", "upper-workers")

    found = read(run("info", name, id, "--json"))
    assert found["info"]["metadata"] == {"language": "JavaScript"}
    endpoints = {endpoint["name"]: endpoint for endpoint in found["info"]["endpoints"]}
    assert endpoints["upper"] == {
        "name": "upper",
        "subject": f"{name}.upper",
        "queue_group": "upper-workers",
        "metadata": {},
    }
    assert found["stats"]["endpoints"][0]["data"] == {"subject": f"{name}.echo", "tags": ["a", "ü"]}


def test_stats_show_what_it_has_counted(run: Run, javascript_service: JavaScriptService) -> None:
    name, id = javascript_service.name, javascript_service.id
    run("request", name, "echo", "data", "--count", "3")
    run("request", name, "fail")
    shown = run("stats", name, id)
    assert has_row(shown, id, "echo", "3", "q", "0")
    assert has_row(shown, id, "fail", "1", "q", "1")
    (stats,) = read(run("stats", name, "--json"))
    counted = {one["name"]: (one["num_requests"], one["num_errors"]) for one in stats["endpoints"]}
    assert (counted["echo"], counted["fail"]) == ((3, 0), (1, 1))


def test_request_prints_its_response(run: Run, javascript_service: JavaScriptService) -> None:
    name = javascript_service.name
    assert run("request", name, "upper", "text ü", "--raw").stdout == "TEXT Ü"
    assert run("request", name, "upper", "-", "--raw", input="from stdin").stdout == "FROM STDIN"
    response = read(run("request", name, "echo", "text ü", "--header", "Trace:17", "--json"))
    assert (response["subject"], response["data"]) == (f"{name}.echo", "text ü")
    assert response["headers"] == {"Trace": ["17"]}


@pytest.mark.parametrize(
    ("endpoint", "error"),
    [("fail", "422: not today"), ("break", "500: an unexpected state"), ("refuse", "404: no such user")],
)
def test_request_shows_its_error(run: Run, javascript_service: JavaScriptService, endpoint: str, error: str) -> None:
    failed = run("request", javascript_service.name, endpoint)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert error in failed.stderr
    assert failed.stderr.count("\n") == 1
