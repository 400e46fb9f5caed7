"""The services that are compared: the same two handlers, run by different libraries on different connections.

A contender runs alone in its process, and says itself how much CPU time that has taken, so that neither the server nor
the load generator is counted.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import natsvc.asyncio

__all__ = ["CONTENDERS", "CPU_TIME", "ECHO", "READY", "REFERENCE"]

ECHO = "benchmark.echo"
"""The subject that answers with the request's data."""

CPU_TIME = "benchmark.cpu"
"""The subject that answers with the process's CPU time so far, in nanoseconds."""

READY = "ready"
"""What a contender prints when it can be asked."""


async def echo(request: Any) -> None:
    """Answer with what was asked; the one handler of every contender."""
    await request.respond(request.data)


async def cpu_time(request: Any) -> None:
    """Answer with the CPU time of this process."""
    await request.respond(str(time.process_time_ns()).encode())


async def serve_nats_micro(url: str) -> None:
    """Run nats.micro on a connection of nats-py."""
    import nats
    import nats.micro

    nc = await nats.connect(url)
    service = await nats.micro.add_service(nc, name="benchmark", version="1.0.0")
    await service.add_endpoint(name="echo", subject=ECHO, handler=echo)
    await service.add_endpoint(name="cpu", subject=CPU_TIME, handler=cpu_time)
    await nc.flush()
    await serve_until_killed()


async def serve_natsvc_on_nats_py(url: str) -> None:
    """Run natsvc on a connection of nats-py."""
    import nats

    await serve_natsvc(await nats.connect(url))


async def serve_natsvc_connection(url: str) -> None:
    """Run natsvc on its own connection."""
    await serve_natsvc(await natsvc.asyncio.connect(url))


async def serve_natsvc(nc: object) -> None:
    """Run natsvc on any connection it takes."""
    service = await natsvc.asyncio.add_service(nc, name="benchmark", version="1.0.0")
    await service.add_endpoint("echo", subject=ECHO, handler=echo)
    await service.add_endpoint("cpu", subject=CPU_TIME, handler=cpu_time)
    await serve_until_killed()


async def serve_until_killed() -> None:
    """Tell the parent process to begin, and serve."""
    print(READY, flush=True)
    await asyncio.Event().wait()


REFERENCE = "nats.micro"
"""The contender that the others are compared with."""

CONTENDERS: dict[str, Callable[[str], Awaitable[None]]] = {
    REFERENCE: serve_nats_micro,
    "natsvc on nats-py": serve_natsvc_on_nats_py,
    "natsvc": serve_natsvc_connection,
}


async def main(contender: str, url: str) -> None:
    """Run one contender on the server at a URL until the process is killed."""
    await CONTENDERS[contender](url)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
