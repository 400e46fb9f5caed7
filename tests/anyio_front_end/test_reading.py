"""The task that runs handlers reads on by itself what has come meanwhile; nobody else can tell."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from natsvc import ERROR_CODE_HEADER
from natsvc.anyio import Connection, Request, ServiceError, add_service, connect, handling
from natsvc.anyio.sockets import Socket
from natsvc.anyio.tls import Tls
from natsvc.testing import NatsServer
from tests.anyio_front_end.conftest import Run
from tests.anyio_front_end.tools import eventually, wait_for_bytes
from tests.connection.certificates import Certificates
from tests.connection.scripted_server import ScriptedServer, Session
from tests.worlds import LIMIT

NEVER = 2**63
"""When the reading may be lent: what is tested here is that tasks read which it is not lent to."""

LARGE = 1000
"""More bytes than the server says by itself."""


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


class Notes:
    """What happens, in its order; another task notes, too, when it gets its turn."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._began = anyio.Event()

    def begin(self) -> None:
        self._began.set()

    async def note_the_turn_of_others(self) -> None:
        await self._began.wait()
        self.notes.append("others")


async def handle_two(nc: Connection, publish: Callable[[], object]) -> list[str]:
    """Run a service whose first request has another one published while its handler holds up the event loop."""
    notes = Notes()
    nc._driver.lends_at = NEVER

    async def handler(request: Request) -> None:
        notes.notes.append(request.data.decode().strip())
        if request.data == b"one":
            notes.begin()
            publish()
            wait_for_bytes(nc, LARGE)

    async with add_service(nc, name="reading") as service, anyio.create_task_group() as tasks:
        await service.add_endpoint("reading-e", handler=handler)
        tasks.start_soon(notes.note_the_turn_of_others)
        await anyio.lowlevel.checkpoint()
        await nc.flush()
        await nc.publish("reading-e", b"one")
        await eventually(lambda: len(notes.notes) == 3)
        await eventually(lambda: len(service._runner._handling._idle) == 1)
    return notes.notes


@pytest.mark.parametrize("kind", ["plain", "TLS"])
def test_what_has_come_while_handlers_ran_is_handled_without_a_switch_of_tasks(
    make_server: Callable[..., NatsServer],
    certificates: Certificates,
    run: Run,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handling, "_LONGEST_ROW", 10**12)  # however busy the machine is
    server = make_server(tls=certificates.server_tls()) if kind == "TLS" else make_server()
    options: dict[str, Any] = {"tls": certificates.context()} if kind == "TLS" else {}

    async def main() -> None:
        async with connect(server.url, **options) as nc, connect(server.url, **options) as other:
            # Written at once, for the event loop is held up.
            def publish() -> None:
                other._state.publish("reading-e", b"two".ljust(LARGE))
                other._driver.write()

            assert await handle_two(nc, publish) == ["one", "two", "others"]

    run(main)


