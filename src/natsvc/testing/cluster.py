"""A cluster of real nats-servers: what a client of one sees when servers come and go.

Each server is told of all the others from the start, for JetStream reckons with as many servers as it is told of. So
the ports for routes are chosen before there is any server.
"""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from natsvc.errors import ConfigError
from natsvc.testing.configuration import HOST, ServerCluster, ServerTLS, check_name
from natsvc.testing.processes import NatsServerError
from natsvc.testing.server import NatsServer

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["NatsCluster"]

_READY_LIMIT = 30.0
_POLL_INTERVAL = 0.01

# The system hands out ports above these, for clients and for servers that don't care: so nothing gets one by chance
# before its server listens, or while that is down.
_ROUTE_PORTS = range(20_000, 32_768)
_SPARE_PORTS = 100

# Of its own: tests may seed the one that all share, and those that run side by side would choose the same.
_random = random.SystemRandom()


class NatsCluster:
    """Nats-servers on 127.0.0.1 that know each other by routes, as a blocking context manager.

    ```python
    with NatsCluster() as cluster:
        print(cluster.urls)  # ['nats://127.0.0.1:40123', 'nats://127.0.0.1:40125', 'nats://127.0.0.1:40127']
        cluster.servers[0].kill()
        cluster.servers[0].restart()
        cluster.wait_until_ready()
    ```

    Its servers keep their ports, for clients and for routes. Each may be killed, restarted and reloaded on its own; one
    that comes back joins the others by itself. An object is for one thread at a time.

    Args:
        size: The number of servers, at least 2. Default: 3.
        config: Text for the configuration file of every server, or a sequence with one text (or None) for each.
            A `cluster` block in it has no effect. Default: none.
        name: The name of the cluster, without blanks; its servers are called `name-1`, `name-2` and so on.
            Default: "natsvc".
        user: As for [NatsServer][natsvc.testing.NatsServer], and so are those that follow, for every server alike.
        password: The password of `user`.
        token: The token that clients must have.
        tls: The TLS for clients. Routes are not encrypted.
        jetstream: Whether to run JetStream; it needs a majority of the servers. Default: no.

    Attributes:
        servers: The servers, in the order in which they are started.

    Raises:
        ConfigError: An option is of the wrong type or breaks a rule, or two don't go together.
    """

    def __init__(
        self,
        size: int = 3,
        *,
        config: str | Sequence[str | None] | None = None,
        name: str = "natsvc",
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        tls: ServerTLS | None = None,
        jetstream: bool = False,
    ) -> None:
        if not isinstance(size, int) or isinstance(size, bool) or size < 2:
            raise ConfigError("NatsCluster.size", size, "must be an int of at least 2")
        configs = [config] * size if config is None or isinstance(config, str) else config
        if not isinstance(configs, Sequence) or len(configs) != size:
            rule = f"must be a str for all servers, or a sequence of {size}, one for each"
            raise ConfigError("NatsCluster.config", f"<{type(configs).__name__}>", rule)
        check_name("NatsCluster.name", name)
        ports = _choose_ports(size)
        self._name = name
        self._jetstream = jetstream
        self.servers = tuple(
            NatsServer(
                config=one,
                name=f"{name}-{number}",
                user=user,
                password=password,
                token=token,
                tls=tls,
                jetstream=jetstream,
                cluster=ServerCluster(name, port, [other for other in ports if other != port]),
            )
            for number, (port, one) in enumerate(zip(ports, configs, strict=True), start=1)
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        running = sum(server.is_running for server in self.servers)
        return f"<NatsCluster {self._name}: {running} of {len(self.servers)} servers running>"

    @property
    def urls(self) -> list[str]:
        """The URLs for clients, in the order of `servers`, without credentials.

        Raises:
            NatsServerError: The cluster has not been started yet.
        """
        return [server.url for server in self.servers]

    def start(self) -> None:
        """Starts the servers that don't run, and waits until all are connected with each other.

        Raises:
            NatsServerError: A server did not start, as for [NatsServer.start][natsvc.testing.NatsServer.start], or
                they did not connect within 30 s. Then none of them is left running.
        """
        try:
            for server in self.servers:
                server.start()
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends all servers and removes their directories, as for [NatsServer.stop][natsvc.testing.NatsServer.stop]."""
        with contextlib.ExitStack() as ending:  # ends the others also when one can't be ended
            for server in self.servers:
                ending.callback(server.stop)

    def wait_until_ready(self) -> None:
        """Waits until the servers that run are connected with each other, and with no other.

        With JetStream, also until they follow a leader that runs. This is what comes after a `kill()` or `restart()` of
        one of the servers, when the test depends on the others having noticed.

        Raises:
            NatsServerError: A server has ended meanwhile, or they were not ready within 30 s.
        """
        running = [server for server in self.servers if server.is_running]
        deadline = time.monotonic() + _READY_LIMIT
        while not self._is_ready(running):
            if time.monotonic() > deadline:
                raise NatsServerError(f"{self!r} was not ready within {_READY_LIMIT:g} s")
            time.sleep(_POLL_INTERVAL)

    def _is_ready(self, running: Sequence[NatsServer]) -> bool:
        # A server that ends within an answer, or that answers with an error, is not ready; one that has ended raises.
        try:
            return all(_knows_all(server, running) for server in running) and (
                not self._jetstream or _follow_one_leader(running)
            )
        except OSError:
            return False


def _knows_all(server: NatsServer, running: Sequence[NatsServer]) -> bool:
    about = server.monitoring("varz")
    # Between two servers is a pool of routes that the accounts share, beside one for the system account. What is
    # published before the whole pool is there may not get through.
    pool_size = max(1, about["cluster"].get("pool_size", 1))
    routes = server.monitoring("routez")["routes"]
    standing = Counter(route["remote_id"] for route in routes if not route.get("account"))
    # The servers' INFO tells these to clients, which are to know all servers.
    urls = {f"{HOST}:{one.port}" for one in running}
    return list(standing.values()) == [pool_size] * (len(running) - 1) and urls == set(about.get("connect_urls", ()))


def _follow_one_leader(running: Sequence[NatsServer]) -> bool:
    # For seconds after a leader's end, the others are healthy by their own account, and still name it.
    names = {server.monitoring("varz")["server_name"] for server in running}
    leaders = {server.monitoring("jsz").get("meta_cluster", {}).get("leader") for server in running}
    return (
        len(leaders) == 1
        and leaders <= names
        and all(server.monitoring("healthz")["status"] == "ok" for server in running)
    )


def _choose_ports(count: int) -> list[int]:
    ports: list[int] = []
    for port in _random.sample(_ROUTE_PORTS, count + _SPARE_PORTS):
        with contextlib.suppress(OSError), socket.create_server((HOST, port)):
            ports.append(port)
        if len(ports) == count:
            return ports
    raise NatsServerError(f"{count} free ports were not found from {_ROUTE_PORTS[0]} to {_ROUTE_PORTS[-1]}")
