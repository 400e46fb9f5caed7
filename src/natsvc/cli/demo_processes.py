"""Starts the instances of the demo's service, listens to what they say, and ends them, however the demo ends."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Self

from natsvc.cli.demo_instance import FRONT_ENDS, Word
from natsvc.cli.output import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from natsvc.cli.settings import ConnectionSettings

__all__ = ["Instance", "running_instances"]

_START_LIMIT = 30.0
_END_LIMIT = 10.0

# Ctrl-C goes to the terminal's whole process group; the instances are ended by the demo, after what it has to do yet.
_GROUP_FLAG: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)


class Instance:
    """One instance of the service.

    Args:
        front_end: Where it runs, one of FRONT_ENDS.
        settings: How it connects.

    Attributes:
        front_end: Where it runs.
        id: Its id, as discovery shows it; "" until it is up.
        reported: What its error_handler was told.
    """

    def __init__(self, front_end: str, settings: ConnectionSettings) -> None:
        self.front_end = front_end
        self.id = ""
        self.reported: list[str] = []
        self._failure = "it ended"
        self._is_told = threading.Event()  # that it is up, or that it will never be
        # -P: a module in the user's directory must not stand in for one of ours.
        command = [sys.executable, "-P", "-m", "natsvc.cli.demo_instance", front_end]
        self._process = subprocess.Popen(  # noqa: S603 - our own module, no shell
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            process_group=0,
            creationflags=_GROUP_FLAG,
        )
        threading.Thread(target=self._listen, daemon=True).start()
        self._tell(dataclasses.asdict(settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.leave()
            self._process.wait(_END_LIMIT)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._process.kill()
            self._process.wait()

    def wait_until_up(self) -> None:
        """Return when it is up.

        Raises:
            CommandError: It can't run.
        """
        if not self._is_told.wait(_START_LIMIT):
            self._failure = f"it was not up within {_START_LIMIT:g} s"
        if not self.id:
            raise CommandError(f"the instance on {self.front_end} could not be run: {self._failure}")

    def leave(self) -> None:
        """Have it drain and end, without waiting for it."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):  # it has ended already
                self._process.stdin.close()

    def _tell(self, settings: dict[str, Any]) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.write(json.dumps(settings) + "\n")
                self._process.stdin.flush()

    def _listen(self) -> None:
        words: Iterable[str] = self._process.stdout or ()
        for line in words:
            said: dict[Word, str] = json.loads(line)
            for word, text in said.items():
                if word == "reported":
                    self.reported.append(text)
                elif word == "failed":
                    self._failure = text
                else:
                    self.id = text
                    self._is_told.set()
        self._is_told.set()


@contextlib.contextmanager
def running_instances(settings: ConnectionSettings) -> Iterator[list[Instance]]:
    """Run the service on each front-end within the block; when it is left, all instances drain and end.

    Raises:
        CommandError: One of them can't run.
    """
    with contextlib.ExitStack() as stack:
        instances = [stack.enter_context(Instance(front_end, settings)) for front_end in FRONT_ENDS]
        # Last in, first out: they all begin to leave before the first one is waited for.
        for instance in instances:
            stack.callback(instance.leave)
        for instance in instances:
            instance.wait_until_up()
        yield instances
