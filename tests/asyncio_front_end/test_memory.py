"""What asyncio reads into is not fetched from the system anew for each read."""

from __future__ import annotations

import contextlib
import platform
import subprocess
import sys
import textwrap

import nats
import pytest

from natsvc import NatsvcError
from natsvc.asyncio import ServiceClient, add_service, connect
from natsvc.asyncio.memory import keep_freed_memory
from natsvc.testing import NatsServer

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


async def test_every_connection_sees_to_that(server: NatsServer) -> None:
    keep_freed_memory.cache_clear()
    async with await connect(server.url):
        assert keep_freed_memory.cache_info().currsize == 1
    nc = await nats.connect(server.url)
    try:
        for use in (lambda: add_service(nc, name="keeps"), lambda: ServiceClient(nc)):
            keep_freed_memory.cache_clear()
            user = use()
            if isinstance(user, ServiceClient):
                with contextlib.suppress(NatsvcError):
                    await user.request("nobody.there", b"")
            else:
                await (await user).stop()
            assert keep_freed_memory.cache_info().currsize == 1
    finally:
        await nc.close()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the limits are those of the GNU C library")
def test_large_reads_cost_no_page_faults() -> None:
    program = textwrap.dedent(PROGRAM).format(reads=READS)
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert int(run.stdout) < READS / 10, (
        "otherwise there are three or more a read, where the program is as small as this"
    )
