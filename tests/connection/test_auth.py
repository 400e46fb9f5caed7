"""Design, section 4, "Security": who we are, what we may do, and that nobody learns our secrets."""

from __future__ import annotations

import dataclasses
import logging
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import pytest

from natsvc import (
    AuthorizationError,
    ConfigError,
    ConnectionClosedError,
    NoServersError,
    PermissionsError,
)
from natsvc.testing import NatsServer
from tests.connection.credentials import Key, Operator
from tests.connection.front_ends import FrontEnd
from tests.connection.scripted_server import Script, ScriptedServer, Session
from tests.worlds import LIMIT, eventually

MakeServer: TypeAlias = Callable[..., NatsServer]
Play: TypeAlias = Callable[[Script], ScriptedServer]

PASSWORD = "open: sesame/@?#%"
TOKEN = "t0ken of/@?#% the day"


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to show who we are.

    Attributes:
        server: The options of the server.
        user_info: What stands before the @ in the URL, as it is written there; "" for nothing.
        options: The options of `connect`.
        secrets: What must not be seen anywhere.
    """

    server: dict[str, Any]
    user_info: str = ""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    secrets: tuple[str, ...] = ()

    def url(self, server: NatsServer) -> str:
        return server.url.replace("nats://", f"nats://{self.user_info}@" if self.user_info else "nats://")


def password_way(password: str, *, in_url: bool) -> Way:
    server = {"user": "a lice", "password": PASSWORD}
    written = quote(password, safe="")
    if in_url:
        return Way(server, f"a%20lice:{written}", {}, (password, written))
    return Way(server, "", {"user": "a lice", "password": password}, (password,))


def token_way(token: str, *, in_url: bool) -> Way:
    server = {"token": TOKEN}
    written = quote(token, safe="")
    if in_url:
        return Way(server, written, {}, (token, written))
    return Way(server, "", {"token": token}, (token,))


def nkey_way(key: Key, allowed: Key, *, as_bytes: bool = False) -> Way:
    server = {"config": f"authorization {{ users: [ {{ nkey: {allowed.public} }} ] }}"}
    return Way(server, "", {"nkey_seed": key.seed.encode() if as_bytes else key.seed}, (key.seed,))


def creds_way(actual: Operator, trusted: Operator, place: Callable[[str], str | Path] = str) -> Way:
    """The user's creds are put into a place, or given as they are."""
    user = actual.account.user()
    return Way({"config": trusted.server_config()}, "", {"creds": place(user.creds)}, user.secrets)


def file_in(directory: Path) -> Callable[[str], Path]:
    def write(content: str) -> Path:
        path = directory / "user.creds"
        path.write_text(content)
        return path

    return write


KEY, OPERATOR = Key.of_user(), Operator()

GOOD: dict[str, Callable[[Path], Way]] = {
    "user and password in options": lambda _: password_way(PASSWORD, in_url=False),
    "user and password in the URL": lambda _: password_way(PASSWORD, in_url=True),
    "token in options": lambda _: token_way(TOKEN, in_url=False),
    "token in the URL": lambda _: token_way(TOKEN, in_url=True),
    "nkey": lambda _: nkey_way(KEY, KEY),
    "nkey as bytes": lambda _: nkey_way(KEY, KEY, as_bytes=True),
    "creds as content": lambda _: creds_way(OPERATOR, OPERATOR),
    "creds as a path": lambda directory: creds_way(OPERATOR, OPERATOR, file_in(directory)),
    "creds as a path in text": lambda directory: creds_way(
        OPERATOR, OPERATOR, lambda content: str(file_in(directory)(content))
    ),
}

BAD: dict[str, Callable[[Path], Way]] = {
    "user and password in options": lambda _: password_way("wrong pass-word", in_url=False),
    "user and password in the URL": lambda _: password_way("wrong pass-word", in_url=True),
    "token in options": lambda _: token_way("wrong to-ken", in_url=False),
    "token in the URL": lambda _: token_way("wrong to-ken", in_url=True),
    "nkey": lambda _: nkey_way(Key.of_user(), KEY),
    "creds as content": lambda _: creds_way(Operator(), OPERATOR),
    "creds as a path": lambda directory: creds_way(Operator(), OPERATOR, file_in(directory)),
    "nothing": lambda _: Way(password_way(PASSWORD, in_url=False).server),
}


