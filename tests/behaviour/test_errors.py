"""Design: what callers, STATS, logs and the error_handler learn of errors."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from natsvc import ServiceError
from tests.plain_client import PlainClient
from tests.worlds import Connection, Service, eventually


def endpoint_stats(service: Service, requests: int = 1) -> Any:
    eventually(lambda: service.stats().endpoints[0].num_requests == requests)
    return service.stats().endpoints[0]


def test_a_service_error_is_sent_as_two_headers_and_counted(connection: Connection, client: PlainClient) -> None:
    told: list[Any] = []

    async def handler(request: Any) -> None:
        raise ServiceError(404, "No such user", b"body", {"X-More": "1"})

    service = connection.add_service("raising", error_handler=lambda *arguments: told.append(arguments))
    service.add_endpoint("raising-e", handler=handler)
    reply = client.request("raising-e")
    assert sorted(reply.headers) == [
        ("Nats-Service-Error", "No such user"),
        ("Nats-Service-Error-Code", "404"),
        ("X-More", "1"),
    ]
    assert reply.data == b"body"
    stats = endpoint_stats(service)
    assert (stats.num_errors, stats.last_error) == (1, "404:No such user")
    assert told == [], "a ServiceError is an answer, not a failure"


def test_respond_error_does_the_same(connection: Connection, client: PlainClient) -> None:
    async def handler(request: Any) -> None:
        await request.respond_error("GONE", "Gone", b"body", {"X-More": "1", "Nats-Service-Error": "mine"})

    service = connection.add_service("responding-error")
    service.add_endpoint("responding-error-e", handler=handler)
    reply = client.request("responding-error-e")
    assert (reply.error_code, reply.error, reply.data) == ("GONE", "Gone", b"body")
    assert reply.header("X-More") == "1"
    assert len(reply.headers) == 3, "natsvc's two headers override the user's"
    assert endpoint_stats(service).last_error == "GONE:Gone"


def test_the_text_of_an_unexpected_exception_reaches_neither_the_caller_nor_stats(
    connection: Connection, client: PlainClient, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[Any, BaseException, Any]] = []

    async def handler(request: Any) -> None:
        raise ValueError("secret password")

    service = connection.add_service("hiding", error_handler=lambda *arguments: told.append(arguments))
    service.add_endpoint("hiding-e", handler=handler)
    reply = client.request("hiding-e")
    assert (reply.error_code, reply.error, reply.data) == ("500", "Internal Server Error", b"")
    assert endpoint_stats(service).last_error == "500:Internal Server Error"
    eventually(lambda: told)
    assert isinstance(told[0][1], ValueError)
    assert told[0][2].subject == "hiding-e"
    eventually(lambda: any(record.exc_info for record in caplog.records))
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.name.startswith("natsvc")
    assert record.levelno == logging.ERROR


def test_expose_errors_shows_type_and_text(connection: Connection, client: PlainClient) -> None:
    async def handler(request: Any) -> None:
        raise ValueError("the text")

    service = connection.add_service("exposing", expose_errors=True)
    service.add_endpoint("exposing-e", handler=handler)
    assert client.request("exposing-e").error == "ValueError: the text"
    assert endpoint_stats(service).last_error == "500:ValueError: the text"


def test_an_exception_group_with_one_leaf_counts_as_that_leaf(connection: Connection, client: PlainClient) -> None:
    async def handler(request: Any) -> None:
        raise ExceptionGroup("outer", [ExceptionGroup("inner", [ServiceError(403, "Forbidden")])])

    connection.add_service("grouped").add_endpoint("grouped-e", handler=handler)
    assert client.request("grouped-e").error_code == "403"


def test_an_error_after_a_response_is_still_sent_and_counted_once(connection: Connection, client: PlainClient) -> None:
    async def handler(request: Any) -> None:
        await request.respond(b"fine so far")
        await request.respond_error(400, "First")
        raise ServiceError(401, "Second")

    service = connection.add_service("after")
    service.add_endpoint("after-e", handler=handler)
    pending = client.send("after-e")
    assert pending.result().data == b"fine so far"
    assert [pending.next().error_code, pending.next().error_code] == ["400", "401"]
    stats = endpoint_stats(service)
    assert (stats.num_requests, stats.num_errors, stats.last_error) == (1, 1, "401:Second")


def test_a_cancelled_error_that_natsvc_did_not_cause_is_a_500(connection: Connection, client: PlainClient) -> None:
    async def handler(request: Any) -> None:
        raise asyncio.CancelledError

    service = connection.add_service("cancelling")
    service.add_endpoint("cancelling-e", handler=handler)
    assert client.request("cancelling-e").error_code == "500"
    assert client.request("$SRV.PING.cancelling").data, "and nothing else was cancelled by it"


@pytest.mark.parametrize(
    ("code", "description", "sent"),
    [
        (404, "a\r\nX-Forged: 1", ("404", "a  X-Forged: 1")),
        ("4\n0", "tab\there", ("4 0", "tab here")),
        ("", "", ("500", "500")),
        (418, "", ("418", "418")),
        (400, "Größe\x00\x7f", ("400", "Größe")),
        (400, "\ud800", ("400", "?")),
    ],
)
def test_code_and_description_forge_no_header_and_are_never_empty(
    connection: Connection, client: PlainClient, code: str | int, description: str, sent: tuple[str, str]
) -> None:
    async def handler(request: Any) -> None:
        raise ServiceError(code, description)

    service = connection.add_service("forging")
    service.add_endpoint("forging-e", handler=handler)
    reply = client.request("forging-e")
    assert (reply.error_code, reply.error) == sent
    assert len(reply.headers) == 2
    assert endpoint_stats(service).last_error == ":".join(sent)


def test_last_error_is_cut_at_1024_characters(connection: Connection, client: PlainClient) -> None:
    async def handler(request: Any) -> None:
        raise ServiceError(400, "x" * 2000)

    service = connection.add_service("wordy")
    service.add_endpoint("wordy-e", handler=handler)
    assert client.request("wordy-e").error == "x" * 2000
    assert endpoint_stats(service).last_error == "400:" + "x" * 1020


def test_callbacks_may_be_async_and_what_they_raise_is_logged(
    connection: Connection, client: PlainClient, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[object] = []

    async def error_handler(service: Any, error: BaseException, request: Any) -> None:
        raise RuntimeError("the error_handler is broken")

    async def done_handler(service: Any, error: BaseException | None) -> None:
        done.append((service.name, error))

    async def handler(request: Any) -> None:
        raise ValueError

    service = connection.add_service("callbacks", error_handler=error_handler, done_handler=done_handler)
    service.add_endpoint("callbacks-e", handler=handler)
    assert client.request("callbacks-e").error_code == "500"
    eventually(lambda: "the error_handler is broken" in caplog.text)
    service.stop()
    service.stop()
    assert done == [("callbacks", None)]
