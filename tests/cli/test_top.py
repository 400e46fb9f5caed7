"""top: what it shows on the screen and in a pipe, what keys do, and how it leaves the terminal."""

from __future__ import annotations

import functools
import json
import re
import signal
from collections.abc import Callable, Iterator

import pytest

from natsvc.cli.rates import Order
from natsvc.cli.top_screen import View
from natsvc.testing import NatsServer
from tests.cli.conftest import Run, Start
from tests.cli.counting import Counting, counting
from tests.cli.other_services import other_services
from tests.cli.screen import ENTER_SCREEN, LEAVE_SCREEN, Open, open_terminal
from tests.cli.snapshots import assert_as_before

__all__ = ["open_terminal"]  # a fixture


@pytest.fixture
def own_server(make_server: Callable[..., NatsServer]) -> NatsServer:
    """A server on which nobody else's services are."""
    return make_server()


@pytest.fixture
def orders(own_server: NatsServer) -> Iterator[Counting]:
    """A service with three endpoints: one has the most requests, one the most errors, one takes the longest."""
    with counting(own_server.url) as service:
        service.add(
            "A",
            busy={"num_requests": 500, "processing_time": 500_000},
            failing={"num_requests": 50, "num_errors": 40, "processing_time": 500_000},
            slow={"num_requests": 5, "num_errors": 1, "processing_time": 500_000_000},
        )
        yield service


def endpoints(lines: list[str]) -> list[str]:
    """The names of the endpoints, in the order of the lines."""
    return [name for line in lines for name in re.findall(r"\b(?:busy|failing|slow|new)\b", line)]


def are_measured(lines: list[str]) -> bool:
    """Whether all rows have rates."""
    rows = [line for line in lines if endpoints([line])]
    return bool(rows) and not any(re.search(r" - ", line) for line in rows)


def are_sorted(names: list[str], heading: str, lines: list[str]) -> bool:
    return endpoints(lines) == names and heading in lines[2]


def normal(text: str) -> str:
    """Replace the port of the server; and the line below the headings, whose length is not the same in every Rich."""
    return re.sub("─+", "─", re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", text))


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (120, 30), (60, 10)])
def test_the_screen_fits_the_terminal(open_terminal: Open, own_server: NatsServer, columns: int, rows: int) -> None:
    with other_services(own_server.url):
        terminal = open_terminal("top", "-s", own_server.url, columns=columns, rows=rows)
        lines = terminal.show(
            lambda lines: all(" 0.0 " in line for line in lines if line.startswith("orders")) and "orders" in str(lines)
        )
        assert max(map(len, lines)) <= columns
        assert_as_before(f"top-{columns}", normal(terminal.text))
        terminal.press("q")
        assert terminal.wait() == 0


def test_rates_are_those_of_the_interval(open_terminal: Open, own_server: NatsServer, orders: Counting) -> None:
    terminal = open_terminal("top", "orders", "-i", "500ms", "-s", own_server.url)
    lines = terminal.show(are_measured)
    assert "natsvc top orders: 1 service, 1 instance" in lines[0]
    (busy,) = [line.split() for line in lines if "busy" in line]
    assert busy[:3] == ["orders", "A", "busy"]
    # 500 requests in at least 500 ms; a machine that is busy may take longer.
    assert 0 < float(busy[3].replace(",", "")) <= 1000
    assert busy[6] == "1.00µs"


def test_keys_sort_and_turn_the_order_round(open_terminal: Open, own_server: NatsServer, orders: Counting) -> None:
    terminal = open_terminal("top", "-i", "200ms", "-s", own_server.url)
    terminal.show(are_measured)
    by_requests, by_errors, by_time, by_service = (
        ["busy", "failing", "slow"],
        ["failing", "slow", "busy"],
        ["slow", "failing", "busy"],
        ["busy", "failing", "slow"],
    )
    terminal.show(lambda lines: endpoints(lines) == by_requests and "Requests/s▼" in lines[2])
    for key, names, heading in (
        ("e", by_errors, "Errors/s▼"),
        ("t", by_time, "Mean Time▼"),
        ("R", by_time[::-1], "Mean Time▲"),
        ("s", by_service, "Service▲"),
        ("s", by_service[::-1], "Service▼"),
        ("r", by_requests, "Requests/s▼"),
        ("r", by_requests[::-1], "Requests/s▲"),
    ):
        terminal.press(key)
        terminal.show(functools.partial(are_sorted, names, heading))
    terminal.press("\x1b[Ax")  # an arrow, and a key that means nothing
    terminal.press("q")
    assert terminal.wait() == 0


