"""What a bucket holds: its objects and its uploads in progress, page by page."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from lifeboat.errors import TargetError
from lifeboat.targets.background import interruptible
from lifeboat.targets.s3_errors import NOT_DONE, code_of


def pages(client: Any, title: str, bucket: str, prefix: str, **arguments: Any) -> Iterator[Any]:
    """The pages of ``list_objects_v2`` below a prefix.

    Args:
        title: how messages call the place.

    Raises:
        TargetError: the store says that there is more, but not where.
        BotoCoreError, ClientError: what boto3 raises.
    """
    asked = {"Bucket": bucket, "Prefix": prefix, **arguments}
    while True:
        page = interruptible(lambda: client.list_objects_v2(**asked))
        yield page
        if not page.get("IsTruncated"):
            return
        following = page.get("NextContinuationToken")
        if not following or following == asked.get("ContinuationToken"):
            raise TargetError(
                f"{title}: the store says that its listing goes on, but not where.",
                "Look for a newer version of the store: a listing that may lack objects is not used.",
            )
        asked["ContinuationToken"] = following


def uploads(client: Any, bucket: str, prefix: str) -> list[tuple[str, str, datetime]]:
    """Key, upload id and begin (UTC) of each multipart upload in progress below a prefix.

    Empty for a store that can't list them. Raises what boto3 raises.
    """
    asked: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix}
    found: list[tuple[str, str, datetime]] = []
    while True:
        page = _page_of_uploads(client, dict(asked))
        for upload in page.get("Uploads", ()):
            # Some stores (moto is one) list the whole bucket, whatever prefix was asked for.
            if upload["Key"].startswith(prefix):
                found.append((upload["Key"], upload["UploadId"], upload["Initiated"].astimezone(UTC)))
        following = {"KeyMarker": page.get("NextKeyMarker"), "UploadIdMarker": page.get("NextUploadIdMarker")}
        if not page.get("IsTruncated") or not following["KeyMarker"]:
            return found
        asked |= following


def _page_of_uploads(client: Any, asked: dict[str, Any]) -> Any:
    try:
        return interruptible(lambda: client.list_multipart_uploads(**asked))
    except Exception as error:
        # rclone's server says NoSuchUpload when there is none at all.
        if code_of(error) in ("NoSuchUpload", *NOT_DONE):
            return {}
        raise


def abort(client: Any, bucket: str, key: str, upload: str) -> bool:
    """End an upload in progress and throw its parts away; false when it had ended. Raises what boto3 raises."""
    try:
        interruptible(lambda: client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload))
    except Exception as error:
        if code_of(error) not in ("NoSuchUpload", "404"):
            raise
        return False
    return True
