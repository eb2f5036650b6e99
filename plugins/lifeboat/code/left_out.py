"""What belongs to a repository and is not in it: large files that Git LFS keeps elsewhere, and submodules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from lifeboat.code.git_program import Git
from lifeboat.code.refs import RepositoryRefs

_SUBMODULE = b"160000"
_MOST_SHOWN = 5


def left_out(git: Git, at: Path, refs: RepositoryRefs, url: str, tick: Callable[[], None]) -> tuple[str, ...]:
    """What is not in a repository's bundle, in sentences that say where it lives; looked for at HEAD."""
    if not refs.head_id:
        return ()
    attributes: list[bytes] = []
    submodules: list[bytes] = []

    def look(entry: bytes) -> None:
        described, _, path = entry.partition(b"\t")
        if described.startswith(_SUBMODULE):
            submodules.append(path)
        elif path == b".gitattributes" or path.endswith(b"/.gitattributes"):
            attributes.append(described.split()[2])

    rest = b""

    def take(data: bytes) -> None:
        # A tree may have a million files: none of them is kept.
        nonlocal rest
        *entries, rest = (rest + data).split(b"\0")
        for entry in entries:
            look(entry)

    git.run(["ls-tree", "-r", "-z", "--full-tree", refs.head_id], at=at, take=take, tick=tick, good=(0, 128))
    said: list[str] = []
    if any(b"filter=lfs" in git.output(["cat-file", "blob", blob.decode()], at=at, tick=tick) for blob in attributes):
        place = _setting(git, at, f"{refs.head_id}:.lfsconfig", r"^lfs\.url$", tick)
        where = next((bare_url(value) for _, value in place), f"{url.rstrip('/')}/info/lfs")
        said.append(f"Files that Git LFS keeps are not in it, only what points to them; they live at {where}.")
    if submodules:
        said.append(_submodules(git, at, refs, submodules, tick))
    return tuple(said)


def _submodules(git: Git, at: Path, refs: RepositoryRefs, paths: list[bytes], tick: Callable[[], None]) -> str:
    places = dict(_setting(git, at, f"{refs.head_id}:.gitmodules", r"^submodule\..*\.(path|url)$", tick))
    urls = {places[key]: places.get(f"{key.removesuffix('.path')}.url", "") for key in places if key.endswith(".path")}
    names = [path.decode("utf-8", "backslashreplace") for path in paths[:_MOST_SHOWN]]
    listed = ", ".join(f"{name} ({bare_url(urls.get(name, '')) or 'nobody says where'})" for name in names)
    more = f" and {len(paths) - _MOST_SHOWN} more" if len(paths) > _MOST_SHOWN else ""
    return f"Submodules are not in it, only which commit they are at; they live at: {listed}{more}."


def _setting(git: Git, at: Path, blob: str, pattern: str, tick: Callable[[], None]) -> Iterator[tuple[str, str]]:
    """Settings of a file in the repository; none where it is not there."""
    found = git.output(["config", "--blob", blob, "-z", "--get-regexp", pattern], at=at, tick=tick, good=(0, 1, 128))
    for item in found.decode("utf-8", "backslashreplace").split("\0"):
        key, _, value = item.partition("\n")
        if key:
            yield key, value


def bare_url(url: str) -> str:
    """A URL without what may be a password in it."""
    parts = urlsplit(url)
    if not parts.scheme or "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
