"""natsvc's own connection on anyio, with a real server at the other end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Self

import anyio
import anyio.lowlevel
import pytest

from natsvc.anyio import (
    ConfigError,
    Connection,
    ConnectionClosedError,
    HeaderError,
    MaxPayloadError,
    NoRespondersError,
    NoServersError,
    Request,
    RequestTimeoutError,
    SlowConsumerError,
    SubjectError,
    Subscription,
    SubscriptionClosedError,
    add_service,
    connect,
)
from natsvc.testing import NatsServer
from tests.anyio_front_end.conftest import Run
from tests.anyio_front_end.tools import eventually
from tests.connection.certificates import Certificates
from tests.worlds import interest


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


class Turns:
    """Counts how often another task has its turn while the block lasts."""

    def __init__(self) -> None:
        self.count = 0
        self._group = anyio.create_task_group()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._group.start_soon(self._take)
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._group.cancel_scope.cancel()
        await self._group.__aexit__(None, None, None)

    async def _take(self) -> None:
        while True:
            self.count += 1
            await anyio.lowlevel.checkpoint()


def test_within_its_block_a_connection_says_what_it_is_connected_to(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        async with connect(server.url) as nc:
            assert isinstance(nc, Connection)
            assert nc.is_connected
            assert nc.connected_url == server.url
            assert nc.server_info["max_payload"] == nc.max_payload
        assert nc.is_closed
        assert not nc.is_connected
        assert nc.connected_url is None

    run(main)


@pytest.mark.parametrize("url", ["nats://no-such-host.invalid", "nats://localhost:1"])
def test_that_nobody_is_there_is_told(run: Run, url: str) -> None:
    async def main() -> None:
        with pytest.raises(NoServersError):
            async with connect(url):
                raise AssertionError("it was entered")

    run(main)


def test_a_message_comes_with_its_reply_and_headers(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        async with connect(server.url) as nc:
            subscription = await nc.subscribe("a.*")
            await nc.publish("a.b", "täxt", reply="answers", headers={"x-Case": "1"})
            message = await subscription.receive(10)
            assert (message.subject, message.reply, message.data) == ("a.b", "answers", "täxt".encode())
            assert list(message.headers.items()) == [("x-Case", "1")]

    run(main)


def test_a_subscription_is_an_iterator_that_ends_when_it_is_drained(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        async with connect(server.url) as nc:
            subscription = nc.subscribe("drained")
            for number in range(10):
                await nc.publish("drained", str(number))
            await subscription.drain()
            await nc.publish("drained", b"too late")
            assert [message.data async for message in subscription] == [b"%d" % number for number in range(10)]
            with pytest.raises(SubscriptionClosedError):
                await subscription.receive()

    run(main)


def test_unsubscribing_ends_a_waiting_iteration_and_drops_what_is_there(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        ended = anyio.Event()

        async def iterate(subscription: Subscription) -> None:
            assert [message async for message in subscription] == []
            ended.set()

        async with connect(server.url) as nc, anyio.create_task_group() as tasks:
            async with nc.subscribe("waiting") as waiting, nc.subscribe("dropped.here") as dropped:
                tasks.start_soon(iterate, waiting)
                await nc.publish("dropped.here")
                await nc.flush()
            await ended.wait()
            await iterate(dropped)
            await nc.flush()
            assert not {"waiting", "dropped.here"} & interest(server).keys()

    run(main)


def test_several_receivers_get_different_messages(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        taken: set[bytes] = set()

        async def receive(subscription: Subscription) -> None:
            taken.add((await subscription.receive(30)).data)

        async with connect(server.url) as nc:
            async with nc.subscribe("several") as subscription, anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(receive, subscription)
                for number in range(5):
                    await anyio.lowlevel.checkpoint()
                    await nc.publish("several", str(number))
            assert taken == {b"0", b"1", b"2", b"3", b"4"}

    run(main)


def test_waiting_gives_up_in_time(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        async with connect(server.url) as nc, nc.subscribe("silent") as subscription:
            with pytest.raises(RequestTimeoutError, match="silent"):
                await subscription.receive(0.01)
            with pytest.raises(RequestTimeoutError, match="silent"):
                await nc.request("silent", timeout=0.01)
            with pytest.raises(RequestTimeoutError):
                await nc.flush(0)
            with pytest.raises(NoRespondersError):
                await nc.request("nobody.there")
            assert (await subscription.receive(10)).data == b""
            await nc.flush()

    run(main)


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), True, "1"])
def test_a_bad_timeout_is_refused(server: NatsServer, run: Run, timeout: Any) -> None:
    async def main() -> None:
        async with connect(server.url) as nc, nc.subscribe("a") as subscription:
            for use in (nc.flush(timeout), nc.request("a", timeout=timeout), subscription.receive(timeout)):
                with pytest.raises(ConfigError, match="timeout"):
                    await use

    run(main)


def test_a_slow_subscription_is_bounded_and_reported_once(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        errors: list[BaseException] = []
        async with connect(server.url, max_pending_messages=3, on_error=errors.append) as nc:
            subscription = nc.subscribe("slow")
            for number in range(10):
                await nc.publish("slow", str(number))
            await nc.flush()
            assert subscription.dropped == 7
            assert [type(error) for error in errors] == [SlowConsumerError]
            assert [(await subscription.receive(10)).data for _ in range(3)] == [b"0", b"1", b"2"]

    run(main)


def test_bad_arguments_are_refused_and_the_connection_goes_on(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        async with connect(server.url) as nc:
            for error, use in (
                (SubjectError, nc.publish("a b")),
                (SubjectError, nc.publish("a", reply="r\r\nPING")),
                (HeaderError, nc.publish("a", headers={"x": "a\nb"})),
                (MaxPayloadError, nc.publish("a", b"x" * (nc.max_payload + 1))),
            ):
                with pytest.raises(error):
                    await use
            with pytest.raises(SubjectError):
                nc.subscribe("a", queue="q q")
            await nc.flush()

    run(main)


def test_a_publisher_without_pause_is_held_back_by_the_socket_and_leaves_others_their_turn(
    server: NatsServer, run: Run
) -> None:
    async def main() -> None:
        largest = 0
        async with connect(server.url) as nc, Turns() as turns:
            for _ in range(2_000):
                await nc.publish("flood", b"x" * 8_192)
                largest = max(largest, nc._state.outgoing_size)
            assert turns.count > 100
        assert largest < 256 * 1024

    run(main)


def test_taking_messages_without_pause_leaves_others_their_turn(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        async with connect(server.url) as nc, nc.subscribe("many") as subscription:
            for number in range(20_000):
                await nc.publish("many", str(number))
            await nc.flush()
            async with Turns() as turns:
                for number in range(20_000):
                    assert (await subscription.receive()).data == b"%d" % number
                assert turns.count > 100

    run(main)


def test_through_tls_bulk_passes_whole_in_both_directions_at_once(
    make_server: Callable[..., NatsServer], certificates: Certificates, run: Run
) -> None:
    bodies = [bytes([number]) * (1024 * 1024 - number) for number in range(40)]

    async def main(url: str) -> None:
        async def publish() -> None:
            for body in bodies:
                with anyio.move_on_after(0):  # it is cancelled, and what is published is sent all the same
                    await nc.publish("bulk", body)

        async with connect(url, tls=certificates.context()) as nc, nc.subscribe("bulk") as subscription:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(publish)
                for body in bodies:
                    assert (await subscription.receive(30)).data == body
            assert nc.is_connected

    server = make_server(tls=certificates.server_tls())
    run(lambda: main(server.url))


def test_what_was_published_before_closing_arrives(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        async with connect(server.url) as nc, nc.subscribe("last.words") as subscription:
            await nc.flush()
            async with connect(server.url) as other:
                for number in range(1_000):
                    await other.publish("last.words", str(number))
                await other.close()
            for number in range(1_000):
                assert (await subscription.receive(10)).data == b"%d" % number

    run(main)


def test_closing_ends_iterations_and_requests_and_everything_after_says_so(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        ended: list[str] = []

        async def ask() -> None:
            with pytest.raises(ConnectionClosedError):
                await nc.request("deaf", timeout=30)
            ended.append("request")

        async def iterate() -> None:
            async for _ in nc.subscribe("silent"):
                pass
            ended.append("iteration")

        async with connect(server.url) as nc:
            async with anyio.create_task_group() as tasks:
                subscription = nc.subscribe("deaf")
                tasks.start_soon(ask)
                tasks.start_soon(iterate)
                await subscription.receive(10)
                await nc.close()
            assert sorted(ended) == ["iteration", "request"]
            for use in (nc.publish("a"), nc.request("a"), nc.flush(), nc.drain(), nc.reconnect()):
                with pytest.raises(ConnectionClosedError):
                    await use
            with pytest.raises(ConnectionClosedError):
                add_service(nc, name="late")
            await nc.close()

    run(main)


def test_draining_lets_subscriptions_be_taken_to_the_end(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        taken: list[bytes] = []

        async def take() -> None:
            async for message in subscription:
                await anyio.lowlevel.checkpoint()
                taken.append(message.data)
                await other.publish("taken", message.data)

        async with connect(server.url) as nc, nc.subscribe("taken") as replies, connect(server.url) as other:
            subscription = other.subscribe("to.the.end")
            await other.flush()
            for number in range(100):
                await nc.publish("to.the.end", str(number))
            await nc.flush()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(take)
                with anyio.fail_after(20):  # drain_timeout is 30 s
                    await other.drain()
            assert other.is_closed
            for number in range(100):
                assert (await replies.receive(10)).data == b"%d" % number
            assert taken == [b"%d" % number for number in range(100)]

    run(main)


def test_a_drain_waits_for_nobody_longer_than_its_limit(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        errors: list[BaseException] = []
        async with connect(server.url, drain_timeout=0.05, on_error=errors.append) as nc:
            nc.subscribe("untaken")
            await nc.publish("untaken")
            await nc.flush()
            await nc.drain()
            assert nc.is_closed
            assert [type(error) for error in errors] == [RequestTimeoutError]

    run(main)


def test_a_second_drain_waits_for_the_first_and_so_does_leaving_the_block(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        ended: list[str] = []

        async def drain(nc: Connection) -> None:
            await nc.drain()
            ended.append("drained")

        async with anyio.create_task_group() as tasks:
            async with connect(server.url) as nc:
                subscription = nc.subscribe("twice.drained")
                await nc.publish("twice.drained")
                await nc.flush()
                tasks.start_soon(drain, nc)
                tasks.start_soon(drain, nc)
                await eventually(lambda: nc._state.is_draining)
                assert not ended
                assert [message.data async for message in subscription] == [b""]
            assert nc.is_closed
        assert ended == ["drained"] * 2

    run(main)


def test_losing_the_server_is_told_and_mended(make_server: Callable[[], NatsServer], run: Run) -> None:
    told: list[str] = []

    async def main(server: NatsServer) -> None:
        async def on_disconnect(error: BaseException | None) -> None:
            told.append("lost")

        async with connect(
            server.url, reconnect_wait=0.01, on_disconnect=on_disconnect, on_reconnect=lambda url: told.append(url)
        ) as nc:
            subscription = nc.subscribe("kept")
            await nc.flush()
            server.kill()
            await eventually(lambda: not nc.is_connected)
            await nc.publish("kept", b"meanwhile")
            server.restart()
            assert (await subscription.receive(30)).data == b"meanwhile"
            await nc.reconnect()
            await nc.flush()
            await eventually(lambda: len(told) == 4)
        assert told == ["lost", server.url] * 2

    server = make_server()
    run(lambda: main(server))


def test_what_callbacks_raise_is_logged_and_goes_no_further(
    server: NatsServer, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def on_close(error: BaseException | None) -> None:
        await anyio.lowlevel.checkpoint()
        raise RuntimeError("from an async callback")

    def on_disconnect(error: BaseException | None) -> None:
        raise RuntimeError("from a plain callback")

    async def main() -> None:
        async with connect(server.url, on_close=on_close, on_disconnect=on_disconnect) as nc:
            await nc.reconnect()
            await nc.flush()

    with caplog.at_level(logging.ERROR):
        run(main)
    assert "from a plain callback" in caplog.text
    assert "from an async callback" in caplog.text


def test_reprs_hold_no_secret(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        async with connect(server.url.replace("nats://", "nats://user:topsecret@")) as nc:
            for shown in (repr(nc), repr(vars(nc)), repr(vars(nc._driver)), str(nc.connected_url)):
                assert "topsecret" not in shown
            assert "'shown'" in repr(nc.subscribe("shown"))

    run(main)


def test_handlers_that_drain_their_connection_wait_for_each_other_no_longer_than_needed(
    server: NatsServer, run: Run
) -> None:
    errors: list[BaseException] = []
    drained: list[bytes] = []
    begun: list[bytes] = []

    async def main() -> None:
        async with (
            connect(server.url) as caller,
            connect(server.url, on_error=errors.append) as nc,
            add_service(nc, name="draining") as service,
        ):

            async def drain(request: Request) -> None:
                begun.append(request.data)
                await eventually(lambda: len(begun) == 2)
                await nc.drain()
                drained.append(request.data)

            await service.add_endpoint("draining-e", handler=drain)
            await caller.publish("draining-e", b"1", reply="nobody")
            await caller.publish("draining-e", b"2", reply="nobody")
            await eventually(lambda: len(drained) == 2)
            assert nc.is_closed
            service._runner.state.error = None

    run(main)
    assert errors == [], "neither has used up its time"
