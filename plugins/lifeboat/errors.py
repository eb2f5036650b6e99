"""The exception tree.

Every error says what happened, to what, and what to do next. The first argument is the sentence about what happened;
``remedy`` is the next step for the person who reads it, often in the night. Neither ever holds a secret.
"""

from __future__ import annotations


class LifeboatError(Exception):
    """The root of everything that Lifeboat raises on purpose.

    Args:
        what: what happened, and to what: one or two sentences.
        remedy: what to do next; empty where nothing sensible can be said.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what} {self.remedy}".rstrip()


class Cancelled(LifeboatError):
    """The work was stopped from outside: by a person, a signal or a time limit."""


class PolicyError(LifeboatError):
    """A policy can't be read, or says what can't be done."""


class ConnectionUnknown(LifeboatError):
    """A connection or secret that the policy names was not found where secrets are kept."""


class TargetError(LifeboatError):
    """A target refused or failed an operation."""


class TargetUnavailable(TargetError):
    """A target can't be reached, or is not what the policy says (not mounted, wrong marker, no bucket)."""


class TargetFull(TargetError):
    """A target has no room left."""


class ObjectMissing(TargetError):
    """An object that should be there is not."""


class ObjectExists(TargetError):
    """An object that is written only once is there already."""


class StreamError(LifeboatError):
    """Bytes could not be carried from where they were to where they belong."""


class ObjectDamaged(StreamError):
    """A stored object is not what was written: changed, cut short, lengthened, or another object in its place."""


class KeyUnavailable(StreamError):
    """A wrapping key can't be used: missing, unreadable, or its service out of reach."""


class RepositoryError(LifeboatError):
    """What is stored contradicts itself or its own record."""


class ManifestInvalid(RepositoryError):
    """A manifest can't be read, is not signed by a trusted key, or does not match its own path."""


class RecoveryPointMissing(RepositoryError):
    """No such recovery point is committed."""


class AlreadyCommitted(RepositoryError):
    """The recovery point is committed; nothing may be written to it any more."""


class PostgresError(LifeboatError):
    """The PostgreSQL server, or what was read from it, is not as a backup or restore needs it."""


class PreflightFailed(LifeboatError):
    """Something that a backup needs is missing; the text lists all of it, each with its remedy."""


class BackupFailed(PostgresError):
    """The server ended a backup with an error, or ended it early."""


class SlotLost(PostgresError):
    """The replication slot is gone or can no longer give the WAL after the last committed position."""


class TimelineConflict(PostgresError):
    """Two servers, or two histories of one, claim the same place in the repository."""


class RestoreError(LifeboatError):
    """A restore can't begin or did not end in an open, proven database."""


class MomentUnreachable(RestoreError):
    """The moment asked for lies outside what the recovery points and the WAL can reach."""


class DestinationInUse(RestoreError):
    """The destination is not empty, and nobody said that it may be overwritten."""


class NotEnoughDisk(RestoreError):
    """The restore needs more room than the destination has."""


class BackupBlocked(LifeboatError):
    """A backup could not begin, since it can't be told whether another one of the same is under way."""


class RebuildSkipped(LifeboatError):
    """A recovery point of a past moment is not made: the moment can't be brought back, or one is there already.

    Args:
        there: the id of the one that is there.
    """

    def __init__(self, what: str, remedy: str = "", there: str = "") -> None:
        super().__init__(what, remedy)
        self.there = there


class SourceUnreadable(LifeboatError):
    """A set of files, or a part of it that is needed, can't be read."""


class VerificationFailed(LifeboatError):
    """A copy of a recovery point was read and is not good."""
