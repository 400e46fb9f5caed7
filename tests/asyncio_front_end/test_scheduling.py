"""Design: how handlers are started, as tasks and in threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import subprocess
import sys
import threading
from typing import Any

import pytest
from nats.aio.client import Client

from natsvc.asyncio import BlockingRequest, Request, Service, ServiceError, ServiceStoppedError, add_service
from natsvc.asyncio.carrying import deliver_all
from natsvc.core import EndpointState, Reply
from natsvc.message import Message
from natsvc.testing import NatsServer
from natsvc.workers import Workers


async def echo(request: Request) -> None:
    await request.respond(request.data)


def feed(service: Service, state: EndpointState, data: bytes = b"", reply: str = "nobody.listens") -> None:
    """Deliver a message as the connection would."""
    feed_all(service, state, [data], reply)


def feed_all(service: Service, state: EndpointState, bodies: list[bytes], reply: str = "nobody.listens") -> None:
    """Deliver messages as the connection would that has read them in one piece."""
    receive = service._runner._delivery(state)
    messages = [Message(state.endpoint.subject, data, reply=reply) for data in bodies]
    context = contextvars.copy_context()
    deliver_all(asyncio.get_running_loop(), context, ((receive, message) for message in messages))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has eager tasks since Python 3.12")
async def test_a_handler_that_never_suspends_costs_no_task_switch(nc: Client) -> None:
    ran: list[bytes] = []

    async def handler(request: Request) -> None:
        ran.append(request.data)
        await request.respond(b"")

    async with add_service(nc, name="eager") as service:
        await service.add_endpoint("eager-e", handler=handler)
        (state,) = service._runner.state.endpoints
        feed(service, state, b"1")
        feed(service, state, b"2")
        assert ran == [b"1", b"2"], "both ran before the event loop had its turn"
        assert state.num_requests == 2


async def test_a_long_chain_of_handlers_that_end_at_once_is_not_nested_and_lets_the_loop_turn(nc: Client) -> None:
    gate = asyncio.Event()
    depth_limit = sys.getrecursionlimit()
    ran = 0

    async def handler(request: Request) -> None:
        nonlocal ran
        if request.data == b"first":
            await gate.wait()
        ran += 1

    async with add_service(nc, name="chain", max_concurrency=1) as service:
        await service.add_endpoint("chain-e", handler=handler)
        (state,) = service._runner.state.endpoints
        feed(service, state, b"first")
        for _ in range(3 * depth_limit):
            feed(service, state)
        gate.set()
        seen = set()
        async with asyncio.timeout(30):
            while ran <= 3 * depth_limit:
                await asyncio.sleep(0)
                seen.add(ran)
        assert len(seen) > 10, "others had their turn in between"


async def test_a_handler_that_waits_holds_up_none_of_those_that_were_read_with_it(nc: Client) -> None:
    gate = asyncio.Event()
    ended = []

    async def handler(request: Request) -> None:
        if request.data.startswith(b"slow"):
            await gate.wait()
        ended.append(request.data)

    async with add_service(nc, name="row") as service:
        await service.add_endpoint("row-e", handler=handler)
        (state,) = service._runner.state.endpoints
        feed_all(service, state, [b"1", b"slow 1", b"2", b"slow 2", b"3"])
        async with asyncio.timeout(30):
            while len(ended) < 3:
                await asyncio.sleep(0)
            assert ended == [b"1", b"2", b"3"]
            gate.set()
            while len(ended) < 5:
                await asyncio.sleep(0)
        assert state.num_requests == 5


async def test_an_error_reply_holds_up_none_of_those_that_were_read_with_it(nc: Client, caller: Client) -> None:
    async def handler(request: Request) -> None:
        raise ServiceError(404, "not found")

    async with add_service(nc, name="bad") as service:
        await service.add_endpoint("bad-e", handler=handler)
        replies = await asyncio.gather(*(caller.request("bad-e", b"", timeout=30) for _ in range(50)))
        assert [(reply.headers or {})["Nats-Service-Error-Code"] for reply in replies] == ["404"] * 50
        (state,) = service._runner.state.endpoints
        feed_all(service, state, [b""] * 50)
        async with asyncio.timeout(30):
            while state.num_requests < 100:
                await asyncio.sleep(0)


async def test_a_handler_that_cancels_its_own_task_cancels_no_other(nc: Client) -> None:
    ended = []

    async def handler(request: Request) -> None:
        if request.data == b"cancels":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        else:
            await asyncio.sleep(0)
        ended.append(request.data)

    async with add_service(nc, name="cancels") as service:
        await service.add_endpoint("cancels-e", handler=handler)
        (state,) = service._runner.state.endpoints
        feed_all(service, state, [b"cancels", b"1", b"cancels", b"2"])
        async with asyncio.timeout(30):
            while state.num_requests < 4:
                await asyncio.sleep(0)
        assert sorted(ended) == [b"1", b"2", b"cancels", b"cancels"]
        assert state.num_errors == 0


async def test_handlers_that_wait_are_in_tasks_of_their_own(nc: Client) -> None:
    tasks = set()

    async def handler(request: Request) -> None:
        before = asyncio.current_task()
        await asyncio.sleep(0)
        assert asyncio.current_task() is before
        tasks.add(before)

    async with add_service(nc, name="own") as service:
        await service.add_endpoint("own-e", handler=handler)
        (state,) = service._runner.state.endpoints
        feed_all(service, state, [b"1", b"2", b"3"])
        async with asyncio.timeout(30):
            while state.num_requests < 3:
                await asyncio.sleep(0)
        assert len(tasks) == 3
        assert state.num_errors == 0


async def test_a_task_knows_itself_as_the_current_task_in_a_handler(nc: Client, caller: Client) -> None:
    async def handler(request: Request) -> bytes:
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            child = group.create_task(asyncio.sleep(0, b"from a child task"))
        return child.result()

    async with add_service(nc, name="current") as service:
        await service.add_endpoint("current-e", handler=handler)
        assert (await caller.request("current-e", b"", timeout=30)).data == b"from a child task"


async def test_a_handler_may_leave_work_behind_that_responds_later(nc: Client, caller: Client) -> None:
    tasks: set[asyncio.Task[None]] = set()

    async def handler(request: Request) -> None:
        async def later() -> None:
            await asyncio.sleep(0.01)
            await request.respond(b"later")

        tasks.add(asyncio.create_task(later()))

    async with add_service(nc, name="later") as service:
        await service.add_endpoint("later-e", handler=handler)
        assert (await caller.request("later-e", b"", timeout=30)).data == b"later"
        assert service.stats().endpoints[0].num_requests == 1
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("kind", ["partial", "method", "callable object"])
async def test_handlers_of_all_shapes_are_recognised(nc: Client, caller: Client, kind: str) -> None:
    class Shapes:
        async def method(self, request: Request) -> bytes:
            return b"async"

        async def __call__(self, request: Request) -> bytes:
            return b"async"

    async def function(argument: str, request: Request) -> bytes:
        return argument.encode()

    handlers: dict[str, Any] = {
        "partial": functools.partial(function, "async"),
        "method": Shapes().method,
        "callable object": Shapes(),
    }
    async with add_service(nc, name="shapes") as service:
        await service.add_endpoint("shapes-e", handler=handlers[kind])
        assert (await caller.request("shapes-e", b"", timeout=30)).data == b"async"


async def test_a_plain_def_that_returns_a_coroutine_is_a_500_that_says_so(
    nc: Client, caller: Client, caplog: pytest.LogCaptureFixture
) -> None:
    async def real(request: Any) -> bytes:
        return b""

    def handler(request: Any) -> Any:
        return real(request)

    async with add_service(nc, name="forgot") as service:
        await service.add_endpoint("forgot-e", handler=handler)
        reply = await caller.request("forgot-e", b"", timeout=30)
        assert reply.headers is not None
        assert reply.headers["Nats-Service-Error-Code"] == "500"
        assert "async def" in caplog.text


@pytest.mark.parametrize("error", [StopIteration(), SystemExit(3), KeyboardInterrupt()])
async def test_whatever_a_thread_raises_its_caller_gets_an_answer(
    nc: Client, caller: Client, error: BaseException
) -> None:
    def handler(request: BlockingRequest) -> None:
        raise error

    async with add_service(nc, name="thread-raises") as service:
        await service.add_endpoint("thread-raises-e", handler=handler)
        reply = await caller.request("thread-raises-e", b"", timeout=30)
        assert reply.headers is not None
        assert reply.headers["Nats-Service-Error-Code"] == "500"


async def test_a_blocking_request_refuses_to_respond_on_the_event_loop(nc: Client) -> None:
    async with add_service(nc, name="on-loop") as service:
        await service.add_endpoint("on-loop-e", handler=echo)
        request = Request("s", b"", "r", None)
        with pytest.raises(RuntimeError, match="event loop"):
            BlockingRequest(request, asyncio.get_running_loop()).respond(b"x")


def test_when_the_loop_is_closed_a_blocking_request_says_that_the_service_has_stopped() -> None:
    loop = asyncio.new_event_loop()
    loop.close()

    class Nothing(Request):
        def __init__(self) -> None:
            pass

    with pytest.raises(ServiceStoppedError):
        BlockingRequest(Nothing(), loop).respond(b"x")


async def test_a_thread_that_outlives_the_event_loop_gets_service_stopped_errors(nc: Client) -> None:
    """What is waited for in the thread ends with the loop's tasks."""
    outcome: concurrent.futures.Future[BaseException] = concurrent.futures.Future()
    entered = threading.Event()

    def run() -> None:
        async def main() -> None:
            class Stuck:
                async def publish(self, reply: Reply) -> None:
                    entered.set()
                    await asyncio.Event().wait()

            class Parked(Request):
                async def respond(self, data: Any = b"", headers: Any = None) -> None:
                    await Stuck().publish(("r", b"", None, b""))

                def __init__(self) -> None:
                    pass

            request = BlockingRequest(Parked(), asyncio.get_running_loop())

            def handler() -> None:
                try:
                    request.respond(b"x")
                except BaseException as error:  # noqa: BLE001  # it is what the test looks at
                    outcome.set_result(error)

            threading.Thread(target=handler).start()
            while not entered.is_set():
                await asyncio.sleep(0.001)

        asyncio.run(main())

    await asyncio.to_thread(run)
    assert isinstance(outcome.result(30), ServiceStoppedError)


