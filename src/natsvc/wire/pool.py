"""Which server to try, and when: those that were given, and those that they named.

A server is tried again when `reconnect_wait` has passed since it was tried last; this wait doubles while it fails, and
a random part keeps clients that lost the same server apart (ADR-40, "Reconnect process"). A server that was not tried
lately is tried at once, so that a client moves to another server of a cluster without any wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from natsvc.errors import ConfigError
from natsvc.wire.addresses import ServerAddress, discovered_server
from natsvc.wire.options import ConnectOptions
from natsvc.wire.values import Value

if TYPE_CHECKING:
    from random import Random

__all__ = ["MAX_DISCOVERED_SERVERS", "Attempt", "ServerPool"]

MAX_DISCOVERED_SERVERS = 1024
"""So many servers that other servers named are remembered at once."""

_MAX_DOUBLINGS = 64
_MAX_REFUSAL = 256


class Attempt(Value):
    """What to do next: try this server at this time.

    Attributes:
        address: The server.
        at: The time in nanoseconds, not before now.
    """

    __slots__ = ("address", "at")

    def __init__(self, address: ServerAddress, at: int) -> None:
        self.address = address
        self.at = at


class _Server:
    """A server and what came of the attempts at it.

    Attributes:
        address: The server.
        is_discovered: Whether another server named it; such a server may vanish.
        ready_at: When it may be tried; never tried, at any time.
        failures: How many attempts have failed since there was a connection.
        error: Why the last attempt failed; None since there was a connection.
        refusal: The words in which it last refused the credentials; None since it accepted them.
    """

    __slots__ = ("address", "error", "failures", "is_discovered", "ready_at", "refusal")

    def __init__(self, address: ServerAddress, *, is_discovered: bool = False) -> None:
        self.address = address
        self.is_discovered = is_discovered
        self.ready_at = 0
        self.failures = 0
        self.error: BaseException | None = None
        self.refusal: str | None = None


class ServerPool:
    """The servers of a connection, in the order in which they are to be tried.

    All times are nanoseconds of a monotonic clock that is never below 0.

    Args:
        options: The options of the connection.
        random: Where the order and the jitter come from.

    Attributes:
        last_error: What came of the last attempt that failed; None since there was a connection.
    """

    __slots__ = (
        "_connected",
        "_longest_wait",
        "_options",
        "_random",
        "_servers",
        "_wait",
        "_was_connected",
        "last_error",
    )

    def __init__(self, options: ConnectOptions, random: Random) -> None:
        self._options = options
        self._random = random
        self._servers = [_Server(address) for address in options.addresses]
        if options.randomize:
            random.shuffle(self._servers)
        self._wait = _nanoseconds(options.reconnect_wait)
        self._longest_wait = max(self._wait, _nanoseconds(options.reconnect_max_wait))
        self._connected: ServerAddress | None = None
        self._was_connected = False
        self.last_error: BaseException | None = None

    @property
    def servers(self) -> tuple[ServerAddress, ...]:
        """The servers, given and discovered ones, in the order in which they are to be tried."""
        return tuple(server.address for server in self._servers)

    @property
    def errors(self) -> tuple[BaseException, ...]:
        """Why the last attempt at each server failed, the latest one last; empty since there was a connection."""
        return tuple(server.error for server in self._servers if server.error is not None)

    def next(self, now: int) -> Attempt | None:
        """Return which server to try and when; None: give up.

        Asking changes nothing: tell what came of the attempt by `connected` or `failed`. The first time, every server
        is tried once without any wait, and more often with `retry_on_failed_connect` only. After a connection was lost,
        each may fail `max_reconnects` times, and none is tried without `allow_reconnect`.
        """
        limit = self._limit
        left = [server for server in self._servers if limit is None or server.failures < limit]
        if not left:
            return None
        server = min(left, key=lambda one: max(now, one.ready_at))  # of several that are ready, the first
        return Attempt(server.address, max(now, server.ready_at))

    def connected(self, address: ServerAddress, now: int) -> None:
        """Take note that a handshake has succeeded: waits and counts of failures start anew, those of all servers."""
        self._was_connected = True
        self._connected = address
        self.last_error = None
        for server in self._servers:
            server.failures = 0
            server.error = None
            server.ready_at = min(server.ready_at, now + self._wait)
            if server.address == address:
                server.refusal = None
                server.ready_at = now + self._wait + self._jitter(address)

    def failed(self, address: ServerAddress, now: int, error: BaseException) -> None:
        """Take note that an attempt has failed: this server comes last, and not before its wait is over.

        Args:
            address: The server.
            now: The time at which the attempt ended.
            error: Why it failed.
        """
        self.last_error = error
        server = self._find(address)
        if server is None:
            return
        doublings = min(server.failures, _MAX_DOUBLINGS)
        server.failures += 1
        server.error = error
        server.ready_at = now + min(self._wait << doublings, self._longest_wait) + self._jitter(address)
        self._put_last(server)

    def disconnected(self, address: ServerAddress, now: int, *, on_demand: bool = False) -> None:
        """Take note that a connection is lost: its server comes last.

        It is tried at once, if there is no other and it was connected to for longer than `reconnect_wait`; a server
        that accepts and drops connections in turn is not hammered.

        Args:
            address: The server.
            now: The time.
            on_demand: The user asked for it, by `reconnect()`: each server may be tried without any wait, once.
        """
        self._connected = None
        server = self._find(address)
        if server is not None:
            self._put_last(server)
        if on_demand:
            for one in self._servers:
                one.ready_at = min(one.ready_at, now)

    def authentication_failed(self, address: ServerAddress, text: str) -> bool:
        """Take note that a server has refused the credentials; return whether to close the connection for good.

        That is so when a server refuses twice running in the same words (nats.go does the same), whatever other servers
        said and however many attempts failed otherwise in between; a handshake that succeeds ends the run. What the
        server says to a client that is connected ("User Authentication Revoked", or "Authorization Violation" after
        its configuration was changed) ends that connection, but refuses no handshake, and doesn't count. So credentials
        that were revoked close the connection when the second attempt with them is refused.

        Args:
            address: The server.
            text: What it said, without `-ERR`. Case, quotes and blanks make no difference.
        """
        server = self._find(address)
        if server is None or address == self._connected:
            return False
        refusal = " ".join(text.lower().split()).strip("'\" ")[:_MAX_REFUSAL]
        is_repeated = refusal == server.refusal
        server.refusal = refusal
        return is_repeated and not self._options.ignore_auth_errors

    def discovered(self, urls: object, current: ServerAddress, *, in_clear: bool = False) -> tuple[ServerAddress, ...]:
        """Take the `connect_urls` of an INFO; return the servers that are new.

        Discovered servers that it no longer names are forgotten; those that were given never are, nor is the current
        one. An INFO without any such URL changes nothing, because a server that doesn't advertise sends none (nats.go).
        What is no `host:port` is skipped.

        Args:
            urls: What stands in the INFO, if anything.
            current: The server that sent it.
            in_clear: Whether it came before the TLS that the connection has. Servers named so must have a certificate
                for the name of this one, until they are named once more.
        """
        if self._options.ignore_discovered_servers:
            return ()
        named = _readable(urls, current, in_clear=in_clear)
        if not named:
            return ()
        self._servers = [
            server
            for server in self._servers
            if not server.is_discovered or server.address == current or _place(server.address) in named
        ]
        for server in self._servers:
            known = named.pop(_place(server.address), None)
            if known is not None and server.is_discovered and server.address != current and not in_clear:
                server.address = known
        room = MAX_DISCOVERED_SERVERS - sum(server.is_discovered for server in self._servers)
        added = tuple(named.values())[:room]
        for address in added:
            # Among the others rather than behind them: else all clients would go to the same few servers first.
            last = len(self._servers)
            index = self._random.randint(0, last) if self._options.randomize else last
            self._servers.insert(index, _Server(address, is_discovered=True))
        return added

    @property
    def _limit(self) -> int | None:
        """How many attempts at one server may fail; None: any number."""
        options = self._options
        most = options.max_reconnects
        if self._was_connected:
            return most if options.allow_reconnect else 0
        if not options.retry_on_failed_connect:
            return 1
        return None if most is None else most + 1  # the first attempt is no reconnect

    def _jitter(self, address: ServerAddress) -> int:
        options = self._options
        most = options.reconnect_jitter_tls if options.requires_tls(address) else options.reconnect_jitter
        return self._random.randint(0, _nanoseconds(most))

    def _find(self, address: ServerAddress) -> _Server | None:
        return next((server for server in self._servers if server.address == address), None)

    def _put_last(self, server: _Server) -> None:
        self._servers.remove(server)
        self._servers.append(server)


def _readable(urls: object, current: ServerAddress, *, in_clear: bool) -> dict[tuple[str, int], ServerAddress]:
    named = {}
    for url in urls[:MAX_DISCOVERED_SERVERS] if isinstance(urls, list) else ():
        try:
            address = discovered_server(url, current, in_clear=in_clear)
        except ConfigError:
            continue
        named[_place(address)] = address
    return named


def _place(address: ServerAddress) -> tuple[str, int]:
    return address.host, address.port


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1_000_000_000)
