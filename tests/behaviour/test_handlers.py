"""Design: what handlers are, what they return, and the context they run in."""

from __future__ import annotations

import contextvars
import dataclasses
import gc
import json
import threading
import weakref
from typing import Any

import pytest

from natsvc import ErrorCodes, NoReplyError, ServiceError, with_error_handling
from tests.plain_client import PlainClient
from tests.worlds import Connection, World, eventually


@dataclasses.dataclass
class Point:
    x: int
    y: int


@pytest.mark.parametrize(
    ("returned", "sent"),
    [
        (b"bytes", b"bytes"),
        ("täxt", "täxt".encode()),
        ({"a": [1]}, b'{"a":[1]}'),
        ([1, None], b"[1,null]"),
        (Point(1, 2), b'{"x":1,"y":2}'),
        (b"", b""),
    ],
    ids=["bytes", "str", "dict", "list", "dataclass", "empty"],
)
def test_a_return_value_is_the_response(
    connection: Connection, client: PlainClient, returned: object, sent: bytes
) -> None:
    async def handler(request: Any) -> object:
        return returned

    connection.add_service("returning").add_endpoint("returning-e", handler=handler)
    assert client.request("returning-e").data == sent


def test_an_idle_service_keeps_nothing_alive_of_what_it_has_handled(
    world: World, connection: Connection, client: PlainClient
) -> None:
    variable: contextvars.ContextVar[object] = contextvars.ContextVar("variable")
    kept: list[weakref.ref[Any]] = []

    class Value:
        pass

    async def handler(request: Any) -> bytes:
        value = Value()
        variable.set(value)
        kept.extend((weakref.ref(request), weakref.ref(value)))
        if request.data != b"quick":
            await world.sleep(0.001)
        if request.data == b"fails":
            raise ServiceError(404, "not found")
        return b""

    def is_kept() -> bool:
        gc.collect()
        return any(one() is not None for one in kept)

    connection.add_service("forgetting").add_endpoint("forgetting-e", handler=handler)
    for one in [client.send("forgetting-e", data) for data in (b"quick", b"waits", b"fails") * 5]:
        one.result()
    assert len(kept) == 30
    eventually(lambda: not is_kept())


def test_a_return_value_of_another_kind_is_a_500(connection: Connection, client: PlainClient) -> None:
    async def handler(request: Any) -> object:
        return 42

    connection.add_service("wrong-kind").add_endpoint("wrong-kind-e", handler=handler)
    assert client.request("wrong-kind-e").error_code == "500"


def test_a_handler_that_returns_none_and_does_not_respond_sends_nothing(
    connection: Connection, client: PlainClient
) -> None:
    async def handler(request: Any) -> None:
        return

    service = connection.add_service("silent")
    service.add_endpoint("silent-e", handler=handler)
    pending = client.send("silent-e")
    eventually(lambda: service.stats().endpoints[0].num_requests == 1)
    client.flush()
    assert not pending.has_reply
    assert service.stats().endpoints[0].num_errors == 0


def test_a_request_has_subject_reply_headers_and_data(connection: Connection, client: PlainClient) -> None:
    seen: list[Any] = []

    async def handler(request: Any) -> bytes:
        seen.append((request.subject, request.data, request.headers["X-One"], request.headers.get("Absent")))
        return str(request.reply).encode()

    connection.add_service("request").add_endpoint("request-e", handler=handler)
    reply = client.request("request-e", b"data", headers=[("X-One", "1")])
    assert seen == [("request-e", b"data", "1", None)]
    assert reply.data.decode() == reply.subject


def test_headers_are_never_none(connection: Connection, client: PlainClient) -> None:
    async def handler(request: Any) -> bytes:
        return str(len(request.headers)).encode()

    connection.add_service("headless").add_endpoint("headless-e", handler=handler)
    assert client.request("headless-e").data == b"0"


def test_response_headers_keep_their_case_and_repeated_names(connection: Connection, client: PlainClient) -> None:
    from natsvc import Headers

    async def handler(request: Any) -> None:
        await request.respond(b"", headers=Headers([("x-Case", "1"), ("Twice", "a"), ("Twice", "b")]))

    connection.add_service("headers").add_endpoint("headers-e", handler=handler)
    assert client.request("headers-e").headers == [("x-Case", "1"), ("Twice", "a"), ("Twice", "b")]