def test_workers_are_started_on_demand_and_reused() -> None:
    workers = Workers("pool")
    names: list[str] = []

    def run() -> None:
        done = threading.Event()

        def job() -> None:
            names.append(threading.current_thread().name)
            done.set()

        workers.submit(job)
        assert done.wait(30)

    for _ in range(20):
        run()
        while not workers._idle:
            pass
    assert set(names) == {"pool-1"}
    barrier = threading.Barrier(4)
    for _ in range(3):
        workers.submit(lambda: bool(barrier.wait(30)))
    barrier.wait(30)
    workers.close()


def test_worker_threads_are_daemons_and_end_when_the_pool_is_closed() -> None:
    workers = Workers("ending")
    threads: list[threading.Thread] = []
    done = threading.Event()

    def job() -> None:
        threads.append(threading.current_thread())
        done.set()

    workers.submit(job)
    assert done.wait(30)
    assert threads[0].daemon
    workers.close()
    threads[0].join(30)
    assert not threads[0].is_alive()


def test_a_pool_that_is_closed_still_runs_what_a_handler_asks_for_late() -> None:
    workers = Workers("late")
    first = threading.Event()
    workers.submit(first.set)
    assert first.wait(30)
    while not workers._idle:
        pass
    workers.close()
    second = threading.Event()
    workers.submit(second.set)
    assert second.wait(30)


