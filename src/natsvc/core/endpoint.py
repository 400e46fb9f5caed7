"""One endpoint at work: who runs, who waits, who is refused, and what is counted.

`receive` takes a message, `conclude` what its handler came to, `finish` the end of its work; `end` is both of these for
a handler that leaves nothing to be sent. In between, `expire` answers what is overdue, and `cut_off` what a stop leaves
no time for. Whatever the order: every request is counted once, and gets at most one error in the counters.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

from natsvc.core.effects import DEBUG, ERROR, WARNING, Cancel, Log, Publish
from natsvc.core.handlers import error_leaf
from natsvc.core.models import EndpointInfo, EndpointStats
from natsvc.core.replies import Reply, encode_result, printable_error
from natsvc.core.request import BaseRequest, RequestState
from natsvc.errors import NoReplyError, RequestTimeoutError, ServiceError
from natsvc.message import Delivery, as_message

if TYPE_CHECKING:
    from natsvc.core.scope import Endpoint
    from natsvc.core.service import ServiceState

__all__ = ["EndpointState"]

_WAITING = RequestState.WAITING
_RUNNING = RequestState.RUNNING
_ENDED = RequestState.ENDED
_CUT_OFF = RequestState.CUT_OFF
_FINISHED = RequestState.FINISHED

_OVERLOADED = (503, "Too many pending requests")
_STOPPING = (503, "Service stopping")
_TIMED_OUT = (504, "Request timed out")
_INTERNAL = (500, "Internal Server Error")


class EndpointState:
    """The state machine of one endpoint.

    Args:
        service: The service it belongs to.
        endpoint: What it is, with all it inherits.
        limit: How many of its handlers may run at once.

    Attributes:
        binding: What the front-end wants to find again from a request; not used here.
        active: The requests whose handlers run, or for which threads still work: they hold the slots.
        waiting: The requests that wait for a slot, oldest first.
        timed: The requests with a deadline that are not over, oldest first: for all have the same timeout.
    """

    __slots__ = (
        "active",
        "binding",
        "endpoint",
        "last_error",
        "limit",
        "num_errors",
        "num_requests",
        "processing_time",
        "service",
        "timed",
        "timeout",
        "waiting",
        "waiting_bytes",
    )

    must_answer = False
    """Whether a handler that ends without responding has failed."""

    def __init__(self, service: ServiceState, endpoint: Endpoint, limit: int) -> None:
        self.service = service
        self.endpoint = endpoint
        self.limit = limit
        self.timeout = 0 if endpoint.timeout is None else max(1, int(endpoint.timeout * 1e9))
        self.binding: Any = None
        self.active: set[BaseRequest] = set()
        self.waiting: deque[BaseRequest] = deque()
        self.waiting_bytes = 0
        # An OrderedDict, whose first key is found at once also after many have been taken from its front.
        self.timed: OrderedDict[BaseRequest, None] = OrderedDict()
        self.reset()

    def reset(self) -> None:
        """Zero the counters."""
        self.num_requests = 0
        self.num_errors = 0
        self.processing_time = 0
        self.last_error = ""

    @property
    def is_idle(self) -> bool:
        """Whether no handler runs and no request waits."""
        return not self.waiting and not self.active

    def receive(self, message: Delivery, now: int) -> BaseRequest | None:
        """Take a message that has arrived; return the request if it is to be run now."""
        service = self.service
        make = service.request_class
        request = message if type(message) is make else as_message(message, make)
        request._endpoint = self
        if service.is_stopped:
            self._answer_for(request, *_STOPPING)
            return None
        active = self.active
        if len(active) < self.limit:  # then nobody waits
            request._state = _RUNNING
            request._started = now
            active.add(request)
            if self.timeout:
                self._time(request, now)
            return request
        request._size = size = request.size
        endpoint = self.endpoint
        if self.timed:
            self.expire(now)  # what is overdue holds no place, however late the timer is
        if len(self.waiting) >= endpoint.max_pending or self.waiting_bytes + size > endpoint.max_pending_bytes:
            self._settle(request, *_OVERLOADED)
            return None
        self.waiting.append(request)
        self.waiting_bytes += size
        if self.timeout:
            self._time(request, now)
        return None

    def end(
        self, request: BaseRequest, now: int, result: object, error: BaseException | None
    ) -> BaseRequest | Reply | None:
        """Do as `conclude`, and if there is no reply to be published, as `finish`; return what comes of either.

        A reply is a tuple, and no request is one. In one call, for nearly every handler responds by itself and returns
        nothing: with the two, a request takes 1.04 x the time.
        """
        if (
            result is not None
            or error is not None
            or request._state is not _RUNNING
            or request._unsent is not None
            or request._error is not None
        ):
            reply = self.conclude(request, now, result, error)
            return self.finish(request, now) if reply is None else reply
        if self.timeout:
            self.timed.pop(request, None)
        request._state = _FINISHED
        request._elapsed = elapsed = now - request._started
        self.num_requests += 1
        self.processing_time += elapsed
        if self.waiting or request._held or self.service.is_draining:
            return self._free_slot(request, now)
        self.active.remove(request)  # as nearly always: without that call, a request takes 0.98 x the time
        return None

    def conclude(self, request: BaseRequest, now: int, result: object, error: BaseException | None) -> Reply | None:
        """Take what a handler came to: a result, or the exception it ended with. Return the reply it means, if any.

        Its slot stays taken until `finish`, so that what is still to be published counts as work.
        """
        if request._state is not _RUNNING:
            return None  # it has been answered in the handler's place
        request._elapsed = now - request._started
        if self.timeout:
            self.timed.pop(request, None)
        reply = None
        if result is not None or error is not None or request._unsent is not None or self.must_answer:
            reply = self._outcome(request, result, error)
        request._state = _ENDED
        return reply

    def finish(self, request: BaseRequest, now: int, unpublished: BaseException | None = None) -> BaseRequest | None:
        """Take the end of a request's work; return the request that gets its slot, to be run now.

        Args:
            request: The request.
            now: The time.
            unpublished: Why the reply that `conclude` gave could not be published.
        """
        if request._state is _ENDED:
            if unpublished is not None:
                self._note_unpublished(request, unpublished)
            self._count(request)
        return self._free_slot(request, now)

    def is_handling(self, request: BaseRequest) -> bool:
        """Whether the request's handler still runs; one that has ended may have left work behind that asks."""
        return request in self.active and request._state not in (_ENDED, _FINISHED)

    def hold(self, request: BaseRequest) -> None:
        """Keep a request's slot, whatever becomes of it, until `let_go`: a thread works for it and can't be stopped."""
        request._held += 1

    def let_go(self, request: BaseRequest, now: int, error: BaseException | None) -> BaseRequest | None:
        """The thread has returned, perhaps with an error; return the request that gets the slot, if it is free now."""
        if request._is_over and error is not None:  # which nobody else hears of
            text = "endpoint %r: what a handler came to after its request was over"
            self.service.effects.append(Log(DEBUG, text, (self.endpoint.name,), error))
        request._held -= 1
        return self._free_slot(request, now) if request._is_over and not request._held else None

    def release(self, request: BaseRequest, now: int) -> BaseRequest | None:
        """Free the slot of a handler that waits for the service to stop; return the request that gets it."""
        self.active.remove(request)
        return self._next(now)

    def expire(self, now: int) -> None:
        """Answer with 504 all requests whose deadline has come."""
        while self.timed:
            request = next(iter(self.timed))
            if request._deadline > now:
                break
            del self.timed[request]
            if request._answered:
                continue  # an answered request is no longer timed
            timeout = self.endpoint.timeout
            error = RequestTimeoutError(f"endpoint {self.endpoint.name!r} did not answer within {timeout} s")
            self.service.effects.append(Log(WARNING, "%s", (error,)))
            self._take_over(request, now, *_TIMED_OUT)
            self.service.report(error, request)

    def cut_off(self, now: int, *, answer: bool) -> None:
        """End all requests for good: what waits is not run, what runs is cancelled.

        Args:
            now: The time.
            answer: Answer those that have no answer with 503.
        """
        for request in [*self.waiting, *self.active]:
            self.timed.pop(request, None)
            self._take_over(request, now, *_STOPPING, answer=answer)

    def info(self) -> EndpointInfo:
        """Return what INFO says of it."""
        endpoint = self.endpoint
        return EndpointInfo(
            name=endpoint.name,
            subject=endpoint.subject,
            queue_group=endpoint.queue_group,
            metadata=endpoint.metadata,
        )

    def stats(self) -> EndpointStats:
        """Return what STATS says of it, without data."""
        return EndpointStats(
            name=self.endpoint.name,
            subject=self.endpoint.subject,
            queue_group=self.endpoint.queue_group,
            num_requests=self.num_requests,
            num_errors=self.num_errors,
            last_error=self.last_error,
            processing_time=self.processing_time,
            average_processing_time=self.processing_time // self.num_requests if self.num_requests else 0,
        )

    def _time(self, request: BaseRequest, now: int) -> None:
        """Note the deadline of a request that has just arrived."""
        request._deadline = now + self.timeout
        self.timed[request] = None
        self.service.wake_by(request._deadline)

    def _free_slot(self, request: BaseRequest, now: int) -> BaseRequest | None:
        """Free the slot of a request whose work has ended, unless it is held; return the request that gets it."""
        if request._held:
            request._is_over = True
            return None
        following = None
        try:
            self.active.remove(request)
        except KeyError:  # it has been released
            self.service.stop_callers.discard(request)
        else:
            if self.waiting:
                following = self._next(now)
        if self.service.is_draining:
            self.service.progress()
        return following

    def _next(self, now: int) -> BaseRequest | None:
        """Give a slot that has become free to the oldest request that waits."""
        if not self.waiting:
            return None
        if self.timed:
            self.expire(now)  # an overdue request must not run, however late the timer is
            if not self.waiting:
                return None
        following = self._pop_waiting()
        following._state = _RUNNING
        following._started = now
        self.active.add(following)
        return following

    def _pop_waiting(self) -> BaseRequest:
        request = self.waiting.popleft()
        self.waiting_bytes -= request._size
        return request

    def _take_over(self, request: BaseRequest, now: int, code: int, description: str, *, answer: bool = True) -> None:
        """Answer in the place of a handler that is not to run, or not any longer."""
        if request._state is _WAITING:
            # Only the oldest can expire, and a cut-off takes all from the oldest on.
            self._pop_waiting()
            self._settle(request, code, description, answer=answer)
            return
        if request._state is _RUNNING:
            request._elapsed = now - request._started
            self._settle(request, code, description, answer=answer and not request._answered)
            request._state = _CUT_OFF
        elif request._state is _ENDED:
            self._count(request)
        self.service.effects.append(Cancel(request))

    def _settle(self, request: BaseRequest, code: int, description: str, *, answer: bool = True) -> None:
        """Answer with an error and count the request."""
        if answer:
            self._answer_for(request, code, description)
        request._note_error(str(code), description)
        self._count(request)

    def _answer_for(self, request: BaseRequest, code: int, description: str) -> None:
        reply = self.service.error_reply(request._reply, code, description)
        if reply is not None:
            self.service.effects.append(Publish(reply))

    def _outcome(self, request: BaseRequest, result: object, error: BaseException | None) -> Reply | None:
        """Return the reply that a handler's result or exception means."""
        try:
            if error is None and result is not None:
                return request._answer(result if type(result) is bytes else encode_result(result), None)
            error = request._unsent if error is None else error
            leaf = None if error is None else error_leaf(error)
            if isinstance(leaf, ServiceError):
                return request._answer_error(leaf.code, leaf.description, leaf.data, leaf.headers)
        except Exception as refused:  # noqa: BLE001  # whatever it is, the caller gets a 500
            error = refused
        reply_to = request._reply
        if error is None or (not reply_to and isinstance(error_leaf(error), NoReplyError)):
            return None  # noted when it was raised
        reply = self.service.error_reply(reply_to, *self._note_failure(request, error))
        # The exposed text of an exception may be too long to be sent.
        return reply or self.service.error_reply(reply_to, *_INTERNAL)

    def _note_failure(self, request: BaseRequest, error: BaseException) -> tuple[str, str]:
        """Have an unexpected exception logged and reported; return the code and description that its caller may see."""
        self.service.effects.append(Log(ERROR, "endpoint %r: the handler failed", (self.endpoint.name,), error))
        leaf = error_leaf(error)
        code, description = printable_error(*_INTERNAL)
        if self.service.config.expose_errors:
            with contextlib.suppress(Exception):  # some exceptions have no text
                code, description = printable_error(code, f"{type(leaf).__name__}: {leaf}")
        request._note_error(code, description)
        self.service.report(leaf, request)
        return code, description

    def _note_unpublished(self, request: BaseRequest, error: BaseException) -> None:
        if request._error is None:
            self._note_failure(request, error)
        else:
            text = "endpoint %r: the error reply could not be sent: %s"
            self.service.effects.append(Log(WARNING, text, (self.endpoint.name, error)))

    def _count(self, request: BaseRequest) -> None:
        request._state = _FINISHED
        self.num_requests += 1
        self.processing_time += request._elapsed
        if request._error is not None:
            self.num_errors += 1
            self.last_error = request._error
