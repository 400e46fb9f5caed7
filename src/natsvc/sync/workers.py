"""The threads of a service: they take requests, run the handlers, and write what comes of it.

They are started on demand, and no more than handlers may run at once. One thread is woken for any number of requests,
and wakes the next one if there is more than one to run: so handlers that wait run side by side. As long as they are
quick, that is left to another thread, which gets its turn when a handler waits for something: so those that don't run
one after the other in the same thread, which reads them itself (reading.py), and nobody is woken in vain. They are
daemon threads, for a handler that is stuck must not keep alive a process that was told to stop.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from natsvc.core import BaseRequest, EndpointState, ServiceState, compose
from natsvc.core.replies import Reply, encode_result
from natsvc.errors import NatsvcError
from natsvc.message import Delivery
from natsvc.sync.places import Place, places
from natsvc.wire.outbox import EARLY

if TYPE_CHECKING:
    import contextvars

    from natsvc.sync.driver import Driver
    from natsvc.sync.transport import Transport
    from natsvc.wire.connection import Deliveries

__all__ = ["Binding", "Workers"]

_clock = time.perf_counter_ns

_QUICK = 1_000_000
"""Nanoseconds: where handlers take less and more requests wait, one thread runs them, and writes the replies together.

Where the next thread was woken at once, a request took 1.1 x the CPU time.
"""

_PATIENCE = 5_000_000
"""Nanoseconds that others may be kept waiting by the first handler that waits after many that did not.

A handler that computes keeps them waiting as long: that is when Python lets another thread run. To be looked after each
time that a thread writes takes 1.1 x the time.
"""

_UNLENT = 10_000_000
"""Nanoseconds that the reader keeps the reading to itself after it was lent in vain.

That is so if most of what was read was for others, who had to be woken all the same; and if a handler has waited. One
that waits for less than a millisecond, for an answer over the same connection, say, is quick: to lend the reading each
time, and to take it back, takes 1.2 x the time.
"""

_CALM = 100
"""So many times nobody must have been kept waiting before they may."""

_TOGETHER = 48 * 1024
"""So many bytes of replies are written together, and no more than EARLY of them: whose they are shall not wait for all.

