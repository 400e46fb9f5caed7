"""Messages delivered inside of a task, which becomes the task of the first handler that waits for something.

An eager task (Python 3.12) begins where it is made, so what is delivered in one is delivered at once, and handlers that
never wait cost no task of their own. Only when one waits does the task stay with it; the messages behind it are
delivered in another. Python 3.11 has no eager tasks: there, every handler gets one of the ordinary kind.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import contextvars

    from natsvc.message import Delivery

__all__ = ["IS_EAGER", "Receive", "deliver_all", "deliver_one"]

Receive: TypeAlias = Callable[[Any], Coroutine[Any, Any, None] | None]
"""What a message goes to. What it returns, if it does, is the rest of the work, to be awaited in the same task."""

IS_EAGER = sys.version_info >= (3, 12)
"""Whether a Receive is called in a task that can go on as a handler's own."""


def deliver_all(
    loop: asyncio.AbstractEventLoop,
    context: contextvars.Context,
    deliveries: Iterator[tuple[Receive, Delivery]],
) -> None:
    """Deliver messages in their order, each to what receives it."""
    if sys.version_info < (3, 12):
        for receive, message in deliveries:
            rest = receive(message)
            if rest is not None:
                loop.create_task(rest, context=context.copy())  # once it has begun, it sees to it that it is kept
        return
    while True:
        # A copy, for this may be called where the context itself is entered already.
        task = asyncio.Task(_deliver(deliveries), loop=loop, context=context.copy(), eager_start=True)
        if task.done() and not task.cancelled() and task.result():
            return


def deliver_one(
    loop: asyncio.AbstractEventLoop, context: contextvars.Context, receive: Receive, message: Delivery
) -> None:
    """Deliver one message."""
    if sys.version_info < (3, 12):
        deliver_all(loop, context, iter([(receive, message)]))
        return
    task = asyncio.Task(_deliver_one(receive, message), loop=loop, context=context.copy(), eager_start=True)
    if task.done() and not task.cancelled():
        task.result()


async def _deliver(deliveries: Iterator[tuple[Receive, Delivery]]) -> bool:
    """Deliver until one of them needs the task for itself; return whether that was none, and all are delivered."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  # for mypy
    cancelling = task.cancelling
    for receive, message in deliveries:
        rest = receive(message)
        if rest is not None:
            await rest  # which may be done without having waited for anything
            return False
        if cancelling():  # a handler has cancelled the task it ran in, and that must not hit another one
            return False
    return True


async def _deliver_one(receive: Receive, message: Delivery) -> None:
    rest = receive(message)
    if rest is not None:
        await rest
