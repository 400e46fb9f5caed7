"""The calling side of each world, driven from a test's thread as services are by tests.worlds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import natsvc.anyio
import natsvc.asyncio
import natsvc.sync
from natsvc import Message
from tests.anyio_world import AnyioConnection
from tests.sync_world import SyncConnection, begin, run_blocking
from tests.worlds import AsyncioConnection, Connection

__all__ = ["Caller", "Replies", "caller"]

Work = Callable[[Message], Awaitable[object]]
"""What a caller does with each reply before it asks for the next; in a world of threads, what it awaits has blocked."""


@dataclass
class Replies:
    """What came of a loop over replies.

    Attributes:
        data: The data of each reply.
        error: What the loop was left with.
        ended_by: What the replies say that has ended them, if there was a block around them.
    """

    data: list[bytes] = field(default_factory=list)
    error: BaseException | None = None
    ended_by: str | None = None


class Caller(Protocol):
    """A ServiceClient."""

    def begin(self, call: str, *arguments: Any, **given: Any) -> Future[Any]:
        """Begin a call of this name."""
        ...

    def begin_loop(
        self, *arguments: Any, work: Work | None = None, enough: int | None = None, block: bool = False, **given: Any
    ) -> Future[Replies]:
        """Begin a loop over the replies to a request, with or without a block, and break out of it after enough."""
        ...

    def close(self) -> None:
        """End the loops that go on, as they do when a test has failed: a world waits for them."""
        ...


def caller(connection: Connection, **fields: Any) -> Caller:
    """Make a ServiceClient on a connection."""
    if isinstance(connection, AsyncioConnection):
        nc, world = connection.nc, connection._world
        return AsyncCaller(natsvc.asyncio.ServiceClient(nc, **fields), lambda call: world.begin(call()))
    if isinstance(connection, AnyioConnection):
        return AsyncCaller(natsvc.anyio.ServiceClient(connection.nc, **fields), connection._world.begin)
    assert isinstance(connection, SyncConnection)
    return SyncCaller(natsvc.sync.ServiceClient(connection.nc, **fields))


class AsyncCaller:
    """A client on an event loop."""

    def __init__(self, client: Any, begin: Callable[[Callable[[], Any]], Future[Any]]) -> None:
        self._client = client
        self._begin = begin
        self._loops: list[Future[Replies]] = []

    def begin(self, call: str, *arguments: Any, **given: Any) -> Future[Any]:
        return self._begin(lambda: getattr(self._client, call)(*arguments, **given))

    def begin_loop(
        self, *arguments: Any, work: Work | None = None, enough: int | None = None, block: bool = False, **given: Any
    ) -> Future[Replies]:
        got = Replies()

        async def is_enough(reply: Message) -> bool:
            got.data.append(reply.data)
            if work is not None:
                await work(reply)
            return len(got.data) == enough

        async def loop() -> Replies:
            try:
                if block:
                    async with self._client.request_many(*arguments, **given) as replies:
                        async for reply in replies:
                            if await is_enough(reply):
                                break
                        got.ended_by = replies.ended_by
                else:
                    async for reply in self._client.request_many(*arguments, **given):
                        if await is_enough(reply):
                            break
            except Exception as error:  # noqa: BLE001  # it is the test's
                got.error = error
            return got

        self._loops.append(self._begin(loop))
        return self._loops[-1]

    def close(self) -> None:
        for loop in self._loops:
            loop.cancel()


class SyncCaller:
    """A client in a thread of its own for each call."""

    def __init__(self, client: natsvc.sync.ServiceClient) -> None:
        self._client = client

    def begin(self, call: str, *arguments: Any, **given: Any) -> Future[Any]:
        return begin(getattr(self._client, call), *arguments, **given)

    def begin_loop(
        self, *arguments: Any, work: Work | None = None, enough: int | None = None, block: bool = False, **given: Any
    ) -> Future[Replies]:
        got = Replies()

        def is_enough(reply: Message) -> bool:
            got.data.append(reply.data)
            if work is not None:
                run_blocking(work(reply))
            return len(got.data) == enough

        def loop() -> Replies:
            try:
                if block:
                    with self._client.request_many(*arguments, **given) as replies:
                        for reply in replies:
                            if is_enough(reply):
                                break
                        got.ended_by = replies.ended_by
                else:
                    for reply in self._client.request_many(*arguments, **given):
                        if is_enough(reply):
                            break
            except Exception as error:  # noqa: BLE001  # it is the test's
                got.error = error
            return got

        return begin(loop)

    def close(self) -> None:
        """Its threads end with the gates of their world."""
