"""How long a call may wait: a number of seconds, or None, which means the default as everywhere."""

from __future__ import annotations

import math

from natsvc.errors import ConfigError

__all__ = ["check_timeout"]


def check_timeout(field: str, value: object, default: float) -> float:
    """Return the seconds that a call may wait.

    Raises:
        ConfigError: It is not a finite number of at least 0.
    """
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ConfigError(field, value, "must be a number of seconds, 0 or more")
    return float(value)
