"""Requests as handlers get them: `Request` on the event loop, `BlockingRequest` in a worker thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Coroutine
from typing import Any

from natsvc.core import BaseRequest, Data, ReplyHeaders, encode_json
from natsvc.errors import ServiceStoppedError
from natsvc.headers import Headers

__all__ = ["BlockingRequest", "Request"]


class Request(BaseRequest):
    """A request, and the ways to answer it.

    Responding more than once is allowed: the caller gets a stream of replies.
    """

    async def respond(self, data: Data = b"", headers: ReplyHeaders = None) -> None:
        """Send a response.

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
            try:
                link = self._endpoint.binding
                if (sent := link.send(reply)) and (publishing := link.attend(sent)) is not None:
                    await publishing
            except BaseException:
                self._take_back()
                raise

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
        reply = self._answer_error(code, description, data, headers)
        if reply is not None:
            try:
                link = self._endpoint.binding
                if (sent := link.send(reply)) and (publishing := link.attend(sent)) is not None:
                    await publishing
            except BaseException:
                self._take_back()
                raise


class BlockingRequest:
    """A request in a worker thread: as Request, but that responding blocks.

    It may be used in other threads than the handler's too, but not on the event loop, which would wait for itself.
    """

    __slots__ = ("_loop", "_request")

    def __init__(self, request: Request, loop: asyncio.AbstractEventLoop) -> None:
        self._request = request
        self._loop = loop

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
        self._wait_for(self._request.respond(data, headers))

    def respond_json(self, obj: Any, headers: ReplyHeaders = None) -> None:
        """Send a value as JSON; see `Request.respond_json`."""
        self._wait_for(self._request.respond_json(obj, headers))

    def respond_error(self, code: str | int, description: str, data: Data = b"", headers: ReplyHeaders = None) -> None:
        """Send an error reply; see `Request.respond_error`."""
        self._wait_for(self._request.respond_error(code, description, data, headers))

    def _wait_for(self, coroutine: Coroutine[Any, Any, None]) -> None:
        if _is_running_here(self._loop):
            coroutine.close()
            raise RuntimeError("a BlockingRequest can't respond on the event loop: it would wait for itself")
        try:
            asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
        except concurrent.futures.CancelledError:
            raise ServiceStoppedError("the event loop has ended: nothing can be sent") from None
        except RuntimeError as error:
            if not self._loop.is_closed():
                raise
            coroutine.close()
            raise ServiceStoppedError("the event loop is closed: nothing can be sent") from error


def _is_running_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
