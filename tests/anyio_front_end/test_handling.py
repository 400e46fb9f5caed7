"""Design: handlers share tasks, and none of them can tell."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from natsvc.anyio import (
    BlockingRequest,
    OutboundBufferError,
    Request,
    Service,
    ServiceClient,
    ServiceError,
    add_service,
    connect,
    handling,
    sockets,
)
from natsvc.anyio.sockets import Socket
from natsvc.testing import NatsServer
from natsvc.wire.outbox import EARLY
from tests.anyio_front_end.conftest import Run
from tests.anyio_front_end.tools import eventually
from tests.worlds import LIMIT

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def ask_all(nc: Any, subject: str, bodies: list[bytes]) -> list[bytes]:
    """Ask with all bodies at once; return the answers in the same order."""
    answers: dict[int, bytes] = {}

    async def ask(number: int, body: bytes) -> None:
        answers[number] = (await nc.request(subject, body, timeout=30)).data

    async with anyio.create_task_group() as asking:
        for number, body in enumerate(bodies):
            asking.start_soon(ask, number, body)
    return [answers[number] for number in range(len(bodies))]


@pytest.mark.parametrize("waits", [True, False])
def test_every_handler_has_a_copy_of_the_context_that_add_service_was_called_in(
    server: NatsServer, run: Run, waits: bool
) -> None:
    async def handler(request: Request) -> str:
        before = variable.get()
        variable.set(request.data.decode())
        if waits:
            await anyio.sleep(0)
            await anyio.sleep(0.001)
        return f"{before} {variable.get()}"

    async def main() -> None:
        async with connect(server.url) as nc:
            variable.set("of the service")
            async with add_service(nc, name="contexts") as service:
                await service.add_endpoint("contexts-e", handler=handler)
                variable.set("later")
                answers = await ask_all(nc, "contexts-e", [b"%d" % number for number in range(50)])
                assert answers == [b"of the service %d" % number for number in range(50)]
                assert variable.get() == "later"

    run(main)


def test_a_task_that_a_handler_starts_inherits_the_handlers_context(server: NatsServer, run: Run) -> None:
    async def handler(request: Request) -> str:
        async def child() -> None:
            seen.append(variable.get())

        seen: list[str] = []
        await anyio.sleep(0)
        variable.set("the handler's")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(child)
        seen.append(await anyio.to_thread.run_sync(variable.get))
        return " and ".join(seen)

    async def main() -> None:
        async with connect(server.url) as nc, add_service(nc, name="children") as service:
            await service.add_endpoint("children-e", handler=handler)
            assert (await nc.request("children-e", b"")).data == b"the handler's and the handler's"

    run(main)


async def times_out(request: Request) -> str:
    with anyio.move_on_after(0.01) as scope:
        await anyio.sleep_forever()
    return f"{scope.cancelled_caught}"


async def times_out_inside_asyncio(request: Request) -> str:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await asyncio.sleep(60)
    assert asyncio.current_task() is not None
    return "True"


async def cancels_a_group(request: Request) -> str:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.sleep_forever)
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    return "True"


async def catches_an_exception(request: Request) -> str:
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fail)
            await anyio.sleep_forever()
    except* KeyError:
        pass
    return "True"


async def fail() -> None:
    raise KeyError


@pytest.mark.parametrize("handler", [times_out, times_out_inside_asyncio, cancels_a_group, catches_an_exception])
def test_scopes_timeouts_and_groups_work_in_handlers_as_in_any_task(
    server: NatsServer, run: Run, backend: str, handler: Callable[[Request], Awaitable[str]]
) -> None:
    if backend == "trio" and handler is times_out_inside_asyncio:
        pytest.skip("asyncio's own timeouts are for asyncio")

    async def main() -> None:
        async with connect(server.url) as nc, add_service(nc, name="scopes") as service:
            await service.add_endpoint("scopes-e", handler=handler)
            for _ in range(3):  # in the same tasks again
                assert await ask_all(nc, "scopes-e", [b""] * 10) == [b"True"] * 10

    run(main)


def test_one_handler_that_is_over_time_is_cancelled_and_no_other(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        async def handler(request: Request) -> bytes:
            if request.data == b"slow":
                await anyio.sleep_forever()
            await anyio.sleep(0.02)
            return b"served"

        codes: list[str] = []

        async def ask_slow() -> None:
            with pytest.raises(ServiceError) as caught:
                await ServiceClient(nc).request("over-time-e", b"slow")
            codes.append(caught.value.code)

        async with connect(server.url) as nc, add_service(nc, name="over-time", timeout=0.5) as service:
            await service.add_endpoint("over-time-e", handler=handler)
            async with anyio.create_task_group() as asking:
                for _ in range(5):
                    asking.start_soon(ask_slow)
                for _ in range(3):
                    assert await ask_all(nc, "over-time-e", [b""] * 20) == [b"served"] * 20
            assert codes == ["504"] * 5
            assert await ask_all(nc, "over-time-e", [b""] * 20) == [b"served"] * 20

    run(main)


def test_a_cancellation_that_natsvc_did_not_cause_is_a_500_and_no_other_handler_feels_it(
    server: NatsServer, run: Run, backend: str
) -> None:
    async def handler(request: Request) -> bytes:
        if backend == "asyncio":
            if request.data == b"native":
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await asyncio.sleep(60)
            raise asyncio.CancelledError
        error = anyio.get_cancelled_exc_class()
        raise error._create()  # type: ignore[attr-defined]

    async def fine(request: Request) -> bytes:
        await anyio.sleep(0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep, 0)
        return b"fine"

    async def main() -> None:
        async with connect(server.url) as nc, add_service(nc, name="stray") as service:
            await service.add_endpoint("stray-e", handler=handler)
            await service.add_endpoint("stray-fine", handler=fine)
            for body in (b"raised", b"native") * 3:
                with pytest.raises(ServiceError) as caught:
                    await ServiceClient(nc).request("stray-e", body)
                assert caught.value.code == "500"
                assert await ask_all(nc, "stray-fine", [b""] * 5) == [b"fine"] * 5

    run(main)


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("kind", [GeneratorExit, StopAsyncIteration, RuntimeError, SystemError])
def test_whatever_a_handler_raises_the_next_one_runs(
    server: NatsServer, run: Run, waits: bool, kind: type[BaseException]
) -> None:
    async def handler(request: Request) -> bytes:
        if waits:
            await anyio.sleep(0)
        if request.data == b"bad":
            raise kind
        return b"good"

    async def main() -> None:
        async with connect(server.url) as nc, add_service(nc, name="raising") as service:
            await service.add_endpoint("raising-e", handler=handler)
            for _ in range(3):
                with pytest.raises(ServiceError) as caught:
                    await ServiceClient(nc).request("raising-e", b"bad")
                assert caught.value.code == "500"
                assert await ask_all(nc, "raising-e", [b""] * 5) == [b"good"] * 5

    run(main)


class Answer:
    """Something to await that is no coroutine."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __await__(self) -> Generator[Any, Any, bytes]:
        yield from anyio.sleep(0).__await__()
        return self._data


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python can't be told so before 3.12")
def test_a_handler_may_return_anything_to_await(server: NatsServer, run: Run) -> None:
    def handler(request: Request) -> Answer:
        return Answer(request.data)

    inspect.markcoroutinefunction(handler)  # type: ignore[attr-defined]  # as mypy is told that this is 3.11

    async def main() -> None:
        async with connect(server.url) as nc, add_service(nc, name="awaitable") as service:
            await service.add_endpoint("awaitable-e", handler=handler)
            assert await ask_all(nc, "awaitable-e", [b"1", b"2"]) == [b"1", b"2"]

    run(main)


