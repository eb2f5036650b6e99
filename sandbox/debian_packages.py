"""Where server programs that tests need come from when the machine has none: Debian packages, unpacked, not installed.

The same way for everybody, root or not: ``apt-get`` fetches the packages with lists and a cache of its own below
``.sandbox``, checks them against the distribution's signatures, and ``dpkg-deb`` unpacks them there. Nothing of the
machine changes and no package's script runs, so that no package starts a service of its own. What a program needs
besides and the machine lacks lies in the same tree. Which version comes is the distribution's business.

Sources: https://manpages.debian.org/apt-get, https://manpages.debian.org/dpkg-deb
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.accounts import CLONE, SandboxError, can_reach, open_to_all, outer_room, publish, server_account

_ROOM = CLONE / ".sandbox" / "debian"
_SYSTEM_PLACES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/usr/lib/openssh")


@dataclass(frozen=True)
class _Server:
    """Programs by their places in the packages, and all packages that hold a part of them."""

    programs: tuple[str, ...]
    packages: tuple[str, ...]


# /usr/bin/redis-server is a link into redis-tools: a package that holds a part is fetched even where it is installed.
_SERVERS = {
    "openssh-server": _Server(
        ("usr/sbin/sshd", "usr/lib/openssh/sftp-server"), ("openssh-server", "openssh-sftp-server")
    ),
    "redis-server": _Server(("usr/bin/redis-server",), ("redis-server", "redis-tools")),
}


@dataclass(frozen=True)
class Program:
    """A server program, where the servers' account can run it.

    Attributes:
        path: the program.
        environment: what its environment needs besides ours.
        root: the tree that it was unpacked into; ``/`` for one that the machine has.
    """

    path: Path
    environment: Mapping[str, str]
    root: Path


def program(name: str) -> Program:
    """A server program by its name, ``sshd`` say: the machine's own, or else the one from the unpacked package.

    Raises:
        SandboxError: it is not here; the text names the package.
    """
    package, place = _package_of(name)
    own = _on_this_machine(name)
    if own is not None:
        return Program(own, {}, Path("/"))
    tree = _ROOM / package
    if not (tree / place).exists():
        raise SandboxError(
            f"There is no {name} here.",
            f"Run `make install-tests`, which fetches the Debian package {package}, or install {package} from your "
            "distribution.",
        )
    if server_account() is not None and not can_reach(tree):
        tree = outer_copy(tree)
    return Program(tree / place, _library_path(tree), tree)


def available(package: str) -> bool:
    """Whether all programs of a package are here, from wherever."""
    return all(
        _on_this_machine(Path(place).name) is not None or (_ROOM / package / place).exists()
        for place in _SERVERS[package].programs
    )


def fetch(package: str) -> Path:
    """Fetch a package with what it needs into ``.sandbox/debian/<package>``; at once done if it is there.

    Raises:
        SandboxError: it can't be had this way; the text names the package.
    """
    if package not in _SERVERS:
        raise SandboxError(f"No server program of a package {package} is known: {', '.join(_SERVERS)}.")
    server, tree = _SERVERS[package], _ROOM / package
    if all((tree / place).exists() for place in server.programs):
        return tree
    for needed in ("apt-get", "dpkg-deb"):
        if shutil.which(needed) is None:
            raise SandboxError(
                f"Tests need {' and '.join(Path(place).name for place in server.programs)}, and there is no {needed} "
                f"here that would fetch the Debian package {package}.",
                f"Install what your distribution calls {package}.",
            )
    _ROOM.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_ROOM) as draft:
        for archive in _download(server.packages, Path(draft) / "apt"):
            run_tool("dpkg-deb", "--extract", archive, Path(draft) / "tree", package=package)
        missing = [place for place in server.programs if not (Path(draft) / "tree" / place).exists()]
        if missing:
            raise SandboxError(
                f"The Debian package {package} does not hold {', '.join(missing)}.",
                f"Install {package} of your distribution.",
            )
        open_to_all(Path(draft) / "tree")
        publish(Path(draft) / "tree", tree)
    return tree


def _package_of(name: str) -> tuple[str, str]:
    for package, server in _SERVERS.items():
        for place in server.programs:
            if Path(place).name == name:
                return package, place
    raise SandboxError(f"No package is known that holds a program {name}.")


def _on_this_machine(name: str) -> Path | None:
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), *_SYSTEM_PLACES)))
    return None if found is None else Path(found)


def _library_path(tree: Path) -> dict[str, str]:
    folders = {file.parent for place in ("usr/lib", "lib") for file in (tree / place).rglob("*.so.*")}
    return {"LD_LIBRARY_PATH": os.pathsep.join(sorted(map(str, folders)))} if folders else {}


def outer_copy(tree: Path) -> Path:
    """Copy an unpacked tree to where the servers' account can read it; at once done if it is there."""
    copied = outer_room() / "builds" / f"{tree.name}-{tree.stat().st_mtime_ns}"
    if not copied.exists():
        copied.parent.mkdir(mode=0o755, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=copied.parent))
        shutil.copytree(tree, draft, symlinks=True, dirs_exist_ok=True)
        open_to_all(draft)
        publish(draft, copied)
    return copied


