"""Design: the first SIGTERM or SIGINT drains and returns, the second acts as without natsvc."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from nats.aio.client import Client

from natsvc.asyncio import add_service
from natsvc.signals import first_signal
from natsvc.testing import NatsServer
from tests.plain_client import PlainClient

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

PROGRAM = """
import asyncio, signal, sys
import nats
from natsvc.asyncio import add_service

# A test run in the background of a shell hands down an ignored SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)

async def main():
    nc = await nats.connect(sys.argv[1])
    async with add_service(nc, name="signalled") as service:

        @service.endpoint("signalled-e")
        async def handler(request):
            print("begun", flush=True)
            if request.data == b"stuck":
                await asyncio.Event().wait()
            await asyncio.sleep(0.3)
            return b"served"

        await service.flush()
        print("ready", flush=True)
        await service.serve_forever()
        print("returned", flush=True)
    await nc.close()
    print("left", flush=True)

asyncio.run(main())
"""


@contextmanager
def program(server: NatsServer) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, server.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert read(process) == "ready"
        yield process
    finally:
        process.kill()
        process.communicate()


def read(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains_and_returns(server: NatsServer, client: PlainClient, number: signal.Signals) -> None:
    with program(server) as process:
        pending = client.send("signalled-e")
        assert read(process) == "begun"
        process.send_signal(number)
        assert pending.result().data == b"served"
        out, err = process.communicate(timeout=30)
        assert out.split() == ["returned", "left"]
        assert (process.returncode, err) == (0, "")


def test_a_second_sigterm_ends_the_process(server: NatsServer, client: PlainClient) -> None:
    with program(server) as process:
        client.send("signalled-e", b"stuck")
        assert read(process) == "begun"
        process.send_signal(signal.SIGTERM)
        while not is_unsubscribed(client):
            pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM


def test_a_second_sigint_is_a_keyboard_interrupt(server: NatsServer, client: PlainClient) -> None:
    with program(server) as process:
        client.send("signalled-e", b"stuck")
        assert read(process) == "begun"
        process.send_signal(signal.SIGINT)
        while not is_unsubscribed(client):
            pass
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert err.strip().endswith("KeyboardInterrupt")


def is_unsubscribed(client: PlainClient) -> bool:
    """Whether the first signal has had its effect; until then the handler answers after a while."""
    return client.request("signalled-e").status == "503"


async def test_outside_of_the_main_thread_signals_are_let_alone(nc: Client) -> None:
    before = signal.getsignal(signal.SIGTERM)
    entered = threading.Event()
    leave = threading.Event()

    def elsewhere() -> None:
        with first_signal([signal.SIGTERM], lambda: None):
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    entered.wait(30)
    assert signal.getsignal(signal.SIGTERM) is before
    leave.set()
    thread.join(30)


async def test_without_signals_none_is_touched(nc: Client) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    async with add_service(nc, name="untouched") as service:
        serving = asyncio.create_task(service.serve_forever(signals=()))
        await asyncio.sleep(0)
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
        await service.stop()
        await serving


async def test_afterwards_the_signals_are_as_before(nc: Client) -> None:
    seen: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        async with add_service(nc, name="as-before") as service:
            serving = asyncio.create_task(service.serve_forever())
            await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGTERM)
            await serving
            assert seen == [], "the first signal was natsvc's"
        os.kill(os.getpid(), signal.SIGTERM)
        assert seen == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, previous)


async def test_one_signal_stops_all_services_that_serve_and_afterwards_all_is_as_before(nc: Client) -> None:
    seen: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    mine = signal.getsignal(signal.SIGTERM)
    try:
        async with add_service(nc, name="first") as first, add_service(nc, name="second") as second:
            serving = [asyncio.create_task(one.serve_forever()) for one in (first, second)]
            await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(asyncio.gather(*serving), 30)
        assert seen == []
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_blocks_left_in_any_order_leave_the_signals_as_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    one, two = (first_signal([signal.SIGTERM], lambda: None) for _ in range(2))
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    assert signal.getsignal(signal.SIGTERM) is not before, "the other one still waits"
    two.__exit__(None, None, None)
    assert signal.getsignal(signal.SIGTERM) is before


async def test_a_signal_that_cannot_be_caught_leaves_the_others_as_before(nc: Client) -> None:
    before = signal.getsignal(signal.SIGTERM)
    async with add_service(nc, name="uncatchable") as service:
        with pytest.raises(OSError):
            await service.serve_forever(signals=(signal.SIGTERM, signal.SIGKILL))
        assert signal.getsignal(signal.SIGTERM) is before
        serving = asyncio.create_task(service.serve_forever(signals=None))
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(serving, 30)
