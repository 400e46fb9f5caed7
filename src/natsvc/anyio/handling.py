"""Handlers in tasks that are started on demand.

One task runs one request after another, and only when a handler waits is another task called to go on with those behind
it. Every handler sees a context and a cancellation of its own all the same. As long as none waits, the task also reads
what comes, in the place of the connection's reading task (reading.py).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from natsvc.anyio.block import TaskBlock, is_cancelled
from natsvc.anyio.timer import clock
from natsvc.stepping import ENDED, HandlerSteps

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Awaitable, Callable

    from natsvc.anyio.driver import Driver
    from natsvc.anyio.reading import Reading
    from natsvc.core import BaseRequest, Reply, ServiceState
    from natsvc.core.effects import Receiver
    from natsvc.message import Delivery

__all__ = ["HandlerTask", "Handling"]

_UNLENT = 10_000_000
"""Nanoseconds that the reading task keeps the reading to itself after it was lent in vain: for a handler has waited."""

_LONGEST_ROW = 2_000_000
"""Nanoseconds that handlers may run in a row before other tasks get their turn: they may all end without waiting."""


class HandlerTask(HandlerSteps):
    """A task that runs handlers, one after another.

    Attributes:
        called: What it waits for while it is idle; None before.
        is_cancelled: Whether it has been cancelled, and is to run no more of them.
        is_reading: Whether it waits for bytes in the place of the reading task.
        lent: What it may read.
        row_ends: When it is to let other tasks have their turn.
        scope: What cancels it.
        unfinished: The request that it has begun with and has to go on with, and what its reply waits for, if it does.
    """

    __slots__ = ("called", "is_cancelled", "is_reading", "lent", "row_ends", "scope", "unfinished")

    def __init__(self, context: contextvars.Context) -> None:
        super().__init__(context)
        self.called: anyio.Event | None = None
        self.is_cancelled = False
        self.is_reading = False
        self.lent: Reading | None = None
        self.row_ends = 0
        self.scope = anyio.CancelScope()
        self.unfinished: tuple[BaseRequest, Awaitable[None] | None] | None = None

    def cancel(self) -> None:
        """Cancel what it waits for; then it ends, and another one takes its place."""
        self.is_cancelled = True
        self.scope.cancel()

    def give_back(self) -> None:
        """Let the reading task read again."""
        if self.lent is not None:
            self.lent.give_back()

    def leave_reading(self) -> None:
        """Give the reading back: at once or, if it waits for bytes, as soon as it has its turn; then it ends."""
        if self.is_reading:
            self.cancel()
        else:
            self.give_back()


class Handling:
    """The tasks that run the handlers of one service.

    Args:
        driver: What runs the connection.
        block: Where the tasks live.
        context: The context that handlers run in, each in a copy of its own.
        state: The state machine of the service.
        perform: Does what the state machine asks for.
        abort: Called when the block is being cancelled while a handler runs.
    """

    def __init__(
        self,
        driver: Driver,
        block: TaskBlock,
        context: contextvars.Context,
        state: ServiceState,
        *,
        perform: Callable[[], object],
        abort: Callable[[], object],
    ) -> None:
        self._driver = driver
        self._block = block
        self._context = context
        self._state = state
        self._perform = perform
        self._abort = abort
        self._ready: deque[BaseRequest] = deque()
        self._idle: list[HandlerTask] = []
        self._called = 0  # how many tasks are about to look for requests
        self._is_looking = False  # whether one does, without waiting in between
        self._reader: HandlerTask | None = None  # the task that reads on, if what is read is run at once
        self._waiting: dict[BaseRequest, HandlerTask] = {}  # the requests whose handlers wait for something
        self._at_rest = anyio.Event()

    def delivery(self, receiver: Receiver) -> Callable[[Delivery], None]:
        """Return what hands messages to what receives them, and runs their handlers if they are to be run now."""
        # A function of its own for each endpoint: as a method that is given the endpoint, it takes 1.02 x the time.
        receive, effects = receiver.receive, self._state.effects

        def deliver(message: Delivery) -> None:
            request = receive(message, clock())
            if request is not None:
                task = self._reader
                if task is None:
                    self.run(request)
                else:
                    self._begin(request, task)
                    if task.unfinished or task.ended_at > task.row_ends:
                        self._reader = None  # what comes behind is for others
            if effects:
                self._perform()

        return deliver

    def run(self, request: BaseRequest) -> None:
        """Run a request's handler, behind those that are ready already."""
        self._ready.append(request)
        if not self._is_looking and not self._called:
            self._call_task()

    def take_following(self, following: BaseRequest | None) -> None:
        """Run the request, if there is one, that has got the slot of another, and do what else comes of its end."""
        if following is not None:
            self.run(following)
        if self._state.effects:
            self._perform()

    def cancel(self, request: BaseRequest) -> None:
        """Cancel a request's handler: at once if it waits for something, otherwise as soon as it does."""
        task = self._waiting.get(request)
        if task is not None:
            task.cancel()

    async def is_at_rest(self) -> None:
        """Wait until no handler waits for anything."""
        while self._waiting:
            if self._at_rest.is_set():
                self._at_rest = anyio.Event()
            await self._at_rest.wait()

    def begin(self) -> None:
        """Have a task wait for something to do: it also notices if what is around the service is cancelled."""
        self._call_task()

    def _call_task(self) -> None:
        self._called += 1
        if not self._idle:
            self._block.start_soon(self._work)
            return
        task = self._idle.pop()
        assert task.called is not None  # noqa: S101  # it is idle
        task.called.set()
        driver = self._driver
        if driver.is_delivering and clock() > driver.lends_at:
            driver.next_to_read = task

    async def _work(self) -> None:
        task = HandlerTask(self._context)
        try:
            with task.scope:
                while await self._run_called(task):
                    await self._wait_for_call(task)
        except anyio.get_cancelled_exc_class():
            self._abort()  # what is around the service is being cancelled, though the body may be shielded
            raise
        finally:
            task.give_back()
        if self._block.is_open and not self._called and (self._ready or not self._idle):
            self._call_task()

    async def _run_called(self, task: HandlerTask) -> bool:
        """Run what it has been called for; return whether the task can run more."""
        self._called -= 1
        try:
            return await self._run_ready(task)
        finally:
            self._stop_looking()

    async def _wait_for_call(self, task: HandlerTask) -> None:
        """Wait until there is something to run."""
        task.called = anyio.Event()
        self._idle.append(task)
        try:
            await task.called.wait()
        except BaseException:
            if task in self._idle:
                self._idle.remove(task)
            else:
                self._called -= 1  # who has called it waits for nobody
            raise

    async def _run_ready(self, task: HandlerTask) -> bool:
        """Run what is ready, and what has come meanwhile, until nothing is; return whether the task can run more."""
        ready, state = self._ready, self._state
        request: BaseRequest | None
        task.row_ends = clock() + _LONGEST_ROW
        while True:
            error: BaseException | None = None
            if ready:
                if not self._is_looking:
                    self._is_looking = True
                    self._driver.begin_batch()
                request = ready.popleft()
                if not request.is_running:  # it has been answered before it came to this
                    self.take_following(request._endpoint.finish(request, clock()))
                    continue
                self._begin(request, task)
            else:
                request = None  # a task that waits keeps nothing alive
                if not self._read_on(task) and not await self._read_instead(task):
                    return not task.is_cancelled
            if task.unfinished is not None:
                error = await self._go_on(task)
            if state.effects:
                self._perform()
            if task.is_cancelled or (error is not None and not isinstance(error, Exception)):
                if isinstance(error, (KeyboardInterrupt, SystemExit)):
                    raise error
                return False
            if task.ended_at > task.row_ends:
                self._stop_looking()
                self._called += 1  # nobody else is called for what comes meanwhile: others would have rows of their own
                try:
                    await anyio.lowlevel.cancel_shielded_checkpoint()
                finally:
                    self._called -= 1
                state.wake(clock())  # what is overdue must not run, however late the timer is
                self._perform()
                task.row_ends = clock() + _LONGEST_ROW

    def _begin(self, request: BaseRequest, task: HandlerTask) -> None:
        """Run a request's handler until it waits for something: then, and if it has failed, it is `unfinished`."""
        following = task.run(request)
        if following is None:
            return
        if isinstance(following, HandlerSteps):
            task.unfinished = request, None
        else:
            self._conclude(request, task, following)

    def _conclude(self, request: BaseRequest, task: HandlerTask, following: BaseRequest | Reply | None) -> None:
        """Do what comes of a handler's end; if its reply has to wait, the request is `unfinished`."""
        if isinstance(following, tuple):
            unpublished = None
            driver = self._driver
            try:
                publishing = driver.see_to_writing() if driver.state.answer(following) else None
            except Exception as refused:  # noqa: BLE001  # the state machine notes it
                unpublished = refused
            else:
                if publishing is not None:
                    task.unfinished = request, publishing
                    return
            following = request._endpoint.finish(request, clock(), unpublished)
        if following is not None:
            self._ready.append(following)

    async def _go_on(self, task: HandlerTask) -> BaseException | None:
        """Run the handler that is unfinished to its end, and the request to its own; return what it has raised."""
        assert task.unfinished is not None  # noqa: S101  # for mypy
        (request, publishing), task.unfinished = task.unfinished, None
        error: BaseException | None = None
        if publishing is None:
            if task.trap is not ENDED:
                self._begin_to_wait(request, task)
                if not request.is_running:
                    task.cancel()
                try:
                    await task.go_on()
                finally:
                    self._end_waiting(request)
            if task.error is not None and not task.is_cancelled and is_cancelled():
                self._abort()  # what is around the service is being cancelled: that is no failure of the handler
            following, error = task.end(request)
            self._conclude(request, task, following)
            if task.unfinished is None:
                return error
            (_, publishing), task.unfinished = task.unfinished, None
            assert publishing is not None  # noqa: S101  # for mypy
        error = await self._publish(request, task, publishing) or error
        following = request._endpoint.finish(request, clock())
        if following is not None:
            self._ready.append(following)
        return error

    async def _publish(
        self, request: BaseRequest, task: HandlerTask, publishing: Awaitable[None]
    ) -> BaseException | None:
        """Wait until the connection takes more; return what has cancelled that. The reply is sent all the same."""
        self._begin_to_wait(request, task)
        try:
            await publishing
        except BaseException as error:  # noqa: BLE001  # it is to end the request before it ends the task
            return error
        finally:
            self._end_waiting(request)
        return None

    def _begin_to_wait(self, request: BaseRequest, task: HandlerTask) -> None:
        """Leave what is ready to others: first to two of them, for what comes behind often waits as well."""
        self._waiting[request] = task
        if task.lent is not None:
            task.give_back()
            self._driver.lends_at = clock() + _UNLENT
        if self._is_looking:
            self._is_looking = False
            self._driver.end_batch()
            self._driver.send()  # in one piece with what others send that have their turn now
        for _ in range(min(2, len(self._ready)) - self._called):
            self._call_task()

    def _end_waiting(self, request: BaseRequest) -> None:
        task = self._waiting.pop(request)
        task.row_ends = clock() + _LONGEST_ROW  # others have had their turn
        if not self._waiting:
            self._at_rest.set()

    def _read_on(self, task: HandlerTask) -> bool:
        """Run what has come meanwhile; return whether any has that is for these handlers.

        So tasks are switched once for many reads, if at all.
        """
        self._stop_looking()
        ended_at = task.ended_at
        return self._read(task) and self._has_begun(task, ended_at)

    async def _read_instead(self, task: HandlerTask) -> bool:
        """If the reading is lent to the task, wait for what comes next, and run it; return whether there is any."""
        while task.lent is not None:
            await self._wait_for_bytes(task, task.lent)
            ended_at = task.ended_at
            if task.is_cancelled or not self._read(task):  # it is the end, say, or nothing may be read now
                task.give_back()
            elif self._has_begun(task, ended_at):
                return True
        return False

    async def _wait_for_bytes(self, task: HandlerTask, reading: Reading) -> None:
        task.is_reading = True
        try:
            await reading.socket.wait_readable()
        finally:
            task.is_reading = False
        task.row_ends = clock() + _LONGEST_ROW  # others have had their turn

    def _read(self, task: HandlerTask) -> bool:
        """Deliver what has come, and run at once what is for these handlers; return whether anything has.

        So no request has to wait for a slot that others hold which have not begun.
        """
        self._called += 1  # so nobody else is called for what comes
        self._reader = task
        try:
            return self._driver.read_on()
        finally:
            self._reader = None
            self._called -= 1

    @staticmethod
    def _has_begun(task: HandlerTask, ended_at: int) -> bool:
        """Whether any handler has begun since it ended the last."""
        return task.ended_at != ended_at or task.unfinished is not None

    def _stop_looking(self) -> None:
        """Write what has been sent since the first of those that were run in a row."""
        if self._is_looking:
            self._is_looking = False
            self._driver.end_batch()
            self._driver.write()
