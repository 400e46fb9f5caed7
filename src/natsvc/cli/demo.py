"""The command that shows what natsvc does: a service on three front-ends, some thousand requests, what came of them.

It checks what it shows: if one number is not as it must be, the command ends with an error.
"""

from __future__ import annotations

import contextlib
import importlib.util
import queue
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from natsvc.cli.demo_processes import running_instances
from natsvc.cli.demo_service import NAME
from natsvc.cli.demo_story import REQUESTS, Story
from natsvc.cli.output import CommandError, format_count, print_json, print_text
from natsvc.cli.settings import ConnectionSettings
from natsvc.signals import first_signal
from natsvc.sync import ServiceClient
from natsvc.testing import NatsServer, NatsServerError

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["demo"]

_INSTALL = "pip install 'natsvc[demo]'"
_SIGNAL_STATUS = 128  # what shells add to the number of the signal that has ended a process
_WAKE_INTERVAL = 1.0

_NEXT = (
    "ls",
    f"info {NAME}",
    f"stats {NAME}",
    f"request {NAME} greet Ada",
    f'request {NAME} divide \'{{"a": 22, "b": 7}}\'',
    f"bench {NAME}.greet --data Ada",
    "top",
    "serve natsvc.cli.demo_service:definition --on trio",
)
"""What to try on the running service: one command for each thing that there is."""


def demo(settings: ConnectionSettings, *, keep: bool, as_json: bool) -> None:
    """Run the demo.

    Args:
        settings: The server to use, if a server or a context is named. A context that is merely selected doesn't
            count, for nobody has said that it may be used for this. Otherwise a nats-server is started, and ended.
        keep: Keep running until SIGTERM or Ctrl-C, so that other commands can be tried.
        as_json: Print JSON.

    Raises:
        CommandError: Something is not as it must be; or what the extra `demo` brings is missing; or such a demo runs
            on that server already.
        NatsvcError: The server can't be reached, or an instance can't be run there.
        KeyboardInterrupt: Ctrl-C has ended it.
        SystemExit: SIGTERM has ended it.
    """
    if importlib.util.find_spec("trio") is None:
        raise CommandError(f"the demo runs a service on trio, which is not installed: {_INSTALL}")
    is_own = settings.server is None and settings.context is None
    with contextlib.ExitStack() as stack:
        stack.enter_context(_ended_by_sigterm())
        if is_own:
            settings = ConnectionSettings(
                server=stack.enter_context(_own_server()), no_context=True, timeout=settings.timeout
            )
        url = _find_server(settings)
        instances = stack.enter_context(running_instances(settings))
        if not as_json:
            print_text(f"A nats-server for this demo alone: {url}" if is_own else f"The server: {url}")
            print_text(f"One service, {NAME!r}, on {', '.join(one.front_end for one in instances)}")
            print_text(f"{format_count(REQUESTS)} requests to it, of which some are bad\n")
            sys.stdout.flush()
        story = Story(settings, instances)
        story.run()
        problems = story.problems()
        if as_json:
            print_json({"server": url, **story.to_dict()})
        else:
            story.tell(_command())
        if problems:
            raise CommandError(f"the demo has gone wrong: {'; '.join(problems)}")
        if not as_json:
            _tell_what_next(url, is_own=is_own, is_kept=keep)
        sys.stdout.flush()
        if keep:
            _wait_for_signal()


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Have SIGTERM leave the block as an exception, so that nothing is left behind."""

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(_SIGNAL_STATUS + number)

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextlib.contextmanager
def _own_server() -> Iterator[str]:
    server = NatsServer()
    try:
        server.start()
    except NatsServerError as error:
        raise CommandError(f"{error}; or name a server that runs with --server") from error
    try:
        yield server.url
    finally:
        server.stop()


def _find_server(settings: ConnectionSettings) -> str:
    """Return the server's URL, without credentials.

    Raises:
        CommandError: There is a service of that name already, which would take a share of the requests.
    """
    with settings.connect() as nc:
        if ServiceClient(nc).ping(NAME, timeout=settings.timeout, limit=1):
            raise CommandError(f"on this server a service {NAME!r} runs already: end it, or take another server")
        return str(nc.connected_url)


def _tell_what_next(url: str, *, is_own: bool, is_kept: bool) -> None:
    command = _command()
    print_text("")
    if not is_kept:
        print_text("Try next")
        print_text(f"  {command} demo --keep    keeps running, and names commands to try on it")
        print_text(f"  {command} --help         names all that there are")
        return
    where = f" --server {url}" if is_own else ""
    print_text("It keeps running until Ctrl-C. Try in another terminal" + ("" if is_own else ", on the same server"))
    for arguments in _NEXT:
        print_text(f"  {command} {arguments}{where}")


def _command() -> str:
    """Return how to run this command again from the user's shell: it may lie where no PATH leads."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m natsvc"
    found = shutil.which(program.name)
    if found is not None and Path(found).samefile(program):
        return program.name
    return shlex.quote(str(program))


def _wait_for_signal() -> None:
    # Of what a signal's handler may call while the same thread waits, only this queue is safe.
    ended: queue.SimpleQueue[None] = queue.SimpleQueue()
    with first_signal((signal.SIGTERM, signal.SIGINT), lambda: ended.put(None)):
        while True:
            # On Windows, a wait without an end can't be interrupted.
            with contextlib.suppress(queue.Empty):
                return ended.get(timeout=_WAKE_INTERVAL)
