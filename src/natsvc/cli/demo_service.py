"""The service that `natsvc demo` runs three times: one definition, with nothing in it of where it runs.

    natsvc serve natsvc.cli.demo_service:definition --on trio

runs one more. Its handlers are plain functions, for these run on every front-end: in threads as they are, on an event
loop in threads beside it.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from natsvc import ServiceDefinition, ServiceError

if TYPE_CHECKING:
    from natsvc.sync import Request

__all__ = ["FRONT_END", "NAME", "definition"]

NAME = "demo"

FRONT_END: ContextVar[str] = ContextVar("front_end", default="an instance outside of the demo")
"""Where the instance runs. A request's context is a copy of the one in which its service was added."""

definition = ServiceDefinition(NAME, version="1.0.0", description="Greets, and divides")
_demo = definition.add_group("demo")


@_demo.endpoint("greet")
def greet(request: Request) -> dict[str, Any]:
    """Greet who is named; a request that names nobody gets the error 400."""
    name = request.data.decode(errors="replace").strip()
    if not name:
        raise ServiceError(400, "there is nobody to greet")
    return {"greeting": f"Hello, {name}!", "by": FRONT_END.get()}


@_demo.endpoint("divide")
def divide(request: Request) -> dict[str, Any]:
    """Divide `a` by `b`. That b may be 0 was not thought of: its caller gets the error 500, without details."""
    numbers = request.json()
    return {"quotient": numbers["a"] / numbers["b"], "by": FRONT_END.get()}
