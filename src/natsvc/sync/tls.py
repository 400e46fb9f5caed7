"""TLS between memory buffers, so that one thread may read while others write.

An SSLSocket allows no such thing. So the socket carries ciphertext only, and what turns it into plain bytes and back is
used under a lock, which nobody holds while waiting for the network.
"""

from __future__ import annotations

import ssl
import threading

__all__ = ["Tls"]

_RECORD = 16 * 1024
"""The most plain bytes that one read gives: a TLS record."""


class Tls:
    """The TLS side of one connection; the client's.

    Args:
        context: Whom to trust, and who we are.
        server_name: The name that the server's certificate must be for.

    Attributes:
        is_open: Whether the handshake is done.
    """

    def __init__(self, context: ssl.SSLContext, server_name: str) -> None:
        self.is_open = False
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._lock = threading.Lock()

    @property
    def has_outgoing(self) -> bool:
        """Whether there is ciphertext to send."""
        return bool(self._outgoing.pending)

    def feed(self, data: bytes) -> None:
        """Take ciphertext that has arrived; b"" is the end."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def shake_hands(self) -> bool:
        """Go on with the handshake; return whether it is done.

        Raises:
            OSError: It has failed.
        """
        with self._lock:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                return False
        self.is_open = True
        return True

    def decrypt(self) -> tuple[bytes, bool]:
        """Return the plain bytes of all ciphertext that is whole, and whether that was the last there is.

        Raises:
            OSError: The ciphertext is not what the server can have sent.
        """
        chunks = []
        with self._lock:
            try:
                while chunk := self._object.read(_RECORD):
                    chunks.append(chunk)
            except ssl.SSLWantReadError:
                return b"".join(chunks), False
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                pass
        return b"".join(chunks), True

    def encrypt(self, data: bytes) -> bytes:
        """Return the ciphertext to send next: of these bytes, behind what TLS itself has to say.

        Raises:
            OSError: Nothing more can be sent.
        """
        with self._lock:
            unwritten = memoryview(data)
            while unwritten:
                unwritten = unwritten[self._object.write(unwritten) :]
            return self._outgoing.read()
