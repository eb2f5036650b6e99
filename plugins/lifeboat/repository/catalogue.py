"""The catalogue: what a target holds, found by listing it. There is no other index that could be lost or be wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial

from lifeboat.errors import (
    ManifestInvalid,
    ObjectMissing,
    RecoveryPointMissing,
    TargetError,
    TargetFull,
    TargetUnavailable,
)
from lifeboat.repository.bundles import Bundles, DayBundle
from lifeboat.repository.layout import (
    BUNDLES,
    EVIDENCE,
    JOURNAL,
    MANIFEST,
    POLICIES,
    WAL,
    RecoveryPointFolder,
    RecoveryPointId,
    bundles_folder,
    is_recovery_point,
    source_folder,
    timeline_of,
)
from lifeboat.repository.manifest import Manifest, digest_of, parse_manifest
from lifeboat.repository.marking import read_marks
from lifeboat.repository.marks import Marks
from lifeboat.repository.side_by_side import side_by_side
from lifeboat.repository.signing import LARGEST_SIGNATURE_BYTES, TrustedKeys
from lifeboat.targets.target import Target

_log = logging.getLogger(__name__)

READERS = 8
"""Manifests are small and far away: several are read side by side."""


@dataclass(frozen=True)
class Copy:
    """A committed recovery point on one target, its manifest read and its signature verified.

    Attributes:
        manifest: what it says.
        document: the manifest's bytes, as signed.
        signature: its signature file's bytes.
        target: the target's name.
    """

    manifest: Manifest
    document: bytes
    signature: bytes
    target: str

    @property
    def sha256(self) -> str:
        """Digest of the manifest."""
        return digest_of(self.document)

    @property
    def keys(self) -> list[str]:
        """The keys of all its objects: volumes, signature, and the manifest last."""
        folder, attempt = self.manifest.folder, self.manifest.attempt
        volumes = [folder.attempt(attempt) + one.file for stream in self.manifest.streams for one in stream.volumes]
        return [*volumes, folder.signature(attempt), folder.manifest]


@dataclass(frozen=True)
class Unreadable:
    """A recovery point that is committed but can't be believed, and why."""

    folder: RecoveryPointFolder
    target: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """A source's recovery points on one target, oldest first.

    Attributes:
        copies: those that can be used.
        unreadable: those that can't be believed.
        deleted: those that a mark of retention hides; their bytes are still there.
    """

    copies: tuple[Copy, ...]
    unreadable: tuple[Unreadable, ...]
    deleted: tuple[Copy, ...] = ()

    def of_kind(self, kind: str) -> list[Copy]:
        """Those of one kind, in their order."""
        return [copy for copy in self.copies if copy.manifest.kind == kind]


