"""The three front-ends offer the same: names, methods, parameters and defaults. What differs, and may, stands here."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import pytest

import natsvc
import natsvc.anyio
import natsvc.asyncio
import natsvc.sync

FRONT_ENDS = {"asyncio": natsvc.asyncio, "anyio": natsvc.anyio, "sync": natsvc.sync}
OTHERS = ["anyio", "sync"]

ONLY_IN: dict[str, set[str]] = {
    # A Request in a thread, whose methods block; in sync, that is the Request itself.
    "asyncio": {"BlockingRequest"},
    "anyio": {"BlockingRequest"},
    "sync": set(),
}
"""Names that not every front-end has."""

CLASSES = ["Connection", "Subscription", "Service", "Group", "Request", "Replies", "ServiceClient"]

SPECIAL = {
    "asyncio": {"__aenter__", "__aexit__", "__await__", "__aiter__", "__anext__"},
    "anyio": {"__aenter__", "__aexit__", "__await__", "__aiter__", "__anext__"},
    "sync": {"__enter__", "__exit__", "__iter__", "__next__"},
}
"""How each world enters blocks, waits and iterates."""


def public(module: ModuleType) -> set[str]:
    return set(module.__all__) - set(natsvc.__all__)


def members(cls: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(cls) if not name.startswith("_")}


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    """Names, kinds and defaults; what makes the object is not the caller's business."""
    return [(one.name, one.kind, one.default) for one in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_each_front_end_has_the_shared_names_and_the_same_of_its_own(name: str) -> None:
    module = FRONT_ENDS[name]
    assert set(natsvc.__all__) <= set(module.__all__)
    assert public(module) - ONLY_IN[name] == public(natsvc.asyncio) - ONLY_IN["asyncio"]


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("name", OTHERS)
def test_the_classes_have_the_same_members(name: str, cls: str) -> None:
    assert members(getattr(FRONT_ENDS[name], cls)) == members(getattr(natsvc.asyncio, cls))


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("name", OTHERS)
def test_the_methods_take_the_same_and_have_the_same_defaults(name: str, cls: str) -> None:
    theirs, ours = getattr(FRONT_ENDS[name], cls), getattr(natsvc.asyncio, cls)
    for member in sorted(members(ours)):
        mine = inspect.getattr_static(ours, member)
        if inspect.isfunction(mine):
            assert parameters(getattr(theirs, member)) == parameters(mine), member
        else:
            assert type(inspect.getattr_static(theirs, member)) is type(mine), member


@pytest.mark.parametrize("function", ["connect", "add_service"])
@pytest.mark.parametrize("name", OTHERS)
def test_the_functions_take_the_same(name: str, function: str) -> None:
    assert parameters(getattr(FRONT_ENDS[name], function)) == parameters(getattr(natsvc.asyncio, function))


@pytest.mark.parametrize("name", OTHERS)
def test_a_service_client_is_made_of_the_same(name: str) -> None:
    assert parameters(FRONT_ENDS[name].ServiceClient.__init__) == parameters(natsvc.asyncio.ServiceClient.__init__)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_only_sync_is_not_async(name: str) -> None:
    for cls in CLASSES:
        for member in members(getattr(FRONT_ENDS[name], cls)):
            method = inspect.getattr_static(getattr(FRONT_ENDS[name], cls), member)
            expected = name != "sync" and inspect.iscoroutinefunction(
                inspect.getattr_static(getattr(natsvc.asyncio, cls), member)
            )
            assert inspect.iscoroutinefunction(method) == expected, f"{cls}.{member}"


@pytest.mark.parametrize("cls", ["Connection", "Subscription", "Replies", "Service"])
@pytest.mark.parametrize("name", FRONT_ENDS)
def test_blocks_and_iterators_are_those_of_the_world(name: str, cls: str) -> None:
    methods = set(dir(getattr(FRONT_ENDS[name], cls)))
    assert not methods & (SPECIAL["asyncio"] | SPECIAL["sync"]) - SPECIAL[name]
    assert {"__aenter__" if name != "sync" else "__enter__"} <= methods


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_every_public_method_says_what_it_does(name: str) -> None:
    undocumented = [
        f"{cls}.{member}"
        for cls in CLASSES
        for member in members(getattr(FRONT_ENDS[name], cls))
        if not inspect.getdoc(getattr(getattr(FRONT_ENDS[name], cls), member))
    ]
    assert undocumented == []
