"""What the installed package is: what importing it loads, what it exports, what it says of itself."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.resources
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import natsvc
import natsvc.asyncio
import natsvc.core
import natsvc.testing

PACKAGES = ["natsvc", "natsvc.anyio", "natsvc.asyncio", "natsvc.core", "natsvc.sync", "natsvc.testing"]
"""Those whose names are loaded on demand."""

SLOW = {
    "base64",
    "concurrent.futures",
    "dataclasses",
    "datetime",
    "encodings.idna",
    "hashlib",
    "inspect",
    "ipaddress",
    "logging",
    "pathlib",
    "secrets",
    "ssl",
    "urllib.parse",
}
"""Modules of Python that take longer to be loaded than a plain connection to be made, and that it does not need."""


def fresh_interpreter(program: str) -> Any:
    """Run a program where nothing is imported yet; return what it prints, read as JSON."""
    run = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def modules_after(statement: str) -> set[str]:
    """The modules that a statement loads where nothing is imported yet."""
    loaded: list[str] = fresh_interpreter(
        f"import sys; before = set(sys.modules); {statement}; loaded = sorted(set(sys.modules) - before)\n"
        "import json; print(json.dumps(loaded))"
    )
    return set(loaded)


def loaded_by(module: str) -> set[str]:
    """The top-level modules that importing all names of this one loads."""
    return {name.partition(".")[0] for name in modules_after(f"from {module} import *")}


def imports_for_type_checkers(module: str) -> list[tuple[str, str]]:
    """What stands below `if TYPE_CHECKING` in a package: modules, and the names from them."""
    source = importlib.import_module(module).__file__
    assert source is not None
    return [
        (statement.module or "", one.name)
        for block in ast.parse(Path(source).read_text(encoding="utf-8")).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for one in statement.names
    ]


def names_after_import(module: str) -> set[str]:
    """What a package has as soon as it is imported."""
    has: list[str] = fresh_interpreter(f"import json, {module}; print(json.dumps(list(vars({module}))))")
    return set(has)


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


def test_importing_the_package_alone_loads_nothing_of_what_services_are_made_of() -> None:
    loaded = modules_after("import natsvc")
    assert {name for name in loaded if name.startswith("natsvc.")} == {
        "natsvc.errors",
        "natsvc.headers",
        "natsvc.message",
        "natsvc.on_demand",
    }
    assert loaded.isdisjoint(SLOW)


@pytest.mark.parametrize("module", PACKAGES)
def test_a_name_that_is_loaded_on_demand_is_the_one_that_type_checkers_see(module: str) -> None:
    exporting = importlib.import_module(module)
    shared = {"natsvc.core": natsvc.core.__all__, "natsvc": natsvc.__all__}
    seen = {}
    for source, name in imports_for_type_checkers(module):
        seen.update(dict.fromkeys(shared[source], source) if name == "*" else {name: source})
    assert set(exporting.__all__) - names_after_import(module) == set(seen)
    for name, source in seen.items():
        assert getattr(exporting, name) is getattr(importlib.import_module(source), name)


@pytest.mark.parametrize("module", PACKAGES)
def test_a_package_shows_its_names_before_they_are_loaded(module: str) -> None:
    program = f"import json, {module}; print(json.dumps([dir({module}), {module}.__all__]))"
    shown, exported = fresh_interpreter(program)
    assert set(exported) <= set(shown)
    assert shown == sorted(set(shown))


@pytest.mark.parametrize("module", PACKAGES)
def test_a_name_that_a_package_does_not_have_is_an_attribute_error(module: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'Srevice'") as caught:
        _ = importlib.import_module(module).Srevice
    assert caught.value.name == "Srevice"
    with pytest.raises(ImportError, match="Srevice"):
        exec(f"from {module} import Srevice")


def test_a_name_is_looked_up_once_and_is_the_packages_own_from_then_on() -> None:
    program = """
import json, natsvc
before = "ServiceConfig" in vars(natsvc)
natsvc.ServiceConfig
print(json.dumps([before, vars(natsvc).get("ServiceConfig") is natsvc.core.config.ServiceConfig]))
"""
    assert fresh_interpreter(program) == [False, True]


def test_threads_that_want_the_same_name_at_once_get_the_same() -> None:
    program = """
import json, natsvc, threading
together = threading.Barrier(8)
got = []
def want():
    together.wait(30)
    got.append(id(natsvc.ServiceDefinition))
threads = [threading.Thread(target=want) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(30)
print(json.dumps([len(got), len(set(got))]))
"""
    assert fresh_interpreter(program) == [8, 1]


def test_what_is_loaded_on_demand_can_be_pickled() -> None:
    program = """
import json, pickle, natsvc
configuration = natsvc.GroupConfig("g")
print(json.dumps([
    pickle.loads(pickle.dumps(configuration)) == configuration,
    pickle.loads(pickle.dumps(natsvc.ServiceConfig)) is natsvc.ServiceConfig,
]))
"""
    assert fresh_interpreter(program) == [True, True]


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
