"""Damage that a restore finds on one target: the error names the targets that hold the same, and the very option; what
it says works."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lifeboat.backup.steps import Point, copy_to, verify
from lifeboat.cli.program import run
from lifeboat.postgres.connecting import no_tick
from lifeboat.repository.catalogue import Copy
from sandbox.postgres import SUPERUSER
from tests.faults.ways import EXPORT, FULL, INCREMENTAL, LOGICAL, SOURCE, WAL, Protected, Way

Restore = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def points(protected: Protected) -> dict[Way, Copy]:
    """A recovery point of each kind on two targets, verified on both; the third has none."""
    protected.change()
    made = {way: protected.verified(protected.run(way)) for way in (FULL, INCREMENTAL, LOGICAL, EXPORT)}
    protected.change()
    made[WAL] = protected.verified(protected.run(WAL))
    repository = protected.repository()
    journal = protected.journal(repository)
    for way, copy in made.items():
        named = [Point.of(copy)]
        copy_to(repository, SOURCE, way.tier, "offsite", named, journal, passed=lambda _: None, tick=no_tick)
    journal = protected.journal(repository, "offsite")
    named = [Point.of(copy) for copy in made.values()]
    verify(repository, SOURCE, "offsite", named, journal, deep=False, passed=lambda _: None, tick=no_tick)
    return made


@pytest.fixture
def restore(
    protected: Protected, points: dict[Way, Copy], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> Restore:
    """Call it with the options of ``lifeboat restore``: its exit code and what it said on standard error."""
    connections = tmp_path / "connections.json"
    connections.touch(mode=0o600)
    homes = {"demo_database": "lifeboat", "home": SUPERUSER}
    connections.write_text(
        json.dumps({name: json.loads(protected.server.airflow_connection(user)) for name, user in homes.items()})
    )
    options = ["--policies", str(protected.policy.parent), "--connections", str(connections)]

    def call(*words: str) -> tuple[int, str]:
        capfd.readouterr()
        code = run([*options, "restore", "demo", SOURCE, *words, "--yes"])
        return code, " ".join(capfd.readouterr().err.split())

    return call


@contextmanager
def damaged(protected: Protected, copy: Copy, stream: str) -> Iterator[None]:
    """One byte of a stored stream is another one on the primary target."""
    volume = copy.manifest.stream(stream).volumes[0]
    path = protected.roots["primary"] / copy.manifest.folder.attempt(copy.manifest.attempt) / volume.file
    good = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(good[:-9] + bytes([good[-9] ^ 1]) + good[-8:])
    try:
        yield
    finally:
        path.write_bytes(good)


def test_an_archive(protected: Protected, points: dict[Way, Copy], restore: Restore) -> None:
    copy = points[LOGICAL]
    words = (
        "--connection",
        "home",
        "--recovery-point",
        copy.manifest.recovery_point,
        "--as",
        "brought_back",
        "--break-glass",
        "a test",
    )
    for stream in (copy.manifest.streams[0].name, "globals.sql"):
        with damaged(protected, copy, stream):
            code, said = restore(*words, "--with-globals")
            assert code == 1
            assert "Say --target offsite: it holds the same, found good there, last at 20" in said, said
            assert f"local lacks {copy.manifest.recovery_point}." in said
    with damaged(protected, copy, copy.manifest.streams[0].name):
        code, said = restore(*words, "--target", "offsite")
    assert code == 0, said
    assert protected.server.run_sql("SELECT count(*) FROM noise", database="brought_back") == [(2000,)]
    protected.server.run_sql("DROP DATABASE brought_back")


@pytest.mark.parametrize("stream", [0, -1], ids=["tables", "records"])
def test_an_export(
    protected: Protected, points: dict[Way, Copy], restore: Restore, tmp_path: Path, stream: int
) -> None:
    copy = points[EXPORT]
    words = ("--recovery-point", copy.manifest.recovery_point, "--into", str(tmp_path / "files"))
    with damaged(protected, copy, copy.manifest.streams[stream].name):
        code, said = restore(*words)
        assert code == 1
        assert "Say --target offsite: it holds the same, found good there" in said, said
        assert not (tmp_path / "files").exists()
        code, said = restore(*words, "--target", "offsite")
    assert code == 0, said
    assert list((tmp_path / "files").rglob("noise.csv"))


def test_a_full(protected: Protected, points: dict[Way, Copy], restore: Restore, server_place: Path) -> None:
    copy = points[FULL]
    with damaged(protected, copy, "base.tar"):
        code, said = restore("--recovery-point", copy.manifest.recovery_point, "--into", str(server_place / "data"))
    assert code == 1
    assert "Say --target offsite: it holds the same, found good there" in said, said
    assert list(server_place.iterdir()) == []


def test_a_chain_and_the_wal_behind_it(
    protected: Protected, points: dict[Way, Copy], restore: Restore, server_place: Path
) -> None:
    link, wal = points[INCREMENTAL], points[WAL]
    words = ("--latest", "--into", str(server_place / "data"))
    with damaged(protected, link, "base.tar"):
        code, said = restore(*words)
    assert code == 1
    assert f"{link.manifest.recovery_point}, a link of the chain, is not what was written" in said
    assert "Say --target offsite: it holds the same, found good there" in said, said
    assert f"--base {link.manifest.parent}" in said
    with damaged(protected, wal, wal.manifest.streams[-1].name):
        code, said = restore(*words)
        assert code == 1
        assert wal.manifest.recovery_point in said
        assert "Say --target offsite: it holds the same, found good there" in said, said
        assert list(server_place.iterdir()) == []
        code, said = restore(*words, "--target", "offsite", "--plan")
    assert code == 0, said


def test_where_nobody_else_has_it_that_is_said(
    protected: Protected, points: dict[Way, Copy], restore: Restore, tmp_path: Path
) -> None:
    copy = points[EXPORT]
    away = protected.roots["offsite"].with_name("away")
    protected.roots["offsite"].rename(away)
    try:
        with damaged(protected, copy, copy.manifest.streams[0].name):
            code, said = restore("--recovery-point", copy.manifest.recovery_point, "--into", str(tmp_path / "files"))
    finally:
        away.rename(protected.roots["offsite"])
    assert code == 1
    assert "No other target is known to hold all of it." in said
    assert "What offsite holds is not known" in said
