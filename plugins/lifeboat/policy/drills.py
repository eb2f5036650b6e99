"""Restore tests and drills: when, where, in which scenarios, and what is asked of what came back."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from lifeboat.policy.cron import Cron
from lifeboat.policy.duration import Duration, ExactSpan
from lifeboat.policy.environment import ExpandedPath
from lifeboat.policy.hooks import HookPolicy
from lifeboat.policy.naming import SourceName
from lifeboat.policy.part import ConnectionId, Part, Queue
from lifeboat.policy.people import Text
from lifeboat.policy.problems import Refused

Scenario = Literal["total_loss", "primary_lost", "key_lost", "late_corruption", "airflow_lost"]
"""What is taken for lost in a drill."""

QUARTER_ENDS = "0 6 L 3,6,9,12 *"


class ProofPolicy(Part):
    """A restore test or a drill."""

    schedule: Cron
    """When: the first Monday of each month is `0 6 * * 1#1`, the ends of the quarters `0 6 L 3,6,9,12 *`."""

    connection: ConnectionId | None = None
    """The Airflow connection of a staging server, which is never the source's own: logical archives of databases come
    back into new databases there, and are dropped afterwards. All else, and without one everything, comes back into a
    scratch place on the worker."""

    steps: tuple[Text, ...] = ()
    """What is done, in order."""

    scratch: Path | None = None
    """A directory on the worker with room for the largest source; without one, the worker's own for temporary files.
    What is restored there is removed in every case."""

    queue: Queue | None = None
    """The workers that do it: they have the room, the server programs, and see `file://` targets."""

    application: dict[SourceName, HookPolicy] = Field(default_factory=dict)
    """By source, what is asked of what came back: a command or an HTTP request, while the restored copy is there."""

    @field_validator("scratch")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_absolute():
            raise Refused("This path is not absolute.", "Write it from `/` on.")
        return path


class HeartbeatPolicy(Part):
    """A row that the system itself writes again and again: the newest one that came back tells what was lost."""

    source: SourceName
    """The database that it is in, as the policy calls the source."""

    database: Text
    """The name of the database on that server."""

    query: Text
    """Gives the one moment of the newest row, a `timestamptz`: `SELECT max(at) FROM heartbeat`."""


class DrillHooks(Part):
    """What is done around the sources; a step without a hook is recorded as not practised."""

    provision: HookPolicy | None = None
    """Step 1: new infrastructure is provided."""

    dns: HookPolicy | None = None
    """Step 6: names lead to it. In a drill: to a name of the drill's own, or a dry run."""

    verify: HookPolicy | None = None
    """Step 7: what came back works. Called for each source while its copy is there."""

    monitor: HookPolicy | None = None
    """Step 8: it is watched, and nothing is wrong."""


class DrillPolicy(ProofPolicy):
    """The regular drill: recovery from the loss of everything."""

    schedule: Cron = QUARTER_ENDS
    """When: the ends of the quarters, unless it says otherwise."""

    scenarios: tuple[Scenario, ...] = ()
    """What is taken for lost, one scenario in each drill, in turn; by default all that the rest of this allows."""

    break_glass: ExpandedPath | None = None
    """Where a person puts the private half of the break-glass key for the time of a drill. May hold `${NAME}` of the
    environment. Without it neither `key_lost` nor `airflow_lost` can be practised."""

    kit: ExpandedPath | None = None
    """The recovery kit that `airflow_lost` is recovered from, or a directory of kits (`*.zip`), of which the newest is
    taken. May hold `${NAME}` of the environment."""

    found_after: ExactSpan = Duration(seconds=86400)
    """In `late_corruption`: how long before the drill the corruption is taken to have begun."""

    heartbeat: HeartbeatPolicy | None = None
    """A row that tells what was lost; without one, the last commit in the WAL, and until when it is proven that there
    was no other."""

    approval: bool = False
    """Whether a drill in Airflow begins when one of `restore.approvers`, who is not the one who asked for it, has
    agreed. How long that took is a phase of its own, `approve`, and counts in the recovery time."""

    hooks: DrillHooks = DrillHooks()
    """What is done around the sources."""

    @model_validator(mode="after")
    def _can_be_practised(self) -> Self:
        lacking = {"key_lost": self.break_glass is None, "airflow_lost": self.break_glass is None or self.kit is None}
        for number, scenario in enumerate(self.scenarios):
            if lacking.get(scenario):
                raise Refused(
                    f"`{scenario}` can't be practised without what is left then.",
                    "Say `break_glass`, and for `airflow_lost` also `kit`; or leave the scenario out.",
                    key=("scenarios", number),
                )
        return self
