"""What several tests of this front-end need."""

from __future__ import annotations

import select
import socket
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import anyio

from natsvc.anyio import Connection
from natsvc.testing import NatsServer
from natsvc.wire.outbox import READ_SIZE
from tests.worlds import LIMIT

__all__ = ["cancelled_at", "connections", "eventually", "subscriptions", "wait_for_bytes"]


async def eventually(condition: Callable[[], object]) -> None:
    """Poll for what must come true, without holding up the event loop."""
    with anyio.fail_after(30):
        while not condition():
            await anyio.sleep(0.005)


def connections(server: NatsServer, name: str) -> int:
    """How many clients of this name the server has."""
    return sum(one.get("name") == name for one in server.monitoring("connz")["connections"])


def subscriptions(server: NatsServer, name: str) -> list[str]:
    """What the server's clients of this name are subscribed to."""
    clients = server.monitoring("connz?subs=1")["connections"]
    return sorted(
        subject for one in clients if one.get("name") == name for subject in one.get("subscriptions_list", ())
    )


def wait_for_bytes(nc: Connection, count: int = 0) -> None:
    """Hold the event loop up until the server has said something, and so much of it, or has ended the connection."""
    reader = nc._driver._socket
    assert reader is not None
    assert reader._raw is not None
    assert select.select([reader._raw], [], [], LIMIT)[0], "the server says nothing"
    while count and len(reader._raw.recv(READ_SIZE, socket.MSG_PEEK)) < count:
        pass


async def cancelled_at(number: int, coroutine: Coroutine[Any, Any, Any]) -> bool:
    """Run a coroutine, and cancel it when it waits for the n-th time; return whether it came to that."""
    with anyio.CancelScope() as scope:
        await _count(coroutine, number, scope)
    return scope.cancel_called


@types.coroutine
def _count(coroutine: Coroutine[Any, Any, Any], number: int, scope: anyio.CancelScope) -> Generator[Any, Any, Any]:
    step: Callable[[Any], Any] = coroutine.send
    sent: Any = None
    while True:
        try:
            trap = step(sent)
        except StopIteration as stop:
            return stop.value
        number -= 1
        if number == 0:
            scope.cancel()
        try:
            step, sent = coroutine.send, (yield trap)
        except BaseException as error:  # noqa: BLE001  # it is the coroutine's
            step, sent = coroutine.throw, error
