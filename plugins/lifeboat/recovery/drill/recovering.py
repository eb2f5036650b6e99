"""One source in a drill: the recovery that loses least is tried first, and what does not come back is passed over, put
down, and paid for in time and data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from lifeboat.errors import Cancelled, LifeboatError
from lifeboat.policy.model import Policy
from lifeboat.recovery.bringing_back import BringingBack
from lifeboat.recovery.drill.candidates import Candidate, candidates
from lifeboat.recovery.drill.scenarios import Moments
from lifeboat.recovery.evidence import RECOVERY_POINT, Check, Proof, Tried
from lifeboat.recovery.offers import Offers, offers_of
from lifeboat.recovery.restored import CameBack, within_rto
from lifeboat.recovery.wording import length_of
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.system import SystemRepository

OPEN_KIT, FIND, FAILED, DECRYPT, OPEN, LOOK = "open kit", "find", "failed tries", "decrypt", "open", "check"
AFTERWARDS, FALLEN_BACK = "nothing after the incident", "fallen back"
_PHASES = {"check": OPEN, "restore": "fetch"}
"""How a drill's clock calls what restores call otherwise."""
_READ = ("fetch", "stage")
"""The phases in which stored bytes are read and opened, in one pass."""
_MILLISECOND = timedelta(milliseconds=1)


