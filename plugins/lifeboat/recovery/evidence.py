"""Evidence: one signed record of each restore test, drill and restore.

A record says what came back, from where, what was looked at in it and how long each part took. It is written once, to
every target, and an event of the journal carries its digest: a record that is missing or was changed shows in the
journal, and one that nobody announced is believed by nobody.

The signed bytes are the record's JSON without its signature, in its canonical form. Times are whole milliseconds.
"""

from __future__ import annotations

import hashlib
from datetime import UTC
from typing import Any, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from lifeboat.errors import ManifestInvalid
from lifeboat.policy.drills import Scenario
from lifeboat.repository.canonical import canonical, printable
from lifeboat.repository.layout import evidence_folder
from lifeboat.repository.manifest import Run
from lifeboat.repository.published import published_schema
from lifeboat.repository.signing import TrustedKeys

RecordKind = Literal["restore_test", "drill", "restore"]
_STAMP = "%Y%m%dT%H%M%SZ"
_MARK = r"^[0-9a-f]{8}$"
_WHERE_SAID = frozenset({"tried", "newest_change", "lost_milliseconds", "drill", "place"})
"""What a record has only where there is something to say: records from before these fields keep their signatures."""
RECOVERY_TIME, RECOVERY_POINT = "recovery time", "recovery point"
"""The checks against the objectives, whatever kind of source it is."""
APPROVE = "approve"
"""The phase in which people were asked: it counts among the recovery time, and says nothing of bytes."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        return printable(value) if isinstance(value, dict) else value

    @model_serializer(mode="wrap")
    def _says_what_there_is(self, told: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = told(self)
        return {name: value for name, value in fields.items() if value or name not in _WHERE_SAID or value == 0}


class Check(_Model):
    """One thing that was looked at in what came back.

    Attributes:
        name: what, such as ``pg_amcheck`` or ``orders_are_whole.sql``.
        passed: whether it was as it should be.
        what: what was found, in a sentence.
        milliseconds: how long it took.
    """

    name: str
    passed: bool
    what: str = ""
    milliseconds: int = Field(default=0, ge=0)


class Tried(_Model):
    """A recovery point that was to come back, and did not, so that another one was taken.

    Attributes:
        recovery_point, target: which, from where; a target that could not be read has no recovery point.
        reaches: up to when it would have brought everything back, where that is known.
        error, remedy: why it did not come back, and what to do about that.
        milliseconds: how long it took to find that out.
    """

    recovery_point: str
    target: str
    reaches: AwareDatetime | None = None
    error: str
    remedy: str = ""
    milliseconds: int = Field(default=0, ge=0)


class Proof(_Model):
    """What the recovery of one source showed.

    Attributes:
        source, kind: which, and its kind of recovery point.
        recovery_point, target: what came back, and from where; the newest link of a chain. A target that could not be
            read has neither kind nor recovery point.
        chosen: why this one: ``newest``, ``random``, or ``asked`` by a person.
        moment: the moment that was asked for or that the recovery point stands for.
        data_until: the moment of the newest change that is in it, where it is known.
        milliseconds: by phase, such as ``fetch``, ``combine``, ``replay``, ``check``.
        size: bytes that came back.
        checks: what was looked at.
        error: why it did not come back; empty: it did.
        remedy: what to do about that.
        rto_milliseconds, rpo_milliseconds: the policy's objectives for the source.
        tried: in a drill, what was tried before it.
        newest_change: in a drill, the newest change that was found in it, where it can be told.
        lost_milliseconds: in a drill, what was lost before the incident: the measured recovery point.
        place: of a restore test, the staging server that it came back to, and the databases' names there; empty: a
            scratch place of the worker.
    """

    source: str
    kind: str
    recovery_point: str
    target: str
    chosen: Literal["newest", "random", "asked"]
    moment: AwareDatetime | None = None
    data_until: AwareDatetime | None = None
    milliseconds: dict[str, int] = Field(default_factory=dict)
    size: int = Field(default=0, ge=0)
    checks: tuple[Check, ...] = ()
    error: str = ""
    remedy: str = ""
    rto_milliseconds: int = Field(ge=0)
    rpo_milliseconds: int = Field(ge=0)
    tried: tuple[Tried, ...] = ()
    newest_change: AwareDatetime | None = None
    lost_milliseconds: int | None = Field(default=None, ge=0)
    place: str = ""

    @property
    def named(self) -> str:
        """What came back, or did not, in words."""
        point = f", {self.recovery_point}" if self.recovery_point else ""
        return f"{self.source}{point} from {self.target}"

    @property
    def passed(self) -> bool:
        """Whether it came back, and was as it should be."""
        return not self.error and bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def recovery_milliseconds(self) -> int:
        """All phases together: the measured recovery time."""
        return sum(self.milliseconds.values())

    @property
    def in_time(self) -> bool:
        """Whether the measured recovery time is within the objective."""
        return self.recovery_milliseconds <= self.rto_milliseconds


class Step(_Model):
    """One step of a drill.

    Attributes:
        name: which of the eight, such as ``database`` or ``verify``.
        source: whose recovery it is, where it is one.
        begun, ended: when; neither where its task left no result.
        practised: whether anything was done: a step without a hook, or a source, is none.
        passed: whether it ended as it should; what was not practised did not fail.
        what: what was seen, in a sentence.
        remedy: what to do where it failed.
    """

    name: str
    source: str = ""
    begun: AwareDatetime | None = None
    ended: AwareDatetime | None = None
    practised: bool = True
    passed: bool
    what: str = ""
    remedy: str = ""

    @property
    def title(self) -> str:
        """Its name, with its source where that has another."""
        return self.name if self.source in ("", self.name) else f"{self.name} ({self.source})"


class Drill(_Model):
    """What a record of a drill says besides its proofs.

    Attributes:
        scenario: what was taken for lost.
        incident: the moment of the loss; where corruption was found late, the moment at which it began.
        known_until: only what was committed by then was used: the incident, or when the corruption was found.
        targets: those that the scenario left to be read.
        steps: in their order.
        rto_milliseconds: the objective for the system as a whole.
        recovery_milliseconds: from the drill's beginning to the end of its last step, with every wait between.
    """

    scenario: Scenario
    incident: AwareDatetime
    known_until: AwareDatetime
    targets: tuple[str, ...]
    steps: tuple[Step, ...]
    rto_milliseconds: int = Field(ge=0)
    recovery_milliseconds: int = Field(ge=0)

    @property
    def in_time(self) -> bool:
        """Whether the system as a whole was back within its objective."""
        return self.recovery_milliseconds <= self.rto_milliseconds

    @property
    def passed(self) -> bool:
        """Whether every step did, within the objective."""
        return self.in_time and all(step.passed for step in self.steps)


class Record(_Model):
    """One restore test, drill or restore.

    Attributes:
        format_version: of this document.
        kind: what it was.
        mark: eight hexadecimal digits that tell two of one second apart.
        system: whose recovery.
        begun, ended: when, in UTC.
        actor, run: who, and by which DAG run or command.
        reason: what it was for, in the words of whoever asked.
        seed: by which what was chosen at random can be chosen again.
        policy_digest: the policy that it was done by, kept on every target under that digest.
        lifeboat_version: of the program.
        proofs: by source.
        lacking: sources of which there was nothing to bring back, and why.
        passed: whether every proof passed, and nothing was lacking.
        key_id, signature: who signed it, and the signature in base64.
        drill: of a drill, its scenario and steps.
    """

    format_version: Literal[1] = 1
    kind: RecordKind
    mark: str = Field(pattern=_MARK)
    system: str
    begun: AwareDatetime
    ended: AwareDatetime
    actor: str
    run: Run
    reason: str = ""
    seed: int | None = None
    policy_digest: str
    lifeboat_version: str
    proofs: tuple[Proof, ...]
    lacking: dict[str, str] = Field(default_factory=dict)
    passed: bool
    key_id: str
    signature: str = ""
    drill: Drill | None = None

    @model_validator(mode="after")
    def _is_honest(self) -> Self:
        if self.passed != self.shown:
            raise ValueError("a record says that it passed if and only if all that is in it did")
        return self

    @property
    def shown(self) -> bool:
        """Whether what is in it shows a recovery without a fault."""
        steps = self.drill is None or self.drill.passed
        return bool(self.proofs) and not self.lacking and steps and all(proof.passed for proof in self.proofs)

    @property
    def id(self) -> str:
        """Sorts by time and says its kind: ``20261207T060000Z-restore-test-7f3a12bc``."""
        return f"{self.begun.astimezone(UTC).strftime(_STAMP)}-{self.kind.replace('_', '-')}-{self.mark}"

    @property
    def key(self) -> str:
        """Where it is stored on every target."""
        return f"{evidence_folder(self.system, self.begun)}{self.id}.json"

    def signed_bytes(self) -> bytes:
        """What the signature covers."""
        return canonical(self.model_dump(mode="json", exclude={"signature"}))

    def to_json(self) -> bytes:
        """The document as it is stored."""
        return canonical(self.model_dump(mode="json")) + b"\n"

    @property
    def sha256(self) -> str:
        """Digest of the document: what the journal calls it by."""
        return hashlib.sha256(self.to_json()).hexdigest()


def parse_record(document: bytes, key: str, trusted: TrustedKeys) -> Record:
    """Read a stored record and insist on its being the one that was signed for this place.

    Raises:
        ManifestInvalid: it can't be believed.
    """
    what = f"The evidence {key}"
    try:
        record = Record.model_validate_json(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ManifestInvalid(f"{what} can't be read: {first['msg']}.", "Compare the other targets' copies.") from None
    if record.key != key or record.to_json() != document:
        raise ManifestInvalid(
            f"{what} does not stand where it was written, or not as it was written.",
            "Compare the other targets' copies.",
        )
    trusted.verify(
        record.signed_bytes(), key_id=record.key_id, signature=record.signature, signed=record.ended, what=what
    )
    return record


def evidence_schema_text() -> str:
    """The JSON Schema of a record, as ``docs/evidence.schema.json`` holds it."""
    return published_schema(Record, "Lifeboat evidence record")
