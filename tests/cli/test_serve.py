"""serve: what it finds and runs, what it tells, and how it ends."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from natsvc import ServiceInfo
from natsvc.sync import ServiceClient, connect
from natsvc.testing import NatsServer
from tests.cli.conftest import Run
from tests.cli.serving import Callers, Serve, directory, request_in_flight, serve
from tests.worlds import eventually

__all__ = ["directory", "serve"]  # fixtures

FRONT_ENDS = {"threads": "in threads", "asyncio": "on asyncio", "trio": "on trio"}


def ask_info(url: str, name: str) -> ServiceInfo:
    with connect(url) as nc:
        (info,) = ServiceClient(nc).info(name)
        return info


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("on", FRONT_ENDS)
def test_it_serves_until_a_signal_and_ends_with_status_0(
    serve: Serve, server: NatsServer, on: str, number: signal.Signals
) -> None:
    serving = serve("users:plain", "--on", on, "-s", server.url)
    line = serving.hear("is up")
    info = ask_info(server.url, "users")
    assert line == (
        f"natsvc: users 1.0.0 ({info.id}) is up at {server.url}, {FRONT_ENDS[on]}, with 2 endpoints: version, slow"
    )
    with connect(server.url) as nc:
        assert nc.request("users.version").data == b"1.0.0"
    assert serving.stop(number) == 0
    assert serving.lines == [line, "natsvc: users stops: it handles what has arrived"]


def test_nothing_but_what_handlers_print_is_written_to_stdout(serve: Serve, server: NatsServer, run: Run) -> None:
    serving = serve("users:plain", "-s", server.url)
    serving.hear("is up")
    with connect(server.url) as nc:
        nc.request("users.slow", "0")
    assert serving.stop() == 0
    assert serving.from_stdout == ["begun"]


@pytest.mark.parametrize(("name", "where"), [("plain", "in threads"), ("mixed", "on asyncio")])
def test_without_on_it_runs_in_threads_if_all_handlers_are_plain(
    serve: Serve, server: NatsServer, name: str, where: str
) -> None:
    serving = serve(f"users:{name}", "-s", server.url)
    assert where in serving.hear("is up")
    assert serving.stop() == 0


@pytest.mark.parametrize(
    ("added", "found"),
    [
        ("async def middleware(request, call_next): ...", "middleware of the service"),
        ("async def error_handler(service, error, request): ...", "the error_handler"),
        ("async def ping_handler(request): ...", "the ping_handler"),
    ],
)
def test_any_other_async_function_keeps_it_from_threads_too(
    run: Run, server: NatsServer, directory: Path, added: str, found: str
) -> None:
    name = added.split()[2].partition("(")[0]
    value = "[middleware]" if name == "middleware" else name
    text = f"from natsvc import ServiceDefinition\n{added}\nx = ServiceDefinition('x', {name}={value})\n"
    if name == "middleware":
        text += "x.add_endpoint('e', handler=lambda request: None)\n"
    (directory / "added.py").write_text(text, encoding="utf-8")
    done = run("serve", "added:x", "--on", "threads", "--app-dir", str(directory), "-s", server.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"natsvc: {found} is an async def, which can't run in threads; use --on asyncio or --on trio\n"
    )


def test_an_async_handler_in_threads_is_an_error_that_names_it(run: Run, server: NatsServer, directory: Path) -> None:
    done = run("serve", "users:mixed", "--on", "threads", "--app-dir", str(directory), "-s", server.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "natsvc: the handler of the endpoint 'version' is an async def, which can't run in threads; "
        "use --on asyncio or --on trio\n"
    )


@pytest.mark.parametrize("target", ["users:Services.users", "package.inner:users"])
def test_modules_and_names_may_have_dots(serve: Serve, server: NatsServer, directory: Path, target: str) -> None:
    (directory / "package").mkdir()
    (directory / "package" / "__init__.py").touch()
    (directory / "package" / "inner.py").write_text("from users import plain as users\n", encoding="utf-8")
    serving = serve(target, "-s", server.url)
    serving.hear("is up")
    assert serving.stop() == 0


THOSE = "not a ServiceDefinition; those in users: plain, mixed"
A_FILE = "is the name of a file; a module's name is needed, such as"
MISTAKES = {
    "userz:plain": (1, "there is no module 'userz' in {directory}, nor among those installed; did you mean users?"),
    "users.inner:plain": (1, "there is no module 'users.inner': 'users' is a module, not a package"),
    "package.iner:x": (1, "there is no module 'iner' in the package 'package'; did you mean inner?"),
    "users:plian": (1, "there is no 'plian' in users; did you mean plain?"),
    "users:nothing": (1, "there is no 'nothing' in users; those in users: plain, mixed"),
    "users:Services.uzers": (1, "there is no 'uzers' in users:Services; did you mean users?"),
    "users:version": (
        1,
        f"users:version is the function version, {THOSE}",
    ),
    "users:Services": (
        1,
        f"users:Services is the class Services, {THOSE}",
    ),
    "users:VERSION": (1, f"users:VERSION is of the type str, {THOSE}"),
    "os:path": (1, "os:path is a module, not a ServiceDefinition"),
    "needs:x": (1, "importing needs failed at needs.py:2: ModuleNotFoundError: No module named 'missing_library'"),
    "needing:x": (1, "importing needing failed at needs.py:2: ModuleNotFoundError: No module named 'missing_library'"),
    "fails:x": (1, "importing fails failed at fails.py:2: ZeroDivisionError: division by zero"),
    "leaves:x": (1, "importing leaves failed at leaves.py:1: SystemExit: no more"),
    "wrong:x": (1, "importing wrong failed at wrong.py:2: SyntaxError: invalid syntax"),
    "users": (2, "'users' must have the form MODULE:NAME, such as users:service"),
    "users:": (2, "'users:' must have the form MODULE:NAME, such as users:service"),
    "users.py:plain": (2, f"'users.py' {A_FILE} users"),
    "package/inner.py:x": (
        2,
        f"'package/inner.py' {A_FILE} package.inner",
    ),
}


@pytest.mark.parametrize("target", MISTAKES)
def test_what_can_not_be_served_is_told_in_one_line(run: Run, directory: Path, target: str) -> None:
    modules = {
        "needs.py": "\nimport missing_library\n",
        "needing.py": "\n\n\nimport needs\n",
        "fails.py": "import os\n1 / 0\n",
        "leaves.py": "raise SystemExit('no more')\n",
        "wrong.py": "\n1 +\n",
        "package/__init__.py": "",
        "package/inner.py": "",
    }
    (directory / "package").mkdir()
    for name, text in modules.items():
        (directory / name).write_text(text, encoding="utf-8")
    done = run("serve", target, "--app-dir", str(directory))
    status, text = MISTAKES[target]
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr == f"natsvc: {text.format(directory=directory)}\n"


def test_a_directory_that_is_not_there_is_a_usage_error(run: Run, tmp_path: Path) -> None:
    done = run("serve", "users:plain", "--app-dir", str(tmp_path / "none"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "is no directory" in done.stderr


@pytest.mark.parametrize("on", FRONT_ENDS)
def test_requests_that_are_being_handled_are_answered_before_it_ends(serve: Serve, server: NatsServer, on: str) -> None:
    serving = serve("users:plain", "--on", on, "-s", server.url)
    serving.hear("is up")
    with connect(server.url) as nc:
        reply = request_in_flight(nc, serving, 0.5)
        assert serving.stop() == 0
        assert reply() == b"done"


@pytest.mark.parametrize("on", FRONT_ENDS)
def test_under_load_a_stop_loses_no_request(serve: Serve, server: NatsServer, on: str) -> None:
    staying, leaving = (serve("users:plain", "--on", on, "-s", server.url) for _ in range(2))
    for serving in (staying, leaving):
        serving.hear("is up")
    with connect(server.url) as nc:
        with Callers(nc, "users.version") as callers:
            eventually(lambda: len(callers.answers) > 200)
            assert leaving.stop() == 0
            answered = len(callers.answers)
            eventually(lambda: len(callers.answers) > answered + 200)
        assert callers.errors == []
        assert set(callers.answers) == {b"1.0.0"}
    assert staying.stop() == 0


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
@pytest.mark.parametrize(("name", "on"), [("plain", "threads"), ("mixed", "asyncio"), ("plain", "trio")])
def test_a_second_signal_ends_it_at_once(
    serve: Serve, server: NatsServer, name: str, on: str, number: signal.Signals, status: int
) -> None:
    serving = serve(f"users:{name}", "--on", on, "-s", server.url)
    serving.hear("is up")
    with connect(server.url) as nc:
        request_in_flight(nc, serving, 600)
        serving.process.send_signal(number)
        serving.hear("stops")
        assert serving.stop(number) == status
    assert not [line for line in serving.lines if "Traceback" in line]


def test_name_metadata_and_concurrency_can_be_told_by_options(serve: Serve, server: NatsServer) -> None:
    serving = serve(
        "users:plain", "--name", "people", "--metadata", "zone=a=b", "--max-concurrency", "1", "-s", server.url
    )
    serving.hear("people 1.0.0")
    info = ask_info(server.url, "people")
    assert dict(info.metadata) == {"region": "eu", "zone": "a=b"}
    with connect(server.url) as nc:
        first = request_in_flight(nc, serving, 0.5)
        second = request_in_flight(nc, serving, 0)  # its handler begins when the first has ended
        assert (first(), second()) == (b"done", b"done")
    assert serving.stop() == 0


@pytest.mark.parametrize(
    ("options", "status", "text"),
    [
        (["--metadata", "zone"], 2, "the metadata 'zone' must have the form KEY=VALUE"),
        (["--name", "no name"], 1, "ServiceConfig.name: 'no name'"),
    ],
)
def test_a_wrong_option_is_told_before_anything_is_connected(
    run: Run, directory: Path, options: list[str], status: int, text: str
) -> None:
    done = run("serve", "users:plain", "--app-dir", str(directory), "-s", "nats://127.0.0.1:1", *options)
    assert (done.returncode, done.stderr.count("\n")) == (status, 1)
    assert text in done.stderr


def test_without_a_server_it_ends_with_status_1_and_shows_no_password(run: Run, directory: Path) -> None:
    url = "nats://someone:secret@127.0.0.1:1"
    done = run("serve", "users:plain", "--app-dir", str(directory), "-s", url)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "secret" not in done.stderr


def test_a_subscription_that_is_refused_ends_it_with_status_1(
    run: Run, directory: Path, make_server: Callable[..., NatsServer]
) -> None:
    refusing = make_server(
        'authorization { users = [{ user: "a", password: "b", permissions: { subscribe: { deny: "users.slow" } } }] }'
    )
    url = f"nats://a:b@127.0.0.1:{refusing.port}"
    done = run("serve", "users:plain", "--app-dir", str(directory), "-s", url)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "'users.slow'" in done.stderr


def test_a_connection_that_is_closed_for_good_ends_it_with_status_1(
    serve: Serve, make_server: Callable[..., NatsServer]
) -> None:
    server = make_server('authorization { user: "a", password: "b" }')
    serving = serve("users:plain", "-s", f"nats://a:b@127.0.0.1:{server.port}")
    serving.hear("is up")
    server.stop()
    server.config = 'authorization { user: "a", password: "c" }'
    server.start()
    assert serving.wait() == 1
    assert serving.lines[-1].startswith("natsvc: ")
    assert "uthorization" in serving.lines[-1]
    assert not [line for line in serving.lines if "Traceback" in line]


def test_an_error_of_the_users_own_that_ends_it_is_told_in_one_line(
    serve: Serve, server: NatsServer, directory: Path
) -> None:
    (directory / "ends.py").write_text(
        "from natsvc import ServiceDefinition\n"
        "def end(service, error, request):\n"
        "    service.stop(error)\n"
        "x = ServiceDefinition('x', error_handler=end)\n"
        "@x.endpoint('e')\n"
        "def e(request):\n"
        "    raise ValueError('enough')\n",
        encoding="utf-8",
    )
    serving = serve("ends:x", "-s", server.url, "--log-level", "critical")
    up = serving.hear("is up")
    with connect(server.url) as nc:
        nc.publish("e")
        nc.flush()
        assert serving.wait() == 1
    assert serving.lines == [up, "natsvc: x ended: ValueError: enough"]


LOGGING = """
import logging

