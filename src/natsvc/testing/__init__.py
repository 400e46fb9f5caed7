"""What users need to test their own services.

A service's mistakes show at its edges: a lost connection, a restarted server, a refused subscription. Those are told
truly only by a real nats-server, so that is what this package hands out: one, or a cluster, and fixtures for pytest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from natsvc.testing.cluster import NatsCluster
    from natsvc.testing.configuration import ServerCluster, ServerTLS
    from natsvc.testing.processes import NatsServerError
    from natsvc.testing.server import NatsServer
else:
    # pytest loads the fixtures, and this package with them, in every run of whoever has natsvc installed. So what runs
    # servers is loaded when somebody first asks for it (PEP 562). Type checkers are to see the names above and no more.
    _HOMES = {
        "NatsCluster": "cluster",
        "NatsServer": "server",
        "NatsServerError": "processes",
        "ServerCluster": "configuration",
        "ServerTLS": "configuration",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = ["NatsCluster", "NatsServer", "NatsServerError", "ServerCluster", "ServerTLS"]
