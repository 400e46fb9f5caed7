"""One endpoint: who runs, who waits, who is refused, what the caller is told, and what is counted."""

from __future__ import annotations

import dataclasses
import inspect
import json
import logging
from typing import Any

import pytest

from natsvc.core import RequestState
from natsvc.core.effects import Cancel, Log, Publish, Report
from natsvc.errors import (
    HeaderError,
    MaxPayloadError,
    NoReplyError,
    RequestTimeoutError,
    ServiceError,
    ServiceStoppedError,
)
from natsvc.message import Message
from tests.core.machine import MILLISECOND, SECOND, Machine, counts, error_of, is_running, is_waiting

INTERNAL = ("500", "Internal Server Error")
STOPPING = ("503", "Service stopping")
OVERLOADED = ("503", "Too many pending requests")
TIMED_OUT = ("504", "Request timed out")


def running(max_payload: int = 1024 * 1024, config: dict[str, Any] | None = None, **fields: Any) -> tuple[Machine, Any]:
    """A started service with one endpoint."""
    machine = Machine(max_payload=max_payload, **(config or {}))
    endpoint = machine.add(**fields)
    machine.start()
    return machine, endpoint


# Admission


def test_up_to_max_concurrency_requests_run_at_once() -> None:
    machine, work = running(max_concurrency=2)
    first, second, third = (machine.send(work) for _ in range(3))
    assert machine.runs == [first, second]
    assert is_waiting(third)


def test_a_finished_request_gives_its_slot_to_the_one_that_has_waited_longest() -> None:
    machine, work = running(max_concurrency=1)
    first, second, third = (machine.send(work) for _ in range(3))
    machine.end(first)
    assert machine.runs == [first, second]
    machine.end(second)
    machine.end(third)
    assert machine.runs == [first, second, third]
    assert not work.active


def test_the_slot_stays_taken_until_the_last_reply_is_published() -> None:
    machine, work = running(max_concurrency=1)
    first, second = machine.send(work), machine.send(work)
    machine.conclude(first, b"ok")
    assert is_waiting(second)
    assert counts(work) == (0, 0)
    machine.finish(first)
    assert is_running(second)
    assert counts(work) == (1, 0)


def test_the_slot_stays_taken_until_the_last_thread_that_works_for_the_request_has_returned() -> None:
    machine, work = running(max_concurrency=1)
    first, second = machine.send(work), machine.send(work)
    machine.hold(first)
    machine.hold(first)
    machine.end(first, error=ValueError("gave up"))
    assert counts(work) == (1, 1)
    machine.let_go(first)
    assert is_waiting(second)
    machine.let_go(first)
    assert is_running(second)
    assert counts(work) == (1, 1)


def test_what_a_thread_comes_to_is_logged_if_nobody_else_hears_of_it() -> None:
    machine, work = running()
    heard, unheard = machine.send(work), machine.send(work)
    for request in (heard, unheard):
        machine.hold(request)
    machine.let_go(heard, ValueError("its request goes on"))
    assert not any(isinstance(effect, Log) for effect in machine.effects)
    machine.end(unheard)
    error = ValueError("too late")
    machine.let_go(unheard, error)
    (told,) = (effect for effect in machine.effects if isinstance(effect, Log))
    assert (told.level, told.error) == (logging.DEBUG, error)


def test_whatever_is_answered_goes_to_the_bytes_that_asked_for_it() -> None:
    machine, work = running(timeout=1.0, max_concurrency=2, max_pending=0)
    asked = Message(b"work", reply=b"in.a\x7f\xff")
    subjects: list[Any] = []

    def note(outcome: Any) -> None:
        if outcome is not None:
            subjects.append(outcome[0])

    def take_effects() -> None:
        subjects.extend(effect.reply[0] for effect in machine.service.effects if isinstance(effect, Publish))
        machine.service.effects.clear()

    failing = work.receive(asked, machine.now)
    late = work.receive(asked, machine.now)
    assert work.receive(asked, machine.now) is None, "503"
    note(failing._answer(b"response", None))
    note(failing._answer_error(400, "no", b"", None))
    note(work.end(failing, machine.now, None, ValueError("500")))
    work.finish(failing, machine.now)
    work.expire(machine.now + 2 * 10**9)
    assert late._state.value == "cut off", "504"
    for control in machine.service.controls:
        control.receive(asked, machine.now)
    take_effects()
    assert subjects == [b"in.a\x7f\xff"] * (5 + len(machine.service.controls))


def test_a_thread_that_returns_before_the_request_has_ended_changes_nothing() -> None:
    machine, work = running(max_concurrency=1)
    first, second = machine.send(work), machine.send(work)
    machine.hold(first)
    machine.let_go(first)
    assert is_waiting(second)
    machine.end(first)
    assert is_running(second)


def test_a_request_that_is_over_but_for_its_thread_no_longer_speaks_for_its_handler() -> None:
    machine, work = running()
    request = machine.send(work)
    machine.hold(request)
    assert work.is_handling(request)
    machine.end(request)
    assert not work.is_handling(request)


