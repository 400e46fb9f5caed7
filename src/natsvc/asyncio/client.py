"""The calling side on asyncio: asks services what they are and how they do, and sends them requests."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping

from natsvc.asyncio.link import caller
from natsvc.asyncio.replies import Replies
from natsvc.core import (
    DEFAULT_PREFIX,
    GATHER_STALL,
    GATHER_TIMEOUT,
    REQUEST_TIMEOUT,
    Answer,
    Gathering,
    ReplyStream,
    ServiceInfo,
    ServicePing,
    ServiceStats,
    ServiceVerb,
    check_duration,
    checked_reply,
    control_subject,
)
from natsvc.logs import CLIENT, log
from natsvc.message import Data, Delivery, Message

__all__ = ["ServiceClient"]

_clock = time.monotonic_ns


class ServiceClient:
    """Calls services, of whatever language, on a connection.

    It holds nothing open between calls, and needs no closing. A call that is cancelled leaves the connection as it was.

    Args:
        nc: A Connection of natsvc, or a `nats.aio.client.Client` of nats-py. It stays its owner's.
        prefix: The root of the services' control subjects.

    Raises:
        TypeError: nc is something else.
        ConfigError: The prefix can't stand in a subject.
    """

    def __init__(self, nc: object, *, prefix: str | None = DEFAULT_PREFIX) -> None:
        self._caller = caller(nc)
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
        return checked_reply(await self._caller.request(subject, data, seconds, headers))

    def request_many(
        self,
        subject: str,
        data: Data = b"",
        *,
        timeout: float | None = REQUEST_TIMEOUT,
        stall: float | None = None,
        limit: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Replies:
        """Send a request, and iterate over its replies: one service may send many, many services may send one each.

        ```python
        async for reply in client.request_many("orders.list"):
            print(reply.data)
        ```

        They end after `timeout`, or when for `stall` no further reply has come, or when there are `limit` replies, or
        with an empty message, which is not one of them, whichever is first (ADR-47, "Request Many"). The times count
        from the sending and the arrival, however long the caller works on a reply. An error reply ends them, too: it is
        raised when the replies before it have been taken.

        It is sent when the first reply is asked for, or when the block is entered: `async with` ends it reliably where
        the loop is left early. See [Replies][natsvc.asyncio.Replies].

        Args:
            subject: The subject of an endpoint, or of several.
            data: The body: bytes, or text, sent as UTF-8.
            timeout: Seconds that all of it may take.
            stall: Seconds to wait for the next reply, once there is one. Default: until the timeout, for a pause is not
                the end.
            limit: How many replies are enough. Default: no number is.
            headers: Headers of the request.

        Raises:
            ConfigError: The timeout, the stall or the limit breaks a rule; at once. What else there is, is raised in
                the iteration, and leaves the connection usable.
            ServiceError: A service has answered with an error (ADR-32, "Error Handling").
            NoRespondersError: Nobody is subscribed to the subject.
            RequestTimeoutError: Nothing came within the timeout. If something came, the timeout is an end like others.
            SlowConsumerError: More replies came, and waited to be taken, than are kept.
            PermissionsError: The server lets this user not ask, or get answers.
            SubjectError: The subject can't be published to.
            HeaderError: A header can't be sent.
            MaxPayloadError: Headers and data are more than the server takes.
            ConnectionClosedError: The connection is closed, or was while replies came in.
        """
        backlog = self._caller.backlog(subject)
        stream = ReplyStream.of(subject, backlog, timeout=timeout, stall=stall, limit=limit)
        return Replies(self._caller, stream, data, headers)

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
            kind, name, id, prefix=self._prefix, timeout=timeout, stall=stall, limit=limit, now=_clock()
        )
        changed = asyncio.Event()

        def receive(delivery: Delivery) -> None:
            skipped = gathering.received(delivery, _clock())
            if skipped is not None:
                log(CLIENT, skipped)
            changed.set()

        def fail(error: BaseException) -> None:
            gathering.failed(error)
            changed.set()

        with self._caller.collect(gathering.subject, b"", None, receive, fail):
            while not gathering.is_over:
                changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout((gathering.deadline - _clock()) / 1e9):
                        await changed.wait()
                gathering.wake(_clock())
        return gathering.result()
