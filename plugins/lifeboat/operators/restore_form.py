"""The trigger form of a restore, and what its fields mean together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param

from lifeboat.policy.built import built_targets, built_tiers
from lifeboat.policy.model import Policy

if TYPE_CHECKING:
    from lifeboat.recovery.approval.options import RestoreOptions
    from lifeboat.recovery.approval.request import DestinationKind

_TEXTS = {"time": "at", "lsn": "lsn", "recovery_point": "recovery_point"}
_TITLES = {
    "time": (
        "Moment: a time",
        "Without an offset, on the clock of the policy's zone. Nothing here and below: the latest.",
    ),
    "lsn": ("Moment: a position in the WAL", "Of a database, such as 0/3000028."),
    "recovery_point": ("Moment: a recovery point", "Its id, as `lifeboat list` shows it."),
}


@dataclass(frozen=True)
class Asked:
    """What a form asks for.

    Attributes:
        source, options, destination, host, reason, ticket: as in a request.
    """

    source: str
    options: RestoreOptions
    destination: DestinationKind
    host: str
    reason: str
    ticket: str


def restore_form(policy: Policy) -> dict[str, Param]:
    """The fields."""
    sources = list(dict.fromkeys(name for name, _ in built_tiers(policy)))
    kinds = ["scratch", "connection", "worker_directory", *(["ssh_host"] if policy.restore.hosts else [])]
    form = {
        "source": Param(sources[0] if len(sources) == 1 else None, type="string", enum=sources, title="What"),
    }
    for name, (title, description) in _TITLES.items():
        form[name] = Param(None, type=["null", "string"], title=title, description=description)
    form["target"] = Param(
        None,
        type=["null", "string"],
        enum=[None, *built_targets(policy)],
        title="Read from",
        description="This target alone; by default the nearest that can.",
    )
    form["destination"] = Param(
        "scratch",
        type="string",
        enum=kinds,
        title="Where it ends",
        description="A new directory in a scratch place; a server, by its connection, for a logical archive or an "
        "export; a directory of a worker; a directory on a database's host.",
    )
    form["place"] = Param(
        None,
        type=["null", "string"],
        title="Place",
        description="The directory, or the id of the connection. A directory must be empty or not there, or replaced.",
    )
    if policy.restore.hosts:
        form["host"] = Param(None, type=["null", "string"], enum=[None, *policy.restore.hosts], title="Host")
    form["only"] = Param(
        [], type="array", items={"type": "string"}, title="Only", description="Tables, or paths; a pattern a line."
    )
    form["database"] = Param(
        None, type=["null", "string"], title="Database", description="Of a logical archive: this one alone."
    )
    form["new_name"] = Param(
        None, type=["null", "string"], title="Called", description="Of a logical archive: the database's new name."
    )
    form["replace"] = Param(
        False,
        type="boolean",
        title="In the place of what is there",
        description="The database or data directory of that name is renamed aside, not removed, and gets its name back "
        "when something fails. Of a set of files: its files take the place of those that are there.",
    )
    form["reason"] = Param(type="string", minLength=3, maxLength=500, title="Why", default=None)
    form["ticket"] = Param("", type="string", maxLength=200, title="Ticket")
    return form


def asked_by(params: Mapping[str, Any], policy: Policy, request_id: str) -> Asked:
    """What the form asks for.

    Raises:
        RestoreError: its fields don't fit together.
    """
    from lifeboat.errors import RestoreError
    from lifeboat.recovery.approval.options import RestoreOptions

    destination: DestinationKind = params["destination"]
    place, host = _text(params, "place"), _text(params, "host")
    if (destination == "scratch") == bool(place):
        raise RestoreError(
            f"The destination {destination} {'takes no place' if place else 'needs a place'}.",
            "A scratch place is made; of the others, name the directory or the connection.",
        )
    if (destination == "ssh_host") != bool(host):
        raise RestoreError(
            f"The destination {destination} {'takes no host' if host else 'needs a host'}.",
            "Hosts stand under `restore.hosts` in the policy.",
        )
    source = str(params["source"])
    moments = {field: _text(params, name) for name, field in _TEXTS.items()}
    into = str(_scratch(policy) / f"{policy.system}-{source}-{request_id}") if destination == "scratch" else place
    to_server = destination == "connection"
    replace = bool(params.get("replace"))
    kind = policy.sources[source].kind
    options = RestoreOptions(
        into=None if to_server else into,
        connection=place if to_server else None,
        target=_text(params, "target"),
        only=tuple(str(pattern) for pattern in params.get("only") or ()),
        databases=tuple(filter(None, [_text(params, "database")])),
        new_name=_text(params, "new_name"),
        replace_database=replace and to_server,
        replace_directory=replace and not to_server and kind == "postgres",
        replace_files=replace and kind == "files",
        **moments,
    )
    return Asked(
        source, options, destination, host or "", str(params.get("reason") or ""), str(params.get("ticket") or "")
    )


def _text(params: Mapping[str, Any], name: str) -> str | None:
    return str(params.get(name) or "").strip() or None


def _scratch(policy: Policy) -> Path:
    from lifeboat.recovery.approval.scratch import scratch_places

    return scratch_places(policy)[0]
