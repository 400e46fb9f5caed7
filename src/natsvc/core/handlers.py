"""What stands between a request and a user's function: middleware, error mapping, and whether the function is async."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from natsvc.core.config import Handler, Middleware
from natsvc.errors import ConfigError, ServiceError

__all__ = ["ErrorCodes", "compose", "error_leaf", "is_async", "with_error_handling"]

_Answer: TypeAlias = str | int | tuple[str | int, str]


class ErrorCodes:
    """Error codes in words, each its own name.

    ADR-32 asks for codes that can be read as numbers. Words say more to people and are sent as they are; the client of
    JavaScript reads them as 400.
    """

    INVALID_INPUT = "INVALID_INPUT"
    NOT_FOUND = "NOT_FOUND"
    UNAUTHORIZED = "UNAUTHORIZED"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    RATE_LIMITED = "RATE_LIMITED"


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives something to await; sees through partials, methods and callable objects."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def compose(middleware: Sequence[Middleware], handler: Handler) -> Handler:
    """Return a handler that runs the middleware, outermost first, around the given one."""
    for one in reversed(middleware):
        handler = functools.partial(_call_with_next, one, handler)
    return handler


def with_error_handling(
    handler: Handler,
    errors: Mapping[Any, _Answer] | None = None,
    *,
    default: tuple[str | int, str] | None = None,
) -> Handler:
    """Wrap a handler so that its exceptions become error replies.

    Args:
        handler: The handler, `async def` or `def`; the wrapped one is of the same kind.
        errors: What exceptions mean, by class. A code: the exception's text is the description. A code and a
            description: these. Of several classes that fit, the most specific one counts.
        default: The code and description for exceptions that `errors` does not name. None: they stay what they are,
            and are answered with 500.

    Returns:
        The wrapped handler. A ServiceError passes through it; an ExceptionGroup of one exception counts as that.

    Raises:
        ConfigError: The handler is not callable, or `errors` or `default` is not as described.
    """
    if not callable(handler):
        raise ConfigError("handler", handler, "must be callable")
    answers: dict[type[BaseException], tuple[str | int, str | None]] = {}
    if errors is not None and not isinstance(errors, Mapping):
        raise ConfigError("errors", errors, "must be a mapping of exception classes")
    for kind, answer in (errors or {}).items():
        if not isinstance(kind, type) or not issubclass(kind, BaseException):
            raise ConfigError("errors", kind, "must have exception classes as keys")
        answers[kind] = _checked_answer(f"errors[{kind.__name__}]", answer)
    if default is not None:
        default = _checked_default(default)

    def translate(error: Exception) -> ServiceError | None:
        leaf = error_leaf(error)
        if isinstance(leaf, ServiceError):
            return None
        for kind in type(leaf).__mro__:
            if kind in answers:
                code, description = answers[kind]
                return ServiceError(code, str(leaf) if description is None else description)
        return None if default is None else ServiceError(*default)

    if is_async(handler):

        @functools.wraps(handler)
        async def handle_async(request: Any) -> Any:
            try:
                return await handler(request)
            except Exception as error:
                translated = translate(error)
                if translated is None:
                    raise
                raise translated from error

        return handle_async

    @functools.wraps(handler)
    def handle(request: Any) -> Any:
        try:
            return handler(request)
        except Exception as error:
            translated = translate(error)
            if translated is None:
                raise
            raise translated from error

    return handle


def error_leaf(error: BaseException) -> BaseException:
    """Return what an ExceptionGroup with one leaf holds, at whatever depth; any other exception is its own leaf."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _call_with_next(middleware: Middleware, call_next: Handler, request: Any) -> Any:
    return middleware(request, call_next)


def _checked_default(default: object) -> tuple[str | int, str]:
    code, description = _checked_answer("default", default)
    if description is None:
        raise ConfigError("default", default, "must be a code and a description")
    return code, description


def _checked_answer(where: str, answer: object) -> tuple[str | int, str | None]:
    if isinstance(answer, (str, int)):
        return answer, None
    if isinstance(answer, tuple) and len(answer) == 2:
        code, description = answer
        if isinstance(code, (str, int)) and isinstance(description, str):
            return code, description
    raise ConfigError(where, answer, "must be a code, or a code and a description")
