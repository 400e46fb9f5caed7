"""Design: the first SIGTERM or SIGINT drains and returns, the second acts as without natsvc."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from natsvc.testing import NatsServer
from tests.plain_client import PlainClient
from tests.worlds import eventually, interest

PROGRAM = """
import os, sys
import anyio
from natsvc.anyio import add_service, connect

async def slow(request):
    print("begun", flush=True)
    await anyio.sleep({seconds})
    return b"served"

async def main():
    async with connect(os.environ["NATS_URL"]) as nc:
        async with add_service(nc, name="signalled") as service:
            await service.add_endpoint("signalled-e", handler=slow)
            print("ready", flush=True)
            await service.serve_forever()
    print("left", flush=True)

anyio.run(main, backend={backend!r})
print("ended", flush=True)
"""


def start(server: NatsServer, backend: str, seconds: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM).format(backend=backend, seconds=seconds)],
        env={**os.environ, "NATS_URL": server.url},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert line(process) == "ready"
    return process


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_handlers_finish_and_the_program_go_on(
    server: NatsServer, client: PlainClient, backend: str, number: signal.Signals
) -> None:
    with start(server, backend, 0.2) as process:
        pending = client.send("signalled-e")
        assert line(process) == "begun"
        process.send_signal(number)
        assert pending.result().data == b"served"
        assert line(process) == "left"
        assert line(process) == "ended"
        assert process.wait(30) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_ends_the_program_as_if_natsvc_were_not_there(
    server: NatsServer, client: PlainClient, backend: str, number: signal.Signals
) -> None:
    with start(server, backend, 600) as process:
        client.send("signalled-e")
        assert line(process) == "begun"
        process.send_signal(number)
        eventually(lambda: "signalled-e" not in interest(server))  # it drains
        process.send_signal(number)
        code = process.wait(30)
    # Both loops turn a SIGINT into a KeyboardInterrupt, which ends the program with that signal, or with 1 or 130.
    assert code == -signal.SIGTERM if number is signal.SIGTERM else code in (-signal.SIGINT, 1, 130)
