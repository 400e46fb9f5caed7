"""Several nats-servers that form one cluster."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Sequence

from natsvc.testing import NatsServer
from tests.worlds import eventually

__all__ = ["start_cluster"]


def start_cluster(make_server: Callable[[str], NatsServer], configs: Sequence[str]) -> list[NatsServer]:
    """Start a server for each text of configuration, and wait until each knows all the others."""
    ports = _free_ports(len(configs))
    routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports)
    servers = [
        make_server(
            f"""
            server_name: server-{number}
            cluster {{ name: natsvc, listen: "127.0.0.1:{port}", routes: [{routes}] }}
            {config}
            """
        )
        for number, (port, config) in enumerate(zip(ports, configs, strict=True))
    ]
    everyone = {f"127.0.0.1:{server.port}" for server in servers}
    eventually(lambda: all(everyone <= set(server.monitoring().get("connect_urls", ())) for server in servers))
    return servers


def _free_ports(count: int) -> list[int]:
    # Open all before any is closed: the system gives a different one to each.
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]
