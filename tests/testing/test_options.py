"""The options of a server: that they reach it, whatever characters they have, and that nobody sees the secrets."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from natsvc import AuthorizationError, ConfigError, NoServersError
from natsvc.sync import connect
from natsvc.testing import NatsServer, NatsServerError, ServerCluster, ServerTLS
from tests.connection.certificates import Certificates
from tests.plain_client import PlainClient
from tests.worlds import eventually

MakeServer = Callable[..., NatsServer]

reloads = pytest.mark.skipif(sys.platform == "win32", reason="nats-server reloads on Windows only as a service")

SECRETS = [
    'with "quotes" and \\backslashes\\',
    '" } authorization { token: "x',
    "two\nlines,\ttab\rreturn\x00and\x1b\x7f",
    "$HOME ${HOME} # not // a comment",
    "'single'; include ./elsewhere",
    "true",
    "12k",
    " blanks around ",
    "\\x41 %s %20",
    "größer ☃ 😀 \u2028\x85",
]
"""Each would mean something else, or nothing, in a configuration that it is pasted into."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("secret", SECRETS)
def test_user_and_password_are_what_clients_must_be_to_the_last_character(
    make_nats_server: MakeServer, secret: str
) -> None:
    server = make_nats_server(user=secret, password=secret)
    with connect(server.url, user=secret, password=secret) as nc:
        nc.flush()
    for wrong in (secret + "x", secret[:-1] + "?"):
        with pytest.raises(AuthorizationError):
            connect(server.url, user=secret, password=wrong)


@pytest.mark.parametrize("secret", SECRETS)
def test_the_token_is_what_clients_must_have_to_the_last_character(make_nats_server: MakeServer, secret: str) -> None:
    server = make_nats_server(token=secret)
    with connect(server.url, token=secret) as nc:
        nc.flush()
    with pytest.raises(AuthorizationError):
        connect(server.url, token=secret + "x")
    with pytest.raises(AuthorizationError):
        connect(server.url)


def test_neither_a_repr_nor_an_error_nor_the_log_shows_a_secret(make_nats_server: MakeServer) -> None:
    password, token = "the pass-word", "the to-ken"
    servers = [make_nats_server(user="alice", password=password), make_nats_server(token=token)]
    seen = [text for server in servers for text in (repr(server), server.url, repr(server._options), server.log)]
    refused: list[dict[str, Any]] = [
        {"password": password},
        {"user": "alice", "password": password, "token": token},
        {"user": 7, "password": password},
        {"token": f"{token}\ud800"},
        {"token": [token]},
    ]
    for options in refused:
        with pytest.raises(ConfigError) as caught:
            NatsServer(**options)
        seen += [str(caught.value), repr(caught.value), repr(caught.value.__cause__), repr(caught.value.__context__)]
    with pytest.raises(NatsServerError) as failed:
        make_nats_server(config="accounts {", user="alice", password=password)
    seen.append(str(failed.value))
    assert [text for text in seen if password in text or token in text] == []


def test_the_other_options_win_over_the_same_settings_in_the_text(make_nats_server: MakeServer) -> None:
    config = "server_name: text\nauthorization { users: [{user: other, password: other}] }"
    server = make_nats_server(config=config, name="option", user="alice", password="right")
    assert server.monitoring()["server_name"] == "option"
    with connect(server.url, user="alice", password="right") as nc:
        nc.flush()
    with pytest.raises(AuthorizationError):
        connect(server.url, user="other", password="other")


def test_a_mistake_in_the_text_is_found_in_its_line_whatever_the_other_options(make_nats_server: MakeServer) -> None:
    with pytest.raises(NatsServerError, match=r"nats-server\.conf:2:\d+: .*no_such_setting"):
        make_nats_server(config="# first\nno_such_setting: 1", name="named", jetstream=True, token="secret")


def test_the_name_is_what_the_server_calls_itself(make_nats_server: MakeServer) -> None:
    server = make_nats_server(name='the"first')
    assert server.monitoring()["server_name"] == 'the"first'
    assert repr(server) == f'<NatsServer the"first port={server.port} running>'


@pytest.mark.parametrize("handshake_first", [False, True])
def test_with_tls_clients_must_speak_it_and_the_url_says_so(
    make_nats_server: MakeServer, certificates: Certificates, handshake_first: bool
) -> None:
    tls = ServerTLS(certificates.server, handshake_first=handshake_first)
    server = make_nats_server(tls=tls, user="alice", password="right")
    assert server.url == f"tls://127.0.0.1:{server.port}"
    with connect(
        server.url, tls=certificates.context(), tls_handshake_first=handshake_first, user="alice", password="right"
    ) as nc:
        nc.flush()
        assert server.monitoring("connz")["connections"][0]["tls_version"] in {"1.2", "1.3"}
    with pytest.raises(NoServersError):
        connect(server.url.replace("tls://", "nats://"), tls=False, connect_timeout=0.5)