def test_beyond_max_pending_a_request_is_answered_with_503_at_once() -> None:
    machine, work = running(max_concurrency=1, max_pending=1)
    machine.send(work)
    machine.send(work)
    machine.send(work, reply="refused")
    assert [(reply.subject, error_of(reply)) for reply in machine.replies] == [("refused", OVERLOADED)]
    assert counts(work) == (1, 1)
    assert work.stats().last_error == "503:Too many pending requests"


def test_a_refused_request_without_reply_subject_is_counted_and_not_answered() -> None:
    machine, work = running(max_concurrency=1, max_pending=0)
    machine.send(work)
    machine.send(work, reply="")
    assert machine.replies == []
    assert counts(work) == (1, 1)


def test_a_refusal_is_not_reported_to_the_error_handler() -> None:
    machine, work = running(max_concurrency=1, max_pending=0)
    machine.send(work)
    machine.send(work)
    assert machine.reports == []


def test_beyond_max_pending_bytes_a_request_is_answered_with_503_at_once() -> None:
    machine, work = running(max_concurrency=1, max_pending_bytes=10)
    machine.send(work, b"x" * 100)
    machine.send(work, b"123456")
    refused = machine.send(work, b"12345")
    fits = machine.send(work, b"1234")
    assert machine.errors == [OVERLOADED]
    assert list(work.waiting)[1:] == [fits]
    assert refused._state is RequestState.FINISHED


def test_headers_of_a_waiting_request_count_as_its_bytes() -> None:
    block = b"NATS/1.0\r\nA: b\r\n\r\n"
    machine, work = running(max_concurrency=1, max_pending_bytes=len(block))
    machine.send(work)
    machine.send(work, headers=block)
    machine.send(work, b"1")
    assert work.waiting_bytes == len(block)
    assert machine.errors == [OVERLOADED]


def test_a_request_that_runs_takes_no_room_from_those_that_wait() -> None:
    machine, work = running(max_concurrency=1, max_pending_bytes=10)
    first = machine.send(work)
    machine.send(work, b"1234567890")
    machine.end(first)
    assert work.waiting_bytes == 0
    machine.send(work, b"1234567890")
    assert machine.errors == []


def test_one_full_endpoint_does_not_hold_up_another() -> None:
    machine, slow = running(max_concurrency=1, max_pending=0)
    fast = machine.add("fast")
    machine.send(slow)
    assert is_running(machine.send(fast))


def test_endpoints_inherit_the_limits_of_the_service() -> None:
    machine, work = running(config={"max_concurrency": 1, "max_pending": 1, "max_pending_bytes": 5})
    machine.send(work)
    machine.send(work, b"123456")
    machine.send(work, b"12345")
    machine.send(work)
    assert machine.errors == [OVERLOADED, OVERLOADED]
    assert len(work.waiting) == 1


# Results


@dataclasses.dataclass
class Inner:
    text: str


@dataclasses.dataclass
class User:
    id: int
    inner: Inner


@pytest.mark.parametrize(
    ("result", "body"),
    [
        (b"bytes", b"bytes"),
        (b"", b""),
        (bytearray(b"array"), b"array"),
        (memoryview(b"view"), b"view"),
        ("grüße", "grüße".encode()),
        ({"a": [1, None]}, b'{"a":[1,null]}'),
        ([1, "ü"], '[1,"ü"]'.encode()),
        (User(7, Inner("x")), b'{"id":7,"inner":{"text":"x"}}'),
        ({"user": User(7, Inner("x"))}, b'{"user":{"id":7,"inner":{"text":"x"}}}'),
    ],
)
def test_a_return_value_is_the_response(result: object, body: bytes) -> None:
    machine, work = running()
    machine.end(machine.send(work, reply="inbox.1"), result)
    assert [(reply.subject, reply.data, reply.headers) for reply in machine.replies] == [("inbox.1", body, None)]
    assert counts(work) == (1, 0)


def test_none_is_no_response() -> None:
    machine, work = running()
    machine.end(machine.send(work), None)
    assert machine.replies == []
    assert counts(work) == (1, 0)


@pytest.mark.parametrize(
    "result", [7, 1.5, True, (1, 2), {1}, object(), User, {"x": object()}, [float("nan")], "\ud800"]
)
def test_a_result_that_can_not_be_sent_is_answered_with_500(result: object) -> None:
    machine, work = running()
    machine.end(machine.send(work), result)
    assert machine.errors == [INTERNAL]
    assert counts(work) == (1, 1)
    assert [type(error) for error, _ in machine.reports] in ([TypeError], [ValueError], [UnicodeEncodeError])


def test_a_coroutine_that_a_plain_handler_returns_is_closed_and_answered_with_500() -> None:
    async def forgotten() -> bytes:
        return b"never"

    machine, work = running()
    result = forgotten()
    machine.end(machine.send(work), result)
    assert machine.errors == [INTERNAL]
    assert inspect.getcoroutinestate(result) == inspect.CORO_CLOSED


