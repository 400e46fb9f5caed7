"""The server pool: which server is tried when, what is given up, and what is learned and forgotten."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from natsvc.errors import AuthorizationError
from natsvc.wire.addresses import ServerAddress, parse_servers
from natsvc.wire.options import ConnectOptions
from natsvc.wire.pool import MAX_DISCOVERED_SERVERS, Attempt, ServerPool

MILLISECOND = 1_000_000
SECOND = 1000 * MILLISECOND
VIOLATION = "'Authorization Violation'"


def make_pool(servers: Any = "a,b,c", **given: Any) -> ServerPool:
    """A pool without anything random, in which waits are 2, 4, 8, 16, 30 seconds."""
    fixed = {"randomize": False, "reconnect_jitter": 0, "reconnect_jitter_tls": 0}
    return ServerPool(ConnectOptions(servers, **{**fixed, **given}), Random(1))


def address(url: str) -> ServerAddress:
    return parse_servers([url])[0]


A, B, C, D = map(address, "abcd")


def fail(pool: ServerPool, now: int) -> Attempt | None:
    """Try what is to be tried next, and fail."""
    attempt = pool.next(now)
    if attempt is not None:
        pool.failed(attempt.address, attempt.at, ConnectionRefusedError(attempt.address.host))
    return attempt


def failing(pool: ServerPool, count: int, now: int = 0) -> list[tuple[str, int]]:
    """Fail so many times; return each attempt's host and its time in seconds."""
    attempts = []
    for _ in range(count):
        attempt = fail(pool, now)
        if attempt is None:
            break
        now = attempt.at
        attempts.append((attempt.address.host, attempt.at // SECOND))
    return attempts


def connect(pool: ServerPool, now: int = 0) -> ServerAddress:
    attempt = pool.next(now)
    assert attempt is not None
    pool.connected(attempt.address, now)
    return attempt.address


# The first connection


def test_at_first_each_server_is_tried_once_without_any_wait() -> None:
    pool = make_pool()
    assert failing(pool, 9) == [("a", 0), ("b", 0), ("c", 0)]
    assert pool.next(100 * SECOND) is None


def test_with_retry_on_failed_connect_it_goes_on_with_waits() -> None:
    pool = make_pool("a,b", retry_on_failed_connect=True)
    assert failing(pool, 8) == [("a", 0), ("b", 0), ("a", 2), ("b", 2), ("a", 6), ("b", 6), ("a", 14), ("b", 14)]


def test_the_first_attempt_is_no_reconnect() -> None:
    pool = make_pool("a,b", retry_on_failed_connect=True, max_reconnects=1)
    assert failing(pool, 9) == [("a", 0), ("b", 0), ("a", 2), ("b", 2)]


def test_servers_that_are_named_during_the_first_connection_are_tried_too() -> None:
    pool = make_pool("a")
    assert fail(pool, 0) == Attempt(A, 0)
    pool.discovered(["d:4222"], A)
    assert failing(pool, 9) == [("d", 0)]


def test_asking_changes_nothing() -> None:
    pool = make_pool()
    assert [pool.next(7), pool.next(7), pool.next(9)] == [Attempt(A, 7), Attempt(A, 7), Attempt(A, 9)]


def test_servers_are_tried_in_random_order() -> None:
    names = [f"s{number}" for number in range(20)]
    pools = [ServerPool(ConnectOptions(names), Random(seed)) for seed in (1, 2)]
    orders = [[one.host for one in pool.servers] for pool in pools]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(names)


def test_servers_are_tried_in_the_given_order_on_request() -> None:
    assert [one.host for one in make_pool("c,a,b").servers] == ["c", "a", "b"]


# Reconnecting


def test_after_a_disconnect_the_other_servers_are_tried_first_and_all_at_once() -> None:
    pool = make_pool()
    assert connect(pool) == A
    pool.disconnected(A, 100 * SECOND)
    assert failing(pool, 5, 100 * SECOND) == [("b", 100), ("c", 100), ("a", 100), ("b", 102), ("c", 102)]


def test_an_only_server_is_tried_at_once_when_it_was_there_for_longer_than_the_wait() -> None:
    pool = make_pool("a")
    connect(pool, 0)
    pool.disconnected(A, 2 * SECOND)
    assert pool.next(2 * SECOND) == Attempt(A, 2 * SECOND)


def test_a_server_that_drops_its_clients_at_once_is_not_hammered() -> None:
    pool = make_pool("a,b")
    connect(pool, 0)
    pool.disconnected(A, 1)
    pool.connected(B, 1)
    pool.disconnected(B, 2)
    assert pool.next(2) == Attempt(A, 2 * SECOND)


def test_the_wait_doubles_up_to_its_end() -> None:
    pool = make_pool("a")
    connect(pool)
    pool.disconnected(A, 10 * SECOND)
    times = [at for _, at in failing(pool, 8, 10 * SECOND)]
    assert [later - earlier for earlier, later in pairwise(times)] == [2, 4, 8, 16, 30, 30, 30]


def test_a_wait_that_is_longer_than_the_end_of_doubling_stays_as_it_is() -> None:
    pool = make_pool("a", retry_on_failed_connect=True, reconnect_wait=60)
    assert failing(pool, 3) == [("a", 0), ("a", 60), ("a", 120)]


def test_of_several_servers_that_may_be_tried_the_first_is_the_one_that_was_not_for_the_longest() -> None:
    pool = make_pool("a,b", retry_on_failed_connect=True)
    for _ in range(3):
        pool.failed(A, 0, ConnectionRefusedError())
    pool.failed(B, SECOND, ConnectionRefusedError())
    assert pool.next(SECOND) == Attempt(B, 3 * SECOND)
    assert pool.next(20 * SECOND) == Attempt(A, 20 * SECOND)


def test_no_wait_at_all_stays_none() -> None:
    pool = make_pool("a", retry_on_failed_connect=True, reconnect_wait=0)
    assert failing(pool, 100) == [("a", 0)] * 100


def test_the_wait_starts_anew_after_a_connection() -> None:
    pool = make_pool("a")
    connect(pool)
    pool.disconnected(A, 10 * SECOND)
    failing(pool, 6, 10 * SECOND)
    pool.connected(A, 1000 * SECOND)
    pool.disconnected(A, 2000 * SECOND)
    assert failing(pool, 3, 2000 * SECOND) == [("a", 2000), ("a", 2002), ("a", 2006)]


def test_a_connection_shortens_the_waits_of_the_other_servers_too() -> None:
    pool = make_pool("a,b")
    connect(pool)
    pool.disconnected(A, 10 * SECOND)
    failing(pool, 10, 10 * SECOND)
    assert pool.next(50 * SECOND) == Attempt(B, 70 * SECOND)
    pool.connected(A, 50 * SECOND)
    pool.disconnected(A, 51 * SECOND)
    assert pool.next(51 * SECOND) == Attempt(B, 52 * SECOND)


def test_very_many_failures_are_waited_for_no_longer() -> None:
    pool = make_pool("a", retry_on_failed_connect=True, reconnect_wait=1e-9)
    assert failing(pool, 1000)[-1][0] == "a"
    before = pool.next(0)
    assert before is not None
    fail(pool, 0)
    assert pool.next(0) == Attempt(A, before.at + 30 * SECOND)


def test_a_server_may_fail_as_often_as_max_reconnects_says() -> None:
    pool = make_pool("a,b", max_reconnects=2)
    connect(pool)
    pool.disconnected(A, 10 * SECOND)
    assert failing(pool, 9, 10 * SECOND) == [("b", 10), ("a", 10), ("b", 12), ("a", 12)]


def test_failures_are_counted_from_the_last_connection_on() -> None:
    pool = make_pool("a,b", max_reconnects=1)
    connect(pool)
    for now in (10, 20, 30):
        pool.disconnected(A, now * SECOND)
        assert failing(pool, 1, now * SECOND) == [("b", now)]
        pool.connected(A, now * SECOND)


@pytest.mark.parametrize("given", [{"allow_reconnect": False}, {"max_reconnects": 0}])
def test_without_reconnects_a_lost_connection_is_the_end(given: dict[str, Any]) -> None:
    pool = make_pool(**given)
    connect(pool)
    pool.disconnected(A, SECOND)
    assert pool.next(SECOND) is None


def test_a_reconnect_on_demand_goes_to_another_server_without_any_wait() -> None:
    pool = make_pool("a,b")
    connect(pool, 0)
    pool.disconnected(A, 1, on_demand=True)
    pool.connected(B, 1)
    pool.disconnected(B, 2, on_demand=True)
    assert pool.next(2) == Attempt(A, 2)


def test_a_reconnect_on_demand_waits_after_its_first_round() -> None:
    pool = make_pool("a,b")
    connect(pool, 0)
    pool.disconnected(A, SECOND, on_demand=True)
    assert failing(pool, 3, SECOND) == [("b", 1), ("a", 1), ("b", 3)]


@given(st.integers(), st.booleans(), st.integers(0, 10))
def test_the_jitter_is_that_of_tls_where_tls_is_demanded(seed: int, secure: bool, failures: int) -> None:
    options = ConnectOptions("tls://a" if secure else "a", retry_on_failed_connect=True)
    pool = ServerPool(options, Random(seed))
    failing(pool, failures)
    before = pool.next(0)
    assert before is not None
    fail(pool, 0)
    after = pool.next(0)
    assert after is not None
    base = min(2 * SECOND << failures, 30 * SECOND)
    jitter = after.at - before.at - base
    assert 0 <= jitter <= (SECOND if secure else SECOND // 10)


@pytest.mark.parametrize(("url", "least"), [("a", 1), ("tls://a", SECOND // 10)])
@pytest.mark.parametrize("was_there", [True, False])
def test_clients_that_lost_the_same_server_come_back_at_different_times(url: str, least: int, was_there: bool) -> None:
    times = set()
    for seed in range(50):
        pool = ServerPool(ConnectOptions(url, retry_on_failed_connect=True), Random(seed))
        if was_there:
            connect(pool)
        else:
            fail(pool, 0)
        attempt = pool.next(0)
        assert attempt is not None
        times.add(attempt.at)
    assert len(times) == 50
    assert max(times) - min(times) > least


# What failed


def test_the_last_error_is_kept_until_there_is_a_connection() -> None:
    pool = make_pool("a,b")
    assert (pool.last_error, pool.errors) == (None, ())
    failing(pool, 2)
    assert str(pool.last_error) == "b"
    assert [str(error) for error in pool.errors] == ["a", "b"]
    pool.connected(A, 0)
    assert (pool.last_error, pool.errors) == (None, ())


def test_of_each_server_the_last_error_is_kept() -> None:
    pool = make_pool("a,b", retry_on_failed_connect=True)
    failing(pool, 2)
    pool.failed(A, 0, AuthorizationError("no"))
    assert [str(error) for error in pool.errors] == ["b", "no"]


def test_what_is_told_of_a_server_that_is_not_in_the_pool_changes_no_server() -> None:
    pool = make_pool("a,b")
    error = ConnectionRefusedError("d")
    pool.failed(D, 0, error)
    pool.disconnected(D, 0)
    assert not pool.authentication_failed(D, VIOLATION)
    assert not pool.authentication_failed(D, VIOLATION)
    pool.connected(D, 0)
    assert pool.servers == (A, B)
    pool.disconnected(D, 0)
    assert pool.next(0) == Attempt(A, 0)


# Refused credentials


@pytest.mark.parametrize("text", [VIOLATION, ""])
def test_the_second_refusal_in_the_same_words_closes_for_good(text: str) -> None:
    pool = make_pool()
    assert [pool.authentication_failed(A, text) for _ in range(3)] == [False, True, True]


def test_case_quotes_and_blanks_make_no_other_words() -> None:
    pool = make_pool()
    assert not pool.authentication_failed(A, "'Authorization Violation'")
    assert pool.authentication_failed(A, "  authorization  VIOLATION ")


def test_other_words_begin_a_new_run() -> None:
    pool = make_pool()
    texts = [VIOLATION, "Authentication Timeout", VIOLATION, VIOLATION]
    assert [pool.authentication_failed(A, text) for text in texts] == [False, False, False, True]


def test_each_server_has_its_own_run_and_other_failures_do_not_end_it() -> None:
    pool = make_pool("a,b")
    assert not pool.authentication_failed(A, VIOLATION)
    assert not pool.authentication_failed(B, VIOLATION)
    pool.failed(A, 0, ConnectionRefusedError())
    pool.connected(B, 0)
    pool.disconnected(B, 0)
    assert pool.authentication_failed(A, VIOLATION)


def test_a_connection_ends_the_run_of_its_server() -> None:
    pool = make_pool("a,b")
    assert not pool.authentication_failed(A, VIOLATION)
    pool.connected(A, 0)
    pool.disconnected(A, 0)
    assert not pool.authentication_failed(A, VIOLATION)
    assert pool.authentication_failed(A, VIOLATION)


@pytest.mark.parametrize("notice", ["'User Authentication Revoked'", VIOLATION])
def test_credentials_revoked_while_connected_close_at_the_second_refusal(notice: str) -> None:
    pool = make_pool("a")
    connect(pool)
    assert not pool.authentication_failed(A, notice)
    pool.disconnected(A, 0)
    assert not pool.authentication_failed(A, VIOLATION)
    assert pool.authentication_failed(A, VIOLATION)


def test_on_request_refusals_never_close() -> None:
    pool = make_pool(ignore_auth_errors=True)
    assert not any(pool.authentication_failed(A, VIOLATION) for _ in range(5))


# Discovered servers


def test_servers_that_a_server_names_are_added() -> None:
    pool = make_pool("nats://u:p@a,b")
    current = pool.servers[0]
    added = pool.discovered(["a:4222", "b:4222", "c:4222", "[::1]:1", "10.0.0.1:2"], current)
    assert added == (
        ServerAddress("nats", "c", user="u", password="p"),
        ServerAddress("nats", "::1", 1, user="u", password="p", tls_name="a"),
        ServerAddress("nats", "10.0.0.1", 2, user="u", password="p", tls_name="a"),
    )
    assert pool.servers == (current, B, *added)


def test_a_server_that_was_named_before_is_not_new() -> None:
    pool = make_pool("a")
    assert pool.discovered(["d", "d:4222", "D:4222"], A) == (D,)
    assert pool.discovered(["d"], A) == ()


def test_discovered_servers_that_are_no_longer_named_are_forgotten_but_not_given_ones() -> None:
    pool = make_pool("a,b")
    pool.discovered(["c", "d"], A)
    pool.discovered(["d"], A)
    assert pool.servers == (A, B, D)


def test_the_current_server_is_not_forgotten_while_it_is_the_current_one() -> None:
    pool = make_pool("a")
    pool.discovered(["c", "d"], A)
    pool.discovered(["c"], D)
    assert list(pool.servers) == [A, C, D]
    pool.discovered(["c"], C)
    assert list(pool.servers) == [A, C]


@pytest.mark.parametrize("urls", [None, [], {}, "d:4222", 1, [None, 1, "", "x y", "::1", "u:p@h", "h:x"]])
def test_an_info_that_names_no_servers_changes_nothing(urls: object) -> None:
    pool = make_pool("a")
    pool.discovered(["c"], A)
    assert pool.discovered(urls, A) == ()
    assert pool.servers == (A, C)


def test_what_is_no_host_and_port_is_skipped() -> None:
    pool = make_pool("a")
    assert pool.discovered(["x y", "d", 7, ["e"]], A) == (D,)


def test_on_request_no_servers_are_discovered() -> None:
    pool = make_pool("a", ignore_discovered_servers=True)
    assert pool.discovered(["d"], A) == ()
    assert pool.servers == (A,)


def test_only_so_many_discovered_servers_are_remembered() -> None:
    pool = make_pool("a,b")
    assert len(pool.discovered([f"s{number}" for number in range(3000)], A)) == MAX_DISCOVERED_SERVERS
    assert pool.discovered([f"s{number}" for number in range(500, 5000)], A)
    assert len(pool.servers) == 2 + MAX_DISCOVERED_SERVERS


def test_clients_of_one_server_go_to_different_ones_when_it_fails() -> None:
    first = set()
    for seed in range(100):
        pool = ServerPool(ConnectOptions("a,b"), Random(seed))
        pool.connected(A, 0)
        pool.discovered(["c", "d"], A)
        pool.disconnected(A, SECOND)
        attempt = pool.next(SECOND)
        assert attempt is not None
        first.add(attempt.address)
    assert first == {B, C, D}


# Whatever happens

HOSTS = [f"h{number}" for number in range(6)]


class Pool(RuleBasedStateMachine):
    """Attempts, connections and INFOs in any order, against what the rules say of each server by itself."""

    @initialize(
        given=st.lists(st.sampled_from(HOSTS), min_size=1, max_size=3, unique=True),
        seed=st.integers(0, 1000),
        retry=st.booleans(),
        allow=st.booleans(),
        randomize=st.booleans(),
        most=st.none() | st.integers(0, 3),
        wait=st.sampled_from([0, 1, 50]),
        longest=st.sampled_from([0, 2, 400]),
        jitter=st.sampled_from([0, 10]),
    )
    def begin(
        self,
        given: list[str],
        seed: int,
        retry: bool,
        allow: bool,
        randomize: bool,
        most: int | None,
        wait: int,
        longest: int,
        jitter: int,
    ) -> None:
        self.options = ConnectOptions(
            given,
            retry_on_failed_connect=retry,
            allow_reconnect=allow,
            randomize=randomize,
            max_reconnects=most,
            reconnect_wait=wait / 1000,
            reconnect_max_wait=longest / 1000,
            reconnect_jitter=jitter / 1000,
        )
        self.pool = ServerPool(self.options, Random(seed))
        self.now = 0
        self.given = set(self.options.addresses)
        self.named: set[ServerAddress] = set()
        self.current: ServerAddress | None = None
        self.connections = 0
        self.shortest = wait * MILLISECOND
        self.longest = (max(wait, longest) + jitter) * MILLISECOND
        self.tried: dict[ServerAddress, int] = {}
        self.failures: dict[ServerAddress, int] = {}
        self.hurried: set[ServerAddress] = set()

    @property
    def limit(self) -> int | None:
        if self.connections:
            return self.options.max_reconnects if self.options.allow_reconnect else 0
        if not self.options.retry_on_failed_connect:
            return 1
        return None if self.options.max_reconnects is None else 1 + self.options.max_reconnects

    def attempt(self) -> Attempt | None:
        attempt = self.pool.next(self.now)
        known = self.given | self.named
        limit = self.limit
        left = {one for one in known if limit is None or self.failures.get(one, 0) < limit}
        if attempt is None:
            assert not left
            return None
        assert attempt.address in left
        assert attempt.at >= self.now
        never = {one for one in left if one not in self.tried or one in self.hurried}
        if never:
            assert attempt.at == self.now
        tried = self.tried.get(attempt.address)
        if tried is not None and attempt.address not in self.hurried:
            assert attempt.at >= tried + self.shortest
        for one in left & set(self.tried):
            assert attempt.at <= max(self.now, self.tried[one] + self.longest)
        return attempt

    @precondition(lambda self: self.current is None)
    @rule(early=st.booleans())
    def fail(self, early: bool) -> None:
        attempt = self.attempt()
        if attempt is None:
            return
        self.now = attempt.at if early else attempt.at + 7 * MILLISECOND
        self.pool.failed(attempt.address, self.now, ConnectionRefusedError())
        self.tried[attempt.address] = self.now
        self.failures[attempt.address] = self.failures.get(attempt.address, 0) + 1
        self.hurried.discard(attempt.address)

    @precondition(lambda self: self.current is None)
    @rule()
    def connect(self) -> None:
        attempt = self.attempt()
        if attempt is None:
            return
        self.now = attempt.at
        self.pool.connected(attempt.address, self.now)
        self.tried[attempt.address] = self.now
        self.hurried.discard(attempt.address)
        self.failures.clear()
        self.current = attempt.address
        self.connections += 1

    @precondition(lambda self: self.current is not None)
    @rule(on_demand=st.booleans())
    def disconnect(self, on_demand: bool) -> None:
        assert self.current is not None
        self.pool.disconnected(self.current, self.now, on_demand=on_demand)
        assert self.pool.servers[-1] == self.current
        if on_demand:
            self.hurried |= set(self.tried)
        self.current = None

    @precondition(lambda self: self.current is not None)
    @rule(hosts=st.lists(st.sampled_from([*HOSTS, "bad host"])))
    def discover(self, hosts: list[str]) -> None:
        assert self.current is not None
        added = self.pool.discovered(hosts, self.current)
        named = {address(host) for host in hosts if host in HOSTS}
        assert set(added) == named - self.given - self.named
        if named:
            self.named = (named | ({self.current} & self.named)) - self.given
            for one in set(self.tried) - self.given - self.named:
                self.tried.pop(one)
                self.failures.pop(one, None)
                self.hurried.discard(one)

    @rule(milliseconds=st.integers(0, 100))
    def pass_time(self, milliseconds: int) -> None:
        self.now += milliseconds * MILLISECOND

    @invariant()
    def the_pool_has_the_given_servers_and_those_that_are_named_each_once(self) -> None:
        if hasattr(self, "pool"):
            assert sorted(self.pool.servers, key=repr) == sorted(self.given | self.named, key=repr)


TestPool = Pool.TestCase
