"""Plain values, made in the time of a few assignments, and without the standard library's dataclasses.

To load those takes longer than to connect, and a script that asks one question and ends would wait for it every time.
"""

from __future__ import annotations

__all__ = ["Value"]


class Value:
    """A plain value: it shows its fields, and equals another one of its class with the same.

    Its class names the fields in `__slots__`, and in `__match_args__` where patterns are to take it apart. None of them
    is set again once it is made.
    """

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({fields})"

    def _fields(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)
