"""How databases are called that are brought back beside others, or that gave way to them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection
from datetime import datetime

LONGEST_NAME = 63
"""NAMEDATALEN - 1, in bytes."""
BEFORE = "_before_"
_GAVE_WAY = re.compile(rf"(.*){BEFORE}\d{{8}}t\d{{6}}(?:_\d+)?", re.DOTALL)


def restored_name(database: str, moment: datetime) -> str:
    """The name of a database that is brought back beside the old one: ``erp_restored_20261122t010000``."""
    return cut(database, f"_restored_{moment:%Y%m%dt%H%M%S}")


def before_name(database: str, now: datetime, taken: Collection[str]) -> str:
    """The name of a database that gave way to a restored one: ``erp_before_20261122t140500``; numbered where that is
    taken."""
    stamp = f"{BEFORE}{now:%Y%m%dt%H%M%S}"
    names = (cut(database, stamp if number == 1 else f"{stamp}_{number}") for number in itertools.count(1))
    return next(name for name in names if name not in taken)


def gave_way_as(name: str) -> str | None:
    """How a database was called that has such a name now; ``None`` for any other. What was cut off is not known."""
    found = _GAVE_WAY.fullmatch(name)
    return found[1] if found is not None else None


def cut(name: str, ending: str, longest: int = LONGEST_NAME) -> str:
    """A name with an ending, of so many bytes at most: the name gives way."""
    kept = name.encode()[: longest - len(ending)].decode("utf-8", "ignore")
    return kept + ending
