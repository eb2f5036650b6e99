"""``policy check``: whether a policy that can be read can also keep what it promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from lifeboat.outside import utc_now
from lifeboat.policy.built import built_targets
from lifeboat.policy.cron import longest_gap
from lifeboat.policy.document import Document, Key, dotted, read_document
from lifeboat.policy.duration import Duration
from lifeboat.policy.model import LoadedPolicy, Policy
from lifeboat.policy.naming import Tier
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.policy.problems import PolicyProblem
from lifeboat.policy.schedule import WorstCase, worst_case

_SOON = timedelta(days=30)

_Found = tuple[Key, str, str]


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    Attributes:
        problems: what breaks a promise of the policy; a check with one has failed.
        notices: what a person should know.
        worst_cases: what each source loses at worst, by its name.
    """

    problems: tuple[PolicyProblem, ...]
    notices: tuple[str, ...]
    worst_cases: dict[str, WorstCase]


def check(loaded: LoadedPolicy, *, clock: Callable[[], datetime] = utc_now) -> Verdict:
    """Hold a policy against its own objectives, over the year that begins today."""
    policy, now = loaded.policy, clock()
    today = now.astimezone(policy.zone).date()
    cases = {
        name: case
        for name, source in policy.sources.items()
        if (case := worst_case(source, policy.zone, today)) is not None
    }
    found = [
        *_objectives(policy, cases),
        *_runs(policy, today),
        *_retentions(policy, today),
        *_copies(policy),
        *_signing(policy, now),
    ]
    document = read_document(loaded.text, loaded.path)
    problems = sorted((_problem(each, loaded, document) for each in found), key=lambda each: (each.line, each.key))
    notices = (*loaded.notices, *_notices(policy, now))
    return Verdict(tuple(problems), notices, cases)


def _problem(found: _Found, loaded: LoadedPolicy, document: Document) -> PolicyProblem:
    key, what, remedy = found
    return PolicyProblem(loaded.path, document.line_of(key), dotted(key), what, remedy)


def _objectives(policy: Policy, cases: dict[str, WorstCase]) -> Iterator[_Found]:
    for name in policy.sources:
        objective = policy.objectives.rpo_of(name)
        case = cases.get(name)
        if case is None:
            yield (
                ("sources", name, "tiers"),
                f"Nothing of it runs by a schedule, so its recovery point objective of {_words(objective)} can't hold.",
                "Give one of its tiers a `schedule`.",
            )
        elif case.total > objective and case.flush is not None:
            yield (
                ("sources", name, "tiers", case.tier.value, "flush_every"),
                f"Up to {_words(case.total)} of work can be lost, above the recovery point objective of "
                f"{_words(objective)}: what is written just after a flush waits up to {_words(case.flush)} for the "
                f"next, or, after a run's last one, {_words(case.between_runs)} until the next run has begun; then "
                f"{_words(case.run)} until it is committed.",
                _sooner(case, objective),
            )
        elif case.total > objective:
            yield (
                ("sources", name, "tiers", case.tier.value, "schedule"),
                f"Up to {_words(case.total)} of work can be lost, above the recovery point objective of "
                f"{_words(objective)}: what is written just after a run waits up to {_words(case.period)} for the next "
                f"({case.after:%Y-%m-%d %H:%M} UTC is such a run), {_words(case.queue)} for a worker and "
                f"{_words(case.run)} for the run.",
                _shorter(case, objective),
            )


def _sooner(case: WorstCase, objective: timedelta) -> str:
    if case.between_runs + case.run > objective:
        return "Between two runs alone it takes that long: make `expected_queue` and `expected_run` shorter, and true."
    return f"Flush at least every {_words(objective - case.run)}, or change the objective."


def _shorter(case: WorstCase, objective: timedelta) -> str:
    room = objective - case.queue - case.run
    if room <= timedelta():
        return "Waiting and running alone take that long: make `expected_queue` and `expected_run` shorter, and true."
    return f"Run it at least every {_words(room)}, or change the objective."


def _runs(policy: Policy, today: date) -> Iterator[_Found]:
    for name, source in policy.sources.items():
        for tier, tier_policy in source.tiers.items():
            if tier_policy.timeout is not None and tier_policy.timeout.fixed < tier_policy.expected_run.fixed:
                yield (
                    ("sources", name, "tiers", tier.value, "timeout"),
                    f"A run is ended after {tier_policy.timeout}, and is expected to take {tier_policy.expected_run}.",
                    "Make the timeout longer.",
                )
            elif tier_policy.follows and tier_policy.timeout is not None and tier_policy.schedule is not None:
                stay = longest_gap(tier_policy.schedule, policy.zone, today).length + tier_policy.expected_run.fixed
                if tier_policy.timeout.fixed < stay:
                    yield (
                        ("sources", name, "tiers", tier.value, "timeout"),
                        f"A run is ended after {tier_policy.timeout}, and follows for up to {_words(stay)}.",
                        "Make the timeout longer, or run it more often.",
                    )


