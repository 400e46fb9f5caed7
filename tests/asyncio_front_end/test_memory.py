"""What asyncio reads into is not fetched from the system anew for each read."""

from __future__ import annotations

import platform
import subprocess
import sys
import textwrap

import pytest

READS = 500

PROGRAM = """
import resource
import socket

from natsvc.asyncio.memory import keep_freed_memory


def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range({reads}):
        sender.send(b"x" * 4096)
        receiver.recv(256 * 1024)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


sender, receiver = socket.socketpair()
keep_freed_memory()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the limits are those of the GNU C library")
def test_large_reads_cost_no_page_faults() -> None:
    program = textwrap.dedent(PROGRAM).format(reads=READS)
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert int(run.stdout) < READS / 10, (
        "otherwise there are three or more a read, where the program is as small as this"
    )
