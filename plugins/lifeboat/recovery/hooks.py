"""A policy's hooks, called: a command without a shell, or an HTTP request; each within its time, heard in few words.

A command gets what it needs in its environment, and nothing of the worker's own but what the policy lists. Of what it
says the end is kept, without what looks like a secret; of an answer, its status alone.
"""

from __future__ import annotations

import base64
import http.client
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from lifeboat.errors import ConnectionUnknown
from lifeboat.outside import Outside
from lifeboat.policy.hooks import CommandHook, HookPolicy, HttpHook
from lifeboat.postgres.server_programs import dies_with_us
from lifeboat.postgres.unpacking import Owner
from lifeboat.recovery.hook_keeper import CANT_BE_STARTED, NOT_STARTED
from lifeboat.repository.child_programs import converse, end
from lifeboat.targets.background import awaited, in_background

MOST_SAID = 300
"""How many characters of a command's last words are kept."""
_LAST_LINES = 3
_KEPT_BYTES = 16 * 1024
_SHORTEST_SECRET = 4
_KEEPER = Path(__file__).with_name("hook_keeper.py")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LOOKS_SECRET = (
    (re.compile(r"-----BEGIN.*", re.DOTALL), "…"),
    (re.compile(r"(?<=://)[^\s/@]+@"), "…@"),
    (re.compile(r"(?i)\b((?:[\w-]*(?:password|passwd|secret|token|api[_-]?key|authorization))\W{1,3})(?:bearer\s+)?\S+"),
     r"\1…"),
    (re.compile(r"[A-Za-z0-9+/=_-]{32,}"), "…"),
)  # fmt: skip


def call_hook(
    hook: HookPolicy,
    variables: Mapping[str, str],
    outside: Outside,
    tick: Callable[[], None],
    *,
    place: Path = Path("/"),
    owner: Owner | None = None,
) -> tuple[bool, str]:
    """Call a hook; whether it went well, and what it said, in a sentence without secrets.

    Args:
        variables: what a command gets in its environment.
        outside: where connections and the worker's variables come from.
        tick: called often; may raise to stop.
        place: the directory that a command begins in.
        owner: the user that a command runs as; ``None``: ourselves.
    """
    deadline = _Deadline(hook.timeout.fixed, tick)
    try:
        if isinstance(hook, CommandHook):
            return _run(hook, variables, outside, deadline, place, owner)
        return _ask(hook, outside, deadline)
    except _OutOfTimeError:
        return False, f"it did not end within {hook.timeout}"
    except ConnectionUnknown as error:
        return False, error.what


class _OutOfTimeError(Exception):
    """A hook has had its time."""


class _Deadline:
    def __init__(self, allowed: timedelta, tick: Callable[[], None]) -> None:
        # A time limit is of this process, and no moment of the policy's clock.
        self._end = time.monotonic() + allowed.total_seconds()
        self._tick = tick

    def check(self) -> None:
        self._tick()
        if time.monotonic() > self._end:
            raise _OutOfTimeError

    @property
    def left(self) -> float:
        return max(0.1, self._end - time.monotonic())


def _run(
    hook: CommandHook,
    variables: Mapping[str, str],
    outside: Outside,
    deadline: _Deadline,
    place: Path,
    owner: Owner | None,
) -> tuple[bool, str]:
    own = {name: outside.environment[name] for name in hook.environment if name in outside.environment}
    told = bytearray()

    def take(data: bytes) -> None:
        told.extend(data)
        del told[:-_KEPT_BYTES]

    user = ("", "") if owner is None else (str(owner.uid), str(owner.gid))
    try:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_KEEPER), *user, *hook.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=place,
            env={"PATH": _PATH, "LANG": "C.UTF-8", "TZ": "UTC", **own, **variables},
            preexec_fn=dies_with_us(os.getpid(), signal.SIGTERM),
        )
    except OSError as error:
        return False, f"{hook.command[0]}{NOT_STARTED}{error.strerror}"
    try:
        words = converse(child, feed=None, take=take, tick=deadline.check, rest="leave")
    finally:
        end(child)
    if child.returncode == CANT_BE_STARTED and words.startswith(f"{hook.command[0]}{NOT_STARTED}"):
        return False, words
    secrets = [*own.values(), *filter(None, [variables.get("PGPASSWORD")])]
    said = in_few_words(f"{told.decode('utf-8', 'replace')}\n{words}", secrets)
    ended = "ended well" if child.returncode == 0 else f"ended with code {child.returncode}"
    return child.returncode == 0, f"{Path(hook.command[0]).name} {ended}" + (f": {said}" if said else "")


def in_few_words(text: str, secrets: Iterable[str] = ()) -> str:
    """The last lines of what a program said, in one, short, and without what is or looks like a secret."""
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "…")
    for form, instead in _LOOKS_SECRET:
        text = form.sub(instead, text)
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    short = " | ".join(lines[-_LAST_LINES:])
    return short if len(short) <= MOST_SAID else f"…{short[1 - MOST_SAID :]}"


def _ask(hook: HttpHook, outside: Outside, deadline: _Deadline) -> tuple[bool, str]:
    headers = {"User-Agent": "lifeboat"}
    if hook.connection is not None:
        headers["Authorization"] = _credentials(hook.connection, outside)
    if hook.body is not None:
        headers["Content-Type"] = "application/json"
    named = f"{hook.method} {hook.url.partition('?')[0].partition('#')[0]}"
    try:
        status = awaited(in_background(lambda: _status(hook, headers, deadline.left)), deadline.check)
    except (OSError, http.client.HTTPException) as error:
        return False, f"{named} has no answer: {type(error).__name__}"
    return status == hook.status, f"{named} answered {status}" + (
        "" if status == hook.status else f", not {hook.status}"
    )


def _status(hook: HttpHook, headers: Mapping[str, str], seconds: float) -> int:
    parts = urlsplit(hook.url)
    host, port = str(parts.hostname), parts.port
    connection = (
        http.client.HTTPSConnection(host, port, timeout=seconds, context=ssl.create_default_context())
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, port, timeout=seconds)
    )
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(hook.method, path, hook.body.encode() if hook.body is not None else None, dict(headers))
        return connection.getresponse().status
    finally:
        connection.close()


def _credentials(connection: str, outside: Outside) -> str:
    found = outside.connection(connection)
    if found.login:
        pair = f"{found.login}:{found.password or ''}".encode()
        return f"Basic {base64.b64encode(pair).decode('ascii')}"
    return f"Bearer {found.password or ''}"
