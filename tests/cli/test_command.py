"""The command as a whole: how it starts, what it loads, how it fails, and how it ends before it is done."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import natsvc
from natsvc.sync import add_service, connect
from natsvc.testing import NatsServer
from tests.cli.conftest import LIMIT, Environment, Run, Start
from tests.worlds import eventually

EVENT_LOOPS = {"asyncio", "anyio", "trio", "nats"}


@pytest.fixture
def nowhere() -> Iterator[str]:
    """A host and port where no server is."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


def modules_of(environment: Environment, *arguments: str, beyond: str = "sys") -> set[str]:
    """Run the command in a process of its own, and return what it has loaded when it is done.

    What importing the module `beyond` loads is left out.
    """
    program = """
import importlib, json, sys

importlib.import_module(sys.argv[1])
before = set(sys.modules)
from natsvc.cli import main

status = main(sys.argv[2:])
print(json.dumps(sorted(set(sys.modules) - before)), file=sys.stderr)
sys.exit(status)
"""
    command = [sys.executable, "-c", program, beyond, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("command", [["ls"], ["stats", "loaded"], ["info", "loaded"], ["ping"]])
def test_asking_services_loads_no_event_loop_and_no_nats_py(
    environment: Environment, server: NatsServer, command: list[str]
) -> None:
    with connect(server.url) as nc, add_service(nc, name="loaded"):
        assert modules_of(environment, *command, "-s", server.url).isdisjoint(EVENT_LOOPS)


def test_json_needs_no_rich(environment: Environment, server: NatsServer) -> None:
    loaded = modules_of(environment, "ls", "--json", "-s", server.url, beyond="typer")  # whose older releases load it
    assert "natsvc.sync.client" in loaded
    assert "rich" not in loaded


def test_the_version_is_printed_without_loading_what_commands_need(environment: Environment) -> None:
    loaded = modules_of(environment, "--version", beyond="typer")
    assert "natsvc.cli.app" in loaded
    assert loaded.isdisjoint({*EVENT_LOOPS, "rich", "natsvc.sync", "natsvc.cli.discovery", "ssl"})


def test_version(run: Run) -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"natsvc {natsvc.__version__}\n", "")


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_names_the_commands(run: Run, option: str) -> None:
    done = run(option)
    assert (done.returncode, done.stderr) == (0, "")
    for command in ("ls", "info", "stats", "ping", "request"):
        assert re.search(rf"\b{command}\b", done.stdout)
    assert "\x1b" not in done.stdout


def test_the_help_of_a_command_names_the_connection_options_and_their_variables(run: Run) -> None:
    shown = run("ls", "--help").stdout
    for option, variable in [
        ("--server", "NATS_URL"),
        ("--user", "NATS_USER"),
        ("--password", "NATS_PASSWORD"),
        ("--token", "NATS_TOKEN"),
        ("--nkey", "NATS_NKEY"),
        ("--creds", "NATS_CREDS"),
        ("--tlsca", "NATS_CA"),
        ("--tlscert", "NATS_CERT"),
        ("--tlskey", "NATS_KEY"),
        ("--context", "NATS_CONTEXT"),
        ("--timeout", "NATS_TIMEOUT"),
    ]:
        assert option in shown
        assert variable in shown


