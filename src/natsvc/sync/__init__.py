"""natsvc for blocking threads: services and what calls them, with no event loop anywhere.

with connect("nats://127.0.0.1:4222") as nc:
    with add_service(nc, name="user-service", version="1.2.0") as service:

        @service.endpoint("create-user", subject="users.create")
        def create_user(request: Request) -> bytes:
            return b'{"id": 7}'

        service.serve_forever()
"""

from typing import TYPE_CHECKING

from natsvc import __all__ as _shared
from natsvc.on_demand import on_demand

if TYPE_CHECKING:
    from natsvc import *  # noqa: F403
    from natsvc.sync.client import ServiceClient
    from natsvc.sync.connection import Connection, Subscription, connect
    from natsvc.sync.replies import Replies
    from natsvc.sync.request import Request
    from natsvc.sync.service import Group, Service, add_service
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "natsvc": _shared,
            "natsvc.sync.client": ["ServiceClient"],
            "natsvc.sync.connection": ["Connection", "Subscription", "connect"],
            "natsvc.sync.replies": ["Replies"],
            "natsvc.sync.request": ["Request"],
            "natsvc.sync.service": ["Group", "Service", "add_service"],
        },
    )

__all__ = [
    *_shared,
    "Connection",
    "Group",
    "Replies",
    "Request",
    "Service",
    "ServiceClient",
    "Subscription",
    "add_service",
    "connect",
]
