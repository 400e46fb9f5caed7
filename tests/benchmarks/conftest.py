"""Contenders as the benchmarks run them; what npm installs goes where the tests' other files are."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from benchmarks.contenders import CONTENDERS, JAVASCRIPT, Contender


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's own cache directory out of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(
    params=[
        pytest.param(contender, id=name, marks=[pytest.mark.node] if name == JAVASCRIPT else [])
        for name, contender in CONTENDERS.items()
    ]
)
def contender(request: pytest.FixtureRequest) -> Contender:
    """Each contender that is here; in continuous integration, all but natsio, which the tests don't install, are."""
    one: Contender = request.param
    if (reason := one.missing()) is not None:
        if os.environ.get("CI") and one.kind != "natsio":
            pytest.fail(f"{reason}; in continuous integration that is an error")
        pytest.skip(reason)
    return one