from natsvc import ServiceDefinition

{setting}
x = ServiceDefinition("x")


@x.endpoint("e")
def e(request):
    logging.getLogger("mine").debug("debugging")
    logging.getLogger("mine").info("informing")
    return b""
"""


@pytest.mark.parametrize(
    ("setting", "options", "shown"),
    [
        ("", [], ["INFO mine: informing"]),
        ("", ["--log-level", "debug"], ["DEBUG mine: debugging", "INFO mine: informing"]),
        ("", ["--log-level", "warning"], []),
        ("logging.basicConfig(level='DEBUG', format='own %(message)s')", [], ["own debugging", "own informing"]),
    ],
)
def test_what_is_logged_stands_on_stderr_unless_the_module_says_otherwise(
    serve: Serve, server: NatsServer, directory: Path, setting: str, options: list[str], shown: list[str]
) -> None:
    (directory / "logs.py").write_text(LOGGING.format(setting=setting), encoding="utf-8")
    serving = serve("logs:x", "-s", server.url, *options)
    serving.hear("is up")
    with connect(server.url) as nc:
        nc.request("e")
    assert serving.stop() == 0
    lines = [line for line in serving.lines if line.endswith("ing")]
    assert len(lines) == len(shown)
    assert all(line.endswith(text) for line, text in zip(lines, shown, strict=True))