def test_the_order_at_first_can_be_told(open_terminal: Open, own_server: NatsServer, orders: Counting) -> None:
    terminal = open_terminal("top", "--sort", "time", "--reverse", "-i", "200ms", "-s", own_server.url)
    terminal.show(lambda lines: endpoints(lines) == ["busy", "failing", "slow"] and "Mean Time▲" in lines[2])


def test_keys_are_obeyed_while_services_are_asked(open_terminal: Open, own_server: NatsServer) -> None:
    with counting(own_server.url) as silent:  # nobody answers, so that each round takes its whole time
        terminal = open_terminal("top", "-i", "1h", "--timeout", "1h", "-s", own_server.url)
        terminal.show(lambda lines: bool(lines) and "asking" in lines[0])
        while not silent.rounds:
            terminal.show(lambda lines: "asking" in lines[0])
        terminal.press("t")
        terminal.show(lambda lines: "Mean Time▼" in lines[2])
        terminal.press("q")
        assert terminal.wait() == 0
        terminal.assert_restored()


@pytest.mark.parametrize(
    ("how", "status"),
    [("q", 0), ("\x03", 130), (signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGHUP, -signal.SIGHUP)],
    ids=["q", "Ctrl-C", "SIGINT", "SIGTERM", "SIGHUP"],
)
def test_however_it_ends_the_terminal_is_as_it_was(
    open_terminal: Open, own_server: NatsServer, orders: Counting, how: str | int, status: int
) -> None:
    terminal = open_terminal("top", "-i", "200ms", "-s", own_server.url)
    terminal.show(are_measured)
    if isinstance(how, str):
        terminal.press(how)
    else:
        terminal.process.send_signal(how)
    assert terminal.wait() == status
    terminal.assert_restored()
    assert "Traceback" not in terminal.written


def test_after_an_error_too_and_the_error_is_told_in_one_line(
    open_terminal: Open, make_server: Callable[..., NatsServer]
) -> None:
    refusing = make_server(
        'authorization { users = [{ user: "a", password: "b", permissions: { publish: { deny: "$SRV.>" } } }] }'
    )
    terminal = open_terminal("top", "-s", f"nats://a:b@127.0.0.1:{refusing.port}")
    assert terminal.wait() == 1
    terminal.assert_restored()
    assert [line for line in terminal.lines if line.startswith("natsvc: ")] == [
        "natsvc: the server refused a publish to '$SRV.STATS'"
    ]


def test_ctrl_z_does_nothing(open_terminal: Open, own_server: NatsServer, orders: Counting) -> None:
    terminal = open_terminal("top", "-i", "200ms", "-s", own_server.url)
    terminal.show(are_measured)
    terminal.press("\x1at")
    terminal.show(lambda lines: "Mean Time▼" in lines[2])
    terminal.press("q")
    assert terminal.wait() == 0


def test_it_follows_the_size_of_the_terminal(open_terminal: Open, own_server: NatsServer, orders: Counting) -> None:
    terminal = open_terminal("top", "-i", "200ms", "-s", own_server.url, columns=100, rows=20)
    terminal.show(are_measured)
    terminal.resize(90, 8)
    lines = terminal.show(lambda lines: any("… and 2 rows more" in line for line in lines))
    assert endpoints(lines) == ["busy"]
    terminal.resize(100, 20)
    terminal.show(lambda lines: len(endpoints(lines)) == 3)


def test_instances_come_and_go(open_terminal: Open, own_server: NatsServer, orders: Counting) -> None:
    terminal = open_terminal("top", "-i", "200ms", "-s", own_server.url)
    terminal.show(are_measured)
    orders.add("B", new={"num_requests": 1})
    terminal.show(lambda lines: "2 instances" in lines[0] and "new" in endpoints(lines))
    orders.remove("A")
    lines = terminal.show(lambda lines: "1 instance " in lines[0])
    assert [line.split()[3] for line in lines if " A " in line] == ["gone", "gone", "gone"]
    # After a while they are forgotten.
    terminal.show(lambda lines: endpoints(lines) == ["new"])


def test_a_server_that_goes_away_is_told_of_and_waited_for(open_terminal: Open, own_server: NatsServer) -> None:
    with counting(own_server.url) as orders:
        orders.add("A", busy={"num_requests": 5})
        terminal = open_terminal("top", "-i", "200ms", "-s", own_server.url)
        terminal.show(are_measured)
        own_server.stop()
        terminal.show(lambda lines: lines[1] != "" and "0 instances" in lines[0])
        own_server.start()
        terminal.show(lambda lines: lines[1] == "" and "1 instance " in lines[0])
    terminal.press("q")
    assert terminal.wait() == 0
    terminal.assert_restored()


