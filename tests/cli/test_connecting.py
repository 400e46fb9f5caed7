"""How a command finds its server and says who it is: options, variables, and contexts of the nats CLI."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from natsvc.testing import NatsServer
from tests.cli.conftest import Environment, Run
from tests.connection.certificates import Certificates
from tests.connection.credentials import Key, Operator

SECRET = "pass w/rd:?@'\""
USER = f"authorization {{ user: ada, password: {json.dumps(SECRET)} }}"
TOKEN = f"authorization {{ token: {json.dumps(SECRET)} }}"

MakeServer = Callable[..., NatsServer]
WriteContext = Callable[..., Path]


@pytest.fixture
def write_context(environment: Environment) -> WriteContext:
    """Writes a context of the nats CLI, `write_context("name", selected=True, url=...)`."""

    def write(name: str, *, selected: bool = False, **fields: Any) -> Path:
        directory = Path(environment["XDG_CONFIG_HOME"]) / "nats"
        path = directory / "context" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        # The nats CLI writes all fields, the unused ones empty.
        unused = dict.fromkeys(("description", "url", "token", "user", "password", "creds", "nkey", "cert", "nsc"), "")
        path.write_text(json.dumps({**unused, "windows_ca_certs_match": None, **fields}), encoding="utf-8")
        if selected:
            (directory / "context.txt").write_text(name, encoding="utf-8")
        return path

    return write


def assert_connects(run: Run, *arguments: str, env: Environment | None = None) -> None:
    done = run("ls", *arguments, env=env)
    assert (done.returncode, done.stderr) == (0, "there are no services\n")


def assert_refused(run: Run, *arguments: str, env: Environment | None = None) -> str:
    done = run("ls", *arguments, env=env)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert SECRET not in done.stderr
    return done.stderr


@pytest.mark.parametrize("form", ["option", "short option", "before the command", "variable"])
def test_the_server_is_named_by_an_option_or_a_variable(run: Run, server: NatsServer, form: str) -> None:
    if form == "variable":
        done = run("ls", "-j", env={"NATS_URL": server.url})
    elif form == "before the command":
        done = run("--server", server.url, "ls", "-j", env={"NATS_URL": "127.0.0.1:1"})
    else:
        done = run("ls", "-j", "-s" if form == "short option" else "--server", server.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_an_option_behind_the_command_wins_over_one_before_it(run: Run, server: NatsServer) -> None:
    assert_connects(run, "-s", server.url, env={"NATS_URL": "127.0.0.1:1"})
    assert run("-s", "127.0.0.1:1", "ls", "-s", server.url).returncode == 0


def test_user_and_password(run: Run, make_server: MakeServer) -> None:
    server = ["-s", make_server(USER).url]
    assert_connects(run, *server, "--user", "ada", "--password", SECRET)
    assert_connects(run, *server, env={"NATS_USER": "ada", "NATS_PASSWORD": SECRET})
    assert_connects(run, *server, "--password", SECRET, env={"NATS_USER": "ada"})
    assert "Authorization Violation" in assert_refused(run, *server)
    assert_refused(run, *server, "--user", "ada", "--password", SECRET + "!")


def test_a_token_and_a_user_without_a_password_which_is_a_token_too(run: Run, make_server: MakeServer) -> None:
    server = ["-s", make_server(TOKEN).url]
    assert_connects(run, *server, "--token", SECRET)
    assert_connects(run, *server, "--user", SECRET)
    assert_connects(run, *server, env={"NATS_TOKEN": SECRET})


def test_credentials_on_the_command_line_are_not_mixed_with_others_of_the_environment(
    run: Run, make_server: MakeServer
) -> None:
    server = make_server(USER)
    assert_connects(
        run, "-s", server.url, "--user", "ada", "--password", SECRET, env={"NATS_TOKEN": "t", "NATS_CREDS": "no-file"}
    )
    told = assert_refused(run, "-s", server.url, "--user", "ada", "--password", SECRET, "--token", SECRET)
    assert "must not be given together with user" in told


def test_an_nkey_is_read_from_a_file(run: Run, make_server: MakeServer, tmp_path: Path) -> None:
    key = Key.of_user()
    server = make_server(f"authorization {{ users: [ {{ nkey: {key.public} }} ] }}")
    bare, decorated, empty = tmp_path / "bare.nk", tmp_path / "decorated.nk", tmp_path / "empty.nk"
    bare.write_text(key.seed + "\n")
    decorated.write_text(f"-----BEGIN USER NKEY SEED-----\n{key.seed}\n------END USER NKEY SEED------\n")
    empty.write_text(SECRET)
    for path in (bare, decorated):
        assert_connects(run, "-s", server.url, "--nkey", str(path))
        assert_connects(run, "-s", server.url, env={"NATS_NKEY": str(path)})
    told = assert_refused(run, "-s", server.url, "--nkey", str(empty))
    assert told == f"natsvc: --nkey: {empty}: no seed of a user's nkey (SU…) in there\n"


def test_creds_are_read_from_a_file(run: Run, make_server: MakeServer, tmp_path: Path) -> None:
    operator = Operator()
    server = make_server(operator.server_config())
    path = tmp_path / "user.creds"
    path.write_text(operator.account.user().creds)
    assert_connects(run, "-s", server.url, "--creds", str(path))
    assert_connects(run, "-s", server.url, env={"NATS_CREDS": str(path)})
    told = assert_refused(run, "-s", server.url, "--creds", str(tmp_path / "missing.creds"))
    assert told == f"natsvc: --creds: {tmp_path / 'missing.creds'}: No such file or directory\n"
    path.write_text(SECRET)
    assert f"--creds: {path}: <hidden> must be" in assert_refused(run, "-s", server.url, "--creds", str(path))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("first", [False, True])
def test_tls_with_an_authority_and_a_client_certificate(
    run: Run, make_server: MakeServer, certificates: Certificates, first: bool
) -> None:
    server = make_server(tls=certificates.server_tls(verify=True, handshake_first=first))
    authority, client = str(certificates.authority), str(certificates.client)
    options = ["-s", server.url, *(["--tlsfirst"] if first else [])]
    assert_connects(run, *options, "--tlsca", authority, "--tlscert", client, "--tlskey", client)
    assert_connects(run, *options, env={"NATS_CA": authority, "NATS_CERT": client, "NATS_KEY": client})
    assert_refused(run, *options, "--tlsca", authority)
    assert "certificate" in assert_refused(run, *options, "--tlsca", str(certificates.unknown_authority))


def test_files_for_tls_that_cannot_be_used_are_named(run: Run, certificates: Certificates, tmp_path: Path) -> None:
    missing, client = str(tmp_path / "missing.pem"), str(certificates.client)
    told = assert_refused(run, "--tlsca", missing)
    assert told == f"natsvc: the certificate authorities {missing} can't be used: No such file or directory\n"
    assert missing in assert_refused(run, "--tlscert", missing, "--tlskey", client)
    assert assert_refused(run, "--tlscert", client) == "natsvc: the client's private key is missing\n"


def test_a_selected_context_is_used(run: Run, make_server: MakeServer, write_context: WriteContext) -> None:
    server = make_server(USER)
    write_context("work", selected=True, url=server.url, user="ada", password=SECRET)
    assert_connects(run)
    assert_refused(run, "--no-context", "-s", server.url)


def test_a_context_is_chosen_by_an_option_a_variable_or_its_file(
    run: Run, make_server: MakeServer, write_context: WriteContext
) -> None:
    server = make_server(TOKEN)
    write_context("other", selected=True, url="127.0.0.1:1")
    path = write_context("work", url=server.url, token=SECRET)
    assert_connects(run, "--context", "work")
    assert_connects(run, env={"NATS_CONTEXT": "work"})
    assert_connects(run, "--context", str(path))


def test_what_is_given_wins_over_the_context(run: Run, make_server: MakeServer, write_context: WriteContext) -> None:
    server = make_server(USER)
    write_context("elsewhere", selected=True, url="127.0.0.1:1", user="ada", password=SECRET)
    assert_connects(run, "-s", server.url)
    assert_connects(run, env={"NATS_URL": server.url})
    write_context("stranger", selected=True, url=server.url, token="wrong")
    assert_connects(run, "--user", "ada", "--password", SECRET)
    write_context("forgetful", selected=True, url=server.url, user="ada", password="wrong")
    assert_connects(run, "--password", SECRET)


@pytest.mark.parametrize("form", ["path", "variable in the path", "home", "file", "data", "jwt and seed"])
def test_creds_of_a_context(
    run: Run, make_server: MakeServer, write_context: WriteContext, tmp_path: Path, form: str
) -> None:
    operator = Operator()
    server = make_server(operator.server_config())
    user = operator.account.user()
    path = tmp_path / "user.creds"
    path.write_text(user.creds)
    fields = {
        "path": {"creds": str(path)},
        "variable in the path": {"creds": "${PLACE}/user.creds"},
        "home": {"creds": "~/user.creds"},
        "file": {"creds": f"file://{path}"},
        "data": {"creds": "data:;base64," + base64.b64encode(user.creds.encode()).decode()},
        "jwt and seed": {"user_jwt": user.jwt, "user_seed": "env://SEED"},
    }
    write_context("work", selected=True, url=server.url, **fields[form])
    assert_connects(run, env={"PLACE": str(tmp_path), "HOME": str(tmp_path), "SEED": user.key.seed})


def test_the_nkey_and_the_password_of_a_context_may_be_kept_elsewhere(
    run: Run, make_server: MakeServer, write_context: WriteContext, tmp_path: Path
) -> None:
    key = Key.of_user()
    server = make_server(f"authorization {{ users: [ {{ nkey: {key.public} }}, {{ user: ada, password: x-y }} ] }}")
    (tmp_path / "user.nk").write_text(key.seed)
    write_context("nkey", url=server.url, nkey=str(tmp_path / "user.nk"))
    assert_connects(run, "--context", "nkey")
    write_context("password", url=server.url, user="ada", password="env://NATSVC_TEST_PASSWORD")
    assert_connects(run, "--context", "password", env={"NATSVC_TEST_PASSWORD": "x-y"})
    told = assert_refused(run, "--context", "password")
    expected = "the context 'password': password: the environment variable 'NATSVC_TEST_PASSWORD' is not set"
    assert told == f"natsvc: {expected}\n"


def test_tls_of_a_context(
    run: Run, make_server: MakeServer, write_context: WriteContext, certificates: Certificates
) -> None:
    server = make_server(tls=certificates.server_tls(verify=True, handshake_first=True))
    client = str(certificates.client)
    fields = {"ca": str(certificates.authority), "cert": client, "key": client, "tls_first": True}
    write_context("secure", selected=True, url=server.url, **fields)
    assert_connects(run)


def test_the_inbox_prefix_lets_a_user_ask_who_may_not_subscribe_elsewhere(
    run: Run, make_server: MakeServer, write_context: WriteContext
) -> None:
    permissions = '{ publish: "$SRV.>", subscribe: "_PRIVATE.>" }'
    server = make_server(f"authorization {{ users: [ {{ user: a, password: b, permissions: {permissions} }} ] }}")
    user = ["-s", server.url, "--user", "a", "--password", "b", "--timeout", "1s"]
    assert "subscription" in assert_refused(run, *user)
    assert_connects(run, *user, "--inbox-prefix", "_PRIVATE.me")
    write_context("private", selected=True, inbox_prefix="_PRIVATE.me")
    assert_connects(run, *user)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"nsc": "nsc://operator/account/user"}, "looks up credentials with nsc"),
        ({"socks_proxy": "socks5://127.0.0.1"}, "asks for a SOCKS proxy"),
        ({"windows_cert_store": "user"}, "takes certificates from a Windows store"),
        ({"user": 7}, "its user is not a text"),
        ({"user_jwt": "a.b.c"}, "has a user_jwt without user_seed"),
        ({"token": "op://vault/item"}, "natsvc does not look up op:// references"),
        ({"creds": "data:;base64,!"}, "the data: reference is not base64 of a text"),
        ({"user": "a", "token": "b"}, "must not be given together with"),
    ],
)
def test_a_context_that_asks_for_what_natsvc_cannot_do_is_refused(
    run: Run, write_context: WriteContext, fields: dict[str, Any], told: str
) -> None:
    write_context("strange", selected=True, **fields)
    assert told in assert_refused(run)


def test_a_context_that_is_not_there_is_told_with_those_that_are(run: Run, write_context: WriteContext) -> None:
    assert assert_refused(run, "--context", "a") == "natsvc: the context 'a' does not exist; there are: none\n"
    write_context("b")
    write_context("c")
    assert assert_refused(run, "--context", "a") == "natsvc: the context 'a' does not exist; there are: b, c\n"
    assert "does not exist" in assert_refused(run, "--context", "../context/b")


def test_a_selected_context_that_is_gone_is_an_error(run: Run, write_context: WriteContext) -> None:
    write_context("gone", selected=True).unlink()
    assert assert_refused(run) == "natsvc: the selected context 'gone' does not exist; there are: none\n"


@pytest.mark.parametrize("content", ["{", "[]", "\udcff"])
def test_a_context_that_cannot_be_read_is_an_error(run: Run, write_context: WriteContext, content: str) -> None:
    path = write_context("broken", selected=True)
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert "the selected context 'broken' can't be read: " in assert_refused(run)


@pytest.mark.parametrize("timeout", ["0.5", "500ms", ".5s", "0m0.5s"])
def test_the_timeout_may_be_seconds_or_a_duration_of_the_nats_cli(run: Run, server: NatsServer, timeout: str) -> None:
    assert_connects(run, "-s", server.url, "--timeout", timeout)
    assert_connects(run, "-s", server.url, env={"NATS_TIMEOUT": timeout})
