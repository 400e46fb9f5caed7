"""The fixtures for pytest, as a user has them: in projects of their own, run by a pytest of their own."""

from __future__ import annotations

import inspect
import json
import signal
import subprocess
import sys
import textwrap
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import natsvc.testing
from natsvc.testing import NatsServer
from tests.testing.remains import listens, remains
from tests.worlds import eventually

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def project(pytester: pytest.Pytester) -> None:
    """Any warning is an error there, as it is with many users."""
    pytester.makeini("""
        [pytest]
        filterwarnings = error
        asyncio_default_fixture_loop_scope = function
        # Half of the time that it takes to start is for that plugin, which has nothing to do here.
        addopts = -p no:hypothesispytest
    """)


def test_it_is_found_by_its_entry_point() -> None:
    [found] = entry_points(group="pytest11", name="natsvc")
    assert found.value == "natsvc.testing.plugin"


def test_all_tests_share_one_server_and_nothing_is_left_of_it(pytester: pytest.Pytester, place: Path) -> None:
    pytester.makepyfile("""
        from natsvc.sync import connect
        from natsvc.testing import NatsServer

        seen = []

        def test_first(nats_server: NatsServer) -> None:
            with connect(nats_server.url) as nc:
                nc.flush()
            seen.append((nats_server, nats_server.pid))

        def test_second(nats_server: NatsServer) -> None:
            assert seen == [(nats_server, nats_server.pid)]
    """)
    pytester.runpytest_subprocess().assert_outcomes(passed=2)
    assert remains(place) == []


def test_servers_and_clusters_of_a_test_end_with_it_also_when_it_fails(pytester: pytest.Pytester, place: Path) -> None:
    pytester.makepyfile("""
        servers = []

        def test_passes(make_nats_server, make_nats_cluster):
            servers.append(make_nats_server(user="alice", password="right"))
            servers.append(make_nats_server(config="max_payload: 2048"))
            servers.extend(make_nats_cluster(2, config="max_payload: 2048").servers)
            servers.extend(make_nats_cluster().servers)
            limits = [server.monitoring()["max_payload"] for server in servers]
            assert limits == [1024 * 1024, *[2048] * 3, *[1024 * 1024] * 3]

        def test_after_it():
            assert [server.is_running for server in servers] == [False] * 7
            servers.clear()

        def test_fails(make_nats_server):
            servers.append(make_nats_server())
            assert False

        def test_after_the_failure():
            assert [server.is_running for server in servers] == [False]
    """)
    pytester.runpytest_subprocess().assert_outcomes(passed=3, failed=1)
    assert remains(place) == []


def test_a_server_that_does_not_start_is_an_error_and_those_before_it_end(
    pytester: pytest.Pytester, place: Path
) -> None:
    pytester.makepyfile("""
        def test_fails(make_nats_server):
            make_nats_server()
            make_nats_server(config="no_such_setting: 1")
    """)
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*NatsServerError: *", "*no_such_setting*"])
    assert remains(place) == []


def test_a_project_may_have_a_shared_server_of_its_own(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("""
        from collections.abc import Iterator

        import pytest

        from natsvc.testing import NatsServer

        @pytest.fixture(scope="session")
        def nats_server() -> Iterator[NatsServer]:
            with NatsServer(jetstream=True) as server:
                yield server
    """)
    pytester.makepyfile("""
        def test_it(nats_server):
            assert nats_server.monitoring("jsz")["config"]["max_storage"] > 0
    """)
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_the_fixtures_are_listed_with_what_they_are_for(pytester: pytest.Pytester) -> None:
    lines = pytester.runpytest_subprocess("--fixtures").stdout.lines
    for name in ("nats_server", "make_nats_server", "make_nats_cluster"):
        [at] = [number for number, line in enumerate(lines) if line.startswith((f"{name} ", f"{name} ["))]
        assert lines[at + 1].startswith("    ")


def test_a_run_that_does_not_use_them_loads_nothing_for_them(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import json, pathlib, sys
        import natsvc

        def test_it():
            pathlib.Path("loaded.json").write_text(json.dumps(sorted(sys.modules)))
    """)
    loaded = []
    for arguments in (["-p", "no:natsvc"], []):
        pytester.runpytest_subprocess(*arguments).assert_outcomes(passed=1)
        loaded.append(set(json.loads(Path(pytester.path, "loaded.json").read_text())))
    without, with_them = loaded
    assert with_them - without == {"natsvc.testing", "natsvc.testing.plugin"}


def test_loading_it_imports_nothing_but_pytest() -> None:
    program = """
        import json, sys
        import pytest, natsvc
        before = set(sys.modules)
        import natsvc.testing.plugin
        print(json.dumps(sorted(set(sys.modules) - before)))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], check=True, capture_output=True, text=True, timeout=60
    )
    assert json.loads(run.stdout) == ["natsvc.testing", "natsvc.testing.plugin"]