def test_a_handler_may_respond_more_than_once() -> None:
    machine, work = running()
    request = machine.send(work)
    machine.respond(request, b"1")
    machine.respond(request, "2", {"A": "b"})
    machine.end(request, b"3")
    assert machine.bodies == [b"1", b"2", b"3"]
    assert [reply.block for reply in machine.replies] == [b"", b"NATS/1.0\r\nA: b\r\n\r\n", b""]
    assert counts(work) == (1, 0)


# Errors


def test_a_service_error_is_answered_with_its_code_description_data_and_headers() -> None:
    machine, work = running()
    error = ServiceError(404, "no such user", b"body", {"X-Id": "7"})
    machine.end(machine.send(work), error=error)
    reply = machine.replies[0]
    assert error_of(reply) == ("404", "no such user")
    assert reply.data == b"body"
    assert reply.headers is not None
    assert reply.headers["X-Id"] == "7"
    assert counts(work) == (1, 1)
    assert work.stats().last_error == "404:no such user"


def test_a_service_error_is_neither_logged_nor_reported() -> None:
    machine, work = running()
    machine.end(machine.send(work), error=ServiceError(404, "no such user"))
    assert machine.reports == []
    assert machine.logged == []


def test_respond_error_answers_at_once_and_counts_one_error() -> None:
    machine, work = running()
    request = machine.send(work)
    machine.respond_error(request, 404, "no such user", b"body")
    assert machine.errors == [("404", "no such user")]
    assert machine.bodies == [b"body"]
    machine.end(request)
    assert counts(work) == (1, 1)
    assert work.stats().last_error == "404:no such user"


def test_the_error_headers_override_those_of_the_user() -> None:
    machine, work = running()
    headers = {"Nats-Service-Error": "mine", "Nats-Service-Error-Code": "1"}
    machine.end(machine.send(work), error=ServiceError(404, "real", headers=headers))
    headers_sent = machine.replies[0].headers
    assert headers_sent is not None
    assert headers_sent.get_all("Nats-Service-Error") == ["real"]
    assert headers_sent.get_all("Nats-Service-Error-Code") == ["404"]


@pytest.mark.parametrize(
    ("code", "description", "sent"),
    [
        (404, "not found", ("404", "not found")),
        ("NOT_FOUND", "not found", ("NOT_FOUND", "not found")),
        (404, "", ("404", "404")),
        ("", "not found", ("500", "not found")),
        ("", "", ("500", "500")),
        ("4\n04", "a\r\nb\x00c\td", ("4 04", "a  b c d")),
        (400, "grüße", ("400", "grüße")),
    ],
)
def test_code_and_description_are_sent_without_control_characters_and_never_empty(
    code: str | int, description: str, sent: tuple[str, str]
) -> None:
    machine, work = running()
    machine.end(machine.send(work), error=ServiceError(code, description))
    machine.respond_error(machine.send(work), code, description)
    assert machine.errors == [sent, sent]
    assert work.stats().last_error == ":".join(sent)


def test_last_error_is_cut_at_1024_characters_and_the_reply_is_not() -> None:
    machine, work = running()
    machine.end(machine.send(work), error=ServiceError(400, "ü" * 2000))
    assert machine.errors == [("400", "ü" * 2000)]
    assert work.stats().last_error == "400:" + "ü" * 1020


def test_an_unexpected_exception_is_answered_with_500_and_its_text_is_shown_to_nobody() -> None:
    machine, work = running()
    machine.end(machine.send(work), error=ValueError("password is hunter2"))
    assert machine.errors == [INTERNAL]
    assert machine.bodies == [b""]
    assert counts(work) == (1, 1)
    assert work.stats().last_error == "500:Internal Server Error"


def test_an_unexpected_exception_is_logged_with_its_traceback_and_then_reported() -> None:
    machine, work = running()
    request, error = machine.send(work), ValueError("why")
    machine.end(request, error=error)
    assert machine.reports == [(error, request)]
    [logged] = machine.logged
    assert (logged.level, logged.error) == (logging.ERROR, error)
    assert logged.message % logged.arguments == "endpoint 'work': the handler failed"
    assert [type(effect) for effect in machine.effects[-2:]] == [Log, Report]


def test_without_an_error_handler_nothing_is_reported() -> None:
    machine, work = running(config={"error_handler": None})
    machine.end(machine.send(work), error=ValueError("why"))
    assert machine.reports == []
    assert machine.errors == [INTERNAL]


def test_expose_errors_puts_type_and_text_into_reply_and_last_error() -> None:
    machine, work = running(config={"expose_errors": True})
    machine.end(machine.send(work), error=ValueError("line 1\nline 2"))
    assert machine.errors == [("500", "ValueError: line 1 line 2")]
    assert work.stats().last_error == "500:ValueError: line 1 line 2"


