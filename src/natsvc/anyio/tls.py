"""TLS between two memory buffers, so that neither encrypting nor decrypting waits for the network.

What waits in the middle of a write can be cancelled there, with half a record sent. This can't.
"""

from __future__ import annotations

import contextlib
import ssl

__all__ = ["Tls"]

_READ_SIZE = 256 * 1024


class Tls:
    """The client's side of one TLS connection.

    Args:
        context: What it may do, and whom it trusts.
        server_name: The name that the server's certificate must be for.

    Attributes:
        is_over: Whether the server has said that nothing more comes.

    Raises:
        ValueError: It is no name of a server.
    """

    def __init__(self, context: ssl.SSLContext, server_name: str) -> None:
        self.is_over = False
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)

    def shake_hands(self) -> bool:
        """Go on with the handshake; return whether it is done.

        Raises:
            ssl.SSLError: It has failed.
        """
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def feed(self, data: bytes) -> None:
        """Take what has come from the network."""
        self._incoming.write(data)

    def decrypt(self) -> bytes:
        """Return what the server has said in all that has come; b"" if no record is complete.

        Raises:
            ssl.SSLError: It is no TLS.
        """
        parts = []
        try:
            while data := self._object.read(_READ_SIZE):
                parts.append(data)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.is_over = True
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def encrypt(self, data: bytes) -> bytes:
        """Return what has to be sent in its place."""
        self._object.write(data)
        return self._outgoing.read()

    def take_outgoing(self) -> bytes:
        """Return what has to be sent for TLS itself."""
        return self._outgoing.read()

    def say_goodbye(self) -> bytes:
        """Return what has to be sent last."""
        with contextlib.suppress(ssl.SSLError):  # the server has not said goodbye, and needs not
            self._object.unwrap()
        return self._outgoing.read()