def test_json_is_read_and_written(connection: Connection, client: PlainClient) -> None:
    async def handler(request: Any) -> None:
        await request.respond_json({"sum": sum(request.json())}, headers={"Content-Type": "application/json"})

    connection.add_service("json").add_endpoint("json-e", handler=handler)
    reply = client.request("json-e", b"[1, 2]")
    assert json.loads(reply.data) == {"sum": 3}
    assert reply.header("Content-Type") == "application/json"


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[NaN]", b"[" * 100_000])
def test_a_request_that_is_not_json_is_a_400(connection: Connection, client: PlainClient, data: bytes) -> None:
    async def handler(request: Any) -> object:
        return {"read": request.json()}

    connection.add_service("not-json").add_endpoint("not-json-e", handler=handler)
    assert client.request("not-json-e", data).error_code == "400"


def test_responding_more_than_once_is_a_stream_of_replies(connection: Connection, client: PlainClient) -> None:
    async def handler(request: Any) -> bytes:
        await request.respond(b"1")
        await request.respond(b"2")
        return b"3"

    service = connection.add_service("stream")
    service.add_endpoint("stream-e", handler=handler)
    pending = client.send("stream-e")
    assert [pending.result().data, pending.next().data, pending.next().data] == [b"1", b"2", b"3"]
    eventually(lambda: service.stats().endpoints[0].num_requests == 1)


@pytest.mark.parametrize("way", ["respond", "return"])
def test_without_a_reply_subject_a_response_counts_one_error_without_a_traceback(
    connection: Connection, client: PlainClient, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    async def handler(request: Any) -> object:
        if way == "return":
            return b"x"
        with pytest.raises(NoReplyError):
            await request.respond(b"x")
        await request.respond(b"x")
        return None

    service = connection.add_service("no-reply")
    service.add_endpoint("no-reply-e", handler=handler)
    client.publish("no-reply-e")
    eventually(lambda: service.stats().endpoints[0].num_requests == 1)
    assert service.stats().endpoints[0].num_errors == 1
    assert not [record for record in caplog.records if record.exc_info]


def test_a_plain_def_runs_in_a_thread_and_responds_blocking(connection: Connection, client: PlainClient) -> None:
    names: list[str] = []

    def handler(request: Any) -> None:
        names.append(threading.current_thread().name)
        request.respond(request.data.upper(), headers={"X": request.headers["X"]})

    connection.add_service("threaded").add_endpoint("threaded-e", handler=handler)
    reply = client.request("threaded-e", b"abc", headers=[("X", "1")])
    assert (reply.data, reply.header("X")) == (b"ABC", "1")
    assert names[0] not in ("MainThread", threading.current_thread().name)


def test_a_blocking_handler_has_all_the_ways_to_answer(connection: Connection, client: PlainClient) -> None:
    def handler(request: Any) -> object:
        match request.data:
            case b"json":
                request.respond_json({"got": request.subject})
            case b"error":
                request.respond_error(404, "Nothing here", b"body")
            case b"raise":
                raise ServiceError(409, "Conflict")
            case b"return":
                return {"reply": bool(request.reply)}
            case _:
                return {"json": request.json()}
        return None

    connection.add_service("all-ways").add_endpoint("all-ways-e", handler=handler)
    assert client.request("all-ways-e", b"json").data == b'{"got":"all-ways-e"}'
    error = client.request("all-ways-e", b"error")
    assert (error.error_code, error.error, error.data) == ("404", "Nothing here", b"body")
    assert client.request("all-ways-e", b"raise").error_code == "409"
    assert client.request("all-ways-e", b"return").data == b'{"reply":true}'
    assert client.request("all-ways-e", b"[1]").data == b'{"json":[1]}'
    assert client.request("all-ways-e", b"{").error_code == "400"


def test_a_context_variable_set_by_one_request_is_never_seen_by_the_next(
    connection: Connection, client: PlainClient
) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def handler(request: Any) -> str:
        seen = variable.get()
        variable.set("set")
        return seen

    def blocking(request: Any) -> str:
        seen = variable.get()
        variable.set("set")
        return seen

    service = connection.add_service("context")
    service.add_endpoint("context-e", handler=handler)
    service.add_endpoint("context-b", handler=blocking)
    for subject in ("context-e", "context-e", "context-b", "context-b"):
        assert client.request(subject).data == b"unset"


def test_middleware_runs_outermost_first_and_sees_return_values_and_exceptions(
    connection: Connection, client: PlainClient
) -> None:
    seen: list[str] = []

    def middleware(name: str) -> Any:
        async def run(request: Any, call_next: Any) -> Any:
            seen.append(f"{name} in")
            try:
                returned = await call_next(request)
            except ServiceError as error:
                seen.append(f"{name} saw {error.code}")
                raise
            seen.append(f"{name} saw {returned}")
            return returned

        return run

    async def handler(request: Any) -> str:
        if request.data == b"bad":
            raise ServiceError(418, "Teapot")
        return "fine"

    service = connection.add_service("wrapped", middleware=[middleware("service")])
    group = service.add_group("wrapped-g", middleware=[middleware("group")])
    group.add_endpoint("e", handler=handler, middleware=[middleware("endpoint"), middleware("inner")])
    assert client.request("wrapped-g.e").data == b"fine"
    names = ["service", "group", "endpoint", "inner"]
    assert seen == [f"{name} in" for name in names] + [f"{name} saw fine" for name in reversed(names)]
    seen.clear()
    assert client.request("wrapped-g.e", b"bad").error_code == "418"
    assert seen == [f"{name} in" for name in names] + [f"{name} saw 418" for name in reversed(names)]


def test_middleware_stands_around_blocking_handlers_too(connection: Connection, client: PlainClient) -> None:
    async def shout(request: Any, call_next: Any) -> Any:
        return (await call_next(request)).upper()

    def handler(request: Any) -> str:
        return "quiet"

    connection.add_service("shouting").add_endpoint("shouting-e", handler=handler, middleware=[shout])
    assert client.request("shouting-e").data == b"QUIET"


def test_with_error_handling_turns_exceptions_into_error_replies(connection: Connection, client: PlainClient) -> None:
    async def handler(request: Any) -> None:
        raise {b"key": KeyError("no such user"), b"other": OSError("disk")}[request.data]

    mapped = with_error_handling(
        handler, {LookupError: ErrorCodes.NOT_FOUND, KeyError: (404, "No such thing")}, default=(599, "Sorry")
    )
    connection.add_service("mapped").add_endpoint("mapped-e", handler=mapped)
    reply = client.request("mapped-e", b"key")
    assert (reply.error_code, reply.error) == ("404", "No such thing")
    reply = client.request("mapped-e", b"other")
    assert (reply.error_code, reply.error) == ("599", "Sorry")
