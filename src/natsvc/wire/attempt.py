"""One attempt at one server: from the TCP connection to the first PONG, and the bytes of both ways until it is over.

    DIALLING    Dial                             dialled()
    GREETING    -                                take_info()
    UPGRADING   StartTls, where one side asks    tls_started()
    ENTERING    CONNECT and PING are sent        take_pong()
    OPEN

With `tls_handshake_first`, UPGRADING comes before GREETING (ADR-40, "TLS").
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from natsvc.errors import ServerError
from natsvc.wire import commands
from natsvc.wire.auth import connect_fields
from natsvc.wire.effects import StartTls
from natsvc.wire.parser import Parser

if TYPE_CHECKING:
    from natsvc.wire.addresses import ServerAddress
    from natsvc.wire.options import ConnectOptions

__all__ = ["Attempt", "Phase"]


class Phase(enum.Enum):
    """How far an attempt has come."""

    DIALLING = "dialling"
    GREETING = "greeting"
    UPGRADING = "upgrading"
    ENTERING = "entering"
    OPEN = "open"


class Attempt:
    """One attempt at one server, and the connection that it leads to.

    Args:
        number: Which one it is.
        address: The server.
        options: How to connect.
        version: The client's version.

    Attributes:
        number: Which one it is.
        address: The server.
        phase: How far it has come.
        parser: What reads its bytes.
        info: What the server last said of itself; empty before it has said anything.
        outgoing: What is to be sent before it is open.
        farewell: The last that the server said before it closes the connection, if it said something.
        is_lame_duck: Whether the server has said that it is about to shut down.
    """

    def __init__(self, number: int, address: ServerAddress, options: ConnectOptions, version: str) -> None:
        self.number = number
        self.address = address
        self.phase = Phase.DIALLING
        self.parser = Parser(max_inbound_payload=options.max_inbound_payload)
        self.outgoing: list[bytes] = []
        self.farewell: BaseException | None = None
        self.is_lame_duck = False
        self._options = options
        self._version = version
        self.info: dict[str, Any] = {}
        self._is_greeted = False
        self._has_tls = False

    def dialled(self) -> StartTls | None:
        """The TCP connection is made."""
        if self._options.tls_handshake_first:
            return self._start_tls()
        self.phase = Phase.GREETING
        return None

    def tls_started(self) -> None:
        """The TLS handshake is done.

        Raises:
            AuthorizationError, ConfigError: The credentials can't be presented to this server.
        """
        self._has_tls = True
        if self._is_greeted:
            self._enter()
        else:
            self.phase = Phase.GREETING

    def take_info(self, info: dict[str, Any]) -> StartTls | None:
        """The server has said who it is, for the first time or once more.

        Raises:
            ServerError: It does not offer the TLS that is asked for.
            AuthorizationError, ConfigError: The credentials can't be presented to it.
        """
        self.info = info
        self._is_greeted = True
        if self.phase is not Phase.GREETING:
            return None
        demanded = bool(info.get("tls_required"))
        if self._has_tls or not (demanded or self._options.requires_tls(self.address)):
            self._enter()
            return None
        if demanded or info.get("tls_available"):
            return self._start_tls()
        raise ServerError("TLS is asked for, and the server does not offer it")

    def take_pong(self) -> bool:
        """The server has answered a PING; return whether it has let us in by that."""
        if self.phase is not Phase.ENTERING:
            return False
        self.phase = Phase.OPEN
        return True

    def _start_tls(self) -> StartTls:
        self.phase = Phase.UPGRADING
        return StartTls(self.number, self._options.tls_name(self.address))

    def _enter(self) -> None:
        """Introduce ourselves; the PONG to the PING shows that the server takes us, an -ERR that it doesn't."""
        fields = connect_fields(self._options, self.address, self.info, version=self._version)
        self.outgoing += [commands.connect({**fields, "tls_required": self._has_tls}), commands.PING]
        self.phase = Phase.ENTERING