def test_a_name_that_the_package_does_not_have_is_the_usual_error() -> None:
    with pytest.raises(AttributeError, match=r"natsvc\.testing.*NatsSever"):
        _ = natsvc.testing.NatsSever  # type: ignore[attr-defined]
    assert set(natsvc.testing.__all__) <= set(dir(natsvc.testing))


def test_coverage_counts_the_lines_that_are_run_by_an_import(pytester: pytest.Pytester) -> None:
    # They would be missed in whatever is imported before the tests are.
    pytester.makepyfile("""
        def test_it(nats_server):
            nats_server.monitoring()
    """)
    result = pytester.runpytest_subprocess("--cov=natsvc.testing.server", "--cov-report=json:covered.json")
    result.assert_outcomes(passed=1)
    [file] = json.loads(Path(pytester.path, "covered.json").read_text())["files"].values()
    _, line = inspect.getsourcelines(NatsServer)
    assert line in file["executed_lines"]


def test_with_xdist_each_worker_has_a_server_and_leaves_nothing_also_when_it_crashes(
    pytester: pytest.Pytester, place: Path
) -> None:
    pytester.makepyfile("""
        import os, pathlib, signal

        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_it(nats_server, make_nats_server, worker_id, number):
            pathlib.Path(f"{worker_id}-{nats_server.port}").touch()
            own = make_nats_server()
            if number == 3:
                pathlib.Path("crashed").write_text(f"{nats_server.port} {own.port}")
                os.kill(os.getpid(), signal.SIGKILL)
    """)
    result = pytester.runpytest_subprocess(
        "-n",
        "2",
    )
    result.assert_outcomes(passed=3, failed=1)
    ports = dict(path.name.split("-") for path in Path(pytester.path).glob("gw*-*"))
    assert len(set(ports.values())) == len(ports) > 1
    eventually(lambda: remains(place) == [])


@pytest.mark.skipif(sys.platform == "win32", reason="these signals are POSIX's")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_a_pytest_that_is_killed_leaves_no_process_and_no_file(
    pytester: pytest.Pytester, place: Path, name: str
) -> None:
    pytester.makepyfile("""
        import pathlib, threading

        def test_it(nats_server, make_nats_server, make_nats_cluster):
            servers = [nats_server, make_nats_server(jetstream=True), *make_nats_cluster().servers]
            pathlib.Path("written").write_text(" ".join(str(server.port) for server in servers))
            pathlib.Path("written").rename("ports")
            threading.Event().wait()
    """)
    ports = Path(pytester.path, "ports")
    with subprocess.Popen([sys.executable, "-m", "pytest"], cwd=pytester.path, stdout=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: ports.exists() or process.poll() is not None)
            listening = [int(port) for port in ports.read_text().split()]
            assert [listens(port) for port in listening] == [True] * 5
            assert len(remains(place)) >= 5
            process.send_signal(signal.Signals[name])
            process.wait(30)
        finally:
            process.kill()
    eventually(lambda: remains(place) == [])
    assert [listens(port) for port in listening] == [False] * 5
