"""serve --reload: a change of files starts new code, loses no request, and is undone by nothing but code that runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from natsvc.sync import ServiceClient, connect
from natsvc.testing import NatsServer
from tests.cli.conftest import LIMIT, Environment
from tests.cli.serving import USERS, Callers, Serve, directory, request_in_flight, serve
from tests.worlds import eventually

__all__ = ["directory", "serve"]  # fixtures


def write(directory: Path, version: str, *, added: str = "") -> None:
    """Write the module anew, in one step: no instance sees half of it."""
    written = directory / "users.new"
    written.write_text(USERS.replace("1.0.0", version) + added, encoding="utf-8")
    written.replace(directory / "users.py")


@pytest.mark.parametrize("name", ["plain", "mixed"])
def test_a_change_of_files_starts_new_code_and_loses_no_request(
    serve: Serve, server: NatsServer, directory: Path, name: str
) -> None:
    serving = serve(f"users:{name}", "--reload", "-s", server.url)
    serving.hear("is up")
    with connect(server.url) as nc:
        with Callers(nc, "users.version") as callers:
            eventually(lambda: b"1.0.0" in callers.answers)
            for version in ("1.1.0", "1.2.0"):
                write(directory, version)
                serving.hear("users.py changed; starting anew")
                serving.hear(f"users {version}")
                serving.hear("stops")
                eventually(lambda version=version: version.encode() in callers.answers)  # type: ignore[misc]
        assert callers.errors == []
    assert serving.stop() == 0
    assert serving.lines[-1] == "natsvc: users stops: it handles what has arrived"


def test_code_that_can_not_be_imported_leaves_the_old_code_serving(
    serve: Serve, server: NatsServer, directory: Path
) -> None:
    serving = serve("users:plain", "--reload", "-s", server.url)
    serving.hear("is up")
    with connect(server.url) as nc, Callers(nc, "users.version", count=2) as callers:
        write(directory, "2.0.0", added="\ndef (:\n")
        serving.hear("SyntaxError")  # the traceback
        serving.hear("natsvc: importing users failed at users.py:")
        serving.hear("the new code did not start; the instance with the old code serves on")
        answered = len(callers.answers)
        eventually(lambda: len(callers.answers) > answered + 20)
        assert set(callers.answers) == {b"1.0.0"}
        write(directory, "3.0.0")
        serving.hear("users 3.0.0")
        eventually(lambda: b"3.0.0" in callers.answers)
        assert callers.errors == []
        # The traceback is the user's part of it, and has nothing of what imported the module.
        assert not [line for line in serving.lines if "natsvc/cli" in line or "importlib" in line]
    assert serving.stop() == 0


def test_if_the_first_start_fails_it_waits_for_a_change(serve: Serve, server: NatsServer, directory: Path) -> None:
    write(directory, "1.0.0", added="\nimport missing_library\n")
    serving = serve("users:plain", "--reload", "-s", server.url)
    serving.hear("it did not start; waiting for a change of files")
    write(directory, "1.1.0")
    serving.hear("users 1.1.0")
    assert serving.stop() == 0


def test_an_instance_that_ends_by_itself_is_told_of_and_the_next_change_starts_another(
    serve: Serve, server: NatsServer, directory: Path
) -> None:
    write(directory, "1.0.0", added="\nimport os\nplain.add_endpoint('exit', handler=lambda request: os._exit(3))\n")
    serving = serve("users:plain", "--reload", "-s", server.url)
    serving.hear("is up")
    with connect(server.url) as nc:
        nc.publish("exit")
        nc.flush()
        serving.hear("the instance has ended with status 3; waiting for a change of files")
    write(directory, "1.1.0")
    serving.hear("users 1.1.0")
    assert serving.stop() == 0


def test_the_old_instance_finishes_what_it_has_while_the_new_one_serves(
    serve: Serve, server: NatsServer, directory: Path
) -> None:
    serving = serve("users:plain", "--reload", "-s", server.url)
    serving.hear("is up")
    with connect(server.url) as nc:
        reply = request_in_flight(nc, serving, 2)
        write(directory, "1.1.0")
        serving.hear("users 1.1.0")
        serving.hear("stops")
        eventually(lambda: nc.request("users.version").data == b"1.1.0")
        assert reply() == b"done"
    assert serving.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_of_its_processes_drains_it_as_one_to_itself_does(
    serve: Serve, server: NatsServer, number: signal.Signals
) -> None:
    serving = serve("users:plain", "--reload", "-s", server.url)
    serving.hear("is up")
    with connect(server.url) as nc:
        reply = request_in_flight(nc, serving, 0.5)
        os.killpg(serving.process.pid, number)  # as the terminal does for Ctrl-C, and systemd to end a unit
        assert serving.wait() == 0
        assert reply() == b"done"
    assert not [line for line in serving.lines if "Traceback" in line]


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
def test_a_second_signal_ends_it_at_once(serve: Serve, server: NatsServer, number: signal.Signals, status: int) -> None:
    serving = serve("users:plain", "--reload", "-s", server.url)
    serving.hear("is up")
    with connect(server.url) as nc:
        request_in_flight(nc, serving, 600)
        serving.process.send_signal(number)
        serving.hear("stops")
        assert serving.stop(number) == status
    assert not [line for line in serving.lines if "Traceback" in line]


def test_if_it_is_killed_its_instance_finishes_what_it_has_and_ends(serve: Serve, server: NatsServer) -> None:
    serving = serve("users:plain", "--reload", "-s", server.url)
    serving.hear("is up")
    with connect(server.url) as nc:
        reply = request_in_flight(nc, serving, 0.5)
        serving.process.kill()
        serving.process.wait(LIMIT)
        assert reply() == b"done"
        eventually(lambda: ServiceClient(nc).ping("users") == [])


def test_without_its_package_it_says_what_to_install(directory: Path, environment: Environment) -> None:
    program = (
        "import sys\n"
        "sys.modules['watchfiles'] = None\n"
        "from natsvc.cli import main\n"
        f"sys.exit(main(['serve', 'users:plain', '--reload', '--app-dir', {str(directory)!r}]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, encoding="utf-8", timeout=LIMIT
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "natsvc: --reload needs the package watchfiles: pip install 'natsvc[reload]'\n"