def test_if_there_is_no_service_it_says_so(open_terminal: Open, own_server: NatsServer) -> None:
    terminal = open_terminal("top", "-s", own_server.url)
    terminal.show(lambda lines: "no service answers" in lines)
    assert "0 services, 0 instances" in terminal.lines[0]


def test_with_a_count_it_ends_and_leaves_the_last_table(
    open_terminal: Open, own_server: NatsServer, orders: Counting
) -> None:
    terminal = open_terminal("top", "--count", "1", "-i", "200ms", "-s", own_server.url)
    assert terminal.wait() == 0
    terminal.assert_restored()
    assert orders.rounds >= 2  # one to compare with, and the interval's; another one may be on its way
    left = terminal.written.rpartition(LEAVE_SCREEN)[2]
    assert endpoints(left.splitlines()) == ["busy", "failing", "slow"]


def test_in_a_pipe_it_prints_a_table_for_each_interval(run: Run, own_server: NatsServer, orders: Counting) -> None:
    done = run("top", "--count", "2", "-i", "200ms", "-s", own_server.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert endpoints(done.stdout.splitlines()) == ["busy", "failing", "slow"] * 2
    assert len(re.findall(r"^\d\d:\d\d:\d\d$", done.stdout, re.MULTILINE)) == 2
    assert orders.rounds == 3


def test_in_a_pipe_without_services_it_says_so(run: Run, own_server: NatsServer) -> None:
    done = run("top", "--count", "1", "-i", "100ms", "-s", own_server.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"\d\d:\d\d:\d\d no service answers\n\n", done.stdout)


def test_json_is_one_line_for_each_interval(run: Run, own_server: NatsServer, orders: Counting) -> None:
    done = run("top", "--json", "--count", "2", "-i", "200ms", "--sort", "errors", "-s", own_server.url)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 2
    assert list(lines[0]) == ["time", "endpoints"]
    assert [one["endpoint"] for one in lines[1]["endpoints"]] == ["failing", "slow", "busy"]
    first = lines[1]["endpoints"][0]
    rates = {name: first.pop(name) for name in ("requests_per_second", "errors_per_second")}
    assert 0 < rates["requests_per_second"] <= 250
    assert rates["errors_per_second"] == pytest.approx(rates["requests_per_second"] * 40 / 50)
    assert first == {
        "name": "orders",
        "id": "A",
        "version": "",
        "endpoint": "failing",
        "subject": "",
        "num_requests": 150,
        "num_errors": 120,
        "mean_processing_time": 10_000,
        "last_error": "",
        "gone": False,
    }


def test_json_in_a_terminal_is_the_same(open_terminal: Open, own_server: NatsServer, orders: Counting) -> None:
    terminal = open_terminal("top", "--json", "--count", "1", "-i", "200ms", "-s", own_server.url, columns=2000)
    assert terminal.wait() == 0
    assert len(json.loads(terminal.written)["endpoints"]) == 3
    assert ENTER_SCREEN not in terminal.written


def test_each_line_is_written_at_once(start: Start, own_server: NatsServer, orders: Counting) -> None:
    process = start("top", "--json", "-i", "200ms", "-s", own_server.url)
    assert process.stdout is not None
    for _ in range(2):
        assert len(json.loads(process.stdout.readline())["endpoints"]) == 3
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130


def test_services_of_other_languages_are_shown_by_what_they_tell(run: Run, own_server: NatsServer) -> None:
    with other_services(own_server.url):
        done = run("top", "--json", "--count", "1", "-i", "300ms", "--sort", "service", "-s", own_server.url)
    rows = json.loads(done.stdout)["endpoints"]
    assert [(row["name"], row["endpoint"], row["num_requests"]) for row in rows] == [
        ("clock", "", 0),
        ("orders", "cancel", 0),
        ("orders", "create", 1234567),
        ("orders", "create", 1),
        ("orders", "watch", 3),
    ]
    assert {row["requests_per_second"] for row in rows} == {None, 0.0}


@pytest.mark.parametrize("interval", ["0.05", "50ms"])
def test_an_interval_that_is_too_short_is_a_usage_error(run: Run, interval: str) -> None:
    done = run("top", "-i", interval)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "natsvc: --interval 0.05 is shorter than 0.1 seconds\n"


def test_another_key_sorts_as_it_should_at_first_and_the_same_one_turns_round() -> None:
    view = View(Order.REQUESTS, reverse=True)
    assert view.press("e") == View(Order.ERRORS, reverse=False)
    assert view.press("r") == View(Order.REQUESTS, reverse=False)
    assert view.press("R") == View(Order.REQUESTS, reverse=False)
    assert view.press("x") == view
