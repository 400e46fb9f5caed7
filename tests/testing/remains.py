"""What servers have left behind: where they keep their files is watched, and who still knows of that place."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["listens", "remains"]


def remains(directory: Path) -> list[str]:
    """Return the directories of servers within this one, and, on Linux, the processes with a path in it as argument.

    Those are nats-servers, which have their configuration there, and their guards.
    """
    return [str(path) for path in directory.glob("natsvc-server-*")] + list(_processes_with(directory))


def listens(port: int) -> bool:
    """Say whether somebody listens there.

    Unlike a process's id, the port is free also while an orphan waits for the system to collect it.
    """
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionError:
        return False
    return True


def _processes_with(directory: Path) -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            arguments = path.read_text(errors="replace").split("\0")
            if any(argument.startswith(f"{directory}/natsvc-server-") for argument in arguments):
                yield " ".join(arguments)
