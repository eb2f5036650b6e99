"""What a bucket does by itself with what is stored in it: versions, and the rules of its lifecycle.

Sources: https://docs.aws.amazon.com/AmazonS3/latest/userguide/Versioning.html,
https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from lifeboat.targets.background import interruptible
from lifeboat.targets.s3_errors import NOT_DONE, code_of
from lifeboat.targets.target import Finding, Kept

_NO_RULES = "NoSuchLifecycleConfiguration"
_FROZEN = frozenset({"GLACIER", "DEEP_ARCHIVE"})
Rule = Mapping[str, Any]


def look_at_rules(client: Any, bucket: str, root: str, kept: Kept, subject: str) -> list[Finding]:
    """Ask a bucket for both, and judge them. What the account may not ask for, or the store does not know, is a remark.

    Args:
        root: what stands before every key of the target, with a slash at its end; may be empty.

    Raises what boto3 raises when the store does not answer.
    """
    folders = [f"{root}{folder}" for folder in kept.folders]
    return [*_versions(client, bucket, subject), *_rules(client, bucket, folders, kept.lasting, subject)]


def _versions(client: Any, bucket: str, subject: str) -> list[Finding]:
    try:
        answer = interruptible(lambda: client.get_bucket_versioning(Bucket=bucket))
    except Exception as error:
        return [_untold(error, f"whether {bucket} keeps versions", "s3:GetBucketVersioning", subject)]
    if answer.get("Status") == "Enabled":
        return [
            Finding("ok", subject, f"{bucket} keeps versions: what is deleted there behind our back can come back.")
        ]
    return [
        Finding(
            "ok",
            subject,
            f"{bucket} keeps no versions: what somebody deletes there is gone, whatever the policy's `undelete` says. "
            "Lifeboat's own deletions can be taken back all the same.",
        )
    ]


def _rules(client: Any, bucket: str, folders: Sequence[str], lasting: timedelta, subject: str) -> list[Finding]:
    what = f"whether rules of {bucket} delete or move objects"
    try:
        answer = interruptible(lambda: client.get_bucket_lifecycle_configuration(Bucket=bucket))
    except Exception as error:
        if code_of(error) != _NO_RULES:
            return [_untold(error, what, "s3:GetLifecycleConfiguration", subject)]
        answer = {"Rules": ()}
    if "Rules" not in answer:
        # rclone's server takes the question for one about the bucket's objects.
        return [Finding("ok", subject, f"It can't be told {what}: this store does not tell.")]
    return judge(answer["Rules"], folders, lasting, subject)


def _untold(error: Exception, what: str, right: str, subject: str) -> Finding:
    code = code_of(error)
    if not code:
        raise error
    reason = "this store does not tell" if code in NOT_DONE else f"the store answered {code}, so allow {right}"
    return Finding("ok", subject, f"It can't be told {what}: {reason}.")


def judge(rules: Iterable[Rule], folders: Sequence[str], lasting: timedelta, subject: str) -> list[Finding]:
    """What the rules of a bucket's lifecycle mean for objects that must stay.

    Args:
        rules: as ``GetBucketLifecycleConfiguration`` gives them.
        folders: where the objects are: beginnings of keys.
        lasting: how long they must stay, from when they are written.
    """
    ours = [rule for rule in rules if rule.get("Status") == "Enabled" and _covers(rule, folders)]
    findings = [finding for rule in ours for finding in _of_rule(rule, lasting, subject)]
    if not any(finding.severity != "ok" for finding in findings):
        findings.insert(0, Finding("ok", subject, "No rule of the bucket deletes or freezes what must stay."))
    if not any("DaysAfterInitiation" in rule.get("AbortIncompleteMultipartUpload", {}) for rule in ours):
        findings.append(
            Finding(
                "ok",
                subject,
                "No rule of the bucket ends uploads that broke off (AbortIncompleteMultipartUpload): Lifeboat's "
                "cleanup ends its own; a rule of a week would do so while Lifeboat is away.",
            )
        )
    return findings


def _of_rule(rule: Rule, lasting: timedelta, subject: str) -> Iterator[Finding]:
    name = f"The rule {rule.get('ID') or '(without a name)'} of the bucket"
    days = -(-lasting // timedelta(days=1))
    expiration = rule.get("Expiration", {})
    if _before("Days" in expiration, expiration, days):
        yield Finding(
            "error",
            subject,
            f"{name} deletes objects {_when(expiration)}, and the policy keeps them for {days} days, `undelete` "
            "included.",
            f"Remove it, keep it off Lifeboat's prefix, or let it wait for more than {days} days: Lifeboat deletes "
            "what is past its retention by itself.",
        )
    for transition in rule.get("Transitions", ()):
        frozen = transition.get("StorageClass") in _FROZEN
        if frozen and _before("Days" in transition, transition, days):
            yield Finding(
                "warning",
                subject,
                f"{name} moves objects to {transition['StorageClass']} {_when(transition)}: a restore from there waits "
                "for hours until they are thawed, and they can't be verified meanwhile.",
                "Move them to GLACIER_IR or STANDARD_IA instead, or keep the rule off Lifeboat's prefix.",
            )
    older = rule.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays")
    if older is not None:
        yield Finding(
            "ok",
            subject,
            f"{name} removes versions {older} days after they were deleted or replaced: so long can be undone what "
            "somebody else deletes there.",
        )


def _before(by_days: bool, when: Mapping[str, Any], days: int) -> bool:
    """Whether something happens to an object before its time: after fewer days, or from a date on to all there are."""
    return int(when["Days"]) < days if by_days else "Date" in when


def _when(when: Mapping[str, Any]) -> str:
    return f"after {when['Days']} days" if "Days" in when else f"from {when['Date']:%Y-%m-%d} on"


def _covers(rule: Rule, folders: Sequence[str]) -> bool:
    """Whether a rule may be about one of our objects: they have no tags."""
    asked = rule.get("Filter") or {}
    both = asked.get("And") or {}
    if "Tag" in asked or both.get("Tags"):
        return False
    prefix = str(both.get("Prefix") or asked.get("Prefix") or rule.get("Prefix") or "")
    return any(folder.startswith(prefix) or prefix.startswith(folder) for folder in folders)
