"""What goes back to a caller: a handler's result as bytes, an error as headers, checked for size before it is written.

The server answers a message over its limits by closing the connection, and with it goes everybody's work. So sizes are
checked here, for every connection.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from natsvc.core.models import EndpointInfo, EndpointStats, ServiceInfo, ServicePing, ServiceStats
from natsvc.core.subjects import MAX_CONTROL_LINE
from natsvc.errors import MaxPayloadError
from natsvc.headers import ERROR_CODE_HEADER, ERROR_HEADER, Headers
from natsvc.message import Data, encode_data

__all__ = [
    "SURELY_SHORT",
    "Data",
    "Reply",
    "ReplyHeaders",
    "encode_json",
    "encode_result",
    "error_headers",
    "make_reply",
    "printable_error",
]

ReplyHeaders: TypeAlias = "Headers | Mapping[str, str] | None"

SURELY_SHORT = MAX_CONTROL_LINE // 8
"""A subject of so many characters, of at most 4 bytes each, leaves room in a command line whatever stands behind it."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


Reply: TypeAlias = "tuple[str | bytes, bytes, Headers | None, bytes]"
"""A message to publish: its reply subject, its data, its headers, and these again as they are encoded, b"" for none.

The reply subject is in bytes if it came so, and goes back as it came.

In a bare tuple, for nearly every request has one: as an object it takes 1.03 x the CPU time of the whole request.
"""


def make_reply(subject: str | bytes, data: Data, headers: ReplyHeaders, max_payload: int) -> Reply:
    """Return the reply, if the server takes it.

    Raises:
        MaxPayloadError: Headers and data exceed max_payload, or the command line what a server reads of one.
        HeaderError: A header name or value can't stand in a header block.
        TypeError: The data is neither bytes nor text.
    """
    body = data if type(data) is bytes else encode_data(data)
    if headers:
        checked = Headers(headers)
        block = checked.encode()
    else:
        checked, block = None, b""
    size = len(block) + len(body)
    if size > max_payload:
        raise MaxPayloadError(size, max_payload)
    if len(subject) > SURELY_SHORT:
        encoded = subject if isinstance(subject, bytes) else subject.encode("utf-8", "surrogateescape")
        line = len(encoded) + len(f"  {len(block)} {size}")
        if line > MAX_CONTROL_LINE:
            raise MaxPayloadError(line, MAX_CONTROL_LINE, "command line")
    return subject, body, checked, block


def encode_json(value: object) -> bytes:
    """Return a value as JSON; dataclasses become objects.

    Raises:
        TypeError: The value holds something that JSON can't.
        ValueError: The same, of a float that is no number, of a circle, or of text that UTF-8 can't hold.
    """
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_fields).encode()


def encode_result(result: object) -> bytes:
    """Return what a handler's return value means as a response: bytes and text as they are, the rest as JSON.

    Raises:
        TypeError: The value is none of those a handler may return, or holds something that JSON can't.
        ValueError: JSON can't hold the value.
    """
    if isinstance(result, (str, bytes, bytearray, memoryview)):
        return encode_data(result)
    if isinstance(result, (dict, list)) or (dataclasses.is_dataclass(result) and not isinstance(result, type)):
        return encode_json(result)
    if inspect.iscoroutine(result):
        result.close()  # nobody will await it, and Python would warn of that somewhere else
    raise TypeError(
        f"a handler must return bytes, str, dict, list, a dataclass or None (and an async one be an async def), "
        f"not {type(result).__name__}"
    )


def printable_error(code: str | int | None, description: str | None) -> tuple[str, str]:
    """Return code and description as they can be sent: no control characters, neither of them empty."""
    code = "" if code is None else code
    description = "" if description is None else description
    code = _printable(str.__str__(code) if isinstance(code, str) else str(code)) or "500"
    return code, _printable(str(description)) or code


def error_headers(code: str, description: str, headers: ReplyHeaders = None) -> Headers:
    """Return the headers of an error reply; its own two override the given ones."""
    merged = Headers(headers or ())
    merged[ERROR_CODE_HEADER] = code
    merged[ERROR_HEADER] = description
    return merged


def _printable(text: str) -> str:
    return _CONTROL.sub(" ", text.encode("utf-8", "replace").decode()).strip()


def _fields(value: object) -> dict[str, Any]:
    if isinstance(value, (ServicePing, ServiceInfo, ServiceStats, EndpointInfo, EndpointStats)):
        return value.to_dict()
    if isinstance(value, Mapping):
        return dict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    raise TypeError(f"JSON has no form for {type(value).__name__}")