def everything_about(error: BaseException) -> str:
    """All that anybody may come to see of an error: what it and its causes say, and the traceback."""
    shown = traceback.format_exception(error)
    at: BaseException | None = error
    while at is not None:
        shown += [str(at), repr(at), repr(at.args), repr(vars(at))]
        at = at.__cause__ or at.__context__
    return "\n".join(shown)


def everything_of(nc: Any) -> str:
    """All that anybody may come to see of a connection."""
    return "\n".join([str(nc), repr(nc), str(nc.connected_url), repr(nc.server_info)])


@pytest.mark.parametrize("name", GOOD)
def test_the_right_credentials_are_accepted_and_shown_to_nobody(
    front_end: FrontEnd, make_server: MakeServer, caplog: pytest.LogCaptureFixture, tmp_path: Path, name: str
) -> None:
    caplog.set_level(logging.DEBUG)
    way = GOOD[name](tmp_path)
    server = make_server(**way.server)
    connection = front_end.connect(way.url(server), **way.options)
    subscription = connection.subscribe("who")
    connection.publish("who", b"it is me")
    assert subscription.receive().data == b"it is me"
    assert connection.connected_url == server.url
    connection.reconnect()
    eventually(lambda: connection.events.of("on_reconnect"))
    seen = everything_of(connection.nc) + caplog.text + repr(connection.events)
    assert [secret for secret in way.secrets if secret in seen] == []


@pytest.mark.parametrize("name", BAD)
def test_wrong_credentials_are_refused_and_shown_to_nobody(
    front_end: FrontEnd, make_server: MakeServer, caplog: pytest.LogCaptureFixture, tmp_path: Path, name: str
) -> None:
    caplog.set_level(logging.DEBUG)
    way = BAD[name](tmp_path)
    server = make_server(**way.server)
    with pytest.raises(AuthorizationError, match=r"(?i)authorization violation") as caught:
        front_end.connect(way.url(server), **way.options)
    seen = everything_about(caught.value) + caplog.text
    assert [secret for secret in way.secrets if secret in seen] == []


@pytest.mark.parametrize("name", [name for name in BAD if "creds" in name or "nkey" in name])
def test_damaged_keys_are_refused_before_any_server_is_asked_and_shown_to_nobody(
    front_end: FrontEnd, play: Play, caplog: pytest.LogCaptureFixture, tmp_path: Path, name: str
) -> None:
    caplog.set_level(logging.DEBUG)
    way = BAD[name](tmp_path)
    [(option, given)] = way.options.items()
    seed = way.secrets[0]
    damaged = seed[:-8] + "01189998"  # no base32
    if isinstance(given, Path):
        given.write_text(given.read_text().replace(seed, damaged))
    else:
        given = given.replace(seed, damaged)
    server = play(Session.ignore)
    with pytest.raises(ConfigError) as caught:
        front_end.connect(server.url, **{option: given})
    assert server.sessions == []
    seen = everything_about(caught.value) + caplog.text
    assert [secret for secret in (seed, damaged, *way.secrets[1:]) if secret in seen] == []


def test_a_server_that_refuses_us_is_left_for_one_that_does_not(front_end: FrontEnd, make_server: MakeServer) -> None:
    refusing = make_server(user="alice", password="another")
    accepting = make_server(user="alice", password="right")
    connection = front_end.connect([refusing.url, accepting.url], user="alice", password="right", randomize=False)
    assert connection.connected_url == accepting.url


def test_of_several_reasons_the_refusal_is_told(front_end: FrontEnd, make_server: MakeServer) -> None:
    way = password_way("wrong pass-word", in_url=False)
    refusing, dead = make_server(**way.server), make_server()
    dead.kill()
    with pytest.raises(AuthorizationError) as caught:
        front_end.connect([refusing.url, dead.url], randomize=False, **way.options)
    assert way.options["password"] not in everything_about(caught.value)


