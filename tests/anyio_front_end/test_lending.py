"""As long as handlers don't wait, their task reads in the place of the reading task; nobody else can tell."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

from natsvc.anyio import Connection, ConnectionClosedError, Request, Service, add_service, connect, handling
from natsvc.anyio.reading import Reading
from natsvc.anyio.sockets import Socket
from natsvc.testing import NatsServer
from tests.anyio_front_end.conftest import Run
from tests.anyio_front_end.tools import connections, eventually, wait_for_bytes
from tests.connection.certificates import Certificates
from tests.connection.scripted_server import ScriptedServer, Session
from tests.worlds import LIMIT


def stand_in(nc: Connection) -> handling.HandlerTask | None:
    """The task that waits for bytes in the reading task's place."""
    socket = nc._driver._socket
    task = None if socket is None else socket.reading._stand_in
    assert task is None or isinstance(task, handling.HandlerTask)
    return task if task is not None and task.is_reading else None


async def is_idle(service: Service) -> None:
    """Wait until its task has nothing to do: then it is called for the next request, and may read."""
    await eventually(lambda: service._runner._handling._idle)


async def is_lent(nc: Connection) -> None:
    """Wait until the reading has been lent."""
    await eventually(lambda: stand_in(nc))


@contextlib.asynccontextmanager
async def quick_service(nc: Connection, caller: Connection) -> AsyncIterator[Service]:
    """A service that reads for itself; what it is asked to, it does."""
    other = await nc.subscribe("other")

    async def handler(request: Request) -> bytes:
        match request.data:
            case b"wait":
                await nc.publish("other", b"from the handler")
                return (await other.receive(LIMIT)).data
            case b"many":
                for _ in range(100):
                    await request.respond(bytes(100_000))
        return request.data

    async with add_service(nc, name="quick") as service:
        await service.add_endpoint("quick-e", handler=handler)
        await nc.flush()
        await is_idle(service)
        await caller.request("quick-e", timeout=LIMIT)
        await is_lent(nc)
        yield service


async def answers(caller: Connection) -> None:
    assert (await caller.request("quick-e", b"still there", timeout=LIMIT)).data == b"still there"