class SourceRecovery:
    """Recovers sources by what a scenario leaves.

    Args:
        repository: as the scenario leaves it.
        targets: those that are left, in the order of preference.
        late: the copies that had not reached their target at the incident, by target and recovery point.
        tell: told what is being done, in a sentence.
        tick: called often; may raise to stop.
        before: milliseconds of the phases of a source's recovery that lie behind it already.
    """

    def __init__(
        self,
        repository: SystemRepository,
        bringing_back: BringingBack,
        targets: Sequence[str],
        moments: Moments,
        late: frozenset[tuple[str, str]],
        *,
        tell: Callable[[str], None],
        tick: Callable[[], None],
        before: Mapping[str, int] | None = None,
    ) -> None:
        self._repository = repository
        self._bringing_back = bringing_back
        self._targets = targets
        self._moments = moments
        self._late = late
        self._tell = tell
        self._tick = tick
        self._before = dict(before or {})
        self._clock = repository.outside.clock

    def recover(self, source: str) -> Proof | None:
        """Bring a source back; ``None`` where every target answered and there is nothing of it.

        Raises:
            Cancelled: it was stopped; nothing is left.
        """
        begun = self._clock()
        self._tell(f"Looking at {source} on {', '.join(self._targets)}")
        offers = offers_of(self._repository, source, self._targets, self._tick, counts=self._counts)
        there = candidates(offers.by_target, self._moments.back_to)
        found = self._clock()
        tried = [
            Tried(recovery_point="", target=target, error=error.what, remedy=error.remedy)
            for target, error in offers.away.items()
        ]
        if not there:
            return self._nothing(source, offers, tried, (found - begun) // _MILLISECOND)
        phases = self._before | {FIND: (found - begun) // _MILLISECOND}
        for candidate in there:
            self._tick()
            metered = self._repository.opening.meter.now()
            came, failure, milliseconds = self._try(source, candidate)
            if failure is None:
                break
            tried.append(_tried(candidate, failure, milliseconds))
        else:
            return self._failed(source, there[-1], phases, tried)
        if spent := sum(one.milliseconds for one in tried):
            phases[FAILED] = spent
        return self._proof(
            source,
            candidate,
            came,
            phases | self._clocked(came, metered),
            tuple(tried),
            there[0].reaches,
        )

    def _counts(self, copy: Copy) -> bool:
        manifest = copy.manifest
        here = (copy.target, manifest.recovery_point) not in self._late
        return here and manifest.committed <= self._moments.known_until

    def _try(self, source: str, candidate: Candidate) -> tuple[CameBack, LifeboatError | None, int]:
        chosen = candidate.chosen
        self._tell(f"Bringing back {source}: {chosen.recovery_point} from {chosen.target}")
        came, begun = CameBack(), self._clock()
        failure: LifeboatError | None = None
        try:
            self._bringing_back.bring_back(source, chosen, came)
        except Cancelled:
            raise
        except LifeboatError as error:
            self._tell(f"It did not come back: {error}")
            failure = error
        return came, failure, (self._clock() - begun) // _MILLISECOND

    def _nothing(self, source: str, offers: Offers, tried: Sequence[Tried], milliseconds: int) -> Proof | None:
        if not offers.away:
            return None
        named, (first, *more) = ", ".join(offers.away), tried
        return Proof(
            source=source, kind="", recovery_point="", target=named, chosen="newest", error=first.error,
            remedy=first.remedy, milliseconds=self._before | {FIND: milliseconds}, tried=tuple(more),
            **_objectives(self._repository.policy, source),
        )  # fmt: skip

    def _failed(self, source: str, last: Candidate, phases: dict[str, int], tried: Sequence[Tried]) -> Proof:
        """Nothing came back; the last one is what the proof is of, and the others were tried before."""
        *before, final = tried
        return Proof(
            source=source,
            kind=last.chosen.kind,
            recovery_point=last.chosen.recovery_point,
            target=last.chosen.target,
            chosen=last.chosen.chosen,
            error=final.error,
            remedy=final.remedy,
            milliseconds=phases | {FAILED: sum(one.milliseconds for one in tried)},
            tried=tuple(before),
            **_objectives(self._repository.policy, source),
        )

    def _proof(
        self,
        source: str,
        candidate: Candidate,
        came: CameBack,
        milliseconds: dict[str, int],
        tried: tuple[Tried, ...],
        best: datetime,
    ) -> Proof:
        policy, incident = self._repository.policy, self._moments.incident
        # A full brings all until it stopped, though its last commit was long before.
        until = came.beat or max(came.data_until or candidate.reaches, candidate.reaches)
        lost = max(timedelta(), incident - until)
        newest = newest_change(came)
        came.checks += [
            within_rto(sum(milliseconds.values()), policy.objectives.rto_of(source)),
            _within_rpo(lost, incident, policy.objectives.rpo_of(source)),
            nothing_after(incident, newest, until),
        ]
        if tried:
            came.checks.append(_fallen_back(tried, candidate, best))
        return Proof(
            source=source,
            kind=candidate.chosen.kind,
            recovery_point=candidate.chosen.recovery_point,
            target=candidate.chosen.target,
            chosen=candidate.chosen.chosen,
            moment=came.moment,
            data_until=until,
            milliseconds=milliseconds,
            size=came.size,
            checks=tuple(came.checks),
            tried=tried,
            newest_change=newest,
            lost_milliseconds=lost // _MILLISECOND,
            **_objectives(policy, source),
        )

    def _clocked(self, came: CameBack, metered: tuple[float, float]) -> dict[str, int]:
        """The phases of a recovery, decryption apart from fetching, and opening apart from looking.

        Args:
            metered: what the keyring's meter said when it began.
        """
        phases = {_PHASES.get(phase, phase): taken for phase, taken in came.milliseconds.items()}
        reading = sum(phases.get(phase, 0) for phase in _READ)
        decrypting = round(self._repository.opening.meter.opening_within(reading / 1000, metered) * 1000)
        for phase in (phase for phase in _READ if phases.get(phase)):
            phases[phase] -= round(decrypting * phases[phase] / reading)
        decrypted = reading - sum(phases.get(phase, 0) for phase in _READ)
        looked = sum(check.milliseconds for check in came.checks)
        return phases | {DECRYPT: decrypted, LOOK: max(looked, round(came.looking * 1000))}


def newest_change(came: CameBack) -> datetime | None:
    """The newest change that is known to be in what came back."""
    known = [one for one in (came.last_commit, came.beat) if one is not None]
    return max(known) if known else came.moment


def _within_rpo(lost: timedelta, incident: datetime, objective: timedelta) -> Check:
    allowed = length_of(objective // _MILLISECOND)
    return Check(
        name=RECOVERY_POINT,
        passed=lost <= objective,
        what=f"the last {length_of(lost // _MILLISECOND)} before the incident at {_at(incident)} are lost, where "
        f"{allowed} may be",
    )


def nothing_after(incident: datetime, newest: datetime | None, until: datetime) -> Check:
    """Whether what came back ends before the incident, as its own newest change says."""
    if newest is not None and newest > incident:
        what = f"a change of {_at(newest)} is in it, after the incident at {_at(incident)}"
        return Check(name=AFTERWARDS, passed=False, what=what)
    said = f"the newest change in it is of {_at(newest)}; " if newest is not None else ""
    what = f"{said}all until {_at(min(until, incident))} is kept, and what came after that is lost"
    return Check(name=AFTERWARDS, passed=True, what=what)


def _fallen_back(tried: Sequence[Tried], candidate: Candidate, best: datetime) -> Check:
    """What it costs that the first choice did not come back. It is no failure while the objectives are kept."""
    cost = max(timedelta(), best - candidate.reaches)
    spent = length_of(sum(one.milliseconds for one in tried))
    away = [one.target for one in tried if not one.recovery_point]
    passed_over = [f"{one.recovery_point} on {one.target}" for one in tried if one.recovery_point]
    parts = [f"{', '.join(passed_over)} did not come back"] if passed_over else []
    parts += [f"{', '.join(away)} could not be read, and what is newer there is not known"] if away else []
    data = f"the data of {length_of(cost // _MILLISECOND)}" if cost else "no data"
    return Check(name=FALLEN_BACK, passed=True, what=f"{'; '.join(parts)}; this costs {data} and {spent}")


def _tried(candidate: Candidate, error: LifeboatError, milliseconds: int) -> Tried:
    return Tried(
        recovery_point=candidate.chosen.recovery_point,
        target=candidate.chosen.target,
        reaches=candidate.reaches,
        error=error.what,
        remedy=error.remedy,
        milliseconds=milliseconds,
    )


def _objectives(policy: Policy, source: str) -> dict[str, int]:
    return {
        "rto_milliseconds": policy.objectives.rto_of(source) // _MILLISECOND,
        "rpo_milliseconds": policy.objectives.rpo_of(source) // _MILLISECOND,
    }


def _at(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
