"""Whether a forge protects branches, as far as it tells: GitHub and GitLab, by their APIs.

Sources: https://docs.github.com/en/rest/branches/branches, https://docs.github.com/en/rest/branches/branch-protection,
https://docs.gitlab.com/api/protected_branches/
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from http.client import HTTPException, HTTPMessage
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO, Any, Literal
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from lifeboat.errors import LifeboatError
from lifeboat.outside import Connection
from lifeboat.policy.code_source import CodeSource, host_and_path, scheme_of

State = Literal["protected", "unprotected", "unknown"]

ANSWER_SECONDS = 20.0
_LARGEST_ANSWER = 16 * 1024 * 1024
_PAGE = 100
_MOST_PAGES = 50
_TICK_SECONDS = 0.25


@dataclass(frozen=True)
class Protection:
    """What a forge says of a branch.

    Attributes:
        what: in words, where it is not simply protected.
    """

    branch: str
    state: State
    what: str = ""

    def finding(self, repository: str) -> str:
        """The sentence about it; empty where it is protected."""
        if self.state == "protected":
            return ""
        said = "is not protected" if self.state == "unprotected" else "may be protected or not, which can't be told"
        return f"{repository}: branch {self.branch} {said}: {self.what}"

    def alarm(self, repository: str) -> str:
        """What somebody has to be told; empty where nothing is known to be wrong."""
        if self.state != "unprotected":
            return ""
        return f"{self.finding(repository)} Protect it there, or remove it from `protected_branches`."


class _CannotTell(LifeboatError):
    """The forge does not say; the text holds why."""


@dataclass(frozen=True)
class Forge:
    """A forge's API.

    Attributes:
        name: ``github`` or ``gitlab``.
        api: its URL.
        project: the repository's path there.
        token: who asks; empty: anybody.
        authority: a file with the certificate authority to believe; empty: those of the machine.
    """

    name: str
    api: str
    project: str
    token: str
    authority: str
    tick: Callable[[], None]

    def protection(self, branch: str) -> Protection:
        """What it says of a branch; that it does not say it is an answer, too."""
        try:
            return self._github(branch) if self.name == "github" else self._gitlab(branch)
        except _CannotTell as error:
            return Protection(branch, "unknown", error.what)

    def _github(self, branch: str) -> Protection:
        place = f"/repos/{quote(self.project)}/branches/{quote(branch, safe='')}"
        told = self._get(place)
        if not isinstance(told, dict) or not isinstance(told.get("protected"), bool):
            raise _CannotTell("the answer says nothing of it.")
        if not told["protected"]:
            return Protection(branch, "unprotected", "anybody who may push can rewrite or delete it.")
        try:
            rules = self._get(f"{place}/protection")
        except _CannotTell:
            # It takes an administrator's token to see the rules, and rulesets have another place.
            return Protection(branch, "protected")
        for rule, words in (("allow_force_pushes", "force pushes"), ("allow_deletions", "its deletion")):
            allowed = rules.get(rule) if isinstance(rules, dict) else None
            if isinstance(allowed, dict) and allowed.get("enabled") is True:
                return Protection(branch, "unprotected", f"its protection allows {words}.")
        return Protection(branch, "protected")

    def _gitlab(self, branch: str) -> Protection:
        for page in range(1, _MOST_PAGES + 1):
            place = f"/projects/{quote(self.project, safe='')}/protected_branches?per_page={_PAGE}&page={page}"
            rules = self._get(place)
            if not isinstance(rules, list):
                raise _CannotTell("the answer is no list.")
            for rule in rules:
                if isinstance(rule, dict) and fnmatchcase(branch, str(rule.get("name", ""))):
                    if rule.get("allow_force_push") is True:
                        return Protection(branch, "unprotected", "its protection allows force pushes.")
                    return Protection(branch, "protected")
            if len(rules) < _PAGE:
                return Protection(branch, "unprotected", "anybody who may push can rewrite or delete it.")
        raise _CannotTell("there are too many rules.")

    def _get(self, place: str) -> Any:
        """A document of the API, asked for on a thread: the network is waited for outside."""
        headers = {"Accept": "application/json", "User-Agent": "lifeboat"}
        if self.token:
            headers |= (
                {"PRIVATE-TOKEN": self.token} if self.name == "gitlab" else {"Authorization": f"Bearer {self.token}"}
            )
        request = Request(self.api + place, headers=headers)  # noqa: S310  # the policy insists on http or https
        answers: SimpleQueue[Any] = SimpleQueue()
        Thread(target=_ask, args=(request, self.authority, answers), name="ask the forge", daemon=True).start()
        deadline = time.monotonic() + ANSWER_SECONDS + 5
        while True:
            self.tick()
            try:
                answer = answers.get(timeout=_TICK_SECONDS)
            except Empty:
                if time.monotonic() > deadline:
                    raise _CannotTell("the forge does not answer.") from None
                continue
            if isinstance(answer, _CannotTell):
                raise answer
            return answer


class _NowhereElse(HTTPRedirectHandler):
    """Follows nobody: what the request says of us is meant for one server."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def _ask(request: Request, authority: str, answers: SimpleQueue[Any]) -> None:
    try:
        context = ssl.create_default_context(cafile=authority or None)
        opener = build_opener(_NowhereElse, HTTPSHandler(context=context))
        with opener.open(request, timeout=ANSWER_SECONDS) as answer:
            answers.put(json.loads(answer.read(_LARGEST_ANSWER)))
    except HTTPError as error:
        words = {401: "the token is not taken", 403: "the token may not ask", 404: "it is not there, or not to be seen"}
        answers.put(_CannotTell(f"the forge answers {error.code}: {words.get(error.code, error.reason)}."))
    except (URLError, OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        answers.put(_CannotTell(f"the forge can't be asked: {reason}."))


_KNOWN: Mapping[str, Literal["github", "gitlab"]] = {"github.com": "github", "gitlab.com": "gitlab"}


def forge_of(source: CodeSource, url: str, connection: Connection | None, tick: Callable[[], None]) -> Forge | None:
    """The forge of a repository; ``None`` where the policy names none and its host is not known."""
    host, path = host_and_path(url)
    name = source.forge or _KNOWN.get(host)
    if name is None or not host:
        return None
    default = (
        "https://api.github.com" if host == "github.com" else f"https://{host}/api/v{3 if name == 'github' else 4}"
    )
    api = (source.forge_api or default).rstrip("/")
    extra = connection.extra if connection is not None else {}
    token = extra.get("forge_token")
    if not token and connection is not None and scheme_of(url) == "https":
        token = connection.password
    # A password goes over no open line.
    safe = urlsplit(api).scheme == "https" or (urlsplit(api).hostname or "") in ("127.0.0.1", "localhost", "::1")
    authority = extra.get("ca_file")
    return Forge(
        name,
        api,
        path,
        str(token) if token and safe else "",
        str(authority) if authority else "",
        tick,
    )


def protections(
    source: CodeSource, url: str, connection: Connection | None, tick: Callable[[], None]
) -> list[Protection]:
    """What the forge says of each branch that the policy wants protected."""
    if not source.protected_branches or not host_and_path(url)[0] or scheme_of(url) == "git":
        return []  # A directory, and a bare daemon, protect nothing and have nobody to ask.
    forge = forge_of(source, url, connection, tick)
    if forge is None:
        return [
            Protection(branch, "unknown", "the policy names no `forge` to ask.") for branch in source.protected_branches
        ]
    return [forge.protection(branch) for branch in source.protected_branches]
