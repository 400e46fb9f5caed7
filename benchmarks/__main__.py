"""Measures it all: natsvc, and other ways to run and call services, in one run on one machine.

python -m benchmarks
"""

from __future__ import annotations

import sys

from benchmarks import program
from benchmarks.metrics import Part

if __name__ == "__main__":
    sys.exit(program.main("benchmarks", (__doc__ or "").split("\n\n")[0], parts=[*Part], seconds=0.8))
