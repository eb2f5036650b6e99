"""The store's own locks: whether a bucket keeps any, until when an object is locked, and how that is extended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lifeboat.errors import ObjectMissing, TargetError
from lifeboat.targets.background import interruptible
from lifeboat.targets.s3_check import locks_objects
from lifeboat.targets.s3_errors import DENIED, Speaker, code_of
from lifeboat.targets.s3_options import in_whole_seconds
from lifeboat.targets.target import LOCKED_WITHOUT_END

_UNLOCKED = frozenset({"NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError"})
_MISSING = frozenset({"404", "NoSuchKey", "NotFound", "NoSuchVersion"})


@dataclass(frozen=True)
class Lock:
    """The lock of one version of an object.

    Attributes:
        mode: ``"GOVERNANCE"`` or ``"COMPLIANCE"``; ``None`` without a retention.
        retained_until: the end of its retention, which may be over.
        held: whether there is a legal hold upon it.
    """

    mode: str | None = None
    retained_until: datetime | None = None
    held: bool = False

    @property
    def until(self) -> datetime | None:
        """When it ends, in UTC; ``LOCKED_WITHOUT_END`` for a legal hold."""
        return LOCKED_WITHOUT_END if self.held else self.retained_until


def look(client: Any, address: dict[str, str], **version: str) -> Lock | None:
    """The lock that a store shows of an object; ``None`` when there is no such object. Raises what boto3 raises.

    HEAD shows it to whoever may read the object and has s3:GetObjectRetention. Retention's own account may not read a
    backup: there the lock is asked for by itself.
    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
    """
    asked = {**address, **version}
    try:
        head = interruptible(lambda: client.head_object(**asked))
    except Exception as error:
        if code_of(error) in _MISSING:
            return None
        if code_of(error) not in DENIED:
            raise
        retention = _shown(client.get_object_retention, asked, "Retention")
        hold = _shown(client.get_object_legal_hold, asked, "LegalHold")
        return _lock(retention.get("Mode"), retention.get("RetainUntilDate"), hold.get("Status"))
    return _lock(
        head.get("ObjectLockMode"), head.get("ObjectLockRetainUntilDate"), head.get("ObjectLockLegalHoldStatus")
    )


def _shown(call: Any, asked: dict[str, str], name: str) -> Any:
    try:
        return interruptible(lambda: call(**asked)).get(name, {})
    except Exception as error:
        if code_of(error) in _UNLOCKED:
            return {}
        raise


def _lock(mode: str | None, until: datetime | None, hold: str | None) -> Lock:
    return Lock(mode, None if until is None else until.astimezone(UTC), hold == "ON")


class Locks:
    """The locks of one bucket.

    Args:
        client: a boto3 S3 client.
        speaker: makes the messages.
        mode: of new locks, as the policy says; ``None`` when it asks for none.
    """

    def __init__(self, client: Any, speaker: Speaker, mode: str | None) -> None:
        self._client = client
        self._speaker = speaker
        self._mode = mode
        self._kept: bool | None = None

    @property
    def are_kept(self) -> bool:
        """Whether the bucket locks objects, by its own configuration: what an object shows proves nothing.

        Raises:
            TargetError: it could not be asked.
        """
        if self._kept is None:
            with self._speaker.translated(f"asking whether {self._speaker.bucket} locks objects"):
                self._kept = locks_objects(self._client, self._speaker.bucket)
        return self._kept

    def insist(self) -> None:
        """Insist on a bucket that locks objects.

        Raises:
            TargetError: it does not.
        """
        if not self.are_kept:
            raise TargetError(
                f"{self._speaker.title}: the policy asks for object locks, but the bucket "
                f"{self._speaker.bucket} does not lock.",
                "Make a bucket with object lock enabled, or take object_lock out of the policy.",
            )

    def until(self, address: dict[str, str], key: str) -> datetime | None:
        """The end of an object's lock, which may be past; ``None``: it is not locked, or not there.

        Raises:
            TargetError: it could not be found out.
        """
        if not self.are_kept:
            return None
        lock = self._look(address, key)
        return None if lock is None else lock.until

    def extend(self, address: dict[str, str], key: str, until: datetime) -> bool:
        """Lock an object until then at least, and read that back; false when it was locked so long already.

        Raises:
            ObjectMissing: there is no such object.
            TargetError: the bucket does not lock, or the store does not show the lock.
        """
        # Before anything is sent: rclone's server stores the request's own text in the place of the object.
        self.insist()
        ends = in_whole_seconds(until)
        before = self._look(address, key)
        if before is None:
            raise ObjectMissing(
                f"{self._speaker.title} holds no object {key}: it can't be locked.",
                "Find out who removed it; take another copy.",
            )
        if _reaches(before, ends):
            return False
        # A mode is never changed: compliance can't be, and governance takes a right that nobody should have.
        retention = {"Mode": before.mode or self._mode or "GOVERNANCE", "RetainUntilDate": ends}
        refusal: BaseException | None = None
        try:
            interruptible(lambda: self._client.put_object_retention(**address, Retention=retention))
        except Exception as error:
            # Another cleanup may have extended it further meanwhile: then this one would have shortened it.
            if code_of(error) not in DENIED:
                with self._speaker.translated(f"locking {key}", key):
                    raise
            refusal = error
        after = self._look(address, key)
        if after is not None and _reaches(after, ends):
            return True
        if refusal is not None:
            raise self._refused(f"locking {key}", "s3:PutObjectRetention") from refusal
        raise TargetError(
            f"{self._speaker.title}: the store took a lock of {key} until {ends.isoformat()} and does not show it.",
            "The store ignores it, or this account may not see it: allow s3:GetObjectRetention, or look for another "
            "store.",
        )

    def _look(self, address: dict[str, str], key: str) -> Lock | None:
        doing = f"reading the lock of {key}"
        with self._speaker.translated(doing, key):
            try:
                return look(self._client, address)
            except Exception as error:
                if code_of(error) in DENIED:
                    raise self._refused(doing, "s3:GetObjectRetention and s3:GetObjectLegalHold") from error
                raise

    def _refused(self, doing: str, rights: str) -> TargetError:
        return TargetError(
            f"{self._speaker.title}: {doing} failed: {self._speaker.endpoint} denied it.",
            f"Allow {rights} on {self._speaker.bucket} to the account that applies retention.",
        )


def _reaches(lock: Lock, until: datetime) -> bool:
    return lock.retained_until is not None and lock.retained_until >= until
