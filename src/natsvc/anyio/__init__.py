"""natsvc on anyio, that is on trio and on asyncio: connections, services on them, and what calls services.

All of it is structured: tasks live in the block that has started them, and cancelling what is around it ends them.

async with connect("nats://127.0.0.1:4222") as nc:
    async with add_service(nc, name="user-service", version="1.2.0") as service:

        @service.endpoint("create-user", subject="users.create")
        async def create_user(request: Request) -> bytes:
            return b'{"id": 7}'

        await service.serve_forever()
"""

from typing import TYPE_CHECKING

from natsvc import __all__ as _shared
from natsvc.on_demand import on_demand

if TYPE_CHECKING:
    from natsvc import *  # noqa: F403
    from natsvc.anyio.client import ServiceClient
    from natsvc.anyio.connection import Connection, Subscription, connect
    from natsvc.anyio.replies import Replies
    from natsvc.anyio.request import BlockingRequest, Request
    from natsvc.anyio.service import Group, Service, add_service
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "natsvc": _shared,
            "natsvc.anyio.client": ["ServiceClient"],
            "natsvc.anyio.connection": ["Connection", "Subscription", "connect"],
            "natsvc.anyio.replies": ["Replies"],
            "natsvc.anyio.request": ["BlockingRequest", "Request"],
            "natsvc.anyio.service": ["Group", "Service", "add_service"],
        },
    )

__all__ = [
    *_shared,
    "BlockingRequest",
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