async def test_a_burst_of_handlers_that_never_wait_lets_the_event_loop_turn(nc: Client, caller: Client) -> None:
    ran = 0

    async def handler(request: Request) -> None:
        nonlocal ran
        ran += 1

    async with add_service(nc, name="burst") as service:
        await service.add_endpoint("burst-e", handler=handler)
        subscription = list(service._runner._subscriptions.values())[-1].result()
        for _ in range(1000):  # all of them wait at the client before the first one is handed over
            subscription._pending_queue.put_nowait(Message("burst-e", b""))
        seen = set()
        async with asyncio.timeout(30):
            while ran < 1000:
                await asyncio.sleep(0)
                seen.add(ran)
        assert len(seen) >= 3


@pytest.mark.parametrize("ending", ["returns", "raises"])
def test_a_stuck_blocking_handler_keeps_no_program_from_ending(server: NatsServer, ending: str) -> None:
    program = """
import asyncio, sys, threading
import nats
from natsvc.asyncio import add_service

async def main():
    nc = await nats.connect(sys.argv[1])
    service = await add_service(nc, name="stuck-at-the-end")
    begun = threading.Event()

    def stuck(request):
        begun.set()
        threading.Event().wait()

    await service.add_endpoint("stuck-at-the-end-e", handler=stuck)
    await nc.publish("stuck-at-the-end-e", b"", reply="nobody")
    await asyncio.to_thread(begun.wait)
    if sys.argv[2] == "raises":
        sys.exit("main failed")

asyncio.run(main())
"""
    run = subprocess.run(
        [sys.executable, "-c", program, server.url, ending], capture_output=True, text=True, timeout=30, check=False
    )
    assert run.returncode == (1 if ending == "raises" else 0)
    assert ("main failed" in run.stderr) is (ending == "raises")


