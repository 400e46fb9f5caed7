"""Whatever users, network and server do, in whatever order: what a connection keeps, sends, and tells."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from natsvc.errors import NatsvcError, OutboundBufferError, RequestTimeoutError
from natsvc.wire.connection import Status, SubscriptionState
from natsvc.wire.effects import Closed, Dial, Disconnect
from tests.wire.machine import SECOND, Machine, Received, Waiting

BUFFER = 60


class Server:
    """What the server of one connection has taken."""

    def __init__(self) -> None:
        self.sids: set[int] = set()
        self.published: list[bytes] = []
        self.pings = 0
        self.has_greeted = False
        self.has_let_in = False

    def take(self, sent: bytes) -> None:
        while sent:
            line, _, sent = sent.partition(b"\r\n")
            words = line.split(b" ")
            if words[0] == b"SUB":
                self.sids.add(int(words[-1]))
            elif words[0] == b"UNSUB":
                self.sids.discard(int(words[-1]))
            elif words[0] == b"PING":
                self.pings += 1
            elif words[0] == b"PUB":
                size = int(words[-1])
                self.published.append(sent[:size])
                sent = sent[size + 2 :]
            else:
                assert words[0] in (b"CONNECT", b"PONG")


class Connections(RuleBasedStateMachine):
    subscriptions = Bundle("subscriptions")
    replies = Bundle("replies")

    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine(
            ["nats://a:1", "nats://b:1"], reconnect_buffer=BUFFER, reconnect_wait=1.0, retry_on_failed_connect=True
        )
        self.server = Server()
        self.number = 0
        self.accepted = 0
        self.arrived: list[int] = []
        self.waiters: list[Waiting] = [self.machine.opened]
        self.deadlines: list[tuple[int, Waiting]] = []
        self.mine: dict[int, tuple[SubscriptionState, Received]] = {}
        self.delivered: dict[int, int] = {}
        self.machine.open()
        self.look()

    # Helpers

    def look(self) -> None:
        """Hand over to the server what was sent; there is a new one for each attempt."""
        if self.machine.number != self.number:
            self.number = self.machine.number
            self.server = Server()
        before = len(self.server.published)
        self.server.take(self.machine.take_sent())
        self.arrived += [int(data) for data in self.server.published[before:]]

    @property
    def is_open(self) -> bool:
        return self.machine.state.is_connected

    @property
    def is_closed(self) -> bool:
        return self.machine.state.is_closed

    @property
    def is_dialled(self) -> bool:
        return not self.machine.is_cut and self.machine.state._attempt is not None

    # The user

    @rule(count=st.integers(1, 4))
    def publish(self, count: int) -> None:
        for _ in range(count):
            try:
                self.machine.publish("p", str(self.accepted).encode())
            except OutboundBufferError:
                assert not self.is_open
            except NatsvcError:
                assert self.is_closed
            else:
                self.accepted += 1
        self.look()

    @precondition(lambda self: not self.is_closed)
    @rule(target=subscriptions, subject=st.sampled_from(["a", "b.*"]), queue_group=st.sampled_from(["", "q"]))
    def subscribe(self, subject: str, queue_group: str) -> SubscriptionState:
        subscription, received = self.machine.subscribe(subject, queue_group)
        self.mine[subscription.sid] = (subscription, received)
        self.delivered[subscription.sid] = 0
        self.look()
        return subscription

    @rule(subscription=subscriptions)
    def unsubscribe(self, subscription: SubscriptionState) -> None:
        self.machine.state.unsubscribe(subscription)
        self.machine.perform()
        self.look()

    @rule(subscription=subscriptions)
    def forget(self, subscription: SubscriptionState) -> None:
        self.machine.state.forget(subscription)
        self.machine.perform()
        self.mine.pop(subscription.sid, None)
        self.look()

    @precondition(lambda self: not self.is_closed)
    @rule()
    def ping(self) -> None:
        self.waiters.append(self.machine.ping())
        self.look()

    @precondition(lambda self: not self.is_closed and self.is_open)
    @rule(target=replies, timeout=st.sampled_from([None, 0.0, 0.5, 3.0, 200.0]))
    def request(self, timeout: float | None) -> str:
        self.server.take(self.machine.take_sent())
        reply, waiting = self.machine.request("p", str(self.accepted).encode(), timeout)
        self.accepted += 1
        if timeout is not None:
            self.deadlines.append((self.machine.now + int(timeout * SECOND), waiting))
        self.waiters.append(waiting)
        self.look()
        return reply

    @precondition(lambda self: not self.is_closed)
    @rule()
    def reconnect(self) -> None:
        self.machine.state.reconnect(self.machine.now)
        self.machine.perform()
        self.look()

    @rule()
    @precondition(lambda self: self.accepted > 8)
    def close(self) -> None:
        self.machine.close()
        last = [one for one in self.machine.all(Disconnect) if one.last_words]
        for one in last[-1:]:
            self.machine.noted.remove(one)
            self.machine.noted.append(Disconnect(one.number))
            self.machine.sent = one.last_words + self.machine.sent
        self.look()

    # The network and the server

    @precondition(lambda self: self.is_dialled)
    @rule()
    def dial(self) -> None:
        self.machine.dial()
        self.look()

    @precondition(lambda self: self.is_dialled)
    @rule()
    def refuse(self) -> None:
        self.machine.refuse()
        self.look()

    @precondition(lambda self: self.is_dialled)
    @rule()
    def greet(self) -> None:
        self.machine.greet()
        self.look()

    @precondition(lambda self: self.server.pings > 0)
    @rule()
    def pong(self) -> None:
        self.server.pings -= 1
        self.machine.receive(b"PONG\r\n")
        self.look()

    @precondition(lambda self: self.is_dialled)
    @rule()
    def let_in(self) -> None:
        if not self.is_open:
            self.machine.dial()
            self.machine.greet()
            self.look()
            if self.server.pings:
                self.server.pings = 0
                self.machine.receive(b"PONG\r\n")
                self.look()

    @precondition(lambda self: self.is_open)
    @rule(sid=st.integers(1, 6))
    def message(self, sid: int) -> None:
        counts = {number: len(received.messages) for number, (_, received) in self.mine.items()}
        self.machine.receive(f"MSG a {sid} 1\r\nx\r\n".encode())
        for number, (_, received) in self.mine.items():
            if not received.is_settled:
                assert len(received.messages) == counts[number] + (
                    number == sid and sid in self.machine.state._subscriptions
                )
        self.look()

    @precondition(lambda self: self.is_open)
    @rule(reply=replies)
    def answer(self, reply: str) -> None:
        self.machine.receive(f"MSG {reply} {max(self.server.sids, default=1)} 1\r\nx\r\n".encode())
        self.look()

    @precondition(lambda self: self.is_dialled)
    @rule(
        text=st.sampled_from(
            [
                "Stale Connection",
                "maximum subscriptions exceeded",
                'Permissions Violation for Subscription to "a"',
                'Permissions Violation for Publish to "p"',
                "Authorization Violation",
            ]
        )
    )
    def complain(self, text: str) -> None:
        self.machine.receive(f"-ERR '{text}'\r\n".encode())
        # A server that has refused a subscription has not got it.
        self.server.sids &= set(self.machine.state._subscriptions)
        self.look()

    @precondition(lambda self: self.is_dialled)
    @rule()
    def lose(self) -> None:
        self.machine.lose()
        self.look()

    @precondition(lambda self: self.is_dialled)
    @rule(data=st.sampled_from([b"WHAT\r\n", b"MSG a 1 -1\r\n", b"MSG a 1 1\r\nxyz"]))
    def send_nonsense(self, data: bytes) -> None:
        self.machine.receive(data)
        self.look()

    @rule(seconds=st.sampled_from([0.1, 1.0, 2.5, 130.0]))
    def pass_time(self, seconds: float) -> None:
        self.machine.pass_time(seconds)
        self.look()
        assert all(waiting.is_settled for deadline, waiting in self.deadlines if deadline <= self.machine.now)

    # What always holds

    @invariant()
    def nobody_is_told_twice(self) -> None:
        for waiting in self.waiters:
            assert len(waiting.outcomes) <= 1
        for _, received in self.mine.values():
            assert len(received.outcomes) <= 1

    @invariant()
    def no_request_times_out_before_its_time(self) -> None:
        for deadline, waiting in self.deadlines:
            if deadline > self.machine.now:
                assert not any(isinstance(outcome, RequestTimeoutError) for outcome in waiting.outcomes)

    @invariant()
    def after_the_end_nobody_waits(self) -> None:
        if self.is_closed:
            assert all(waiting.is_settled for waiting in self.waiters)
            assert self.machine.wake_at is None
            assert all(received.is_settled or subscription.is_leaving for subscription, received in self.mine.values())
            assert len(self.machine.all(Closed)) == 1
            assert self.machine.is_cut
            assert not self.machine.state.has_outgoing

    @invariant()
    def the_server_has_exactly_the_subscriptions(self) -> None:
        if self.is_open:
            state = self.machine.state
            assert self.server.sids == {sid for sid, one in state._subscriptions.items() if not one.is_leaving}

    @invariant()
    def messages_are_sent_once_and_in_their_order(self) -> None:
        assert self.arrived == sorted(set(self.arrived))

    @invariant()
    def with_a_connection_all_that_was_accepted_has_been_sent(self) -> None:
        if self.is_open:
            assert self.arrived == list(range(self.accepted))
            assert self.machine.state.outgoing_size == 0

    @invariant()
    def what_is_kept_is_bounded(self) -> None:
        assert self.machine.state.outgoing_size <= BUFFER

    @invariant()
    def there_is_one_attempt_at_a_time(self) -> None:
        open_attempts = 0
        for effect in self.machine.noted:
            if isinstance(effect, Dial):
                open_attempts += 1
            elif isinstance(effect, Disconnect):
                open_attempts -= 1
            assert open_attempts in (0, 1)

    @invariant()
    def a_connection_that_is_not_closed_always_waits_for_something(self) -> None:
        if self.machine.state.status is not Status.CLOSED:
            assert self.machine.state._wake_at is not None


Connections.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestConnections: Any = Connections.TestCase
