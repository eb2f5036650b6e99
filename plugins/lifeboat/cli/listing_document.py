"""``lifeboat list --json``: the fields that docs/command-line.md promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lifeboat.cli.output import iso
from lifeboat.cli.overview import newest_result

if TYPE_CHECKING:
    from lifeboat.cli.holdings import Away
    from lifeboat.cli.listing_deleted import Deleted
    from lifeboat.cli.overview import Entry, Overview
    from lifeboat.repository.last_verified import LastVerified, Place

_Results = dict["Place", "LastVerified"]


def document(
    system: str,
    views: Sequence[Overview],
    away: Sequence[Away],
    results: _Results,
    hidden: Mapping[str, Sequence[Deleted]],
    *,
    wal: bool,
) -> dict[str, Any]:
    """One system.

    Args:
        hidden: what retention hides of each source; of a source that is not in it nobody asked.
    """
    return {
        "system": system,
        "sources": [_source(view, results, hidden.get(view.source), wal=wal) for view in views],
        "out_of_reach": [{"target": one.target, "what": one.error.what, "remedy": one.error.remedy} for one in away],
    }


def _source(view: Overview, results: _Results, hidden: Sequence[Deleted] | None, *, wal: bool) -> dict[str, Any]:
    from lifeboat.postgres.restore_planning import merged_ranges

    found: dict[str, Any] = {
        "source": view.source,
        "recovery_points": [_entry(entry, results) for entry in view.entries],
        "wal": [asdict(one) for one in view.wal],
        "reachable": [
            {"target": holding.target, "from": iso(first), "until": iso(last)}
            for holding in view.holdings
            for first, last in merged_ranges(holding.reaches)
        ],
        "findings": [{"target": target, "what": what} for target, what in view.findings],
    }
    if wal:
        found["wal_runs"] = [_entry(entry, results) for entry in view.wal_entries]
    if hidden is not None:
        found["deleted"] = [one.document() for one in hidden]
    return found


def _entry(entry: Entry, results: _Results) -> dict[str, Any]:
    manifest = entry.manifest
    return {
        "id": manifest.recovery_point,
        "kind": manifest.kind,
        "timeline": manifest.timeline,
        "tiers": list(manifest.tiers),
        "only": list(entry.only),
        "sequence": manifest.sequence,
        "chain": manifest.chain,
        "parent": manifest.parent,
        "needs": list(manifest.needs),
        "begun": iso(manifest.begun),
        "committed": iso(manifest.committed),
        "moment": iso(manifest.moment),
        "plain_size": manifest.plain_size,
        "stored_size": manifest.stored_size,
        "state": manifest.state,
        "rebuilt": manifest.rebuilt.model_dump(mode="json") if manifest.rebuilt is not None else None,
        "findings": list(manifest.findings),
        "degraded": list(manifest.degraded),
        "note": manifest.note,
        "copies": [
            {"target": target, "manifest_sha256": copy.sha256, "last_verified": _result(entry, target, results)}
            for target, copy in entry.copies.items()
        ],
    }


def _result(entry: Entry, target: str, results: _Results) -> dict[str, Any] | None:
    result = newest_result(entry, target, results)
    if result is None:
        return None
    return {"time": iso(result.time), "good": result.good, "method": result.method}
