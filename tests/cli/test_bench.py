"""bench: what it sends, what it counts, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from natsvc.sync import Connection, Request, Service, ServiceError, add_service, connect
from natsvc.testing import NatsServer
from tests.cli.conftest import LIMIT, Environment, Run, Start
from tests.cli.shapes import shape
from tests.cli.snapshots import assert_as_before
from tests.worlds import eventually

Answer = Callable[[Request], object]


@contextmanager
def answering(server: NatsServer, handler: Answer, **fields: Any) -> Iterator[Service]:
    """Run a service with an endpoint on the subject `target`."""
    with connect(server.url) as nc, add_service(nc, name="target") as service:
        service.add_endpoint("target", handler=handler, **fields)
        yield service


def echo(request: Request) -> bytes:
    return request.data


@contextmanager
def subscriber(nc: Connection, take: Callable[[int, str], None]) -> Iterator[None]:
    """Take what comes to `target` without a service: `take(number, reply)`, in a thread of its own."""
    with nc.subscribe("target") as subscription:
        nc.flush()

        def receive() -> None:
            for number, message in enumerate(subscription, 1):
                take(number, message.reply)

        thread = threading.Thread(target=receive, daemon=True)
        thread.start()
        yield
    thread.join(LIMIT)


@pytest.mark.parametrize("width", ["80", "120"])
def test_it_ends_with_a_table_and_a_histogram_that_fit_the_width(run: Run, server: NatsServer, width: str) -> None:
    with answering(server, echo):
        done = run("bench", "target", "-n", "500", "-s", server.url, env={"COLUMNS": width})
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= int(width)
    assert "█" in done.stdout
    assert_as_before("bench", shape(done.stdout))


@pytest.mark.parametrize("width", ["30", "50"])
def test_in_a_narrow_terminal_no_line_is_too_wide(run: Run, server: NatsServer, width: str) -> None:
    with answering(server, echo):
        done = run("bench", "target", "-n", "100", "-s", server.url, env={"COLUMNS": width})
    tables = done.stdout.split("\n", 1)[1]
    assert max(map(len, tables.splitlines())) <= int(width)


def test_where_there_are_only_ascii_characters_bars_are_made_of_them(run: Run, server: NatsServer) -> None:
    with answering(server, echo):
        done = run("bench", "target", "-n", "100", "-s", server.url, env={"PYTHONIOENCODING": "ascii:replace"})
    assert done.returncode == 0
    assert "####" in done.stdout


def test_json_has_all_that_was_measured(run: Run, server: NatsServer) -> None:
    with answering(server, echo) as service:
        done = run("bench", "target", "-n", "700", "-c", "7", "--size", "33", "--json", "-s", server.url)
        eventually(lambda: service.stats().endpoints[0].num_requests == 700)
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert (said["subject"], said["size"], said["concurrency"]) == ("target", 33, 7)
    assert (said["sent"], said["answered"], said["errors"], said["interrupted"]) == (700, 700, [], False)
    latency = said["latency"]
    times = [latency[name] for name in ("min", "p50", "p90", "p99", "p99.9", "max")]
    assert times == sorted(times)
    assert times[0] > 0
    assert sum(bucket["count"] for bucket in latency["histogram"]) == 700
    assert said["requests_per_second"] == pytest.approx(700 / said["duration"] * 1e9, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "input", "body"),
    [
        ([], None, b"0123456789abcdef"),
        (["--size", "20"], None, b"0123456789abcdef0123"),
        (["--size", "0"], None, b""),
        (["--data", "grün"], None, "grün".encode()),
        (["--data", ""], None, b""),
        (["--data", "-"], "from stdin", b"from stdin"),
    ],
)
def test_body_and_headers_are_sent(
    run: Run, server: NatsServer, arguments: list[str], input: str | None, body: bytes
) -> None:
    received = []

    def handle(request: Request) -> bytes:
        received.append((request.data, request.headers.get_all("A"), request.headers.get("B")))
        return b""

    with answering(server, handle):
        headers = ["-H", "A:1", "-H", "A: 2", "--header", "B:x:y"]
        done = run("bench", "target", "-n", "3", *arguments, *headers, "-s", server.url, input=input)
    assert (done.returncode, done.stderr) == (0, "")
    assert received == [(body, ["1", "2"], "x:y")] * 3


def test_errors_of_the_service_are_answers_counted_by_their_code(run: Run, server: NatsServer) -> None:
    lock, count = threading.Lock(), iter(range(100))

    def handle(request: Request) -> bytes:
        with lock:
            number = next(count)
        if number % 5 == 0:
            raise ServiceError(409, f"conflict {number}")
        if number == 1:
            raise ServiceError(400, "bad")
        return b""

    with answering(server, handle, max_concurrency=1):
        arguments = ["bench", "target", "-n", "50", "-c", "1", "-s", server.url]
        done = run(*arguments, "--json")
        shown = run(*arguments)
    assert done.returncode == shown.returncode == 0
    said = json.loads(done.stdout)
    assert (said["sent"], said["answered"]) == (50, 50)
    assert said["errors"] == [
        {"kind": "409", "count": 10, "first": "conflict 0"},
        {"kind": "400", "count": 1, "first": "bad"},
    ]
    assert_as_before("bench-errors", shape(shown.stdout))


def test_what_is_not_answered_in_time_is_counted_and_has_no_latency(run: Run, server: NatsServer) -> None:
    with connect(server.url) as nc:

        def take(number: int, reply: str) -> None:
            if number != 2:
                nc.publish(reply, b"")

        with subscriber(nc, take):
            done = run("bench", "target", "-n", "3", "-c", "1", "--timeout", "500ms", "--json", "-s", server.url)
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert (said["sent"], said["answered"]) == (3, 2)
    assert said["errors"] == [
        {"kind": "timeout", "count": 1, "first": "the request to 'target' was not answered within 0.5 s"}
    ]


def test_if_nothing_is_answered_it_ends_with_status_1(run: Run, server: NatsServer) -> None:
    with connect(server.url) as nc, subscriber(nc, lambda number, reply: None):
        done = run("bench", "target", "-n", "3", "--timeout", "300ms", "-s", server.url)
    assert (done.returncode, done.stderr) == (1, "natsvc: none of 3 requests was answered\n")
    assert_as_before("bench-timeouts", shape(done.stdout))


def test_if_nobody_is_there_it_ends_at_once_with_one_line(run: Run, server: NatsServer) -> None:
    done = run("bench", "nobody.here", "-n", "1000000", "-s", server.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "natsvc: nobody is there to answer requests to 'nobody.here'\n"


def test_who_goes_away_meanwhile_is_an_error_to_be_counted(run: Run, server: NatsServer) -> None:
    with connect(server.url) as nc, nc.subscribe("target") as subscription:
        nc.flush()

        def answer_two() -> None:
            for _ in range(2):
                message = subscription.receive(LIMIT)
                if _ == 1:
                    subscription.unsubscribe()
                nc.publish(message.reply, b"")

        thread = threading.Thread(target=answer_two)
        thread.start()
        done = run("bench", "target", "-n", "5", "-c", "1", "--json", "-s", server.url)
        thread.join(LIMIT)
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert (said["sent"], said["answered"]) == (5, 2)
    (error,) = said["errors"]
    assert (error["kind"], error["count"]) == ("no responders", 3)


def test_a_rate_is_not_exceeded(run: Run, server: NatsServer) -> None:
    with answering(server, echo):
        done = run("bench", "target", "-n", "21", "--rate", "50", "--json", "-s", server.url)
    assert json.loads(done.stdout)["duration"] >= 20 / 50 * 1e9


def test_at_a_rate_requests_that_had_to_wait_for_a_slow_one_count_from_when_they_were_due(
    run: Run, server: NatsServer
) -> None:
    def handle(request: Request) -> bytes:
        time.sleep(0.03)
        return b""

    with answering(server, handle):
        done = run("bench", "target", "-n", "11", "-c", "1", "--rate", "100", "--json", "-s", server.url)
    # The last is due after 100 ms, and sent when ten have been answered, which is after 300 ms.
    assert json.loads(done.stdout)["latency"]["max"] >= 230e6


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["target", "--data", "x", "--size", "3"], 2, "natsvc: --data and --size exclude each other\n"),
        (["target", "-n", "0"], 2, None),
        (["target", "-c", "0"], 2, None),
        (["target", "--rate", "0"], 2, None),
        (["target", "--size", "-1"], 2, None),
        (["target", "-H", "none"], 2, "natsvc: the header 'none' must have the form NAME:VALUE\n"),
        (["a b"], 1, "natsvc: subject: 'a b' must not contain blanks or control characters\n"),
        (["target", "--size", "2000000"], 1, "natsvc: headers and data of 2000000 bytes: the server takes 1048576\n"),
    ],
)
def test_what_cannot_be_sent_is_told_in_one_line(
    run: Run, server: NatsServer, arguments: list[str], status: int, told: str | None
) -> None:
    done = run("bench", *arguments, "-s", server.url)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.count("\n") == 1
    assert told is None or done.stderr == told


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_ctrl_c_ends_it_and_what_was_measured_is_printed(start: Start, server: NatsServer) -> None:
    def handle(request: Request) -> bytes:
        time.sleep(0.002)
        return b""

    with answering(server, handle) as service:
        process = start("bench", "target", "-n", "1000000", "-c", "4", "--json", "-s", server.url)
        eventually(lambda: service.stats().endpoints[0].num_requests >= 20)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=LIMIT)
    assert (process.returncode, stderr) == (130, "")
    said = json.loads(stdout)
    assert said["interrupted"]
    assert 10 <= said["answered"] == said["sent"] < 1_000_000


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_a_terminal_has_a_progress_bar_on_stderr(environment: Environment, server: NatsServer) -> None:
    import pty
    import subprocess

    def handle(request: Request) -> bytes:
        time.sleep(0.02)
        return b""

    with answering(server, handle):
        screen, terminal = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "natsvc", "bench", "target", "-n", "40", "-c", "1", "-s", server.url],
            env={**environment, "COLUMNS": "70"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=terminal,
        )
        os.close(terminal)
        drawn = b""
        try:
            while chunk := os.read(screen, 4096):
                drawn += chunk
        except OSError:  # Linux's way to say that the process at the other end is gone
            pass
        stdout, _ = process.communicate(timeout=LIMIT)
        os.close(screen)
    assert process.returncode == 0
    assert "━" in drawn.decode()
    assert b"/40" in drawn
    assert stdout.startswith(b"target: 40 requests")
    assert b"\x1b" not in stdout
