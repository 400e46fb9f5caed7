"""Measures what natsvc has to reach, and no more: how fast a service answers, beside nats.micro on nats-py.

    python -m benchmarks.service

Its turns are longer than those of `python -m benchmarks`, but fewer take part, and it has an answer sooner.
"""

from __future__ import annotations

import sys

from benchmarks import program
from benchmarks.floors import CONTESTANTS, PARTS

_DESCRIPTION = (__doc__ or "").split("\n\n")[0]

if __name__ == "__main__":
    sys.exit(program.main("benchmarks.service", _DESCRIPTION, parts=PARTS, seconds=2.0, contenders=CONTESTANTS))
