"""The contestants: each function runs one of them once and says what it took."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring import BenchmarkFailed, Measured, measure
from benchmarks.scene import ROLE, Scene
from sandbox.accounts import CLONE
from sandbox.erp import DATABASE
from sandbox.postgres import SUPERUSER

KEY = "-aes-256-ctr -pbkdf2 -pass env:BENCH_PASSPHRASE"


@dataclass(frozen=True)
class Taken:
    """One run of one contestant.

    Attributes:
        seconds: of the work itself.
        start_up: seconds before it: the interpreter and its imports. A shell has none worth counting.
        processor_seconds: with start-up.
        peak_memory: bytes.
        plain: bytes it read or wrote in plain.
        stored: bytes at rest.
        point: the recovery point that was made.
        phases: seconds by phase.
        points: of a run that follows, for each recovery point: until when it covers, and when it was committed.
    """

    seconds: float
    processor_seconds: float
    peak_memory: int
    start_up: float = 0.0
    plain: int = 0
    stored: int = 0
    point: str = ""
    phases: dict[str, float] | None = None
    points: tuple[tuple[str, str], ...] = ()


def ours(scene: Scene, verb: str, level: int, **job: str | float) -> Taken:
    """One verb of ``benchmarks.ours`` in a process of its own."""
    words = {
        "policy": str(scene.policy(level)),
        "port": scene.server.port,
        "user": ROLE,
        "password": scene.password,
        **job,
    }
    environment = dict(os.environ) | {"PYTHONPATH": f"{CLONE / 'plugins'}:{CLONE}"}
    measured = measure(
        [sys.executable, "-m", "benchmarks.ours", verb],
        environment=environment,
        directory=CLONE,
        standard_input=json.dumps(words),
    )
    figures = json.loads(measured.output)
    return Taken(
        seconds=figures["seconds"],
        processor_seconds=measured.processor_seconds,
        peak_memory=max(measured.peak_memory, figures["peak_memory"]),
        start_up=measured.seconds - figures["seconds"],
        plain=figures.get("plain", 0),
        stored=figures.get("stored", 0),
        point=figures.get("point", ""),
        phases=figures.get("phases"),
        points=tuple((covers, committed) for covers, committed in figures.get("points", ())),
    )


def shell(scene: Scene, script: str, *, user: str = ROLE, directory: Path | None = None) -> Measured:
    """A script of the shell's, ended by the first of its programs that fails."""
    return measure(
        ["/bin/bash", "-euo", "pipefail", "-c", script],
        environment=scene.environment(user),
        directory=directory or scene.directory,
    )


def _taken(measured: Measured, *, stored: int = 0) -> Taken:
    return Taken(measured.seconds, measured.processor_seconds, measured.peak_memory, stored=stored)


def shell_full(scene: Scene, level: int) -> Taken:
    """``pg_basebackup | zstd | openssl`` into a file, which is synced as our target syncs its own."""
    file = scene.directory / "shell.tar.zst.enc"
    file.unlink(missing_ok=True)
    measured = shell(
        scene,
        f"pg_basebackup --format=tar --wal-method=fetch --checkpoint=fast --pgdata=- | zstd -q -T2 -{level} "
        f"| openssl enc {KEY} > {file.name}; sync {file.name}; sync .",
    )
    return _taken(measured, stored=file.stat().st_size)


def shell_restore(scene: Scene) -> Taken:
    """The shell's way back: ``openssl | zstd | tar`` into a directory."""
    into = scene.directory / "shell-restored"
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    measured = shell(
        scene, f"openssl enc -d {KEY} < shell.tar.zst.enc | zstd -q -d | tar --extract --directory={into.name}"
    )
    if not (into / "PG_VERSION").exists():
        raise BenchmarkFailed("the shell's way back made no data directory")
    shutil.rmtree(into)
    return _taken(measured)


def seed_script(scene: Scene) -> Taken:
    """The ERP strategy's own script: ``pg_dump -F c`` to a file, then ``gzip`` of it. Its upload is left out."""
    for old in scene.directory.glob("seed.backup*"):
        old.unlink()
    measured = shell(
        scene,
        f"pg_dump -d {DATABASE} -F c -f seed.backup; gzip seed.backup; sync seed.backup.gz; sync .",
        user=SUPERUSER,
    )
    return _taken(measured, stored=(scene.directory / "seed.backup.gz").stat().st_size)


def shell_logical(scene: Scene) -> Taken:
    """``pg_dump -Fc | gzip`` of the ERP database into a file, as the ERP strategy's script does it, in one pipe."""
    measured = shell(scene, f"pg_dump -d {DATABASE} -F c | gzip > logical.gz; sync logical.gz; sync .", user=SUPERUSER)
    return _taken(measured, stored=(scene.directory / "logical.gz").stat().st_size)


def shell_logical_restore(scene: Scene, database: str) -> Taken:
    """``gunzip | pg_restore`` into a new database; nothing is compared."""
    script = (
        f"createdb -T template0 {database}; gzip -dc logical.gz | pg_restore -e -d {database}; vacuumdb -qZ {database}"
    )
    return _taken(shell(scene, script, user=SUPERUSER))


def shell_wal(scene: Scene, slot: str, end: str, level: int) -> Taken:
    """``pg_receivewal`` into a directory, then ``zstd | openssl`` of each segment, two at a time."""
    into = scene.directory / "shell-wal"
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    measured = shell(
        scene,
        f"cd {into.name}; pg_receivewal --slot={slot} --endpos={end} --no-loop --directory=. ; "
        f"printf '%s\\n' * | xargs -P2 -I@ /bin/bash -euo pipefail -c "
        f"'zstd -q -{level} < @ | openssl enc {KEY} > @.zst.enc; sync @.zst.enc'; sync .",
    )
    segments = [file for file in Path(into).iterdir() if file.suffix != ".enc"]
    stored = sum(file.stat().st_size for file in into.glob("*.zst.enc"))
    plain = sum(file.stat().st_size for file in segments)
    shutil.rmtree(into)
    return Taken(measured.seconds, measured.processor_seconds, measured.peak_memory, plain=plain, stored=stored)
