"""Answers read in full, with no regard to time: to see that a contender says what it should, before it is measured."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.processes import BenchmarkError

__all__ = ["Answer", "read_answers"]

_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """A message from the server.

    Attributes:
        subject: Where it came to.
        data: What it carries.
        headers: Its headers, names as written.
        size: The bytes it took on the wire.
    """

    subject: bytes
    data: bytes
    headers: tuple[tuple[str, str], ...]
    size: int

    def shown(self) -> str:
        """Return what an error message has room for."""
        text = repr(self)
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def read_answers(received: bytes) -> tuple[list[Answer], bytes]:
    """Take apart what has been received.

    Returns:
        The messages, and the bytes behind the last whole one. A PING among them is left out, and not answered: the
        server waits minutes for that.

    Raises:
        BenchmarkError: There is something that is neither.
    """
    answers: list[Answer] = []
    begin = 0
    while (line_end := received.find(b"\r\n", begin)) >= 0:
        verb, *arguments = received[begin:line_end].split() or [b""]
        if verb == b"PING":
            begin = line_end + 2
            continue
        if verb not in (b"MSG", b"HMSG"):
            raise BenchmarkError(f"the server has sent {received[begin:line_end]!r}")
        end = line_end + 2 + int(arguments[-1]) + 2
        if len(received) < end:
            break
        body = received[line_end + 2 : end - 2]
        header_size = int(arguments[-2]) if verb == b"HMSG" else 0
        headers = _read_headers(body[:header_size])
        answers.append(Answer(arguments[0], body[header_size:], headers, end - begin))
        begin = end
    return answers, received[begin:]


def _read_headers(block: bytes) -> tuple[tuple[str, str], ...]:
    lines = block.decode().split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if line)
    return tuple((name, value.strip()) for name, _, value in pairs)
