"""Tests of what is anyio's own, each in a new event loop of either kind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import anyio
import pytest

Run: TypeAlias = Callable[[Callable[[], Awaitable[Any]]], Any]


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def run(backend: str) -> Run:
    """Runs a coroutine function to its end, `run(main)`; it must not take longer than a minute."""

    async def limited(main: Callable[[], Awaitable[Any]]) -> Any:
        with anyio.fail_after(60):
            return await main()

    return lambda main: anyio.run(limited, main, backend=backend)
