"""Drives the state machine of a connection as a front-end would, with a server that a test writes line by line."""

from __future__ import annotations

import json
import random
from typing import Any, TypeVar

from natsvc.message import Message
from natsvc.wire.connection import ConnectionState, SubscriptionState
from natsvc.wire.effects import Closed, Dial, Disconnect, Effect, Notify, Settle, StartTls, WakeAt
from natsvc.wire.options import ConnectOptions

E = TypeVar("E", bound=Effect)

SECOND = 1_000_000_000


class Waiting:
    """Somebody who waits, and what came of it."""

    def __init__(self) -> None:
        self.outcomes: list[Any] = []

    def __call__(self, outcome: Any) -> None:
        self.outcomes.append(outcome)

    @property
    def is_settled(self) -> bool:
        return bool(self.outcomes)

    @property
    def outcome(self) -> Any:
        (outcome,) = self.outcomes
        return outcome


class Received(Waiting):
    """A subscription's messages, and how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[Message] = []

    def receive(self, message: Message) -> None:
        self.messages.append(message)


class Machine:
    """A connection under test. Effects are performed as they come: waiters are told, the rest is noted."""

    def __init__(self, servers: str | list[str] = "nats://a:1", **options: Any) -> None:
        options.setdefault("randomize", False)
        options.setdefault("reconnect_jitter", 0.0)
        self.state = ConnectionState(ConnectOptions(servers, **options), version="1.2.3", random=random.Random(1))
        self.now = 1_000 * SECOND
        self.noted: list[Effect] = []
        self.sent = b""
        self.opened = Waiting()

    # Effects

    def perform(self) -> None:
        while self.state.effects:
            for effect in self.state.take_effects():
                if isinstance(effect, Settle):
                    effect.waiter(effect.outcome)
                else:
                    self.noted.append(effect)
        if self.state.has_outgoing:
            self.sent += self.state.take_outgoing()

    def all(self, kind: type[E]) -> list[E]:
        return [effect for effect in self.noted if isinstance(effect, kind)]

    def last(self, kind: type[E]) -> E:
        return self.all(kind)[-1]

    def notices(self, callback: str) -> list[Any]:
        """What a callback was called with; of those without arguments, None."""
        return [(*one.arguments, None)[0] for one in self.all(Notify) if one.callback == callback]

    @property
    def number(self) -> int:
        return self.last(Dial).number

    @property
    def dialled_hosts(self) -> list[str]:
        return [dial.address.host for dial in self.all(Dial)]

    @property
    def is_cut(self) -> bool:
        """Whether the current attempt has been ended."""
        return any(one.number == self.number for one in self.all(Disconnect))

    @property
    def wake_at(self) -> int | None:
        return self.last(WakeAt).time

    @property
    def closed_by(self) -> BaseException | None:
        (closed,) = self.all(Closed)
        return closed.error

    @property
    def asked_for_tls(self) -> bool:
        return any(one.number == self.number for one in self.all(StartTls))

    def take_sent(self) -> bytes:
        sent, self.sent = self.sent, b""
        return sent

    # The user

    def open(self) -> Machine:
        self.state.open(self.opened, self.now)
        self.perform()
        return self

    def publish(self, subject: str, data: bytes = b"", **more: Any) -> None:
        self.state.publish(subject, data, **more)
        self.perform()

    def subscribe(self, subject: str, queue_group: str = "") -> tuple[SubscriptionState, Received]:
        received = Received()
        subscription = self.state.subscribe(subject, queue_group, received.receive, received)
        self.perform()
        return subscription, received

    def ping(self) -> Waiting:
        waiting = Waiting()
        self.state.ping(waiting)
        self.perform()
        return waiting

    def request(self, subject: str, data: bytes = b"", timeout: float | None = None) -> tuple[str, Waiting]:
        waiting = Waiting()
        reply = self.state.request(subject, data, None, waiting, now=self.now, timeout=timeout)
        self.perform()
        return reply, waiting

    def collect(self, subject: str, data: bytes = b"") -> tuple[SubscriptionState, Received, Waiting]:
        received, failed = Received(), Waiting()
        subscription = self.state.collect(subject, data, None, received.receive, failed)
        self.perform()
        return subscription, received, failed

    def close(self, error: BaseException | None = None) -> None:
        self.state.close(error)
        self.perform()

    # The network

    def dial(self) -> Machine:
        self.state.dialled(self.number)
        self.perform()
        return self

    def refuse(self) -> None:
        self.state.dial_failed(self.number, ConnectionRefusedError("refused"), self.now)
        self.perform()

    def start_tls(self) -> None:
        self.state.tls_started(self.number, self.now)
        self.perform()

    def lose(self, error: BaseException | None = None) -> None:
        self.state.lost(self.number, error, self.now)
        self.perform()

    def receive(self, data: bytes) -> None:
        for receive, message in self.state.received(self.number, data, self.now):
            receive(message)
        self.perform()

    def greet(self, **info: Any) -> None:
        self.receive(b"INFO " + json.dumps({"max_payload": 1024 * 1024, "headers": True, **info}).encode() + b"\r\n")

    def let_in(self, **info: Any) -> Machine:
        """The server greets and takes us."""
        self.dial()
        self.greet(**info)
        self.receive(b"PONG\r\n")
        return self

    def connected(self, **info: Any) -> Machine:
        self.open()
        self.let_in(**info)
        assert self.opened.outcome is None
        self.take_sent()
        return self

    def pass_time(self, seconds: float) -> None:
        """Let time pass; the state machine is woken when it wants to be."""
        until = self.now + round(seconds * SECOND)
        while self.all(WakeAt) and (at := self.wake_at) is not None and at <= until:
            self.now = at
            self.state.wake(self.now)
            self.perform()
        self.now = until

    def wait_for_dial(self) -> Machine:
        """Let time pass until the next attempt begins."""
        while self.is_cut:
            assert self.wake_at is not None
            self.now = max(self.now, self.wake_at)
            self.state.wake(self.now)
            self.perform()
        return self
