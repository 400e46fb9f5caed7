"""Requests as handlers get them: `Request` in a task, `BlockingRequest` in a worker thread."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from natsvc.core import BaseRequest, Data, Reply, ReplyHeaders, encode_json
from natsvc.headers import Headers

if TYPE_CHECKING:
    from natsvc.anyio.portal import Portal

__all__ = ["BlockingRequest", "Request"]


class Request(BaseRequest):
    """A request, and the ways to answer it.

    Responding more than once is allowed: the caller gets a stream of replies.
    """

    __slots__ = ()

    async def respond(self, data: Data = b"", headers: ReplyHeaders = None) -> None:
        """Send a response; a checkpoint only while the socket takes nothing more.

        Args:
            data: The body: bytes, or text, sent as UTF-8.
            headers: Headers of the response.

        Raises:
            NoReplyError: The request has no reply subject. It counts as an error.
            MaxPayloadError: Headers and data are more than the server takes.
            HeaderError: A header can't be sent.
            ServiceStoppedError: The service has stopped.
            ConnectionClosedError: The connection is closed.
        """
        reply = self._answer(data, headers)
        if reply is not None:
            link = self._endpoint.binding
            try:
                has_to_be_seen_to = link.send(reply)
            except BaseException:
                self._take_back()
                raise
            if has_to_be_seen_to and (publishing := link.attend()) is not None:
                await publishing

    async def respond_json(self, obj: Any, headers: ReplyHeaders = None) -> None:
        """Send a value as JSON; dataclasses become objects.

        Args:
            obj: The value.
            headers: Headers of the response.

        Raises:
            TypeError, ValueError: JSON has no form for the value.
            NatsvcError: As `respond`.
        """
        await self.respond(encode_json(obj), headers)

    async def respond_error(
        self, code: str | int, description: str, data: Data = b"", headers: ReplyHeaders = None
    ) -> None:
        """Send an error reply (ADR-32, "Error Handling"); the request counts as failed.

        Args:
            code: The error code; ADR-32 asks for one that can be read as a number.
            description: What the caller may be shown.
            data: The body.
            headers: Further headers; the two of the error itself override them.

        Raises:
            NatsvcError: As `respond`.
        """
        publishing = self._publish(self._answer_error(code, description, data, headers))
        if publishing is not None:
            await publishing

    def _publish(self, reply: Reply | None) -> Awaitable[None] | None:
        """Publish; while the connection has more to write than it should hold, return something to wait for."""
        if reply is None:
            return None
        link = self._endpoint.binding
        try:
            has_to_be_seen_to = link.send(reply)
        except BaseException:
            self._take_back()
            raise
        publishing: Awaitable[None] | None = link.attend() if has_to_be_seen_to else None
        return publishing


class BlockingRequest:
    """A request in a worker thread: as Request, but that responding blocks.

    It may be used in other threads than the handler's too, but not on the event loop, which would wait for itself.
    """

    __slots__ = ("_portal", "_request", "_start_soon")

    def __init__(self, request: Request, portal: Portal, start_soon: Callable[..., None]) -> None:
        self._request = request
        self._portal = portal
        self._start_soon = start_soon

    @property
    def subject(self) -> str:
        """The subject the request was sent to."""
        return self._request.subject

    @property
    def reply(self) -> str:
        """The subject that responses go to; "" if the sender expects none."""
        return self._request.reply

    @property
    def headers(self) -> Headers:
        """The request's headers; empty if it has none, never None."""
        return self._request.headers

    @property
    def data(self) -> bytes:
        """The request's body."""
        return self._request.data

    def json(self) -> Any:
        """Return the body, read as JSON.

        Raises:
            ServiceError: With code 400, if it isn't JSON.
        """
        return self._request.json()

    def respond(self, data: Data = b"", headers: ReplyHeaders = None) -> None:
        """Send a response; see `Request.respond`."""
        self._send(functools.partial(self._request._answer, data, headers))

    def respond_json(self, obj: Any, headers: ReplyHeaders = None) -> None:
        """Send a value as JSON; see `Request.respond_json`."""
        self.respond(encode_json(obj), headers)

    def respond_error(self, code: str | int, description: str, data: Data = b"", headers: ReplyHeaders = None) -> None:
        """Send an error reply; see `Request.respond_error`."""
        self._send(functools.partial(self._request._answer_error, code, description, data, headers))

    def _send(self, answer: Callable[[], Reply | None]) -> None:
        self._portal.call(functools.partial(self._send_on_loop, answer))

    def _send_on_loop(self, answer: Callable[[], Reply | None], sent: Future[None]) -> None:
        if sent.done():  # the service has ended since
            return
        try:
            publishing = self._request._publish(answer())
            if publishing is not None:
                self._start_soon(_settle_after, publishing, sent)
                return
        except BaseException as error:  # noqa: BLE001  # it is raised in the thread
            sent.set_exception(error)
        else:
            sent.set_result(None)


async def _settle_after(publishing: Awaitable[None], sent: Future[None]) -> None:
    await publishing
    if not sent.done():
        sent.set_result(None)
