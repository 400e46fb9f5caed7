"""The calling side on anyio: asks services what they are and how they do, and sends them requests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Generic

import anyio

from natsvc.anyio.connection import Connection
from natsvc.anyio.driver import Driver
from natsvc.anyio.timer import clock
from natsvc.connecting import require_own
from natsvc.core import (
    DEFAULT_PREFIX,
    GATHER_STALL,
    GATHER_TIMEOUT,
    REQUEST_TIMEOUT,
    Answer,
    Gathering,
    ServiceInfo,
    ServicePing,
    ServiceStats,
    ServiceVerb,
    check_duration,
    checked_reply,
    control_subject,
)
from natsvc.errors import PermissionsError
from natsvc.message import Data, Message

__all__ = ["ServiceClient"]


class ServiceClient:
    """Calls services, of whatever language, on a connection.

    It holds nothing open between calls, and needs no closing. A call that is cancelled leaves the connection as it was.

    Args:
        nc: A Connection of natsvc.anyio. It stays its owner's.
        prefix: The root of the services' control subjects.

    Raises:
        TypeError: nc is something else.
        ConfigError: The prefix can't stand in a subject.
    """

    def __init__(self, nc: Connection, *, prefix: str | None = DEFAULT_PREFIX) -> None:
        require_own(nc, Connection, "natsvc.anyio")
        self._connection = nc
        self._prefix = prefix
        control_subject(ServiceVerb.PING, prefix=prefix)  # refuses a wrong prefix now, not at some later call

    async def ping(
        self,
        name: str | None = None,
        id: str | None = None,
        *,
        timeout: float | None = GATHER_TIMEOUT,
        stall: float | None = GATHER_STALL,
        limit: int | None = None,
    ) -> list[ServicePing]:
        """Ask who is there (ADR-32, "Discovery and Status").

        It returns after `timeout`, or when for `stall` no further answer has come, or when there are `limit` answers,
        whichever is first; at once if nobody is there. What is no answer of a service is skipped and logged.

        Args:
            name: Ask the services of this name. Default: all.
            id: Ask this instance of that name. Default: all instances.
            timeout: Seconds that it may take.
            stall: Seconds to wait for the next answer, once there is one.
            limit: How many answers are enough. Default: one if there is an id, otherwise no number is.

        Returns:
            The answers in the order in which they came, each with its `round_trip`.

        Raises:
            ConfigError: A value breaks a rule, or an id comes without a name.
            PermissionsError: The server lets this user not ask, or get answers.
            ConnectionClosedError: The connection is closed, or was while answers came in.
        """
        return await self._gather(ServicePing, name, id, timeout, stall, limit)

    async def info(
        self,
        name: str | None = None,
        id: str | None = None,
        *,
        timeout: float | None = GATHER_TIMEOUT,
        stall: float | None = GATHER_STALL,
        limit: int | None = None,
    ) -> list[ServiceInfo]:
        """Ask what services are, and what endpoints they have; otherwise as `ping`.

        Args:
            name: Ask the services of this name. Default: all.
            id: Ask this instance of that name. Default: all instances.
            timeout: Seconds that it may take.
            stall: Seconds to wait for the next answer, once there is one.
            limit: How many answers are enough. Default: one if there is an id, otherwise no number is.

        Returns:
            The answers in the order in which they came.

        Raises:
            NatsvcError: As `ping`.
        """
        return await self._gather(ServiceInfo, name, id, timeout, stall, limit)

    async def stats(
        self,
        name: str | None = None,
        id: str | None = None,
        *,
        timeout: float | None = GATHER_TIMEOUT,
        stall: float | None = GATHER_STALL,
        limit: int | None = None,
    ) -> list[ServiceStats]:
        """Ask how services do: what their endpoints have counted; otherwise as `ping`.

        Args:
            name: Ask the services of this name. Default: all.
            id: Ask this instance of that name. Default: all instances.
            timeout: Seconds that it may take.
            stall: Seconds to wait for the next answer, once there is one.
            limit: How many answers are enough. Default: one if there is an id, otherwise no number is.

        Returns:
            The answers in the order in which they came.

        Raises:
            NatsvcError: As `ping`.
        """
        return await self._gather(ServiceStats, name, id, timeout, stall, limit)

    async def request(
        self,
        subject: str,
        data: Data = b"",
        *,
        timeout: float | None = REQUEST_TIMEOUT,
        headers: Mapping[str, str] | None = None,
    ) -> Message:
        """Send a request to an endpoint, and return its response: the first, if there are several.

        Args:
            subject: The endpoint's subject.
            data: The body: bytes, or text, sent as UTF-8.
            timeout: Seconds that the answer may take.
            headers: Headers of the request.

        Raises:
            ServiceError: The service has answered with an error (ADR-32, "Error Handling"), or something in its place
                has: 503 if it has too much to do or is stopping, 504 if it took too long.
            NoRespondersError: Nobody is subscribed to the subject.
            RequestTimeoutError: No answer came in time.
            ConfigError: The timeout is no finite number of at least 0.
            SubjectError: The subject can't be published to.
            HeaderError: A header can't be sent.
            MaxPayloadError: Headers and data are more than the server takes.
            ConnectionClosedError: The connection is closed, or was before there was an answer.
        """
        seconds = check_duration("timeout", timeout, REQUEST_TIMEOUT)
        return checked_reply(await self._connection.request(subject, data, timeout=seconds, headers=headers))

    async def _gather(
        self,
        kind: type[Answer],
        name: str | None,
        id: str | None,
        timeout: float | None,
        stall: float | None,
        limit: int | None,
    ) -> list[Answer]:
        gathering = Gathering.of(
            kind, name, id, prefix=self._prefix, timeout=timeout, stall=stall, limit=limit, now=clock()
        )
        with _collected(self._connection._driver, gathering) as collecting:
            while not gathering.is_over:
                with anyio.move_on_after((gathering.deadline - clock()) / 1e9):
                    await collecting.changes()
                gathering.wake(clock())
        return gathering.result()


class _Collecting(Generic[Answer]):
    """Puts the answers that a connection receives into a gathering, and what tells that none can come.

    Args:
        driver: What runs the connection.
        gathering: What the answers go to.
    """

    def __init__(self, driver: Driver, gathering: Gathering[Answer]) -> None:
        self._driver = driver
        self._gathering: Gathering[Answer] = gathering
        self._changed = anyio.Event()

    async def changes(self) -> None:
        """Wait until something has come since this was called last."""
        await self._changed.wait()
        self._changed = anyio.Event()

    def receive(self, message: Message) -> None:
        """Take an answer."""
        self._gathering.received(message, clock())
        self._changed.set()

    def ended(self, error: BaseException | None) -> None:
        """The subscription has ended."""
        self.connection_closed(error or self._driver.state.closed_error())

    def connection_closed(self, error: BaseException) -> None:
        """The connection is closed for good."""
        self._gathering.failed(error)
        self._changed.set()

    def connection_error(self, error: BaseException) -> None:
        """The server has refused something; perhaps the question."""
        asked = self._gathering.subject
        if isinstance(error, PermissionsError) and error.subject == asked and error.operation == "publish":
            self.connection_closed(error)

    async def drain(self) -> None:
        """Let the connection be drained: what has been asked is answered before it closes, or never."""


@contextlib.contextmanager
def _collected(driver: Driver, gathering: Gathering[Answer]) -> Iterator[_Collecting[Answer]]:
    """Ask, and collect the answers while the block lasts.

    Neither entering nor leaving it waits, so there is no moment at which a cancellation could leave a subscription
    behind.
    """
    state = driver.state
    collecting = _Collecting(driver, gathering)
    inbox = state.new_inbox()
    subscription = state.subscribe(inbox, "", collecting.receive, collecting.ended)
    driver.listeners.append(collecting)
    try:
        state.publish(gathering.subject, b"", inbox)
        driver.send()
        yield collecting
    finally:
        driver.listeners.remove(collecting)
        state.forget(subscription)
        driver.send()
