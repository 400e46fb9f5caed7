"""What waits to be sent: for the socket while there is one, for the reconnect while there is none.

Of its commands, only publications outlive a connection; the others are made anew for the next one.
"""

from __future__ import annotations

__all__ = ["EARLY", "READ_SIZE", "WRITE_SIZE", "Outbox", "read_size"]

EARLY = 128
"""So many replies are written once before the end of what is handled in one go: the server works on them meanwhile.

Otherwise many requests come at once and are answered at once, and everybody waits for everybody. To write as many bytes
early instead as these have with 16 bytes each gives 0.8 to 0.9 x the requests a second where they have 128 or 1,024: in
pieces of ten replies, to write takes as long as to handle them.
"""

WRITE_SIZE = 64 * 1024
"""So many bytes are not left to wait on an event loop: a task that publishes without pause writes them, and waits."""

_PUBLICATIONS = (b"PUB ", b"HPUB ")


READ_SIZE = 64 * 1024
"""So many bytes are read at once at most."""

_READ_TOGETHER = 100
"""So many messages are read at once where there are more: what comes of them is sent before the next are read.

Where tasks read on without waiting, a request takes 0.95 x the CPU time so, and 1.1 x as many are answered a second:
the server and who asks have something to do all the time. 85 to 130 are as good, 64 are not.
"""

_LEAST_READ = 4 * 1024


def read_size(size: int, messages: int) -> int:
    """Return how many bytes to read next, when so many were so many messages."""
    if not messages:
        return READ_SIZE  # they are a part of a large one
    return min(max(_LEAST_READ, size * _READ_TOGETHER // messages), READ_SIZE)


class Outbox:
    """Commands to be sent, in their order.

    Attributes:
        commands: The commands.
        size: How many bytes they have.
    """

    __slots__ = ("commands", "size")

    def __init__(self) -> None:
        self.commands: list[bytes] = []
        self.size = 0

    def add(self, command: bytes) -> None:
        """Send a command after all others."""
        self.commands.append(command)
        self.size += len(command)

    def take(self) -> bytes:
        """Return all commands, and forget them."""
        commands = self.commands
        data = commands[0] if len(commands) == 1 else b"".join(commands)
        commands.clear()
        self.size = 0
        return data

    def connection_lost(self) -> None:
        """Forget what was of the lost connection only. What is still here was certainly not sent."""
        self._replace([command for command in self.commands if command.startswith(_PUBLICATIONS)])

    def connection_made(self, first: list[bytes], max_payload: int) -> list[int]:
        """Put commands before those that wait; return the sizes of the publications that this server won't take."""
        refused = []
        taken = first
        for command in self.commands:
            size = _payload_size(command)
            if size <= max_payload:
                taken.append(command)
            else:
                refused.append(size)
        self._replace(taken)
        return refused

    def _replace(self, commands: list[bytes]) -> None:
        self.commands = commands
        self.size = sum(map(len, commands))


def _payload_size(command: bytes) -> int:
    """How many bytes of headers and data a publication carries: the last of its arguments."""
    return int(command[: command.index(b"\r\n")].rpartition(b" ")[2])