@pytest.mark.parametrize("name", [name for name in GOOD if "URL" in name])
def test_a_server_that_is_not_there_is_named_without_the_credentials_in_its_url(
    front_end: FrontEnd, make_server: MakeServer, caplog: pytest.LogCaptureFixture, tmp_path: Path, name: str
) -> None:
    caplog.set_level(logging.DEBUG)
    way = GOOD[name](tmp_path)
    server = make_server(**way.server)
    server.kill()
    with pytest.raises(NoServersError) as caught:
        front_end.connect(way.url(server))
    assert server.url in str(caught.value)
    seen = everything_about(caught.value) + caplog.text
    assert [secret for secret in way.secrets if secret in seen] == []


USERS = "authorization {{ users: [ {{user: stays, password: pw}}, {} ] }}"


def test_a_user_who_is_removed_while_connected_loses_the_connection_for_good(
    front_end: FrontEnd, make_server: MakeServer
) -> None:
    server = make_server(USERS.format("{user: goes, password: secret-word}"))
    connection = front_end.connect(server.url, user="goes", password="secret-word")
    other = front_end.connect(server.url, user="stays", password="pw")
    subscription = connection.subscribe("anything")
    connection.flush()
    server.reload(USERS.format(""))
    eventually(lambda: connection.is_closed)
    eventually(lambda: connection.events.of("on_close"))
    [error] = connection.events.of("on_close")
    assert isinstance(error, AuthorizationError)
    assert "secret-word" not in everything_about(error)
    with pytest.raises(ConnectionClosedError):
        connection.publish("anything")
    with pytest.raises(ConnectionClosedError):
        subscription.receive()
    other.flush()


def test_a_user_whose_jwt_is_revoked_while_connected_loses_the_connection_for_good(
    front_end: FrontEnd, make_server: MakeServer
) -> None:
    operator = Operator()
    revoked, kept = operator.account.user(), operator.account.user()
    server = make_server(operator.server_config())
    connection = front_end.connect(server.url, creds=revoked.creds)
    other = front_end.connect(server.url, creds=kept.creds)
    connection.flush()
    operator.account.revoke(revoked)
    server.reload(operator.server_config())
    eventually(lambda: connection.events.of("on_close"))
    [error] = connection.events.of("on_close")
    assert isinstance(error, AuthorizationError)
    other.flush()


def test_a_jwt_that_expires_while_connected_ends_the_connection_for_good(
    front_end: FrontEnd, make_server: MakeServer
) -> None:
    operator = Operator()
    server = make_server(operator.server_config())
    user = operator.account.user(expires=int(time.time()) + 2)
    connection = front_end.connect(server.url, creds=user.creds)
    assert connection.is_connected
    eventually(lambda: connection.events.of("on_close"))
    [error] = connection.events.of("on_close")
    assert isinstance(error, AuthorizationError)


def refusing_after_the_first(accepted_again: int | None = None) -> Script:
    """Lets the first connection in until it is told of the revocation, and refuses the others, perhaps up to one."""

    def script(session: Session) -> None:
        if session.number == 1 or session.number == accepted_again:
            session.welcome()
            if session.number == accepted_again:
                session.serve()
            session.await_subscription("revoke.me")
            session.send(b"-ERR 'User Authentication Revoked'\r\n")
            return
        session.greet()
        while session.read()[0] != b"PING":
            pass
        session.send(b"-ERR 'Authorization Violation'\r\n")

    return script


def test_the_second_refusal_of_the_same_kind_from_one_server_is_the_last(front_end: FrontEnd, play: Play) -> None:
    server = play(refusing_after_the_first())
    connection = front_end.connect(server.url)
    connection.subscribe("revoke.me")
    eventually(lambda: connection.events.of("on_close"))
    [error] = connection.events.of("on_close")
    assert isinstance(error, AuthorizationError)
    assert "Authorization Violation" in str(error)
    assert len(server.sessions) == 1 + 2


def test_refusals_are_borne_when_they_are_to_be_ignored(front_end: FrontEnd, play: Play) -> None:
    server = play(refusing_after_the_first(accepted_again=6))
    connection = front_end.connect(server.url, ignore_auth_errors=True)
    connection.subscribe("revoke.me")
    eventually(lambda: connection.events.of("on_reconnect"))
    connection.flush()
    assert len(server.sessions) == 6
    assert connection.events.of("on_close") == []


