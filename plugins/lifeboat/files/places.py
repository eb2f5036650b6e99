"""From the URL of a set of files to the place where they are: the one spot that knows which schemes there are."""

from __future__ import annotations

from lifeboat.errors import PolicyError
from lifeboat.files.far_place import FarPlace
from lifeboat.outside import Outside
from lifeboat.policy.files_source import FilesSource


def open_far_place(name: str, source: FilesSource, outside: Outside) -> FarPlace | None:
    """The place of a set of files; ``None`` for a directory of the worker. Nothing is read yet.

    Args:
        name: the source's name in the policy.

    Raises:
        PolicyError: no place of this version has the URL's scheme.
        ConnectionUnknown: the source's connection was not found.
        SourceUnreadable: it can't be used for this kind of place.
    """
    if source.scheme == "file":
        return None
    if source.scheme == "s3":
        from lifeboat.files.s3_place import S3Place  # what a kind of place takes is loaded where it is used

        return S3Place(name, source, outside)
    if source.scheme == "sftp":
        from lifeboat.files.sftp_place import SftpPlace

        return SftpPlace(name, source, outside)
    raise PolicyError(
        f"Source {name}: this version of Lifeboat can't read files from {source.scheme}:// yet.",
        "Use file://, s3:// or sftp://.",
    )
