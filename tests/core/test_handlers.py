"""What stands around a handler: middleware, error mapping, and whether it is async."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from natsvc import ConfigError, ErrorCodes, ServiceError, with_error_handling
from natsvc.core.handlers import compose, error_leaf, is_async

Handler = Callable[[Any], Any]


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the coroutine waits for something")


def call(handler: Handler, request: object = None) -> Any:
    result = handler(request)
    return run(result) if isinstance(result, Coroutine) else result


def sync_raiser(error: BaseException) -> Handler:
    def handler(request: object) -> None:
        raise error

    return handler


def async_raiser(error: BaseException) -> Handler:
    async def handler(request: object) -> None:
        raise error

    return handler


BOTH = pytest.mark.parametrize("raiser", [sync_raiser, async_raiser])
Raiser = Callable[[BaseException], Handler]


def raised(handler: Handler) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        call(handler)
    return caught.value


class AppError(Exception): ...


class MissingError(AppError): ...


class Handlers:
    async def asynchronous(self, request: object) -> None: ...

    def blocking(self, request: object) -> None: ...

    @classmethod
    async def of_class(cls, request: object) -> None: ...

    @staticmethod
    async def static(request: object) -> None: ...


class AsyncCallable:
    async def __call__(self, request: object) -> None: ...


class BlockingCallable:
    def __call__(self, request: object) -> None: ...


async def async_function(request: object, more: object = None) -> None: ...


def blocking_function(request: object, more: object = None) -> None: ...


@pytest.mark.parametrize(
    "function",
    [
        async_function,
        Handlers().asynchronous,
        Handlers.of_class,
        Handlers.static,
        AsyncCallable(),
        AsyncCallable().__call__,
        functools.partial(async_function, more=1),
        functools.partial(functools.partial(async_function), more=1),
        functools.partial(Handlers().asynchronous),
        functools.partial(AsyncCallable()),
    ],
)
def test_async_handlers_are_known_through_partials_methods_and_objects(function: Handler) -> None:
    assert is_async(function)


@pytest.mark.parametrize(
    "function",
    [
        blocking_function,
        Handlers().blocking,
        BlockingCallable(),
        functools.partial(blocking_function),
        functools.partial(BlockingCallable()),
        AsyncCallable,
        print,
        lambda request: request,
    ],
)
def test_blocking_handlers_are_not_async(function: Handler) -> None:
    assert not is_async(function)


def test_without_middleware_the_handler_stands_as_it_is() -> None:
    assert compose([], blocking_function) is blocking_function


def tracing(name: str, trace: list[str]) -> Callable[[Any, Handler], Any]:
    async def middleware(request: str, call_next: Handler) -> str:
        trace.append(f"{name} before {request}")
        result = await call_next(request + name)
        trace.append(f"{name} after {result}")
        return f"{result}{name}"

    return middleware


def test_middleware_runs_outermost_first_and_sees_the_return_value() -> None:
    trace: list[str] = []

    async def handler(request: str) -> str:
        trace.append(f"handler {request}")
        return "result-"

    composed = compose([tracing("a", trace), tracing("b", trace)], handler)
    assert call(composed, "request-") == "result-ba"
    assert trace == [
        "a before request-",
        "b before request-a",
        "handler request-ab",
        "b after result-",
        "a after result-b",
    ]


def test_blocking_middleware_runs_around_a_blocking_handler() -> None:
    def doubling(request: int, call_next: Handler) -> int:
        return 2 * int(call_next(request + 1))

    assert call(compose([doubling, doubling], lambda request: request), 1) == 12


def test_middleware_sees_exceptions_and_may_answer_in_their_place() -> None:
    async def rescuing(request: object, call_next: Handler) -> str:
        try:
            await call_next(request)
        except KeyError as error:
            return f"rescued {error}"
        return "nothing to rescue"

    assert call(compose([rescuing], async_raiser(KeyError("x")))) == "rescued 'x'"


def test_middleware_may_answer_without_calling_on() -> None:
    assert call(compose([lambda request, call_next: "refused"], sync_raiser(KeyError()))) == "refused"


@pytest.mark.parametrize("name", ["INVALID_INPUT", "NOT_FOUND", "UNAUTHORIZED", "INTERNAL_ERROR", "RATE_LIMITED"])
def test_an_error_code_in_words_is_its_own_name(name: str) -> None:
    assert getattr(ErrorCodes, name) == name


@BOTH
def test_a_code_alone_takes_the_exceptions_text(raiser: Raiser) -> None:
    error = raised(with_error_handling(raiser(ValueError("bad input")), {ValueError: 400}))
    assert (error.code, error.description) == ("400", "bad input")


@BOTH
def test_a_code_and_a_description_hide_the_exceptions_text(raiser: Raiser) -> None:
    error = raised(with_error_handling(raiser(ValueError("secret")), {ValueError: ("BAD", "invalid")}))
    assert (error.code, error.description) == ("BAD", "invalid")


@BOTH
def test_an_empty_description_hides_the_exceptions_text_too(raiser: Raiser) -> None:
    assert raised(with_error_handling(raiser(ValueError("secret")), {ValueError: (400, "")})).description == ""


@BOTH
@pytest.mark.parametrize("order", [1, -1])
def test_the_most_specific_class_wins_whatever_the_order(raiser: Raiser, order: int) -> None:
    errors: dict[type[BaseException], int] = dict([(Exception, 500), (AppError, 400), (MissingError, 404)][::order])
    assert raised(with_error_handling(raiser(MissingError()), errors)).code == "404"
    assert raised(with_error_handling(raiser(AppError()), errors)).code == "400"
    assert raised(with_error_handling(raiser(KeyError()), errors)).code == "500"


@BOTH
def test_a_subclass_of_a_mapped_class_is_mapped(raiser: Raiser) -> None:
    assert raised(with_error_handling(raiser(MissingError("x")), {AppError: 400})).code == "400"


@BOTH
def test_a_service_error_passes(raiser: Raiser) -> None:
    error = ServiceError(418, "teapot")
    wrapped = with_error_handling(raiser(error), {Exception: 500, ServiceError: 501}, default=(502, "default"))
    assert raised(wrapped) is error


@BOTH
def test_an_exception_that_is_not_mapped_stays_what_it_is(raiser: Raiser) -> None:
    error = KeyError("x")
    with pytest.raises(KeyError) as caught:
        call(with_error_handling(raiser(error), {ValueError: 400}))
    assert caught.value is error


@BOTH
def test_the_default_answers_the_rest(raiser: Raiser) -> None:
    errors: dict[type[BaseException], int] = {ValueError: 400}
    error = raised(with_error_handling(raiser(KeyError("secret")), errors, default=(500, "failed")))
    assert (error.code, error.description) == ("500", "failed")
    assert raised(with_error_handling(raiser(ValueError()), errors, default=(500, "failed"))).code == "400"
    assert raised(with_error_handling(raiser(ValueError()), default=(500, "failed"))).code == "500"


@BOTH
@pytest.mark.parametrize("kind", [Exception, BaseException])
def test_the_default_does_not_answer_what_errors_name(raiser: Raiser, kind: type[BaseException]) -> None:
    wrapped = with_error_handling(raiser(KeyError("x")), {kind: "MAPPED"}, default=("DEFAULT", "failed"))
    assert raised(wrapped).code == "MAPPED"


@BOTH
def test_an_exception_group_with_one_leaf_counts_as_that_leaf(raiser: Raiser) -> None:
    group = ExceptionGroup("outer", [ExceptionGroup("inner", [ValueError("bad input")])])
    error = raised(with_error_handling(raiser(group), {ValueError: 400, ExceptionGroup: 500}))
    assert (error.code, error.description) == ("400", "bad input")


@BOTH
def test_an_exception_group_with_several_leaves_counts_as_itself(raiser: Raiser) -> None:
    group = ExceptionGroup("several", [ValueError("a"), ValueError("b")])
    with pytest.raises(ExceptionGroup):
        call(with_error_handling(raiser(group), {ValueError: 400}))
    assert raised(with_error_handling(raiser(group), {ValueError: 400, ExceptionGroup: (500, "x")})).code == "500"


@BOTH
def test_a_service_error_alone_in_a_group_is_not_translated(raiser: Raiser) -> None:
    error = ServiceError(418, "teapot")
    with pytest.raises((ServiceError, ExceptionGroup)) as caught:
        call(with_error_handling(raiser(ExceptionGroup("x", [error])), {Exception: 500}, default=(500, "failed")))
    assert error_leaf(caught.value) is error


@BOTH
def test_the_translated_error_has_the_exception_as_its_cause(raiser: Raiser) -> None:
    cause = ValueError("x")
    assert raised(with_error_handling(raiser(cause), {ValueError: 400})).__cause__ is cause


@BOTH
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_the_default_leaves_alone_what_is_no_exception_of_a_program(raiser: Raiser, kind: type[BaseException]) -> None:
    with pytest.raises(kind):
        call(with_error_handling(raiser(kind()), {ValueError: 400}, default=(500, "failed")))


def test_the_result_passes() -> None:
    async def handler(request: object) -> object:
        return request

    assert call(with_error_handling(handler, {ValueError: 400}), 7) == 7
    assert call(with_error_handling(lambda request: request, {ValueError: 400}), 7) == 7


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (async_function, True),
        (AsyncCallable(), True),
        (functools.partial(async_function), True),
        (blocking_function, False),
        (BlockingCallable(), False),
        (functools.partial(blocking_function), False),
    ],
)
def test_a_wrapped_handler_is_of_the_same_kind(handler: Handler, expected: bool) -> None:
    assert is_async(with_error_handling(handler, {ValueError: 400})) is expected


def test_a_wrapped_handler_keeps_its_name() -> None:
    assert with_error_handling(async_function).__name__ == "async_function"
    assert with_error_handling(blocking_function).__name__ == "blocking_function"


@pytest.mark.parametrize(
    ("handler", "errors", "default"),
    [
        ("x", None, None),
        (None, None, None),
        (blocking_function, {"ValueError": 400}, None),
        (blocking_function, {int: 400}, None),
        (blocking_function, {ValueError("x"): 400}, None),
        (blocking_function, {ValueError: None}, None),
        (blocking_function, {ValueError: 4.5}, None),
        (blocking_function, {ValueError: (400,)}, None),
        (blocking_function, {ValueError: (400, "x", "y")}, None),
        (blocking_function, {ValueError: (400, None)}, None),
        (blocking_function, {ValueError: (None, "x")}, None),
        (blocking_function, None, "500"),
        (blocking_function, None, 500),
        (blocking_function, None, (500,)),
        (blocking_function, [(ValueError, 400)], None),
        (blocking_function, ValueError, None),
    ],
)
def test_a_mapping_that_is_not_as_described_is_a_config_error(handler: Any, errors: Any, default: Any) -> None:
    with pytest.raises(ConfigError):
        with_error_handling(handler, errors, default=default)


def test_an_exception_is_its_own_leaf() -> None:
    error = ValueError()
    assert error_leaf(error) is error


def test_a_group_of_several_is_its_own_leaf_at_whatever_depth() -> None:
    several = ExceptionGroup("several", [ValueError(), KeyError()])
    assert error_leaf(ExceptionGroup("outer", [several])) is several


def test_a_cancellation_alone_in_a_group_is_its_leaf() -> None:
    error = KeyboardInterrupt()
    assert error_leaf(BaseExceptionGroup("x", [error])) is error
