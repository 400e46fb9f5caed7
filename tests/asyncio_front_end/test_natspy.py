"""What natsvc relies on in nats-py, and what it does about that client's ways."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import nats
import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from natsvc import (
    ConnectionClosedError,
    HeaderError,
    Headers,
    NatsvcError,
    OutboundBufferError,
    PermissionsError,
    ServiceDefinition,
)
from natsvc.asyncio import Request, add_service
from natsvc.asyncio.link import Listener
from natsvc.asyncio.natspy import NatsPyLink
from natsvc.core import Reply
from natsvc.message import Delivery, Message, as_message
from natsvc.testing import NatsServer
from tests.worlds import LIMIT, confirmed, connect_nats_py, eventually, interest


def nobody(*_: object) -> None:
    return


async def at_once() -> None:
    return


async def publish(link: NatsPyLink, reply: Reply) -> None:
    publishing = link.send(reply)
    if publishing is not None:
        await publishing


@pytest.fixture
async def link(nc: Client) -> AsyncIterator[NatsPyLink]:
    made = NatsPyLink(nc, Listener(nobody, nobody, nobody, at_once))
    yield made
    made.close()


def test_the_private_names_in_use_are_there_and_as_expected() -> None:
    assert inspect.iscoroutinefunction(Client._send_unsubscribe)
    assert list(inspect.signature(Client._send_unsubscribe).parameters)[:2] == ["self", "sid"]
    assert inspect.iscoroutinefunction(Subscription._drain)
    assert "sub._drain()" in inspect.getsource(Client.drain)
    assert "self._drain()" in inspect.getsource(Subscription.drain)
    assert "self._error_cb(" in inspect.getsource(Client._process_err)


async def test_replies_are_put_where_nats_py_keeps_what_it_has_to_write(nc: Client, link: NatsPyLink) -> None:
    assert link._has_outbox
    received: asyncio.Queue[bytes] = asyncio.Queue()

    async def receive(message: Any) -> None:
        received.put_nowait(message.data)

    await nc.subscribe("put.there", cb=receive)
    before = dict(nc.stats)
    for number in range(3):
        assert link.send(("put.there", str(number).encode(), None, b"")) is None
    headers = Headers({"A": "1"})
    assert link.send(("put.there", b"3", headers, headers.encode())) is None
    await nc.publish("put.there", b"after")
    async with asyncio.timeout(LIMIT):
        assert [await received.get() for _ in range(5)] == [b"0", b"1", b"2", b"3", b"after"]
    assert nc.stats["out_msgs"] == before["out_msgs"] + 5
    assert nc.stats["out_bytes"] == before["out_bytes"] + 9


async def test_where_nats_py_keeps_them_elsewhere_replies_are_published(nc: Client, link: NatsPyLink) -> None:
    link._has_outbox = False
    subscription = await nc.subscribe("elsewhere")
    publishing = link.send(("elsewhere", b"x", None, b""))
    assert publishing is not None
    await publishing
    assert (await subscription.next_msg(LIMIT)).data == b"x"


async def test_replies_beyond_what_nats_py_should_hold_are_waited_for(nc: Client, link: NatsPyLink) -> None:
    nc._max_pending_size = 10
    subscription = await nc.subscribe("much")
    publishing = link.send(("much", b"x" * 100, None, b""))
    assert publishing is not None
    await publishing
    assert (await subscription.next_msg(LIMIT)).data == b"x" * 100


async def test_messages_are_handed_over_where_nats_py_would_keep_them_and_many_of_them_in_turns(
    nc: Client, caller: Client, link: NatsPyLink
) -> None:
    link.subscribe("watch", "", lambda _: None)
    received: list[bytes] = []
    subscription = await link.subscribe("handed.over", "", lambda message: received.append(message.data))
    assert type(subscription._pending_queue).__name__ == "_HandOver"
    message = Msg(nc, "handed.over", "", b"x")
    subscription._pending_size += 1
    subscription._pending_queue.put_nowait(message)
    assert received == [b"x"]
    assert subscription._pending_size == 0
    for number in range(1_000):
        subscription._pending_size += 4
        subscription._pending_queue.put_nowait(Msg(nc, "handed.over", "", f"{number:04}".encode()))
    assert len(received) < 500
    async with asyncio.timeout(LIMIT):
        while len(received) < 1_001:
            await asyncio.sleep(0)
    assert received[1:] == [f"{number:04}".encode() for number in range(1_000)]
    assert subscription._pending_size == 0
    await link.unsubscribe([_done(subscription)])


def _done(subscription: Subscription) -> asyncio.Future[Subscription]:
    done: asyncio.Future[Subscription] = asyncio.get_running_loop().create_future()
    done.set_result(subscription)
    return done


async def test_a_subscription_has_its_number(nc: Client) -> None:
    assert isinstance((await nc.subscribe("numbered"))._id, int)


async def test_messages_on_their_way_while_unsubscribing_are_delivered(
    nc: Client, caller: Client, link: NatsPyLink
) -> None:
    """Published without a pause while another subscription of the queue group takes over: each arrives somewhere."""
    got: list[bytes] = []
    over = False
    sent = 0

    async def publish() -> None:
        nonlocal sent
        while not over:
            for _ in range(20):
                await caller.publish("on-its-way", b"%d" % sent)
                sent += 1
            await asyncio.sleep(0)
        await confirmed(caller)

    publishing = asyncio.create_task(publish())
    control = link.subscribe("control-of-on-its-way", "", nobody)  # the first one is an iterator
    current = link.subscribe("on-its-way", "q", lambda message: got.append(message.data))
    await link.confirm()
    skipped = sent
    for _ in range(50):
        following = link.subscribe("on-its-way", "q", lambda message: got.append(message.data))
        await link.confirm()
        await link.unsubscribe([current])
        current = following
    over = True
    await publishing
    await link.unsubscribe([current, control])
    numbers = sorted(map(int, got))
    missing = sorted(set(range(numbers[0], sent)).difference(numbers))
    assert missing == [], f"of those from {numbers[0]} to {sent}"
    assert len(numbers) == sent - numbers[0], "none came twice"
    assert numbers[0] <= skipped


async def test_a_subscription_drained_by_its_owner_still_stops_the_service(nc: Client, caller: Client) -> None:
    async def echo(request: Request) -> None:
        await request.respond(request.data)

    service = await add_service(nc, name="drained-singly")
    await service.add_endpoint("drained-singly-e", handler=echo)
    await next(iter(service._runner._subscriptions.values())).result().drain()
    assert service.stopped.is_set()


async def test_a_cancelled_wait_for_the_server_leaves_the_connection_usable(nc: Client, link: NatsPyLink) -> None:
    for _ in range(20):
        task = asyncio.create_task(link.confirm())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await link.confirm()
    await nc.flush(timeout=30)  # its read loop is alive


async def test_repeated_headers_are_sent(nc: Client, caller: Client, link: NatsPyLink) -> None:
    headers = Headers([("A", "1"), ("A", "2")])
    subscription = await caller.subscribe("repeated")
    await confirmed(caller)
    await publish(link, ("repeated", b"x", headers, headers.encode()))
    message = await subscription.next_msg(timeout=30)
    assert message.headers == {"A": "2"}, "nats-py reads the last one only"
    assert message.data == b"x"


async def test_header_names_that_nats_py_refuses_are_a_header_error(nc: Client, caller: Client) -> None:
    """The server and other clients take them."""
    raised: list[BaseException] = []

    async def handler(request: Request) -> bytes:
        try:
            await request.respond(b"", headers={"X(1)": "\udc80"})
        except HeaderError as error:
            raised.append(error)
        return b"went on"

    async with add_service(nc, name="refused-headers") as service:
        await service.add_endpoint("refused-headers-e", handler=handler)
        assert (await caller.request("refused-headers-e", b"", timeout=30)).data == b"went on"
    assert len(raised) == 1


async def test_more_than_the_buffer_holds_while_disconnected_is_a_typed_error(
    make_server: Callable[[], NatsServer],
) -> None:
    server = make_server()
    nc = await connect_nats_py(server.url)
    link = NatsPyLink(nc, Listener(nobody, nobody, nobody, at_once))
    server.kill()
    async with asyncio.timeout(30):
        while nc.is_connected:
            await asyncio.sleep(0.01)
    with pytest.raises(OutboundBufferError):
        for _ in itertools.repeat(None, 100):
            await publish(link, ("anywhere", b"x" * 100_000, None, b""))
    await asyncio.to_thread(server.restart)
    async with asyncio.timeout(30):
        while not nc.is_connected:
            await asyncio.sleep(0.01)
    await nc.close()
    with pytest.raises(ConnectionClosedError):
        await publish(link, ("anywhere", b"x", None, b""))


async def test_any_other_error_of_nats_py_is_a_natsvc_error(nc: Client, link: NatsPyLink) -> None:
    link._has_outbox = False
    with pytest.raises(NatsvcError) as caught:
        await publish(link, ("", b"x", Headers({"a": "1"}), b""))
    assert isinstance(caught.value.__cause__, nats.errors.Error)


async def test_a_reconnect_while_unsubscribing_leaves_no_subscription_behind(
    make_server: Callable[[], NatsServer],
) -> None:
    server = make_server()
    nc = await connect_nats_py(server.url)
    link = NatsPyLink(nc, Listener(nobody, nobody, nobody, at_once))
    subscriptions = [link.subscribe(f"interrupted.{number}", "", nobody) for number in range(5)]
    await link.confirm()
    await asyncio.to_thread(server.kill)
    unsubscribing = asyncio.create_task(link.unsubscribe(subscriptions))
    await asyncio.to_thread(server.restart)
    await asyncio.wait_for(unsubscribing, 30)
    async with asyncio.timeout(30):
        while not nc.is_connected:
            await asyncio.sleep(0.01)
    await confirmed(nc)
    await asyncio.to_thread(lambda: eventually(lambda: not any("interrupted" in one for one in interest(server))))
    link.close()
    await nc.close()


async def test_a_service_whose_connection_is_closed_before_it_is_started_says_so(server: NatsServer) -> None:
    nc = await connect_nats_py(server.url)
    service = add_service(nc, name="never-started")
    await nc.close()
    with pytest.raises(ConnectionClosedError):
        await service
    assert service.stopped.is_set()


async def test_the_owners_error_callback_and_closed_callback_stay_the_owners(server: NatsServer) -> None:
    called: list[str] = []

    async def closed() -> None:
        called.append("closed")

    nc = await nats.connect(server.url, closed_cb=closed)
    service = await add_service(nc, name="owners")
    await service.stop()
    await nc.close()
    assert called == ["closed"]


async def test_messages_come_with_subject_reply_headers_and_data(nc: Client, caller: Client, link: NatsPyLink) -> None:
    got: list[Any] = []

    def take(delivered: Delivery) -> None:
        message = as_message(delivered, Message)
        got.append((message.subject, message.reply, dict(message.headers), message.data))

    for subject in ("first.is.an.iterator", "second.has.a.callback"):
        link.subscribe(subject, "", take)
        await link.confirm()
        await caller.publish(subject, b"data", reply="answers", headers={"A": "1"})
    await confirmed(caller)
    async with asyncio.timeout(30):
        while len(got) < 2:
            await asyncio.sleep(0.005)
    assert sorted(got) == [
        ("first.is.an.iterator", "answers", {"A": "1"}, b"data"),
        ("second.has.a.callback", "answers", {"A": "1"}, b"data"),
    ]


async def test_each_of_several_services_learns_of_its_own_refused_subscription(
    make_server: Callable[..., NatsServer],
) -> None:
    server = make_server('authorization {users: [{user: u, password: p, permissions: {subscribe: {deny: "no.>"}}}]}')
    nc = await connect_nats_py(server.url.replace("nats://", "nats://u:p@"))

    async def echo(request: Request) -> None:
        await request.respond(request.data)

    async def add(name: str) -> object:
        definition = ServiceDefinition(name)
        definition.add_endpoint("e", subject=f"no.{name}", handler=echo)
        return await add_service(nc, definition)

    raised = await asyncio.gather(add("a"), add("b"), return_exceptions=True)
    assert [error.subject for error in raised if isinstance(error, PermissionsError)] == ["no.a", "no.b"]
    await nc.close()


async def test_the_owners_error_callback_is_still_called(make_server: Callable[..., NatsServer]) -> None:
    server = make_server('authorization {users: [{user: u, password: p, permissions: {subscribe: {deny: "no.>"}}}]}')
    told: list[Exception] = []

    async def error_cb(error: Exception) -> None:
        told.append(error)

    nc = await nats.connect(server.url.replace("nats://", "nats://u:p@"), error_cb=error_cb)
    service = await add_service(nc, name="telling")
    await nc.subscribe("no.one")
    await confirmed(nc)
    async with asyncio.timeout(30):
        while not told:
            await asyncio.sleep(0.005)
    assert "permissions violation" in str(told[0])
    assert service.error is None
    await service.stop()
    await nc.close()


async def test_a_close_that_fails_half_way_ends_the_service_too(make_server: Callable[[], NatsServer]) -> None:
    server = make_server()
    nc = await connect_nats_py(server.url)
    service = await add_service(nc, name="half-closed")
    await asyncio.to_thread(server.kill)
    async with asyncio.timeout(30):
        while nc.is_connected:
            await asyncio.sleep(0.01)
    await nc.publish("pending", b"x")
    with contextlib.suppress(Exception):  # with something pending it raises, on some versions of Python
        await nc.close()
    async with asyncio.timeout(30):
        await service.stopped.wait()
    assert isinstance(service.error, ConnectionClosedError)


async def test_a_client_that_is_connected_anew_tells_of_refused_subscriptions_too(
    make_server: Callable[..., NatsServer],
) -> None:
    server = make_server('authorization {users: [{user: u, password: p, permissions: {subscribe: {deny: "no.>"}}}]}')
    url = server.url.replace("nats://", "nats://u:p@")
    nc = await connect_nats_py(url)
    await (await add_service(nc, name="first")).stop()
    await nc.close()
    await nc.connect(url)

    async def handler(request: Request) -> None: ...

    service = await add_service(nc, name="second")
    with pytest.raises(PermissionsError):
        await service.add_endpoint("e", subject="no.e", handler=handler)
    await nc.close()


async def test_a_response_that_the_connection_refuses_answers_nobody(nc: Client, caller: Client) -> None:
    """So the deadline's 504 comes all the same, and a control verb's built-in answer."""

    async def endpoint(request: Request) -> None:
        with pytest.raises(NatsvcError):
            await request.respond(b"", {"X": "\udc80"})
        await asyncio.Event().wait()

    async def ping(request: Request) -> None:
        await request.respond(b"{}", {"X": "\udc80"})

    async with add_service(nc, name="refused-response", ping_handler=ping) as service:
        await service.add_endpoint("refused-response-e", handler=endpoint, timeout=0.1)
        reply = await caller.request("refused-response-e", b"", timeout=30)
        assert reply.headers is not None
        assert reply.headers["Nats-Service-Error-Code"] == "504"
        assert b"refused-response" in (await caller.request("$SRV.PING.refused-response", b"", timeout=30)).data
