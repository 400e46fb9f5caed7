"""NATS message headers (ADR-4): names keep their case, and a name may have several values.

Names compare case-sensitively, as nats.go's do. What goes in is checked, so that no name and no value can end its own
line on the wire; what comes from the wire is read leniently, because the server forwards header blocks unread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping

from natsvc.errors import HeaderError

__all__ = ["DESCRIPTION_HEADER", "ERROR_CODE_HEADER", "ERROR_HEADER", "STATUS_HEADER", "Headers"]

STATUS_HEADER = "Status"
"""Where the status of a block such as `NATS/1.0 503` is found after decoding, as in nats.go."""

DESCRIPTION_HEADER = "Description"
"""Where the text behind that status is found."""

ERROR_HEADER = "Nats-Service-Error"
"""The header that holds an error reply's description (ADR-32, "Error Handling")."""

ERROR_CODE_HEADER = "Nats-Service-Error-Code"
"""The header that holds an error reply's code."""

_VERSION = "NATS/1.0"
_BLANKS = " \t"
_WHITESPACE = " \t\n\r\v\f"

_names: set[str] = set()
"""Names that have been looked at and are allowed: few are used, and to look at one again takes as long as the rest.

What others send can't make it large: it holds some 1,024, of 64 characters at most.
"""

_MOST_NAMES = 1024
_SHORT_NAME = 64


class Headers(MutableMapping[str, str]):
    """A case-preserving, case-sensitive mapping of names to values, in which a name may have several.

    As a mapping it gives each name's first value; `get_all` and `pairs` give all of them. Setting a name replaces all
    its values, `add` keeps those it has.

    Args:
        source: A mapping of names to a value or a list of values, or pairs of name and value.

    Raises:
        HeaderError: A name is not printable ASCII without colon, or a value has a line break or no UTF-8 form.
    """

    __slots__ = ("_values",)

    def __init__(self, source: Mapping[str, str] | Mapping[str, list[str]] | Iterable[tuple[str, str]] = ()) -> None:
        self._values: dict[str, list[str]] = {}
        if isinstance(source, Headers):
            self._values = {name: list(values) for name, values in source._values.items()}
            return
        try:
            # A dict is named besides, for whether something is a Mapping takes Python as long as all the rest.
            items = source.items() if isinstance(source, (dict, Mapping)) else source
            pairs = [(name, value) for name, value in items]
        except (TypeError, ValueError):
            raise HeaderError("headers", source, "must be a mapping, or pairs of name and value") from None
        for name, value in pairs:
            if isinstance(value, (list, tuple)):
                for one in value:
                    self.add(name, one)
            else:
                self.add(name, value)

    def __getitem__(self, name: str) -> str:
        return self._values[name][0]

    def __setitem__(self, name: str, value: str) -> None:
        self._values[_checked_name(name)] = [_checked_value(name, value)]

    def __delitem__(self, name: str) -> None:
        del self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Headers):
            return self._values == other._values
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"Headers({list(self.pairs())!r})"

    def add(self, name: str, value: str) -> None:
        """Add a value to those that the name has.

        Raises:
            HeaderError: The name or the value can't stand in a header block.
        """
        checked = _checked_value(_checked_name(name), value)
        self._values.setdefault(name, []).append(checked)

    def get_all(self, name: str) -> list[str]:
        """Return all values of a name in their order; none gives an empty list."""
        return list(self._values.get(name, ()))

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Iterate over every name and value, repeated names included."""
        for name, values in self._values.items():
            for value in values:
                yield name, value

    def copy(self) -> Headers:
        """Return headers of their own with the same names and values."""
        return Headers(self)

    def encode(self) -> bytes:
        """Return the block that stands before a message's data: version line, a line for each value, an empty line."""
        lines = [f"{name}: {value}\r\n" for name, values in self._values.items() for value in values]
        return f"NATS/1.0\r\n{''.join(lines)}\r\n".encode("utf-8", "surrogateescape")

    @classmethod
    def received(cls, source: Mapping[str, str]) -> Headers:
        """Take over headers that another client has decoded, as leniently as `decode` reads a block."""
        headers = cls()
        for name, value in source.items():
            try:
                headers[name] = _clean(value)
            except HeaderError:
                continue
        return headers

    @classmethod
    def decode(cls, block: bytes) -> Headers:
        """Read a block as it came from the wire; lines that are no headers are skipped.

        Bytes that aren't UTF-8 are kept by `surrogateescape`, so that encoding gives them back. An inline status
        (`NATS/1.0 503 No Responders`) becomes the headers `Status` and `Description`.
        """
        headers = cls.__new__(cls)
        headers._values = values = {}
        lines = block.decode("utf-8", "surrogateescape").split("\r\n")
        if lines[0].startswith(_VERSION):
            line = lines.pop(0)
            if line != _VERSION:
                status, _, description = line.removeprefix(_VERSION).strip(_WHITESPACE).partition(" ")
                if status:
                    values[STATUS_HEADER] = [_clean(status)]
                if description:
                    values[DESCRIPTION_HEADER] = [_clean(description)]
        for line in lines:
            name, colon, value = line.partition(":")
            if colon and (name in _names or _is_name(name)):
                value = value.strip(_BLANKS)
                if "\r" in value or "\n" in value:
                    value = _clean(value)
                if name in values:
                    values[name].append(value)
                else:
                    values[name] = [value]
        return headers


def _clean(value: str) -> str:
    # A bare CR or LF ended no line when it came, but would end one if these headers were sent on.
    if "\r" in value or "\n" in value:
        value = value.replace("\r", " ").replace("\n", " ")
    return value.strip(_BLANKS)


def _is_name(text: str) -> bool:
    # ADR-4: printable ASCII, 33 to 126, without the colon. Here and below no pattern is used, for to compile one takes
    # longer than a short program's headers are worth.
    if text.isascii() and text.isprintable() and text != "" and " " not in text and ":" not in text:
        if len(_names) < _MOST_NAMES and len(text) <= _SHORT_NAME:
            _names.add(text)
        return True
    return False


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or not (name in _names or _is_name(name)):
        raise HeaderError("header name", name, "must be printable ASCII characters without blanks and colon")
    return name


def _checked_value(name: str, value: str) -> str:
    if not isinstance(value, str):
        raise HeaderError(f"header {name}", value, "must be a str")
    if "\r" in value or "\n" in value:
        raise HeaderError(f"header {name}", value, "must not contain a line break")
    if not value.isascii():
        try:
            value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise HeaderError(f"header {name}", value, "must be encodable as UTF-8") from None
    return value.strip(_BLANKS)
