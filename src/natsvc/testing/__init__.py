"""What users need to test their own services.

A service's mistakes show at its edges: a lost connection, a restarted server, a refused subscription. Those are told
truly only by a real nats-server, so that is what this package hands out.
"""

from __future__ import annotations

from natsvc.testing.server import NatsServer, NatsServerError

__all__ = ["NatsServer", "NatsServerError"]
