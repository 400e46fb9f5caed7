"""The service of natsvc, which is the same in all its front-ends."""

from __future__ import annotations

from benchmarks.services.handlers import Handlers
from benchmarks.subjects import SERVICE, WAIT, WINDOW
from natsvc import ServiceDefinition

__all__ = ["define"]


def define(handlers: Handlers, endpoints: int) -> ServiceDefinition:
    """Return it with so many endpoints."""
    definition = ServiceDefinition(SERVICE, version="1.0.0")
    for name, subject, handler in handlers.endpoints(endpoints):
        # All else has natsvc's defaults.
        limits = {"max_concurrency": WINDOW, "max_workers": WINDOW} if subject == WAIT else {}
        definition.add_endpoint(name, subject=subject, handler=handler, **limits)
    return definition
