"""Who takes part: each with the command that runs its service, and the one that calls a service.

Who can't take part on this machine says why, and is a row of every table nevertheless.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from dataclasses import dataclass

from benchmarks import javascript

__all__ = ["CONTENDERS", "JAVASCRIPT", "REFERENCE", "Contender"]

_UVLOOP = "uvloop"

_NEEDED = {"natsio": "natsio", "natsvc.anyio on trio": "trio", "bare trio": "trio"}
"""The package, beside those of natsvc itself, that a kind of service needs."""

_LIMITS = {
    "natsvc": "bare asyncio",
    "natsvc.anyio on asyncio": "bare asyncio",
    "natsvc.anyio on trio": "bare trio",
    "natsvc.sync": "bare thread",
}
"""The bare echo in the same process model, for natsvc on connections of its own."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One who takes part.

    Attributes:
        kind: What it is called in `services/` and `callers.py`.
        uvloop: Whether it runs on uvloop in place of the event loop that Python has.
        is_limit: Whether it only echoes: it is no service, has no headers, waits for nothing, and calls nobody.
    """

    kind: str
    uvloop: bool = False
    is_limit: bool = False

    @property
    def name(self) -> str:
        """What it is called in the tables."""
        return f"{self.kind}, {_UVLOOP}" if self.uvloop else self.kind

    @property
    def limit(self) -> str | None:
        """The name of the limit that goes for natsvc here: the bare echo in the same process model."""
        bare = _LIMITS.get(self.kind)
        return None if bare is None else Contender(bare, uvloop=self.uvloop).name

    def missing(self) -> str | None:
        """Return why it can't take part here, or None if it can."""
        if self.kind == JAVASCRIPT:
            try:
                javascript.installation()
            except javascript.MissingNodeError as reason:
                return str(reason)
            return None
        if self.kind == "natsio" and sys.version_info < (3, 13):
            return "natsio needs Python 3.13"
        needed = [package for package in (_NEEDED.get(self.kind), _UVLOOP if self.uvloop else None) if package]
        absent = [package for package in needed if importlib.util.find_spec(package) is None]
        return f"{absent[0]} is not installed" if absent else None

    def service(self, url: str, endpoints: int) -> list[str]:
        """Return the command that runs its service, with so many endpoints."""
        return self._command("service", url, str(endpoints))

    def caller(self, url: str, seconds: float) -> list[str]:
        """Return the command that calls a service for so many seconds."""
        return self._command("caller", url, str(seconds))

    def _command(self, program: str, *arguments: str) -> list[str]:
        if self.kind == JAVASCRIPT:
            node = shutil.which("node") or "node"
            return [node, str(javascript.installation() / f"{program}.mjs"), *arguments]
        options = [_UVLOOP] if self.uvloop else []
        return [sys.executable, "-m", f"benchmarks.{program}s", self.kind, *arguments, *options]


REFERENCE = "nats.micro"
"""The contender that the others are compared with."""

JAVASCRIPT = "JavaScript"
"""The contender that natsvc is to come near to."""

CONTENDERS: dict[str, Contender] = {
    contender.name: contender
    for contender in (
        Contender(REFERENCE),
        Contender(REFERENCE, uvloop=True),
        Contender("natsio"),
        Contender("natsvc on nats-py"),
        Contender("natsvc on nats-py", uvloop=True),
        Contender("natsvc"),
        Contender("natsvc", uvloop=True),
        Contender("natsvc.anyio on asyncio"),
        Contender("natsvc.anyio on asyncio", uvloop=True),
        Contender("natsvc.anyio on trio"),
        Contender("natsvc.sync"),
        Contender(JAVASCRIPT),
        Contender("bare asyncio", is_limit=True),
        Contender("bare asyncio", uvloop=True, is_limit=True),
        Contender("bare trio", is_limit=True),
        Contender("bare thread", is_limit=True),
    )
}
