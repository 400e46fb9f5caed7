"""Packages that load a module of theirs when somebody first uses a name of it (PEP 562).

A script that asks one question and ends spends most of its time on imports, and a package that gathers the names of all
its modules would load them all. To type checkers such a package shows ordinary imports.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["on_demand"]


def on_demand(
    package: str, sources: Mapping[str, Iterable[str]]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return the `__getattr__` and the `__dir__` of a package.

    Args:
        package: The package's `__name__`.
        sources: Modules by their full names, each with the names that the package offers from it.
    """
    modules = {name: module for module, names in sources.items() for name in names}

    def get(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=sys.modules[package])
        value = getattr(importlib.import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)  # from now on, Python finds it without asking
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules})

    return get, names
