"""Is a recovery kit still one? Everything that can be found out before the night in which it is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from lifeboat.errors import LifeboatError, RecoveryPointMissing
from lifeboat.kit.access import MakeOutside, environment_of, open_all
from lifeboat.kit.archive import open_archive
from lifeboat.kit.opening import Kit, faults, read_kit, read_manifest, verify_signature
from lifeboat.outside import Outside
from lifeboat.policy.built import built_targets, built_tiers
from lifeboat.policy.model import LoadedPolicy
from lifeboat.repository.catalogue import Catalogue, Copy
from lifeboat.repository.layout import RecoveryPointFolder, is_recovery_point, source_folder
from lifeboat.repository.system import SystemRepository
from lifeboat.targets.target import Finding

OLD = timedelta(days=92)
"""A kit is made anew with every quarterly drill."""


def check(
    path: Path,
    break_glass: Sequence[Path],
    make_outside: MakeOutside,
    *,
    policies: Mapping[str, LoadedPolicy] | None = None,
) -> list[Finding]:
    """Look at a kit from all sides; nothing is written anywhere.

    Args:
        path: the kit.
        break_glass: files with RSA private keys (PEM). Without any, the credentials stay closed, the targets that need
            them are not reached, and a finding says so.
        make_outside: makes the outside from the kit's connections: ``lifeboat.connections.outside_from``.
        policies: the policies in force by system, for comparison, where they are at hand.

    Returns:
        Findings; ``error`` means that this kit would not do.
    """
    if broken := _broken(path):
        return broken
    try:
        kit = read_kit(path)
    except LifeboatError as error:
        return [Finding("error", "kit", error.what, error.remedy)]
    findings = [Finding("ok", "kit", f"All {len(kit.manifest.files)} files are whole, and signed for every system.")]
    outside, more = _open(kit, break_glass, make_outside)
    findings += [_age(kit, outside.clock()), *more]
    findings += [Finding("warning", "kit", notice) for notice in kit.manifest.notices]
    if policies is not None:
        for system, loaded in kit.policies.items():
            findings += _compare(kit, system, loaded, policies.get(system))
        for system in sorted(set(policies) - set(kit.policies)):
            findings.append(Finding("error", system, "It is not in the kit.", "Export a new kit for all systems."))
    else:
        findings.append(
            Finding(
                "warning",
                "kit",
                "It was compared with no policy: its signatures were verified with keys that it brought itself.",
                "Check it with --policies where the policies are at hand.",
            )
        )
    for system, loaded in kit.policies.items():
        findings += _targets(system, SystemRepository(loaded, outside))
    return findings


def _broken(path: Path) -> list[Finding]:
    remedy = "Take another copy of the kit, or export a new one."
    try:
        with open_archive(path) as archive:
            manifest, _ = read_manifest(archive)
            return [Finding("error", "kit", fault, remedy) for fault in faults(archive, manifest)]
    except LifeboatError as error:
        return [Finding("error", "kit", error.what, error.remedy)]


def _open(kit: Kit, break_glass: Sequence[Path], make_outside: MakeOutside) -> tuple[Outside, list[Finding]]:
    subject = "credentials"
    if not kit.manifest.credentials:
        return make_outside({}), []
    if not break_glass:
        what = "They stay closed: no break-glass key was given."
        return make_outside({}), [
            Finding("warning", subject, what, "Check with --break-glass-key FILE once a quarter.")
        ]
    try:
        opened, failures = open_all(kit, break_glass)
    except LifeboatError as error:
        return make_outside({}), [Finding("error", subject, error.what, error.remedy)]
    findings = [
        Finding(
            "ok",
            f"credentials of {system}",
            f"The break-glass key opens them: {len(secret.connections)} connections, {len(secret.local_keys)} keys.",
        )
        for system, secret in opened.items()
    ]
    findings += [
        Finding("error", f"credentials of {system}", error.what, error.remedy) for system, error in failures.items()
    ]
    return make_outside(environment_of(opened)), findings


def _age(kit: Kit, now: datetime) -> Finding:
    age = now - kit.manifest.created
    what = f"It was made on {kit.manifest.created:%Y-%m-%d}, {age.days} days ago."
    if age < -timedelta(days=1):
        return Finding("warning", "age", f"{what} That is in the future.", "Is this machine's clock right?")
    if age > OLD:
        return Finding("warning", "age", what, "Export a new one with every drill, and whenever a policy changes.")
    return Finding("ok", "age", what)


def _compare(kit: Kit, system: str, loaded: LoadedPolicy, present: LoadedPolicy | None) -> Iterator[Finding]:
    if present is None:
        yield Finding("warning", system, "There is no policy of this system any more.", "Export a new kit.")
        return
    try:
        verify_signature(kit.path, kit.document, kit.manifest, kit.signatures[system], present)
    except LifeboatError as error:
        yield Finding("error", system, error.what, "Don't trust this kit before you know who made it.")
    trusted = {key.id: key for key in present.policy.signing.trusted}
    for key in loaded.policy.signing.trusted:
        if key.id not in trusted or trusted[key.id].public_key != key.public_key:
            yield Finding(
                "error",
                system,
                f"The kit trusts a key {key.id} that the policy does not.",
                "Find out who made this kit.",
            )
    if present.digest != loaded.digest:
        yield Finding("warning", system, "The policy was changed since the kit was made.", "Export a new kit.")
    else:
        yield Finding("ok", system, "The kit holds the policy in force.")


def _targets(system: str, repository: SystemRepository) -> Iterator[Finding]:
    # The kit's key for reading stays unused: a manifest's signature needs none.
    sources = list(dict.fromkeys(source for source, _ in built_tiers(repository.policy)))
    for target in built_targets(repository.policy):
        for source in sources:
            subject = f"{system} {source} on {target}"
            try:
                copies = list(_newest(repository.catalogue(target), source))
            except LifeboatError as error:
                yield Finding("error", subject, error.what, error.remedy)
                continue
            yield from _judge(subject, copies, repository.loaded.digest)


def _judge(subject: str, copies: list[Copy], digest: str) -> Iterator[Finding]:
    if not copies:
        yield Finding("warning", subject, "Nothing is committed there.", "Look whether backups run.")
        return
    newest = max(copies, key=lambda copy: copy.manifest.committed)
    yield Finding(
        "ok",
        subject,
        f"The newest recovery point, {newest.manifest.recovery_point}, is signed by a key of the kit.",
    )
    if newest.manifest.policy_digest != digest:
        yield Finding(
            "warning",
            subject,
            "The newest recovery point was made by another policy than the kit's: the kit is stale.",
            "Export a new kit.",
        )


def _newest(catalogue: Catalogue, source: str) -> Iterator[Copy]:
    """The newest full or other recovery point, and the newest WAL: their manifests alone are read."""
    folder = source_folder(catalogue.system, source)
    for name in reversed([name for name in catalogue.target.list_folders(folder) if is_recovery_point(name)]):
        try:
            yield catalogue.read(RecoveryPointFolder(catalogue.system, source, name))
        except RecoveryPointMissing:
            continue
        break
    for timeline in reversed(catalogue.timelines(source)):
        if (copy := catalogue.newest_wal(source, timeline)) is not None:
            yield copy
            return