def _retentions(policy: Policy, today: date) -> Iterator[_Found]:
    for name, source in policy.sources.items():
        for tier, tier_policy in source.tiers.items():
            period = longest_gap(tier_policy.schedule, policy.zone, today).length if tier_policy.schedule else None
            if period is not None and tier_policy.retention.fixed < period:
                yield (
                    ("sources", name, "tiers", tier.value, "retention"),
                    f"It is gone after {tier_policy.retention}, and the next comes after up to {_words(period)}: "
                    "meanwhile there is none.",
                    "Keep it longer, or run it more often.",
                )
        if isinstance(source, PostgresSource):
            yield from _chains(policy, name, source, today)


def _copies(policy: Policy) -> Iterator[_Found]:
    """A copy that leaves early leaves others behind: on the targets that keep theirs as long as the tiers say."""
    targets = built_targets(policy)
    lasting = [name for name, target in targets.items() if target.retention is None]
    early = [name for name, target in targets.items() if target.retention is not None]
    if early and policy.retention.minimum_copies > len(lasting):
        yield (
            ("retention", "minimum_copies"),
            f"{policy.retention.minimum_copies} copies would have to stay elsewhere before one leaves "
            f"{' or '.join(early)} early, and only {len(lasting)} of the targets keep theirs as long as the tiers say: "
            "none would ever leave.",
            f"Write {len(lasting)} or less, or remove the `retention` of a target."
            if lasting
            else "Remove the `retention` of a target.",
        )


def _chains(policy: Policy, name: str, source: PostgresSource, today: date) -> Iterator[_Found]:
    schedules = [full.schedule for full in source.physical_fulls().values() if full.schedule is not None]
    if not schedules:
        return
    between = min(longest_gap(schedule, policy.zone, today).length for schedule in schedules)
    for tier in (Tier.WAL, Tier.INCREMENTAL):
        if tier in source.tiers and source.tiers[tier].retention.fixed < between:
            yield (
                ("sources", name, "tiers", tier.value, "retention"),
                f"It is gone after {source.tiers[tier].retention}, and full backups are up to {_words(between)} apart: "
                "from the newest one there would be no way on.",
                "Keep it longer.",
            )
    for target_name, target in policy.targets.items():
        if target.retention is not None and target.retention.fixed < between:
            yield (
                ("targets", target_name, "retention"),
                f"Copies leave it after {target.retention}, and full backups of `{name}` are up to {_words(between)} "
                "apart: there would be times without one.",
                "Keep copies longer.",
            )


def _signing(policy: Policy, now: datetime) -> Iterator[_Found]:
    for number, key in enumerate(policy.signing.trusted):
        if key.id == policy.signing.key_id and not key.valid_at(now):
            yield (
                ("signing", "trusted", number, "valid_from" if now < key.valid_from else "valid_until"),
                f"`{key.id}` signs, and is not valid now: what it signs is not believed.",
                "Sign with another key, or mend its dates.",
            )


def _notices(policy: Policy, now: datetime) -> Iterator[str]:
    if not policy.contacts:
        yield "Nobody is named under `contacts`: whoever finds a failure knows nobody to call."
    if not policy.alerts.channels:
        yield "There is no channel under `alerts`: failures show in Airflow only."
    if len(policy.targets) == 1:
        yield "There is one target only: what destroys it destroys every backup."
    if len(policy.encryption.keys) < 2:
        yield "There is one wrapping key only: if it is lost, every backup is lost."
    for name, source in policy.sources.items():
        if isinstance(source, PostgresSource) and source.tls != "verify-full":
            yield f"Source `{name}` has `tls: {source.tls}`: a server in between could read the database."
    for key in policy.signing.trusted:
        if key.id == policy.signing.key_id and key.valid_until is not None and now <= key.valid_until < now + _SOON:
            yield f"The signing key `{key.id}` ends on {key.valid_until:%Y-%m-%d}: make its successor."
    if policy.reviews is not None and policy.reviews.next < now.astimezone(policy.zone).date():
        yield f"The review of this policy was due on {policy.reviews.next}."


def _words(length: timedelta) -> str:
    return str(Duration.of(length))
