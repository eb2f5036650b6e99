"""From a policy's target to the target itself."""

from __future__ import annotations

from lifeboat.errors import PolicyError
from lifeboat.outside import Outside
from lifeboat.policy.targets import TargetPolicy
from lifeboat.targets.local import LocalTarget
from lifeboat.targets.s3 import S3Target
from lifeboat.targets.target import Target


def open_target(name: str, policy: TargetPolicy, outside: Outside) -> Target:
    """The target that a policy calls ``name``. Nothing is read or written yet.

    Raises:
        PolicyError: no target of this version has the URL's scheme.
        ConnectionUnknown: the target's connection was not found.
        TargetUnavailable: it can't be used for this kind of target.
    """
    if policy.scheme == "file":
        return LocalTarget(name, policy.directory, marker=policy.marker)
    if policy.scheme == "s3":
        return S3Target(
            name,
            bucket=policy.bucket,
            prefix=policy.prefix,
            outside=outside,
            connection=policy.connection,
            sse=policy.sse,
            sse_kms_key=policy.sse_kms_key,
            storage_class=policy.storage_class,
            checksums=policy.checksums,
            object_lock=policy.object_lock,
        )
    if policy.scheme == "sftp":
        from lifeboat.targets.sftp import SftpTarget  # its SSH library is loaded where it is used

        assert policy.connection is not None
        return SftpTarget(
            name,
            host=policy.host,
            port=policy.port,
            root=str(policy.directory),
            outside=outside,
            connection=policy.connection,
            marker=policy.marker,
        )
    raise PolicyError(
        f"Target {name}: this version of Lifeboat can't write to {policy.scheme}:// yet.",
        "Use s3://, sftp:// or file://.",
    )
