"""The control verbs: built-in answers to PING, INFO and STATS, or a handler of the user's in their place.

A user's control handler is run like an endpoint's, apart from the endpoints, and with one promise more: whatever
becomes of it, whoever asked gets the built-in answer if the handler gave none.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from natsvc.core.effects import Publish
from natsvc.core.endpoint import EndpointState
from natsvc.core.handlers import error_leaf
from natsvc.core.request import RequestState
from natsvc.core.scope import Endpoint
from natsvc.core.subjects import ServiceVerb, control_subject
from natsvc.message import reply_as_it_came

if TYPE_CHECKING:
    from natsvc.core.config import Handler
    from natsvc.core.replies import Reply
    from natsvc.core.request import BaseRequest
    from natsvc.core.service import ServiceState
    from natsvc.message import Delivery

__all__ = ["ControlState"]


class ControlState(EndpointState):
    """One control verb at work.

    Args:
        service: The service it belongs to.
        verb: The verb.
        handler: The user's handler, or None for the built-in answer.

    Attributes:
        subjects: Where the verb is asked: of all services, of those of this name, of this instance.
    """

    __slots__ = ("has_handler", "subjects", "verb")

    must_answer = True

    def __init__(self, service: ServiceState, verb: ServiceVerb, handler: Handler | None) -> None:
        config = service.config
        self.verb = verb
        self.has_handler = handler is not None
        self.subjects = (
            control_subject(verb, prefix=config.prefix),
            control_subject(verb, config.name, prefix=config.prefix),
            control_subject(verb, config.name, service.id, prefix=config.prefix),
        )
        endpoint = Endpoint(
            name=verb.value,
            subject=self.subjects[0],
            queue_group="",
            metadata={},
            handler=handler or _built_in,
            middleware=(),
            max_concurrency=config.max_concurrency,
            max_pending=config.max_pending,
            max_pending_bytes=config.max_pending_bytes,
            timeout=config.timeout if config.timeout != math.inf else None,
            max_workers=1,
        )
        super().__init__(service, endpoint, config.max_concurrency)

    def receive(self, message: Delivery, now: int) -> BaseRequest | None:
        """Answer, or return the request for the user's handler."""
        if not message.reply or self.service.is_stopped:
            return None
        if self.has_handler:
            return super().receive(message, now)
        self._send_built_in(reply_as_it_came(message))
        return None

    def end(
        self, request: BaseRequest, now: int, result: object, error: BaseException | None
    ) -> BaseRequest | Reply | None:
        """Do as `conclude`, and as `finish` if there is no reply to be published: a handler has to answer."""
        reply = self.conclude(request, now, result, error)
        return self.finish(request, now) if reply is None else reply

    def _outcome(self, request: BaseRequest, result: object, error: BaseException | None) -> Reply | None:
        if error is None:
            if result is not None:
                error = TypeError(f"the handler of {self.verb} must use request.respond, not return a value")
            elif not request._answered:
                error = request._unsent or RuntimeError(f"the handler of {self.verb} ended without responding")
            else:
                return None
        self._note_failure(request, error_leaf(error))
        return None if request._answered else self.service.control_reply(self.verb, request._reply)

    def _settle(self, request: BaseRequest, code: int, description: str, *, answer: bool = True) -> None:
        if answer and not request._answered:
            self._send_built_in(request._reply)
        request._state = RequestState.FINISHED

    def _send_built_in(self, reply_to: str | bytes) -> None:
        reply = self.service.control_reply(self.verb, reply_to)
        if reply is not None:
            self.service.effects.append(Publish(reply))


def _built_in(request: BaseRequest) -> None:
    raise AssertionError(f"{request.subject} is answered without a handler")
