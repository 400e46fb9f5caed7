"""CONNECT: what a client says of itself, and how it proves who it is."""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable
from typing import Any

import pytest

from natsvc.errors import AuthorizationError, ConfigError
from natsvc.wire.addresses import ServerAddress
from natsvc.wire.auth import HIDDEN, check_seed, connect_fields, parse_creds
from natsvc.wire.options import ConnectOptions
from tests.wire.test_options import everything_shown

SEED = "SUAACAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAN7EY"
PUBLIC_KEY = "UCFIRY65OQE7DFP5KLNS2PF2LVZMUZYJX4OZIEQ36N2IQANUB5XVZ45L"
SEED_OF_AN_ACCOUNT = "SAAAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAUN5U"
JWT = "eyJ0eXAiOiJKV1QifQ.eyJuYW1lIjoidSJ9.c2lnbmF0dXJl_-"
CREDS = f"""-----BEGIN NATS USER JWT-----
{JWT}
------END NATS USER JWT------

************************* IMPORTANT *************************
NKEY Seed printed below can be used to sign and prove identity.
NKEYs are sensitive and should be treated as secrets.

-----BEGIN USER NKEY SEED-----
{SEED}
------END USER NKEY SEED------

*************************************************************
"""
NONCE = "PXoWU7zWAMt75FY"

Connect = Callable[..., dict[str, object]]


def connect(url: str = "h", info: dict[str, Any] | None = None, **given: Any) -> dict[str, object]:
    options = ConnectOptions(url, **given)
    return connect_fields(options, options.addresses[0], {"nonce": NONCE} if info is None else info, version="1.2.3")


@pytest.fixture
def verify() -> Callable[[object], None]:
    """What checks that a signature is PUBLIC_KEY's, over NONCE, in the form that servers read."""
    nkeys = pytest.importorskip("nkeys")

    def check(signature: object) -> None:
        assert isinstance(signature, str)
        assert "=" not in signature
        raw = base64.urlsafe_b64decode(signature + "==")
        assert nkeys.from_seed(SEED.encode()).verify(NONCE.encode(), raw)

    return check


def test_connect_says_what_this_client_is_and_can() -> None:
    assert connect() == {
        "verbose": False,
        "pedantic": False,
        "tls_required": False,
        "lang": "python",
        "version": "1.2.3",
        "protocol": 1,
        "echo": True,
        "headers": True,
        "no_responders": True,
    }


def test_connect_says_what_the_options_ask_for() -> None:
    fields = connect("tls://h", name="my name", no_echo=True)
    assert (fields["name"], fields["echo"], fields["tls_required"]) == ("my name", False, True)


@pytest.mark.parametrize(("info", "expected"), [({}, True), ({"headers": True}, True), ({"headers": False}, False)])
def test_headers_are_not_asked_of_a_server_that_says_it_has_none(info: dict[str, Any], expected: bool) -> None:
    fields = connect(info=info)
    assert (fields["headers"], fields["no_responders"]) == (expected, expected)


PROOFS = {"user", "pass", "auth_token", "nkey", "jwt", "sig"}


def proof(fields: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if name in PROOFS}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"user": "u", "password": "p"}, {"user": "u", "pass": "p"}),
        ({"user": "u"}, {"user": "u"}),
        ({"token": "t"}, {"auth_token": "t"}),
        ({"url": "nats://u:p@h"}, {"user": "u", "pass": "p"}),
        ({"url": "nats://u:@h"}, {"user": "u", "pass": ""}),
        ({"url": "nats://t@h"}, {"auth_token": "t"}),
        ({"url": "nats://t@h", "user": "u", "password": "p"}, {"auth_token": "t"}),
        ({"url": "nats://u:p@h", "token": "t"}, {"user": "u", "pass": "p"}),
    ],
)
def test_credentials_of_the_url_come_before_those_of_the_options(given: dict[str, Any], sent: dict[str, Any]) -> None:
    assert proof(connect(**given)) == sent


@pytest.mark.parametrize("seed", [SEED, SEED.encode(), f" {SEED}\n"])
def test_an_nkey_signs_the_nonce(seed: str | bytes, verify: Callable[[object], None]) -> None:
    sent = proof(connect(nkey_seed=seed))
    verify(sent.pop("sig"))
    assert sent == {"nkey": PUBLIC_KEY}


@pytest.mark.usefixtures("verify")
def test_credentials_of_the_url_stand_in_the_place_of_an_nkey() -> None:
    assert proof(connect("nats://t@h", nkey_seed=SEED)) == {"auth_token": "t"}


@pytest.mark.parametrize("creds", [CREDS, CREDS.encode()])
def test_a_creds_file_sends_its_jwt_and_signs_the_nonce(creds: str | bytes, verify: Callable[[object], None]) -> None:
    sent = proof(connect(creds=creds))
    verify(sent.pop("sig"))
    assert sent == {"jwt": JWT}


def test_the_jwt_is_sent_besides_the_credentials_of_the_url(verify: Callable[[object], None]) -> None:
    sent = proof(connect("nats://u:p@h", creds=CREDS))
    verify(sent.pop("sig"))
    assert sent == {"user": "u", "pass": "p", "jwt": JWT}


