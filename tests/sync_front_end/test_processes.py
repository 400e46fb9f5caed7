"""Design: how whole programs end - by a signal, by just ending, with a stuck handler - and what a forked one may do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from natsvc.testing import NatsServer
from tests.plain_client import PlainClient
from tests.worlds import eventually

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and processes")

BEGIN = """
import os, signal, sys, threading, time
from natsvc.sync import *

url = sys.argv[1]

def say(word):
    print(word, flush=True)
"""

SERVICE = """
def say_ready():
    while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        time.sleep(0.001)  # the main thread is on its way to serve_forever
    say("ready")

with connect(url) as nc:
    with add_service(nc, name="signalled") as service:

        @service.endpoint("signalled-e")
        def handler(request):
            say("begun")
            if request.data == b"stuck":
                threading.Event().wait()
            time.sleep(0.2)
            return b"served"

        threading.Thread(target=say_ready).start()
        service.serve_forever()
        say("returned")
say("left")
"""


@contextmanager
def program(server: NatsServer, text: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN + text, server.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
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


def ends(process: subprocess.Popen[str], *words: str, log: str = "") -> None:
    """It ends by itself, in good order, having said this."""
    out, err = process.communicate(timeout=30)
    assert err == log
    assert (out.split(), process.returncode) == ([*words], 0)


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains_and_returns(server: NatsServer, client: PlainClient, number: signal.Signals) -> None:
    with program(server, SERVICE) as process:
        pending = client.send("signalled-e")
        assert read(process) == "begun"
        process.send_signal(number)
        assert pending.result().data == b"served"
        ends(process, "returned", "left")


@posix
def test_a_second_sigterm_ends_the_process(server: NatsServer, client: PlainClient) -> None:
    with program(server, SERVICE) as process:
        client.send("signalled-e", b"stuck")
        assert read(process) == "begun"
        process.send_signal(signal.SIGTERM)
        eventually(lambda: client.request("signalled-e").status == "503")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM


@posix
def test_a_second_ctrl_c_is_a_keyboard_interrupt_that_waits_for_no_handler(
    server: NatsServer, client: PlainClient
) -> None:
    with program(server, SERVICE) as process:
        pending = client.send("signalled-e", b"stuck")
        assert read(process) == "begun"
        process.send_signal(signal.SIGINT)
        eventually(lambda: client.request("signalled-e").status == "503")
        process.send_signal(signal.SIGINT)
        assert pending.result().error_code == "503"
        out, err = process.communicate(timeout=30)
        assert "returned" not in out
        assert err.endswith("KeyboardInterrupt\n")
        assert process.returncode == -signal.SIGINT


WAITS = {
    "request": 'nc.subscribe("silent"); nc.flush(); say("ready"); nc.request("silent", timeout=1000)',
    "receive": 'subscription = nc.subscribe("silent"); say("ready"); subscription.receive()',
    "receive with a timeout": 'subscription = nc.subscribe("silent"); say("ready"); subscription.receive(1000)',
    "iteration": 'subscription = nc.subscribe("silent"); say("ready"); list(subscription)',
    "stopped": 'service = add_service(nc, name="waiting"); say("ready"); service.stopped.wait()',
    "replies": 'nc.subscribe("silent"); say("ready"); list(ServiceClient(nc).request_many("silent", timeout=1000))',
    "a gathering": 'say("ready"); nc.subscribe("$SRV.PING"); ServiceClient(nc).ping(timeout=1000, stall=1000)',
}


@posix
@pytest.mark.parametrize("what", WAITS)
def test_ctrl_c_ends_a_wait_at_once_and_leaves_the_connection_usable(server: NatsServer, what: str) -> None:
    text = f"""
with connect(url) as nc:
    try:
        {WAITS[what]}
    except KeyboardInterrupt:
        try:
            nc.flush()
        except ConnectionLostError:  # it came in the middle of a send, and the connection is made anew
            nc.flush()
        say("interrupted")
"""
    with program(server, text) as process:
        process.send_signal(signal.SIGINT)
        ends(process, "interrupted")


def test_a_program_that_ends_without_closing_just_ends_and_what_it_published_is_sent(
    server: NatsServer, client: PlainClient
) -> None:
    subscription = client.subscribe("last-words")
    text = """
nc = connect(url)
subscription = nc.subscribe("something")
service = add_service(nc, name="unclosed", timeout=10)
service.endpoint("unclosed-e")(lambda request: request.data)
nc.request("unclosed-e")
say("ready")
nc.publish("last-words", b"bye")
"""
    with program(server, text) as process:
        ends(process)
        assert subscription.next().data == b"bye"


SLOW_LOG = """
import logging

def slow(record):  # a filter: what comes before the handler's lock, which logging itself waits for when it ends
    time.sleep(0.3)  # the program is at its end long before
    return True

class Slow(logging.Handler):
    def __init__(self):
        super().__init__()
        self.addFilter(slow)

    def emit(self, record):
        say(record.getMessage().replace(" ", "-"))
"""

FAILS = """
nc = connect(url)
service = add_service(nc, name="failing")

@service.endpoint("failing-e")
def fail(request):
    raise ValueError

