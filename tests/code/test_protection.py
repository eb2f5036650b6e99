"""What a forge says of a branch's protection. The forges' APIs are a stand-in: see :mod:`tests.code.forge_server`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lifeboat.code.protection import Protection, protections
from lifeboat.outside import Connection
from lifeboat.policy.code_source import CodeSource
from tests.code.conftest import CodeSet
from tests.code.forge_server import ForgeApi, forge_api
from tests.code.servers import https_server
from tests.code.test_servers import connected

MAIN = "/repos/erp/app/branches/main"
RULES = "/projects/erp%2Fapp/protected_branches?per_page=100&page="
URL = "https://git.example.com/erp/app.git"


@pytest.fixture
def api() -> Iterator[ForgeApi]:
    with forge_api() as server:
        yield server


def asked(api: ForgeApi, forge: str | None, url: str = URL, **more: Any) -> list[Protection]:
    source = CodeSource.model_validate(
        {"kind": "code", "repositories": [url], "tiers": {"daily": {"retention": "30d"}}, "forge": forge}
        | ({"forge_api": api.url} if forge else {})
        | more
    )
    connection = Connection("forge", "http", password="the-Token")
    return protections(source, url, connection, lambda: None)


def test_github_tells_what_is_protected_and_what_its_protection_allows(api: ForgeApi) -> None:
    api.answers[MAIN] = (200, {"name": "main", "protected": True})
    assert asked(api, "github") == [Protection("main", "protected")]
    assert api.asked[0][1]["Authorization"] == "Bearer the-Token"
    api.answers[f"{MAIN}/protection"] = (200, {"allow_force_pushes": {"enabled": False}})
    assert asked(api, "github") == [Protection("main", "protected")]
    api.answers[f"{MAIN}/protection"] = (200, {"allow_force_pushes": {"enabled": True}})
    assert asked(api, "github") == [Protection("main", "unprotected", "its protection allows force pushes.")]
    api.answers[MAIN] = (200, {"name": "main", "protected": False})
    assert asked(api, "github")[0].state == "unprotected"


def test_gitlab_tells_by_rules_with_wildcards_page_by_page(api: ForgeApi) -> None:
    others = [{"name": f"other-{number}"} for number in range(100)]
    api.answers[f"{RULES}1"] = (200, others)
    api.answers[f"{RULES}2"] = (200, [{"name": "release/*"}, {"name": "ma*", "allow_force_push": False}])
    assert asked(api, "gitlab") == [Protection("main", "protected")]
    assert api.asked[0][1]["Private-Token"] == "the-Token"
    (protection,) = asked(api, "gitlab", protected_branches=["stable"])
    assert protection.state == "unprotected"
    api.answers[f"{RULES}2"] = (200, [{"name": "main", "allow_force_push": True}])
    assert asked(api, "gitlab") == [Protection("main", "unprotected", "its protection allows force pushes.")]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((401, {}), "the token is not taken"),
        ((403, {}), "may not ask"),
        ((404, {}), "not to be seen"),
        ((200, "text"), "says nothing of it"),
        ((500, {}), "answers 500"),
    ],
)
def test_what_a_forge_does_not_tell_is_said(api: ForgeApi, answer: tuple[int, Any], words: str) -> None:
    api.answers[MAIN] = answer
    (protection,) = asked(api, "github")
    assert protection.state == "unknown"
    assert words in protection.what
    assert protection.alarm("erp") == ""
    assert "can't be told" in protection.finding("erp")


def test_a_forge_that_sends_us_elsewhere_is_not_followed_with_the_token(api: ForgeApi) -> None:
    with forge_api() as other:
        api.answers[MAIN] = (302, f"{other.url}{MAIN}")
        assert asked(api, "github")[0].state == "unknown"
        assert other.asked == []


def test_a_token_goes_over_no_open_line(api: ForgeApi) -> None:
    open_line = api.url.replace("127.0.0.1", "0.0.0.0")  # this machine by a name that is not known to be it
    api.answers[MAIN] = (200, {"protected": True})
    asked(api, "github", forge_api=open_line)
    assert api.asked
    assert not any("Authorization" in headers for _, headers in api.asked)


def test_without_a_forge_it_cannot_be_told_and_a_directory_is_not_asked(api: ForgeApi) -> None:
    assert asked(api, None) == [Protection("main", "unknown", "the policy names no `forge` to ask.")]
    assert asked(api, "github", "file:///srv/git/erp.git") == []


def test_an_unprotected_branch_raises_an_alarm_and_is_in_the_manifest(code: CodeSet, api: ForgeApi) -> None:
    code.one.commit()
    with https_server(code.origins, code.origins.parent) as server:
        code.protect(server.url(code.one.path), connection="forge", forge="github", forge_api=api.url)
        connected(code, forge=server.connection())
        api.answers["/repos/erp/branches/main"] = (200, {"protected": True})
        code.snapshot()
        api.answers["/repos/erp/branches/main"] = (200, {"protected": False})
        done = code.take()
        assert "erp: branch main is not protected" in done.alarm
        assert any("main is not protected" in finding for finding in done.copies[0].manifest.findings)
        api.answers.clear()
        done = code.take()
        assert done.alarm == ""
        assert any("can't be told" in finding for finding in done.copies[0].manifest.findings)
