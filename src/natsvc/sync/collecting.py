"""A request with any number of answers, as a connection sends it and delivers them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

from natsvc.message import Data, Message
from natsvc.sync.driver import Driver

__all__ = ["collect"]


@contextlib.contextmanager
def collect(
    driver: Driver,
    subject: str,
    data: Data,
    headers: Mapping[str, str] | None,
    receive: Callable[[Message], object],
    fail: Callable[[BaseException], None],
) -> Iterator[None]:
    """Publish a request, and deliver all answers while the block lasts.

    It waits for nothing but the lock of the connection, and may be entered and left with it. After either, call the
    driver's `write`. An answer that says that there are no responders is delivered like any other.

    Args:
        driver: What runs the connection.
        subject: The subject.
        data: The body.
        headers: The headers.
        receive: What the answers go to, in order; called with the lock held.
        fail: What is told that no answer can come, because the server has refused the request or the subscription, or
            the connection is closed; with that error. It may be told more than once. Called with the lock held.

    Raises:
        NatsvcError: The request can't be sent.
    """
    with driver.lock:
        subscription = driver.state.collect(subject, data, headers, receive, fail)
    try:
        yield
    finally:
        with driver.lock:
            driver.state.forget(subscription)
