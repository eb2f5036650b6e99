"""A target that goes away while a recovery point of any tier is stored or copied: nothing is committed there, and the
next try brings it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from lifeboat.backup.steps import Point, copy_to
from lifeboat.connections import outside_from
from lifeboat.errors import TargetUnavailable
from lifeboat.policy.loading import load_policy
from lifeboat.postgres.connecting import no_tick
from lifeboat.postgres.kind import PostgresKind
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.system import SystemRepository
from lifeboat.repository.verification import verify_stored
from sandbox.s3_servers import RcloneS3
from sandbox.sftp_servers import OpenSsh, RcloneSftp
from tests.faults.ways import (
    EXPORT,
    FULL,
    INCREMENTAL,
    LOGICAL,
    LONG_FULL,
    SOURCE,
    WAL,
    WAYS,
    Once,
    Protected,
    Way,
    retry_of,
)

# What is carried are bytes, whatever the tier: each tier and each kind of target is there, the chain on two of them.
LOST = (
    ("openssh", INCREMENTAL),
    ("openssh", EXPORT),
    ("rclone-sftp", LOGICAL),
    ("rclone-sftp", WAL),
    ("s3", INCREMENTAL),
    ("s3", WAL),
    ("local", LONG_FULL),
)


@dataclass(frozen=True)
class Offsite:
    """A target that can be taken away and brought back."""

    url: str
    connection: str
    take_away: Callable[[], object]
    bring_back: Callable[[], object]


@pytest.fixture(scope="module")
def points(protected: Protected) -> dict[Way, Copy]:
    """A recovery point of each tier; the incremental's parent is the full."""
    protected.change()
    made = {way: protected.run(way) for way in WAYS}
    assert made[INCREMENTAL].manifest.parent is not None
    return made


@pytest.fixture(scope="module")
def offsites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Offsite]]:
    """One of each kind."""
    root = tmp_path_factory.mktemp("offsite")
    with ExitStack() as stack:
        openssh = stack.enter_context(OpenSsh(root / "openssh", root / "sshd.log"))
        openssh.make_directory("backups")
        rclone = stack.enter_context(RcloneSftp(root / "served", root / "rclone", root / "rclone.log"))
        rclone.make_directory("backups")
        s3 = stack.enter_context(RcloneS3(root / "s3", root / "s3.log", "key", "secret-key", buckets=("backups",)))
        local, aside = root / "local", root / "aside"
        local.mkdir()
        yield {
            "openssh": Offsite(openssh.url("backups"), openssh.airflow_connection_uri(), openssh.kill, openssh.start),
            "rclone-sftp": Offsite(rclone.url("backups"), rclone.airflow_connection_uri(), rclone.kill, rclone.start),
            "s3": Offsite("s3://backups/lifeboat", s3.airflow_connection_uri(), s3.kill, s3.start),
            "local": Offsite(local.as_uri(), "", lambda: local.rename(aside), lambda: aside.rename(local)),
        }


def opened(protected: Protected, offsite: Offsite, directory: Path) -> SystemRepository:
    """The system with that off-site target."""
    text = protected.policy.read_text(encoding="utf-8")
    old = f"file://{protected.roots['offsite']}\n    queue: here"
    assert old in text
    more = "connection: demo_offsite" if offsite.connection else "queue: here"
    policy = directory / protected.policy.name
    policy.write_text(text.replace(old, f"{offsite.url}\n    {more}"), encoding="utf-8")
    environment = {"AIRFLOW_CONN_DEMO_OFFSITE": offsite.connection} if offsite.connection else {}
    repository = SystemRepository(load_policy(policy), outside_from(environment))
    target = repository.target("offsite")
    if hasattr(target, "_patience"):
        target._patience = 0.2  # a server that is away is waited for two minutes else
    return repository


@pytest.mark.parametrize(("place", "way"), LOST, ids=str)
def test_a_target_lost_while_it_is_copied_to_commits_nothing_there_and_the_next_try_brings_it(
    protected: Protected, points: dict[Way, Copy], offsites: dict[str, Offsite], place: str, way: Way, tmp_path: Path
) -> None:
    offsite = offsites[place]
    repository = opened(protected, offsite, tmp_path)
    journal = protected.journal(repository)
    copy, lost = points[way], Once(offsite.take_away)

    def carry(passed: Callable[[int], None] = lambda _: None) -> list[Copy]:
        named = [Point.of(copy)]
        return copy_to(repository, SOURCE, way.tier, "offsite", named, journal, passed=passed, tick=no_tick)

    try:
        with pytest.raises(TargetUnavailable) as failed:
            carry(lambda size: lost(size, 0))
    finally:
        offsite.bring_back()
    assert lost.done
    assert failed.value.remedy
    there = repository.catalogue("offsite")
    folder = copy.manifest.folder
    assert there.target.stat(folder.manifest) is None
    assert [one.manifest for one in carry() if one.manifest.recovery_point == folder.recovery_point] == [copy.manifest]
    carried = there.read(folder)
    verify_stored(there.target, carried)
    PostgresKind().verify_deep(repository, "offsite", carried, passed=lambda _: None, tick=no_tick)
    if way is INCREMENTAL:
        assert copy.manifest.parent in {one.manifest.recovery_point for one in there.recovery_points(SOURCE).copies}


@pytest.mark.parametrize("way", [way for way in WAYS if way is not FULL], ids=str)
def test_a_primary_target_lost_in_mid_run_fails_the_run_and_its_retry_brings_it(protected: Protected, way: Way) -> None:
    protected.change()
    before, work = protected.copies(way), protected.work(way)
    root, aside = protected.roots["primary"], protected.roots["primary"].with_name("unmounted")
    lost = Once(lambda: root.rename(aside))
    try:
        with pytest.raises(TargetUnavailable) as failed:
            protected.run(way, work, progress=lost)
    finally:
        aside.rename(root)
    assert failed.value.remedy
    assert protected.copies(way) == before
    copy = protected.run(way, retry_of(work))
    assert protected.copies(way) == [*before, copy]
    protected.proven(way, copy)
