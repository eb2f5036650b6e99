"""PostgreSQL 17 with all its programs, from the packages of Debian 13, on a machine that may be older.

Server builds from npm hold no ``pg_combinebackup``, and that of another major version does not read 17's files. Debian
13 has all of them, and whoever mirrors the machine's own Debian mirrors that one, too: so ``apt-get`` asks the same
mirror for it, with a sources list and an empty package state of its own below ``.sandbox``, and checks what comes
against Debian's signatures. The packages are unpacked, not installed. They want a newer C library than Debian 12 has:
it comes along with all other libraries, and each program is a small script that runs the real one with the tree's own
loader. What such a program starts in its turn, a shell say, sees none of this.

Sources: https://manpages.debian.org/apt-get, https://manpages.debian.org/ld.so
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from sandbox.accounts import CLONE, SandboxError, open_to_all, publish
from sandbox.debian_packages import apt_options, outer_copy, run_tool

MAJOR = 17
_SUITE = "trixie"
_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_TREE = CLONE / ".sandbox" / "debian" / f"postgresql-{MAJOR}"
_PROGRAMS = Path(f"usr/lib/postgresql/{MAJOR}/bin")
# Where the real programs go: a program finds its siblings, libraries and files from the place that it was called as.
_REAL = "real"
_PACKAGES = (
    f"postgresql-{MAJOR}", f"postgresql-client-{MAJOR}", "libpq5",
    "libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libzstd1", "liblz4-1", "liblzma5", "libxxhash0", "libssl3t64",
    "libicu76", "libxml2", "libreadline8t64", "libtinfo6", "libpam0g", "libaudit1", "libcap-ng0", "libcap2",
    "libsystemd0", "libselinux1", "libpcre2-8-0", "libldap2", "libsasl2-2", "libgssapi-krb5-2", "libkrb5-3",
    "libk5crypto3", "libkrb5support0", "libkeyutils1", "libcom-err2",
)  # fmt: skip
_WRAPPER = """#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
exec "$here/{loader}" --argv0 "$here/{name}" --library-path "$here/{libraries}" "$here/{real}/{name}" "$@"
"""
REMEDY = (
    f"Put the programs of PostgreSQL {MAJOR}, server and client, in /usr/lib/postgresql/{MAJOR}/bin: the package "
    f"postgresql-{MAJOR} of Debian or of PostgreSQL's own repository does that; where they lie elsewhere a symbolic "
    f"link /usr/lib/postgresql/{MAJOR} to their directory will do."
)


def programs() -> Path:
    """Where the programs are once they were fetched."""
    return _TREE / _PROGRAMS


def real_program(program: Path) -> Path:
    """The program behind one of the scripts; any other program is itself."""
    real = program.parent / _REAL / program.name
    return real if real.exists() else program


def outer_programs() -> Path:
    """The same where the servers' account can read them."""
    return outer_copy(_TREE) / _PROGRAMS


def fetch() -> Path:
    """Fetch them into ``.sandbox/debian/postgresql-17``; at once done if they are there.

    Raises:
        SandboxError: they can't be had this way; the text says what to do instead.
    """
    if (programs() / "postgres").exists():
        return programs()
    _TREE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_TREE.parent) as room:
        tree = Path(room) / "tree"
        for archive in _download(Path(room)):
            run_tool("dpkg-deb", "--extract", archive, tree, package=archive.name, remedy=REMEDY)
        _wrap(tree)
        open_to_all(tree)
        publish(tree, _TREE)
    return programs()


def _download(room: Path) -> list[Path]:
    """The packages, checked, from the first of the machine's mirrors that has them."""
    for needed in ("apt-get", "dpkg-deb"):
        if shutil.which(needed) is None:
            raise SandboxError(f"There is no {needed} here that would fetch PostgreSQL {MAJOR} from Debian.", REMEDY)
    if not _KEYS.exists():
        raise SandboxError(
            f"PostgreSQL {MAJOR} can't be fetched from Debian: there is no {_KEYS} that its packages would be checked "
            "with.",
            f"Install the package debian-archive-keyring. Or: {REMEDY}",
        )
    failure: SandboxError | None = None
    for mirror in _mirrors():
        try:
            return _download_from(mirror, Path(tempfile.mkdtemp(dir=room)))
        except SandboxError as error:
            failure = failure or error
    if failure is not None:
        raise failure
    raise SandboxError(f"PostgreSQL {MAJOR} can't be fetched: apt on this machine names no Debian mirror.", REMEDY)


