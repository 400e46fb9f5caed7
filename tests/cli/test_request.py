"""`natsvc request`: finds an endpoint by its name, and prints what it responds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from natsvc import NO_QUEUE_GROUP
from natsvc.sync import Request, ServiceError, add_service, connect
from natsvc.testing import NatsServer
from tests.cli.conftest import Environment, Run

BODY = bytes(range(256))


@pytest.fixture
def url(server: NatsServer) -> Iterator[str]:
    """The URL of a server with a service `requested`."""
    with connect(server.url) as nc, add_service(nc, name="requested", queue_group=NO_QUEUE_GROUP) as service:
        group = service.add_group("some.subject")

        @group.endpoint("echo")
        def echo(request: Request) -> None:
            values = request.headers.get_all("X-Sent") if "X-Sent" in request.headers else []
            request.respond(request.data, {"X-Got": "|".join(values)} if values else None)

        @group.endpoint("refuse")
        def refuse(request: Request) -> None:
            raise ServiceError(404, "no such\nuser")

        @group.endpoint("bytes")
        def send_bytes(request: Request) -> bytes:
            return BODY

        @group.endpoint("silent")
        def silent(request: Request) -> None:
            """Never respond."""

        group.endpoint("many", subject="any.*")(silent)
        yield server.url


@pytest.mark.parametrize("word", ["request", "req"])
def test_the_response_goes_to_stdout_and_what_is_to_be_said_of_it_to_stderr(run: Run, url: str, word: str) -> None:
    done = run(word, "requested", "echo", "Grüße", "-s", url)
    assert (done.returncode, done.stdout) == (0, "Grüße\n")
    about = done.stderr.splitlines()
    assert len(about) == 1
    assert about[0].startswith("some.subject.echo: 7 bytes in ")


def test_without_data_the_body_is_empty(run: Run, url: str) -> None:
    assert run("request", "requested", "echo", "-r", "-s", url).stdout == ""


def test_a_dash_reads_the_body_from_stdin(run: Run, url: str) -> None:
    assert run("request", "requested", "echo", "-", "-r", "-s", url, input="from\nstdin\n").stdout == "from\nstdin\n"


def test_headers_are_sent_and_those_of_the_response_shown(run: Run, url: str) -> None:
    done = run("request", "requested", "echo", "-H", "X-Sent: a:b", "--header", "X-Sent:c", "-s", url)
    assert "X-Got: a:b|c" in done.stderr.splitlines()


def test_raw_prints_the_body_byte_for_byte(environment: Environment, url: str) -> None:
    command = [sys.executable, "-m", "natsvc", "request", "requested", "bytes", "--raw", "-s", url]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, BODY, b"")


def test_a_body_that_is_no_text_is_shown_without_harm_to_a_terminal(run: Run, url: str) -> None:
    shown = run("request", "requested", "bytes", "-s", url).stdout
    assert "\\x1b" in shown
    assert "\\xff" in shown
    assert all(character.isprintable() or character in "\n\t" for character in shown)


def test_as_json_a_response_has_subject_time_headers_and_data(run: Run, url: str) -> None:
    shown = json.loads(run("request", "requested", "echo", "text", "-H", "X-Sent:1", "--json", "-s", url).stdout)
    assert 0 < shown.pop("round_trip") < 60
    assert shown == {"subject": "some.subject.echo", "headers": {"X-Got": ["1"]}, "data": "text"}


def test_as_json_data_that_are_no_text_are_in_base64(run: Run, url: str) -> None:
    shown = json.loads(run("request", "requested", "bytes", "--json", "-s", url).stdout)
    assert shown["data_base64"].startswith("AAECAw")
    assert "data" not in shown


def test_count_sends_so_many_requests(run: Run, url: str) -> None:
    assert run("request", "requested", "echo", "x", "--count", "3", "--raw", "-s", url).stdout == "x\nx\nx\n"
    stats = json.loads(run("stats", "requested", "--json", "-s", url).stdout)
    assert stats[0]["endpoints"][0]["num_requests"] == 3


@pytest.mark.parametrize("form", [[], ["--raw"], ["--json"]])
def test_an_error_reply_is_one_line_on_stderr(run: Run, url: str, form: list[str]) -> None:
    done = run("request", "requested", "refuse", *form, "-s", url)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "404: no such user\n")


def test_the_first_error_ends_a_count(run: Run, url: str) -> None:
    assert run("request", "requested", "refuse", "--count", "5", "-s", url).stderr == "404: no such user\n"
    stats = json.loads(run("stats", "requested", "--json", "-s", url).stdout)
    assert stats[0]["endpoints"][1]["num_errors"] == 1


def test_no_response_in_time_is_an_error(run: Run, url: str) -> None:
    done = run("request", "requested", "silent", "--timeout", "0.3", "-s", url)
    expected = "natsvc: the request to 'some.subject.silent' was not answered within 0.3 s\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)


def test_an_unknown_service_is_an_error(run: Run, url: str) -> None:
    done = run("request", "nobody", "echo", "-s", url)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "natsvc: no service 'nobody' answers\n")


def test_an_unknown_endpoint_is_an_error_that_names_those_there_are(run: Run, url: str) -> None:
    done = run("request", "requested", "ecco", "-s", url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "natsvc: the service 'requested' has no endpoint 'ecco'; it has: echo, refuse, bytes, silent, many\n"
    )


def test_an_endpoint_with_a_wildcard_has_no_subject_to_send_to(run: Run, url: str) -> None:
    done = run("request", "requested", "many", "-s", url)
    assert (done.returncode, done.stdout) == (1, "")
    assert "'some.subject.any.*'" in done.stderr


def test_a_header_without_a_colon_is_a_usage_error(run: Run, url: str) -> None:
    done = run("request", "requested", "echo", "-H", "nonsense", "-s", url)
    expected = "natsvc: the header 'nonsense' must have the form NAME:VALUE\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)


def test_a_header_that_cannot_be_sent_is_an_error_that_names_the_rule(run: Run, url: str) -> None:
    done = run("request", "requested", "echo", "-H", "bad name:1", "-s", url)
    assert (done.returncode, done.stdout) == (1, "")
    assert "'bad name' must be printable ASCII" in done.stderr