def test_handlers_that_do_not_wait_run_in_one_task_and_those_that_do_in_one_each(server: NatsServer, run: Run) -> None:
    async def quick(request: Request) -> bytes:
        tasks.add(anyio.get_current_task().id)
        return b""

    async def slow(request: Request) -> bytes:
        tasks.add(anyio.get_current_task().id)
        await gate[0].wait()
        return b""

    tasks: set[int] = set()
    gate: list[anyio.Event] = []

    async def main() -> None:
        gate.append(anyio.Event())
        async with connect(server.url) as nc, add_service(nc, name="tasks") as service:
            await service.add_endpoint("tasks-quick", handler=quick)
            await service.add_endpoint("tasks-slow", handler=slow)
            await ask_all(nc, "tasks-quick", [b""] * 100)
            assert len(tasks) == 1
            tasks.clear()
            async with anyio.create_task_group() as asking:
                asking.start_soon(ask_all, nc, "tasks-slow", [b""] * 40)
                await eventually(lambda: len(tasks) == 40)
                gate[0].set()
            before = set(tasks)
            await ask_all(nc, "tasks-slow", [b""] * 40)
            assert tasks == before, "the same tasks again"

    run(main)


def test_of_many_replies_those_that_are_there_early_are_written_early_once(
    server: NatsServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("natsvc.anyio.handling._LONGEST_ROW", 3600 * 10**9)  # on a slow machine, they were several
    written: list[int] = []

    class Recorded(Socket):
        def write(self, data: bytes) -> None:
            written.append(data.count(b"PUB nobody.waits "))
            super().write(data)

    async def echo(request: Request) -> bytes:
        return request.data

    async def main() -> None:
        async with connect(server.url) as nc, add_service(nc, name="early") as service:
            await service.add_endpoint("early-e", handler=echo)
            socket = nc._driver._socket
            assert socket is not None
            socket.__class__ = Recorded
            sid = max(nc._driver.state._subscriptions)
            for expected in ([EARLY - 1], [EARLY, 2 * EARLY + 1]):
                written.clear()
                nc._driver.received(socket, f"MSG early-e {sid} nobody.waits 1\r\nx\r\n".encode() * sum(expected))
                with anyio.fail_after(LIMIT):
                    while sum(written) < sum(expected):
                        await anyio.lowlevel.checkpoint()
                assert [count for count in written if count] == expected

    run(main)


def test_a_handler_that_responds_without_an_end_lets_other_tasks_have_their_turn(server: NatsServer, run: Run) -> None:
    is_over = [False]

    async def endless(request: Request) -> None:
        while not is_over[0]:
            await request.respond(b"x" * 1024)

    async def main() -> None:
        async with connect(server.url) as nc, add_service(nc, name="endless") as service:
            await service.add_endpoint("endless-e", handler=endless)
            with anyio.fail_after(LIMIT):
                assert (await nc.request("endless-e", timeout=LIMIT)).data == b"x" * 1024
                is_over[0] = True

    run(main)


def test_a_handler_that_is_cut_off_before_it_waits_is_cancelled_when_it_does(server: NatsServer, run: Run) -> None:
    came_to: list[str] = []

    async def cut_off(request: Request) -> None:
        services[0]._runner.abort()  # as closing the connection does, with nothing waited for
        try:
            with anyio.move_on_after(LIMIT):
                await anyio.sleep_forever()
            came_to.append("waited")
        except BaseException:
            came_to.append("cancelled")
            raise

    services: list[Service] = []

    async def main() -> None:
        async with connect(server.url) as nc, add_service(nc, name="cut-early") as service:
            services.append(service)
            await service.add_endpoint("cut-early-e", handler=cut_off)
            await nc.publish("cut-early-e")
            await eventually(lambda: came_to)

    run(main)
    assert came_to == ["cancelled"]


def test_a_blocking_handler_that_finds_no_thread_is_a_500_and_keeps_no_slot(
    server: NatsServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def echo(request: BlockingRequest) -> bytes:
        return request.data

    async def main() -> None:
        async with connect(server.url) as nc, add_service(nc, name="threadless") as service:
            await service.add_endpoint("threadless-e", handler=echo, max_workers=1)
            with monkeypatch.context() as patched:

                def refuse(thread: threading.Thread) -> None:
                    raise RuntimeError("can't start new thread")

                patched.setattr(threading.Thread, "start", refuse)
                with pytest.raises(ServiceError) as caught:
                    await ServiceClient(nc).request("threadless-e", timeout=LIMIT)
            assert caught.value.code == "500"
            assert (await nc.request("threadless-e", b"again", timeout=LIMIT)).data == b"again"

    run(main)


def test_handlers_that_never_wait_do_not_keep_others_from_their_turn(server: NatsServer, run: Run) -> None:
    async def handler(request: Request) -> None:
        # Each asks for the next one before it ends, for ever.
        if not over[0]:
            await nc_of[0].publish("endless-e")

    over = [False]
    nc_of: list[Any] = []

    async def main() -> None:
        async with connect(server.url) as nc, add_service(nc, name="endless") as service:
            nc_of.append(nc)
            await service.add_endpoint("endless-e", handler=handler)
            for _ in range(200):
                await nc.publish("endless-e")
            await eventually(lambda: service.stats().endpoints[0].num_requests > 2000)
            for _ in range(10):
                await anyio.lowlevel.checkpoint()
            over[0] = True

    run(main)


def test_max_concurrency_of_one_keeps_strict_order(server: NatsServer, run: Run) -> None:
    order: list[int] = []

    async def handler(request: Request) -> None:
        order.append(int(request.data))
        await anyio.sleep(0)
        order.append(int(request.data))

    async def main() -> None:
        async with connect(server.url) as nc, add_service(nc, name="ordered") as service:
            await service.add_endpoint("ordered-e", handler=handler, max_concurrency=1)
            for number in range(100):
                await nc.publish("ordered-e", b"%d" % number)
            await eventually(lambda: len(order) == 200)
            assert order == [number for number in range(100) for _ in range(2)]

    run(main)


def test_back_pressure_reaches_handlers_that_send_more_than_the_socket_takes(server: NatsServer, run: Run) -> None:
    sizes: list[int] = []

    async def handler(request: Request) -> None:
        for _ in range(30):
            await request.respond(b"x" * 900_000)
            sizes.append(driver_of[0].state.outgoing_size)

    driver_of: list[Any] = []

    async def main() -> None:
        async with connect(server.url) as nc, connect(server.url) as other, add_service(nc, name="bulky") as service:
            driver_of.append(nc._driver)
            await service.add_endpoint("bulky-e", handler=handler)
            async with other.subscribe(other.new_inbox()) as answers:
                await other.publish("bulky-e", reply=answers.subject)
                for _ in range(30):
                    assert len((await answers.receive(30)).data) == 900_000
        assert max(sizes) < 2_000_000

    run(main)


@pytest.mark.parametrize("is_full_before", [True, False])
def test_while_the_socket_takes_nothing_who_responds_waits_however_little_it_is(
    server: NatsServer, run: Run, monkeypatch: pytest.MonkeyPatch, is_full_before: bool
) -> None:
    done: list[bytes] = []

    async def handler(request: Request) -> None:
        await request.respond(b"little")
        done.append(request.data)

    async def main() -> None:
        async with connect(server.url) as nc, add_service(nc, name="pressed") as service:
            await service.add_endpoint("pressed-e", handler=handler, max_concurrency=1000)
            await nc.flush()
            driver, socket = nc._driver, nc._driver._socket
            assert socket is not None
            request = b"MSG pressed-e %d r 1\r\nx\r\n" % max(nc._state._subscriptions)
            room = anyio.Event()
            write = Socket.write

            async def wait_writable(raw: object) -> None:
                await room.wait()

            def be_full(socket: Socket) -> None:
                socket._unsent = memoryview(b"PING\r\n")  # which the server takes at any time
                driver.is_writable(socket, False)
                socket.send_soon()

            def write_and_be_full(socket: Socket, data: bytes) -> None:
                write(socket, data)
                be_full(socket)

            monkeypatch.setattr(handling, "_LONGEST_ROW", 10**12)  # however busy the machine is
            monkeypatch.setattr(sockets, "_wait_writable", wait_writable)
            if is_full_before:
                be_full(socket)
                expected = 0
            else:
                monkeypatch.setattr(Socket, "write", write_and_be_full)
                expected = EARLY  # so many replies are written at once
            driver.received(socket, request * (EARLY + 2))
            await eventually(lambda: len(service._runner._handling._waiting) == EARLY + 2 - expected)
            assert len(done) == expected
            monkeypatch.undo()
            room.set()
            await eventually(lambda: len(done) == EARLY + 2)

    run(main)


def test_more_than_the_socket_takes_arrives_when_it_is_returned(server: NatsServer, run: Run) -> None:
    async def handler(request: Request) -> bytes:
        return request.data * 900_000

    async def main() -> None:
        async with connect(server.url) as nc, connect(server.url) as other, add_service(nc, name="large") as service:
            await service.add_endpoint("large-e", handler=handler)
            bodies = [bytes([number]) for number in range(60)]
            assert await ask_all(other, "large-e", bodies) == [body * 900_000 for body in bodies]
            await eventually(lambda: service.stats().endpoints[0].num_requests == 60)
            assert service.stats().endpoints[0].num_errors == 0

    run(main)


def test_a_request_that_was_told_504_before_its_handler_began_never_runs(server: NatsServer, run: Run) -> None:
    ran: list[bytes] = []

    async def handler(request: Request) -> None:
        ran.append(request.data)
        time.sleep(0.1)  # it holds up the event loop, which is its failure

    async def main() -> None:
        async with connect(server.url) as nc, add_service(nc, name="held-up") as service:
            await service.add_endpoint("held-up-e", handler=handler, timeout=0.05)
            for number in range(3):
                await nc.publish("held-up-e", b"%d" % number)
            await eventually(lambda: service.stats().endpoints[0].num_requests == 3)
            assert service.stats().endpoints[0].num_errors >= 2

    run(main)
    assert ran == [b"0"]


def test_a_reply_that_can_not_be_kept_while_disconnected_is_an_error(
    make_server: Callable[[], NatsServer], run: Run
) -> None:
    async def main(server: NatsServer) -> None:
        async def handler(request: Request) -> bytes:
            begun.set()
            await eventually(lambda: not nc.is_connected)
            return b"nowhere to be kept"

        begun = anyio.Event()
        told: list[Any] = []
        async with (
            connect(server.url, reconnect_buffer=0) as nc,
            add_service(nc, name="unkept", error_handler=lambda *error: told.append(error[1])) as service,
        ):
            await service.add_endpoint("unkept-e", handler=handler)
            await nc.publish("unkept-e", reply="somebody")
            await begun.wait()
            server.kill()
            await eventually(lambda: service.stats().endpoints[0].num_errors == 1)
            await eventually(lambda: any(isinstance(error, OutboundBufferError) for error in told))

    server = make_server()
    run(lambda: main(server))


def test_a_blocking_handler_responds_more_than_the_socket_takes(server: NatsServer, run: Run) -> None:
    def handler(request: Any) -> None:
        for _ in range(20):
            request.respond(b"x" * 900_000)

    async def main() -> None:
        async with connect(server.url) as nc, connect(server.url) as other, add_service(nc, name="bulky-b") as service:
            await service.add_endpoint("bulky-b-e", handler=handler)
            async with other.subscribe(other.new_inbox()) as answers:
                await other.publish("bulky-b-e", reply=answers.subject)
                for _ in range(20):
                    assert len((await answers.receive(30)).data) == 900_000

    run(main)


def test_a_blocking_request_refuses_to_respond_on_the_event_loop(server: NatsServer, run: Run) -> None:
    leaked: list[Any] = []
    returned, may_return = threading.Event(), threading.Event()

    def handler(request: Any) -> None:
        leaked.append(request)
        may_return.wait(30)
        returned.set()

    async def main() -> None:
        async with connect(server.url) as nc, add_service(nc, name="leaking") as service:
            await service.add_endpoint("leaking-e", handler=handler)
            await nc.publish("leaking-e", reply="nowhere")
            await eventually(lambda: leaked)
            with pytest.raises(RuntimeError, match="wait for itself"):
                leaked[0].respond(b"")
            may_return.set()
            await eventually(returned.is_set)

    run(main)


def test_a_service_in_a_handler_is_a_block_like_any_other(server: NatsServer, run: Run) -> None:
    async def handler(request: Request) -> bytes:
        async with add_service(nc_of[0], name="inner") as inner:
            return inner.id.encode()

    nc_of: list[Any] = []
    services: list[Service] = []

    async def main() -> None:
        async with connect(server.url) as nc, add_service(nc, name="outer") as service:
            nc_of.append(nc)
            services.append(service)
            await service.add_endpoint("outer-e", handler=handler)
            assert all(len(one) == 22 for one in await ask_all(nc, "outer-e", [b""] * 5))

    run(main)


def test_what_stats_find_wrong_with_endpoint_data_is_logged_and_told_at_once(
    server: NatsServer, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[BaseException] = []

    def fail(stats: object) -> None:
        raise KeyError("no data")

    async def echo(request: Request) -> bytes:
        return request.data

    async def main() -> None:
        async with (
            connect(server.url) as nc,
            add_service(
                nc, name="no-data", endpoint_data=fail, error_handler=lambda service, error, request: told.append(error)
            ) as service,
        ):
            await service.add_endpoint("no-data-e", handler=echo)
            service.stats()
            assert [type(error) for error in told] == [KeyError]
            assert [one for one in caplog.messages if "no-data" in one] == [
                "service 'no-data': no data for endpoint 'no-data-e'"
            ]

    run(main)
