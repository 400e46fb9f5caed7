"""What else the machine did meanwhile: numbers taken beside other work are worth less, and a report should say so."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Watch"]

_STAT = Path("/proc/stat")


@dataclass(frozen=True, slots=True)
class _Moment:
    """Seconds so far.

    Attributes:
        time: On a clock.
        busy: That the machine's cores were busy, with whatever process.
        stolen: That they weren't there, for a virtual machine's host had others to serve.
        own: That this process, and those that it started and that have ended, used.
    """

    time: float
    busy: float
    stolen: float
    own: float


class Watch:
    """Watches the machine from now on."""

    def __init__(self) -> None:
        self._begin = _now()

    def others(self) -> str:
        """Return, as text, how many cores other programs have had on average; processes still running are others."""
        begin, end = self._begin, _now()
        if begin is None or end is None:
            return "not measured, that is read as Linux shows it"
        elapsed = end.time - begin.time
        # What the kernel counts in ticks may be a little less than what it counts in nanoseconds.
        others = max(0.0, (end.busy - begin.busy) - (end.own - begin.own)) / elapsed
        stolen = (end.stolen - begin.stolen) / elapsed
        return f"other programs had {others:.2f} of {os.cpu_count()} CPUs on average, the machine's host {stolen:.2f}"


def _now() -> _Moment | None:
    try:
        name, *ticks = _STAT.read_text(encoding="ascii").split("\n", 1)[0].split()
    except OSError:
        return None
    assert name == "cpu"
    # See proc_stat(5). Time in interrupts is nobody's, so it is not counted.
    user, nice, system, _idle, _iowait, _irq, _softirq, steal, *_ = (
        int(count) / os.sysconf("SC_CLK_TCK") for count in ticks
    )
    return _Moment(time.perf_counter(), busy=user + nice + system, stolen=steal, own=sum(os.times()[:4]))