def test_a_refusal_that_uses_up_the_reconnects_is_what_closes(front_end: FrontEnd, play: Play) -> None:
    server = play(refusing_after_the_first())
    connection = front_end.connect(server.url, max_reconnects=1)
    connection.subscribe("revoke.me")
    eventually(lambda: connection.events.of("on_close"))
    [error] = connection.events.of("on_close")
    assert isinstance(error, AuthorizationError)
    assert len(server.sessions) == 1 + 1


PERMISSIONS = """
authorization {
    users: [
        {user: free, password: pw}
        {user: bound, password: pw, permissions: {
            publish: {deny: ["secret.>"]}
            subscribe: {deny: ["secret.>", "grouped workers"]}
        }}
    ]
}
"""


def test_a_publish_that_is_not_allowed_is_an_event_that_names_the_subject(
    front_end: FrontEnd, make_server: MakeServer
) -> None:
    server = make_server(PERMISSIONS)
    connection = front_end.connect(server.url, user="bound", password="pw")
    subscription = connection.subscribe("allowed")
    connection.publish("secret.plans", b"x")
    connection.publish("allowed", b"y")
    assert subscription.receive().data == b"y"
    eventually(lambda: connection.events.of("on_error"))
    [error] = connection.events.of("on_error")
    assert isinstance(error, PermissionsError)
    assert (error.operation, error.subject) == ("publish", "secret.plans")
    assert connection.is_connected
    assert connection.events.of("on_disconnect") == []


def test_a_request_that_is_not_allowed_fails_at_once(front_end: FrontEnd, make_server: MakeServer) -> None:
    connection = front_end.connect(make_server(PERMISSIONS).url, user="bound", password="pw")
    with pytest.raises(PermissionsError, match=r"secret\.plans"):
        connection.request("secret.plans", timeout=LIMIT)
    eventually(lambda: [error.subject for error in connection.events.of("on_error")] == ["secret.plans"])


def test_a_subscription_that_is_not_allowed_ends_with_the_error_and_the_others_go_on(
    front_end: FrontEnd, make_server: MakeServer
) -> None:
    connection = front_end.connect(make_server(PERMISSIONS).url, user="bound", password="pw")
    allowed = connection.subscribe("allowed")
    refused = connection.subscribe("secret.plans")
    with pytest.raises(PermissionsError) as caught:
        refused.receive()
    assert (caught.value.operation, caught.value.subject) == ("subscription", "secret.plans")
    eventually(lambda: connection.events.of("on_error"))
    [error] = connection.events.of("on_error")
    assert isinstance(error, PermissionsError)
    assert error.subject == "secret.plans"
    connection.publish("allowed", b"x")
    assert allowed.receive().data == b"x"


def test_only_the_queue_group_that_is_not_allowed_ends(front_end: FrontEnd, make_server: MakeServer) -> None:
    connection = front_end.connect(make_server(PERMISSIONS).url, user="bound", password="pw")
    plain = connection.subscribe("grouped")
    others = connection.subscribe("grouped", queue="others")
    refused = connection.subscribe("grouped", queue="workers")
    with pytest.raises(PermissionsError):
        refused.receive()
    connection.publish("grouped", b"x")
    assert [one.receive().data for one in (plain, others)] == [b"x", b"x"]


def test_a_refused_subscription_is_not_made_again_by_a_reconnect(front_end: FrontEnd, make_server: MakeServer) -> None:
    connection = front_end.connect(make_server(PERMISSIONS).url, user="bound", password="pw")
    with pytest.raises(PermissionsError):
        connection.subscribe("secret.plans").receive()
    connection.reconnect()
    eventually(lambda: connection.events.of("on_reconnect"))
    connection.flush()
    assert len(connection.events.of("on_error")) == 1


def test_a_service_whose_endpoint_is_refused_ends_with_that_error(front_end: FrontEnd, make_server: MakeServer) -> None:
    async def echo(request: Any) -> bytes:
        return bytes(request.data)

    server = make_server(PERMISSIONS)
    connection = front_end.connect(server.url, user="bound", password="pw")
    service = connection.add_service("refused")
    service.add_endpoint("allowed", handler=echo)
    with pytest.raises(PermissionsError) as caught:
        service.add_endpoint("not-allowed", subject="secret.plans", handler=echo)
    assert caught.value.subject == "secret.plans"
    eventually(lambda: service.is_stopped)
    assert service.error is caught.value
    assert connection.is_connected
