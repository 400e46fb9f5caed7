"""The threads of one endpoint: they take requests, run the handler, and write what comes of it.

They are started on demand, and no more than there are handlers to run at once. One thread is woken for any number of
requests, and wakes the next one if there is more than one to run: so handlers that wait run side by side. As long as
they are quick, that is left to another thread, which gets its turn when a handler waits for something: so those that
don't run one after the other in the same thread, and nobody is woken in vain. They are daemon threads, for a handler
that is stuck must not keep alive a process that was told to stop.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from natsvc.core import BaseRequest, EndpointState, compose, current_request
from natsvc.core.replies import Reply, encode_result
from natsvc.errors import NatsvcError
from natsvc.message import Delivery

if TYPE_CHECKING:
    import contextvars

    from natsvc.sync.driver import Driver

__all__ = ["Workers"]

_clock = time.perf_counter_ns

_QUICK = 1_000_000
"""Nanoseconds: where handlers take less and more requests wait, one thread runs them, and writes the replies together.

Where the next thread was woken at once, a request took 1.1 x the CPU time.
"""

_TOGETHER = 8 * 1024
"""So many bytes of replies are written together: those who wait for them shall not have to wait for all the others'."""


class Workers:
    """Runs the handlers of one endpoint. Its methods are for threads that hold the connection's lock.

    Args:
        driver: The connection's driver.
        state: The endpoint's state machine.
        context: The context that handlers run in, each in a copy of its own.
        perform: Does what the service's state machine asks for.

    Attributes:
        driver: The connection's driver.
        writes_together: Whether a reply may be left to be written with those that follow at once. It is of the handler
            that began last, and of no consequence for others: somebody writes in either case.
        is_watched: Whether another thread will see to it, as soon as it gets its turn, that no request waits for a
            handler that waits, and that what has been sent is written.
    """

    def __init__(
        self, driver: Driver, state: EndpointState, context: contextvars.Context, perform: Callable[[], None]
    ) -> None:
        self.driver = driver
        self.writes_together = False
        self.is_watched = False
        self._state = state
        self._context = context
        self._perform = perform
        self._handler = compose(state.endpoint.middleware, state.endpoint.handler)
        self._ready: deque[BaseRequest] = deque()
        self._idle: list[threading.Lock] = []  # what idle threads wait for, the one that was busy last at the end
        self._is_waking = False  # whether one is on its way from there, or just started
        self._is_quick = False  # whether the last handler was
        self._handling = 0
        self._threads = 0
        self._is_closed = False

    def receiver(self) -> Callable[[Delivery], None]:
        """Return what takes the endpoint's messages."""
        receive, ready, service, perform = self._state.receive, self._ready, self._state.service, self._perform

        def take(message: Delivery) -> None:
            request = receive(message, _clock())
            if request is not None:
                ready.append(request)
                if not self._is_waking and not self.is_watched:
                    self._call()
            if service.effects:
                perform()

        return take

    def add(self, request: BaseRequest) -> None:
        """Have a request handled."""
        self._ready.append(request)
        if not self._is_waking and not self.is_watched:
            self._call()

    def close(self) -> None:
        """Have the threads end that have nothing to do; those that handle something, when they have done it."""
        self._is_closed = True
        if self._idle and not self._is_waking:
            self._wake()

    def _wake(self) -> None:
        if self._idle:
            self._is_waking = True
            self._idle.pop().release()
        elif self._handling == self._threads:  # otherwise, one is about to look for what there is to do
            name = f"natsvc-{self._state.endpoint.name}-{self._threads + 1}"
            try:
                threading.Thread(target=self._work, name=name, daemon=True).start()
            except RuntimeError as error:  # the system gives no more threads; the next request, or an end, tries again
                self._state.service.report(error, None)
                return
            self._threads += 1
            self._is_waking = True

    def _call(self) -> None:
        """Have a thread run what is ready: where handlers are quick, one of those that are awake, unless all wait."""
        if self._is_quick and self._threads > len(self._idle):
            self.is_watched = self.driver.do_soon(self._look)
        if not self.is_watched:
            self._wake()

    def _look(self) -> None:
        """Without the lock, wake a thread if none of those that are awake looks for requests; write what was sent."""
        with self.driver.lock:
            self.is_watched = False
            if self._ready and not self._is_waking and self._handling == self._threads - len(self._idle):
                self._wake()
            if self._state.service.effects:
                self._perform()
        self.driver.write()

    def _work(self) -> None:
        lock, ready, state, driver = self.driver.lock, self._ready, self._state, self.driver
        connection, service = driver.state, state.service
        copy, handle = self._context.copy, self._handle
        gate = threading.Lock()
        gate.acquire()
        with lock:
            self._is_waking = False
            while True:
                if not ready:
                    if self._is_closed:
                        break
                    self._idle.append(gate)
                    lock.release()
                    gate.acquire()
                    lock.acquire()
                    self._is_waking = False
                    continue
                request = ready.popleft()
                now = _clock()
                following: BaseRequest | Reply | None
                if request.is_running:  # otherwise it has been answered before it came to this
                    self._handling += 1
                    self.writes_together = bool(ready) and self._is_quick
                    if ready and not self._is_waking and not self.is_watched:
                        self._call()
                        if service.effects:
                            self._perform()
                    request._started = now
                    result: object = None
                    error: BaseException | None = None
                    lock.release()
                    try:
                        result = copy().run(handle, request)
                        if result is not None and type(result) is not bytes:
                            result = encode_result(result)
                    except BaseException as raised:  # noqa: BLE001  # the caller gets an answer, whatever it is
                        result, error = None, raised
                    lock.acquire()
                    self._handling -= 1
                    now = _clock()
                    following = state.end(request, now, result, error)
                    result = error = None
                    if following is not None and isinstance(following, tuple):
                        subject, data, _, block = following
                        unpublished: NatsvcError | None = None
                        try:
                            connection.send(subject, data, "", block)
                        except NatsvcError as refused:
                            unpublished = refused
                        following = state.finish(request, now, unpublished)
                    self._is_quick = request._elapsed < _QUICK
                else:
                    following = state.finish(request, now)
                if following is not None:
                    ready.append(following)
                if service.effects:
                    self._perform()
                request = following = None  # type: ignore[assignment]  # an idle thread keeps nothing alive
                if (
                    ready
                    and self._is_quick
                    and connection.outgoing_size < _TOGETHER
                    and (self.is_watched or driver.is_write_due or driver.write_soon())
                ):
                    continue
                to_write = driver.begin_write()
                is_full = driver.is_full
                if to_write is not None or is_full:
                    if is_full:
                        self._handling += 1  # for it comes back as late as from a handler
                    lock.release()
                    if to_write is not None:
                        driver.finish_write(to_write)
                    if is_full:
                        driver.room()
                    lock.acquire()
                    if is_full:
                        self._handling -= 1
            self._threads -= 1
            self.close()

    def _handle(self, request: BaseRequest) -> Any:
        current_request.set(request)
        return self._handler(request)
