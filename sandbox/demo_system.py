"""The demo's system: its keys, made anew, and its policy with the sandbox's paths filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from lifeboat.policy.built import built_tiers
from lifeboat.policy.loading import load_policy
from lifeboat.policy.naming import dag_id, work_dag_id
from lifeboat.streams.key_making import new_break_glass_pair, new_local_key, new_signing_pair, write_secret
from sandbox.demo_belongings import make_belongings

POLICIES = Path(__file__).parent / "policies"
SYSTEM = "demo"
MARKER = "demo-local"


@dataclass(frozen=True)
class DemoSystem:
    """Where the demo's system keeps what it is made of.

    Attributes:
        policies: the directory of policies.
        policy: the demo's own.
        keys: the directory of keys: ``local.key``, ``break-glass.pem``, ``break-glass.pub``, ``signing.pem``.
        local: the local target.
        filled_in: what stands in a policy in the place of each ``${…}``.
    """

    policies: Path
    policy: Path
    keys: Path
    local: Path
    filled_in: Mapping[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """What the ERP has besides its database; there where it was asked for."""
        return self.policies.parent / "home"

    @property
    def break_glass(self) -> Path:
        """The private half of the break-glass key; a real one lies in a safe."""
        return self.keys / "break-glass.pem"

    def policy_text(self, system: str) -> str:
        """The sandbox's policy of a system, filled in."""
        return Template((POLICIES / f"{system}.yaml").read_text(encoding="utf-8")).safe_substitute(self.filled_in)

    def dag_ids(self) -> list[str]:
        """The DAGs that Airflow makes of the policy."""
        policy = load_policy(self.policy).policy
        tiers = [dag_id(policy.system, source, tier) for source, tier in built_tiers(policy)]
        return [*tiers, work_dag_id(policy.system, "retention_cleanup")]


def make_demo_system(
    directory: Path,
    *,
    binaries: Path,
    offsite: str = "s3://backups/lifeboat",
    replacing: Mapping[str, str] | None = None,
    belongings: bool = False,
) -> DemoSystem:
    """Make keys and a policy below ``directory``.

    Args:
        binaries: PostgreSQL's server programs, for restores.
        offsite: the URL of the off-site target.
        replacing: pieces of the policy's text and what stands there instead: tests bend the policy this way.
        belongings: with files, configuration and code as further sources.
    """
    policies, keys, local = (directory / name for name in ("policies", "keys", "local"))
    for folder in (policies, keys, local):
        folder.mkdir(parents=True, mode=0o700)
    (local / ".lifeboat-target").write_text(MARKER + "\n")
    write_secret(keys / "local.key", new_local_key())
    break_glass, signing = new_break_glass_pair(), new_signing_pair()
    (keys / "break-glass.pub").write_text(break_glass.public)
    write_secret(keys / "signing.pem", signing.private)
    system = DemoSystem(
        policies,
        policies / f"{SYSTEM}.yaml",
        keys,
        local,
        {
            "LIFEBOAT_DEMO_HOME": str(directory / "home"),
            "LIFEBOAT_DEMO_LOCAL": str(local),
            "LIFEBOAT_DEMO_OFFSITE": offsite,
            "LIFEBOAT_DEMO_KEYS": str(keys),
            "LIFEBOAT_DEMO_SIGNING_KEY": signing.public,
            "LIFEBOAT_DEMO_BINARIES": str(binaries),
        },
    )
    write_secret(system.break_glass, break_glass.private)
    text = system.policy_text(SYSTEM)
    if belongings:
        make_belongings(system.home)
        text = text.replace("\nalerts:\n", f"\n{system.policy_text('demo_belongings')}\nalerts:\n")
    for old, new in (replacing or {}).items():
        if old not in text:
            raise ValueError(f"the demo's policy has no {old!r}")
        text = text.replace(old, new)
    system.policy.write_text(text, encoding="utf-8")
    return system