@pytest.mark.parametrize("how", ["cancels it", "leaves it to itself"])
async def test_middleware_may_give_up_on_a_blocking_handler_whose_thread_keeps_its_slot(
    nc: Client, caller: Client, how: str
) -> None:
    left = set()
    release = threading.Event()
    running = 0
    most = 0
    counter = threading.Lock()

    async def impatient(request: Request, call_next: Any) -> Any:
        calling = asyncio.ensure_future(call_next(request))
        left.add(calling)
        await asyncio.wait({calling}, timeout=0.01)
        if calling.done():
            return calling.result()
        if how == "cancels it":
            calling.cancel()
        return b"gave up"

    def slow(request: BlockingRequest) -> bytes:
        nonlocal running, most
        with counter:
            running += 1
            most = max(most, running)
        release.wait(30)
        with counter:
            running -= 1
        return b"too late"

    async with add_service(nc, name="impatient", middleware=[impatient]) as service:
        await service.add_endpoint("impatient-e", handler=slow, max_workers=2)
        asking = [asyncio.create_task(caller.request("impatient-e", b"", timeout=30)) for _ in range(6)]
        async with asyncio.timeout(30):
            while sum(task.done() for task in asking) < 2:
                await asyncio.sleep(0.005)
        (state,) = service._runner.state.endpoints
        assert len(state.active) == 2
        release.set()
        replies = [(await task).data for task in asking]
    assert replies[:2] == [b"gave up"] * 2
    assert most <= 2
    assert service.stats().endpoints[0].num_requests == 6


async def test_a_request_that_was_told_504_before_its_handler_began_never_runs(nc: Client) -> None:
    ran: list[bytes] = []

    async def handler(request: Request) -> None:
        ran.append(request.data)

    async with add_service(nc, name="never-begun") as service:
        await service.add_endpoint("never-begun-e", handler=handler, timeout=1)
        runner = service._runner
        (state,) = runner.state.endpoints
        request = state.receive(Message("never-begun-e", b"late"), 0)
        assert request is not None
        runner._ready.append(request)  # it waits for its turn, behind many others
        state.expire(2 * 10**9)
        runner._start_ready()
        assert ran == []
        assert state.active == set()
        assert (state.num_requests, state.num_errors) == (1, 1)


async def test_a_failure_is_reported_at_once_also_when_a_thread_outlives_its_request(
    nc: Client, caller: Client
) -> None:
    release = threading.Event()
    told = asyncio.Event()

    async def failing(request: Request, call_next: Any) -> None:
        calling = asyncio.ensure_future(call_next(request))
        await asyncio.wait({calling}, timeout=0.01)
        calling.cancel()
        raise ValueError("gave up")

    def slow(request: BlockingRequest) -> None:
        release.wait(30)

    try:
        async with add_service(nc, name="reporting", error_handler=lambda *_: told.set()) as service:
            await service.add_endpoint("reporting-e", handler=slow, middleware=[failing])
            reply = await caller.request("reporting-e", b"", timeout=30)
            assert reply.headers is not None
            assert reply.headers["Nats-Service-Error-Code"] == "500"
            async with asyncio.timeout(30):
                await told.wait()
            (state,) = service._runner.state.endpoints
            assert len(state.active) == 1, "its thread still holds its slot"
            release.set()
        assert state.active == set()
        assert (state.num_requests, state.num_errors) == (1, 1)
    finally:
        release.set()


async def test_what_stats_find_wrong_with_endpoint_data_is_logged_and_told_at_once(
    nc: Client, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[BaseException] = []

    def fail(stats: object) -> None:
        raise KeyError("no data")

    async with add_service(
        nc, name="no-data", endpoint_data=fail, error_handler=lambda service, error, request: told.append(error)
    ) as service:
        await service.add_endpoint("no-data-e", handler=echo)
        service.stats()
        assert [type(error) for error in told] == [KeyError]
        assert caplog.messages == ["service 'no-data': no data for endpoint 'no-data-e'"]


async def test_a_blocking_handler_that_finds_no_thread_is_a_500_and_keeps_no_slot(
    nc: Client, caller: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def echo(request: BlockingRequest) -> bytes:
        return request.data

    async with add_service(nc, name="threadless") as service:
        await service.add_endpoint("threadless-e", handler=echo, max_workers=1)
        with monkeypatch.context() as patched:

            def refuse(thread: threading.Thread) -> None:
                raise RuntimeError("can't start new thread")

            patched.setattr(threading.Thread, "start", refuse)
            refused = await caller.request("threadless-e", b"", timeout=30)
        assert refused.headers is not None
        assert refused.headers["Nats-Service-Error-Code"] == "500"
        assert (await caller.request("threadless-e", b"again", timeout=30)).data == b"again"
