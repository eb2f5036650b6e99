"""The archive that an auditor gets: every record and event as it is stored, and all that is needed to check them.

A gzipped tar archive, made the same of the same evidence: members by name, owned by nobody, each of the time at which
what it holds ended. It is written under a hidden name and gets its own when it is whole.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import secrets
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lifeboat
from lifeboat.errors import RepositoryError
from lifeboat.recovery.auditing import Evidence
from lifeboat.recovery.controls import controls_of

PROJECT = Path(lifeboat.__file__).resolve().parents[2]
"""Where the project lies that this package belongs to."""
SCRIPT = "check_evidence.py"


@dataclass(frozen=True)
class Member:
    """A file of the archive: its bytes and its time."""

    data: bytes
    time: datetime


def read_script(project: Path = PROJECT) -> bytes:
    """The script that checks an archive.

    Raises:
        RepositoryError: it is not where the project has it.
    """
    path = project / "include" / "auditor" / SCRIPT
    try:
        return path.read_bytes()
    except OSError as error:
        raise RepositoryError(
            f"{path} can't be put into the archive: {error.strerror}.",
            "It belongs to the project: install Lifeboat from a clone of it, `pip install -e .`.",
        ) from error


def index_of(evidence: Evidence) -> dict[str, Any]:
    """What is in the archive and what is amiss, for programs."""
    compared = evidence.compared
    return {
        "format_version": 1,
        "system": evidence.system,
        "target": evidence.target,
        "from": _iso(evidence.period.since),
        "to": _iso(evidence.period.until),
        "made": _iso(evidence.made),
        "made_by": evidence.made_by,
        "lifeboat_version": lifeboat.__version__,
        "records": [
            {
                "id": record.id,
                "kind": record.kind,
                "passed": record.passed,
                "begun": _iso(record.begun),
                "ended": _iso(record.ended),
                "file": f"records/{record.id}.json",
                "sha256": record.sha256,
                "policy": f"policies/{_bare(record.policy_digest)}.yaml"
                if evidence.policies.get(record.policy_digest) is not None
                else None,
                "controls": [control.name for control in controls_of(record.kind)],
            }
            for record in evidence.records
        ],
        "missing": [{"record": one.record, "event": one.event} for one in compared.missing],
        "unannounced": list(compared.unannounced),
        "unbelievable": [{"key": one.key, "what": one.what} for one in evidence.unbelievable],
        "missed_runs": [
            {"kind": run.kind, "due": _iso(run.due), "following": _iso(run.following), "may_come": run.may_come}
            for run in evidence.missed
        ],
    }


def members_of(evidence: Evidence, script: bytes) -> dict[str, Member]:
    """The archive's files by name."""
    newest = max((record.ended for record in evidence.records), default=evidence.period.since)
    ends = {record.id: record.ended for record in evidence.records}
    members = {f"records/{record.id}.json": Member(record.to_json(), record.ended) for record in evidence.records}
    for event in evidence.compared.events:
        # Events and records are read only where their own JSON is what is stored.
        members[f"events/{event.file}"] = Member(event.to_json(), ends.get(str(event.details["record"]), event.time))
    for digest, text in evidence.policies.items():
        if text is not None:
            members[f"policies/{_bare(digest)}.yaml"] = Member(text, newest)
    keys = {"trusted_keys": [key.model_dump(mode="json") for key in evidence.keys]}
    members |= {
        "keys.json": Member(_text(keys), newest),
        "index.json": Member(_text(index_of(evidence)), newest),
        "README.txt": Member(_read_me(evidence), newest),
        SCRIPT: Member(script, newest),
    }
    return dict(sorted(members.items()))


def archive_of(members: Mapping[str, Member]) -> bytes:
    """The archive's bytes: the same of the same members, on any machine with the same zlib."""
    packed = io.BytesIO()
    # Nothing of the day, the machine or the file's name in the gzip header.
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as squeezed,
        tarfile.open(fileobj=squeezed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, member in sorted(members.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode = len(member.data), int(member.time.timestamp()), 0o644
            archive.addfile(entry, io.BytesIO(member.data))
    return packed.getvalue()


def insist_on_new(destination: Path) -> None:
    """Insist on nothing bearing the name that the archive is to get.

    Raises:
        RepositoryError: something does.
    """
    if destination.exists() or destination.is_symlink():
        raise RepositoryError(
            f"{destination} is there already.", "An archive is never overwritten: name another file, or remove it."
        )


def write_archive(evidence: Evidence, destination: Path, *, project: Path = PROJECT) -> str:
    """Write the archive, of mode 0600, and return its SHA-256.

    Raises:
        RepositoryError: there is a file of that name, or it can't be written.
    """
    packed = archive_of(members_of(evidence, read_script(project)))
    unfinished = destination.with_name(f".{destination.name}.{secrets.token_hex(4)}.unfinished")
    try:
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(packed)
                file.flush()
                os.fsync(file.fileno())
            _give_name(unfinished, destination)
        finally:
            unfinished.unlink(missing_ok=True)
        # Some file systems refuse to sync a directory; the archive itself is on the disk.
        with suppress(OSError):
            _sync(destination.parent)
    except OSError as error:
        raise RepositoryError(
            f"The archive can't be written to {destination}: {error.strerror or error}.",
            "Name a file in a directory that exists, with room for it.",
        ) from error
    return hashlib.sha256(packed).hexdigest()


def _give_name(unfinished: Path, destination: Path) -> None:
    try:
        os.link(unfinished, destination)
    except OSError:
        # Something has the name, or the file system knows no hard links.
        insist_on_new(destination)
        unfinished.rename(destination)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _text(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _bare(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _read_me(evidence: Evidence) -> bytes:
    compared = evidence.compared
    return f"""EVIDENCE OF RECOVERY

System {evidence.system}, from {_iso(evidence.period.since)} to {_iso(evidence.period.until)},
as the target {evidence.target} had it at {_iso(evidence.made)}; brought together by {evidence.made_by}.

{len(evidence.records)} records of restore tests, drills and restores.
Amiss: {len(compared.missing)} missing, {len(compared.unannounced)} unannounced, {len(evidence.unbelievable)} not to \
be believed, {len(evidence.missed)} runs without a record.

  records/           one signed record of each: what came back, from where, what was looked at, how long it took
  events/            the journal's signed announcement of each record, with the record's SHA-256
  policies/          the policies that they were made by, by their SHA-256
  index.json         all of them, the controls that each is evidence for, and what is amiss; not signed
  keys.json          the public keys that were trusted; not signed
  check_evidence.py  checks all of this without Lifeboat, in forty lines that can be read

To check it, on a machine with Python 3.11 or later and its package cryptography:

  1. Take check_evidence.py from Lifeboat's own repository (include/auditor), or read the one in here first:
     whoever could change this archive could change the script in it.
  2. Ask the system's owners for their trusted keys, apart from this archive: the file systems/{evidence.system}.json
     of a recovery kit, or the list signing.trusted of the policy as JSON.
  3. python check_evidence.py ARCHIVE.tar.gz TRUSTED_KEYS.json

It prints a line for each record and each fault, and ends with 0 if and only if there is no fault. A record that failed
is no fault: it is evidence. What the script can't see is a record that was left out together with its announcement:
compare the archive with one that is made from another target, in your presence.
""".encode()
