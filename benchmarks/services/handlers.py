"""What every service does with a request, whichever library runs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

from benchmarks.subjects import HEADER, HEADERS, SERVICE, WAIT, WAITING, echo_subjects

__all__ = ["Handlers", "async_handlers", "blocking_handlers"]

Handler = Callable[[Any], Any]


class Handlers(NamedTuple):
    """The handlers of a service.

    Attributes:
        echo: Answers with what was asked.
        echo_header: The same, and reads a header, and sends it back.
        wait: Answers with what was asked, but later.
    """

    echo: Handler
    echo_header: Handler
    wait: Handler

    def endpoints(self, count: int) -> Iterator[tuple[str, str, Handler]]:
        """Yield name, subject and handler of so many endpoints that echo; if it is one, of the other two as well."""
        for subject in echo_subjects(count):
            yield subject.removeprefix(f"{SERVICE}.").replace(".", "-"), subject, self.echo
        if count == 1:
            yield "headers", HEADERS, self.echo_header
            yield "wait", WAIT, self.wait


def async_handlers(sleep: Callable[[float], Awaitable[None]]) -> Handlers:
    """Return those of all services but those that block, given what waits in their event loop."""

    async def echo(request: Any) -> None:
        await request.respond(request.data)

    async def echo_header(request: Any) -> None:
        await request.respond(request.data, headers={HEADER: request.headers[HEADER]})

    async def wait(request: Any) -> None:
        await sleep(WAITING)
        await request.respond(request.data)

    return Handlers(echo, echo_header, wait)


def blocking_handlers(sleep: Callable[[float], None]) -> Handlers:
    """Return the same as plain functions."""

    def echo(request: Any) -> None:
        request.respond(request.data)

    def echo_header(request: Any) -> None:
        request.respond(request.data, headers={HEADER: request.headers[HEADER]})

    def wait(request: Any) -> None:
        sleep(WAITING)
        request.respond(request.data)

    return Handlers(echo, echo_header, wait)
