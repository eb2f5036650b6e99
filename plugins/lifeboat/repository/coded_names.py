"""Names of any bytes in JSON: as text where they are UTF-8, else as Base64 under a key that ends in ``_base64``."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from typing import Any


def coded_name(key: str, text: str) -> dict[str, str]:
    """What stands in JSON for a name, which may be as :func:`os.fsdecode` gives it; nothing for an empty one."""
    if not text:
        return {}
    try:
        text.encode()
    except UnicodeEncodeError:
        return {f"{key}_base64": base64.b64encode(os.fsencode(text)).decode()}
    return {key: text}


def name_told(told: Mapping[str, Any], key: str) -> str:
    """The name that stands under a key; empty where there is none. Raises ``ValueError`` when it is no Base64."""
    if (coded := told.get(f"{key}_base64")) is not None:
        return os.fsdecode(base64.b64decode(coded))
    return str(told.get(key, ""))