def test_an_exposed_text_too_large_for_the_server_still_gives_a_500() -> None:
    machine, work = running(max_payload=1000, config={"expose_errors": True})
    machine.end(machine.send(work), error=ValueError("x" * 5000))
    assert [code for code, _ in machine.errors] == ["500"]


def test_an_exception_that_has_no_text_still_gives_a_500() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    machine, work = running(config={"expose_errors": True})
    machine.end(machine.send(work), error=MuteError())
    assert [code for code, _ in machine.errors] == ["500"]
    assert counts(work) == (1, 1)


def test_an_exception_that_is_false_still_gives_a_500() -> None:
    class EmptyError(Exception):
        def __len__(self) -> int:
            return 0

    machine, work = running()
    machine.end(machine.send(work), error=EmptyError())
    assert machine.errors == [INTERNAL]
    assert counts(work) == (1, 1)


class Leaving(BaseException):
    """Something of the kind of KeyboardInterrupt, of a user's own."""


@pytest.mark.parametrize("error", [GeneratorExit(), Leaving("x"), SystemExit(1), KeyboardInterrupt()])
def test_any_base_exception_of_a_handler_is_answered_with_500(error: BaseException) -> None:
    machine, work = running()
    request = machine.send(work)
    machine.end(request, error=error)
    assert machine.errors == [INTERNAL]
    assert machine.reports == [(error, request)]
    assert counts(work) == (1, 1)


def test_an_exception_group_with_one_leaf_counts_as_that_leaf() -> None:
    machine, work = running()
    leaf = ServiceError(404, "no such user")
    machine.end(machine.send(work), error=ExceptionGroup("outer", [ExceptionGroup("inner", [leaf])]))
    assert machine.errors == [("404", "no such user")]
    assert machine.reports == []


def test_the_one_leaf_of_a_group_is_what_is_reported() -> None:
    machine, work = running()
    request, leaf = machine.send(work), KeyError("x")
    machine.end(request, error=BaseExceptionGroup("outer", [leaf]))
    assert machine.errors == [INTERNAL]
    assert machine.reports == [(leaf, request)]


def test_an_exception_group_with_several_leaves_is_an_unexpected_exception() -> None:
    machine, work = running()
    request = machine.send(work)
    group = ExceptionGroup("outer", [ServiceError(404, "a"), ServiceError(404, "b")])
    machine.end(request, error=group)
    assert machine.errors == [INTERNAL]
    assert machine.reports == [(group, request)]


def test_an_error_after_a_response_is_still_sent_and_counted_once() -> None:
    machine, work = running()
    request = machine.send(work)
    machine.respond(request, b"ok")
    machine.end(request, error=ServiceError(409, "too late"))
    assert [error_of(reply) for reply in machine.replies] == [None, ("409", "too late")]
    assert counts(work) == (1, 1)


def test_at_most_one_error_is_counted_for_a_request() -> None:
    machine, work = running()
    request = machine.send(work)
    machine.respond_error(request, 400, "first")
    machine.respond_error(request, 401, "second")
    machine.end(request, error=ValueError("third"))
    assert machine.errors == [("400", "first"), ("401", "second"), INTERNAL]
    assert counts(work) == (1, 1)
    assert work.stats().last_error == "500:Internal Server Error"


@pytest.mark.parametrize(
    "error",
    [
        ServiceError(400, "x", data=7),  # type: ignore[arg-type]
        ServiceError(400, "x", headers={"a b": "c"}),
        ServiceError(400, "x", data=b"x" * 2000),
    ],
    ids=["data", "header", "size"],
)
def test_a_service_error_that_can_not_be_sent_is_answered_with_500(error: ServiceError) -> None:
    machine, work = running(max_payload=1000)
    machine.end(machine.send(work), error=error)
    assert machine.errors == [INTERNAL]
    assert counts(work) == (1, 1)


def test_a_reply_that_could_not_be_published_is_counted_as_an_error_and_reported() -> None:
    machine, work = running()
    request, why = machine.send(work), ConnectionError("gone")
    machine.conclude(request, b"ok")
    machine.finish(request, unpublished=why)
    assert counts(work) == (1, 1)
    assert machine.reports == [(why, request)]


def test_an_error_reply_that_could_not_be_published_stays_the_error_that_is_counted() -> None:
    machine, work = running()
    request = machine.send(work)
    machine.conclude(request, error=ServiceError(404, "no such user"))
    machine.finish(request, unpublished=ConnectionError("gone"))
    assert counts(work) == (1, 1)
    assert work.stats().last_error == "404:no such user"


# Requests without reply subject


def test_without_reply_subject_respond_raises_no_reply_error_and_counts_one_error() -> None:
    machine, work = running()
    request = machine.send(work, reply="")
    for _ in range(2):
        with pytest.raises(NoReplyError):
            machine.respond(request, b"x")
    machine.end(request)
    assert machine.replies == []
    assert counts(work) == (1, 1)
    assert work.stats().last_error.startswith("500:")


