"""What a store answers, as errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from lifeboat.errors import ObjectExists, ObjectMissing, TargetError, TargetFull, TargetUnavailable

_CREDENTIALS = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "InvalidToken",
        "TokenRefreshRequired",
        "AuthFailure",
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "ExpiredTokenException",
    }
)
DENIED = frozenset({"AccessDenied", "Forbidden", "403", "AllAccessDisabled", "AccountProblem", "AccessDeniedException"})
_MISSING = frozenset({"NoSuchKey", "404", "NotFound", "NoSuchVersion"})
_FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507", "EntityTooLarge", "StorageFull"})
_BUSY = frozenset(
    {
        "SlowDown",
        "ServiceUnavailable",
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "TooManyRequests",
        "InternalError",
        "RequestTimeout",
        "429",
        "500",
        "502",
        "503",
        "504",
    }
)
_ELSEWHERE = frozenset(
    {
        "PermanentRedirect",
        "TemporaryRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "301",
    }
)
NOT_DONE = frozenset({"NotImplemented", "501", "MethodNotAllowed", "405"})
_DAMAGED = frozenset({"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"})


def code_of(error: BaseException) -> str:
    """The store's error code; ``""`` when it did not answer."""
    response: Any = getattr(error, "response", None)
    if not isinstance(response, dict):
        return ""
    return str(response.get("Error", {}).get("Code", ""))


def retries_of(answer: Any) -> int:
    """How often botocore tried again before this answer or error."""
    response = getattr(answer, "response", answer)
    return int(response.get("ResponseMetadata", {}).get("RetryAttempts", 0)) if isinstance(response, dict) else 0


def refused(error: BaseException) -> bool:
    """Whether the store refused the one and only request: what was asked for has surely not been done."""
    response: Any = getattr(error, "response", None)
    if not isinstance(response, dict) or retries_of(error):
        return False
    return 400 <= int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) < 500


def without_credentials(endpoint: str) -> str:
    """An address as messages may show it."""
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


@dataclass(frozen=True)
class Speaker:
    """Makes the messages of one target.

    Args:
        target: its name.
        bucket: its bucket.
        endpoint: the address of its store, without credentials.
        role: what the policy calls it: ``"Target"``, or ``"Source"`` where it is only read.
    """

    target: str
    bucket: str
    endpoint: str
    role: str = "Target"

    @property
    def title(self) -> str:
        """How messages call it."""
        return f"{self.role} {self.target}"

    def explain(self, error: BaseException, doing: str, key: str | None = None) -> TargetError:
        """The error of a target for what boto3 raised while ``doing`` something."""
        code = code_of(error)
        return self._answered(error, code, doing, key) if code else self._silent(error, doing)

    def already_there(self, key: str) -> ObjectExists:
        """The error for an object that is written only once and is there."""
        return ObjectExists(
            f"{self.title} holds an object {key} already.", "It was left as it is: objects are written once."
        )

    def _answered(self, error: BaseException, code: str, doing: str, key: str | None) -> TargetError:
        response: Any = getattr(error, "response", {})
        said = str(response.get("Error", {}).get("Message", "")).strip().rstrip(".")[:200]
        said = f" ({said})" if said and said not in (code, "Unknown", "Forbidden", "Not Found") else ""
        begin = f"{self.title}: {doing} failed: {self.endpoint} answered {code}{said}."
        if code == "NoSuchBucket":
            return TargetUnavailable(
                f"{self.title}: there is no bucket {self.bucket} at {self.endpoint}.",
                "Make the bucket, or correct the target's url in the policy or its connection's endpoint.",
            )
        if code in _MISSING and key is not None:
            return ObjectMissing(
                f"{self.title} holds no object {key}.",
                "Take another copy, or look at what the target holds: lifeboat list.",
            )
        kind, remedy = self._kind(code)
        return kind(begin, remedy)

    def _kind(self, code: str) -> tuple[type[TargetError], str]:
        if code in _CREDENTIALS:
            return TargetUnavailable, "Correct login and password (or the role) of its connection."
        if code == "RequestTimeTooSkewed":
            return TargetUnavailable, "Set this machine's clock right."
        if code.startswith("KMS."):
            return TargetError, "Look at sse_kms_key in the policy, and at what the key's policy lets this account do."
        if code in DENIED:
            return TargetError, self._rights()
        for codes, kind, remedy in (
            (_FULL, TargetFull, "Make room or raise the quota, then run the backup again."),
            (_BUSY, TargetUnavailable, "It was tried several times. Look at the store; then run it again."),
            (_ELSEWHERE, TargetUnavailable, "Set region_name in the extra of its connection."),
            (_DAMAGED, TargetError, "The bytes were changed on the way: run it again; look at network and memory."),
        ):
            if code in codes:
                return kind, remedy
        if code == "InvalidObjectState":
            return TargetError, "The object is archived: have the store restore it first (s3 restore-object)."
        if code == "NoSuchUpload":
            return TargetError, "Somebody ended the upload: another clean-up, or a lifecycle rule. Run it again."
        if code in NOT_DONE:
            return TargetError, "This store does not do that: look at the target's options in the policy."
        return TargetError, ""

    def _rights(self) -> str:
        if self.role == "Source":
            return f"Allow s3:ListBucket and s3:GetObject on {self.bucket} to the account of its connection."
        return (
            f"Allow s3:PutObject, s3:GetObject, s3:AbortMultipartUpload and s3:ListBucketMultipartUploads on "
            f"{self.bucket}, s3:ListBucket too; deleting belongs to the account that applies retention."
        )

    def _silent(self, error: BaseException, doing: str) -> TargetError:
        kind = type(error).__name__
        begin = f"{self.title}: {doing} failed"
        if kind in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"):
            return TargetUnavailable(
                f"{begin}: there are no usable credentials ({kind}).",
                "Give its connection a login and password, or a role.",
            )
        if kind == "SSLError":
            return TargetUnavailable(
                f"{begin}: the certificate of {self.endpoint} was not accepted.",
                "Set verify in the extra of its connection to the file of the authority's certificate.",
            )
        if kind in ("ParamValidationError", "FlexibleChecksumError"):
            return TargetError(f"{begin}: {error}.")
        if kind == "NoRegionError":
            return TargetUnavailable(f"{begin}: no region is known.", "Set region_name in the connection's extra.")
        return TargetUnavailable(
            f"{begin}: {self.endpoint} does not answer as it should ({kind}).",
            "Look whether the store runs and can be reached from this machine; then run it again.",
        )

    @contextmanager
    def translated(self, doing: str, key: str | None = None) -> Iterator[None]:
        """Within it, what boto3 raises becomes an error of the target."""
        from botocore.exceptions import BotoCoreError, ClientError
        from urllib3.exceptions import HTTPError

        try:
            yield
        except (BotoCoreError, ClientError, HTTPError) as error:
            raise self.explain(error, doing, key) from error
