"""What people read of a restore test, drill or restore: one record as Markdown and as a page that stands alone.

A report is made of records only, and can be made again from them at any time. What failed stands first. All that a
record says comes from outside and is text, never markup; characters that nobody sees, or that turn lines around, are
written out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, TemplateError, select_autoescape
from markupsafe import Markup

from lifeboat.errors import RepositoryError
from lifeboat.recovery.actions import (
    DUE_AFTER,
    Action,
    Actions,
    Finding,
    Topic,
    corrective_actions,
    failures,
    findings,
)
from lifeboat.recovery.comparing import Change, changes_since, sources_of, untested_since
from lifeboat.recovery.drill.report import DrillReport
from lifeboat.recovery.evidence import Check, Proof, Record
from lifeboat.recovery.phases import phases_of
from lifeboat.recovery.wording import day_of, length_of, moment_of, ratio_of, size_of

_KINDS = {"restore_test": "restore test", "drill": "drill", "restore": "restore"}
_CHOSEN = {"newest": "newest", "random": "at random", "asked": "asked for"}
# Joiners are part of Persian and Indic words.
_SEEN_ALTHOUGH_UNPRINTABLE = "\u200c\u200d"
# What means something to a reader of Markdown, with the extensions of GitHub; `_` only where it is at a word's edge.
_MARKDOWN = re.compile(r"[\\`*\[\]<>#|~&!$@]|(?<![^\W_])_+|_+(?![^\W_])")


@dataclass(frozen=True)
class Reports:
    """One record's report in both forms.

    Attributes:
        markdown: for a repository, a ticket or a terminal.
        html: one page without scripts and without anything that is fetched.
    """

    markdown: str
    html: str


def reports_of(
    record: Record,
    earlier: Iterable[Record],
    zone: tzinfo,
    now: datetime,
    *,
    due_after: timedelta = DUE_AFTER,
) -> Reports:
    """Render a record, with what became of the findings of earlier ones.

    Args:
        record: what is reported.
        earlier: records of the system, in any order; what is not before ``record`` or not of its system is left out.
        zone: the policy's, on whose clock times are shown.
        now: the moment that due dates are compared with.
        due_after: how long there is to put a finding right.

    Raises:
        RepositoryError: the templates are missing or broken: the installation is not whole.
    """
    before = sorted(
        {one.id: one for one in earlier if one.system == record.system and _place(one) < _place(record)}.values(),
        key=_place,
    )
    actions = corrective_actions([*before, record], due_after=due_after)
    page = _Page(record, tuple(before), actions, zone, now)
    return Reports(_render("restore_test.md.j2", page), _render("restore_test.html.j2", page))


def _place(record: Record) -> tuple[datetime, str]:
    return record.begun, record.id


def _render(template: str, page: _Page) -> str:
    try:
        return _environment(template.endswith(".html.j2")).get_template(template).render(page=page)
    except (TemplateError, ValueError) as error:
        raise RepositoryError(
            f"The report's template {template} can't be used: {error or type(error).__name__}.",
            "Install Lifeboat again: its templates belong to the package.",
        ) from error


@cache
def _environment(html: bool) -> Environment:
    return Environment(
        loader=PackageLoader("lifeboat.recovery", "templates"),
        autoescape=select_autoescape(("html.j2",)),
        finalize=legible if html else in_markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def legible(value: Any) -> Any:
    """Text in one line, with each character that has no shape written as ``⟨U+202E⟩``; anything else as it is."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(
        character if character.isprintable() or character in _SEEN_ALTHOUGH_UNPRINTABLE else f"⟨U+{ord(character):04X}⟩"
        for character in " ".join(value.split())
    )


def in_markdown(value: Any) -> Any:
    """Text as Markdown shows it literally, also in a cell of a table."""
    text = legible(value)
    if not isinstance(text, str):
        return text
    return _MARKDOWN.sub(lambda found: "".join(f"\\{character}" for character in found[0]), text)


