"""`serve --reload`: the service runs in a process of its own, and in a new one after each change of its files.

The new instance starts first, and the old one drains when it is up: so there is no moment without an instance, no
request is lost, and code that can't be started changes nothing. A child is told to stop by the end of its pipe, which
the operating system brings about even if this process is killed; and it is told by nothing else, for two signals would
cut its draining short.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from natsvc.cli.loading import LoadError
from natsvc.cli.output import CommandError
from natsvc.cli.serve import Program, run, say
from natsvc.cli.serving import SIGNALS
from natsvc.errors import NatsvcError
from natsvc.signals import first_signal

if TYPE_CHECKING:
    from natsvc.cli.settings import ConnectionSettings

__all__ = ["serve_and_reload"]

_TICK = 100
"""Milliseconds between two looks at how the children do."""

_JOIN_PIECE = 0.25
"""Seconds that the main thread waits without a look at whether there was a signal, where none interrupts the wait."""

_UP = b"up"
_SHOWN_FILES = 3


def serve_and_reload(settings: ConnectionSettings, program: Program) -> None:
    """Run the program, start it anew when Python files below its directory change, and drain it when told to stop.

    Args:
        settings: How to connect.
        program: What to run.

    Raises:
        CommandError: Watching files needs a package that is missing, or the last instance ended by an error.
        KeyboardInterrupt: A second SIGINT has cut the stop short.
    """
    try:
        from watchfiles import PythonFilter, watch
    except ModuleNotFoundError:
        raise CommandError("--reload needs the package watchfiles: pip install 'natsvc[reload]'") from None
    told = threading.Event()
    changes_of_files = watch(
        program.directory,
        watch_filter=PythonFilter(),
        rust_timeout=_TICK,
        yield_on_timeout=True,
        stop_event=told,
        raise_interrupt=False,
    )
    with first_signal(SIGNALS, told.set), _Instances(settings, program) as instances:
        # The first turn comes when files are being watched: no change is missed while the first instance starts.
        for turn, changes in enumerate(changes_of_files):
            if changes and turn:
                say(f"{_named({path for _, path in changes}, program.directory)} changed; starting anew")
            if changes or not turn:
                instances.start_another()
            instances.look()
        instances.drain()


class _Child:
    """One instance of the service, in a process of its own."""

    def __init__(self, settings: ConnectionSettings, program: Program) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process: SpawnProcess = context.Process(target=_run_child, args=(theirs, settings, program))
        with _interrupts_held_back():
            self._process.start()
        theirs.close()
        self.is_up = False

    @property
    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.exitcode

    def look(self) -> bool:
        """Return whether it has come up since the last look."""
        if self.is_up or self._pipe.closed:
            return False
        with contextlib.suppress(EOFError, OSError):
            self.is_up = self._pipe.poll() and self._pipe.recv_bytes() == _UP
        return self.is_up

    def stop(self) -> None:
        """Have it drain and end; if it is not up yet, end at once."""
        self._pipe.close()
        if not self.is_up:
            self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        self._pipe.close()
        self._process.kill()

    def join(self) -> None:
        """Wait until it has ended."""
        while self._process.is_alive():
            self._process.join(_JOIN_PIECE)


class _Instances:
    """The instance that serves, those that are to take its place, oldest first, and those that drain."""

    def __init__(self, settings: ConnectionSettings, program: Program) -> None:
        self._settings = settings
        self._program = program
        self._serving: _Child | None = None
        self._starting: list[_Child] = []
        self._draining: list[_Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for child in self._all():
            child.kill()

    def start_another(self) -> None:
        """Start an instance.

        Another one that is still starting has code that is out of date. But where none serves, that is better than
        nothing: it may come up at this very moment, and be the only one until the new one is up.
        """
        self.look()
        if self._serving is not None:
            self._stop(self._starting)
            self._starting = []
        self._starting.append(_Child(self._settings, self._program))

    def look(self) -> None:
        """See what has become of the instances; one that is up takes the place of all that are older."""
        self._draining = [child for child in self._draining if child.status is None]
        for position in reversed(range(len(self._starting))):
            child = self._starting[position]
            if child.look():
                self._stop([*self._starting[:position], *filter(None, [self._serving])])
                self._serving, self._starting = child, self._starting[position + 1 :]
                break
            if child.status is not None:
                del self._starting[position]
                self._tell_that_none_has_started()
        if self._serving is not None and self._serving.status is not None:
            say(f"the instance has ended with status {self._serving.status}; waiting for a change of files")
            self._serving = None

    def drain(self) -> None:
        """Stop all instances, and wait until they have ended.

        Raises:
            CommandError: The one that served has ended by an error.
        """
        self.look()
        last = self._serving
        for child in self._all():
            child.stop()
        for child in self._all():
            child.join()
        if last is not None and last.status:
            raise CommandError(f"the instance has ended with status {last.status}")

    def _stop(self, children: Iterable[_Child]) -> None:
        for child in children:
            child.stop()
            self._draining.append(child)

    def _tell_that_none_has_started(self) -> None:
        if self._serving is not None:
            say("the new code did not start; the instance with the old code serves on")
        elif not self._starting:
            say("it did not start; waiting for a change of files")

    def _all(self) -> list[_Child]:
        return [*filter(None, [self._serving]), *self._starting, *self._draining]


def _run_child(pipe: Connection, settings: ConnectionSettings, program: Program) -> None:
    """Run an instance, in its own process."""
    # Ctrl-C goes to all processes of the terminal: the parent has heard it, and ends the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def wait_for_the_end(stop: Callable[[], object]) -> None:
        with contextlib.suppress(EOFError, OSError):
            pipe.recv_bytes()
        with contextlib.suppress(RuntimeError):  # the event loop has ended by itself
            stop()

    @contextlib.contextmanager
    def watch(stop: Callable[[], object]) -> Iterator[None]:
        threading.Thread(target=wait_for_the_end, args=(stop,), name="natsvc-serve-parent", daemon=True).start()
        with first_signal((signal.SIGTERM,), stop):
            yield

    def tell_that_it_is_up() -> None:
        with contextlib.suppress(OSError):  # the parent has gone: the end of the pipe says so, too
            pipe.send_bytes(_UP)

    try:
        run(settings, program, watch=watch, on_up=tell_that_it_is_up)
    except (CommandError, NatsvcError) as error:
        if isinstance(error, LoadError):
            traceback.print_exception(error.__cause__)
        say(str(error))
        sys.exit(1)


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """What is started within the block doesn't get SIGINT until it asks for it; this process gets it afterwards."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _named(paths: set[str], directory: Path) -> str:
    root = directory.resolve()
    names = sorted(str(Path(path).relative_to(root)) if Path(path).is_relative_to(root) else path for path in paths)
    more = len(names) - _SHOWN_FILES
    return ", ".join(names[:_SHOWN_FILES]) + (f" and {more} more" if more > 0 else "")
