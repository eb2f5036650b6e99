"""The restore test: of each source the newest recovery point and one at random come back into a scratch place, are
looked at, and go again; what was seen becomes one signed record.

A source that does not come back does not keep the others from being tested. What was restored is removed in every case:
what a test left behind that was killed goes with the next one.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from lifeboat import __version__
from lifeboat.errors import Cancelled, LifeboatError, MomentUnreachable, RestoreError, TargetUnavailable
from lifeboat.policy.built import built_targets, sources_tested
from lifeboat.recovery.bringing_back import BringingBack, Means
from lifeboat.recovery.choosing import targets_used
from lifeboat.recovery.evidence import Proof, Record
from lifeboat.recovery.keeping import keep, read_evidence, signed
from lifeboat.recovery.offers import Chosen, Offers, offers_of
from lifeboat.recovery.restored import CameBack, within_rpo, within_rto
from lifeboat.recovery.sql_checks import SqlCheck
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import SystemRepository

LOOKED_BACK = timedelta(days=400)
"""How far back it is looked which targets were tested: more than a year of monthly tests."""
LARGEST_SEED = 2**31


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
        tests = self._policy.tests
        means = Means(
            scratch=wish.scratch or (tests.scratch if tests is not None else None),
            binaries=wish.binaries,
            user=wish.user,
            checks=wish.checks,
            application=tests.application if tests is not None else {},
            staging=tests.connection if tests is not None else None,
            run=run.named,
        )
        self._bringing_back = BringingBack(repository, means, f"{self._policy.system}-restore-test", tick)

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
        reached = self._reached(offers)
        keepers = [*reached, *self._untested()]
        journal = self._repository.journal(*keepers, run="restore-test", actor=self._actor)
        journal.write("restore_test_begun", sources=sources, seed=self._seed)
        earlier = self._earlier(reached[0])
        proofs: list[Proof] = []
        lacking: dict[str, str] = {}
        for source in sources:
            # A target that can't be read is one that could not serve: its turn would never come.
            proofs += [self._out_of_reach(source, *away) for away in offers[source].away.items()]
            try:
                used, exported = targets_used(earlier, source), targets_used(earlier, source, exports=True)
                chosen = offers[source].choose(source, used, self._seed, used_for_exports=exported)
            except MomentUnreachable as error:
                lacking[source] = str(error)
                continue
            if not chosen and not offers[source].away:
                lacking[source] = f"There is nothing to bring back on {', '.join(offers[source].empty)}."
            for one in chosen:
                self._tick()
                proofs.append(self._prove(source, one, begun))
        record = self._record(begun, proofs, lacking)
        for target in keep(record, [self._repository.target(name) for name in keepers], journal):
            self._tell(f"The record of this test is not on {target}, which did not take it.")
        for target in journal.deliver():
            self._tell(f"The journal on {target} misses events of this test.")
        return record

    def _sources(self) -> list[str]:
        tested = sources_tested(self._policy)
        unknown = [source for source in self._wish.sources if source not in tested]
        if unknown or not tested:
            raise RestoreError(
                f"Of {self._policy.system}, {', '.join(unknown) or 'every source'} can be brought back by no restore "
                "test.",
                f"It has: {', '.join(tested) or 'none'}.",
            )
        return [source for source in tested if not self._wish.sources or source in self._wish.sources]

    def _offers(self, source: str) -> Offers:
        self._tell(f"Looking at {source} on {', '.join(self._targets)}")
        return offers_of(self._repository, source, self._targets, self._tick)

    def _reached(self, offers: Mapping[str, Offers]) -> list[str]:
        """The targets that answered for any source."""
        reached = [name for name in self._targets if any(name in one.reached for one in offers.values())]
        if not reached:
            told = {str(error) for one in offers.values() for error in one.away.values()}
            raise TargetUnavailable(
                f"No target of {self._policy.system} can be read: {' '.join(sorted(told))}", "See to the first of them."
            )
        return reached

    def _untested(self) -> list[str]:
        """The targets that are not tested, and keep the record all the same."""
        found = []
        for name in built_targets(self._policy):
            if name in self._targets:
                continue
            try:
                self._repository.target(name)
            except LifeboatError as error:
                self._tell(f"The record of this test will not be on {name}: {error}")
            else:
                found.append(name)
        return found

    def _earlier(self, target: str) -> list[Record]:
        """The records of the last year or so."""
        now, trusted = self._clock(), self._repository.trusted
        found = read_evidence(
            self._repository.target(target), self._policy.system, trusted, since=now - LOOKED_BACK, until=now
        )
        return [one for one in found if isinstance(one, Record)]

    def _out_of_reach(self, source: str, target: str, error: LifeboatError) -> Proof:
        return Proof(
            source=source,
            kind="",
            recovery_point="",
            target=target,
            chosen="newest",
            error=error.what,
            remedy=error.remedy,
            **self._objectives(source),
        )

    def _objectives(self, source: str) -> dict[str, int]:
        objectives, millisecond = self._policy.objectives, timedelta(milliseconds=1)
        return {
            "rto_milliseconds": objectives.rto_of(source) // millisecond,
            "rpo_milliseconds": objectives.rpo_of(source) // millisecond,
        }

    def _prove(self, source: str, chosen: Chosen, begun: datetime) -> Proof:
        self._tell(f"Bringing back {source}, {chosen.chosen}: {chosen.recovery_point} from {chosen.target}")
        came = CameBack()
        error = remedy = ""
        try:
            self._bringing_back.bring_back(source, chosen, came)
        except Cancelled:
            raise
        except LifeboatError as failure:
            error, remedy = failure.what, failure.remedy
        if not error:
            objectives = self._policy.objectives
            came.checks.append(within_rto(sum(came.milliseconds.values()), objectives.rto_of(source)))
            if chosen.chosen == "newest" and came.data_until is not None:
                came.checks.append(within_rpo(begun, came.data_until, objectives.rpo_of(source)))
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
            place=came.place,
            **self._objectives(source),
        )

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
