"""Finds the ServiceDefinition that `natsvc serve MODULE:NAME` means, and says what is there if it isn't one.

A module that is missing and a module that fails while it is imported are different mistakes with the same exception:
where it was raised tells which one it is.
"""

from __future__ import annotations

import difflib
import importlib
import os
import pkgutil
import sys
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from natsvc.cli.output import CommandError, UsageError
from natsvc.core import ServiceDefinition

__all__ = ["LoadError", "load_definition"]


class LoadError(CommandError):
    """The user's module can't be imported; the cause is its exception, with its part of the traceback."""


def load_definition(target: str, directory: Path) -> ServiceDefinition:
    """Import a module, and return the definition in it.

    Args:
        target: `MODULE:NAME`; both may have dots.
        directory: Where modules are looked for first; it becomes the first entry of `sys.path`.

    Raises:
        UsageError: The target has another form, or there is no such directory.
        LoadError: The module fails while it is imported.
        CommandError: There is no such module, nothing of that name in it, or it is no ServiceDefinition.
    """
    module_name, name = _split(target)
    if not directory.is_dir():
        raise UsageError(f"--app-dir {str(directory)!r} is no directory")
    directory = directory.resolve()
    sys.path.insert(0, str(directory))
    module = _import(module_name, directory)
    found: Any = module
    path = module_name
    for part in name.split("."):
        if not hasattr(found, part):
            raise CommandError(_no_such_name(path, part, found, module))
        found = getattr(found, part)
        path = f"{path}:{part}" if path == module_name else f"{path}.{part}"
    if not isinstance(found, ServiceDefinition):
        raise CommandError(f"{target} is {_described(found)}, not a ServiceDefinition{_definitions_in(module)}")
    return found


def _split(target: str) -> tuple[str, str]:
    module_name, colon, name = target.partition(":")
    if module_name.endswith(".py") or "/" in module_name or os.sep in module_name:
        meant = ".".join(Path(module_name).with_suffix("").parts)
        raise UsageError(f"{module_name!r} is the name of a file; a module's name is needed, such as {meant}")
    parts = [*module_name.split("."), *name.split(".")]
    if not colon or not all(part.isidentifier() for part in parts):
        raise UsageError(f"{target!r} must have the form MODULE:NAME, such as users:service")
    return module_name, name


def _import(name: str, directory: Path) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever the module does
        frames = [one for one in _frames(error.__traceback__) if not _is_machinery(one)]
        if isinstance(error, ModuleNotFoundError) and not frames and f"{name}.".startswith(f"{error.name}."):
            raise CommandError(_no_such_module(str(error.name), directory)) from None
        reason = error.msg if isinstance(error, SyntaxError) else error  # its text has the place once more
        text = f"importing {name} failed{_place(error, frames, directory)}: {type(error).__name__}: {reason}"
        raise LoadError(text) from error.with_traceback(frames[0] if frames else None)


def _frames(traceback: types.TracebackType | None) -> Iterator[types.TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _is_machinery(traceback: types.TracebackType) -> bool:
    """Whether it is the import system that stands there, or this module."""
    path = traceback.tb_frame.f_code.co_filename
    return path == __file__ or path.startswith("<frozen ") or Path(path).parent == Path(importlib.__file__).parent


def _place(error: BaseException, frames: list[types.TracebackType], directory: Path) -> str:
    """Say where the error is: at the innermost line of the user's own code."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f" at {_short(error.filename, directory)}:{error.lineno}"
    own = [one for one in frames if Path(one.tb_frame.f_code.co_filename).is_relative_to(directory)]
    if not own:
        return ""
    return f" at {_short(own[-1].tb_frame.f_code.co_filename, directory)}:{own[-1].tb_lineno}"


def _short(path: str, directory: Path) -> str:
    return str(Path(path).relative_to(directory)) if Path(path).is_relative_to(directory) else path


def _no_such_module(name: str, directory: Path) -> str:
    package, _, last = name.rpartition(".")
    if not package:
        names = (module.name for module in pkgutil.iter_modules([str(directory)]))
        return f"there is no module {name!r} in {directory}, nor among those installed{_near(last, names)}"
    paths = getattr(sys.modules.get(package), "__path__", None)
    if paths is None:
        return f"there is no module {name!r}: {package!r} is a module, not a package"
    names = (module.name for module in pkgutil.iter_modules(paths))
    return f"there is no module {last!r} in the package {package!r}{_near(last, names)}"


def _no_such_name(path: str, name: str, holder: object, module: types.ModuleType) -> str:
    near = _near(name, (one for one in dir(holder) if not one.startswith("_")))
    return f"there is no {name!r} in {path}{near or _definitions_in(module)}"


def _near(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _definitions_in(module: types.ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, ServiceDefinition)]
    return f"; those in {module.__name__}: {', '.join(names)}" if names else ""


def _described(value: object) -> str:
    if isinstance(value, types.ModuleType):
        return "a module"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if callable(value) and hasattr(value, "__name__"):
        return f"the function {value.__name__}"
    return f"of the type {type(value).__module__}.{type(value).__qualname__}".replace("builtins.", "")