@pytest.mark.parametrize(
    ("result", "error"),
    [(b"x", None), (None, NoReplyError("raised by respond")), (None, ServiceError(404, "x"))],
    ids=["return value", "respond", "ServiceError"],
)
def test_without_reply_subject_nothing_is_sent_and_no_traceback_logged(
    result: object, error: BaseException | None
) -> None:
    machine, work = running()
    request = machine.send(work, reply="")
    if isinstance(error, NoReplyError):
        with pytest.raises(NoReplyError):
            machine.respond(request)
    machine.end(request, result, error)
    assert machine.replies == []
    assert counts(work) == (1, 1)
    assert [entry for entry in machine.logged if entry.error is not None] == []


def test_without_reply_subject_respond_error_raises_and_counts_that_error() -> None:
    machine, work = running()
    request = machine.send(work, reply="")
    with pytest.raises(NoReplyError):
        machine.respond_error(request, 404, "no such user")
    machine.end(request)
    assert counts(work) == (1, 1)
    assert work.stats().last_error == "404:no such user"


def test_without_reply_subject_a_handler_that_returns_nothing_is_no_error() -> None:
    machine, work = running()
    machine.end(machine.send(work, reply=""))
    assert counts(work) == (1, 0)


def test_without_reply_subject_an_unexpected_exception_is_counted_and_reported() -> None:
    machine, work = running()
    request, error = machine.send(work, reply=""), ValueError("why")
    machine.end(request, error=error)
    assert machine.replies == []
    assert machine.reports == [(error, request)]
    assert counts(work) == (1, 1)


def test_a_no_reply_error_of_another_request_is_an_unexpected_exception() -> None:
    machine, work = running()
    silent, request = machine.send(work, reply=""), machine.send(work)
    with pytest.raises(NoReplyError) as caught:
        machine.respond(silent)
    machine.end(request, error=caught.value)
    assert machine.errors == [INTERNAL]
    assert counts(work) == (1, 1)


# Sizes


def test_a_response_too_large_for_the_server_raises_and_the_caller_gets_500() -> None:
    machine, work = running(max_payload=1000)
    request = machine.send(work)
    with pytest.raises(MaxPayloadError) as caught:
        machine.respond(request, b"x" * 1001)
    assert (caught.value.size, caught.value.limit) == (1001, 1000)
    machine.end(request, error=caught.value)
    assert machine.errors == [INTERNAL]
    assert counts(work) == (1, 1)


def test_a_response_of_exactly_max_payload_is_sent() -> None:
    machine, work = running(max_payload=1000)
    machine.end(machine.send(work), b"x" * 1000)
    assert [len(body) for body in machine.bodies] == [1000]


def test_headers_that_push_a_response_over_max_payload_make_it_too_large() -> None:
    machine, work = running(max_payload=1000)
    request = machine.send(work)
    with pytest.raises(MaxPayloadError) as caught:
        machine.respond(request, b"x" * 1000, {"A": "b"})
    machine.end(request, error=caught.value)
    assert machine.errors == [INTERNAL]


def test_a_return_value_too_large_for_the_server_is_answered_with_500() -> None:
    machine, work = running(max_payload=1000)
    machine.end(machine.send(work), b"x" * 1001)
    assert machine.errors == [INTERNAL]
    assert counts(work) == (1, 1)


def test_a_too_large_response_whose_error_the_handler_swallows_is_answered_with_500() -> None:
    machine, work = running(max_payload=1000)
    request = machine.send(work)
    with pytest.raises(MaxPayloadError) as caught:
        machine.respond(request, b"x" * 1001)
    machine.end(request)
    assert machine.errors == [INTERNAL]
    assert machine.reports == [(caught.value, request)]
    assert counts(work) == (1, 1)


def test_a_smaller_response_after_a_too_large_one_makes_it_good() -> None:
    machine, work = running(max_payload=1000)
    request = machine.send(work)
    with pytest.raises(MaxPayloadError):
        machine.respond(request, b"x" * 1001)
    machine.respond(request, b"small")
    machine.end(request)
    assert machine.bodies == [b"small"]
    assert machine.errors == []
    assert counts(work) == (1, 0)


def test_a_long_reply_subject_that_the_server_still_reads_gets_its_response() -> None:
    machine, work = running()
    machine.end(machine.send(work, reply="r" * 4000), b"ok")
    assert machine.bodies == [b"ok"]


def test_a_reply_subject_longer_than_the_server_reads_makes_a_response_too_large() -> None:
    machine, work = running()
    request = machine.send(work, reply="r" * 5000)
    with pytest.raises(MaxPayloadError) as caught:
        machine.respond(request)
    assert caught.value.part == "command line"
    machine.end(request, error=caught.value)
    assert machine.replies == []
    assert counts(work) == (1, 1)


