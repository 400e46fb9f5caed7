"""What the installed package is: what importing it loads, what it exports, what it says of itself."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.resources
import json
import subprocess
import sys
from typing import Any

import pytest

import natsvc
import natsvc.asyncio
import natsvc.core
import natsvc.testing


def fresh_interpreter(program: str) -> Any:
    """Run a program where nothing is imported yet; return what it prints, read as JSON."""
    run = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def loaded_by(module: str) -> set[str]:
    """The top-level modules that importing this one loads."""
    loaded: list[str] = fresh_interpreter(
        f"import sys; before = set(sys.modules); import {module}; loaded = sorted(set(sys.modules) - before)\n"
        "import json; print(json.dumps(loaded))"
    )
    return {name.partition(".")[0] for name in loaded}


@pytest.mark.parametrize(
    "module",
    [
        "natsvc",
        "natsvc.core",
        "natsvc.wire.connection",
        "natsvc.errors",
        "natsvc.headers",
        "natsvc.message",
        "natsvc.nuid",
    ],
)
def test_importing_it_loads_no_event_loop_no_socket_and_no_nats(module: str) -> None:
    loaded = loaded_by(module)
    assert "natsvc" in loaded
    assert loaded.isdisjoint({"asyncio", "anyio", "trio", "socket", "selectors", "ssl", "nats"})


def test_importing_the_asyncio_front_end_loads_neither_nats_py_nor_trio() -> None:
    loaded = loaded_by("natsvc.asyncio")
    assert "asyncio" in loaded
    assert loaded.isdisjoint({"nats", "trio"})


def test_importing_the_front_end_for_threads_loads_no_event_loop_and_no_ssl() -> None:
    assert loaded_by("natsvc.sync").isdisjoint({"asyncio", "anyio", "trio", "nats", "ssl"})


def test_importing_the_anyio_front_end_loads_no_event_loop() -> None:
    assert loaded_by("natsvc.anyio").isdisjoint({"asyncio", "trio", "nats"})


def test_the_asyncio_front_end_has_all_shared_names_so_that_one_import_line_serves() -> None:
    assert set(natsvc.__all__) <= set(natsvc.asyncio.__all__)
    for name in natsvc.__all__:
        assert getattr(natsvc.asyncio, name) is getattr(natsvc, name)


@pytest.mark.parametrize(
    "module", ["natsvc", "natsvc.anyio", "natsvc.asyncio", "natsvc.core", "natsvc.sync", "natsvc.testing"]
)
def test_every_exported_name_exists_and_is_named_once(module: str) -> None:
    exporting = importlib.import_module(module)
    assert [name for name in exporting.__all__ if not hasattr(exporting, name)] == []
    assert len(set(exporting.__all__)) == len(exporting.__all__)


def test_the_package_tells_type_checkers_that_it_is_typed() -> None:
    assert importlib.resources.files("natsvc").joinpath("py.typed").is_file()


def test_the_version_is_that_of_the_installed_package() -> None:
    assert importlib.metadata.version("natsvc") == natsvc.__version__


def test_every_module_logs_to_natsvc_or_a_child_of_it() -> None:
    # A logger of natsvc's is one that a module of it holds, or one that belongs to nobody else who is imported.
    program = """
import importlib, json, logging, pkgutil, sys
import natsvc

def fail(name):
    raise

names = [found.name for found in pkgutil.walk_packages(natsvc.__path__, "natsvc.", onerror=fail)]
modules = [importlib.import_module(name) for name in names if not name.endswith(".__main__")]
held = {value.name for module in modules for value in vars(module).values() if isinstance(value, logging.Logger)}
others = {name.partition(".")[0] for name in sys.modules} - {"natsvc"}
orphans = {name for name in logging.root.manager.loggerDict if name.partition(".")[0] not in others}
print(json.dumps(sorted(held | orphans)))
"""
    loggers: list[str] = fresh_interpreter(program)
    assert loggers
    assert [name for name in loggers if name != "natsvc" and not name.startswith("natsvc.")] == []
