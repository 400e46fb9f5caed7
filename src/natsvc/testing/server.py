"""A real nats-server for tests, under the test's control.

A stand-in for the server would agree with whatever its author believed about NATS; the server itself does not. It is
driven from plain blocking code, so the same tool serves asyncio, trio and threads, and it leaves neither a process nor
a file behind, however the test ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from natsvc.testing.configuration import CHOSEN_BY_SERVER, HOST, ServerCluster, ServerOptions, ServerTLS
from natsvc.testing.processes import STARTING, NatsServerError, find_executable, start_guard, start_process
from natsvc.testing.readiness import greets, read_ports

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["NatsServer"]

_WAIT_LIMIT = 10.0
_STOP_LIMIT = 5.0
_POLL_INTERVAL = 0.005
_SHOWN_LOG_LINES = 20

# The monitoring port is on this machine, so a proxy from the environment must not be asked for it.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class NatsServer:
    """A nats-server on 127.0.0.1, as a blocking context manager.

    ```python
    with NatsServer(user="alice", password="open sesame", jetstream=True) as server:
        print(server.url)  # nats://127.0.0.1:40123
    ```

    It keeps its client port from the first start on, through `stop()`, `kill()` and `restart()`, so that clients can
    find it again. An object is for one thread at a time.

    Args:
        config: Text for the server's configuration file, such as `max_payload: 1024` or an `accounts {}` block. The
            other options win over the same settings in it, and where the server listens for clients and for monitoring
            is not up to it. A `log_file` in it hides the log from `log` and from errors. Default: none.
        port: The port for clients. Default: a free one, chosen by the server itself.
        name: What the server calls itself, without blanks. Default: its id.
        user: The user that clients must be, with `password`. Default: whoever connects is let in.
        password: The password of `user`. The server takes one that looks like a bcrypt hash (`$2a$…`) for a hash.
        token: The token that clients must have, in place of user and password.
        tls: Certificate, key and rules of the TLS that clients must speak. Default: none.
        jetstream: Whether to run JetStream; a `jetstream` block in `config` sets its limits. The store is in the
            server's own directory: it outlives `kill()` and `restart()`, and is removed by `stop()`. Default: no.
        cluster: The server's place in a cluster, where it is not a [NatsCluster][natsvc.testing.NatsCluster] that
            starts it. Default: none.

    Raises:
        ConfigError: An option is of the wrong type or breaks a rule, or two don't go together.
    """

    def __init__(
        self,
        *,
        config: str | None = None,
        port: int | None = None,
        name: str | None = None,
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        tls: ServerTLS | None = None,
        jetstream: bool = False,
        cluster: ServerCluster | None = None,
    ) -> None:
        self._options = ServerOptions(
            config=config,
            port=port,
            name=name,
            user=user,
            password=password,
            token=token,
            tls=tls,
            jetstream=jetstream,
            cluster=cluster,
        )
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
        name = f"{self._options.name} " if self._options.name else ""
        state = "running" if self.is_running else "not running"
        return f"<NatsServer {name}port={self._port} {state}>"

    @property
    def config(self) -> str | None:
        """The configuration text. What is assigned to it counts from the next start or `reload()` on."""
        return self._options.config

    @config.setter
    def config(self, config: str | None) -> None:
        self._options = dataclasses.replace(self._options, config=config)

    @property
    def tls(self) -> ServerTLS | None:
        """The TLS for clients, or None. What is assigned to it counts from the next start or `reload()` on."""
        return self._options.tls

    @tls.setter
    def tls(self, tls: ServerTLS | None) -> None:
        self._options = dataclasses.replace(self._options, tls=tls)

    @property
    def cluster(self) -> ServerCluster | None:
        """The place in a cluster, or None. What is assigned to it counts from the next start or `reload()` on."""
        return self._options.cluster

    @cluster.setter
    def cluster(self, cluster: ServerCluster | None) -> None:
        self._options = dataclasses.replace(self._options, cluster=cluster)

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
        """The URL for clients, such as `nats://127.0.0.1:40123`, or with the option `tls`, `tls://127.0.0.1:40123`.

        It has no credentials, for URLs end in logs; clients are given user and password, or the token, beside it.

        Raises:
            NatsServerError: As for `port`.
        """
        return f"{'nats' if self.tls is None else 'tls'}://{HOST}:{self.port}"

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
            return _log_path(self._directory).read_text(encoding="utf-8", errors="replace")
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
        executable = find_executable()
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
            # The guard comes first, so that there is never a directory without one.
            directory = self._directory = Path(tempfile.gettempdir(), f"natsvc-server-{secrets.token_hex(8)}")
            self._guard = start_guard(directory, _process_id_path(directory))
            directory.mkdir(mode=0o700)
        # Left by a server that was killed: its ports and its process id are not those of the next.
        for stale in (*directory.glob("*.ports"), _process_id_path(directory)):
            stale.unlink(missing_ok=True)
        # The command line wins over the configuration file, also when that is reloaded.
        command = [executable, "--config", str(self._write_config(directory))]
        command += ["--addr", HOST, "--port", str(self._port or CHOSEN_BY_SERVER)]
        command += ["--http_port", str(CHOSEN_BY_SERVER), "--ports_file_dir", str(directory)]
        command += ["--pid", str(_process_id_path(directory))]
        self._tell_guard(STARTING)
        with _log_path(directory).open("wb") as log:
            process = self._process = start_process(command, stdin=subprocess.DEVNULL, output=log)
        self._tell_guard(str(process.pid))
        deadline = time.monotonic() + _WAIT_LIMIT
        while (ports := read_ports(directory)) is None:
            self._wait_a_little(process, deadline, "start")
        self._port, self._monitoring_url = ports
        while not greets(self._port, deadline):
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

    def _tell_guard(self, word: str) -> None:
        if self._guard is not None and self._guard.stdin is not None:
            # A guard that someone killed can't help any more; the server's own end does not depend on it.
            with contextlib.suppress(OSError):
                self._guard.stdin.write(f"{word}\n".encode())

    def _clean_up(self) -> None:
        self.kill()
        guard, self._guard = self._guard, None
        directory, self._directory = self._directory, None
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)
        # Last, for until then it does all this if this process is killed.
        if guard is not None:
            guard.kill()
            guard.wait()
            if guard.stdin is not None:
                guard.stdin.close()

    def _write_config(self, directory: Path) -> Path:
        path = directory / "nats-server.conf"
        path.write_text(self._options.text(store=directory), encoding="utf-8")  # the server adds "jetstream" to it
        return path


def _log_path(directory: Path) -> Path:
    return directory / "nats-server.log"


def _process_id_path(directory: Path) -> Path:
    return directory / "nats-server.pid"