def test_a_500_that_does_not_fit_is_not_sent_and_the_error_is_counted() -> None:
    machine, work = running(max_payload=20)
    machine.end(machine.send(work), b"x" * 21)
    assert machine.replies == []
    assert counts(work) == (1, 1)


def test_max_payload_is_what_the_server_says_at_the_moment() -> None:
    machine, work = running(max_payload=1000)
    machine.max_payload = 2000
    machine.end(machine.send(work), b"x" * 2000)
    assert machine.errors == []


def test_headers_that_can_not_be_sent_raise_and_a_good_response_is_still_possible() -> None:
    machine, work = running()
    request = machine.send(work)
    with pytest.raises(HeaderError):
        machine.respond(request, b"x", {"A": "line\nbreak"})
    machine.end(request, b"good")
    assert machine.bodies == [b"good"]
    assert counts(work) == (1, 0)


# Time


def test_a_request_that_expires_while_it_waits_gets_504_and_never_runs() -> None:
    machine, work = running(max_concurrency=1, timeout=1.0)
    first = machine.send(work)
    machine.respond(first, b"a stream without end")
    machine.send(work, b"123", reply="waiting")
    machine.pass_time(SECOND)
    assert [(reply.subject, error_of(reply)) for reply in machine.replies[1:]] == [("waiting", TIMED_OUT)]
    assert machine.cancelled == []
    assert (len(work.waiting), work.waiting_bytes) == (0, 0)
    assert counts(work) == (1, 1)
    machine.end(first)
    assert machine.runs == [first]


def test_a_request_that_expired_while_it_waited_never_runs_even_if_the_timer_is_late() -> None:
    machine, work = running(max_concurrency=1, timeout=1.0)
    first = machine.send(work)
    second = machine.send(work)
    machine.be_busy(2 * SECOND)
    machine.end(first)
    assert machine.runs == [first]
    assert machine.errors == [TIMED_OUT], "it is told so at once"
    assert [about for _, about in machine.reports] == [second]
    assert (len(work.waiting), work.waiting_bytes) == (0, 0)
    assert counts(work) == (2, 1)
    machine.wake()
    assert counts(work) == (2, 1)


def test_if_the_timer_is_late_the_oldest_waiting_request_that_is_not_overdue_gets_the_slot() -> None:
    machine, work = running(max_concurrency=1, timeout=1.0)
    first = machine.send(work)
    machine.send(work, reply="overdue")
    machine.be_busy(1)
    third, fourth = machine.send(work), machine.send(work)
    machine.be_busy(SECOND - 1)
    machine.end(first)
    assert machine.runs == [first, third]
    assert is_waiting(fourth)
    assert [(reply.subject, error_of(reply)) for reply in machine.replies] == [("overdue", TIMED_OUT)]


def test_an_overdue_request_holds_no_place_among_those_that_wait_even_if_the_timer_is_late() -> None:
    machine, work = running(max_concurrency=1, max_pending=1, timeout=1.0)
    first = machine.send(work, reply="first")
    machine.send(work, reply="second")
    machine.be_busy(SECOND)
    third = machine.send(work, reply="third")
    assert list(work.waiting) == [third]
    assert [(reply.subject, error_of(reply)) for reply in machine.replies] == [
        ("first", TIMED_OUT),
        ("second", TIMED_OUT),
    ]
    assert machine.cancelled == [first]
    machine.end(first)
    assert machine.runs == [first, third]
    assert counts(work) == (2, 2)


def test_an_overdue_request_takes_no_room_from_those_that_wait_even_if_the_timer_is_late() -> None:
    machine, work = running(max_concurrency=1, max_pending_bytes=10, timeout=1.0)
    machine.send(work)
    machine.send(work, b"1234567890")
    machine.be_busy(SECOND)
    third = machine.send(work, b"1234567890")
    assert list(work.waiting) == [third]
    assert work.waiting_bytes == 10
    assert machine.errors == [TIMED_OUT, TIMED_OUT]


def test_if_the_timer_is_late_a_request_is_still_refused_when_too_few_are_overdue() -> None:
    machine, work = running(max_concurrency=1, max_pending_bytes=10, timeout=1.0)
    machine.send(work)
    machine.send(work, b"1")
    machine.be_busy(1)
    machine.send(work, b"123456789")
    machine.be_busy(SECOND - 1)
    machine.send(work, b"12", reply="refused")
    assert machine.errors == [TIMED_OUT, TIMED_OUT, OVERLOADED]
    assert machine.replies[-1].subject == "refused"
    assert (len(work.waiting), work.waiting_bytes) == (1, 9)
    assert counts(work) == (3, 3)


def test_a_running_request_gets_504_at_its_deadline_and_its_handler_is_cancelled() -> None:
    machine, work = running(timeout=1.0)
    request = machine.send(work)
    machine.pass_time(SECOND - 1)
    assert machine.replies == []
    machine.pass_time(1)
    assert machine.errors == [TIMED_OUT]
    assert machine.cancelled == [request]
    assert counts(work) == (1, 1)
    assert work.stats().last_error == "504:Request timed out"