say("ready")
nc.request("failing-e")
"""


def test_a_handler_that_fails_right_before_the_program_ends_is_still_logged(server: NatsServer) -> None:
    text = SLOW_LOG + 'logging.getLogger("natsvc").addHandler(Slow())' + FAILS
    with program(server, text) as process:
        ends(process, "endpoint-'failing-e':-the-handler-failed")


def test_what_is_logged_at_the_end_comes_before_logging_ends_also_if_that_was_loaded_last(server: NatsServer) -> None:
    text = SLOW_LOG.replace("import logging", "import logging, logging.handlers")
    text += """
memory = logging.handlers.MemoryHandler(1000, flushLevel=100, target=Slow())  # which logging flushes when it ends
memory.addFilter(slow)
logging.getLogger("natsvc").addHandler(memory)
"""
    with program(server, text + FAILS) as process:
        ends(process, "endpoint-'failing-e':-the-handler-failed")


def test_what_is_logged_for_a_connection_that_is_gone_comes_out_as_well(server: NatsServer) -> None:
    text = """
import gc

def use():
    with connect(url) as nc, add_service(nc, name="failing") as service:

        @service.endpoint("failing-e")
        def fail(request):
            raise ValueError

        say("ready")
        nc.request("failing-e")

logging.getLogger("natsvc").addHandler(Slow())
use()
gc.collect()
"""
    with program(server, SLOW_LOG + text) as process:
        ends(process, "endpoint-'failing-e':-the-handler-failed")


def test_what_fails_first_when_no_thread_can_be_started_any_more_is_still_logged(server: NatsServer) -> None:
    text = """
import atexit

@atexit.register
def ask_once_more():
    start = threading.Thread.start

    def refuse(thread):  # as Python 3.12 and later do by themselves
        if thread.name == "natsvc-callbacks":
            raise RuntimeError("can't create new thread at interpreter shutdown")
        start(thread)

    threading.Thread.start = refuse
    nc.request("failing-e")

logging.getLogger("natsvc").addHandler(Slow())
"""
    # The handler's thread is there already: no version of Python has to start one that late.
    fails = FAILS.replace("    raise ValueError", "    if not request.data:\n        raise ValueError\n    return b''")
    fails = fails.replace('nc.request("failing-e")', 'nc.request("failing-e", b"well")')
    with program(server, SLOW_LOG + text + fails) as process:
        process.wait(30)
        ends(process, "endpoint-'failing-e':-the-handler-failed")


def test_a_stuck_callback_keeps_no_program_alive(server: NatsServer) -> None:
    stuck = 'name="failing", error_handler=lambda *arguments: threading.Event().wait()'
    text = SLOW_LOG + 'logging.getLogger("natsvc").addHandler(Slow())' + FAILS.replace('name="failing"', stuck)
    with program(server, text + 'nc.request("failing-e")') as process:
        # What is logged for the second request would have its turn behind the callback for the first.
        ends(process, "endpoint-'failing-e':-the-handler-failed")


def test_a_stuck_handler_keeps_no_program_alive(server: NatsServer, client: PlainClient) -> None:
    text = """
begun = threading.Event()
nc = connect(url)
service = add_service(nc, name="stuck")

@service.endpoint("stuck-e")
def stuck(request):
    begun.set()
    threading.Event().wait()

say("ready")
begun.wait()
service.stop(timeout=0.05)
nc.close()
"""
    with program(server, text) as process:
        assert client.request("stuck-e").error_code == "503"
        ends(process, log="service 'stuck': the stop has taken too long, what still runs is cut off\n")


def test_a_busy_service_keeps_no_program_alive(server: NatsServer, client: PlainClient) -> None:
    text = """
nc = connect(url)
service = add_service(nc, name="busy")
service.endpoint("busy-e")(lambda request: request.data)
say("ready")
sys.stdin.read(1)
for number in range(5000):
    nc.publish("busy-e", b"x", reply="nobody")
"""
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", BEGIN + text, server.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert read(process) == "ready"
            out, err = process.communicate("\n", timeout=30)
            assert (out, err, process.returncode) == ("", "", 0)
        finally:
            process.kill()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_can_not_use_the_connection_and_the_parent_can(server: NatsServer) -> None:
    text = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads

with connect(url) as nc:
    subscription = nc.subscribe("forked")
    service = add_service(nc, name="forked", done_handler=lambda *_: say("done"))
    service.endpoint("forked-e")(lambda request: b"answered")
    nc.request("forked-e")
    busy = threading.Thread(target=lambda: [nc.request("forked-e") for _ in range(300)])
    busy.start()
    say("ready")
    child = os.fork()
    if child == 0:
        for call in (
            lambda: nc.publish("forked"),
            lambda: nc.request("forked-e"),
            lambda: nc.flush(),
            lambda: nc.subscribe("more"),
            lambda: subscription.receive(),
            lambda: add_service(nc, name="more"),
            lambda: ServiceClient(nc).ping(),
        ):
            try:
                call()
            except ConnectionClosedError as error:
                assert "forked" in str(error), error
            else:
                raise AssertionError("it could be used")
        assert nc.is_closed and service.stopped.is_set()
        service.stop()
        nc.close()
        with connect(url) as own:
            assert own.request("forked-e").data == b"answered"
        say("child")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    busy.join()
    nc.publish("forked", b"x")
    assert subscription.receive(10).data == b"x"
    assert nc.request("forked-e").data == b"answered"
    say("parent")
"""
    with program(server, text) as process:
        ends(process, "child", "parent", "done")