def test_with_verify_clients_must_show_a_certificate(make_nats_server: MakeServer, certificates: Certificates) -> None:
    server = make_nats_server(tls=ServerTLS(certificates.server, ca=certificates.authority, verify=True))
    with connect(server.url, tls=certificates.context(client=True)) as nc:
        nc.flush()
    with pytest.raises(NoServersError):
        connect(server.url, tls=certificates.context())


def test_certificate_and_key_may_be_in_files_with_any_name(
    make_nats_server: MakeServer, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / 'of "Ada"'
    directory.mkdir()
    pem = certificates.server.read_text()
    key = re.search(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----\n", pem, re.DOTALL)
    assert key is not None
    (directory / "key.pem").write_text(key[0])
    (directory / "certificate.pem").write_text(pem.replace(key[0], ""))
    monkeypatch.chdir(directory)
    tls = ServerTLS("certificate.pem", Path("key.pem"))
    monkeypatch.chdir(tmp_path)  # where the server would not find them
    server = make_nats_server(tls=tls)
    with connect(server.url, tls=certificates.context()) as nc:
        nc.flush()


@reloads
def test_tls_that_is_assigned_counts_from_the_next_reload_on(
    make_nats_server: MakeServer, certificates: Certificates
) -> None:
    server = make_nats_server(tls=ServerTLS(certificates.wrong_host))
    pid = server.pid
    with pytest.raises(NoServersError):
        connect(server.url, tls=certificates.context())
    server.tls = ServerTLS(certificates.server)
    server.reload()
    assert server.pid == pid
    with connect(server.url, tls=certificates.context()) as nc:
        nc.flush()


def test_tls_that_is_taken_away_counts_from_the_next_start_on(
    make_nats_server: MakeServer, certificates: Certificates
) -> None:
    server = make_nats_server(tls=ServerTLS(certificates.server))
    server.tls = None
    server.restart()
    assert server.url.startswith("nats://")
    with PlainClient(server.url) as client:
        client.flush()


def create_stream(server: NatsServer) -> None:
    with PlainClient(server.url) as client:
        created = client.request("$JS.API.STREAM.CREATE.KEPT", b'{"name": "KEPT", "subjects": ["kept"]}')
        assert "error" not in json.loads(created.data)
        stored = client.request("kept", b"a message")
        assert json.loads(stored.data)["seq"] == 1


def messages_in_stream(server: NatsServer) -> object:
    with PlainClient(server.url) as client:
        return json.loads(client.request("$JS.API.STREAM.INFO.KEPT").data).get("state", {}).get("messages")


def test_what_jetstream_keeps_outlives_a_restart_and_a_crash_and_ends_with_the_block(place: Path) -> None:
    with NatsServer(jetstream=True) as server:
        create_stream(server)
        server.restart()
        assert messages_in_stream(server) == 1
        server.kill()
        server.start()
        assert messages_in_stream(server) == 1
        assert Path(server.monitoring("jsz")["config"]["store_dir"]).is_relative_to(place)
        server.stop()
        assert list(place.iterdir()) == []
        server.start()
        assert messages_in_stream(server) is None
    assert list(place.iterdir()) == []


@reloads
def test_jetstream_and_the_name_outlive_a_reload(make_nats_server: MakeServer) -> None:
    server = make_nats_server(name="named", jetstream=True)
    create_stream(server)
    server.reload("max_payload: 2048")
    assert (server.monitoring()["max_payload"], server.monitoring()["server_name"]) == (2048, "named")
    assert messages_in_stream(server) == 1


def test_a_jetstream_block_in_the_text_sets_its_limits(make_nats_server: MakeServer) -> None:
    server = make_nats_server(config="jetstream { max_file_store: 12345678 }", jetstream=True)
    assert server.monitoring("jsz")["config"]["max_storage"] == 12345678


def test_servers_that_are_told_of_each_other_are_a_cluster(make_nats_server: MakeServer) -> None:
    with NatsServer() as first, NatsServer() as second:
        ports = first.port, second.port  # free ones, once these have ended
    servers = [
        make_nats_server(cluster=ServerCluster("by-hand", ports[0])),
        make_nats_server(cluster=ServerCluster("by-hand", ports[1], [ports[0]])),
    ]
    eventually(lambda: all(server.monitoring("routez")["num_routes"] for server in servers))
    assert [server.monitoring()["cluster"]["name"] for server in servers] == ["by-hand", "by-hand"]


@pytest.mark.parametrize(
    ("options", "field", "rule"),
    [
        ({"user": "alice"}, "user", "must have a password with it"),
        ({"password": "x"}, "password", "must have a user with it"),
        ({"user": "a", "password": "b", "token": "c"}, "token", "must not be given together with a user"),
        ({"user": "", "password": "b"}, "user", "must not be empty"),
        ({"user": "a", "password": ""}, "password", "must not be empty"),
        ({"token": b"bytes"}, "token", "must be a str"),
        ({"token": "\ud800"}, "token", "must have a UTF-8 form"),
        ({"name": "two words"}, "name", "must not contain blanks"),
        ({"name": ""}, "name", "must not be empty"),
        ({"config": Path("nats.conf")}, "config", "must be a str: the text"),
        ({"config": "# \ud800"}, "config", "must have a UTF-8 form"),
        ({"port": 0}, "port", "must be an int from 1 to 65535"),
        ({"port": True}, "port", "must be an int from 1 to 65535"),
        ({"port": 65536}, "port", "must be an int from 1 to 65535"),
        ({"tls": True}, "tls", "must be a ServerTLS"),
        ({"cluster": "name"}, "cluster", "must be a ServerCluster"),
        ({"jetstream": 1}, "jetstream", "must be True or False"),
    ],
)
def test_an_option_that_breaks_a_rule_is_refused(options: dict[str, Any], field: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule) as caught:
        NatsServer(**options)
    assert caught.value.field == f"NatsServer.{field}"


@pytest.mark.parametrize(
    ("options", "field", "rule"),
    [
        ({"certificate": 7}, "certificate", "must be the path of a file"),
        ({"certificate": b"bytes"}, "certificate", "must be the path of a file"),
        ({"certificate": ""}, "certificate", "must not be empty"),
        ({"certificate": "x", "key": 7}, "key", "must be the path of a file"),
        ({"certificate": "x", "ca": 7}, "ca", "must be the path of a file"),
        ({"certificate": "x", "verify": True}, "verify", "must have a ca"),
        ({"certificate": "x", "ca": "y", "verify": 1}, "verify", "must be True or False"),
        ({"certificate": "x", "handshake_first": "auto"}, "handshake_first", "must be True or False"),
    ],
)
def test_tls_that_breaks_a_rule_is_refused(options: dict[str, Any], field: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule) as caught:
        ServerTLS(**options)
    assert caught.value.field == f"ServerTLS.{field}"


@pytest.mark.parametrize(
    ("options", "field", "rule"),
    [
        ({"name": "two words", "port": 1}, "name", "must not contain blanks"),
        ({"name": "x", "port": 0}, "port", "must be an int"),
        ({"name": "x", "port": 1, "routes": 2}, "routes", "must be a sequence of ports"),
        ({"name": "x", "port": 1, "routes": [2, "3"]}, "routes[1]", "must be an int"),
    ],
)
def test_a_place_in_a_cluster_that_breaks_a_rule_is_refused(options: dict[str, Any], field: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule) as caught:
        ServerCluster(**options)
    assert caught.value.field == f"ServerCluster.{field}"


def test_what_is_assigned_is_checked_as_what_is_given() -> None:
    server = NatsServer(user="alice", password="right")
    for name in ("config", "tls", "cluster"):
        with pytest.raises(ConfigError) as caught:
            setattr(server, name, 7)
        assert caught.value.field == f"NatsServer.{name}"
        assert getattr(server, name) is None


def test_a_missing_certificate_is_an_error_with_the_words_of_the_server(tmp_path: Path) -> None:
    with pytest.raises(NatsServerError, match=re.escape(os.fspath(tmp_path / "missing.pem"))):
        NatsServer(tls=ServerTLS(tmp_path / "missing.pem")).start()


def test_the_url_of_a_client_may_carry_the_credentials_that_the_servers_does_not(make_nats_server: MakeServer) -> None:
    server = make_nats_server(user="a/lice", password="p@ss:word")
    assert "@" not in server.url
    with connect(server.url.replace("://", f"://{quote('a/lice', safe='')}:{quote('p@ss:word', safe='')}@")) as nc:
        nc.flush()
