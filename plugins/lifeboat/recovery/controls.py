"""Which controls that auditors know a record is evidence for, by its kind, and what it shows for each.

A record is evidence for a control and never the whole of it: a control asks for policies, people and reviews as well.
Names are those of the sources:

- AWS Backup Audit Manager: https://docs.aws.amazon.com/aws-backup/latest/devguide/controls-and-remediation.html
- SOC 2: AICPA, TSP section 100, 2017 Trust Services Criteria (with revised points of focus, 2022), availability
- ISO/IEC 27001:2022, annex A: https://www.iso.org/standard/27001
- NIST SP 800-53 revision 5, family CP: https://csrc.nist.gov/pubs/sp/800/53/r5/upd1/final
"""

from __future__ import annotations

from dataclasses import dataclass

from lifeboat.recovery.evidence import RecordKind

AWS = "AWS Backup Audit Manager"
SOC_2 = "SOC 2"
ISO_27001 = "ISO/IEC 27001:2022"
NIST_800_53 = "NIST SP 800-53"


@dataclass(frozen=True)
class Control:
    """A control, and what a record of one kind shows for it.

    Attributes:
        framework: where it is from.
        id: as the framework calls it in short: ``A1.3``.
        title: what the framework calls it; of the criteria of SOC 2, which have no titles, what they are about.
        shows: what a record shows for it, in a sentence.
    """

    framework: str
    id: str
    title: str
    shows: str

    @property
    def name(self) -> str:
        """Framework and id in one line: ``SOC 2 A1.3``."""
        return f"{self.framework} {self.id}"


def _restore_time(shows: str) -> Control:
    return Control(AWS, "RESTORE_TIME_FOR_RESOURCES_MEET_TARGET", "Restore time for resources meet target", shows)


def _recovery_infrastructure(shows: str) -> Control:
    return Control(SOC_2, "A1.2", "Data backup processes and recovery infrastructure", shows)


def _recovery_plan_tests(shows: str) -> Control:
    return Control(SOC_2, "A1.3", "Tests of recovery plan procedures", shows)


def _information_backup(shows: str) -> Control:
    return Control(ISO_27001, "A.8.13", "Information backup", shows)


def _readiness(shows: str) -> Control:
    return Control(ISO_27001, "A.5.30", "ICT readiness for business continuity", shows)


def _plan_testing(shows: str) -> Control:
    return Control(NIST_800_53, "CP-4", "Contingency Plan Testing", shows)


def _reliability_and_integrity(shows: str) -> Control:
    return Control(NIST_800_53, "CP-9(1)", "Testing for Reliability and Integrity", shows)


def _reconstitution(shows: str) -> Control:
    return Control(NIST_800_53, "CP-10", "System Recovery and Reconstitution", shows)


_CONTROLS: dict[RecordKind, tuple[Control, ...]] = {
    "restore_test": (
        _restore_time("How long each source took to come back, beside the policy's objective (RTO) for it."),
        _recovery_infrastructure("That backups were read back from a named target, and what was found in them."),
        _recovery_plan_tests("That backups were tested for being whole and complete: when, by whom, how it ended."),
        _information_backup("That copies were tested, by which policy, and whether the test passed."),
        _reliability_and_integrity("Which copy was retrieved, and each check of what was in it."),
    ),
    "drill": (
        _restore_time("How long each source took to come back, beside the policy's objective (RTO) for it."),
        _recovery_infrastructure("That the system came back from what the targets hold, or which sources did not."),
        _recovery_plan_tests("That the recovery of the system was practised: when, by whom, how it ended."),
        _information_backup("That copies of all sources were tested together, and of which there was none."),
        _readiness("How long recovery took and how old the data were, beside the policy's objectives (RTO, RPO)."),
        _plan_testing("That the plan was tested, when and with which result; its review is recorded elsewhere."),
        _reliability_and_integrity("Which copies were retrieved, and each check of what was in them."),
        _reconstitution("That the system was brought back to a known state: to which moment, and in what time."),
    ),
    "restore": (
        _restore_time("How long a real restore took, beside the policy's objective (RTO) for the source."),
        _recovery_infrastructure("That recovery was there when it was needed: who asked for it, why, how it ended."),
        _information_backup("That a copy was restored, which one, and what was checked in it."),
        _reconstitution("That what was lost was brought back to a known state: to which moment, and in what time."),
    ),
}


def controls_of(kind: RecordKind) -> tuple[Control, ...]:
    """The controls that a record of this kind is evidence for."""
    return _CONTROLS[kind]
