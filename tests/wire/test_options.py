"""Server URLs and the options of a connection: what is taken, what is refused, and that no secret is shown."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsvc.errors import ConfigError
from natsvc.wire.addresses import ServerAddress, discovered_server, parse_servers
from natsvc.wire.options import DEFAULTS, ConnectOptions

SECRET = "s3cr3t"


def parse(url: str) -> ServerAddress:
    (address,) = parse_servers([url])
    return address


def everything_shown(error: BaseException) -> str:
    """All that a traceback, a log or a debugger of this error's text can show."""
    texts = []
    seen: BaseException | None = error
    while seen is not None:
        texts += [str(seen), repr(seen), repr(vars(seen))]
        seen = seen.__cause__ or seen.__context__
    return "\n".join(texts)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("localhost", ServerAddress("nats", "localhost", 4222)),
        ("localhost:4333", ServerAddress("nats", "localhost", 4333)),
        ("localhost:", ServerAddress("nats", "localhost", 4222)),
        ("nats://localhost", ServerAddress("nats", "localhost", 4222)),
        ("nats://localhost:4333/", ServerAddress("nats", "localhost", 4333)),
        ("NATS://LocalHost", ServerAddress("nats", "localhost", 4222)),
        ("tls://nats.example.com:443", ServerAddress("tls", "nats.example.com", 443)),
        ("nats_1.docker-net.", ServerAddress("nats", "nats_1.docker-net.", 4222)),
        ("bücher.example", ServerAddress("nats", "bücher.example", 4222)),
        ("127.0.0.1:1", ServerAddress("nats", "127.0.0.1", 1)),
        ("[::1]", ServerAddress("nats", "::1", 4222)),
        ("nats://[0:0::1]:65535", ServerAddress("nats", "::1", 65535)),
        ("nats://[fe80::1%25eth0]", ServerAddress("nats", "fe80::1%eth0", 4222)),
        ("nats://u:p@h", ServerAddress("nats", "h", 4222, user="u", password="p")),
        ("u:p@h:1", ServerAddress("nats", "h", 1, user="u", password="p")),
        ("nats://u:@h", ServerAddress("nats", "h", 4222, user="u", password="")),
        ("nats://t@h", ServerAddress("nats", "h", 4222, token="t")),
        ("tls://u:p@[::1]:1", ServerAddress("tls", "::1", 1, user="u", password="p")),
        ("nats://a%40b:c%2Fd%3a%25%C3%A9@h", ServerAddress("nats", "h", 4222, user="a@b", password="c/d:%é")),
        ("nats://a@b:c:d@h", ServerAddress("nats", "h", 4222, user="a@b", password="c:d")),
    ],
)
def test_a_url_names_a_server(url: str, address: ServerAddress) -> None:
    assert parse(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "a b",
        "host\n",
        "\thost",
        "h\x00",
        "h\x7f",
        "nats://",
        "nats://:4222",
        "h:0",
        "h:65536",
        "h:-1",
        "h:+1",
        "h:1_0",
        "h:\u0661",
        "h:http",
        "h:000001",
        "::1",
        "[::1",
        "[::1]4222",
        "[::1]x:1",
        "[::g]",
        "[]",
        "[127.0.0.1]",
        "h..x",
        ".h",
        "h!",
        "h,i",
        "h?a=b",
        "h#a",
        "nats://h/path",
        "a" * 64,
        "\ud800",
        "http://h",
        "://h",
        "@h",
        ":p@h",
        "u:p@",
        "u%zz@h",
        "u:%ff@h",
        "u:100%@h",
        "u:\ud800@h",
        None,
        1,
        b"h",
    ],
)
def test_what_names_no_server_is_refused_with_its_place(url: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_servers(["fine", url])
    assert caught.value.field == "servers[1]"


@pytest.mark.parametrize("url", ["ws://h", "wss://h:443", "WS://h"])
def test_web_socket_urls_are_refused_by_name(url: str) -> None:
    with pytest.raises(ConfigError, match="WebSocket is not supported"):
        parse(url)


@pytest.mark.parametrize("servers", [[], (), "", " ", " , ,"])
def test_no_server_at_all_is_refused(servers: Any) -> None:
    with pytest.raises(ConfigError, match="at least one URL"):
        parse_servers(servers)


@pytest.mark.parametrize("servers", [None, 1, {"h"}, b"h", bytearray(b"h"), memoryview(b"h")])
def test_what_is_neither_url_nor_sequence_is_refused(servers: Any) -> None:
    with pytest.raises(ConfigError, match="a URL, or a sequence of URLs"):
        parse_servers(servers)


def test_a_string_may_hold_several_urls_between_commas() -> None:
    assert [one.url for one in parse_servers("a, nats://b:1 ,,tls://c,")] == [
        "nats://a:4222",
        "nats://b:1",
        "tls://c:4222",
    ]


def test_in_a_sequence_a_comma_is_part_of_the_password() -> None:
    assert parse_servers(("nats://u:a,b@h",))[0].password == "a,b"


def test_a_server_that_is_named_twice_is_one_server() -> None:
    assert [one.url for one in parse_servers("b,a,nats://B:4222")] == ["nats://b:4222", "nats://a:4222"]


def test_the_certificate_must_be_for_the_host() -> None:
    assert parse("tls://h").tls_name == "h"


@pytest.mark.parametrize("url", [f"nats://u:{SECRET}@h", f"{SECRET}@h:1", f"tls://u:{SECRET}@[::1]"])
def test_a_server_is_shown_without_its_credentials(url: str) -> None:
    address = parse(url)
    for shown in (address.url, repr(address), str(address), f"{parse_servers(url)}"):
        assert SECRET not in shown
        assert address.host in shown


@pytest.mark.parametrize(
    "url",
    [
        f"ws://u:{SECRET}@h",
        f"nats://u:{SECRET}@h:x",
        f"nats://u:{SECRET}@",
        f"nats://u:{SECRET}",
        f"u:{SECRET}",
        f"nats://u!:{SECRET}",
        f"nats://u:{SECRET}/x@h",
        f"nats://u:x/{SECRET}@h",
        f"nats://u:x@{SECRET}@!",
        f"nats://u:{SECRET}@h!",
        f"nats://u: {SECRET}@h",
        f"nats://u:%{SECRET}@h",
        f"nats://u:{SECRET}%ff@h",
        f"nats://:{SECRET}@h",
        f"nats://{SECRET}@h:0",
        f"nats://{SECRET}@h/x",
        f"nats://{SECRET}@[h",
    ],
)
def test_an_error_does_not_show_a_password_or_token(url: str) -> None:
    for servers in ([url], url):
        with pytest.raises(ConfigError) as caught:
            parse_servers(servers)
        assert SECRET not in everything_shown(caught.value)


@given(st.text(st.sampled_from(":/@%[]?#,. \nu\ud800é")), st.text(st.sampled_from(":/@%[]?#,. \nu\ud800é")))
def test_an_error_about_credentials_never_shows_them_whatever_is_wrong(before: str, behind: str) -> None:
    shown = ""
    try:
        parse_servers([f"nats://u:{before}{SECRET}@{behind}"])
    except ConfigError as error:
        shown = everything_shown(error)
    assert SECRET not in shown


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_can_be_a_percent_encoded_user_and_password(user: str, password: str) -> None:
    encoded = ["".join(f"%{byte:02x}" for byte in text.encode()) for text in (user, password)]
    assert parse(f"nats://{':'.join(encoded)}@h") == ServerAddress("nats", "h", user=user, password=password)
    assert parse(f"nats://{encoded[0]}@h") == ServerAddress("nats", "h", token=user)


@given(st.text())
def test_any_text_is_a_server_or_a_config_error(text: str) -> None:
    try:
        address = parse(text)
    except ConfigError:
        return
    bare = ServerAddress(address.scheme, address.host, address.port)
    assert parse(address.url) == bare


@given(st.ip_addresses(), st.integers(1, 65535))
def test_the_url_of_any_ip_address_names_it(ip: Any, port: int) -> None:
    address = ServerAddress("nats", str(ip), port)
    assert parse(address.url) == address


GIVEN = ServerAddress("tls", "given.example", 1, user="u", password=SECRET)


def test_a_discovered_server_inherits_scheme_and_credentials() -> None:
    found = discovered_server("Other.example:2", GIVEN)
    assert found == ServerAddress("tls", "other.example", 2, user="u", password=SECRET)
    assert found.tls_name == "other.example"
    assert discovered_server("h", ServerAddress("nats", "g", token="t")) == ServerAddress("nats", "h", token="t")


@pytest.mark.parametrize("url", ["127.0.0.2:2", "[::2]:2"])
def test_a_discovered_ip_address_inherits_the_tls_name_also_of_another_ip_address(url: str) -> None:
    found = discovered_server(url, GIVEN)
    assert found.tls_name == "given.example"
    assert discovered_server("127.0.0.3:2", found).tls_name == "given.example"


@pytest.mark.parametrize("url", ["", "a b:1", "h:x", "::2", "u:p@h", "nats://h", "h/x", None, 1, ["h"]])
def test_what_is_no_host_and_port_is_no_discovered_server(url: object) -> None:
    with pytest.raises(ConfigError) as caught:
        discovered_server(url, GIVEN)
    assert caught.value.field == "connect_urls"
    assert SECRET not in everything_shown(caught.value)


def test_servers_are_all_that_options_need() -> None:
    options = ConnectOptions("h")
    assert vars(options) == {
        "servers": "h",
        "addresses": (ServerAddress("nats", "h"),),
        "name": None,
        "user": None,
        "password": None,
        "token": None,
        "nkey_seed": None,
        "creds": None,
        "tls": False,
        "tls_handshake_first": False,
        "tls_hostname": None,
        "allow_reconnect": True,
        "max_reconnects": None,
        "reconnect_wait": 2.0,
        "reconnect_max_wait": 30.0,
        "reconnect_jitter": 0.1,
        "reconnect_jitter_tls": 1.0,
        "connect_timeout": 2.0,
        "retry_on_failed_connect": False,
        "ignore_auth_errors": False,
        "ignore_discovered_servers": False,
        "randomize": True,
        "ping_interval": 120.0,
        "max_pings_out": 2,
        "inbox_prefix": "_INBOX",
        "no_echo": False,
        "reconnect_buffer": 8 * 1024 * 1024,
        "max_inbound_payload": 64 * 1024 * 1024,
        "max_pending_messages": 65_536,
        "max_pending_bytes": 64 * 1024 * 1024,
        "drain_timeout": 30.0,
    }


def test_none_means_not_given_for_every_option() -> None:
    nothing: dict[str, Any] = dict.fromkeys(DEFAULTS)
    assert ConnectOptions("h", **nothing) == ConnectOptions("h")


def test_options_are_frozen() -> None:
    options = ConnectOptions("h")
    for name in vars(options):
        with pytest.raises(AttributeError, match=name):
            setattr(options, name, None)
        with pytest.raises(AttributeError, match=name):
            delattr(options, name)
    assert options == ConnectOptions("h")


def test_options_equal_others_with_the_same_values() -> None:
    assert ConnectOptions("h", name="n", tls=False) == ConnectOptions("h", name="n")
    assert ConnectOptions("h", name="n") != ConnectOptions("h", name="m")
    assert ConnectOptions("h") != ConnectOptions("i")


def test_all_options_but_the_servers_are_keyword_only() -> None:
    with pytest.raises(TypeError):
        ConnectOptions("h", "name")  # type: ignore[call-arg]


@pytest.mark.parametrize("name", ["addresses", "server", "_check"])
def test_what_is_no_option_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        ConnectOptions("h", **{name: ()})


def test_options_name_the_server_that_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        ConnectOptions(["h", "h:x"])
    assert caught.value.field == "ConnectOptions.servers[1]"


SWITCHES = [name for name, default in DEFAULTS.items() if isinstance(default, bool)]
SECONDS = [name for name, default in DEFAULTS.items() if isinstance(default, float)]
COUNTS = [name for name, default in DEFAULTS.items() if type(default) is int] + ["max_reconnects"]


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("value", [0, 1, "", "yes", []])
def test_a_switch_is_true_or_false(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^ConnectOptions\.{name}: .* must be True or False$"):
        ConnectOptions("h", **{name: value})


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", [True, "1", math.nan, math.inf, -math.inf, -1, -0.1, 1e10, 10**400])
def test_a_time_is_a_finite_number_of_seconds(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^ConnectOptions\.{name}: .* must be seconds"):
        ConnectOptions("h", **{name: value})


@pytest.mark.parametrize("name", SECONDS)
def test_a_time_may_be_short_and_only_a_wait_may_be_none_at_all(name: str) -> None:
    for value in (1, 0.001):
        assert getattr(ConnectOptions("h", **{name: value}), name) == value
    if name.startswith("reconnect"):
        assert getattr(ConnectOptions("h", **{name: 0}), name) == 0
    else:
        with pytest.raises(ConfigError, match="greater than 0"):
            ConnectOptions("h", **{name: 0})


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [True, 1.0, "1", -1, math.inf])
def test_a_count_is_an_int(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^ConnectOptions\.{name}: .* must be an int of at least"):
        ConnectOptions("h", **{name: value})


@pytest.mark.parametrize("name", COUNTS)
def test_a_count_may_be_zero_where_that_means_something(name: str) -> None:
    assert getattr(ConnectOptions("h", **{name: 1}), name) == 1
    if name in ("reconnect_buffer", "max_reconnects"):
        assert getattr(ConnectOptions("h", **{name: 0}), name) == 0
    else:
        with pytest.raises(ConfigError):
            ConnectOptions("h", **{name: 0})


@pytest.mark.parametrize("name", ["name", "user", "token", "tls_hostname"])
@pytest.mark.parametrize("value", ["", 1, b"x", "\ud800"])
def test_a_text_is_text_and_not_empty(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^ConnectOptions\.{name}: "):
        ConnectOptions("h", **{name: value})


def test_a_password_may_be_empty() -> None:
    assert ConnectOptions("h", user="u", password="").password == ""


@pytest.mark.parametrize("value", ["a b", "a\n"])
def test_a_tls_name_has_no_blanks(value: str) -> None:
    with pytest.raises(ConfigError, match=r"tls_hostname: .* blanks"):
        ConnectOptions("h", tls_hostname=value)


@pytest.mark.parametrize("value", ["_INBOX", "a.b", "$x.é", "a" * 1024])
def test_an_inbox_prefix_is_subject_tokens(value: str) -> None:
    assert ConnectOptions("h", inbox_prefix=value).inbox_prefix == value


@pytest.mark.parametrize("value", ["", "a.", ".a", "a..b", "a.*", "a.>", "a>", "a b", "a\n", "\ud800", 1, "a" * 1025])
def test_what_cannot_begin_a_reply_subject_is_no_inbox_prefix(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^ConnectOptions\.inbox_prefix: "):
        ConnectOptions("h", inbox_prefix=value)


def test_tls_is_demanded_by_option_by_context_by_handshake_and_by_scheme() -> None:
    plain, secure = parse_servers("nats://h,tls://h")
    assert not ConnectOptions("h").requires_tls(plain)
    assert ConnectOptions("h").requires_tls(secure)
    assert ConnectOptions("h", tls=True).requires_tls(plain)
    assert ConnectOptions("h", tls_handshake_first=True).requires_tls(plain)


def test_the_tls_name_is_the_servers_own_unless_one_is_given() -> None:
    assert ConnectOptions("h").tls_name(parse("h")) == "h"
    assert ConnectOptions("h", tls_hostname="name").tls_name(parse("h")) == "name"


def test_a_password_without_user_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"ConnectOptions\.password: .* user") as caught:
        ConnectOptions("h", password=SECRET)
    assert SECRET not in everything_shown(caught.value)


@pytest.mark.parametrize(("name", "value"), [("password", 1), ("token", 1), ("token", f"{SECRET}\ud800")])
def test_a_bad_secret_is_refused_without_showing_it(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"ConnectOptions\.{name}: <hidden>") as caught:
        ConnectOptions("h", **{"user": "u" if name == "password" else None, name: value})
    assert SECRET not in everything_shown(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"user": "u", "token": SECRET},
        {"user": "u", "password": SECRET, "nkey_seed": SECRET},
        {"token": SECRET, "creds": SECRET},
        {"nkey_seed": SECRET, "creds": SECRET},
    ],
)
def test_only_one_way_to_prove_who_one_is_may_be_given(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must not be given together with") as caught:
        ConnectOptions("h", **given)
    assert SECRET not in everything_shown(caught.value)


@pytest.mark.parametrize(
    "given",
    [{"servers": f"nats://u:{SECRET}@h"}, {"user": "u", "password": SECRET}, {"token": SECRET}],
)
def test_the_repr_of_options_shows_no_secret(given: dict[str, Any]) -> None:
    options = ConnectOptions(**{"servers": "h", **given})
    assert SECRET not in repr(options)
    assert "nats://h:4222" in repr(options)


@pytest.mark.parametrize(
    "url",
    [
        "nats://user:pa/S3CRET,word@host",
        "nats://user:pa,S3CRET/x@host",
        "nats://[u:S3CRET",
        "nats://u:S3CRET",
        "u:S3CRET",
        "u:p:S3CRET",
        "http://u:S3CRET",
    ],
)
def test_a_password_that_breaks_its_url_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_servers(url)
    assert "S3CRET" not in str(caught.value)
    assert "S3CRET" not in repr(caught.value.args)


@pytest.mark.parametrize(
    ("error", "expected"),
    [(None, 7.0), (ValueError(), 5.0), (KeyboardInterrupt(), None), (GeneratorExit(), None)],
)
def test_leaving_the_block_takes_the_time_of_a_drain_less_after_an_exception_and_none_when_interrupted(
    error: BaseException | None, expected: float | None
) -> None:
    assert ConnectOptions("h", drain_timeout=7.0).leave_timeout(error) == expected
