"""One message as it came from NATS.

Its headers are decoded when they are first read: most requests pass through without anybody looking at them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

from natsvc.headers import STATUS_HEADER, Headers

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Data", "Delivery", "Message", "as_message", "encode_data", "reply_as_it_came", "says_no_responders"]

Data: TypeAlias = bytes | bytearray | memoryview | str | None
"""What a message's body may be given as; text is sent as UTF-8, None is an empty body."""

_NO_RESPONDERS = "503"

_M = TypeVar("_M", bound="Message")


class Delivery(Protocol):
    """What any client's message has: a Message, or what another client makes of one."""

    @property
    def subject(self) -> str:
        """The subject it was published to."""
        ...

    @property
    def reply(self) -> str:
        """The subject that answers go to, "" if none are expected."""
        ...

    @property
    def data(self) -> bytes:
        """The body."""
        ...

    @property
    def headers(self) -> Mapping[str, str] | None:
        """The headers, decoded."""
        ...


class Message:
    """A message: where it was sent, where an answer goes, its headers and its data.

    Args:
        subject: The subject it was published to; as text, or as the bytes of the wire.
        data: The body.
        reply: The subject that answers go to, empty if none are expected; in either form, too.
        headers: The headers: the undecoded block of the wire, or a mapping, read as leniently as a block.
    """

    data: bytes
    """The body."""

    # Without slots and without arguments that must be named, because Python 3.13 has no fast way to make objects of
    # classes with either: with slots it takes 208 ns to make a request, which is a message too, and 130 ns without.
    def __init__(
        self,
        subject: str | bytes,
        data: bytes = b"",
        reply: str | bytes = "",
        headers: Mapping[str, str] | bytes | None = None,
    ) -> None:
        # As they came: text that nobody looks at is not decoded, and an answer goes to the bytes that asked for it.
        self._subject = subject
        self.data = data
        self._reply = reply
        self._headers = headers

    @property
    def subject(self) -> str:
        """The subject it was published to; bytes that aren't UTF-8 are in it as `surrogateescape` decodes them."""
        subject = self._subject
        return subject if isinstance(subject, str) else subject.decode("utf-8", "surrogateescape")

    @property
    def reply(self) -> str:
        """The subject that answers go to, "" if none are expected; decoded like `subject`."""
        reply = self._reply
        return reply if isinstance(reply, str) else reply.decode("utf-8", "surrogateescape")

    @property
    def headers(self) -> Headers:
        """The headers; empty if there are none, never None."""
        headers = self._headers
        if isinstance(headers, Headers):
            return headers
        decoded = Headers.decode(headers) if isinstance(headers, bytes) else Headers.received(headers or {})
        self._headers = decoded
        return decoded

    @property
    def size(self) -> int:
        """How many bytes headers and data take."""
        headers = self._headers
        if not headers:
            return len(self.data)
        if isinstance(headers, bytes):
            return len(self.data) + len(headers)
        return len(self.data) + len(self.headers.encode())

    def __repr__(self) -> str:
        reply = f", reply={self.reply!r}" if self.reply else ""
        return f"<Message subject={self.subject!r}{reply}, {self.size} bytes>"


def as_message(delivery: Delivery, make: type[_M]) -> _M:
    """Return any client's message in this form of natsvc's own, with the headers read leniently."""
    if isinstance(delivery, make):
        return delivery
    if isinstance(delivery, Message):
        return make(delivery._subject, delivery.data, delivery._reply, delivery._headers)
    return make(delivery.subject, delivery.data, delivery.reply, delivery.headers)


def says_no_responders(message: Message) -> bool:
    """Whether it is the server's word that nobody is subscribed to a request's subject (ADR-4, status 503)."""
    return not message.data and message.headers.get(STATUS_HEADER) == _NO_RESPONDERS


def reply_as_it_came(delivery: Delivery) -> str | bytes:
    """Return the subject that answers go to, in bytes if it came so: what the server has let through, it takes back."""
    return delivery._reply if isinstance(delivery, Message) else delivery.reply


def encode_data(data: Data) -> bytes:
    """Return a body's bytes.

    Raises:
        TypeError: It is neither bytes nor text.
    """
    if data is None:
        return b""
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"data must be bytes or str, not {type(data).__name__}")
