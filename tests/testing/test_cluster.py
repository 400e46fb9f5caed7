"""A cluster: that its servers know each other, that they lose and find each other again, and that none is left."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from natsvc import AuthorizationError, ConfigError
from natsvc.sync import connect
from natsvc.testing import NatsCluster, NatsServer, NatsServerError, ServerTLS
from natsvc.testing import cluster as cluster_module
from tests.connection.certificates import Certificates
from tests.plain_client import PlainClient
from tests.testing.remains import remains
from tests.worlds import eventually

MakeCluster = Callable[..., NatsCluster]


def names_of_neighbours(server: NatsServer) -> set[str]:
    return {route["remote_name"] for route in server.monitoring("routez")["routes"]}


def assert_everyone_hears_everyone(servers: Sequence[NatsServer]) -> None:
    """What is published on one server arrives on each of the others, once those have told it of the subscriber."""

    def has_told(subject: str, server: NatsServer) -> bool:
        return all(subject in str(one.monitoring("routez?subs=1")) for one in servers if one is not server)

    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(PlainClient(server.url)) for server in servers]
        for server, client in zip(servers, clients, strict=True):
            subject = f"heard.on.{server.port}"
            subscription = client.subscribe(subject)
            eventually(partial(has_told, subject, server))
            for publisher in clients:
                publisher.publish(subject, b"heard")
            assert [subscription.next().data for _ in clients] == [b"heard"] * len(clients)


def test_when_the_block_begins_every_server_has_its_routes_to_all_others() -> None:
    with NatsCluster() as cluster:
        assert len(cluster.servers) == 3
        for number, server in enumerate(cluster.servers, start=1):
            others = {"natsvc-1", "natsvc-2", "natsvc-3"} - {f"natsvc-{number}"}
            assert names_of_neighbours(server) == others
            assert server.monitoring()["cluster"]["name"] == "natsvc"
        assert_everyone_hears_everyone(cluster.servers)


def test_a_client_of_one_server_is_told_of_all(make_nats_cluster: MakeCluster) -> None:
    cluster = make_nats_cluster(4)
    assert cluster.urls == [server.url for server in cluster.servers]
    everyone = {url.removeprefix("nats://") for url in cluster.urls}
    for url in cluster.urls:
        with connect(url) as nc:
            assert set(nc.server_info["connect_urls"]) == everyone


def test_a_server_that_was_killed_comes_back_to_its_port_and_to_the_others(make_nats_cluster: MakeCluster) -> None:
    cluster = make_nats_cluster()
    urls = cluster.urls
    for server in cluster.servers:
        others = [other for other in cluster.servers if other is not server]
        server.kill()
        cluster.wait_until_ready()
        assert [len(names_of_neighbours(other)) for other in others] == [1, 1]
        assert [other.monitoring()["connect_urls"].count(f"127.0.0.1:{server.port}") for other in others] == [0, 0]
        server.restart()
        cluster.wait_until_ready()
    assert cluster.urls == urls
    assert_everyone_hears_everyone(cluster.servers)


def test_a_server_comes_back_while_another_is_down(make_nats_cluster: MakeCluster) -> None:
    cluster = make_nats_cluster()
    first, second, third = cluster.servers
    first.kill()
    second.kill()
    second.start()
    cluster.wait_until_ready()
    assert_everyone_hears_everyone([second, third])
    first.start()
    cluster.wait_until_ready()
    assert_everyone_hears_everyone(cluster.servers)


def test_a_start_brings_back_those_that_are_down_and_leaves_the_others_alone(make_nats_cluster: MakeCluster) -> None:
    cluster = make_nats_cluster()
    first, second, third = cluster.servers
    pid, urls = third.pid, cluster.urls
    first.kill()
    second.stop()
    assert repr(cluster) == "<NatsCluster natsvc: 1 of 3 servers running>"
    cluster.start()
    assert (third.pid, cluster.urls) == (pid, urls)
    assert all(len(names_of_neighbours(server)) == 2 for server in cluster.servers)


def test_clients_of_a_cluster_survive_the_loss_of_their_server(make_nats_cluster: MakeCluster) -> None:
    cluster = make_nats_cluster(2)
    first, second = cluster.servers
    with connect(first.url, reconnect_wait=0.01) as nc:
        subscription = nc.subscribe("kept")
        nc.flush()
        first.kill()
        eventually(lambda: nc.connected_url == second.url and nc.is_connected)
        nc.publish("kept", b"x")
        assert subscription.receive(30).data == b"x"


@pytest.mark.skipif(sys.platform == "win32", reason="nats-server reloads on Windows only as a service")
def test_a_server_stays_in_its_cluster_through_a_reload(make_nats_cluster: MakeCluster) -> None:
    cluster = make_nats_cluster()
    cluster.servers[0].reload("max_payload: 2048")
    cluster.wait_until_ready()
    assert cluster.servers[0].monitoring()["max_payload"] == 2048
    assert_everyone_hears_everyone(cluster.servers)


def test_the_text_is_for_all_or_there_is_one_for_each(make_nats_cluster: MakeCluster) -> None:
    def limits(cluster: NatsCluster) -> list[int]:
        return [server.monitoring()["max_payload"] for server in cluster.servers]

    assert limits(make_nats_cluster(2, config="max_payload: 2048")) == [2048, 2048]
    assert limits(make_nats_cluster(2, config=["max_payload: 4096", None])) == [4096, 1024 * 1024]


def test_the_options_of_servers_are_for_all_of_them(make_nats_cluster: MakeCluster, tmp_path: Path) -> None:
    certificates = Certificates.make(tmp_path)
    options: dict[str, Any] = {"user": "alice", "password": 'the "pass-word"'}
    cluster = make_nats_cluster(2, name="encrypted", tls=ServerTLS(certificates.server), **options)
    assert [server.monitoring()["server_name"] for server in cluster.servers] == ["encrypted-1", "encrypted-2"]
    assert options["password"] not in repr(cluster) + repr(cluster.servers)
    for url in cluster.urls:
        assert url.startswith("tls://")
        with connect(url, tls=certificates.context(), **options) as nc:
            nc.flush()
        with pytest.raises(AuthorizationError):
            connect(url, tls=certificates.context(), user="alice", password="wrong")
    token = make_nats_cluster(2, token="the to-ken")
    with connect(token.urls[1], token="the to-ken") as nc:
        nc.flush()


def ask(server: NatsServer, subject: str, data: str = "") -> Any:
    with PlainClient(server.url) as client:
        return json.loads(client.request(subject, data.encode()).data)


def test_jetstream_is_ready_with_the_cluster_and_again_after_the_loss_of_its_leader() -> None:
    with NatsCluster(jetstream=True) as cluster:
        stream = '{"name": "KEPT", "subjects": ["kept"], "num_replicas": 3}'
        assert "error" not in ask(cluster.servers[0], "$JS.API.STREAM.CREATE.KEPT", stream)
        assert ask(cluster.servers[1], "kept", "a message")["stream"] == "KEPT"
        leader = cluster.servers[0].monitoring("jsz")["meta_cluster"]["leader"]
        lost = next(server for server in cluster.servers if server.monitoring()["server_name"] == leader)
        lost.kill()
        cluster.wait_until_ready()
        [kept, _] = [server for server in cluster.servers if server is not lost]
        assert kept.monitoring("jsz")["meta_cluster"]["leader"] != leader
        assert ask(kept, "$JS.API.STREAM.NAMES")["streams"] == ["KEPT"]  # which only the leader answers
        lost.restart()
        cluster.wait_until_ready()

        def kept_message() -> bool:
            return bool(ask(lost, "$JS.API.STREAM.INFO.KEPT").get("state", {}).get("messages") == 1)

        eventually(kept_message)  # the stream has a leader of its own


def test_the_end_of_the_block_leaves_no_process_and_no_file(place: Path) -> None:
    with NatsCluster() as cluster:
        assert len(list(place.iterdir())) == 3
        cluster.servers[1].kill()
    assert not any(server.is_running for server in cluster.servers)
    assert remains(place) == []


def test_a_start_that_fails_half_way_leaves_no_process_and_no_file(place: Path) -> None:
    cluster = NatsCluster(3, config=[None, None, "no_such_setting: 1"])
    with pytest.raises(NatsServerError, match="no_such_setting"):
        cluster.start()
    assert not any(server.is_running for server in cluster.servers)
    assert remains(place) == []


def test_an_interrupted_start_leaves_no_process_and_no_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object) -> None:
        assert len(list(place.iterdir())) == 3
        raise KeyboardInterrupt

    monkeypatch.setattr(NatsCluster, "wait_until_ready", interrupt)
    with pytest.raises(KeyboardInterrupt), NatsCluster():
        pass
    assert remains(place) == []


def test_a_stop_that_is_interrupted_ends_the_other_servers_all_the_same(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt), NatsCluster() as cluster:
        stop = cluster.servers[1].stop

        def stop_interrupted() -> None:
            stop()
            raise KeyboardInterrupt

        monkeypatch.setattr(cluster.servers[1], "stop", stop_interrupted)
    assert remains(place) == []


@pytest.mark.skipif(sys.platform == "win32", reason="SIGSTOP is POSIX's")
def test_servers_that_do_not_get_ready_are_an_error_and_end(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "_READY_LIMIT", 0.3)
    with NatsCluster(2) as cluster:
        monkeypatch.setattr(cluster_module, "_knows_all", lambda *_: False)
        with pytest.raises(NatsServerError, match=r"<NatsCluster natsvc: 2 of 2 servers running> was not ready"):
            cluster.start()
    assert remains(place) == []


def test_a_server_that_ends_while_it_is_waited_for_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with NatsCluster(2) as cluster:
        known = cluster_module._knows_all

        def crash(server: NatsServer, running: Sequence[NatsServer]) -> bool:
            if cluster.servers[0].is_running:
                os.kill(cluster.servers[0].pid, signal.SIGTERM)
                return False
            return known(server, running)

        monkeypatch.setattr(cluster_module, "_knows_all", crash)
        with pytest.raises(NatsServerError, match="not running"):
            cluster.wait_until_ready()


@pytest.fixture
def taken() -> Iterator[list[int]]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        yield [one.getsockname()[1] for one in sockets]


def test_ports_for_routes_that_are_taken_are_not_chosen(taken: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def sample(_: object, __: int) -> list[int]:
        return [*taken, 20_001, 20_003, 20_005, 20_007]

    monkeypatch.setattr(cluster_module._random, "sample", sample)
    chosen = [server.cluster.port for server in NatsCluster(2).servers if server.cluster is not None]
    assert len(chosen) == 2
    assert set(chosen).isdisjoint(taken)
    monkeypatch.setattr(cluster_module._random, "sample", lambda *_: taken)
    with pytest.raises(NatsServerError, match="free ports"):
        NatsCluster(2)


def test_clusters_of_tests_that_seed_the_random_numbers_alike_have_different_ports() -> None:
    clusters = []
    for _ in range(2):
        random.seed(0)
        clusters.append([server.cluster for server in NatsCluster(3).servers])
    assert clusters[0] != clusters[1]


@pytest.mark.parametrize(
    ("arguments", "options", "field"),
    [
        ((1,), {}, "NatsCluster.size"),
        ((True,), {}, "NatsCluster.size"),
        (("3",), {}, "NatsCluster.size"),
        ((3,), {"config": ["", ""]}, "NatsCluster.config"),
        ((3,), {"config": 7}, "NatsCluster.config"),
        ((3,), {"config": ["", 7, ""]}, "NatsServer.config"),
        ((3,), {"name": "two words"}, "NatsCluster.name"),
        ((3,), {"name": None}, "NatsCluster.name"),
        ((3,), {"user": "alice"}, "NatsServer.user"),
        ((3,), {"tls": "yes"}, "NatsServer.tls"),
    ],
)
def test_what_breaks_a_rule_is_refused(arguments: tuple[Any, ...], options: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        NatsCluster(*arguments, **options)
    assert caught.value.field == field


def test_before_its_start_a_cluster_has_no_urls() -> None:
    with pytest.raises(NatsServerError):
        _ = NatsCluster().urls
