"""A request with any number of answers, as a connection sends it and delivers them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

from natsvc.anyio.driver import Driver
from natsvc.message import Data, Message

__all__ = ["collect"]


@contextlib.contextmanager
def collect(
    driver: Driver,
    subject: str,
    data: Data,
    headers: Mapping[str, str] | None,
    receive: Callable[[Message], None],
    fail: Callable[[BaseException], None],
) -> Iterator[None]:
    """Publish a request, and deliver all answers while the block lasts.

    Neither entering nor leaving it waits, so there is no moment at which a cancellation could leave a subscription
    behind. An answer that says that there are no responders is delivered like any other.

    Args:
        driver: What runs the connection.
        subject: The subject.
        data: The body.
        headers: The headers.
        receive: What the answers go to, in order.
        fail: What is told that no answer can come, because the server has refused the request or the subscription, or
            the connection is closed; with that error. It may be told more than once.

    Raises:
        NatsvcError: The request can't be sent.
    """
    subscription = driver.state.collect(subject, data, headers, receive, fail)
    driver.send()
    try:
        yield
    finally:
        driver.state.forget(subscription)
        driver.send()
