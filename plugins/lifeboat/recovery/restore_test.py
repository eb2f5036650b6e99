"""The restore test: of each source the newest recovery point and one at random come back into a scratch place, are
looked at, and go again; what was seen becomes one signed record.

A source that does not come back does not keep the others from being tested. What was restored is removed in every case:
what a test left behind that was killed goes with the next one.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from lifeboat import __version__
from lifeboat.errors import Cancelled, LifeboatError, RestoreError, TargetUnavailable
from lifeboat.policy.built import built_targets, built_tiers
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.postgres.restore_planning import RestorePlan
from lifeboat.postgres.restore_sources import Offer, read_offer
from lifeboat.postgres.server_programs import run_as
from lifeboat.recovery.choosing import at_random, in_turn, targets_used
from lifeboat.recovery.evidence import Proof, Record
from lifeboat.recovery.keeping import keep, read_evidence, signed
from lifeboat.recovery.physical import PhysicalTest, plan_of
from lifeboat.recovery.restored import CameBack, within_rpo, within_rto
from lifeboat.recovery.snapshots import SnapshotTest
from lifeboat.recovery.sql_checks import SqlCheck
from lifeboat.repository.building import building_place
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.journal import Journal
from lifeboat.repository.manifest import Run
from lifeboat.repository.snapshots import snapshots_of
from lifeboat.repository.system import SystemRepository

LOOKED_BACK = timedelta(days=400)
"""How far back it is looked which targets were tested: more than a year of monthly tests."""
LARGEST_SEED = 2**31
Chosen = Literal["newest", "random"]


@dataclass(frozen=True)
class Wish:
    """How a test is done.

    Attributes:
        sources: which; empty: all that are backed up.
        target: read from this one alone; ``None``: from each in turn.
        seed: chooses at random as another test did; ``None``: anew.
        scratch: a directory with room; ``None``: the policy's, else the machine's for temporary files.
        binaries: the directory with PostgreSQL's programs; ``None``: the policy's, else where they usually are.
        user: to run servers as, where we are root.
        checks: the system's own questions to its databases.
        reason: what it is for, in words.
    """

    sources: tuple[str, ...] = ()
    target: str | None = None
    seed: int | None = None
    scratch: Path | None = None
    binaries: Path | None = None
    user: str | None = None
    checks: tuple[SqlCheck, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class _Chosen:
    """One recovery point to bring back."""

    chosen: Chosen
    target: str
    recovery_point: str
    what: RestorePlan | Copy

    @property
    def kind(self) -> str:
        copy = self.what.base.copy if isinstance(self.what, RestorePlan) else self.what
        return copy.manifest.kind


@dataclass
class _Offers:
    """What the targets have of one source.

    Attributes:
        by_target: of those that have something that can be brought back, in the policy's order.
        refused: why the others have nothing, by target.
    """

    by_target: dict[str, Offer | list[Copy]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


class RestoreTest:
    """One restore test of one system.

    Args:
        run, actor: who does it.
        tell: told what is being done, in a sentence, and the proofs as they come.
        tick: called often; may raise to stop.
    """

    def __init__(
        self,
        repository: SystemRepository,
        wish: Wish,
        run: Run,
        actor: str,
        *,
        tell: Callable[[str], None] = lambda _sentence: None,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._repository = repository
        self._wish = wish
        self._run = run
        self._actor = actor
        self._tell = tell
        self._tick = tick
        self._clock = repository.outside.clock
        self._seed = wish.seed if wish.seed is not None else secrets.randbelow(LARGEST_SEED)
        self._policy = repository.policy
        self._targets = [wish.target] if wish.target is not None else list(built_targets(self._policy))

    def carry_out(self) -> Record:
        """Do it, record it, and return the record, which may say that it failed.

        Raises:
            TargetUnavailable: no target can be reached: there is nothing to test, and nowhere to record it.
            KeyUnavailable: nobody would believe the record.
            RestoreError: the scratch directory can't be used.
            Cancelled: it was stopped; nothing is left, and nothing is recorded but its beginning.
        """
        self._repository.signer.insist_on_validity(self._clock())
        begun = self._clock()
        sources = self._sources()
        offers = {source: self._offers(source) for source in sources}
        journal = self._journal(offers)
        journal.write("restore_test_begun", sources=sources, seed=self._seed)
        used = self._used(offers)
        proofs: list[Proof] = []
        lacking: dict[str, str] = {}
        for source in sources:
            for chosen in self._chosen(source, offers[source], used.get(source, ()), lacking):
                self._tick()
                proofs.append(self._prove(source, chosen, begun))
        record = self._record(begun, proofs, lacking)
        for target in keep(record, [self._repository.target(name) for name in self._reached(offers)], journal):
            self._tell(f"The record of this test is not on {target}, which did not take it.")
        for target in journal.deliver():
            self._tell(f"The journal on {target} misses events of this test.")
        return record

    def _sources(self) -> list[str]:
        backed_up = list(dict.fromkeys(source for source, _ in built_tiers(self._policy)))
        unknown = [source for source in self._wish.sources if source not in backed_up]
        if unknown:
            raise RestoreError(
                f"{self._policy.system} backs up no source {', '.join(unknown)}.", f"It has: {', '.join(backed_up)}."
            )
        return [source for source in backed_up if not self._wish.sources or source in self._wish.sources]

    def _offers(self, source: str) -> _Offers:
        offers = _Offers()
        for target in self._targets:
            self._tick()
            self._tell(f"Looking at {source} on {target}")
            try:
                found: Offer | list[Copy]
                if isinstance(self._policy.sources[source], PostgresSource):
                    found = read_offer(self._repository, source, target)
                    there = bool(found.bases)
                else:
                    found = snapshots_of(self._repository.catalogue(target), source)
                    there = bool(found)
            except Cancelled:
                raise
            except LifeboatError as error:
                offers.refused[target] = str(error)
                continue
            if there:
                offers.by_target[target] = found
            else:
                offers.refused[target] = ""
        return offers

    def _reached(self, offers: Mapping[str, _Offers]) -> list[str]:
        return [
            target
            for target in self._targets
            if any(target in one.by_target or not one.refused.get(target, "?") for one in offers.values())
        ]

    def _journal(self, offers: Mapping[str, _Offers]) -> Journal:
        reached = self._reached(offers)
        if not reached:
            told = {text for one in offers.values() for text in one.refused.values() if text}
            raise TargetUnavailable(
                f"No target of {self._policy.system} can be read: {' '.join(sorted(told))}", "See to the first of them."
            )
        return self._repository.journal(*reached, run="restore-test", actor=self._actor)

    def _used(self, offers: Mapping[str, _Offers]) -> dict[str, list[str]]:
        """The targets that earlier tests of each source read from, oldest first."""
        now = self._clock()
        target = self._repository.target(self._reached(offers)[0])
        records = [
            found
            for found in read_evidence(
                target, self._policy.system, self._repository.trusted, since=now - LOOKED_BACK, until=now
            )
            if isinstance(found, Record)
        ]
        return {source: targets_used(records, source) for source in offers}

    def _chosen(self, source: str, offers: _Offers, used: Sequence[str], lacking: dict[str, str]) -> list[_Chosen]:
        """The newest recovery point on the target whose turn it is, and one at random on the one after it."""
        order = in_turn(list(offers.by_target), used)
        if not order:
            told = " ".join(f"{target}: {text or 'nothing is there.'}" for target, text in offers.refused.items())
            lacking[source] = f"There is nothing to bring back. {told}"
            return []
        found: list[_Chosen] = []
        newest = self._newest(source, order[0], offers.by_target[order[0]], lacking)
        if newest is not None:
            found.append(newest)
        other = order[1 % len(order)]
        if (drawn := self._drawn(source, other, offers.by_target[other], newest)) is not None:
            found.append(drawn)
        return found

    def _newest(self, source: str, target: str, offer: Offer | list[Copy], lacking: dict[str, str]) -> _Chosen | None:
        if not isinstance(offer, Offer):
            return _Chosen("newest", target, offer[-1].manifest.recovery_point, offer[-1])
        try:
            plan = plan_of(offer, None)
        except LifeboatError as error:
            lacking[source] = f"On {target}: {error}"
            return None
        return _Chosen("newest", target, plan.base.manifest.recovery_point, plan)

    def _drawn(self, source: str, target: str, offer: Offer | list[Copy], newest: _Chosen | None) -> _Chosen | None:
        copies = [base.copy for base in offer.bases] if isinstance(offer, Offer) else offer
        by_id = {copy.manifest.recovery_point: copy for copy in copies}
        drawn = at_random(list(by_id), newest.recovery_point if newest is not None else "", self._seed, source)
        if drawn is None:
            return None
        return _Chosen("random", target, drawn, plan_of(offer, drawn) if isinstance(offer, Offer) else by_id[drawn])

    def _prove(self, source: str, chosen: _Chosen, begun: datetime) -> Proof:
        self._tell(f"Bringing back {source}, {chosen.chosen}: {chosen.recovery_point} from {chosen.target}")
        came = CameBack()
        error = remedy = ""
        try:
            with building_place(self._scratch(), f"{self._policy.system}-restore-test") as place:
                self._bring_back(source, chosen, place, came)
        except Cancelled:
            raise
        except LifeboatError as failure:
            error, remedy = failure.what, failure.remedy
        objectives = self._policy.objectives
        rto, rpo = objectives.rto_of(source), objectives.rpo_of(source)
        if not error:
            came.checks.append(within_rto(sum(came.phases.values()), rto))
            if chosen.chosen == "newest" and came.data_until is not None:
                came.checks.append(within_rpo(begun, came.data_until, rpo))
        return Proof(
            source=source,
            kind=chosen.kind,
            recovery_point=chosen.recovery_point,
            target=chosen.target,
            chosen=chosen.chosen,
            moment=came.moment,
            data_until=came.data_until,
            milliseconds=came.milliseconds,
            size=came.size,
            checks=tuple(came.checks),
            error=error,
            remedy=remedy,
            rto_milliseconds=_milliseconds(rto),
            rpo_milliseconds=_milliseconds(rpo),
        )

    def _bring_back(self, source: str, chosen: _Chosen, place: Path, came: CameBack) -> None:
        policy = self._policy.sources[source]
        if not isinstance(chosen.what, RestorePlan):
            SnapshotTest(self._repository, place, self._tick).run(policy.kind, chosen.what, came)
            return
        assert isinstance(policy, PostgresSource)
        if (owner := run_as(self._wish.user, place.parent)) is not None:
            # The server's user must be able to enter; nobody else is.
            os.chown(place, owner.uid, owner.gid)
        checks = [check for check in self._wish.checks if check.source == source]
        binaries = self._wish.binaries or policy.binaries
        test = PhysicalTest(self._repository, place, binaries, self._wish.user, checks, self._tick)
        test.run(chosen.what, chosen.target, came)

    def _scratch(self) -> Path:
        tests = self._policy.tests
        scratch = self._wish.scratch or (tests.scratch if tests is not None else None) or Path(tempfile.gettempdir())
        if not scratch.is_dir():
            raise RestoreError(
                f"The scratch directory {scratch} is not there.",
                "Make it, or mount it; `scratch` under `tests` in the policy, or --scratch, names another one.",
            )
        return scratch

    def _record(self, begun: datetime, proofs: Sequence[Proof], lacking: Mapping[str, str]) -> Record:
        record = Record(
            kind="restore_test",
            mark=secrets.token_hex(4),
            system=self._policy.system,
            begun=begun,
            ended=self._clock(),
            actor=self._actor,
            run=self._run,
            reason=self._wish.reason,
            seed=self._seed,
            policy_digest=self._repository.loaded.digest,
            lifeboat_version=__version__,
            proofs=tuple(proofs),
            lacking=dict(lacking),
            passed=bool(proofs) and not lacking and all(proof.passed for proof in proofs),
            key_id=self._repository.signer.key_id,
        )
        return signed(record, self._repository.signer)


def _milliseconds(length: timedelta) -> int:
    return length // timedelta(milliseconds=1)
