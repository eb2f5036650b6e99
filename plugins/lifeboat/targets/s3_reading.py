"""Reading an object to its end although connections break."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from lifeboat.errors import TargetError
from lifeboat.targets.background import interruptible
from lifeboat.targets.s3_errors import Speaker, code_of

_MOST_RESUMPTIONS = 8
_LONGEST_PAUSE = 8.0
_CHUNK = 4 * 1024 * 1024


class ResumedReading:
    """The bytes of one version of an object. A connection that breaks is taken up again there, 8 times at most.

    The ETag of the first answer is asked for (If-Match) and compared in each later one: some stores ignore the header.

    Args:
        get: ``get_object`` for the object; takes ``Range`` and ``IfMatch``.
        speaker: makes the messages.
        key: for messages.
        pause: waits so many seconds between two tries.
    """

    def __init__(
        self, get: Callable[..., Any], speaker: Speaker, key: str, *, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._get = get
        self._speaker = speaker
        self._key = key
        self._pause = pause
        self._resumptions = 0
        self._position = 0
        with speaker.translated(f"reading {key}", key):
            first = interruptible(get)
        self._etag: str = first.get("ETag", "")
        self.size: int = first["ContentLength"]
        self._stream: Any = first["Body"]

    def read(self, size: int = -1, /) -> bytes:
        """As the protocol of readable streams says.

        Raises:
            TargetError: it could not be read to its end, or another object took its place.
        """
        end = self.size if size < 0 else min(self.size, self._position + size)
        pieces = []
        while self._position < end:
            piece = self._piece(min(_CHUNK, end - self._position))
            pieces.append(piece)
            self._position += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _piece(self, size: int) -> bytes:
        from botocore.exceptions import BotoCoreError, ClientError
        from urllib3.exceptions import HTTPError

        while True:
            try:
                if self._stream is None:
                    self._resume()
                piece: bytes = self._stream.read(size)
                if piece:
                    return piece
                trouble: Exception = EOFError("the connection ended before the object did")
            except ClientError as error:
                raise self._speaker.explain(error, f"reading {self._key}", self._key) from error
            except (BotoCoreError, HTTPError, OSError) as error:
                trouble = error
            self.close()
            self._resumptions += 1
            if self._resumptions > _MOST_RESUMPTIONS:
                raise self._speaker.explain(
                    trouble, f"reading {self._key} at byte {self._position} of {self.size}", self._key
                ) from trouble
            self._pause(min(_LONGEST_PAUSE, 0.1 * 2 ** (self._resumptions - 1)))

    def _resume(self) -> None:
        condition = {"IfMatch": self._etag} if self._etag else {}
        try:
            answer = interruptible(lambda: self._get(Range=f"bytes={self._position}-", **condition))
        except Exception as error:
            if code_of(error) in ("PreconditionFailed", "412", "InvalidRange", "416"):
                raise self._changed() from error
            raise
        if answer.get("ETag", "") != self._etag:
            answer["Body"].close()
            raise self._changed()
        if answer.get("ContentRange") != f"bytes {self._position}-{self.size - 1}/{self.size}":
            answer["Body"].close()
            raise TargetError(
                f"{self._speaker.title}: asked for {self._key} from byte {self._position}, the store gave "
                f"{answer.get('ContentRange') or 'the whole object'}.",
                "This store can't continue a broken download: run it again over a better connection.",
            )
        self._stream = answer["Body"]

    def _changed(self) -> TargetError:
        return TargetError(
            f"{self._speaker.title}: {self._key} was replaced while it was being read.",
            "Nothing in Lifeboat does that: find out who writes to this target.",
        )

    def close(self) -> None:
        """Drop the connection; the next read takes a new one."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def too_large(target: str, key: str, limit: int) -> TargetError:
    """The error for an object that was to be small."""
    return TargetError(f"Target {target}: {key} is larger than {limit} bytes, which can't be right.")
