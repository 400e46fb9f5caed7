"""natsvc on asyncio: services on a connection of nats-py.

nc = await nats.connect()
async with add_service(nc, name="user-service", version="1.2.0") as service:

    @service.endpoint("create-user", subject="users.create")
    async def create_user(request: Request) -> bytes:
        return b'{"id": 7}'

    await service.serve_forever()
"""

from natsvc import *  # noqa: F403
from natsvc import __all__ as _shared
from natsvc.asyncio.request import BlockingRequest, Request
from natsvc.asyncio.service import Group, Service, add_service

__all__ = [*_shared, "BlockingRequest", "Group", "Request", "Service", "add_service"]