def test_requests_one_at_a_time_are_handled_without_a_switch_of_tasks(
    server: NatsServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks: list[int] = []
    wait_readable = Socket.wait_readable

    async def noted_wait_readable(socket: Socket) -> None:
        await wait_readable(socket)
        tasks.append(anyio.get_current_task().id)

    async def handler(request: Request) -> None:
        tasks.append(anyio.get_current_task().id)
        await request.respond()

    monkeypatch.setattr(handling, "_LONGEST_ROW", 10**12)  # however busy the machine is

    async def main() -> None:
        async with connect(server.url) as nc, connect(server.url) as caller, add_service(nc, name="same") as service:
            await service.add_endpoint("same-e", handler=handler)
            await nc.flush()
            await is_idle(service)
            await caller.request("same-e", timeout=LIMIT)
            await is_lent(nc)
            tasks.clear()
            monkeypatch.setattr(Socket, "wait_readable", noted_wait_readable)
            for _ in range(5):
                await caller.request("same-e", timeout=LIMIT)
        # It waited already when the first came.
        assert len(tasks) >= 9
        assert len(set(tasks)) == 1

    run(main)


def test_a_handler_may_wait_for_what_comes_over_the_connection_that_its_task_was_to_read(
    server: NatsServer, run: Run
) -> None:
    async def main() -> None:
        async with connect(server.url) as nc, connect(server.url) as caller, quick_service(nc, caller):
            assert (await caller.request("quick-e", b"wait", timeout=LIMIT)).data == b"from the handler"
            await answers(caller)

    run(main)


def test_where_a_handler_has_waited_the_reading_is_not_lent_for_a_while(
    server: NatsServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent: list[object] = []
    lend = Reading.lend

    def noted_lend(reading: Reading, stand_in: Any) -> None:
        lent.append(stand_in)
        lend(reading, stand_in)

    async def main() -> None:
        async with connect(server.url) as nc, connect(server.url) as caller, quick_service(nc, caller) as service:
            monkeypatch.setattr(Reading, "lend", noted_lend)
            monkeypatch.setattr(handling, "_UNLENT", 10**15)
            await caller.request("quick-e", b"wait", timeout=LIMIT)
            for _ in range(5):
                await answers(caller)
            assert not lent
            nc._driver.lends_at = 0
            await is_idle(service)
            await answers(caller)
            await is_lent(nc)
            assert len(lent) == 1

    run(main)


def test_messages_of_others_are_delivered_and_leave_the_reading_where_it_is(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        async with connect(server.url) as nc, connect(server.url) as caller, quick_service(nc, caller):
            reader = stand_in(nc)
            subscription = await nc.subscribe("mine")
            await nc.flush(LIMIT)
            for _ in range(3):
                await caller.publish("mine", b"for a subscription")
                assert (await subscription.receive(LIMIT)).data == b"for a subscription"
                assert (await nc.request("quick-e", b"of its own", timeout=LIMIT)).data == b"of its own"
            await is_lent(nc)
            assert stand_in(nc) is reader

    run(main)


def test_two_services_on_one_connection_both_answer_whoever_reads(server: NatsServer, run: Run) -> None:
    async def echo(request: Request) -> bytes:
        return request.data

    async def main() -> None:
        async with (
            connect(server.url) as nc,
            connect(server.url) as caller,
            quick_service(nc, caller),
            add_service(nc, name="second") as second,
        ):
            await second.add_endpoint("second-e", handler=echo)
            await nc.flush()
            for number in range(10):
                assert (await caller.request("second-e", b"%d" % number, timeout=LIMIT)).data == b"%d" % number
                await answers(caller)

    run(main)


def test_the_connection_goes_on_when_the_service_that_has_read_for_it_has_ended(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        async with connect(server.url) as nc, connect(server.url) as caller:
            for _ in range(3):
                async with quick_service(nc, caller):
                    pass
                await nc.flush(LIMIT)

    run(main)


def test_what_is_cancelled_around_a_service_that_reads_ends_it_and_not_the_connection(
    server: NatsServer, run: Run
) -> None:
    async def main() -> None:
        async with connect(server.url) as nc, connect(server.url) as caller:
            with anyio.CancelScope() as scope:
                async with quick_service(nc, caller) as service:
                    scope.cancel()
                    with anyio.CancelScope(shield=True):  # the body notices nothing
                        await eventually(lambda: service.stopped.is_set())
                        await nc.flush(LIMIT)
            assert scope.cancelled_caught
            await nc.flush(LIMIT)

    run(main)


@pytest.mark.parametrize("before", ["nothing", "a request", "a reconnect"])
def test_a_service_that_is_cancelled_stops_whatever_was_before_and_though_its_body_is_shielded(
    server: NatsServer, run: Run, before: str
) -> None:
    """One of its tasks always waits, and notices."""

    async def echo(request: Request) -> bytes:
        return request.data

    async def main() -> None:
        async with connect(server.url, reconnect_wait=0.01) as nc, connect(server.url) as caller:
            with anyio.CancelScope() as scope:
                async with add_service(nc, name="noticing") as service:
                    await service.add_endpoint("noticing-e", handler=echo)
                    await nc.flush()
                    if before != "nothing":
                        await caller.request("noticing-e", timeout=LIMIT)
                        await is_lent(nc)
                    with anyio.CancelScope(shield=True):
                        if before == "a reconnect":
                            await nc.reconnect()
                            await nc.flush(LIMIT)
                        scope.cancel()
                        await eventually(lambda: service.stopped.is_set())

    run(main)


def test_a_connection_that_is_left_before_a_service_on_it_leaves_no_socket(server: NatsServer, run: Run) -> None:
    """What is cancelled is around both: whoever waits for the socket must have left it before it is closed."""

    async def main() -> None:
        async with connect(server.url) as caller, anyio.create_task_group() as tasks:

            async def serve(nc: Connection, *, task_status: anyio.abc.TaskStatus[None]) -> None:
                with anyio.CancelScope(shield=True), contextlib.suppress(ConnectionClosedError):
                    async with quick_service(nc, caller) as service:
                        task_status.started()
                        await service.stopped.wait()

            with anyio.CancelScope() as scope:
                async with connect(server.url) as nc:
                    await tasks.start(serve, nc)
                    (socket,) = nc._driver._sockets
                    raw: Any = socket._raw
                    scope.cancel()
            assert raw.fileno() == -1
            assert not nc._driver._sockets

    run(main)


def test_a_task_that_waits_to_read_keeps_no_request_alive(server: NatsServer, run: Run) -> None:
    handled: list[weakref.ref[Request]] = []

    async def remember(request: Request) -> bytes:
        handled.append(weakref.ref(request))
        return request.data

    async def main() -> None:
        async with connect(server.url) as nc, connect(server.url) as caller, add_service(nc, name="forgetful") as one:
            await one.add_endpoint("forgetful-e", handler=remember)
            await is_idle(one)
            for _ in range(3):
                await caller.request("forgetful-e", timeout=LIMIT)
                await is_lent(nc)
                assert not any(request() for request in handled)

    run(main)


def test_a_connection_keeps_no_task_of_a_service_that_has_read_for_it(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        async with connect(server.url) as nc, connect(server.url) as caller:
            with anyio.CancelScope() as leaving:  # so that nothing comes any more
                async with quick_service(nc, caller):
                    task = stand_in(nc)
                    assert task is not None
                    scope = weakref.ref(task.scope)
                    del task
                    leaving.cancel()
            await eventually(lambda: gc.collect() >= 0 and not scope())

    run(main)


def test_a_task_that_is_called_for_something_else_than_what_was_read_does_not_read(
    server: NatsServer, run: Run
) -> None:
    """It may be over when the reading task looks next."""

    async def main() -> None:
        async with connect(server.url) as nc, connect(server.url) as caller, quick_service(nc, caller) as service:
            await caller.request("quick-e", b"wait", timeout=LIMIT)
            await is_idle(service)
            nc._driver.lends_at = 0
            service._runner._handling.begin()
            assert nc._driver.next_to_read is None

    run(main)


def test_the_end_of_a_socket_waits_for_who_reads_it_whatever_is_cancelled_meanwhile(run: Run) -> None:
    class Reader:
        def __init__(self) -> None:
            self.lent: Reading | None = None
            self.leaving = anyio.Event()

        def leave_reading(self) -> None:
            self.leaving.set()

    async def main() -> None:
        reading, reader = Reading(Socket.__new__(Socket)), Reader()
        reading.lend(reader)
        has_left = False

        async def leave() -> None:
            nonlocal has_left
            await reader.leaving.wait()
            await anyio.lowlevel.checkpoint()
            has_left = True
            reading.give_back()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leave)
            with anyio.CancelScope() as scope:
                scope.cancel()
                await reading.end()
                assert has_left
            assert reader.lent is None

    run(main)


def test_a_service_answers_after_a_reconnect_whoever_read_before(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        async with (
            connect(server.url, reconnect_wait=0.01) as nc,
            connect(server.url) as caller,
            quick_service(nc, caller) as service,
        ):
            for _ in range(3):
                reader = stand_in(nc)
                await nc.reconnect()
                await nc.flush(LIMIT)
                await is_idle(service)
                await answers(caller)
                await is_lent(nc)
                assert stand_in(nc) is not reader

    run(main)


@pytest.mark.parametrize(
    ("how", "raised"), [("close", pytest.raises(ConnectionClosedError)), ("drain", contextlib.nullcontext())]
)
def test_a_connection_can_be_closed_while_a_service_reads_for_it(
    server: NatsServer, run: Run, how: str, raised: contextlib.AbstractContextManager[object]
) -> None:
    async def main() -> None:
        async with connect(server.url) as nc, connect(server.url) as caller:
            with raised:
                async with quick_service(nc, caller) as service:
                    await getattr(nc, how)()
                    await eventually(lambda: nc.is_closed and service.stopped.is_set())
                    assert not nc._driver._sockets

    run(main)


def test_a_connection_that_breaks_while_a_service_reads_for_it_is_made_anew(run: Run) -> None:
    """The end of the stream is the reading task's to find."""
    idle, broken = threading.Event(), threading.Event()

    def script(session: Session) -> None:
        session.welcome()
        session.await_subscription("breaking-e")
        if session.number == 1:
            session.answer_ping()  # the endpoint is confirmed
            session.wait(idle)
        session.deliver("breaking-e", reply="r")
        if session.number == 1:
            session.wait(broken)
            session.cut()
        else:
            session.serve()

    async def main() -> None:
        told: list[Any] = []
        with ScriptedServer(script) as server:
            async with (
                connect(server.url, reconnect_wait=0.01, on_disconnect=told.append) as nc,
                add_service(nc, name="breaking") as service,
            ):
                await service.add_endpoint("breaking-e", handler=Request.respond)
                await is_idle(service)
                idle.set()
                await is_lent(nc)
                broken.set()
                await eventually(lambda: told and nc.is_connected)
                await eventually(lambda: service.stats().endpoints[0].num_requests == 2)

    run(main)


def test_while_the_socket_takes_nothing_nothing_is_read(
    server: NatsServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in leaves it to the reading task, which waits until there is room."""

    async def main() -> None:
        async with connect(server.url) as nc, connect(server.url) as caller, quick_service(nc, caller):
            await nc.flush(LIMIT)
            await is_lent(nc)
            driver = nc._driver
            driver._set_paused(True)
            await caller.publish("quick-e", b"not yet")
            await caller.flush(LIMIT)
            await eventually(lambda: stand_in(nc) is None)
            driver._set_paused(False)
            await answers(caller)

    run(main)


def test_what_is_more_than_the_socket_takes_is_sent_while_the_service_reads(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        async with connect(server.url) as nc, connect(server.url) as caller, quick_service(nc, caller):
            replies = await caller.subscribe("replies")
            await caller.flush(LIMIT)
            for _ in range(3):
                await caller.publish("quick-e", b"many", reply="replies")
                sizes = [len((await replies.receive(LIMIT)).data) for _ in range(101)]
                assert sizes == [100_000] * 100 + [4]
                await answers(caller)

    run(main)


def test_the_reading_is_lent_with_tls_as_well(
    make_server: Callable[..., NatsServer], tmp_path_factory: pytest.TempPathFactory, run: Run
) -> None:
    certificates = Certificates.make(tmp_path_factory.mktemp("certificates"))
    server = make_server(tls=certificates.server_tls())

    async def main() -> None:
        async with (
            connect(server.url, tls=certificates.context()) as nc,
            connect(server.url, tls=certificates.context()) as caller,
            quick_service(nc, caller),
        ):
            large = bytes(300_000)  # many records of TLS, which come one by one
            for _ in range(3):
                assert (await caller.request("quick-e", large, timeout=LIMIT)).data == large
            await answers(caller)

    run(main)


def test_a_task_that_lets_others_have_their_turn_gives_back_what_it_was_lent_if_the_connection_ends_then(
    server: NatsServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in nobody's way, and goes on: to be cancelled would be for the handler that it runs next."""
    give_turn = anyio.lowlevel.cancel_shielded_checkpoint

    async def main() -> None:
        async with (
            connect(server.url, reconnect_wait=0.01) as nc,
            connect(server.url) as caller,
            quick_service(nc, caller) as service,
        ):
            reader = stand_in(nc)
            assert reader is not None
            reconnected = False

            async def reconnect_and_give_turn() -> None:
                nonlocal reconnected
                if not reconnected:
                    reconnected = True
                    assert reader is not None
                    assert reader.lent is not None
                    nc._driver.reconnect()
                    await eventually(lambda: nc.is_connected)
                    assert reader.lent is None
                await give_turn()

            monkeypatch.setattr(anyio.lowlevel, "cancel_shielded_checkpoint", reconnect_and_give_turn)
            monkeypatch.setattr(handling, "_LONGEST_ROW", 0)
            await caller.request("quick-e", timeout=LIMIT)
            await eventually(lambda: reconnected)
            monkeypatch.undo()
            await nc.flush(LIMIT)
            assert (await caller.request("quick-e", b"wait", timeout=LIMIT)).data == b"from the handler"
            assert not reader.is_cancelled
            assert service.stats().endpoints[0].num_errors == 0

    run(main)


def test_a_task_that_may_not_read_any_more_when_it_has_its_turn_reads_and_runs_nothing(
    server: NatsServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_readable = Socket.wait_readable

    async def main() -> None:
        async with (
            connect(server.url, reconnect_wait=0.01, name="too-late") as nc,
            connect(server.url) as caller,
            quick_service(nc, caller) as service,
        ):
            replies = await caller.subscribe("replies")
            await caller.flush(LIMIT)
            reader = stand_in(nc)
            assert reader is not None

            async def wait_readable_too_late(socket: Socket) -> None:
                """What comes, and what cancels the task, have come both since it had its turn last."""
                await wait_readable(socket)
                monkeypatch.undo()
                with anyio.CancelScope(shield=True):
                    nc._driver.reconnect()
                    await eventually(lambda: reader.is_cancelled)
                    socket._break()  # or the server takes it for another instance of the service
                    await eventually(lambda: connections(server, "too-late") == 1)
                    # The reading task of the next connection has had its turn, and waits for this.
                    await eventually(lambda: nc.is_connected)
                    await nc.flush(LIMIT)
                    caller._state.publish("quick-e", b"wait", reply="replies")
                    caller._driver.write()
                    wait_for_bytes(nc)

            monkeypatch.setattr(handling, "_LONGEST_ROW", 10**12)  # however busy the machine is
            monkeypatch.setattr(Socket, "wait_readable", wait_readable_too_late)
            await caller.request("quick-e", timeout=LIMIT)
            await is_lent(nc)
            await caller.publish("quick-e", b"too late")
            assert (await replies.receive(LIMIT)).data == b"from the handler"
            assert service.stats().endpoints[0].num_errors == 0
            await answers(caller)

    run(main)
