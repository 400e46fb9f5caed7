"""The command `natsvc`: finds, watches, calls and runs NATS services from a terminal.

Nothing here is loaded by the library. A command's own module is imported when that command runs, so that starting one
costs no more than what it does.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import sys
from collections.abc import Sequence

__all__ = ["main"]

_NEEDED = ("typer", "rich")
_INSTALL = "pip install 'natsvc[cli]'"

_FAILED = 1
_MISUSED = 2
_INTERRUPTED = 130  # 128 and the number of SIGINT, as shells have it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit status.

    Args:
        arguments: The command line without the program's name. Default: that of the process.

    Returns:
        0, or what the command ends with; 1 after an error, which is told in one line on stderr; 2 if the command line
        is wrong; 130 after Ctrl-C.
    """
    _prepare_streams()
    try:
        missing = [package for package in _NEEDED if importlib.util.find_spec(package) is None]
        if missing:
            return _fail(f"natsvc: the command needs the package {missing[0]}: {_INSTALL}")
        status = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()  # here, where an error of it can still be told
        return status
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        _give_up_stdout()
        return _FAILED
    except OSError as error:
        _give_up_stdout()
        return _fail(f"natsvc: {error}")


def _run(arguments: Sequence[str]) -> int:
    import typer

    from natsvc.cli.app import app
    from natsvc.cli.output import CommandError, in_one_line
    from natsvc.errors import NatsvcError, ServiceError

    try:
        # Not standalone: Typer then leaves it to us to say what is wrong, and in how many lines.
        status = app(list(arguments), prog_name="natsvc", standalone_mode=False)
    except typer.Exit as end:
        return end.exit_code
    except typer.Abort:  # Typer's word for Ctrl-C
        return _INTERRUPTED
    except CommandError as error:
        return _fail(f"natsvc: {in_one_line(error)}", error.status)
    except ServiceError as error:
        return _fail(in_one_line(error))
    except NatsvcError as error:
        return _fail(f"natsvc: {in_one_line(_with_cause(error))}")
    except Exception as error:
        if not isinstance(error, _usage_error()):
            raise
        return _fail(f"natsvc: {in_one_line(_told(error))}", _MISUSED)
    return status if isinstance(status, int) else 0


def _usage_error() -> type[Exception]:
    """Return the class of wrong command lines: Click's, or that of the Click which later Typers have inside."""
    import typer

    return next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")


def _told(error: Exception) -> str:
    """Say what is wrong with the command line, and where its help is."""
    context = getattr(error, "ctx", None)
    path = "natsvc" if context is None else context.command_path
    message: str = error.format_message() if hasattr(error, "format_message") else str(error)
    return f"{message.rstrip('.')}; see {path} --help"


def _with_cause(error: Exception) -> str:
    """Return an error's text, and that of its cause unless it is in there already."""
    text, cause = str(error), error.__cause__
    return text if cause is None or str(cause) in text else f"{text}: {cause}"


def _fail(line: str, status: int = _FAILED) -> int:
    print(line, file=sys.stderr)
    return status


def _prepare_streams() -> None:
    """See to it that there are streams, and that those to write to take every character, if need be escaped."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115  # for the process's life
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115  # for the process's life
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _give_up_stdout() -> None:
    """Have what is still unwritten go nowhere: the interpreter would try once more, and complain."""
    with open(os.devnull, "wb") as nowhere, contextlib.suppress(OSError, ValueError):  # noqa: PTH123  # a device
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
