"""Storing an object only if there is none."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from lifeboat.targets.background import interruptible
from lifeboat.targets.s3_errors import NOT_DONE, code_of, retries_of
from lifeboat.targets.s3_options import StoreOptions

_PATIENCE_WITH_CONFLICTS = 4


@dataclass(frozen=True)
class Outcome:
    """How it went.

    Attributes:
        taken: somebody else's object has the key; nothing was stored.
        honours_conditions: what was learnt about the store; ``None``: nothing.
        answer: what the store answered to ``put_object``.
    """

    taken: bool
    honours_conditions: bool | None
    answer: Mapping[str, Any]


def put_once(
    client: Any,
    options: StoreOptions,
    address: dict[str, str],
    data: bytes,
    *,
    honours_conditions: bool | None,
    stored: Callable[[], bytes],
    lock_until: datetime | None = None,
) -> Outcome:
    """Store ``data`` with If-None-Match, or without where the store is known not to do it. Raises what boto3 raises.

    Args:
        client: a boto3 S3 client.
        options: what is asked of the store.
        address: ``Bucket`` and ``Key``.
        data: the object.
        honours_conditions: what is known of the store so far.
        stored: reads what is stored under the key.
        lock_until: the end of its lock; ``None``: none is asked for.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
    """
    arguments = {
        **address,
        **options.of_object(lock_until),
        **options.of_body(memoryview(data), zlib.crc32(data), lock_until),
    }
    for patience in range(_PATIENCE_WITH_CONFLICTS, -1, -1):
        condition = {} if honours_conditions is False else {"IfNoneMatch": "*"}
        try:
            answer = interruptible(partial(client.put_object, Body=data, **condition, **arguments))
        except Exception as error:
            code = code_of(error)
            if code in ("PreconditionFailed", "412"):
                # A request whose answer was lost is sent again, and then meets its own object.
                ours = retries_of(error) > 0 and stored() == data
                return Outcome(not ours, True, {})
            if code == "ConditionalRequestConflict" and patience:
                continue  # another writer of the key is at work: its outcome decides
            if code in NOT_DONE and condition:
                honours_conditions = False
                continue
            raise
        return Outcome(False, honours_conditions, answer)
    raise AssertionError("unreachable: the last try raises or returns")
