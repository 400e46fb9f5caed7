"""What users need to test their own services.

A service's mistakes show at its edges: a lost connection, a restarted server, a refused subscription. Those are told
truly only by a real nats-server, so that is what this package hands out: one, or a cluster, and fixtures for pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from natsvc.on_demand import on_demand

if TYPE_CHECKING:
    from natsvc.testing.cluster import NatsCluster
    from natsvc.testing.configuration import ServerCluster, ServerTLS
    from natsvc.testing.processes import NatsServerError
    from natsvc.testing.server import NatsServer
else:
    # pytest loads the fixtures, and this package with them, in every run of whoever has natsvc installed.
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "natsvc.testing.cluster": ["NatsCluster"],
            "natsvc.testing.configuration": ["ServerCluster", "ServerTLS"],
            "natsvc.testing.processes": ["NatsServerError"],
            "natsvc.testing.server": ["NatsServer"],
        },
    )

__all__ = ["NatsCluster", "NatsServer", "NatsServerError", "ServerCluster", "ServerTLS"]
