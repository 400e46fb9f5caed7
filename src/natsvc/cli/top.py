"""The command that watches services: it asks for their stats again and again, and shows what changes in between.

In a terminal it draws on the whole screen and listens to keys; elsewhere it prints a table, or a line of JSON, for each
interval. One thread asks, another one reads keys; the main thread takes what they have to say from one queue, and alone
decides what is shown.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import json
import logging
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from natsvc.cli import output
from natsvc.cli.keys import pressed_keys
from natsvc.cli.output import UsageError, in_one_line, log_to_stderr, print_table
from natsvc.cli.rates import GONE_FOR, Order, Rates, Row, sort_rows
from natsvc.cli.top_screen import View, draw, rows_table
from natsvc.signals import first_signal
from natsvc.sync import Connection, ServiceClient, ServiceStats

if TYPE_CHECKING:
    from rich.live import Live

    from natsvc.cli.settings import ConnectionSettings

__all__ = ["top"]

_SHORTEST_INTERVAL = 0.1
_SHORTEST_TIMEOUT = 1.0
"""Seconds that a round may take in any case, though the interval is shorter: an instance that is busy has not gone."""

_LONGEST_STALL = 0.25
_PIECE = 0.25
"""Seconds that the main thread waits without a look at whether there was a signal, where none interrupts the wait."""

_QUIT = "q"

_ENDING = [number for name in ("SIGTERM", "SIGINT", "SIGHUP") if (number := getattr(signal, name, None)) is not None]
"""The signals that end it; Windows has no SIGHUP."""


@dataclass(frozen=True, slots=True)
class _Answers:
    """What the services have answered, and when they were asked."""

    stats: list[ServiceStats]
    asked_at: int


@dataclass(frozen=True, slots=True)
class _Key:
    """A key that was pressed."""

    name: str


@dataclass(frozen=True, slots=True)
class _Signal:
    """A signal that ends the command."""

    number: int


@dataclass(frozen=True, slots=True)
class _Redraw:
    """The screen is to be drawn anew: it has another size, or there is something to say."""


_Event: TypeAlias = _Answers | _Key | _Signal | _Redraw | Exception


def top(
    settings: ConnectionSettings,
    name: str | None = None,
    *,
    interval: float = 1.0,
    count: int | None = None,
    order: Order = Order.REQUESTS,
    reverse: bool = False,
    as_json: bool = False,
) -> None:
    """Show the load of services until told to stop.

    Args:
        settings: How to connect, and how long to wait for answers.
        name: The service. None: all.
        interval: Seconds from one look at the services to the next.
        count: Stop after so many intervals. None: never.
        order: What the rows are sorted by at first.
        reverse: Whether the other way round.
        as_json: Print a line of JSON for each interval.

    Raises:
        UsageError: The interval is too short.
        NatsvcError: The services can't be asked, or the connection is closed for good.
        KeyboardInterrupt: Ctrl-C has ended it.
    """
    if interval < _SHORTEST_INTERVAL:
        raise UsageError(f"--interval {interval:g} is shorter than {_SHORTEST_INTERVAL:g} seconds")
    view = View(order, reverse)
    if not as_json and sys.stdout.isatty():
        _Screen(settings, name, interval, count, view).show()
        return
    log_to_stderr()
    rates = _rates(interval)
    with settings.connect() as nc:
        for number, answers in enumerate(_asked(nc, name, interval, settings.timeout, time.sleep)):
            rates.update(answers.stats, answers.asked_at)
            if number:  # the first round is what the second one is compared with
                _print(sort_rows(rates.rows, view.order, reverse=view.reverse), view, as_json=as_json)
            if number == count:
                return


def _rates(interval: float) -> Rates:
    return Rates(max(GONE_FOR, 2.5 * interval))  # a single answer that is missing must not make it forget


def _asked(
    nc: Connection, name: str | None, interval: float, timeout: float, wait: Callable[[float], object]
) -> Iterator[_Answers]:
    """Ask the services, at once and after each interval; an answer that comes late belongs to none."""
    client = ServiceClient(nc)
    timeout = min(timeout, max(interval, _SHORTEST_TIMEOUT))
    stall = min(_LONGEST_STALL, interval / 2)
    while True:
        asked_at = time.perf_counter_ns()
        yield _Answers(client.stats(name, timeout=timeout, stall=stall), asked_at)
        wait(max(0.0, interval - (time.perf_counter_ns() - asked_at) / 1e9))


def _print(rows: list[Row], view: View, *, as_json: bool) -> None:
    now = dt.datetime.now(dt.UTC)
    if as_json:
        print(json.dumps({"time": now.isoformat(), "endpoints": [row.to_dict() for row in rows]}), flush=True)
        return
    if rows:
        print_table(rows_table(rows, view, title=f"{now.astimezone():%H:%M:%S}"))
    else:
        print(f"{now.astimezone():%H:%M:%S} no service answers")
    print(flush=True)


class _Screen:
    """The table on the whole screen."""

    def __init__(
        self, settings: ConnectionSettings, name: str | None, interval: float, count: int | None, view: View
    ) -> None:
        self._settings = settings
        self._name = name
        self._interval = interval
        self._count = count
        self._view = view
        self._rates = _rates(interval)
        self._rounds = 0
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._log = _LastMessage(lambda: self._events.put(_Redraw()))

    def show(self) -> None:
        """Show it until a key, a signal or an error ends it; the terminal is then as it was."""
        with contextlib.ExitStack() as block:
            block.enter_context(self._log.listening())
            nc = block.enter_context(self._settings.connect())
            ended_by = self._show(nc)
        if self._count is not None and ended_by is None:
            print_table(rows_table(self._sorted(), self._view, width=output.console.width))
        if ended_by is not None:
            signal.raise_signal(ended_by)  # it does now what it would have done without us

    def _show(self, nc: Connection) -> int | None:
        """Show the screen; return the signal that has ended it, if it was one."""
        from rich.live import Live

        live = Live(
            console=output.console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        with contextlib.ExitStack() as block:
            # Signals first, so that none of them ends the process before the terminal is as it was.
            for number in _ENDING:
                if signal.getsignal(number) is signal.SIG_IGN:
                    continue  # as it is for a command that is to outlive its terminal
                block.enter_context(first_signal((number,), functools.partial(self._events.put, _Signal(number))))
            block.enter_context(self._resizes())
            block.enter_context(live)
            block.enter_context(pressed_keys(lambda key: self._events.put(_Key(key))))
            block.enter_context(self._asking(nc))
            self._draw(live, nc)
            while True:
                match self._next_event():
                    case _Key(name) if name == _QUIT:
                        return None
                    case _Key(name):
                        self._view = self._view.press(name)
                    case _Answers(stats, asked_at):
                        self._rates.update(stats, asked_at)
                        self._rounds += 1
                        if self._count is not None and self._rounds > self._count:
                            return None
                    case _Signal(ending):
                        return ending
                    case Exception() as error:
                        raise error
                self._draw(live, nc)

    def _next_event(self) -> _Event:
        while True:
            with contextlib.suppress(queue.Empty):
                return self._events.get(timeout=_PIECE)

    def _draw(self, live: Live, nc: Connection) -> None:
        screen = draw(
            self._rates.rows,
            self._view,
            title="natsvc top" if self._name is None else f"natsvc top {self._name}",
            asked=f"at {nc.connected_url or 'no server'}, every {self._interval:g} s",
            problem="" if nc.is_connected and self._log.is_old else self._log.text or "not connected",
            wait=not self._rounds,
            width=output.console.width,
            height=output.console.height,
        )
        live.update(screen, refresh=True)

    def _sorted(self) -> list[Row]:
        return sort_rows(self._rates.rows, self._view.order, reverse=self._view.reverse)

    @contextlib.contextmanager
    def _asking(self, nc: Connection) -> Iterator[None]:
        """Within the block, have a thread ask the services."""
        ended = threading.Event()

        def ask() -> None:
            try:
                for answers in _asked(nc, self._name, self._interval, self._settings.timeout, ended.wait):
                    if ended.is_set():
                        return
                    self._events.put(answers)
            except Exception as error:  # noqa: BLE001  # whatever it is, the main thread raises it
                self._events.put(error)

        threading.Thread(target=ask, name="natsvc-top-ask", daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    @contextlib.contextmanager
    def _resizes(self) -> Iterator[None]:
        """Within the block, draw anew when the terminal has got another size."""
        if sys.platform == "win32":  # which doesn't tell; the next interval sees it
            yield
            return
        before = signal.signal(signal.SIGWINCH, lambda *_: self._events.put(_Redraw()))
        try:
            yield
        finally:
            signal.signal(signal.SIGWINCH, before)


class _LastMessage(logging.Handler):
    """Keeps what the library has last logged, for a line of it on stderr would tear the screen."""

    _SHOWN_FOR = 5.0

    def __init__(self, told: Callable[[], object]) -> None:
        super().__init__()
        self._told = told
        self.text = ""
        self._at = -self._SHOWN_FOR

    @property
    def is_old(self) -> bool:
        """Whether it has been shown for long enough."""
        return time.monotonic() - self._at > self._SHOWN_FOR

    def emit(self, record: logging.LogRecord) -> None:
        self.text = in_one_line(record.getMessage())
        self._at = time.monotonic()
        self._told()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Within the block, hear what natsvc logs."""
        logger = logging.getLogger("natsvc")
        logger.addHandler(self)
        try:
            yield
        finally:
            logger.removeHandler(self)
