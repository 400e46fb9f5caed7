"""Exceptions: one base, Python's own words beside it, and messages that help."""

from __future__ import annotations

import enum
import pickle

import pytest

from natsvc import (
    AuthorizationError,
    ConfigError,
    ConnectionClosedError,
    ConnectionLostError,
    HeaderError,
    InvalidAnswerError,
    MaxPayloadError,
    NatsvcError,
    NoRespondersError,
    NoServersError,
    PermissionsError,
    ProtocolError,
    RequestTimeoutError,
    ServerError,
    ServiceConfig,
    ServiceError,
    SlowConsumerError,
    StaleConnectionError,
    SubjectError,
    errors,
)


@pytest.mark.parametrize("name", errors.__all__)
def test_every_exception_is_a_natsvc_error(name: str) -> None:
    assert issubclass(getattr(errors, name), NatsvcError)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (ConfigError, ValueError),
        (HeaderError, ValueError),
        (InvalidAnswerError, ValueError),
        (MaxPayloadError, ValueError),
        (RequestTimeoutError, TimeoutError),
        (ConnectionClosedError, ConnectionError),
        (ConnectionLostError, ConnectionError),
        (NoServersError, ConnectionError),
        (StaleConnectionError, ConnectionError),
        (SubjectError, ValueError),
    ],
)
def test_an_exception_is_also_what_python_calls_that_failure(kind: type, builtin: type) -> None:
    assert issubclass(kind, builtin)


@pytest.mark.parametrize("kind", [ConfigError, HeaderError, InvalidAnswerError, SubjectError])
def test_a_refused_value_comes_with_field_value_and_rule(
    kind: type[ConfigError | HeaderError | InvalidAnswerError | SubjectError],
) -> None:
    error = kind("ServiceConfig.name", "a b", "must be a name")
    assert (error.field, error.value, error.rule) == ("ServiceConfig.name", "a b", "must be a name")
    assert str(error) == "ServiceConfig.name: 'a b' must be a name"


def test_a_long_refused_value_is_cut_in_the_message_and_whole_in_the_attribute() -> None:
    error = ConfigError("f", "x" * 100_000, "must be short")
    assert len(str(error)) < 300
    assert "…" in str(error)
    assert str(error).endswith("must be short")
    assert error.value == "x" * 100_000


def test_a_number_too_long_to_be_shown_does_not_break_the_message() -> None:
    with pytest.raises(ConfigError) as caught:
        ServiceConfig("a", max_workers=-(10**5000))
    assert str(caught.value).startswith("ServiceConfig.max_workers: ")
    assert len(str(caught.value)) < 300


def test_a_value_whose_repr_fails_does_not_break_the_message() -> None:
    class Unprintable:
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    assert str(ConfigError("f", Unprintable(), "must be a str")).endswith("must be a str")


@pytest.mark.parametrize(("code", "text"), [(404, "404"), ("404", "404"), ("NOT_FOUND", "NOT_FOUND")])
def test_a_service_errors_code_is_always_a_str(code: str | int, text: str) -> None:
    error = ServiceError(code, "no such user")
    assert error.code == text
    assert type(error.code) is str
    assert str(error) == f"{text}: no such user"


def test_a_code_that_is_a_member_of_a_str_enum_keeps_its_text() -> None:
    class Code(str, enum.Enum):  # noqa: UP042  # as programs older than Python 3.11 write it
        NOT_FOUND = "NOT_FOUND"

    assert ServiceError(Code.NOT_FOUND, "x").code == "NOT_FOUND"


def test_a_service_error_has_no_description_data_or_headers_unless_given() -> None:
    error = ServiceError(500)
    assert (error.description, error.data, error.headers) == ("", b"", None)


def test_none_in_a_service_error_means_not_given() -> None:
    error = ServiceError(500, None, None, None)
    assert (error.description, error.data, error.headers) == ("", b"", None)


def test_a_service_error_carries_data_and_headers() -> None:
    error = ServiceError(500, "x", b"data", {"a": "1"})
    assert (error.data, error.headers) == (b"data", {"a": "1"})


def test_a_message_too_large_names_size_limit_and_part() -> None:
    error = MaxPayloadError(11, 10)
    assert (error.size, error.limit, error.part) == (11, 10, "headers and data")
    assert str(error) == "headers and data of 11 bytes: the server takes 10"
    assert str(MaxPayloadError(5000, 4096, "command line")) == "command line of 5000 bytes: the server takes 4096"


def test_a_permissions_error_names_operation_and_subject() -> None:
    error = PermissionsError("subscription", "a.b")
    assert (error.operation, error.subject) == ("subscription", "a.b")
    assert str(error) == "the server refused a subscription to 'a.b'"


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("f", 1, "r"),
        ServiceError(404, "d", b"x", {"a": "1"}),
        MaxPayloadError(11, 10, "command line"),
        PermissionsError("publish", "a"),
    ],
)
def test_an_exception_survives_the_way_to_another_process(error: NatsvcError) -> None:
    other = pickle.loads(pickle.dumps(error))
    assert str(other) == str(error)
    assert vars(other) == vars(error)


def test_a_protocol_error_shows_where_it_was_found_and_is_cut_short() -> None:
    error = ProtocolError("unknown verb", b"x" * 100_000)
    assert error.problem == "unknown verb"
    assert str(error).startswith("unknown verb: b'xxx")
    assert len(str(error)) < 300
    assert str(ProtocolError("unknown verb")) == "unknown verb"


def test_a_slow_consumer_error_names_the_subject_and_counts() -> None:
    error = SlowConsumerError("a.b", 7)
    assert (error.subject, error.dropped) == ("a.b", 7)
    assert str(error) == "the subscription to 'a.b' is full: 7 dropped so far"


def test_no_responders_names_the_subject() -> None:
    assert NoRespondersError("a.b").subject == "a.b"
    assert "'a.b'" in str(NoRespondersError("a.b"))


@pytest.mark.parametrize("kind", [AuthorizationError, ServerError])
def test_what_the_server_says_is_the_message(kind: type[NatsvcError]) -> None:
    assert str(kind("Authorization Violation")) == "Authorization Violation"
