"""How restored databases are called: beside the old one, and under another name until they are proven."""

from __future__ import annotations

import secrets
from datetime import datetime

LONGEST_NAME = 63
"""NAMEDATALEN - 1, in bytes."""
UNPROVEN = "lifeboat_unproven_"


def restored_name(database: str, moment: datetime) -> str:
    """The name of a database that is brought back beside the old one: ``erp_restored_20261122t010000``."""
    return _cut(database, f"_restored_{moment:%Y%m%dt%H%M%S}")


def unproven_name(database: str) -> str:
    """The name of a database that is not proven yet: no application connects to it by accident."""
    return UNPROVEN + _cut(database, f"_{secrets.token_hex(4)}", LONGEST_NAME - len(UNPROVEN))


def _cut(name: str, ending: str, longest: int = LONGEST_NAME) -> str:
    kept = name.encode()[: longest - len(ending)].decode("utf-8", "ignore")
    return kept + ending