class Catalogue:
    """Reads what is committed on one target for one system."""

    def __init__(self, target: Target, system: str, trusted: TrustedKeys) -> None:
        self.target = target
        self.system = system
        self._trusted = trusted

    def sources(self) -> list[str]:
        """The sources that have a folder there."""
        reserved = {BUNDLES, EVIDENCE, JOURNAL, POLICIES}
        return [name for name in self.target.list_folders(f"{self.system}/") if name not in reserved]

    def recovery_points(self, source: str, *, deleted: bool = False) -> Listing:
        """All recovery points of a source but its WAL.

        Args:
            deleted: with those that a mark of retention hides, and that can be taken back.
        """
        listing = _listing(self._read_each(self._read_one, self._folders(source, None)))
        return listing if deleted else self._without_deleted(source, listing)

    def wal(self, source: str, timeline: int | None = None, *, deleted: bool = False) -> Listing:
        """The WAL runs of a source, on one timeline or on all; those of ended days through their bundles.

        Args:
            deleted: with those that a mark of retention hides, and that can be taken back.
        """
        bundles = Bundles(self.target, bundles_folder(self.system, source))
        days: dict[str, list[RecoveryPointFolder]] = {}
        singly: list[RecoveryPointFolder] = []
        for folder in self.wal_folders(source, timeline):
            (days.setdefault(folder.day, []) if folder.day in bundles.days else singly).append(folder)
        found = self._read_each(self._read_one, singly)
        for day, folders in days.items():
            # One day after the other: no more than one is held.
            bundle = bundles.of(day)
            there = bundles.existing(bundle, [folder.manifest for folder in folders])
            found += self._read_each(partial(self._read_bundled, bundle, there), folders)
        listing = _listing(found)
        return listing if deleted else self._without_deleted(source, listing)

    def wal_folders(self, source: str, timeline: int | None = None) -> list[RecoveryPointFolder]:
        """The folders of WAL runs, committed or not, of one timeline or of all; oldest first on each."""
        timelines = self.timelines(source) if timeline is None else [timeline]
        return [folder for one in timelines for folder in self._folders(source, one)]

    def marks(self, source: str) -> Marks:
        """What was decided about a source's recovery points, as this target has it. A mark that can't be believed hides
        nothing, and is no reason not to restore: it is told in the log."""
        try:
            return Marks(read_marks(self.target, self.system, source, self._trusted))
        except ManifestInvalid as error:
            _log.warning("All recovery points of %s are shown, also deleted ones. %s", source, error)
            return Marks(())

    def _without_deleted(self, source: str, listing: Listing) -> Listing:
        if not listing.copies:
            return listing
        marks = self.marks(source)
        shown: list[Copy] = []
        hidden: list[Copy] = []
        for copy in listing.copies:
            mark = marks.deleted(copy.manifest.recovery_point, self.target.name, copy.sha256)
            (shown if mark is None else hidden).append(copy)
        return Listing(tuple(shown), listing.unreadable, tuple(hidden))

    def newest_wal(self, source: str, timeline: int) -> Copy | None:
        """The newest committed WAL run of a timeline; ``None`` when there is none.

        Raises:
            ManifestInvalid: it is there and can't be believed: nothing may be built upon it.
        """
        for folder in reversed(self._folders(source, timeline)):
            try:
                return self.read(folder)
            except RecoveryPointMissing:
                continue
        return None

    def timelines(self, source: str) -> list[int]:
        """The timelines that have WAL."""
        names = self.target.list_folders(f"{source_folder(self.system, source)}{WAL}/")
        return sorted(timeline for name in names if (timeline := timeline_of(name)) is not None)

    def committed(self, source: str, kind: str) -> list[RecoveryPointFolder]:
        """The folders of all committed recovery points of a kind, oldest first, by their commit marks alone: no
        manifest is read."""
        if kind == WAL:
            # Thousands of small folders: one listing of everything in them is cheaper than a look into each.
            return [
                folder
                for timeline in self.timelines(source)
                for info in self.target.list(source_folder(self.system, source, timeline))
                if info.key.endswith(f"/{MANIFEST}") and is_recovery_point(name := info.key.split("/")[-2])
                # A run that somebody copied into a deeper folder is not the run.
                if (folder := RecoveryPointFolder(self.system, source, name, timeline)).manifest == info.key
            ]
        return [
            folder
            for folder in self._folders(source, None)
            if RecoveryPointId.parse(folder.recovery_point).kind == kind
            and self.target.stat(folder.manifest) is not None
        ]

    def find(self, source: str, recovery_point: str) -> Copy:
        """One recovery point by its id; WAL runs are found, too.

        Raises:
            RecoveryPointMissing: it is not committed on this target.
            ManifestInvalid: it can't be believed.
        """
        places = [RecoveryPointFolder(self.system, source, recovery_point)]
        if "-wal-" in recovery_point:
            places = [
                RecoveryPointFolder(self.system, source, recovery_point, timeline)
                for timeline in self.timelines(source)
            ]
        for place in places:
            if self.target.stat(place.manifest) is None:
                continue
            copy = self.read(place)
            mark = self.marks(source).deleted(recovery_point, self.target.name, copy.sha256)
            if mark is None:
                return copy
            raise RecoveryPointMissing(
                f"{recovery_point} of {self.system} {source} was deleted on target {self.target.name} at "
                f"{mark.time:%Y-%m-%d %H:%M} UTC: {mark.reason}",
                "Its bytes are still there: `lifeboat retention undo "
                f"{self.system} {source} {recovery_point} --target {self.target.name}` takes the deletion back.",
            )
        raise RecoveryPointMissing(
            f"No recovery point {recovery_point} of {self.system} {source} is committed on target {self.target.name}.",
            f"See `lifeboat list {self.system} {source} --target {self.target.name}`.",
        )

    def read(self, folder: RecoveryPointFolder) -> Copy:
        """The recovery point of a folder.

        Raises:
            RecoveryPointMissing: it is not committed.
            ManifestInvalid: its manifest or signature can't be believed.
        """
        what = f"The manifest {folder.manifest} on {self.target.name}"
        try:
            document = self.target.read(folder.manifest)
        except ObjectMissing as error:
            raise RecoveryPointMissing(
                f"{folder.path} on {self.target.name} is not committed.", "Choose another recovery point."
            ) from error

        def signature_at(key: str) -> bytes:
            try:
                return self.target.read(key, limit=LARGEST_SIGNATURE_BYTES)
            except ObjectMissing as error:
                remedy = "Compare it with the other targets' copies."
                raise ManifestInvalid(f"{what} has no signature.", remedy) from error

        return self._believed(folder, document, signature_at, what)

    def _believed(
        self, folder: RecoveryPointFolder, document: bytes, signature_at: Callable[[str], bytes], what: str
    ) -> Copy:
        manifest = parse_manifest(document, folder, what)
        signature = signature_at(folder.signature(manifest.attempt))
        self._trusted.verify_file(document, signature, signed=manifest.committed, what=what)
        return Copy(manifest, document, signature, self.target.name)

    def _folders(self, source: str, timeline: int | None) -> list[RecoveryPointFolder]:
        names = self.target.list_folders(source_folder(self.system, source, timeline))
        return [RecoveryPointFolder(self.system, source, name, timeline) for name in names if is_recovery_point(name)]

    def _read_each(
        self, read: Callable[[RecoveryPointFolder], Copy | Unreadable | None], folders: Iterable[RecoveryPointFolder]
    ) -> list[Copy | Unreadable]:
        found = side_by_side(read, folders, at_once=READERS, name="read manifests")
        return [one for one in found if one is not None]

    def _read_bundled(
        self, bundle: DayBundle, there: Collection[str], folder: RecoveryPointFolder
    ) -> Copy | Unreadable | None:
        """From the bundle, where it repeats what the target has and can be believed; else the objects themselves."""
        if folder.manifest in there:
            try:
                return self._believed(
                    folder, bundle[folder.manifest], bundle.__getitem__, f"What it holds for {folder.manifest}"
                )
            except ManifestInvalid as error:
                bundle.refuse(error.what)
            except KeyError:
                pass  # It repeats the manifest, not the signature.
        return self._read_one(folder)

    def _read_one(self, folder: RecoveryPointFolder) -> Copy | Unreadable | None:
        try:
            return self.read(folder)
        except RecoveryPointMissing:
            # An attempt under way, or remains of one: what has no manifest does not exist.
            return None
        except (TargetUnavailable, TargetFull):
            raise
        except (ManifestInvalid, TargetError) as error:
            # A link or a mountain of bytes in a manifest's place says nothing of the other recovery points.
            return Unreadable(folder, self.target.name, str(error))


def _listing(found: Iterable[Copy | Unreadable]) -> Listing:
    # What was read together depends on which days have bundles: the order must not.
    found = sorted(found, key=lambda one: (one.manifest.folder if isinstance(one, Copy) else one.folder).path)
    copies = [one for one in found if isinstance(one, Copy)]
    copies.sort(key=lambda copy: (copy.manifest.placed, copy.manifest.sequence))
    return Listing(tuple(copies), tuple(one for one in found if isinstance(one, Unreadable)))