def _download(packages: tuple[str, ...], room: Path) -> list[Path]:
    """Fetch packages with those of their dependencies that the machine lacks; apt checks signatures and digests."""
    options = apt_options(room)
    run_tool("apt-get", *options, "-qq", "update", package=packages[0])
    run_tool(
        "apt-get", *options, "-qq", "--yes", "--no-install-recommends", "--reinstall", "--download-only",
        "install", *packages, package=packages[0],
    )  # fmt: skip
    return sorted((room / "cache" / "archives").glob("*.deb"))


def apt_options(room: Path) -> list[str]:
    """Options of ``apt-get`` that keep its lists, cache and log in ``room`` and change nothing of the machine."""
    for folder in ("lists/partial", "cache/archives/partial", "log"):
        (room / folder).mkdir(parents=True)
    options = [
        "-o", f"Dir::State::lists={room / 'lists'}",
        "-o", f"Dir::Cache={room / 'cache'}",
        "-o", f"Dir::Log={room / 'log'}",
        "-o", "APT::Update::Post-Invoke::=", "-o", "APT::Update::Post-Invoke-Success::=",
        "-o", "Debug::NoLocking=1",
        "-o", "Acquire::Retries=3",
        "-o", "Acquire::Languages=none",
    ]  # fmt: skip
    if os.geteuid() == 0:  # the account that apt would fetch as can't reach a directory that is only ours
        options += ["-o", "APT::Sandbox::User=root"]
    return options


def run_tool(command: str, *arguments: str | Path, package: str, remedy: str = "", directory: Path = Path("/")) -> str:
    """Run ``apt-get`` or ``dpkg-deb`` in ``directory`` and return what it wrote.

    Raises:
        SandboxError: it failed or did not end in time; the text names the package and ends with ``remedy``.
    """
    otherwise = remedy or f"Install {package} from your distribution."
    try:
        ended = subprocess.run(
            [command, *map(str, arguments)],
            cwd=directory,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    except subprocess.TimeoutExpired as error:
        raise SandboxError(
            f"The Debian package {package} can't be fetched: {command} did not end within 300 s.",
            f"Look at the machine's way to its package mirror. Or: {otherwise}",
        ) from error
    if ended.returncode != 0:
        raise SandboxError(
            f"The Debian package {package} can't be fetched: {command} said: {ended.stderr.strip()[-500:]}",
            f"Look at /etc/apt and at the way to the mirror. Or: {otherwise}",
        )
    return ended.stdout


def main() -> None:
    """``python -m sandbox.debian_packages PACKAGE…``: fetch what this machine lacks."""
    try:
        for package in sys.argv[1:]:
            if package not in _SERVERS or not available(package):
                fetch(package)
    except SandboxError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
