"""Whether a set of files in a bucket holds the backups that are made of it, as the stores themselves tell."""

from __future__ import annotations

from urllib.parse import urlsplit

from lifeboat.errors import PolicyError
from lifeboat.outside import Outside
from lifeboat.policy.apart import may_overlap
from lifeboat.policy.files_source import FilesSource
from lifeboat.policy.model import Policy

_AWS = (".amazonaws.com", ".amazonaws.com.cn")


def insist_on_places_apart(name: str, source: FilesSource, policy: Policy, outside: Outside) -> None:
    """Refuse a set that lies in one of its own targets, or holds one. The policy alone can't tell: two connections may
    lead to one store.

    Args:
        name: the source's name in the policy.

    Raises:
        PolicyError: it does.
        ConnectionUnknown: a connection was not found.
    """
    if source.scheme != "s3":
        return
    for target_name, target in policy.targets.items():
        if may_overlap(source, target) and _store(outside, source.connection) == _store(outside, target.connection):
            raise PolicyError(
                f"Source {name} and the target {target_name} lie within each other: it would back up its own backups.",
                "Give the target a bucket or a prefix of its own.",
            )


def _store(outside: Outside, connection: str | None) -> str:
    """Where a connection leads to; names of buckets are the same in all of AWS."""
    host = urlsplit(str(outside.aws_client("s3", connection).meta.endpoint_url))
    return "AWS" if (host.hostname or "").endswith(_AWS) else host.netloc.rpartition("@")[2].lower()
