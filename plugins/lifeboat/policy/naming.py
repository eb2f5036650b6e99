"""Names of systems and sources, and the DAG ids made of them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from lifeboat.policy.problems import Refused


class Tier(StrEnum):
    """A schedule and a retention of a source."""

    WAL = "wal"
    INCREMENTAL = "incremental"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    YEARLY = "yearly"
    EXPORT = "export"
    CHANGE = "change"


SYSTEM_WORK = ("retention_cleanup", "restore", "restore_test", "dr_drill")
"""What each system has DAGs for, besides its tiers: ``<system>_restore`` and so on."""

LONGEST_NAME = 48
_PATTERN = r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$"
_REMEDY = "Write lower-case letters, digits and single underscores, a letter first: `sales_scorecard`."

# `<system>/journal` on a target is the journal, and policies, kits and day bundles are kept beside it.
_TAKEN_BY_THE_LAYOUT = frozenset({"journal", "policy", "policies", "kit", "bundles", "evidence"})
# Lifeboat's own DAGs begin with it.
_TAKEN_BY_LIFEBOAT = frozenset({"lifeboat"})


def _checked(name: str) -> str:
    if len(name) > LONGEST_NAME:
        raise Refused(f"A name has at most {LONGEST_NAME} characters; this one has {len(name)}.", "Shorten it.")
    if re.fullmatch(_PATTERN, name) is None:
        raise Refused(f"`{name}` can't be a name.", _REMEDY)
    return name


def _checked_system(name: str) -> str:
    if name in _TAKEN_BY_LIFEBOAT:
        raise Refused(f"`{name}` is kept for Lifeboat's own DAGs.", "Choose another name for the system.")
    return _checked(name)


def _checked_source(name: str) -> str:
    if name in _TAKEN_BY_THE_LAYOUT:
        raise Refused(f"`{name}` is a folder of Lifeboat's own on every target.", "Choose another name for the source.")
    return _checked(name)


_JSON_SCHEMA = WithJsonSchema({"type": "string", "pattern": _PATTERN, "maxLength": LONGEST_NAME})
Name = Annotated[str, AfterValidator(_checked), _JSON_SCHEMA]
SystemName = Annotated[str, AfterValidator(_checked_system), _JSON_SCHEMA]
SourceName = Annotated[str, AfterValidator(_checked_source), _JSON_SCHEMA]


def dag_id(system: str, source: str, tier: str) -> str:
    """The id of the DAG that backs a source up: ``erp_database_daily``."""
    return f"{system}_{source}_{tier}"


def work_dag_id(system: str, work: str) -> str:
    """The id of the DAG for a system's own work, one of ``SYSTEM_WORK``: ``erp_retention_cleanup``."""
    return f"{system}_{work}"


@dataclass(frozen=True)
class Collision:
    """Two owners of one id.

    Attributes:
        id: the DAG id that both would have; with ``*`` at its end for all that begin so.
        systems: the systems that want it; one system twice when it collides with itself.
        owners: who wants it, in words: ``system `a`, source `b_c` ``.
    """

    id: str
    systems: tuple[str, ...]
    owners: tuple[str, ...]


def collisions(systems: Mapping[str, Iterable[str]]) -> list[Collision]:
    """Every id that two systems or sources would share.

    ``systems`` maps each system's name to the names of its sources. System ``a`` with source ``b_c`` and system
    ``a_b`` with source ``c`` collide whatever tiers they have: a tier added later, or the default name of a
    replication slot, would make them meet.
    """
    owners: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for system, sources in sorted(systems.items()):
        for work in SYSTEM_WORK:
            owners[work_dag_id(system, work)].append((system, f"system `{system}` (its {work.replace('_', ' ')})"))
        for source in sorted(sources):
            owner = (system, f"system `{system}`, source `{source}`")
            owners[f"{system}_{source}_*"].append(owner)
            for tier in Tier:
                owners[dag_id(system, source, tier)].append(owner)
    found: dict[tuple[str, ...], Collision] = {}
    for shared, claims in sorted(owners.items(), key=lambda item: (len(item[0]), item[0])):
        if len(claims) > 1:
            words = tuple(text for _, text in claims)
            found.setdefault(words, Collision(shared, tuple(dict.fromkeys(name for name, _ in claims)), words))
    return list(found.values())