def test_others_have_their_turn_however_much_comes(
    server: NatsServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests, taken, turns = 50_000, 0, 0

    async def handler(request: Request) -> None:
        pass

    async def main() -> None:
        nonlocal turns
        async with connect(server.url) as nc, add_service(nc, name="flooded") as service:
            nc._driver.lends_at = NEVER
            await service.add_endpoint("flooded-e", handler=handler)
            await nc.flush()
            message = b"MSG flooded-e %d 0\r\n\r\n" % max(nc._state._subscriptions)

            def take(socket: Socket) -> bytes:
                nonlocal taken
                taken += 1
                return message if taken < requests else b""

            monkeypatch.setattr(Socket, "take", take)
            before = 0
            while taken < requests:
                turns += taken > before
                before = taken
                await nc.publish("flooded-e")
                await nc.flush()

    run(main)
    assert turns > 10


async def read_on(
    nc: Connection,
    subject: str,
    bodies: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
    when_read: Callable[[], object] = lambda: None,
) -> None:
    """Have a task that has run a request read these requests on, all at once."""
    sid = next(sid for sid, one in nc._state._subscriptions.items() if one.subject == subject)
    requests = b"".join(b"MSG %b %d r 1\r\n%b\r\n" % (subject.encode(), sid, body) for body in bodies)
    pieces = [requests]
    nc._driver.lends_at = NEVER

    def take(socket: Socket) -> bytes:
        if not pieces:
            return b""
        when_read()
        return pieces.pop()

    monkeypatch.setattr(handling, "_LONGEST_ROW", 10**12)  # however busy the machine is
    monkeypatch.setattr(Socket, "take", take)
    await nc.publish(subject, b"0", reply="r")
    await eventually(lambda: not pieces)


def test_requests_that_are_read_on_do_not_hold_slots_before_they_begin(
    server: NatsServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled: list[bytes] = []

    async def handler(request: Request) -> None:
        handled.append(request.data)
        await request.respond()

    async def main() -> None:
        async with connect(server.url) as nc, add_service(nc, name="slots") as service:
            await service.add_endpoint("slots-e", handler=handler, max_concurrency=1, max_pending=0)
            await read_on(nc, "slots-e", [b"1", b"2", b"3"], monkeypatch)
            (stats,) = service.stats().endpoints
            assert (stats.num_requests, stats.num_errors) == (4, 0)

    run(main)
    assert handled == [b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize("is_late", [False, True])
def test_each_request_that_is_read_on_is_answered_whatever_the_one_before_it_came_to(
    server: NatsServer, run: Run, monkeypatch: pytest.MonkeyPatch, is_late: bool
) -> None:
    bodies = [b"%d" % number for number in range(1, 10)]

    async def main() -> None:
        release = anyio.Event()

        async def handler(request: Request) -> bytes | None:
            match request.data:
                case b"2" | b"3":
                    await release.wait()
                    return b"waited " + request.data
                case b"4":
                    raise ServiceError(404, "four")
                case b"6":
                    raise ValueError("six")
                case b"5":
                    await request.respond(b"done 5")
                    return None
            return b"done " + request.data

        async with connect(server.url) as nc, connect(server.url) as other, add_service(nc, name="mixed") as service:
            await service.add_endpoint("mixed-e", handler=handler)
            await nc.flush()
            answers = await other.subscribe("r")
            await other.flush()

            def let_others_have_their_turn() -> None:
                task = service._runner._handling._reader
                assert task is not None
                task.row_ends = 0

            await read_on(nc, "mixed-e", bodies, monkeypatch, let_others_have_their_turn if is_late else lambda: None)
            monkeypatch.undo()
            received = [await answers.receive(LIMIT) for _ in range(len(bodies) - 1)]
            release.set()
            received += [await answers.receive(LIMIT) for _ in range(2)]
            (stats,) = service.stats().endpoints
            assert (stats.num_requests, stats.num_errors) == (10, 2)
        words = [one.headers.get(ERROR_CODE_HEADER) or one.data.decode() for one in received]
        assert words[:8] == ["done 0", "done 1", "404", "done 5", "500", "done 7", "done 8", "done 9"]
        assert sorted(words[8:]) == ["waited 2", "waited 3"]

    run(main)


@pytest.mark.parametrize(
    ("is_late", "expected"), [(False, ["0", "1", "2", "3"]), (True, ["0", "1", "others", "2", "3"])]
)
@pytest.mark.parametrize("fails", [False, True])
def test_others_have_their_turn_also_between_requests_that_were_read_together(
    server: NatsServer, run: Run, monkeypatch: pytest.MonkeyPatch, is_late: bool, expected: list[str], fails: bool
) -> None:
    notes: list[str] = []
    give_turn = anyio.lowlevel.cancel_shielded_checkpoint

    async def noted_give_turn() -> None:
        notes.append("others")
        await give_turn()

    async def handler(request: Request) -> None:
        notes.append(request.data.decode())
        if fails:
            raise ServiceError(400, "it fails without waiting")

    async def main() -> None:
        async with connect(server.url) as nc, add_service(nc, name="turns") as service:
            await service.add_endpoint("turns-e", handler=handler)

            def when_read() -> None:
                monkeypatch.setattr(anyio.lowlevel, "cancel_shielded_checkpoint", noted_give_turn)
                task = service._runner._handling._reader
                assert task is not None
                if is_late:
                    task.row_ends = 0

            await read_on(nc, "turns-e", [b"1", b"2", b"3"], monkeypatch, when_read)
            monkeypatch.undo()
            await eventually(lambda: "3" in notes)

    run(main)
    assert notes == expected


def test_the_task_that_lets_others_have_their_turn_goes_on_with_what_they_have_read(
    server: NatsServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handling, "_LONGEST_ROW", 0)
    handled: list[bytes] = []
    give_turn = anyio.lowlevel.cancel_shielded_checkpoint

    async def handler(request: Request) -> None:
        handled.append(request.data)

    async def main() -> None:
        async with connect(server.url) as nc, add_service(nc, name="one-task") as service:
            nc._driver.lends_at = NEVER
            await service.add_endpoint("one-task-e", handler=handler)
            driver, socket = nc._driver, nc._driver._socket
            assert socket is not None
            pieces = [b"MSG one-task-e %d 1\r\nx\r\n" % max(nc._state._subscriptions)] * 3

            async def read_and_give_turn() -> None:
                if pieces:
                    driver.received(socket, pieces.pop())
                await give_turn()

            monkeypatch.setattr(anyio.lowlevel, "cancel_shielded_checkpoint", read_and_give_turn)
            await nc.publish("one-task-e", b"0")
            await eventually(lambda: len(handled) == 4)
            monkeypatch.undo()
            await eventually(lambda: service._runner._handling._idle)
            assert len(service._runner._handling._idle) == 1

    run(main)


def test_messages_of_others_do_not_keep_a_task_reading(
    server: NatsServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = 0

    async def handler(request: Request) -> None:
        pass

    async def main() -> None:
        async with connect(server.url) as nc, add_service(nc, name="beside") as service:
            nc._driver.lends_at = NEVER
            await service.add_endpoint("beside-e", handler=handler)
            await nc.subscribe("noise")
            await nc.flush()
            sid = next(sid for sid, one in nc._state._subscriptions.items() if one.subject == "noise")

            def take(socket: Socket) -> bytes:
                nonlocal taken
                taken += 1
                return b"MSG noise %d 0\r\n\r\n" % sid if taken < 10_000 else b""

            monkeypatch.setattr(Socket, "take", take)
            await nc.publish("beside-e")
            await eventually(lambda: taken)
            monkeypatch.undo()

    run(main)
    assert taken < 10


async def survive(url: str, happens: Callable[[Connection], None], **options: Any) -> list[Any]:
    """Have something happen to a connection while a handler runs; return what is told of it."""
    told: list[Any] = []

    async def handler(request: Request) -> None:
        if not told:
            happens(nc)

    async with (
        connect(url, reconnect_wait=0.01, on_disconnect=told.append, **options) as nc,
        add_service(nc, name="surviving") as service,
    ):
        await service.add_endpoint("surviving-e", handler=handler)
        await nc.publish("surviving-e")
        await eventually(lambda: told and nc.is_connected)
        await nc.flush(LIMIT)
    return told


def test_that_the_connection_has_broken_is_told_with_its_cause_also_if_found_so(run: Run) -> None:
    asked = threading.Event()

    def script(session: Session) -> None:
        session.welcome()
        if session.number == 1:
            session.await_subscription("surviving-e")
            session.deliver("surviving-e")
            session.wait(asked)
            session.cut()
        else:
            session.serve()

    def happens(nc: Connection) -> None:
        asked.set()
        wait_for_bytes(nc)

    with ScriptedServer(script) as server:
        told = run(lambda: survive(server.url, happens))
    assert isinstance(told[0], ConnectionResetError)


def test_what_is_no_tls_breaks_the_connection_also_if_found_so(
    make_server: Callable[..., NatsServer], certificates: Certificates, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decrypt(tls: Tls) -> bytes:
        monkeypatch.undo()
        raise ssl.SSLError("no record of TLS")

    def happens(nc: Connection) -> None:
        nc._state.ping(lambda outcome: None)
        nc._driver.write()
        wait_for_bytes(nc)
        monkeypatch.setattr(Tls, "decrypt", decrypt)

    server = make_server(tls=certificates.server_tls())
    told = run(lambda: survive(server.url, happens, tls=certificates.context()))
    assert isinstance(told[0], ssl.SSLError)


def test_while_a_connection_is_being_made_it_is_left_to_its_own_task(
    server: NatsServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[bool] = []
    take = Socket.take

    def noted_take(socket: Socket) -> bytes:
        taken.append(True)
        return take(socket)

    monkeypatch.setattr(Socket, "take", noted_take)

    async def main() -> None:
        async with connect(server.url, reconnect_wait=0.01) as nc:
            nc._driver.read_on()
            assert taken.pop()
            await nc.reconnect()
            while not nc.is_connected:
                nc._driver.read_on()
                await anyio.lowlevel.checkpoint()
            assert not taken
            await nc.flush(LIMIT)

    run(main)
