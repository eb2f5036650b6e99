"""Day bundles: one object that repeats the small objects of one ended day, so that a long history is read fast.

A bundle is a cache, and nothing is taken on trust from it. Which objects exist the target's own listing says; the bytes
of each may come from a bundle, and then pass every check that they would pass if the object itself had been read. A
bundle that is missing, damaged, foreign or old costs time and nothing else: what it does not give is read singly.

It is JSON Lines compressed by zstd (``zstd -dc … | jq``): a line that says what it is, a line ``{"key": …, "text": …}``
for each object with its exact bytes, and a line with their number.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from io import BytesIO
from threading import Lock
from typing import Any

import zstandard

from lifeboat.errors import TargetError
from lifeboat.targets.target import ObjectInfo, Target

_log = logging.getLogger(__name__)

FORMAT_VERSION = 1
LARGEST_STORED_BYTES = 16 * 1024 * 1024
LARGEST_PLAIN_BYTES = 64 * 1024 * 1024
"""A WAL manifest and its signature are about 4 kB, an event 700 bytes: a day of minutes is some 15 MB."""
MOST_OF_A_DAY = 4
"""Two runs that saw different things write one bundle each; whoever can write here could write a million."""
LARGEST_LINE_BYTES = 4 * 1024 * 1024
"""JSON of a few bytes can become objects of many: no more than this is parsed at once."""
_ROOM_FOR_THE_END = 64 * 1024
_LARGEST_WINDOW_BYTES = 8 * 1024 * 1024
_PIECE_BYTES = 256 * 1024
_DAY_DIGITS, _MARK_DIGITS = 8, 16
_NAME = re.compile(rf"(?P<day>[0-9]{{{_DAY_DIGITS}}})-(?P<mark>[0-9a-f]{{{_MARK_DIGITS}}})\.jsonl\.zst")


def bundle_name(day: str, stored: bytes) -> str:
    """A bundle's name: its day (``20261122``), and the beginning of the SHA-256 of its bytes. Writers of the same
    bytes write the same object; those of different ones don't touch each other's."""
    return f"{day}-{hashlib.sha256(stored).hexdigest()[:_MARK_DIGITS]}.jsonl.zst"


class DayBundle(Mapping[str, bytes]):
    """What the bundles of one day repeat: bytes by key. No more than a day's is held at a time.

    Args:
        place: of what and where, for the log.
        texts: the bytes.
    """

    def __init__(self, place: str, texts: Mapping[str, bytes]) -> None:
        self._place = place
        self._texts = texts
        self._lock = Lock()
        self._refused = False

    def __getitem__(self, key: str) -> bytes:
        return self._texts[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    def repeats(self, listed: ObjectInfo) -> bool:
        """Whether it repeats an object as the target lists it: in that size."""
        text = self._texts.get(listed.key)
        if text is not None and len(text) != listed.size:
            self.refuse(f"{listed.key} is listed with {listed.size} bytes, and stands in it with {len(text)}.")
        return text is not None and len(text) == listed.size

    def refuse(self, why: str) -> None:
        """Note, once, that something in it can't be used: the object itself is read."""
        with self._lock:
            told, self._refused = self._refused, True
        if not told:
            _note(self._place, why)


class Bundles:
    """The day bundles of one folder on one target, as far as there are any; never raises a ``TargetError``.

    Args:
        target: where.
        folder: which, as :func:`~lifeboat.repository.layout.bundles_folder` says.
    """

    def __init__(self, target: Target, folder: str) -> None:
        self.folder = folder
        self._target = target

    @cached_property
    def days(self) -> Mapping[str, Sequence[str]]:
        """The keys of the bundles, by day (``20261122``)."""
        found: dict[str, list[str]] = {}
        try:
            for info in self._target.list(self.folder):
                named = _NAME.fullmatch(info.key.removeprefix(self.folder))
                if named is not None:
                    found.setdefault(named["day"], []).append(info.key)
        except TargetError as error:
            _note(f"The day bundles in {self.folder} on {self._target.name}", error.what)
            return {}
        return found

    def of(self, day: str) -> DayBundle:
        """What the day's bundles give; empty where there is none, or none that is any good."""
        texts: dict[str, bytes] = {}
        keys = sorted(self.days.get(day, ()))
        for key in keys[:MOST_OF_A_DAY]:
            room = LARGEST_PLAIN_BYTES - sum(map(len, texts.values()))
            place = f"The day bundle {key} on {self._target.name}"
            try:
                stored = self._target.read(key, limit=LARGEST_STORED_BYTES)
                for text_key, text in _entries(key.removeprefix(self.folder), stored, room):
                    texts.setdefault(text_key, text)
            except TargetError as error:
                _note(place, error.what)
            except (_Unusable, zstandard.ZstdError) as error:
                _note(place, f"{error}.")
        return DayBundle(f"The bundle of {day} in {self.folder} on {self._target.name}", texts)

    def existing(self, bundle: DayBundle, keys: Sequence[str]) -> set[str]:
        """Those of ``keys`` that ``bundle`` repeats and the target has, in the same size."""
        together: dict[str, list[str]] = {}
        for key in keys:
            if key in bundle:
                # Recovery points lie side by side in the folder of a timeline.
                together.setdefault(key.rsplit("/", 2)[0], []).append(key)
        there: dict[str, ObjectInfo] = {}
        try:
            for some in together.values():
                there |= self._target.stat_each(some)
        except TargetError as error:
            bundle.refuse(error.what)
        return {key for key, info in there.items() if bundle.repeats(info)}