def test_the_caller_is_told_504_before_the_handler_is_cancelled() -> None:
    machine, work = running(timeout=1.0)
    machine.send(work)
    machine.pass_time(SECOND)
    assert [type(effect) for effect in machine.effects if isinstance(effect, (Publish, Cancel))] == [Publish, Cancel]


def test_a_timeout_is_reported_with_its_request() -> None:
    machine, work = running(timeout=1.0)
    request = machine.send(work)
    machine.pass_time(SECOND)
    [(error, about)] = machine.reports
    assert isinstance(error, RequestTimeoutError)
    assert about is request


def test_the_slot_of_an_expired_handler_stays_taken_until_it_ends() -> None:
    machine, work = running(max_concurrency=1, timeout=1.0)
    first = machine.send(work)
    machine.pass_time(SECOND)
    second = machine.send(work)
    assert is_waiting(second)
    machine.end(first)
    assert is_running(second)


def test_an_expired_request_is_counted_once_whatever_its_handler_comes_to() -> None:
    machine, work = running(timeout=1.0)
    for error in (None, ValueError("clean-up failed"), ServiceError(400, "x")):
        request = machine.send(work)
        machine.pass_time(SECOND)
        machine.end(request, None if error else b"late", error)
    assert machine.errors == [TIMED_OUT] * 3
    assert len(machine.replies) == 3
    assert counts(work) == (3, 3)


def test_a_late_response_after_504_is_dropped_without_an_error() -> None:
    machine, work = running(timeout=1.0)
    request = machine.send(work)
    machine.pass_time(SECOND)
    machine.respond(request, b"late")
    machine.respond_error(request, 400, "late")
    assert machine.bodies == [b""]
    machine.finish(request)
    machine.respond(request, b"later")
    assert machine.bodies == [b""]
    assert work.stats().last_error == "504:Request timed out"


def test_an_answered_request_is_not_timed_any_more() -> None:
    machine, work = running(timeout=1.0)
    request = machine.send(work)
    machine.respond(request, b"first of a stream")
    machine.pass_time(5 * SECOND)
    machine.end(request, b"last")
    assert machine.bodies == [b"first of a stream", b"last"]
    assert machine.cancelled == []
    assert counts(work) == (1, 0)


def test_a_request_whose_handler_has_ended_is_not_timed_any_more() -> None:
    machine, work = running(timeout=1.0)
    request = machine.send(work)
    machine.conclude(request, None)
    machine.pass_time(5 * SECOND)
    machine.finish(request)
    assert machine.replies == []
    assert counts(work) == (1, 0)


