"""The program ``git`` as a child: it asks nobody, runs no hook, and knows nothing of the machine's configuration.

Sources: https://git-scm.com/docs/git#_environment_variables, https://git-scm.com/docs/git-config
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from lifeboat.code.scratch import Scratch
from lifeboat.errors import SourceUnreadable
from lifeboat.repository.child_programs import converse, end
from lifeboat.targets.target import Readable

OLDEST = (2, 32)
"""The first version that can be kept from all configuration (``GIT_CONFIG_GLOBAL``) and refuses shallow clones."""

_INHERITED = (
    *("PATH", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("http_proxy", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"),
)
_SETTINGS = {
    "core.hooksPath": os.devnull,
    "core.askPass": "",
    "core.fsmonitor": "false",
    "credential.helper": "",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "fetch.recurseSubmodules": "false",
    "push.recurseSubmodules": "no",
    "protocol.version": "2",
    "transfer.bundleURI": "false",
    # A flaw that was committed long ago is a part of the repository: it is backed up, and told by deep verification.
    "transfer.fsckObjects": "false",
    # A server that has stopped to send is given up, as ssh's signs of life do.
    "http.lowSpeedLimit": "1",
    "http.lowSpeedTime": "120",
}

_REMEDIES = (
    ("terminal prompts disabled", "Name a `connection` whose password or token may read it."),
    ("Authentication failed", "Is the token in the connection still valid, and may it read this repository?"),
    ("Host key verification failed", "Write the server's key as host_key into the connection's extra; if it has "
     "changed, find out why first."),
    ("Permission denied (publickey", "Is the connection's key known to the server, and may it read this repository?"),
    ("not found", "Is the URL right, and may the connection see the repository?"),
    ("does not appear to be a git repository", "Is the URL right? A mirror's repository has to be made first: "
     "`git init --bare`."),
    ("dubious ownership", "Let the worker's user own it, or read it over ssh."),
    ("Could not resolve host", "Is the name in the URL right, and does the worker reach the server?"),
    ("unable to connect", "Does the server run, and does the worker reach it?"),
    ("Connection refused", "Does the server run, and does the worker reach it?"),
    ("No space left", "Name a `scratch` directory with more room in the policy."),
    ("source repository is shallow", "Back up the repository that it was cloned from, or run `git fetch --unshallow` "
     "in it."),
)  # fmt: skip


class GitFailed(SourceUnreadable):
    """``git`` ended with an error; ``words`` is what it said."""

    def __init__(self, what: str, remedy: str = "", words: str = "") -> None:
        super().__init__(what, remedy)
        self.words = words


@dataclass(frozen=True)
class Remote:
    """Another repository, and what lets us in.

    Attributes:
        url: where it is, without credentials.
        environment: variables for ``git``; no secret is in them.
        settings: configuration for ``git``; likewise.
        descriptors: what ``git`` inherits: memory that holds a secret.
        secrets: what no text may hold.
    """

    url: str
    environment: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    descriptors: tuple[int, ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def scheme(self) -> str:
        """The protocol that ``git`` may speak with it, and no other."""
        return self.url.split("://", 1)[0] if "://" in self.url else "ssh"


@dataclass(frozen=True)
class Ended:
    """How ``git`` ended: its exit code, and what it said on standard error."""

    code: int
    words: str


@dataclass(frozen=True)
class Git:
    """``git`` with a home of its own.

    Attributes:
        program: its path.
        version: what it says of itself.
        scratch: its home, and where its repositories lie.
    """

    program: str
    version: str
    scratch: Scratch

    def run(
        self,
        arguments: Sequence[str],
        *,
        at: Path | None = None,
        remote: Remote | None = None,
        feed: Readable | None = None,
        take: Callable[[bytes], None] = lambda _: None,
        tick: Callable[[], None],
        good: Collection[int] = (0,),
        settings: Mapping[str, str] | None = None,
        what: str = "",
    ) -> Ended:
        """Run it to its end.

        Args:
            arguments: without the program; no secret is among them.
            at: the repository; ``None``: none.
            remote: whom it speaks with; without one it may speak with nobody.
            feed: its standard input.
            take: given its standard output, piece by piece.
            good: exit codes that are no failure.
            settings: more of its configuration.
            what: what is tried, for messages: ``erp can't be cloned``.

        Raises:
            GitFailed: it ended with another code; the text holds its own words, without secrets.
        """
        place = ["--git-dir", str(at)] if at is not None else []
        descriptors = (self.scratch.lock, *(remote.descriptors if remote is not None else ()))
        try:
            child = subprocess.Popen(
                [self.program, *place, *arguments],
                stdin=subprocess.PIPE if feed is not None else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment(remote, settings or {}),
                cwd=self.scratch.path,
                pass_fds=descriptors,
                bufsize=0,
            )
        except OSError as error:
            raise GitFailed(
                f"{self.program} can't be run: {error.strerror}.", "Install git on this machine."
            ) from error
        try:
            words = converse(child, feed=feed, take=take, tick=tick, rest="refuse")
        finally:
            end(child)
        words = _clean(words, remote.secrets if remote is not None else ())
        if child.returncode not in good:
            raise _failed(arguments[0], child.returncode, words, what)
        return Ended(child.returncode, words)

    def lines(self, arguments: Sequence[str], **how: object) -> list[bytes]:
        """The lines that it prints; see :meth:`run`."""
        return self.output(arguments, **how).splitlines()

    def output(self, arguments: Sequence[str], **how: object) -> bytes:
        """What it prints; see :meth:`run`."""
        printed = BytesIO()
        self.run(arguments, take=printed.write, **how)  # type: ignore[arg-type]  # they are run's own
        return printed.getvalue()

    def _environment(self, remote: Remote | None, more: Mapping[str, str]) -> dict[str, str]:
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment |= {
            "LC_ALL": "C",
            "TZ": "UTC",
            # No ~/.netrc, no ~/.config/git.
            "HOME": str(self.scratch.path),
            "TMPDIR": str(self.scratch.path),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(self.scratch.path / "gitconfig"),
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": remote.scheme if remote is not None else "none",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_OPTIONAL_LOCKS": "0",
        }
        settings = {**_SETTINGS, **more}
        if remote is not None:
            environment |= remote.environment
            settings |= remote.settings
        environment["GIT_CONFIG_COUNT"] = str(len(settings))
        for number, (key, value) in enumerate(settings.items()):
            environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        return environment


def git_in(scratch: Scratch, *, trusting: Sequence[str] = ()) -> Git:
    """``git`` of this machine, at home in a scratch directory.

    Args:
        trusting: directories on this machine that it may read whoever owns them: the policy names them.

    Raises:
        GitFailed: it is missing, or too old.
    """
    program = shutil.which("git")
    if program is None:
        raise GitFailed("git was not found on this machine.", "Install git 2.32 or later on the workers.")
    # Its own server programs, for file://, read this file, and not the settings of the environment.
    lines = ["[core]", f"\thooksPath = {os.devnull}", "[safe]"]
    for path in trusting:
        quoted = path.replace("\\", "\\\\").replace('"', '\\"')
        lines += [f'\tdirectory = "{quoted}{ending}"' for ending in ("", "/.git", ".git")]
    (scratch.path / "gitconfig").write_text("\n".join(lines) + "\n", encoding="utf-8")
    told = Git(program, "", scratch).output(["version"], tick=lambda: None).decode("utf-8", "replace")
    found = re.search(r"(\d+)\.(\d+)[^\s]*", told)
    if found is None or (int(found[1]), int(found[2])) < OLDEST:
        raise GitFailed(
            f"{program} says {told.strip()!r}, and is too old.", "Install git 2.32 or later on the workers."
        )
    return Git(program, found[0], scratch)


def _clean(words: str, secrets: Sequence[str]) -> str:
    """What was said, without progress and without secrets."""
    for secret in secrets:
        if secret:
            words = words.replace(secret, "***")
    # A line that was written over with \r was progress.
    said = (line.rsplit("\r", 1)[-1].strip() for line in words.replace("\r\n", "\n").split("\n"))
    return "\n".join(line for line in said if line and not re.match(r"(remote: )?\w[\w ]*:\s+\d+% ", line))


def _failed(verb: str, code: int, words: str, what: str) -> GitFailed:
    how = f"code {code}" if code > 0 else signal.Signals(-code).name
    said = "; ".join(line for line in words.splitlines() if not line.startswith("Cloning into"))[:2000].rstrip(".")
    remedy = next((remedy for sign, remedy in _REMEDIES if sign in words), "Run it by hand on the worker, and look.")
    begin = f"{what}: " if what else ""
    return GitFailed(f"{begin}git {verb} ended with {how}: {said or 'it said nothing'}.", remedy, words)
