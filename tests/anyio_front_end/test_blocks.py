"""Design: tasks live in the block, whatever leaves it leaves it as itself, and nothing is left behind."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import natsvc.asyncio
from natsvc.anyio import (
    ConnectionClosedError,
    NoRespondersError,
    NoServersError,
    Request,
    Service,
    ServiceClient,
    ServiceError,
    ServiceStoppedError,
    add_service,
    connect,
)
from natsvc.testing import NatsServer
from tests.anyio_front_end.conftest import Run
from tests.anyio_front_end.tools import connections, eventually, subscriptions


async def echo(request: Request) -> bytes:
    return request.data


def test_awaiting_what_needs_a_block_is_a_type_error_that_says_what_to_write(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match=r"async with connect\(\.\.\.\) as nc:"):
            await connect(server.url)
        async with connect(server.url) as nc:
            with pytest.raises(TypeError, match=r"async with add_service\(\.\.\.\) as service:"):
                await add_service(nc, name="awaited")

    run(main)


def test_a_block_can_be_entered_once(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        async with connect(server.url) as nc:
            with pytest.raises(RuntimeError, match="once"):
                await nc.__aenter__()
            async with add_service(nc, name="once") as service:
                with pytest.raises(RuntimeError, match="once"):
                    await service.__aenter__()
                await service.flush()
            await nc.flush()
        with pytest.raises(RuntimeError, match="once"):
            async with nc:
                pass

    run(main)


def test_a_service_can_not_be_started_without_its_block(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        async with connect(server.url) as nc:
            service = add_service(nc, name="blockless")
            with pytest.raises(RuntimeError, match="async with"):
                await service.start()
            await service.add_endpoint("blockless-e", handler=echo)
            async with service:
                assert (await nc.request("blockless-e", b"x")).data == b"x"

    run(main)


@pytest.mark.parametrize(("use", "fields"), [(add_service, {"name": "foreign"}), (ServiceClient, {})])
def test_a_connection_of_another_kind_is_a_type_error_that_names_the_right_one(
    server: NatsServer, backend: str, run: Run, use: Any, fields: dict[str, str]
) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match=r"natsvc\.anyio.*int"):
            use(5, **fields)
        if backend == "asyncio":
            nc = await natsvc.asyncio.connect(server.url)
            with pytest.raises(TypeError, match=r"natsvc\.asyncio"):
                use(nc, **fields)
            await nc.close()

    run(main)


def test_that_no_server_is_there_is_raised_as_itself(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(NoServersError):
            async with connect("nats://127.0.0.1:1"):
                raise AssertionError("it was entered")

    run(main)


@pytest.mark.parametrize("error", [KeyError("mine"), ExceptionGroup("mine", [KeyError()]), KeyboardInterrupt()])
def test_an_exception_of_the_body_leaves_all_blocks_as_itself(
    server: NatsServer, run: Run, error: BaseException
) -> None:
    async def main() -> None:
        with pytest.raises(type(error)) as caught:
            async with (
                connect(server.url, name="excepted") as nc,
                add_service(nc, name="excepted") as service,
            ):
                raise error
        assert caught.value is error
        assert service.stopped.is_set()
        assert nc.is_closed
        await eventually(lambda: not connections(server, "excepted"))

    run(main)


def test_an_exception_that_is_raised_while_the_scope_around_is_cancelled_leaves_as_itself(
    server: NatsServer, run: Run
) -> None:
    async def main() -> None:
        with anyio.CancelScope() as scope, pytest.raises(KeyError, match="mine"):
            async with connect(server.url) as nc, add_service(nc, name="excepted-late"):
                scope.cancel()
                try:
                    await anyio.sleep_forever()
                finally:
                    raise KeyError("mine")
        assert nc.is_closed

    run(main)


def test_a_failure_of_a_handler_is_an_error_reply_and_cancels_no_sibling(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        release = anyio.Event()
        answers: list[bytes] = []

        async def waiting(request: Request) -> bytes:
            await release.wait()
            return b"served"

        async def failing(request: Request) -> None:
            await anyio.sleep(0)
            raise RuntimeError

        async def ask(subject: str) -> None:
            answers.append((await nc.request(subject, b"")).data)

        async with connect(server.url) as nc, add_service(nc, name="siblings") as service:
            await service.add_endpoint("siblings-waiting", handler=waiting)
            await service.add_endpoint("siblings-failing", handler=failing)
            async with anyio.create_task_group() as asking:
                asking.start_soon(ask, "siblings-waiting")
                await eventually(lambda: service._runner.state.endpoints[0].active)
                for _ in range(3):
                    with pytest.raises(ServiceError) as caught:
                        await ServiceClient(nc).request("siblings-failing", b"")
                    assert caught.value.code == "500"
                release.set()
        assert answers == [b"served"]

    run(main)


def test_cancelling_the_scope_around_a_service_cancels_its_handlers_and_leaves_nothing(
    server: NatsServer, run: Run
) -> None:
    async def main() -> None:
        begun: list[str] = []
        ended: list[str] = []
        services: list[Service] = []
        codes: list[str] = []

        async def stuck(request: Request) -> None:
            begun.append(request.subject)
            try:
                await anyio.sleep_forever()
            finally:
                ended.append(request.subject)

        async def serve(scope: anyio.CancelScope) -> None:
            with scope:
                async with add_service(nc, name="cut") as service:
                    services.append(service)
                    await service.add_endpoint("cut-e", handler=stuck)
                    await service.serve_forever(signals=())

        async def ask() -> None:
            with pytest.raises(ServiceError) as caught:
                await ServiceClient(caller).request("cut-e", b"")
            codes.append(caught.value.code)

        async with (
            connect(server.url, name="subscribed") as nc,
            connect(server.url) as caller,
            anyio.create_task_group() as tasks,
        ):
            before = subscriptions(server, "subscribed")
            scope = anyio.CancelScope()
            tasks.start_soon(serve, scope)
            await eventually(lambda: "cut-e" in subscriptions(server, "subscribed"))
            for _ in range(3):
                tasks.start_soon(ask)
            await eventually(lambda: len(begun) == 3)
            scope.cancel()
            await eventually(lambda: len(codes) == 3)
            assert codes == ["503"] * 3
            assert ended == ["cut-e"] * 3
            assert services[0].stopped.is_set()
            await nc.flush()
            left = set(subscriptions(server, "subscribed")) - set(before)
            assert not [subject for subject in left if not subject.startswith("_INBOX")]

    run(main)


def test_cancelling_everything_leaves_no_task_no_socket_and_no_subscription(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        begun = anyio.Event()

        async def stuck(request: Request) -> None:
            begun.set()
            await anyio.sleep_forever()

        async def serve() -> None:
            async with (
                connect(server.url, name="everything") as nc,
                add_service(nc, name="everything") as service,
            ):
                await service.add_endpoint("everything-e", handler=stuck)
                await nc.publish("everything-e", reply="nowhere")
                await service.serve_forever(signals=())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            await begun.wait()
            tasks.cancel_scope.cancel()
        await eventually(lambda: not connections(server, "everything"))

    run(main)


def test_a_cancellation_of_asyncios_own_leaves_the_blocks_as_any_other(server: NatsServer) -> None:
    async def main() -> None:
        cancelled: list[str] = []

        async def stuck(request: Request) -> None:
            limit.reschedule(0)
            try:
                await asyncio.sleep(600)
            finally:
                cancelled.append(request.subject)

        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with (
                    asyncio.timeout(60) as limit,
                    connect(server.url, name="native") as nc,
                    add_service(nc, name="native") as service,
                ):
                    await service.add_endpoint("native-e", handler=stuck)
                    await nc.publish("native-e")
                    await asyncio.sleep(600)
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
        assert cancelled == ["native-e"] * 3
        await eventually(lambda: not connections(server, "native"))

    asyncio.run(main())


def test_a_native_cancellation_while_the_block_is_left_ends_the_leaving(server: NatsServer) -> None:
    async def main() -> None:
        async def stuck(request: Request) -> None:
            await asyncio.sleep(600)

        async def serve() -> None:
            async with connect(server.url) as nc, add_service(nc, name="native-leaving") as service:
                services.append(service)
                await service.add_endpoint("native-leaving-e", handler=stuck)
                await nc.publish("native-leaving-e")
                await eventually(lambda: service._runner.state.endpoints[0].active)

        services: list[Service] = []
        task = asyncio.create_task(serve())
        await eventually(lambda: services and services[0]._runner.state.is_draining)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert services[0].stopped.is_set()

    asyncio.run(main())


def test_left_normally_handlers_under_way_finish_first(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        answers: list[bytes] = []

        async def slow(request: Request) -> bytes:
            await anyio.sleep(0.05)
            return b"served"

        async def ask() -> None:
            answers.append((await caller.request("slow-e", b"")).data)

        async with connect(server.url) as caller, anyio.create_task_group() as tasks:
            async with connect(server.url) as nc, add_service(nc, name="slow") as service:
                await service.add_endpoint("slow-e", handler=slow)
                tasks.start_soon(ask)
                await eventually(lambda: service._runner.state.endpoints[0].active)
            assert service.stopped.is_set()
        assert answers == [b"served"]

    run(main)


def test_what_has_ended_the_service_is_raised_when_the_block_is_left(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        async with connect(server.url) as nc:
            with pytest.raises(ConnectionClosedError) as caught:
                async with add_service(nc, name="ended") as service:
                    await nc.close()
                    await service.stopped.wait()
            assert caught.value is service.error

    run(main)


def test_a_keyboard_interrupt_in_a_handler_ends_all_and_leaves_as_itself(server: NatsServer, run: Run) -> None:
    left: list[bool] = []

    async def interrupted(request: Request) -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        try:
            async with connect(server.url) as nc, add_service(nc, name="interrupted") as service:
                await service.add_endpoint("interrupted-e", handler=interrupted)
                await nc.publish("interrupted-e")
                await anyio.sleep_forever()
        finally:
            left.append(nc.is_closed)

    with pytest.raises(KeyboardInterrupt):
        run(main)
    assert left == [True]


def test_a_stuck_thread_holds_up_neither_cancellation_nor_the_end(server: NatsServer, run: Run) -> None:
    release = threading.Event()
    begun = threading.Event()

    def stuck(request: Any) -> None:
        begun.set()
        release.wait(30)

    async def main() -> None:
        with anyio.CancelScope() as scope:
            async with connect(server.url) as nc, add_service(nc, name="threads") as service:
                await service.add_endpoint("threads-e", handler=stuck)
                await nc.publish("threads-e", reply="nowhere")
                await eventually(begun.is_set)
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught

    run(main)
    assert not release.is_set()
    release.set()


def test_a_thread_that_responds_after_the_end_is_told_so(server: NatsServer, run: Run) -> None:
    release, over = threading.Event(), threading.Event()
    raised: list[BaseException] = []

    def late(request: Any) -> None:
        release.wait(30)
        try:
            request.respond(b"too late")
        except ServiceStoppedError as error:
            raised.append(error)
        over.set()

    async def main() -> None:
        async with connect(server.url) as nc, add_service(nc, name="late-thread") as service:
            await service.add_endpoint("late-thread-e", handler=late)
            await nc.publish("late-thread-e", reply="nowhere")
            await eventually(lambda: service._runner.state.endpoints[0].active)
            await service.stop(timeout=0)

    run(main)
    release.set()
    assert over.wait(30)
    assert len(raised) == 1


def test_callbacks_of_the_connection_are_waited_for_when_it_is_left(server: NatsServer, run: Run) -> None:
    told: list[object] = []

    async def on_close(error: BaseException | None) -> None:
        await anyio.sleep(0.01)
        told.append(error)

    async def main() -> None:
        async with connect(server.url, on_close=on_close):
            pass
        assert told == [None]

    run(main)


def test_an_async_done_handler_is_waited_for_and_may_call_stop(server: NatsServer, run: Run) -> None:
    done: list[bool] = []

    async def done_handler(service: Service, error: BaseException | None) -> None:
        await service.stop()
        await anyio.sleep(0.01)
        done.append(service.stopped.is_set())

    async def main() -> None:
        async with connect(server.url) as nc, add_service(nc, name="done", done_handler=done_handler):
            pass
        assert done == [True]

    run(main)


def test_a_handler_may_drain_the_connection_of_its_own_service_and_still_answer(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        drained: list[bool] = []

        async def handler(request: Request) -> None:
            await request.respond(b"bye")
            await nc.drain()
            drained.append(nc.is_closed)

        async with (
            connect(server.url) as caller,
            connect(server.url) as nc,
            add_service(nc, name="draining-itself") as service,
        ):
            await service.add_endpoint("draining-itself-e", handler=handler)
            assert (await caller.request("draining-itself-e", b"")).data == b"bye"
            await service.stopped.wait()
        assert drained == [True]

    run(main)


def test_a_handler_may_stop_its_service_and_still_answer(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        async def handler(request: Request) -> bytes:
            await services[0].stop()
            return b"stopped"

        services: list[Service] = []
        answers: list[bytes] = []

        async def ask() -> None:
            answers.append((await caller.request("stopping-itself-e", b"")).data)

        async with (
            connect(server.url) as caller,
            connect(server.url) as nc,
            anyio.create_task_group() as tasks,
            add_service(nc, name="stopping-itself") as service,
        ):
            services.append(service)
            await service.add_endpoint("stopping-itself-e", handler=handler)
            tasks.start_soon(ask)
            await service.serve_forever(signals=())
        assert answers == [b"stopped"]

    run(main)


def test_a_service_whose_scope_is_cancelled_stops_also_while_the_body_is_shielded(server: NatsServer, run: Run) -> None:
    async def main() -> None:
        async with connect(server.url) as caller, connect(server.url) as nc:

            async def echo(request: Request) -> bytes:
                await anyio.lowlevel.checkpoint()
                return request.data

            with anyio.CancelScope() as scope:
                async with add_service(nc, name="shielded") as service:
                    await service.add_endpoint("shielded-e", handler=echo)
                    assert (await caller.request("shielded-e", b"x")).data == b"x"
                    scope.cancel()
                    with anyio.CancelScope(shield=True):
                        await service.stopped.wait()
                        await nc.flush()  # a service that is cancelled leaves its subscriptions without waiting
                        with pytest.raises(NoRespondersError):
                            await caller.request("shielded-e", b"x", timeout=30)
            assert scope.cancelled_caught

    run(main)
