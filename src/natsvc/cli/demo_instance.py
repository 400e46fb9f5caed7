"""One instance of the demo's service, as a process of its own, so that it shares no interpreter with the others.

It is told how to connect by the first line of its stdin, and ends when that is closed: by the demo, or by the operating
system if the demo is killed. Each line of its stdout is one Word, as JSON.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Literal

from natsvc.cli.demo_service import FRONT_END, definition
from natsvc.cli.output import CommandError
from natsvc.cli.settings import ConnectionSettings
from natsvc.errors import NatsvcError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["FRONT_ENDS", "Word", "main"]

FRONT_ENDS = ("asyncio", "trio", "threads")

Word = Literal["id", "reported", "failed"]
"""What an instance says: it is up and has this id; its error_handler was told this; it can't run, for this reason."""


def main() -> None:
    """Run an instance on the front-end that the command line names."""
    front_end = sys.argv[1]
    settings = ConnectionSettings(**json.loads(sys.stdin.readline()))
    # What would be a traceback in the log is told to the demo.
    logging.getLogger("natsvc").setLevel(logging.CRITICAL)
    FRONT_END.set(front_end)
    try:
        with _running(front_end, settings.arguments()) as id:
            _say("id", id)
            sys.stdin.read()
    except (CommandError, NatsvcError) as error:
        _say("failed", str(error))
        sys.exit(1)


def _running(front_end: str, connection: dict[str, Any]) -> contextlib.AbstractContextManager[str]:
    if front_end == "threads":
        return _in_threads(connection)
    if front_end == "trio":
        import natsvc.anyio

        return _on_a_loop("trio", natsvc.anyio, connection)
    import natsvc.asyncio

    return _on_a_loop("asyncio", natsvc.asyncio, connection)


@contextlib.contextmanager
def _in_threads(connection: dict[str, Any]) -> Iterator[str]:
    from natsvc.sync import add_service, connect

    with connect(**connection) as nc, add_service(nc, definition, **_fields()) as service:
        yield service.id


@contextlib.contextmanager
def _on_a_loop(backend: Literal["asyncio", "trio"], front_end: ModuleType, connection: dict[str, Any]) -> Iterator[str]:
    from anyio.from_thread import start_blocking_portal

    @contextlib.asynccontextmanager
    async def serve() -> AsyncIterator[str]:
        async with (
            front_end.connect(**connection) as nc,
            front_end.add_service(nc, definition, **_fields()) as service,
        ):
            yield service.id

    # The loop has a thread, so that the main one can wait for the end of stdin, which not every loop can on Windows.
    with start_blocking_portal(backend) as portal, portal.wrap_async_context_manager(serve()) as id:
        yield id


def _fields() -> dict[str, Any]:
    return {"metadata": {"front_end": FRONT_END.get()}, "error_handler": _report}


def _report(_service: object, error: BaseException, _request: object) -> None:
    _say("reported", f"{type(error).__name__}: {error}")


def _say(word: Word, text: str) -> None:
    print(json.dumps({word: text}), flush=True)


if __name__ == "__main__":
    main()
