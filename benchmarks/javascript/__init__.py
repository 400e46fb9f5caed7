"""The JavaScript library, installed once where no checkout is: the other pace-setter among the interpreted languages.

Node looks for what a module imports in the directories above that module and nowhere else, so the programs of this
directory are copied to where the library is.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["MissingNodeError", "installation", "versions"]

_SOURCE = Path(__file__).parent
_PACKAGES = ("services", "transport-node", "nats-core")


class MissingNodeError(Exception):
    """Node, npm, or the library that npm should install, is not there."""


def installation() -> Path:
    """Return the directory with the library and the programs; install what isn't there yet.

    It is in the user's cache directory: $XDG_CACHE_HOME or ~/.cache.

    Raises:
        MissingNodeError: Node or npm is not there, or npm can't install the library.
    """
    found = _attempt()
    if isinstance(found, str):
        raise MissingNodeError(found)
    return found


@functools.cache  # also what is missing: npm takes its time to find out that there is no network
def _attempt() -> Path | str:
    for command in ("node", "npm"):
        if shutil.which(command) is None:
            return f"the command {command} is not on this machine"
    needed = (_SOURCE / "package.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "natsvc-benchmarks")
    directory = cache / hashlib.sha256(needed).hexdigest()[:16]
    done = directory / "installed"
    directory.mkdir(parents=True, exist_ok=True)
    for file in [_SOURCE / "package.json", *_SOURCE.glob("*.mjs")]:
        shutil.copy(file, directory)
    if not done.exists():
        if (reason := _install(directory)) is not None:
            return reason
        done.touch()
    return directory


def _install(directory: Path) -> str | None:
    """Have npm install the library; return why it can't."""
    npm = shutil.which("npm") or "npm"
    options = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error"]
    run = subprocess.run([npm, "install", *options], cwd=directory, capture_output=True, encoding="utf-8", check=False)
    if run.returncode == 0:
        return None
    reason = (run.stderr.strip() or run.stdout.strip() or f"code {run.returncode}").splitlines()[0]
    return f"npm install has failed: {reason}"


def versions() -> str:
    """Return the versions of Node and of the library's packages, as text.

    Raises:
        MissingNodeError: As for `installation`.
    """
    directory = installation()
    run = subprocess.run(["node", "--version"], capture_output=True, encoding="utf-8", check=True)
    found = [f"Node {run.stdout.strip().removeprefix('v')}"]
    for package in _PACKAGES:
        described = json.loads((directory / "node_modules" / "@nats-io" / package / "package.json").read_text("utf-8"))
        found.append(f"@nats-io/{package} {described['version']}")
    return ", ".join(found)