def _mirrors() -> list[str]:
    """Where the machine has its own distribution from, as apt knows it: whole releases, not their updates."""
    told = run_tool(
        "apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages",
        package=f"postgresql-{MAJOR}", remedy=REMEDY,
    )  # fmt: skip
    targets = [line.split() for line in told.splitlines()]
    whole = [words for words in targets if len(words) == 3 and words[2] == "main" and "-" not in words[1]]
    # Where the distribution itself comes from goes before what else the machine has a source for.
    whole.sort(key=lambda words: words[1] != _release())
    return list(dict.fromkeys(words[0] for words in whole))


def _release() -> str:
    try:
        return platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    except OSError:
        return ""


def _download_from(mirror: str, room: Path) -> list[Path]:
    sources = room / "sources.list"
    sources.write_text(f"deb [signed-by={_KEYS}] {mirror} {_SUITE} main\n", encoding="utf-8")
    (room / "status").touch()
    options = [
        *apt_options(room),
        "-o", f"Dir::Etc::SourceList={sources}",
        "-o", "Dir::Etc::SourceParts=/dev/null",
        "-o", "Dir::Etc::Preferences=/dev/null",
        "-o", "Dir::Etc::PreferencesParts=/dev/null",
        "-o", "APT::Default-Release=",
        # As if nothing were installed: each name means the package of this suite.
        "-o", f"Dir::State::status={room / 'status'}",
    ]  # fmt: skip
    package = f"postgresql-{MAJOR} of {_SUITE}"
    run_tool("apt-get", *options, "-qq", "update", package=package, remedy=REMEDY)
    packages = room / "packages"
    packages.mkdir()
    run_tool("apt-get", *options, "-qq", "download", *_PACKAGES, package=package, remedy=REMEDY, directory=packages)
    return sorted(packages.glob("*.deb"))


def _wrap(tree: Path) -> None:
    """Put a script in each program's place, once it is sure that the tree holds every library of the program."""
    place = tree / _PROGRAMS
    loaders = sorted((tree / "usr/lib").glob("*/ld-linux*.so.*"))
    if len(loaders) != 1 or not (place / "postgres").exists():
        raise SandboxError(
            f"The packages of {_SUITE} do not hold the loader and the server that were expected.", REMEDY
        )
    # Compiled queries would need LLVM, larger than all the rest; without this file the server goes without.
    shutil.rmtree(place.parent / "lib" / "bitcode", ignore_errors=True)
    (place.parent / "lib" / "llvmjit.so").unlink(missing_ok=True)
    for needless in ("doc", "locale", "man"):
        shutil.rmtree(tree / "usr/share" / needless, ignore_errors=True)
    (place / _REAL).mkdir()
    for program in [path for path in place.iterdir() if path.is_file() and not path.is_symlink()]:
        _check_libraries(loaders[0], program)
        program.rename(place / _REAL / program.name)
        program.write_text(
            _WRAPPER.format(
                loader=os.path.relpath(loaders[0], place),
                libraries=os.path.relpath(loaders[0].parent, place),
                real=_REAL,
                name=shlex.quote(program.name),
            ),
            encoding="utf-8",
        )
        program.chmod(0o755)


def _check_libraries(loader: Path, program: Path) -> None:
    """The loader takes what it misses from the machine: a mixture that works on some of them."""
    listed = subprocess.run(
        [loader, "--library-path", loader.parent, "--list", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    found = [line.split()[0] for line in listed.stdout.splitlines() if "=>" in line]
    outside = [
        line.split()[0]
        for line in listed.stdout.splitlines()
        if "=>" in line and not line.split("=>")[1].strip().startswith(f"{loader.parent}/")
    ]
    if listed.returncode != 0 or outside or not found:
        raise SandboxError(
            f"The packages named in {Path(__file__).name} lack libraries of {program.name}: "
            f"{', '.join(outside) or listed.stderr.strip()}",
            f"Name the packages that hold them, too. Or: {REMEDY}",
        )