def test_a_request_that_has_waited_keeps_its_first_deadline() -> None:
    machine, work = running(max_concurrency=1, timeout=1.0)
    first = machine.send(work)
    second = machine.send(work, reply="second")
    machine.pass_time(SECOND * 9 // 10)
    machine.end(first)
    machine.pass_time(SECOND // 10)
    assert machine.errors == [TIMED_OUT]
    assert machine.cancelled == [second]


def test_requests_without_reply_subject_expire_without_an_answer() -> None:
    machine, work = running(timeout=1.0)
    request = machine.send(work, reply="")
    machine.pass_time(SECOND)
    assert machine.replies == []
    assert machine.cancelled == [request]
    assert counts(work) == (1, 1)


def test_without_a_timeout_the_timer_is_not_set() -> None:
    machine, work = running()
    machine.send(work)
    assert machine.wake_at is None


def test_an_infinite_timeout_is_none_whatever_the_service_says() -> None:
    machine, work = running(config={"timeout": 1.0}, timeout=float("inf"))
    machine.send(work)
    assert machine.wake_at is None


def test_one_timer_serves_all_requests_and_is_set_for_the_first_deadline() -> None:
    machine, slow = running(timeout=2.0)
    fast = machine.add("fast", timeout=1.0)
    start = machine.now
    machine.send(slow)
    assert machine.wake_at == start + 2 * SECOND
    machine.send(fast)
    assert machine.wake_at == start + SECOND
    machine.pass_time(SECOND)
    assert machine.wake_at == start + 2 * SECOND


def test_a_timer_that_goes_off_early_is_set_again() -> None:
    machine, work = running(timeout=1.0)
    machine.send(work)
    due = machine.wake_at
    machine.be_busy(SECOND // 2)
    machine.wake()
    assert machine.replies == []
    assert machine.wake_at == due


# Late responses


def test_work_that_a_handler_has_left_behind_may_still_respond() -> None:
    machine, work = running()
    request = machine.send(work)
    machine.end(request)
    machine.respond(request, b"late")
    machine.respond_error(request, 400, "later")
    assert machine.bodies == [b"late", b""]
    assert counts(work) == (1, 0)


def test_after_the_stop_a_late_response_raises_service_stopped_error() -> None:
    machine, work = running()
    request = machine.send(work)
    machine.end(request)
    machine.stop()
    machine.confirm_all()
    with pytest.raises(ServiceStoppedError):
        machine.respond(request, b"late")
    with pytest.raises(ServiceStoppedError):
        machine.respond_error(request, 400, "late")
    assert machine.replies == []


def test_a_handler_that_was_cut_off_by_the_stop_can_not_respond_any_more() -> None:
    machine, work = running()
    request = machine.send(work)
    machine.stop(1.0)
    machine.pass_time(SECOND)
    with pytest.raises(ServiceStoppedError):
        machine.respond(request, b"late")
    machine.end(request, b"late")
    assert machine.errors == [STOPPING]
    assert len(machine.replies) == 1


# Stats


def test_processing_time_counts_the_handler_alone_and_not_the_waiting() -> None:
    machine, work = running(max_concurrency=1)
    first = machine.send(work)
    second = machine.send(work)
    machine.pass_time(30)
    machine.conclude(first, b"")
    machine.pass_time(1000)
    machine.finish(first)
    machine.pass_time(11)
    machine.end(second)
    stats = work.stats()
    assert (stats.processing_time, stats.average_processing_time) == (41, 20)


def test_the_average_is_0_before_the_first_request() -> None:
    _, work = running()
    assert work.stats().average_processing_time == 0
    assert work.stats().last_error == ""


def test_503_and_504_count_as_requests_of_the_time_they_took() -> None:
    machine, work = running(max_concurrency=1, max_pending=1, timeout=1.0)
    machine.send(work)
    machine.send(work)
    machine.send(work)
    machine.pass_time(SECOND)
    stats = work.stats()
    assert (stats.num_requests, stats.num_errors) == (3, 3)
    assert stats.processing_time == SECOND
    assert stats.average_processing_time == SECOND // 3


def test_what_an_expired_handler_does_after_its_deadline_is_not_counted() -> None:
    machine, work = running(timeout=1.0)
    request = machine.send(work)
    machine.pass_time(5 * SECOND)
    machine.end(request)
    assert work.stats().processing_time == SECOND


def test_stats_name_the_endpoint_as_it_is_really_used() -> None:
    _, work = running(subject="users.*", queue_group="workers", metadata={"a": "b"})
    stats, info = work.stats(), work.info()
    assert (stats.name, stats.subject, stats.queue_group) == ("work", "users.*", "workers")
    assert (info.name, info.subject, info.queue_group, info.metadata) == ("work", "users.*", "workers", {"a": "b"})


def test_a_success_keeps_the_last_error() -> None:
    machine, work = running()
    machine.end(machine.send(work), error=ServiceError(404, "x"))
    machine.end(machine.send(work), b"ok")
    assert counts(work) == (2, 1)
    assert work.stats().last_error == "404:x"


def test_a_request_that_runs_through_a_reset_is_counted_after_it() -> None:
    machine, work = running()
    request = machine.send(work)
    machine.pass_time(5 * MILLISECOND)
    work.reset()
    machine.end(request, b"ok")
    assert counts(work) == (1, 0)


# What a handler sees


def test_a_request_shows_what_came() -> None:
    machine, work = running(subject="users.*")
    request = machine.send(work, b"data", reply="inbox", headers={"A": "b"})
    assert (request.subject, request.reply, request.data) == ("users.*", "inbox", b"data")
    assert dict(request.headers) == {"A": "b"}


def test_headers_are_never_none() -> None:
    machine, work = running()
    assert dict(machine.send(work).headers) == {}


def test_json_reads_the_data() -> None:
    machine, work = running()
    assert machine.send(work, b'{"a": [1, null]}').json() == {"a": [1, None]}


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"NaN", b"[Infinity]", b"[" * 100_000])
def test_data_that_is_not_json_is_a_service_error_400(data: bytes) -> None:
    machine, work = running()
    request = machine.send(work, data)
    with pytest.raises(ServiceError) as caught:
        request.json()
    machine.end(request, error=caught.value)
    assert [code for code, _ in machine.errors] == ["400"]


def test_the_repr_of_a_request_says_where_it_is_and_nothing_of_its_data() -> None:
    machine, work = running()
    request = machine.send(work, json.dumps({"password": "hunter2"}).encode())
    assert repr(request) == "<Request 'work', running>"


def test_the_size_of_what_waits_is_what_it_was_when_it_came() -> None:
    """Reading headers leniently may leave out some of them."""
    machine = Machine()
    state = machine.add(max_concurrency=1)
    machine.start()
    first = state.receive(Message("s", b"", reply="r"), 0)
    assert first is not None
    state.receive(Message("s", b"x", reply="r", headers={"Not A Name": "x"}), 0)
    waiting = state.waiting[0]
    assert dict(waiting.headers) == {}
    state.conclude(first, 1, None, None)
    assert state.finish(first, 1) is waiting
    assert state.waiting_bytes == 0
