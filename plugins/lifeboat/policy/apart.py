"""Whether a set of files holds a target, or a target the set: it would back up its own backups."""

from __future__ import annotations

from lifeboat.policy.files_source import FilesSource
from lifeboat.policy.targets import TargetPolicy

_SSH = 22


def may_overlap(source: FilesSource, target: TargetPolicy) -> bool:
    """Whether a path of the one may be a path of the other, as far as their URLs tell.

    Two buckets of one name are the same only at one store, which their connections tell; of directories of workers only
    those who mount them know.
    """
    if source.scheme != target.scheme:
        return False
    if source.scheme == "s3":
        return source.bucket == target.bucket and _one_in_the_other(source.prefix, target.prefix)
    if source.scheme == "sftp":
        same = (source.host, source.port or _SSH) == (target.host, target.port or _SSH)
        return same and _one_in_the_other(source.directory.strip("/"), str(target.directory).strip("/"))
    return False


def _one_in_the_other(one: str, other: str) -> bool:
    return f"{one}/".lstrip("/").startswith(f"{other}/".lstrip("/")) or f"{other}/".lstrip("/").startswith(
        f"{one}/".lstrip("/")
    )
