"""Design: starting a service by await or by a block, and each way of leaving the block."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import nats.errors
import pytest
from nats.aio.client import Client

from natsvc.asyncio import (
    ConfigError,
    ConnectionClosedError,
    NatsvcError,
    Request,
    Service,
    ServiceDefinition,
    ServiceStoppedError,
    add_service,
)
from natsvc.asyncio.natspy import NatsPyLink
from natsvc.core import current_request
from natsvc.testing import NatsServer
from tests.worlds import confirmed, connect_nats_py, interest


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


async def has_responders(caller: Client, subject: str) -> bool:
    try:
        await caller.request(subject, b"", timeout=30)
    except nats.errors.NoRespondersError:
        return False
    return True


async def test_add_service_may_be_awaited(nc: Client, caller: Client) -> None:
    service = await add_service(nc, name="awaited")
    assert await has_responders(caller, "$SRV.PING.awaited")
    await service.stop()
    assert service.stopped.is_set()


async def test_leaving_the_block_normally_stops_the_service(nc: Client, caller: Client) -> None:
    answered = []

    async def slow(request: Request) -> bytes:
        await asyncio.sleep(0.05)
        return b"served"

    async def ask() -> None:
        answered.append((await caller.request("left-e", b"", timeout=30)).data)

    async with add_service(nc, name="left") as service:
        await service.add_endpoint("left-e", handler=slow)
        asking = asyncio.create_task(ask())
        await confirmed(caller)
        await eventually(lambda: service._runner.state.endpoints[0].active)
    assert service.stopped.is_set()
    await asking
    assert answered == [b"served"]
    assert not await has_responders(caller, "left-e")
    assert nc.is_connected


async def test_an_exception_of_the_body_leaves_the_block_as_itself_after_a_stop(nc: Client, caller: Client) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with add_service(nc, name="excepted") as service:
            raise KeyError("mine")
    assert service.stopped.is_set()
    assert not await has_responders(caller, "$SRV.PING.excepted")


async def test_by_an_exception_a_stuck_handler_delays_the_leaving_by_5_seconds_at_most(
    nc: Client, caller: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("natsvc.core.service._FAILED_STOP_TIMEOUT", 0.05)

    async def stuck(request: Request) -> None:
        await asyncio.Event().wait()

    with pytest.raises(KeyError):
        async with add_service(nc, name="stuck-leaving") as service:
            await service.add_endpoint("stuck-leaving-e", handler=stuck)
            asking = asyncio.create_task(caller.request("stuck-leaving-e", b"", timeout=30))
            await eventually(lambda: service._runner.state.endpoints[0].active)
            raise KeyError
    reply = await asking
    assert reply.headers is not None
    assert reply.headers["Nats-Service-Error-Code"] == "503"


async def test_by_cancellation_handlers_are_cancelled_and_nothing_is_waited_for(
    server: NatsServer, caller: Client
) -> None:
    nc = await connect_nats_py(server.url)
    cancelled = []
    inside = asyncio.Event()

    async def stuck(request: Request) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(request.subject)

    services: list[Service] = []

    async def main() -> None:
        async with add_service(nc, name="cancelled-block") as service:
            services.append(service)
            await service.add_endpoint("cancelled-block-e", handler=stuck)
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(main())
    await inside.wait()
    asking = asyncio.create_task(caller.request("cancelled-block-e", b"", timeout=30))
    await eventually(lambda: services[0]._runner.state.endpoints[0].active)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert services[0].stopped.is_set()
    await eventually(lambda: cancelled == ["cancelled-block-e"])
    reply = await asking
    assert reply.headers is not None
    assert reply.headers["Nats-Service-Error-Code"] == "503"
    await eventually(lambda: not any("cancelled-block" in subject for subject in interest(server)))
    await nc.close()


async def test_cancelled_while_it_drains_the_block_is_left_at_once(nc: Client, caller: Client) -> None:
    leaving = asyncio.Event()
    services: list[Service] = []

    async def stuck(request: Request) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        async with add_service(nc, name="twice") as service:
            services.append(service)
            await service.add_endpoint("twice-e", handler=stuck)
            asking.append(asyncio.create_task(caller.request("twice-e", b"", timeout=30)))
            await eventually(lambda: service._runner.state.endpoints[0].active)
            leaving.set()

    asking: list[Any] = []
    task = asyncio.create_task(main())
    await leaving.wait()
    await eventually(lambda: services[0]._runner.state.is_draining)
    assert not services[0].stopped.is_set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert services[0].stopped.is_set()
    assert (await asking[0]).headers["Nats-Service-Error-Code"] == "503"


@pytest.mark.parametrize("turns", range(6))
async def test_cancelled_at_any_point_of_the_start_nothing_is_left(server: NatsServer, turns: int) -> None:
    nc = await connect_nats_py(server.url)
    prefix = f"cancel{turns}"

    async def main() -> None:
        async with add_service(nc, name="starting", prefix=prefix):
            await asyncio.Event().wait()

    task = asyncio.create_task(main())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: not any(subject.startswith(prefix) for subject in interest(server)))
    await nc.close()


async def test_what_has_ended_the_service_is_raised_when_the_block_is_left(server: NatsServer) -> None:
    nc = await connect_nats_py(server.url)
    with pytest.raises(ConnectionClosedError):
        async with add_service(nc, name="ended") as service:
            await nc.close()
            await service.stopped.wait()


async def test_serve_forever_raises_what_has_ended_the_service(server: NatsServer) -> None:
    nc = await connect_nats_py(server.url)
    with pytest.raises(ConnectionClosedError) as caught:
        async with add_service(nc, name="served") as service:
            asyncio.get_running_loop().call_later(0.01, lambda: closing.append(asyncio.create_task(nc.close())))
            closing: list[Any] = []
            await service.serve_forever()
    assert caught.value is service.error
    await closing[0]


async def test_serve_forever_returns_when_the_service_is_stopped(nc: Client) -> None:
    async with add_service(nc, name="returning") as service:
        serving = asyncio.create_task(service.serve_forever())
        await service.stop()
        await serving


async def test_stop_in_the_block_and_leaving_it_are_one_stop(nc: Client) -> None:
    done: list[object] = []
    async with add_service(nc, name="once", done_handler=lambda service, error: done.append(error)) as service:
        await service.stop()
    assert done == [None]


async def test_a_cancelled_stop_goes_on_and_can_be_joined(nc: Client, caller: Client) -> None:
    release = asyncio.Event()

    async def handler(request: Request) -> bytes:
        await release.wait()
        return b"served"

    service = await add_service(nc, name="gone-on")
    await service.add_endpoint("gone-on-e", handler=handler)
    asking = asyncio.create_task(caller.request("gone-on-e", b"", timeout=30))
    await eventually(lambda: service._runner.state.endpoints[0].active)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await service.stop()
    release.set()
    await service.stop()
    assert (await asking).data == b"served"


async def test_a_done_handler_may_call_stop(nc: Client) -> None:
    done: list[bool] = []

    async def done_handler(service: Service, error: BaseException | None) -> None:
        await service.stop()
        done.append(service.stopped.is_set())

    service = await add_service(nc, name="self-joined", done_handler=done_handler)
    await service.stop()
    assert done == [True]


async def test_an_async_done_handler_is_waited_for(nc: Client) -> None:
    done: list[str] = []

    async def done_handler(service: Service, error: BaseException | None) -> None:
        await asyncio.sleep(0.02)
        done.append("done")

    async with add_service(nc, name="waited", done_handler=done_handler):
        pass
    assert done == ["done"]


async def test_a_handler_may_start_and_stop_another_service(nc: Client, caller: Client) -> None:
    async def handler(request: Request) -> bytes:
        async with add_service(nc, name="inner") as inner:
            return inner.id.encode()

    async with add_service(nc, name="outer") as outer:
        await outer.add_endpoint("outer-e", handler=handler)
        assert len((await caller.request("outer-e", b"", timeout=30)).data) == 22


async def test_an_exception_in_an_endpoint_added_too_late_is_typed(nc: Client) -> None:
    service = await add_service(nc, name="too-late")
    await service.stop()

    async def handler(request: Request) -> None: ...

    with pytest.raises(ServiceStoppedError):
        await service.add_endpoint("late", handler=handler)
    with pytest.raises(ServiceStoppedError):
        service.endpoint("late")(handler)


async def test_a_done_handler_that_hangs_delays_the_leaving_no_longer_than_the_stop_may_take(
    nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("natsvc.core.service._FAILED_STOP_TIMEOUT", 0.05)

    async def hangs(service: Service, error: BaseException | None) -> None:
        await asyncio.Event().wait()

    async with asyncio.timeout(20):  # STOP_TIMEOUT is 30
        with pytest.raises(KeyError):
            async with add_service(nc, name="hanging-done", done_handler=hangs):
                raise KeyError
        service = await add_service(nc, name="hanging-done", done_handler=hangs)
        await service.stop(timeout=0.05)


async def test_a_handler_may_drain_the_connection_of_its_own_service(server: NatsServer, caller: Client) -> None:
    nc = await connect_nats_py(server.url)
    drained: list[bool] = []

    async def handler(request: Request) -> None:
        await request.respond(b"bye")
        await nc.drain()
        drained.append(True)

    service = await add_service(nc, name="draining-itself")
    await service.add_endpoint("draining-itself-e", handler=handler)
    async with asyncio.timeout(20):  # a stop that waited for the handler would take 30 s
        assert (await caller.request("draining-itself-e", b"", timeout=30)).data == b"bye"
        await service.stopped.wait()
        await eventually(lambda: drained)


@pytest.mark.parametrize("arguments", [{"timeout": "3"}, {"timeout": True}, {"error": 5}])
async def test_a_stop_with_a_wrong_argument_is_a_typed_error(nc: Client, arguments: Any) -> None:
    async with add_service(nc, name="wrongly-stopped") as service:
        with pytest.raises(ConfigError):
            await service.stop(**arguments)
        assert not service.stopped.is_set()
        await service.stop(timeout=10**400)


async def test_none_as_the_timeout_of_a_stop_means_not_given(nc: Client) -> None:
    service = await add_service(nc, name="not-given")
    await service.stop(None, timeout=None)
    assert service.stopped.is_set()


async def test_the_done_handler_has_its_time_however_long_the_service_ran(
    nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()
    may_end = asyncio.Event()
    done: list[str] = []

    async def done_handler(service: Service, error: BaseException | None) -> None:
        begun.set()
        await may_end.wait()
        done.append("done")

    async def serve() -> None:
        async with add_service(nc, name="ran-long", done_handler=done_handler) as service:
            services.append(service)
            await service.serve_forever()
        done.append("left")

    services: list[Service] = []
    serving = asyncio.create_task(serve())
    await eventually(lambda: services)
    clock = time.perf_counter_ns
    monkeypatch.setattr("natsvc.asyncio.runner._clock", lambda: clock() + 3600 * 10**9)  # an hour later
    stopping = asyncio.create_task(services[0].stop())
    await begun.wait()
    may_end.set()
    await asyncio.gather(serving, stopping)
    assert done == ["done", "left"]


async def test_a_service_made_in_a_handler_does_not_take_that_handlers_request_for_its_own(
    nc: Client, caller: Client
) -> None:
    seen: list[object] = []

    async def handler(request: Request) -> bytes:
        async with add_service(nc, name="made-inside", done_handler=lambda *_: seen.append(current_request.get())):
            return b""

    async with add_service(nc, name="made-outside") as service:
        await service.add_endpoint("made-outside-e", handler=handler)
        await caller.request("made-outside-e", b"", timeout=30)
    assert seen == [None]


async def test_a_subscription_that_fails_during_the_start_leaves_none_behind(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    nc = await connect_nats_py(server.url)
    definition = ServiceDefinition("half-started")

    async def handler(request: Request) -> None: ...

    for number in range(4):
        definition.add_endpoint(f"half-started-{number}", handler=handler)
    subscribe = NatsPyLink.subscribe

    def refuse(self: NatsPyLink, subject: str, queue_group: str, deliver: Any) -> Any:
        if subject == "half-started-1":
            raise NatsvcError("refused")
        return subscribe(self, subject, queue_group, deliver)

    monkeypatch.setattr(NatsPyLink, "subscribe", refuse)
    with pytest.raises(NatsvcError, match="refused"):
        await add_service(nc, definition)
    await eventually(lambda: not any("half-started" in subject for subject in interest(server)))
    await nc.close()
