"""A request with any number of answers, as a connection sends it and delivers them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

from natsvc.anyio.driver import Driver
from natsvc.errors import PermissionsError
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
    state = driver.state
    asking = _Asking(driver, subject, fail)
    inbox = state.new_inbox()
    subscription = state.subscribe(inbox, "", receive, asking.ended)
    driver.listeners.append(asking)
    try:
        state.publish(subject, data, inbox, headers)
        driver.send()
        yield
    finally:
        driver.listeners.remove(asking)
        state.forget(subscription)
        driver.send()


class _Asking:
    """Listens to what becomes of the connection, and of the subscription to the answers."""

    def __init__(self, driver: Driver, subject: str, fail: Callable[[BaseException], None]) -> None:
        self._driver = driver
        self._subject = subject
        self._fail = fail

    def ended(self, error: BaseException | None) -> None:
        """The subscription has ended."""
        self._fail(error or self._driver.state.closed_error())

    def connection_closed(self, error: BaseException) -> None:
        """The connection is closed for good."""
        self._fail(error)

    def connection_error(self, error: BaseException) -> None:
        """The server has refused something; perhaps the request."""
        if isinstance(error, PermissionsError) and error.subject == self._subject and error.operation == "publish":
            self._fail(error)

    async def drain(self) -> None:
        """Let the connection be drained: what has been asked is answered before it closes, or never."""