class _Unusable(Exception):
    pass


def _note(place: str, why: str) -> None:
    _log.warning(
        "%s is of no use, and what it repeats is read singly, which takes longer; nothing is lost by removing it: %s",
        place,
        why,
    )


def _entries(name: str, stored: bytes, room: int) -> Iterator[tuple[str, bytes]]:
    """Keys and bytes, as far as they can be read."""
    if bundle_name(name[:_DAY_DIGITS], stored) != name:
        raise _Unusable("its bytes are not those that its name was made from")
    lines = _lines(stored, room)
    header = _parsed(next(lines, b""))
    if header.get("format_version") != FORMAT_VERSION:
        raise _Unusable("it is not of a form that this Lifeboat knows")
    number = 0
    for line in lines:
        entry = _parsed(line)
        if "objects" in entry:
            if entry["objects"] != number:
                raise _Unusable(f"it holds {number} objects, and says {str(entry['objects'])[:20]}")
            return
        key, text = entry.get("key"), entry.get("text")
        if not isinstance(key, str) or not isinstance(text, str):
            raise _Unusable("a line in it is not one of ours")
        number += 1
        yield key, text.encode("utf-8", "surrogatepass")
    raise _Unusable(f"it ends after {number} objects, in their middle")


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise _Unusable("a line in it is no JSON") from None
    if not isinstance(found, dict):
        raise _Unusable("a line in it is not one of ours")
    return found


def _lines(stored: bytes, room: int) -> Iterator[bytes]:
    """Its lines; no more than ``room`` bytes are ever unpacked, and a piece of them at a time."""
    opener = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW_BYTES)
    rest = bytearray()
    with opener.stream_reader(BytesIO(stored)) as reader:
        while piece := reader.read(_PIECE_BYTES):
            room -= len(piece)
            if room < 0:
                raise _Unusable(f"it unpacks to more than {LARGEST_PLAIN_BYTES} bytes, which can't be right")
            first, *others = piece.split(b"\n")
            rest += first
            for other in others:
                yield bytes(rest)
                rest[:] = other
            if len(rest) > LARGEST_LINE_BYTES:
                raise _Unusable("a line in it is too long to be one of ours")


class BundleWriter:
    """Packs a day's objects into a bundle.

    Args:
        folder: which folder of bundles, for whoever opens it by hand.
        day: ``20261122``.
    """

    def __init__(self, folder: str, day: str) -> None:
        self.objects = 0
        self._day = day
        self._packer = zstandard.ZstdCompressor(level=9, write_checksum=True).compressobj()
        self._pieces: list[bytes] = []
        self._stored = self._plain = 0
        self._write(_line({"format_version": FORMAT_VERSION, "bundle": folder, "day": day}))

    def add(self, texts: Mapping[str, bytes]) -> bool:
        """Add objects that belong together, by key, all of them UTF-8; false when there is no room for them any more.

        One that is too large for a line is left out: it is read singly.
        """
        lines = [_line({"key": key, "text": text.decode()}) for key, text in texts.items()]
        if max(map(len, lines), default=0) > LARGEST_LINE_BYTES:
            return True
        size = sum(map(len, lines)) + _ROOM_FOR_THE_END
        if self._plain + size > LARGEST_PLAIN_BYTES or self._stored + size > LARGEST_STORED_BYTES:
            return False
        for line in lines:
            self._write(line)
        self.objects += len(lines)
        return True

    def finish(self) -> tuple[str, bytes]:
        """Its name and its bytes."""
        self._write(_line({"objects": self.objects}))
        self._pieces.append(self._packer.flush())
        stored = b"".join(self._pieces)
        return bundle_name(self._day, stored), stored

    def _write(self, line: bytes) -> None:
        self._plain += len(line)
        piece = self._packer.compress(line)
        self._stored += len(piece)
        self._pieces.append(piece)


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