def test_without_a_command_it_shows_its_help_as_a_usage_error(run: Run) -> None:
    done = run()
    assert done.returncode == 2
    assert "Usage: natsvc" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["no-such-command"], "natsvc: No such command 'no-such-command'"),
        (["ls", "--no-such-option"], "natsvc: No such option: --no-such-option"),
        (["info"], "natsvc: Missing argument 'NAME'"),
        (["ls", "--timeout", "soon"], "'soon' is not a duration, such as 5, 500ms or 1m30s"),
        (["ls", "--timeout", "0"], "'0' is not between 0 and thirty years"),
        (["request", "a", "b", "--count", "0"], "Invalid value for '--count'"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line_with_status_2(run: Run, arguments: list[str], told: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert re.fullmatch(r"natsvc: .*; see natsvc( \w+)? --help\n", done.stderr)


def test_without_the_extra_it_says_what_to_install(environment: Environment, tmp_path: Path) -> None:
    # With -S, nothing is there but the standard library and what PYTHONPATH has.
    shutil.copytree(Path(natsvc.__file__).parent, tmp_path / "natsvc")
    done = subprocess.run(
        [sys.executable, "-S", "-m", "natsvc", "ls"],
        env={**environment, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "natsvc: the command needs the package typer: pip install 'natsvc[cli]'\n"


def test_an_unknown_server_is_told_in_one_line_without_a_secret(run: Run, nowhere: str) -> None:
    began = time.monotonic()
    done = run("ls", "--server", f"nats://someone:s3cret@{nowhere}")
    assert time.monotonic() - began < 20
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"natsvc: no connection to nats://{nowhere}: ")
    assert done.stderr.count("\n") == 1
    assert "s3cret" not in done.stderr


def test_a_url_that_cannot_be_read_is_told_without_a_secret(run: Run) -> None:
    done = run("ls", env={"NATS_URL": "nats://someone:s3cr et@host"})
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "s3cr" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
@pytest.mark.parametrize("command", [["ls"], ["ls", "--json"], ["request", "piped", "e", "--raw"]])
def test_a_reader_that_has_seen_enough_is_no_reason_for_a_traceback(
    environment: Environment, server: NatsServer, command: list[str]
) -> None:
    with connect(server.url) as nc, add_service(nc, name="piped") as service:
        service.endpoint("e")(lambda request: b"x" * 500_000)
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [sys.executable, "-m", "natsvc", *command, "-s", server.url],
            env=environment,
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=LIMIT,
            check=False,
        )
        os.close(writing)
    assert b"Traceback" not in done.stderr
    assert b"Broken" not in done.stderr
    assert done.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_full_disk_is_told_in_one_line(environment: Environment, server: NatsServer, form: list[str]) -> None:
    with connect(server.url) as nc, add_service(nc, name="full"), Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "natsvc", "ls", *form, "-s", server.url],
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            timeout=LIMIT,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "natsvc: [Errno 28] No space left on device\n")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_ctrl_c_ends_it_with_status_130_and_without_a_traceback(start: Start, server: NatsServer) -> None:
    with connect(server.url) as nc, add_service(nc, name="waited-for") as service:
        service.endpoint("e")(lambda request: None)
        process = start("request", "waited-for", "e", "--timeout", "1h", "-s", server.url)
        eventually(lambda: service.stats().endpoints[0].num_requests == 1)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=LIMIT)
    assert (process.returncode, stdout, stderr) == (130, "", "")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_ctrl_c_ends_an_attempt_to_connect(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        process = start("ls", "-s", f"127.0.0.1:{listening.getsockname()[1]}")
        with listening.accept()[0]:
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=LIMIT)
    assert (process.returncode, stdout, stderr) == (130, "", "")


def test_a_server_that_says_nothing_is_given_up_in_the_time_there_is(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        done = run("ls", "-s", f"127.0.0.1:{listening.getsockname()[1]}", "--timeout", "200ms")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("natsvc: no connection to nats://127.0.0.1:")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows passes on no such streams")
def test_a_stdin_that_is_closed_has_nothing(environment: Environment, server: NatsServer) -> None:
    with connect(server.url) as nc, add_service(nc, name="closed-stdin") as service:
        service.endpoint("size")(lambda request: str(len(request.data)))
        command = f"exec {sys.executable} -m natsvc request closed-stdin size - -s {server.url} <&-"
        done = subprocess.run(
            ["/bin/sh", "-c", command], env=environment, capture_output=True, timeout=LIMIT, check=False
        )
    assert (done.returncode, done.stdout) == (0, b"0\n")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows passes on no such streams")
@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_streams_that_are_closed_are_no_reason_to_fail(
    environment: Environment, server: NatsServer, closed: str
) -> None:
    number = {"stdout": 1, "stderr": 2}[closed]
    command = f"exec {sys.executable} -m natsvc ls -s {server.url} {number}>&-"
    done = subprocess.run(["/bin/sh", "-c", command], env=environment, capture_output=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stdout, b"Traceback" in done.stderr) == (0, b"", False)
