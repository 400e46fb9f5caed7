"""The bare echo is correct whatever the pieces that its input comes in: a wrong one would be no limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.services.limit import Echo

MESSAGES = st.lists(st.tuples(st.integers(0, 9999), st.binary(max_size=40)), max_size=8)


@given(MESSAGES, st.data())
def test_each_message_is_echoed(messages: list[tuple[int, bytes]], data: st.DataObject) -> None:
    received = b'INFO {"max_payload":1048576}\r\nPONG\r\n'
    expected = b""
    for number, body in messages:
        received += b"MSG benchmark.echo 1 _INBOX.a.%d %d\r\n%b\r\n" % (number, len(body), body)
        expected += b"PUB _INBOX.a.%d %d\r\n%b\r\n" % (number, len(body), body)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(received)), max_size=6)))
    echo = Echo(1)
    pieces = [received[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(received)], strict=True)]
    assert b"".join(map(echo.receive, pieces)) == expected


def test_it_is_ready_when_the_server_has_confirmed(capsys: pytest.CaptureFixture[str]) -> None:
    echo = Echo(2)
    assert echo.greeting.endswith(b"SUB benchmark.echo.0001 q 2\r\nPING\r\n")
    assert echo.receive(b"INFO {}\r\nPON") == b""
    assert capsys.readouterr().out == ""
    assert echo.receive(b"G\r\n") == b""
    assert capsys.readouterr().out.startswith("ready ")


def test_a_ping_is_answered_and_an_error_is_not_overlooked() -> None:
    echo = Echo(1)
    assert echo.receive(b"PI") == b""
    assert echo.receive(b"NG\r\nMSG a 1 b 2\r\nhi\r\n") == b"PONG\r\nPUB b 2\r\nhi\r\n"
    with pytest.raises(ConnectionError, match="Slow Consumer"):
        echo.receive(b"-ERR 'Slow Consumer'\r\n")
