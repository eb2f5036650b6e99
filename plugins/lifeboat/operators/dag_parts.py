"""What all DAGs of Lifeboat share: their arguments, their pages and forms, and the row of copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, CronTriggerTimetable, Param, get_parsing_context

from lifeboat.operators.access import dag_access
from lifeboat.operators.alerts import failure_callbacks
from lifeboat.operators.policies import policies_for_dags
from lifeboat.policy.built import built_targets, built_tiers
from lifeboat.policy.code_source import CodeSource
from lifeboat.policy.configuration_source import ConfigurationSource
from lifeboat.policy.files_source import FilesSource
from lifeboat.policy.model import LoadedPolicy, Policy
from lifeboat.policy.naming import Tier, dag_id
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.policy.slots import is_rebuildable
from lifeboat.policy.targets import PRIMARY
from lifeboat.policy.tiers import TierPolicy

RETRY_DELAY = timedelta(minutes=1)
LONGEST_RETRY_DELAY = timedelta(minutes=30)
RUNS_THAT_FOLLOW = 3
"""Where runs follow their source: the one that does, the one before, which still copies, and one more whose copies
wait for a slow target, or whose worker is lost and not missed yet. They queue for the replication slot themselves."""


JUST_MISSED = timedelta(minutes=2)
"""A DAG that appears so soon after its time begins at once. Airflow's own answer is a tenth of the period: a DAG that
is new at two would make the backup of midnight. With none, a first run could be lost to a parse in its very second."""


def scheduled(cron: str, policy: Policy) -> CronTriggerTimetable:
    """When a DAG runs, on the clock of the policy's zone."""
    return CronTriggerTimetable(cron, timezone=policy.timezone, run_immediately=JUST_MISSED)


@dataclass(frozen=True)
class TierDag:
    """One DAG to be made: a tier of a source of a system."""

    loaded: LoadedPolicy
    source: str
    tier: str

    @property
    def id(self) -> str:
        """The DAG's id, ``<system>_<source>_<tier>``."""
        return dag_id(self.loaded.policy.system, self.source, self.tier)

    @property
    def settings(self) -> TierPolicy:
        """What the policy says of the tier."""
        tiers = self.loaded.policy.sources[self.source].tiers
        return next(settings for tier, settings in tiers.items() if tier.value == self.tier)

    @property
    def queue(self) -> str | None:
        """The workers that run it: the tier's own, or those that see the source; ``None``: any."""
        source = self.loaded.policy.sources[self.source]
        return self.settings.queue or (
            source.queue if isinstance(source, FilesSource | CodeSource | ConfigurationSource) else None
        )

    @property
    def shares(self) -> int:
        """How many tasks read the source."""
        source = self.loaded.policy.sources[self.source]
        return source.shares if isinstance(source, FilesSource) else 1

    @property
    def watches(self) -> bool:
        """Whether a change of the source's files begins a run, besides the schedule."""
        source = self.loaded.policy.sources[self.source]
        return isinstance(source, ConfigurationSource) and source.watch and self.tier == Tier.CHANGE

    @property
    def way_back(self) -> str:
        """The option of `lifeboat restore` that says where to."""
        source = self.loaded.policy.sources[self.source]
        logical = isinstance(source, PostgresSource) and source.method_of(Tier(self.tier)) == "logical"
        return "--connection ID" if logical else "--into DIRECTORY"

    @property
    def others(self) -> list[str]:
        """The targets besides the primary one."""
        return [name for name in built_targets(self.loaded.policy) if name != PRIMARY]

    @property
    def asset(self) -> Asset:
        """What ``publish`` updates: other DAGs may wait for it.

        A scheme that does not begin with ``x-`` makes Airflow ask all providers for it at every parse: Amazon's alone
        brings boto3 with it, which takes seconds.
        """
        return Asset(
            name=f"{self.loaded.policy.system}/{self.source}/{self.tier}",
            uri=f"x-lifeboat://{self.loaded.policy.system}/{self.source}/{self.tier}",
        )

    @property
    def step(self) -> dict[str, Any]:
        """The arguments that every operator of the DAG takes."""
        return {"system": self.loaded.policy.system, "source": self.source, "tier": self.tier}

    @property
    def schedule(self) -> CronTriggerTimetable | None:
        """When it runs, on the clock of the policy's zone; ``None``: only by hand."""
        cron = self.settings.schedule
        return None if cron is None else scheduled(cron, self.loaded.policy)

    @property
    def arguments(self) -> dict[str, Any]:
        """The other arguments of the DAG itself.

        No start date: a past one would run at once what was due before the DAG existed. One run at a time: the next
        one waits. Only where runs follow their source the next one begins while the one before still copies.
        """
        policy, settings = self.loaded.policy, self.settings
        return {
            "description": f"{self.tier} backup of {policy.system} {self.source}",
            "start_date": None,
            "catchup": False,
            "is_paused_upon_creation": False,
            "max_active_runs": RUNS_THAT_FOLLOW if settings.follows else 1,
            "access_control": dag_access(),
            "doc_md": page(self),
            "tags": {"lifeboat", policy.system, self.tier, *(["stale policy"] if self.loaded.stale else [])},
            "params": form(self),
            "on_failure_callback": failure_callbacks(policy, self.source, self.tier) or None,
            "default_args": {
                "owner": policy.contacts["primary"].name if "primary" in policy.contacts else "lifeboat",
                "retries": settings.retries,
                "retry_delay": RETRY_DELAY,
                "retry_exponential_backoff": True,
                "max_retry_delay": LONGEST_RETRY_DELAY,
                "execution_timeout": settings.timeout.fixed if settings.timeout is not None else None,
                **({"queue": self.queue} if self.queue else {}),
                **({"pool": settings.pool} if settings.pool else {}),
            },
        }


