"""What of a policy is built at present: the one place that says so. The rest is validated, and named in a notice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from lifeboat.policy.drills import ProofPolicy
from lifeboat.policy.files_source import FilesSource
from lifeboat.policy.model import Policy
from lifeboat.policy.naming import Tier
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.policy.sources import SourcePolicy
from lifeboat.policy.targets import PRIMARY, TargetPolicy
from lifeboat.policy.tiers import FULL_TIERS


@dataclass(frozen=True)
class Built:
    """What works.

    Attributes:
        tiers: the tiers of each kind of source.
        files: the schemes of places that sets of files are read from.
        methods: how a database is read.
        targets: the schemes of targets.
        channels: the kinds of alert channels.
        keys: what else of a policy is acted upon, by its key.
    """

    tiers: Mapping[str, frozenset[Tier]] = field(
        default_factory=lambda: {
            "postgres": frozenset(tier for tier in Tier if tier is not Tier.CHANGE),
            "files": frozenset((Tier.INCREMENTAL, *FULL_TIERS)),
            "configuration": frozenset((Tier.CHANGE, *FULL_TIERS)),
            "code": frozenset(FULL_TIERS),
        }
    )
    files: frozenset[str] = frozenset({"file", "s3", "sftp"})
    methods: frozenset[str] = frozenset({"physical", "logical"})
    targets: frozenset[str] = frozenset({"s3", "file", "sftp"})
    channels: frozenset[str] = frozenset({"slack"})
    keys: frozenset[str] = frozenset({"tests", "drills"})

    def has(self, source: SourcePolicy, tier: Tier) -> bool:
        """Whether a tier of a source runs."""
        if tier not in self.tiers.get(source.kind, frozenset()) or tier not in source.tiers:
            return False
        if isinstance(source, FilesSource):
            return source.scheme in self.files
        if tier is Tier.EXPORT:
            return True  # logical by nature, whether or not dumps are built
        return not isinstance(source, PostgresSource) or source.method_of(tier) in self.methods


BUILT = Built()

_NOT_BUILT = "is validated, not built yet"


def built_tiers(policy: Policy, built: Built = BUILT) -> Iterator[tuple[str, Tier]]:
    """Every source and tier of a policy that runs: one DAG each."""
    for name, source in policy.sources.items():
        for tier in source.tiers:
            if built.has(source, tier):
                yield name, tier


def sources_tested(policy: Policy, built: Built = BUILT) -> list[str]:
    """The sources that a restore test brings back: all that are backed up."""
    return list(dict.fromkeys(name for name, _ in built_tiers(policy, built)))


def sources_drilled(policy: Policy, built: Built = BUILT) -> list[str]:
    """The sources that a drill brings back: an export is no way to bring a system back."""
    return list(dict.fromkeys(name for name, tier in built_tiers(policy, built) if tier is not Tier.EXPORT))


def built_targets(policy: Policy, built: Built = BUILT) -> dict[str, TargetPolicy]:
    """The targets that are written to, `primary` first; of the others, those named in a notice are left out."""
    found = {name: target for name, target in policy.targets.items() if target.scheme in built.targets}
    return dict(sorted(found.items(), key=lambda item: item[0] != PRIMARY))


def not_built(policy: Policy, built: Built = BUILT) -> list[str]:
    """One sentence for each thing that the policy asks for and that is not built yet."""
    notices = [
        f"Target `{name}` (`{target.scheme}://`) {_NOT_BUILT}: nothing is copied there."
        for name, target in policy.targets.items()
        if target.scheme not in built.targets
    ]
    for name, source in policy.sources.items():
        notices += _not_built_of(name, source, built)
    notices += [
        f"Alert channel `{name}` ({channel.kind}) {_NOT_BUILT}: nothing is sent there."
        for name, channel in policy.alerts.channels.items()
        if channel.kind not in built.channels
    ]
    for proof, name in ((policy.tests, "restore test"), (policy.drills, "drill")):
        if proof is not None:
            notices += _untested(policy, proof, name, built)
    asked = {
        "tests": (policy.tests, f"The restore test {_NOT_BUILT}: nobody runs it."),
        "drills": (policy.drills, f"The drill {_NOT_BUILT}: nobody runs it."),
        "budget": (policy.budget, f"The budget {_NOT_BUILT}: nothing is measured against it."),
    }
    return notices + [notice for key, (wanted, notice) in asked.items() if wanted and key not in built.keys]


def _untested(policy: Policy, proof: ProofPolicy, name: str, built: Built) -> list[str]:
    if name != "drill":
        return list(_not_to_staging(policy, proof.connection, built)) if proof.connection is not None else []
    drilled = sources_drilled(policy, built)
    left_out = dict.fromkeys(source for source, _ in built_tiers(policy, built) if source not in drilled)
    notices = [f"The drill of `{source}`, of exports alone, {_NOT_BUILT}." for source in left_out]
    if proof.connection is not None:
        notices.append(f"The staging connection of the drill {_NOT_BUILT}: it restores into a scratch place.")
    return notices


def _not_to_staging(policy: Policy, connection: str, built: Built) -> Iterator[str]:
    """What a staging server can't take: only a logical archive comes back into a database of another server."""
    for name, source in policy.sources.items():
        tiers = {tier for tier in source.tiers if built.has(source, tier)}
        if not tiers or not isinstance(source, PostgresSource):
            continue
        if tiers == {Tier.EXPORT}:
            yield (
                f"Source `{name}` has exports alone, which a restore test reads back and compares row by row: nothing "
                f"of it comes to the staging connection `{connection}`."
            )
        elif all(source.method_of(tier) == "physical" for tier in tiers - {Tier.EXPORT}):
            yield (
                f"Source `{name}` has no logical archives. Its physical backups come back to a server of their own: "
                f"the restore test makes a scratch server, and leaves the staging connection `{connection}` alone."
            )


def _not_built_of(name: str, source: SourcePolicy, built: Built) -> list[str]:
    missing = [tier for tier in source.tiers if not built.has(source, tier)]
    if len(missing) == len(source.tiers):
        return [f"Source `{name}` ({source.kind}) {_NOT_BUILT}: nothing of it is backed up."]
    return [f"Tier `{tier}` of source `{name}` {_NOT_BUILT}: it does not run." for tier in missing]