With 8 KiB, whatever their number, 1 KiB gets 0.8 x the requests a second.
"""


class Binding:
    """What a request's endpoint needs of this front-end.

    Attributes:
        workers: The threads that run its handlers.
        handler: What to run.
        take: Takes a message of the endpoint's.
        is_quick: Whether the handler that ended last was.
    """

    __slots__ = ("handler", "is_quick", "take", "workers")

    def __init__(self, workers: Workers, handler: Callable[[Any], object], take: Callable[[Delivery], None]) -> None:
        self.workers = workers
        self.handler = handler
        self.take = take
        self.is_quick = False


class Workers:
    """Runs the handlers of endpoints of one service. Its methods are for threads that hold the connection's lock.

    Args:
        driver: The connection's driver.
        service: The service's state machine.
        name: What the threads are called, with a number behind it.
        context: The context that handlers run in, each in a copy of its own.
        perform: Does what the service's state machine asks for.
        spare: How many threads there may be beyond the handlers that may run at once. One that has read a connection
            which was left may be late to notice.

    Attributes:
        driver: The connection's driver.
        writes_together: Whether a reply may be left to be written with those that follow at once. It is of the handler
            that began last, and of no consequence for others: somebody writes in either case.
        is_watched: Whether another thread will see to it, as soon as it gets its turn, that no request waits for a
            handler that waits, nor the reading, and that what has been sent is written.
        lent: The transport that these threads may read in the place of its reader, while they may.
    """

    def __init__(
        self,
        driver: Driver,
        service: ServiceState,
        name: str,
        context: contextvars.Context,
        perform: Callable[[], None],
        *,
        spare: int,
    ) -> None:
        self.driver = driver
        self.writes_together = False
        self.is_watched = False
        self.lent: Transport | None = None
        self._service = service
        self._name = name
        self._context = context
        self._perform = perform
        # What the state machines take messages by that may be kept, by what takes them otherwise.
        self._receivers: dict[object, Callable[[Delivery, int], BaseRequest | None]] = {}
        self._ready: deque[BaseRequest] = deque()
        self._kept: deque[tuple[object, Delivery]] = deque()  # what a thread has read, and no state machine seen yet
        self._idle: list[threading.Lock] = []  # what idle threads wait for, the one that was busy last at the end
        self._is_waking = False  # whether one is on its way from there, or just started
        self._is_reading = False  # whether one of them waits for bytes
        self._calm = 0  # how many looks in a row have found that nobody is kept waiting
        self._ended_at = 0  # when the last handler has ended
        self._seen = 0  # when it had at the last look
        self._busy = 0  # how many threads are in a handler, or read, or wait for room in the socket
        self._slow = 0  # how many of them in one that is not expected to be quick
        self._threads = 0
        self._most = spare
        self._is_closed = False

    def bind(self, state: EndpointState) -> Binding:
        """Run the handlers of this endpoint as well."""
        receive, ready, service, perform = state.receive, self._ready, self._service, self._perform

        def take(message: Delivery) -> None:
            if self._kept:
                self.admit()  # those came before
            request = receive(message, _clock())
            if request is not None:
                ready.append(request)
                if not self._is_waking and not self.is_watched:
                    self._call(binding)
            if service.effects:
                perform()

        self._most += state.limit
        binding = Binding(self, compose(state.endpoint.middleware, state.endpoint.handler), take)
        if not state.timeout:  # it counts from when a request has come, which the state machine has to know then
            self._receivers[take] = receive
        return binding

    def add(self, request: BaseRequest) -> None:
        """Have a request handled."""
        self._ready.append(request)
        if not self._is_waking and not self.is_watched:
            self._call(request._endpoint.binding)

    def close(self) -> None:
        """Have the threads end that have nothing to do; those that handle something, when they have done it."""
        if self._is_reading and not self._is_closed:
            self.driver.nudge()
        self._is_closed = True
        if self._idle and not self._is_waking:
            self._wake()

    def _wake(self) -> None:
        if self._idle:
            self._is_waking = True
            self._idle.pop().release()
        elif self._busy == self._threads < self._most + len(self._service.stop_callers):
            # Otherwise one is about to look for what there is to do; or some wait for the socket, as others would.
            try:
                threading.Thread(target=self._work, name=f"{self._name}-{self._threads + 1}", daemon=True).start()
            except RuntimeError as error:  # the system gives no more threads; the next request, or an end, tries again
                self._service.report(error, None)
                return
            self._threads += 1
            self._is_waking = True

    def may_read(self) -> bool:
        """Whether one of the threads is about to look for something to do, and may read then."""
        return (
            (self._is_waking or self._busy < self._threads - len(self._idle))
            and not self._is_closed
            and self.lent is None
        )

    def keep(self, deliveries: Deliveries) -> Deliveries:
        """Take the endpoints' messages, to handle them one after the other; return the others.

        So they need not wait in the state machines, which takes 1.15 x the time.
        """
        if self._service.is_draining:
            return deliveries  # it has to know what there is before it ends
        receivers = self._receivers
        own = [delivery for delivery in deliveries if delivery[0] in receivers]
        self._kept.extend(own)
        if len(own) == len(deliveries):
            return []
        if len(own) * 2 < len(deliveries):
            self.driver.lends_at = _clock() + _UNLENT
        return [delivery for delivery in deliveries if delivery[0] not in receivers]

    def admit(self) -> None:
        """Give the state machines what they have not seen yet."""
        while self._kept:
            take, message = self._kept.popleft()
            request = self._receivers[take](message, _clock())
            if request is not None:
                self._ready.append(request)
        if self._service.effects:
            self._perform()

    def _give_back(self) -> None:
        """Have the reader thread read again, unless one of these threads does."""
        if self.lent is not None and not self._is_reading:
            transport, self.lent = self.lent, None
            transport.reading.give_back()
            self.admit()

    def _call(self, binding: Binding) -> None:
        """Have a thread run what is ready: where handlers are quick, one of those that are awake, unless all wait."""
        if binding.is_quick:
            if binding.take in self._receivers:
                self.driver.next_to_read = self
            if self._threads - self._slow > len(self._idle):
                self._watch()
        if not self.is_watched:
            self._wake()

    def _call_upon(self, binding: Binding) -> None:
        """Before a handler begins, have others see to what would wait for it: where it may be quick, if it isn't."""
        if binding.is_quick:
            self._watch()
        if not self.is_watched or not binding.is_quick:
            self._give_back()
            if self._ready:
                self._wake()

    def _watch(self) -> None:
        """Have another thread look that nobody is kept waiting."""
        if self._calm < _CALM:
            self.is_watched = self.driver.do_soon(self._look_soon)
        else:
            self.is_watched = True
            self._seen = self._ended_at
            self.driver.alarms.set(self, _clock() + _PATIENCE, self._look)

    def _look_soon(self) -> None:
        """Without the lock, look, and write what was sent."""
        with self.driver.lock:
            self._look()
        self.driver.write()

    def _look(self) -> None:
        """See that somebody reads, and runs what is ready, if all are busy."""
        self.is_watched = False
        keeps_waiting = self._ready or (self.lent is not None and not self._is_reading)
        if keeps_waiting and not self._is_waking and self._busy == self._threads - len(self._idle):
            self._calm = 0
            self.driver.lends_at = _clock() + _UNLENT
            self._give_back()
            if self._ready:
                self._wake()
        else:
            self._calm += 1
            is_any_awake = self._threads > len(self._idle)
            if self._calm > _CALM and is_any_awake and self._seen != self._ended_at:
                self._watch()
        if self._service.effects:
            self._perform()

    def _work(self) -> None:
        thread = threading.get_ident()
        places[thread] = place = Place()
        try:
            self._handle_all(place)
        except BaseException:  # which would be our own fault, and shall not be everybody's who is on the connection
            with self.driver.lock:
                self._threads -= 1
                self._give_back()
            raise
        finally:
            del places[thread]

    def _handle_all(self, place: Place) -> None:
        driver, service, ready, kept = self.driver, self._service, self._ready, self._kept
        lock, connection = driver.lock, driver.state
        gate = threading.Lock()
        gate.acquire()
        with lock:
            self._is_waking = False
            while True:
                place.request = self._next_request()
                if place.request is not None:
                    is_quick = self._handle_row(place)
                    if service.effects:
                        self._perform()
                    if (
                        (ready or kept)
                        and is_quick
                        and (outbox := connection.outbox).size < _TOGETHER
                        and len(outbox.commands) < EARLY
                        and (self.is_watched or driver.is_write_due or driver.write_soon())
                    ):
                        continue
                    self._write()
                elif self.lent is not None and not self._is_reading:
                    self._read(self.lent)
                elif self._is_closed:
                    break
                else:
                    if self.is_watched and not self._busy and not connection.has_outgoing:  # for nobody any more
                        self.is_watched = False
                        driver.alarms.clear(self)
                    self._idle.append(gate)
                    lock.release()
                    gate.acquire()
                    lock.acquire()
                    self._is_waking = False
            self._threads -= 1
            self.close()

    def _next_request(self) -> BaseRequest | None:
        """Return the next request to be handled, if there is one: of what is ready, or of what was read."""
        while True:
            if self._ready:
                request = self._ready.popleft()
                now = _clock()
                if request.is_running:
                    request._started = now
                    return request
                self._finish(request, now)  # it has been answered before it came to this
            elif self._kept:
                take, message = self._kept.popleft()
                received = self._receivers[take](message, _clock())
                if received is not None:
                    return received
                self._settle()
            else:
                return None

    def _handle_row(self, place: Place) -> bool:
        """Run a request's handler, then those of what was read behind it.

        Nearly all requests come in such rows: all of them are quick, and somebody else looks after them (`is_watched`).
        If each by itself goes through all that is done here once for a row, a request takes 1.05 x the time.

        Returns:
            Whether the last one was quick.
        """
        service, ready, kept, receivers = self._service, self._ready, self._kept, self._receivers
        lock, connection, copy = self.driver.lock, self.driver.state, self._context.copy
        request = place.request
        assert request is not None  # noqa: S101  # for mypy
        result: object
        error: BaseException | None
        state = request._endpoint
        binding: Binding = state.binding
        is_quick = begins_quick = binding.is_quick
        self._busy += 1
        if not begins_quick:
            self._slow += 1
        is_awaited = bool(ready) or (self.lent is not None and not self._is_reading)
        self.writes_together = is_awaited and begins_quick
        if is_awaited and not self._is_waking and not (self.is_watched and begins_quick):
            self._call_upon(binding)
            if service.effects:
                self._perform()
        while request is not None:
            result = error = None
            lock.release()
            try:
                result = copy().run(binding.handler, request)
                if result is not None and type(result) is not bytes:
                    result = encode_result(result)
            except BaseException as raised:  # noqa: BLE001  # the caller gets an answer, whatever it is
                result, error = None, raised
            lock.acquire()
            self._ended_at = now = _clock()
            following = state.end(request, now, result, error)
            if following is not None:
                if isinstance(following, tuple):
                    following = self._publish(request, following, now)
                if following is not None:
                    ready.append(following)
            binding.is_quick = is_quick = request._elapsed < _QUICK
            if (
                ready
                or not (kept and is_quick and begins_quick and self.is_watched)
                or service.effects
                or (outbox := connection.outbox).size >= _TOGETHER
                or len(outbox.commands) >= EARLY
            ):
                break
            take, message = kept.popleft()
            place.request = request = receivers[take](message, _clock())
            if request is not None:
                state = request._endpoint
                binding = state.binding
                if not binding.is_quick:
                    ready.append(request)
                    break
        result = error = None  # an exception would keep this frame alive, and all that is in it
        place.request = None
        self._busy -= 1
        if not begins_quick:
            self._slow -= 1
        return is_quick

    def _finish(self, request: BaseRequest, now: int) -> None:
        """Take leave of a request that is not to be handled any more."""
        following = request._endpoint.finish(request, now)
        if following is not None:
            self._ready.append(following)
        self._settle()

    def _settle(self) -> None:
        """Do what the state machine asks for, and write what comes of it."""
        if self._service.effects:
            self._perform()
        self._write()

    def _read(self, transport: Transport) -> None:
        """Wait for bytes in the place of the reader thread, unless the service has stopped meanwhile."""
        driver = self.driver
        if not self._is_closed:
            self._is_reading = True
            self._busy += 1  # for it comes back as late as from a handler
            driver.lock.release()
            data = driver.read_instead(transport)
            driver.lock.acquire()
            self._busy -= 1
            self._is_reading = False
            if data:
                driver.deliver_instead(transport, data, self)
                self._settle()
        if transport.reading.is_over or self._is_closed or driver.lends_at > _clock():
            self._give_back()

    def _publish(self, request: BaseRequest, reply: Reply, now: int) -> BaseRequest | None:
        """Send what a handler has returned; return the request that gets its slot."""
        unpublished: NatsvcError | None = None
        try:
            self.driver.state.answer(reply)
        except NatsvcError as refused:
            unpublished = refused
        return request._endpoint.finish(request, now, unpublished)

    def _write(self) -> None:
        """Write what there is to write; wait while there is more than should be."""
        driver, lock = self.driver, self.driver.lock
        to_write = driver.begin_write()
        is_full = driver.is_full
        if to_write is not None or is_full:
            if is_full:
                self._busy += 1  # for it comes back as late as from a handler
            lock.release()
            if to_write is not None:
                driver.finish_write(to_write)
            if is_full:
                driver.room()
            lock.acquire()
            if is_full:
                self._busy -= 1
