"""ls, info, stats and ping: what they show of services of every language, as tables and as JSON."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator

import pytest
from rich.cells import cell_len

from natsvc import ServiceInfo, ServicePing, ServiceStats
from natsvc.sync import add_service, connect
from natsvc.testing import NatsServer
from tests.cli.conftest import Environment, Run
from tests.cli.other_services import FIRST, INFOS, OTHER, SECOND, STATS, other_services
from tests.cli.snapshots import assert_as_before, without_age, without_times
from tests.cli.terminal import run_in_terminal, without_style

WIDTHS = ["80", "120"]


@pytest.fixture
def others(server: NatsServer) -> Iterator[str]:
    """The URL of a server with the services of other languages."""
    with other_services(server.url):
        yield server.url


@pytest.mark.parametrize("width", WIDTHS)
def test_ls_shows_all_instances(run: Run, others: str, width: str) -> None:
    done = run("ls", "--server", others, env={"COLUMNS": width})
    assert (done.returncode, done.stderr) == (0, "")
    assert_as_before(f"ls-{width}", done.stdout)


@pytest.mark.parametrize("width", WIDTHS)
def test_info_shows_what_an_instance_is_and_does(run: Run, others: str, width: str) -> None:
    done = run("info", "orders", FIRST, "--server", others, env={"COLUMNS": width})
    assert (done.returncode, done.stderr) == (0, "")
    assert_as_before(f"info-{width}", without_age(done.stdout))


@pytest.mark.parametrize("width", [*WIDTHS, "50"])
def test_stats_shows_each_endpoint_of_each_instance_and_the_sums(run: Run, others: str, width: str) -> None:
    done = run("stats", "orders", "--server", others, env={"COLUMNS": width})
    assert (done.returncode, done.stderr) == (0, "")
    assert_as_before(f"stats-{width}", done.stdout)


@pytest.mark.parametrize("width", WIDTHS)
def test_ping_shows_who_answers_and_how_fast(run: Run, others: str, width: str) -> None:
    done = run("ping", "--server", others, env={"COLUMNS": width})
    assert (done.returncode, done.stderr) == (0, "")
    assert_as_before(f"ping-{width}", without_times(done.stdout))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals that Python can make")
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("command", "snapshot"), [(["ls"], "ls"), (["stats", "orders"], "stats")])
def test_in_a_terminal_a_table_is_as_wide_as_it_and_its_headings_are_bold(
    environment: Environment, others: str, command: list[str], snapshot: str, width: str
) -> None:
    shown = run_in_terminal(*command, "-s", others, environment=environment, columns=int(width))
    assert "\x1b[1m" in shown
    assert_as_before(f"{snapshot}-{width}", without_style(shown))


@pytest.mark.parametrize("width", ["20", "40", "60"])
@pytest.mark.parametrize("command", [["ls"], ["info", "orders"], ["stats", "orders"], ["ping"]])
def test_no_line_of_a_table_is_wider_than_the_terminal(run: Run, others: str, command: list[str], width: str) -> None:
    tables = run(*command, "--server", others, env={"COLUMNS": width}).stdout.partition("\nData of")[0]
    assert tables
    assert max(map(cell_len, tables.splitlines())) <= int(width)


@pytest.mark.parametrize("command", [["ls"], ["info", "orders"], ["stats", "orders"], ["ping"]])
def test_what_is_piped_has_no_colours_and_nothing_that_a_terminal_obeys(
    run: Run, others: str, command: list[str]
) -> None:
    done = run(*command, "--server", others)
    assert all(character.isprintable() or character == "\n" for character in done.stdout)


def test_in_a_pipe_an_instance_is_one_line_however_long(run: Run, others: str) -> None:
    lines = run("ls", "--server", others).stdout.splitlines()
    assert len(lines) == 2 + len(INFOS)
    assert lines[-1].split()[:3] == ["orders", "2.4.0-rc.1", SECOND]
    assert lines[-1].endswith("what to send to whom")


def test_ls_of_a_name_shows_its_instances_only(run: Run, others: str) -> None:
    shown = run("ls", "clock", "--server", others).stdout
    assert OTHER in shown
    assert FIRST not in shown


@pytest.mark.parametrize("word", ["ls", "list", "l"])
def test_ls_as_json_is_what_the_services_say(run: Run, others: str, word: str) -> None:
    done = run(word, "--json", "--server", others)
    answers = json.loads(done.stdout)
    assert answers == [ServiceInfo.from_dict(INFOS[index]).to_dict() for index in (2, 0, 1)]


@pytest.mark.parametrize("word", ["info", "i"])
def test_info_as_json_has_the_answers_to_info_and_stats(run: Run, others: str, word: str) -> None:
    answers = json.loads(run(word, "orders", SECOND, "-j", "-s", others).stdout)
    assert answers == {
        "info": ServiceInfo.from_dict(INFOS[1]).to_dict(),
        "stats": ServiceStats.from_dict(STATS[1]).to_dict(),
    }


def test_info_can_show_some_of_the_endpoints(run: Run, others: str) -> None:
    answers = json.loads(run("info", "orders", FIRST, "--endpoint", "^c", "-j", "-s", others).stdout)
    assert [one["name"] for one in answers["info"]["endpoints"]] == ["create", "cancel"]
    assert [one["name"] for one in answers["stats"]["endpoints"]] == ["create", "cancel"]


def test_info_with_a_wrong_expression_is_a_usage_error(run: Run, others: str) -> None:
    done = run("info", "orders", "--endpoint", "(", "-s", others)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("natsvc: --endpoint: '(' is not a regular expression")
    assert done.stderr.count("\n") == 1


def test_stats_as_json_is_what_the_services_say(run: Run, others: str) -> None:
    answers = json.loads(run("stats", "orders", "--json", "-s", others).stdout)
    assert answers == [ServiceStats.from_dict(one).to_dict() for one in STATS[:2]]


def test_ping_as_json_has_the_round_trips(run: Run, others: str) -> None:
    answers = json.loads(run("ping", "clock", "--json", "-s", others).stdout)
    assert [ServicePing.from_dict(one).id for one in answers] == [OTHER]
    assert 0 < answers[0]["round_trip"] < 60


@pytest.mark.parametrize("command", [["info", "nobody"], ["stats", "nobody"], ["ping", "nobody"]])
def test_to_ask_for_a_service_that_is_not_there_is_an_error(run: Run, server: NatsServer, command: list[str]) -> None:
    done = run(*command, "-s", server.url)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "natsvc: no service 'nobody' answers\n")


def test_to_ask_for_an_instance_that_is_not_there_is_an_error(run: Run, others: str) -> None:
    done = run("info", "clock", FIRST, "-s", others, "--timeout", "300ms")
    expected = f"natsvc: no service 'clock' answers with the id {FIRST!r}\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)


def test_ping_serves_as_a_liveness_probe(run: Run, server: NatsServer) -> None:
    assert run("ping", "probed", "-s", server.url).returncode == 1
    with connect(server.url) as nc, add_service(nc, name="probed"):
        assert run("ping", "probed", "-s", server.url).returncode == 0
    done = run("ping", "probed", "--json", "-s", server.url)
    assert (done.returncode, json.loads(done.stdout)) == (1, [])


def test_that_there_are_no_services_is_no_error_for_ls(run: Run, server: NatsServer) -> None:
    done = run("ls", "-s", server.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "there are no services\n")
    done = run("ls", "--json", "-s", server.url)
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, [], "")


def test_a_name_that_none_can_have_is_an_error_that_names_the_rule(run: Run, server: NatsServer) -> None:
    done = run("stats", "a.b", "-s", server.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert "'a.b' must" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "command", [["ls"], ["info", "orders", FIRST], ["stats", "orders"], ["request", "orders", "e"]]
)
def test_a_stream_that_cannot_take_every_character_gets_them_in_ascii(
    run: Run, others: str, command: list[str]
) -> None:
    done = run(*command, "-s", others, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == (1 if command[0] == "request" else 0)
    assert (done.stdout + done.stderr).isascii()
    assert "Traceback" not in done.stderr


def test_an_answer_that_is_none_is_skipped_and_told_in_one_harmless_line(run: Run, others: str) -> None:
    with connect(others) as nc, nc.subscribe("$SRV.INFO") as asked:
        nc.flush()

        def mislead() -> None:
            reply = asked.receive(60).reply
            nc.publish(reply, b"{", headers={"Nats-Service-Error": "\x1b[2J"})
            nc.publish(reply, b"no JSON")

        misleading = threading.Thread(target=mislead)
        misleading.start()
        done = run("ls", "-s", others)
        misleading.join()
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2 + len(INFOS))
    told = done.stderr.splitlines()
    assert [line.startswith("natsvc: an answer to $SRV.INFO was skipped: ") for line in told] == [True, True]
    assert "\x1b" not in done.stderr
    assert "\\x1b[2J" in done.stderr
