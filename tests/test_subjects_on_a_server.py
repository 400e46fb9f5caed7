"""The rules for names, subjects and queue groups, held against what a real server takes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from natsvc import NO_QUEUE_GROUP, ConfigError, EndpointConfig, GroupConfig, ServiceConfig, control_subject
from natsvc.core import Scope
from natsvc.testing import NatsServer
from tests.plain_client import PlainClient

WORDS = st.text(st.sampled_from("ab.*>$_- \t\r\n\x00\x7fé\u2028€😀"), max_size=8) | st.text(max_size=8)

checked = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def observer(server: NatsServer) -> Iterator[PlainClient]:
    with PlainClient(server.url) as client:
        yield client


async def handler(request: object) -> None:
    return


def is_taken(client: PlainClient, subject: str, queue_group: str) -> bool:
    """Whether the server subscribes, and goes on."""
    before = len(client.errors)
    subscription = client.subscribe(subject, queue_group)
    subscription.unsubscribe()
    client.flush()
    return len(client.errors) == before


@checked
@given(group=WORDS, subject=WORDS, queue_group=WORDS)
@example(group="", subject="a", queue_group="q")
@example(group="a.*", subject=">", queue_group="a.*.>")
def test_the_server_takes_every_subject_and_queue_group_that_natsvc_takes(
    observer: PlainClient, group: str, subject: str, queue_group: str
) -> None:
    try:
        scope = Scope().group(GroupConfig(group))
        config = EndpointConfig("e", handler=handler, subject=subject or None, queue_group=queue_group or None)
        endpoint = scope.endpoint(config, ServiceConfig("s", queue_group=NO_QUEUE_GROUP))
    except ConfigError:
        return
    assert is_taken(observer, endpoint.subject, endpoint.queue_group)
    assert not observer.is_closed


@checked
@given(name=WORDS, prefix=WORDS)
@example(name="a-_Z9", prefix="$SRV")
@example(name="s", prefix="a.b.c")
def test_the_server_takes_every_control_subject_that_natsvc_makes(
    observer: PlainClient, name: str, prefix: str
) -> None:
    try:
        config = ServiceConfig(name, prefix=prefix or None)  # type: ignore[arg-type]  # None: not given
    except ConfigError:
        return
    assert is_taken(observer, control_subject("PING", config.name, "ID", config.prefix), "")


@pytest.mark.parametrize("subject", ["a..b", ".a", "a.", "a.>.b", "."])
def test_what_the_server_refuses_natsvc_refuses(server: NatsServer, subject: str) -> None:
    with PlainClient(server.url) as client:
        assert not is_taken(client, subject, "")
    with pytest.raises(ConfigError):
        EndpointConfig("e", handler=handler, subject=subject)


@pytest.mark.parametrize("subject", ["a b", "a\tb"])
def test_what_the_server_would_read_as_two_arguments_natsvc_refuses(server: NatsServer, subject: str) -> None:
    with PlainClient(server.url) as client:
        # The second word is taken for a queue group: nobody would notice until no request arrives.
        assert is_taken(client, subject, "")
    with pytest.raises(ConfigError):
        EndpointConfig("e", handler=handler, subject=subject)


@pytest.mark.parametrize("subject", ["a*", "*a.b", "a.b>"])
def test_a_wildcard_glued_to_other_characters_is_a_literal_to_the_server_and_refused_by_natsvc(
    server: NatsServer, subject: str
) -> None:
    with PlainClient(server.url) as client:
        assert is_taken(client, subject, "")
    with pytest.raises(ConfigError):
        EndpointConfig("e", handler=handler, subject=subject)


def test_the_longest_subject_that_natsvc_takes_is_taken_by_the_server(server: NatsServer) -> None:
    def make(length: int) -> str:
        config = EndpointConfig("e", handler=handler, subject="s" * length)
        return Scope().endpoint(config, ServiceConfig("s", queue_group="q" * 100)).subject

    length = 4096
    while True:
        try:
            subject = make(length)
        except ConfigError:
            length -= 1
        else:
            break
    with PlainClient(server.url) as client:
        assert is_taken(client, subject, "q" * 100)
        assert not client.is_closed
