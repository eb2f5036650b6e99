"""Git repositories in a policy: what they are called, where their mirrors are, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from lifeboat.policy.code_source import CodeSource, host_and_path, scheme_of


def source(*repositories: Any, **more: Any) -> CodeSource:
    return CodeSource.model_validate(
        {"kind": "code", "repositories": list(repositories), "tiers": {"daily": {"retention": "1d"}}} | more
    )


def test_a_repository_is_called_as_its_url_ends_and_has_its_mirror_under_that_name() -> None:
    made = source(
        "https://git.example.com/erp/erp.git",
        "git@git.example.com:erp/api.git",
        {"url": "file:///srv/git/old/", "name": "older", "mirror": "ssh://git@other.example.com/older.git"},
        mirror="https://git.example.com/mirrors/",
    )
    assert {one.name: made.mirror_of(one) for one in made.repositories} == {
        "erp": "https://git.example.com/mirrors/erp.git",
        "api": "https://git.example.com/mirrors/api.git",
        "older": "ssh://git@other.example.com/older.git",
    }
    assert source("https://h/x").mirror_of(source("https://h/x").repositories[0]) is None


@pytest.mark.parametrize(
    ("repositories", "more", "words"),
    [
        (["https://h/x?token=1"], {}, "no credentials"),
        (["https://token@h/x"], {}, "no credentials"),
        (["ssh://git:pw@h/x"], {}, "no credentials"),
        (["https://h/x"], {"mirror": "https://me:pw@h/y"}, "no credentials"),
        (["ssh://-oProxyCommand=x/y"], {}, "names a host"),
        (["ssh://-oProxyCommand=x@h/y"], {}, "names a host"),
        (["https://h"], {}, "names a host"),
        (["git@-oProxyCommand=x:y"], {}, "begins with"),
        (["file://host/x"], {}, "begins with"),
        (["ext::sh -c x"], {}, "begins with"),
        (["/srv/git/x"], {}, "begins with"),
        (["file:///a b"], {}, "no blanks"),
        (["git://h/x"], {}, "nor proves who answers"),
        (["https://h/x"], {"mirror": "git://h/x"}, "nor proves who answers"),
        (["https://h/a/x.git", "https://h/b/X"], {}, "Two repositories are called"),
        ([{"url": "https://h/x", "name": "../x"}], {}, "pattern"),
        (["https://h/.git"], {}, "gives the repository no name"),
        ([], {}, "at least 1"),
        (["https://h/x"], {"scratch": "here"}, "not absolute"),
        (["https://h/x"], {"forge_refs": ["refs/heads/"]}, "no folder of refs"),
        (["https://h/x"], {"forge_api": "https://token@h/api"}, "pattern"),
        (["https://h/x"], {"tiers": {"incremental": {"retention": "1d"}}}, "has no tier"),
    ],
)
def test_what_cannot_work_or_holds_a_secret_is_refused(
    repositories: list[Any], more: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        source(*repositories, **more)


def test_git_is_spoken_plainly_where_the_policy_says_so() -> None:
    assert scheme_of(source("git://h/x", git_protocol=True).repositories[0].url) == "git"


def test_a_url_says_its_server_and_its_path() -> None:
    assert host_and_path("https://Git.example.com:8443/erp/app.git") == ("git.example.com", "erp/app")
    assert host_and_path("git@git.example.com:erp/app.git") == ("git.example.com", "erp/app")
    assert host_and_path("file:///srv/git/app.git") == ("", "srv/git/app")
    assert scheme_of("git@git.example.com:erp/app.git") == "ssh"
