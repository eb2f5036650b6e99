"""A trigger that watches the files of a configuration, and has the run of its tier `change` begin at once.

It runs in Airflow's triggerer, and sees the files of the triggerer's machine. It only makes the next look come sooner:
what it misses (a change while it was down, a secret, a variable) is found by the tier's own schedule.
Source: https://airflow.apache.org/docs/apache-airflow/3.3.2/authoring-and-scheduling/event-scheduling.html
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.sdk import Asset, AssetOrTimeSchedule, AssetWatcher
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from lifeboat.operators.dag_parts import TierDag
from lifeboat.policy.configuration_source import ConfigurationSource

EVERY_SECONDS = 10.0


class FilesLookDifferent(BaseEventTrigger):
    """Fires when files look different than before, as soon as they have looked the same twice since.

    Args:
        watched: paths and patterns by kind of item.
        exclude: as in the policy.
        every: seconds between two looks.
    """

    def __init__(self, watched: dict[str, list[str]], exclude: Sequence[str], every: float = EVERY_SECONDS) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.watched = watched
        self.exclude = list(exclude)
        self.every = every

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Where it is found, and what it is made with."""
        arguments = {"watched": self.watched, "exclude": self.exclude, "every": self.every}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look again and again, for as long as a DAG waits for it."""
        before = await self._look()
        while True:
            await asyncio.sleep(self.every)
            now = await self._look()
            if now == before:
                continue
            # Whoever writes several files shall be done.
            while True:
                await asyncio.sleep(self.every)
                later = await self._look()
                if later == now:
                    break
                now = later
            before = now
            self.log.info("Files of a configuration look different than before")
            yield TriggerEvent({"files": "look different"})  # type: ignore[no-untyped-call]

    async def _look(self) -> str:
        from lifeboat.configuration.looking import looks_of

        # On a thread: a slow disk must not hold up the other triggers.
        return await asyncio.to_thread(looks_of, self.watched, self.exclude)  # type: ignore[arg-type]


def watched_schedule(tier: TierDag) -> Any:
    """The tier's own schedule, and beside it the watch over its files."""
    policy = tier.loaded.policy
    source = policy.sources[tier.source]
    assert isinstance(source, ConfigurationSource)
    place = f"{policy.system}/{tier.source}/watch"
    watcher = AssetWatcher(name=place, trigger=FilesLookDifferent(source.watched, source.exclude))
    asset = Asset(name=place, uri=f"x-lifeboat://{place}", watchers=[watcher])
    return [asset] if tier.schedule is None else AssetOrTimeSchedule(timetable=tier.schedule, assets=[asset])
