"""natsvc on asyncio: services on a connection of natsvc or of nats-py, and what calls them.

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
    from natsvc.asyncio.client import ServiceClient
    from natsvc.asyncio.connection import Connection, Subscription, connect
    from natsvc.asyncio.replies import Replies
    from natsvc.asyncio.request import BlockingRequest, Request
    from natsvc.asyncio.service import Group, Service, add_service
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "natsvc": _shared,
            "natsvc.asyncio.client": ["ServiceClient"],
            "natsvc.asyncio.connection": ["Connection", "Subscription", "connect"],
            "natsvc.asyncio.replies": ["Replies"],
            "natsvc.asyncio.request": ["BlockingRequest", "Request"],
            "natsvc.asyncio.service": ["Group", "Service", "add_service"],
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
