"""Requests as handlers get them."""

from __future__ import annotations

from typing import Any

from natsvc.core import BaseRequest, Data, ReplyHeaders, encode_json
from natsvc.sync.driver import HIGH_WATER

__all__ = ["Request"]


class Request(BaseRequest):
    """A request, and the ways to answer it, from the handler's thread or any other.

    Responding more than once is allowed: the caller gets a stream of replies.
    """

    __slots__ = ()

    def respond(self, data: Data = b"", headers: ReplyHeaders = None) -> None:
        """Send a response. It waits while the socket takes nothing more.

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
        workers = self._endpoint.binding.workers
        driver = workers.driver
        lock = driver.lock
        lock.acquire()  # and not `with`, which takes three times as long
        try:
            reply = self._answer(data, headers)
            if reply is None:
                return
            try:
                driver.state.answer(reply)
            except BaseException:
                self._take_back()
                raise
            if (
                workers.writes_together
                and driver.state.outbox.size < HIGH_WATER
                and (workers.is_watched or driver.is_write_due or driver.write_soon())
            ):
                return
        finally:
            lock.release()
        driver.write_now()

    def respond_json(self, obj: Any, headers: ReplyHeaders = None) -> None:
        """Send a value as JSON; dataclasses become objects.

        Args:
            obj: The value.
            headers: Headers of the response.

        Raises:
            TypeError, ValueError: JSON has no form for the value.
            NatsvcError: As `respond`.
        """
        self.respond(encode_json(obj), headers)

    def respond_error(self, code: str | int, description: str, data: Data = b"", headers: ReplyHeaders = None) -> None:
        """Send an error reply (ADR-32, "Error Handling"); the request counts as failed.

        Args:
            code: The error code; ADR-32 asks for one that can be read as a number.
            description: What the caller may be shown.
            data: The body.
            headers: Further headers; the two of the error itself override them.

        Raises:
            NatsvcError: As `respond`.
        """
        driver = self._endpoint.binding.workers.driver
        with driver.lock:
            reply = self._answer_error(code, description, data, headers)
            if reply is not None:
                try:
                    driver.state.answer(reply)
                except BaseException:
                    self._take_back()
                    raise
        driver.write_now()