@dataclass(frozen=True)
class _Row:
    """One source's line of the summary."""

    source: str
    recovery_point: str
    target: str
    chosen: str
    moment: str
    data_until: str
    size: str
    recovery_time: str
    rto: str
    in_time: bool
    outcome: str
    passed: bool


@dataclass(frozen=True)
class _Page:
    """All that the templates lay out; every text in it is ready to be read."""

    record: Record
    before: tuple[Record, ...]
    actions: Actions
    zone: tzinfo
    now: datetime

    def at(self, moment: datetime | None) -> str:
        return moment_of(moment, self.zone)

    def day(self, moment: datetime) -> str:
        return day_of(moment, self.zone)

    @property
    def kind(self) -> str:
        return _KINDS[self.record.kind]

    @property
    def findings(self) -> tuple[Finding, ...]:
        return findings(self.record)

    @property
    def failures(self) -> tuple[Finding, ...]:
        return failures(self.findings)

    @property
    def late(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.topic is Topic.TIME)

    @property
    def fallen_back(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.topic is Topic.FALLEN_BACK)

    @property
    def state(self) -> str:
        if not self.record.passed:
            return "FAILED"
        if self.late:
            return "Passed, but OVER its RTO"
        return "Passed, but not by its first choice" if self.fallen_back else "Passed"

    @property
    def title(self) -> str:
        scenario = f" ({self.drill.scenario})" if self.drill is not None else ""
        return f"{self.state}: {self.kind} of {self.record.system}{scenario}, {self.day(self.record.begun)}"

    @property
    def verdict(self) -> str:
        sources = sources_of(self.record)
        if not sources:
            return "No source was tested: it shows nothing."
        parts = []
        if failed := self._in_order(self.failures):
            parts.append(f"{len(failed)} of {_count(len(sources), 'source')} failed: {', '.join(failed)}.")
        else:
            parts.append(self._all_came_back(len(sources)))
        steps = [finding.source for finding in self.failures if finding.topic is Topic.STEP]
        parts += [f"Steps that failed: {', '.join(steps)}."] if steps else []
        if self.drill is not None and not self.drill.drill.in_time:
            parts.append("The system as a whole took longer than its RTO.")
        return " ".join(parts)

    def _all_came_back(self, count: int) -> str:
        passed = f"{_count(count, 'source')} came back and passed every check"
        late, back = self._in_order(self.late), self._in_order(self.fallen_back)
        if late:
            return f"{passed}, but these took longer than their RTO: {', '.join(late)}."
        return f"{passed}; what was to be brought back of these did not: {', '.join(back)}." if back else f"{passed}."

    def _in_order(self, found: Iterable[Finding]) -> tuple[str, ...]:
        named = {finding.source for finding in found}
        return tuple(source for source in sources_of(self.record) if source in named)

    @property
    def overdue(self) -> str:
        late = self.actions.overdue(self.now)
        return f"{_count(len(late), 'corrective action')} overdue." if late else ""

    @property
    def tone(self) -> str:
        if not self.record.passed:
            return "failed"
        return "late" if self.late or self.fallen_back else "passed"

    def is_overdue(self, action: Action) -> bool:
        return action.overdue(self.now)

    def due(self, action: Action) -> str:
        mark = "OVERDUE since " if self.is_overdue(action) else ""
        return f"{mark}{self.at(action.due)}"

    def seen(self, action: Action) -> str:
        if action.seen == 1:
            return "once"
        return f"{action.seen} times, last {self.at(action.last_seen)}"

    @property
    def rows(self) -> tuple[_Row, ...]:
        rows = [self._row(proof) for proof in self.record.proofs]
        lacking = [
            _Row(source, "—", "—", "—", "—", "—", "—", "—", "—", True, "NOTHING TO BRING BACK", False)
            for source in self.record.lacking
        ]
        return (*rows, *lacking)

    def _row(self, proof: Proof) -> _Row:
        within = "within" if not proof.error else "not reached"
        return _Row(
            source=proof.source,
            recovery_point=f"{proof.recovery_point} ({proof.kind})" if proof.recovery_point else "not reached",
            target=proof.target,
            chosen=_CHOSEN[proof.chosen],
            moment=self.at(proof.moment),
            data_until=self.at(proof.data_until),
            size=size_of(proof.size),
            recovery_time=length_of(proof.recovery_milliseconds) + (" until it failed" if proof.error else ""),
            rto=f"{length_of(proof.rto_milliseconds)}: {within if proof.in_time else 'OVER'}",
            in_time=proof.in_time,
            outcome="passed" if proof.passed else "FAILED",
            passed=proof.passed,
        )

    @property
    def length(self) -> str:
        return length_of(round((self.record.ended - self.record.begun) / timedelta(milliseconds=1)))

    @property
    def run(self) -> str:
        run = self.record.run
        if run.dag_id:
            tried = f", try {run.try_number}" if run.try_number else ""
            return f"{run.dag_id}, run {run.run_id or '—'}{tried}"
        return run.command or "—"

    def checks(self, proof: Proof) -> tuple[Check, ...]:
        """Failed ones first."""
        return tuple(sorted(proof.checks, key=lambda check: check.passed))

    def phases(self, proof: Proof) -> tuple[tuple[str, int], ...]:
        return phases_of(proof)

    @property
    def drill(self) -> DrillReport | None:
        drill = self.record.drill
        return None if drill is None else DrillReport(drill, self.at)

    def took(self, milliseconds: int | None) -> str:
        return "—" if milliseconds is None else length_of(milliseconds)

    def share(self, milliseconds: int, proof: Proof) -> str:
        whole = proof.recovery_milliseconds
        return f"{milliseconds / whole:.0%}" if whole else "—"

    @property
    def choice(self) -> str:
        chosen = sorted({proof.source for proof in self.record.proofs if proof.chosen == "random"})
        if not chosen:
            return "No recovery point was chosen at random."
        if self.record.seed is None:
            return f"Chosen at random, without a seed that is known: {', '.join(chosen)}."
        return (
            f"Chosen at random with the seed {self.record.seed}, which chooses the same again from the same: "
            f"{', '.join(chosen)}."
        )

    @property
    def changes(self) -> tuple[Change, ...]:
        return changes_since(self.record, self.before)

    def earlier(self, change: Change) -> str:
        return "never tested before" if change.before is None else change.before.id

    def ratio(self, change: Change) -> str:
        return ratio_of(change.milliseconds, change.before_milliseconds)

    def listed(self, names: Sequence[str]) -> str:
        return ", ".join(names) or "—"

    @property
    def untested(self) -> tuple[str, ...]:
        return untested_since(self.record, self.before)

    def heading(self, proof: Proof) -> str:
        return f"{proof.source}, {proof.recovery_point or proof.target}: {'passed' if proof.passed else 'FAILED'}"

    def passed(self, check: Check) -> str:
        return "passed" if check.passed else "FAILED"

    @property
    def about(self) -> tuple[tuple[str, str], ...]:
        """What the record says of itself, and what it is proven by."""
        record = self.record
        return (
            ("Record", record.id),
            ("SHA-256", record.sha256),
            ("Signed by", record.key_id if record.signature else "nobody: it is NOT SIGNED"),
            ("Stored as", record.key),
            ("Begun", self.at(record.begun)),
            ("Ended", f"{self.at(record.ended)}, after {self.length}"),
            ("By", record.actor),
            ("Run", self.run),
            ("Reason", record.reason or "—"),
            ("Seed", "—" if record.seed is None else str(record.seed)),
            ("Policy", record.policy_digest),
            ("Lifeboat", record.lifeboat_version),
        )

    @property
    def proof_of_signature(self) -> str:
        if not self.record.signature:
            return "Nobody has signed this record: it proves nothing."
        return (
            "This report is made from the record, which is what proves it: the stored object under that name has this "
            "SHA-256 on every target that took it, its signature is by that key, and the journal's event "
            "evidence_recorded names both the record and the SHA-256."
        )

    @property
    def zone_name(self) -> str:
        return getattr(self.zone, "key", None) or str(self.zone)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
