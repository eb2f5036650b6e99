"""The sizes that a simulation is made with: as they were given, else as a target has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from lifeboat.cli.output import note, warn
from lifeboat.errors import LifeboatError, PolicyError

if TYPE_CHECKING:
    from lifeboat.repository.retention.foreseeing import Makings
    from lifeboat.repository.system import SystemRepository

A_DAY = {"wal"}
"""The kinds whose size is that of a day."""


@dataclass(frozen=True)
class Size:
    """How much of a kind there is.

    Attributes:
        stored_size: bytes of a recovery point; of WAL, of a day of it.
        known_from: where that comes from, in words.
    """

    stored_size: int
    known_from: str


def given_sizes(words: Sequence[str]) -> dict[str, int]:
    """Read what ``--size`` says.

    Raises:
        BadParameter: it says no size.
    """
    from lifeboat.policy.problems import Refused
    from lifeboat.policy.size import parse_size

    given = {}
    for word in words:
        kind, equals, text = word.partition("=")
        if not equals:
            raise typer.BadParameter(f"{word!r} is not KIND=SIZE, such as full='80 GB'.", param_hint="--size")
        try:
            given[kind.strip()] = parse_size(text)
        except Refused as error:
            raise typer.BadParameter(str(error), param_hint="--size") from None
    return given


def sizes_of(
    repository: SystemRepository, source: str, makings: Makings, given: Mapping[str, int]
) -> tuple[Makings, dict[str, Size]]:
    """The size of each kind: as it was given, else as a target has it; with what is made of them.

    Raises:
        PolicyError: of a kind nothing was given, and nothing is there to measure.
    """
    found = {kind: Size(given[kind], "given") for kind in makings.kinds_made() if kind in given}
    why = _measure(repository, source, makings, found)
    missing = [kind for kind in makings.kinds_made() if kind not in found]
    instead = makings.fulls_instead()
    if instead is not None and missing and not set(missing) & set(instead.kinds_made()):
        note(f"{source}: no incremental is there, and the policy says `instead: full`: fulls are simulated.")
        return instead, {kind: found[kind] for kind in instead.kinds_made()}
    if missing:
        reasons = "".join(f" {sentence}" for sentence in why)
        what = f"How much a recovery point of the kind {missing[0]} takes is not known"
        if len(missing) > 1:
            what = f"How much recovery points of the kinds {', '.join(missing)} take is not known"
        raise PolicyError(
            f"{what}: no target that can be read has any of {source} to measure.{reasons}",
            "Say it: " + " ".join(f"--size {kind}='10 GB'" for kind in missing)
            + (" (of wal: what a day makes)" if set(missing) & A_DAY else "") + ".",
        )  # fmt: skip
    return makings, {kind: found[kind] for kind in makings.kinds_made()}


def _measure(repository: SystemRepository, source: str, makings: Makings, found: dict[str, Size]) -> list[str]:
    """Measure what is not known yet, target by target; returns why there is less than there could be."""
    from lifeboat.cli.outside import targets_of
    from lifeboat.errors import Cancelled
    from lifeboat.repository.retention.sizing import measure

    why: list[str] = []
    for target in targets_of(repository.loaded):
        missing = [kind for kind in makings.kinds_made() if kind not in found]
        if not missing:
            break
        try:
            measured, sentences = measure(repository.catalogue(target), source, missing, makings.roles)
        except Cancelled:
            raise
        except LifeboatError as error:
            warn(f"{source}: the target {target} can't be read: {error.what}")
            why.append(f"{target} can't be read.")
            continue
        why += sentences
        for one in measured:
            found[one.kind] = Size(one.stored_size, f"measured on {one.target}, {one.count} recovery points")
    return why