@pytest.mark.usefixtures("verify")
@pytest.mark.parametrize("info", [{}, {"nonce": ""}, {"nonce": None}, {"nonce": 1}])
def test_without_a_nonce_an_nkey_is_refused_and_a_jwt_sent_unsigned(info: dict[str, Any]) -> None:
    with pytest.raises(AuthorizationError, match=r"nats://h:4222 .* nonce") as caught:
        connect(nkey_seed=SEED, info=info)
    assert SEED not in everything_shown(caught.value)
    assert proof(connect(creds=CREDS, info=info)) == {"jwt": JWT}


@pytest.mark.usefixtures("verify")
def test_a_nonce_of_any_text_is_signed() -> None:
    assert "sig" in connect(nkey_seed=SEED, info={"nonce": "\ud800é"})


@pytest.mark.parametrize("given", [{"nkey_seed": SEED}, {"creds": CREDS}])
def test_a_missing_package_is_named_before_anything_is_connected(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nkeys", None)
    with pytest.raises(ConfigError, match=r"pip install 'natsvc\[nkeys\]'") as caught:
        ConnectOptions("h", **given)
    assert SEED not in everything_shown(caught.value)


def test_who_needs_no_signature_needs_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nkeys", None)
    assert proof(connect(token="t")) == {"auth_token": "t"}


@pytest.mark.usefixtures("verify")
@pytest.mark.parametrize("given", [{"nkey_seed": SEED}, {"creds": CREDS}])
def test_the_repr_of_options_shows_no_seed_and_no_jwt(given: dict[str, Any]) -> None:
    shown = repr(ConnectOptions("h", **given))
    assert SEED not in shown
    assert JWT not in shown


BAD_SEEDS = [
    "SUAAC",
    SEED[:-1],
    f"{SEED}A",
    SEED.lower(),
    SEED[:-6] + "AAAAAA",
    f"SUAB{SEED[4:]}",
    SEED_OF_AN_ACCOUNT,
    SEED.replace("A", "1"),
    f"{SEED[:20]}\n{SEED[20:]}",
]


@pytest.mark.parametrize("seed", [*BAD_SEEDS, PUBLIC_KEY, "", b"\xff" * 58, 1, bytearray(b"x")])
def test_what_is_no_seed_of_a_user_is_refused(seed: Any) -> None:
    with pytest.raises(ConfigError, match=r"^ConnectOptions\.nkey_seed: <hidden> must be the nkey seed") as caught:
        ConnectOptions("h", nkey_seed=seed)
    assert caught.value.value is HIDDEN
    assert caught.value.__context__ is None


@pytest.mark.parametrize("seed", [*BAD_SEEDS, PUBLIC_KEY])
def test_a_mistyped_seed_is_not_shown(seed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_seed("field", seed)
    assert seed not in everything_shown(caught.value)


def test_the_seed_of_a_user_is_taken() -> None:
    assert check_seed("field", SEED) == SEED


def test_the_content_of_a_creds_file_has_a_jwt_and_a_seed() -> None:
    assert parse_creds(CREDS) == (JWT, SEED)
    assert parse_creds(CREDS.replace("\n", "\r\n").encode()) == (JWT, SEED)
    assert parse_creds(CREDS.replace("\n", " \n ")) == (JWT, SEED)


def test_the_blocks_of_a_creds_file_may_stand_in_any_order_and_their_lines_be_broken() -> None:
    half = len(JWT) // 2
    content = f"""
        ---BEGIN USER NKEY SEED---
        {SEED}
        ---END USER NKEY SEED---
        ---BEGIN NATS USER JWT---
        {JWT[:half]}
        {JWT[half:]}
        ---END NATS USER JWT---"""
    assert parse_creds(content) == (JWT, SEED)


@pytest.mark.parametrize("seed", BAD_SEEDS[:-1])  # the last one has a line break, which blocks may have
def test_a_creds_file_with_a_bad_seed_is_refused_without_showing_it(seed: str) -> None:
    with pytest.raises(ConfigError, match=r"ConnectOptions\.creds: <hidden> must have the seed") as caught:
        ConnectOptions("h", creds=CREDS.replace(SEED, seed))
    assert seed not in everything_shown(caught.value)
    assert JWT not in everything_shown(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "/home/u/u.creds",
        JWT,
        SEED,
        CREDS.replace(JWT, ""),
        CREDS.replace(JWT, "a.b"),
        CREDS.replace(JWT, f"{JWT}.x"),
        CREDS.replace("BEGIN NATS USER JWT", "NATS USER"),
        CREDS + CREDS,
        b"\xff\xfe",
        1,
        ["x"],
    ],
)
def test_what_is_no_content_of_a_creds_file_is_refused_without_showing_it(content: Any) -> None:
    with pytest.raises(ConfigError, match=r"^creds: <hidden> must be the content of a \.creds file") as caught:
        parse_creds(content)
    shown = everything_shown(caught.value)
    assert SEED not in shown
    assert JWT not in shown
    assert caught.value.__context__ is None


@pytest.mark.usefixtures("verify")
def test_the_credentials_of_a_discovered_server_are_those_it_inherited() -> None:
    options = ConnectOptions("nats://t@h", nkey_seed=SEED)
    address = ServerAddress("nats", "i", token="t")
    assert proof(connect_fields(options, address, {}, version="1")) == {"auth_token": "t"}