def tier_dags(*tiers: Tier) -> Iterator[TierDag]:
    """The DAGs of all policies, of these tiers.

    A task needs its own DAG alone, and begins sooner when the others are not made for it.
    """
    wanted = get_parsing_context().dag_id
    for loaded in policies_for_dags().policies.values():
        for source, tier in built_tiers(loaded.policy):
            dag = TierDag(loaded, source, tier.value)
            if tier in tiers and wanted in (None, dag.id):
                yield dag


def form(dag: TierDag) -> dict[str, Param]:
    """The trigger form."""
    others = dag.others
    tables = {
        "tables": Param(
            default=[],
            type="array",
            items={"type": "string", "minLength": 3},
            title="Tables",
            description="Export these alone, as schema.table (public.users, sales.*). Leave it empty for all.",
        )
    }
    return {
        **(tables if dag.tier == "export" else {}),
        "targets": Param(
            default=others,
            type="array",
            # A misspelt name would leave its target out without a word.
            items={"type": "string", "enum": others} if others else {"type": "string"},
            examples=others,
            title="Copies on",
            description="The targets besides the primary one. Leave all of them for a normal run.",
        ),
        "deep_verification": Param(
            default=False,
            type="boolean",
            title="Deep verification",
            description="Decrypt every copy and compare every file with what was recorded of it.",
        ),
        "note": Param(
            default="", type="string", maxLength=500, title="Note", description="Kept in the recovery point's manifest."
        ),
    }


def page(dag: TierDag) -> str:
    """The DAG's page in Airflow."""
    policy, settings = dag.loaded.policy, dag.settings
    rows = "\n".join(
        f"| {name} | `{target.url}` | {'yes' if target.required else 'no'} |"
        for name, target in built_targets(policy).items()
    )
    stale = "\n> **The policy's file is broken: its last valid copy is followed.**\n" if dag.loaded.stale else ""
    restore = f"lifeboat restore {policy.system} {dag.source}"
    back = f"`{restore} --plan {dag.way_back}` shows what can be reached."
    if dag.tier == "export":
        one = f"{restore} --recovery-point ID --only schema.table --connection ID"
        back = f"`{one}` brings a table back beside the old one."
    moment = "The recovery point's moment is always when the data was read, whatever date a run carries; a backfill "
    if is_rebuildable(policy.sources[dag.source], Tier(dag.tier)):
        moment += "rebuilds it for the date that it carries, as far as WAL reaches, and is skipped otherwise."
    else:
        moment += "is skipped."
    return f"""# {dag.tier} backup of {policy.system} {dag.source}
{stale}
{policy.description}

Kept for **{settings.retention}**. Objectives: at most **{policy.objectives.rpo_of(dag.source)}** of data lost, back
within **{policy.objectives.rto_of(dag.source)}**. {moment}

| target | where | required |
| --- | --- | --- |
{rows}

To bring it back: {back}
"""
