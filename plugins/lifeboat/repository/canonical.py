"""The one text of a signed document: sorted keys, no white space, no floating-point number, which makes it the form of
RFC 8785.

Source: https://www.rfc-editor.org/rfc/rfc8785
"""

from __future__ import annotations

import json
from typing import Any


def canonical(document: dict[str, Any]) -> bytes:
    """The bytes that are signed."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def printable(value: Any) -> Any:
    """The same with bytes that are no text written out: names of files may hold them, and documents name files."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {printable(key): printable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [printable(item) for item in value]
    return value


def holds_float(value: Any) -> bool:
    """Whether a floating-point number is anywhere in it: their text differs between writers."""
    if isinstance(value, dict):
        return any(holds_float(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(holds_float(item) for item in value)
    return isinstance(value, float)
