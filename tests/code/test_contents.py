"""Names and shapes that nobody expects come back as they were; what is not in a repository is said."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from lifeboat.code.left_out import bare_url
from lifeboat.code.refs import shown
from tests.code.conftest import CodeSet, Origin, details, git, ids

HOSTILE = (
    "refs/refs/heads/main",  # `git bundle create --all` leaves refs/heads/main out for it
    "refs/heads/refs/heads/main",
    "refs/heads/HEAD",
    "refs/heads/-rf",
    "refs/heads/$(touch${IFS}ran);`touch`",
    "refs/heads/'quoted\"|&<>!",
    "refs/heads/grüße/日本",
    "refs/heads/not-utf-8-\udcff\udcfe",
    "refs/heads/" + "long/" * 40 + "name",
    "refs/lifeboat/20200101T000000Z/heads/main",
    "refs/remotes/origin/main",
    "refs/tags/heads/main",
)


def make_hostile(origin: Origin) -> tuple[str, ...]:
    """All of them, on one commit."""
    main = origin.commit()
    for name in HOSTILE:
        # As bytes: a name of a ref has no encoding.
        git("update-ref", "--stdin", "-z", at=origin.path, feed=b"create " + os.fsencode(name) + f"\0{main}\0".encode())
    return HOSTILE


def test_hostile_names_of_refs_come_back_as_they_were(code: CodeSet) -> None:
    make_hostile(code.one)
    blob = git("hash-object", "-w", "--stdin", at=code.one.path, feed=b"a tag may name a blob")
    code.one.set("refs/tags/blob", blob)
    tree = git("rev-parse", "refs/heads/main^{tree}", at=code.one.path)
    code.one.set("refs/tags/tree", tree)
    code.one.tag("nested", code.one.tag("inner"))
    copy = code.snapshot()
    code.verify(copy, deep=True)
    back = code.restore(copy)["erp"]
    assert ids(back.path) == code.one.ids()
    assert set(HOSTILE) < set(ids(back.path))
    assert git("cat-file", "blob", "refs/tags/blob", at=back.path) == "a tag may name a blob"
    assert "\\xff" in shown("refs/heads/\udcff")


def test_a_head_that_names_a_missing_branch_comes_back_so(code: CodeSet) -> None:
    code.one.commit()
    git("symbolic-ref", "HEAD", "refs/heads/nothing", at=code.one.path)
    copy = code.snapshot()
    back = code.restore(copy)["erp"]
    assert git("symbolic-ref", "HEAD", at=back.path) == "refs/heads/nothing"
    assert ids(back.path) == code.one.ids()


def test_a_head_that_names_a_commit_of_no_branch_comes_back_so(code: CodeSet) -> None:
    code.one.commit()
    alone = code.one.commit("refs/heads/side")
    code.one.delete("refs/heads/side")
    git("update-ref", "--no-deref", "HEAD", alone, at=code.one.path)
    copy = code.snapshot()
    back = code.restore(copy)["erp"]
    assert (back.path / "HEAD").read_text().strip() == alone
    assert git("cat-file", "-t", alone, at=back.path) == "commit"


def test_a_ref_that_git_leaves_out_of_a_clone_raises_an_alarm(code: CodeSet) -> None:
    main = code.one.commit()
    (code.one.path / "packed-refs").write_text(f"{main} refs/heads/a..b\n")
    done = code.take()
    assert "Ignoring funny ref 'refs/heads/a..b'" in done.alarm
    assert any("funny ref" in finding for finding in done.copies[0].manifest.findings)


def test_a_repository_that_is_broken_at_its_origin_is_not_taken_for_read(code: CodeSet) -> None:
    code.one.commit()
    two = Origin.make(code.origins / "two.git")
    two.commit()
    (two.path / "refs" / "heads" / "broken").write_text("1" * 40 + "\n")
    code.protect(code.one.url, two.url)
    done = code.take()
    assert "two could not be read" in done.alarm
    assert not details(done.copies[0]).repositories[1].bundle


def test_a_shallow_repository_is_refused(code: CodeSet) -> None:
    code.one.commit()
    code.one.commit()
    shallow = code.origins / "shallow.git"
    git("clone", "--quiet", "--bare", "--depth=1", code.one.url, shallow)
    code.protect(f"file://{shallow}")
    with pytest.raises(Exception, match="shallow"):
        code.take()


def test_flaws_of_old_objects_are_kept_and_told_and_are_no_damage(code: CodeSet) -> None:
    tree = git("mktree", at=code.one.path)
    flawed = f"tree {tree}\nauthor A a@example.com 1 +0000\ncommitter A <a@example.com> 1 +0000\n\nold\n"
    made = git("hash-object", "-t", "commit", "--literally", "-w", "--stdin", at=code.one.path, feed=flawed.encode())
    code.one.set("refs/heads/main", made)
    copy = code.snapshot()
    code.verify(copy, deep=True)
    back = code.restore(copy)["erp"]
    assert back.flaws
    assert ids(back.path) == {"refs/heads/main": made}


def test_what_lfs_and_submodules_keep_elsewhere_is_said(code: CodeSet) -> None:
    blob = git("hash-object", "-w", "--stdin", at=code.one.path, feed=b"*.psd filter=lfs diff=lfs merge=lfs -text\n")
    modules = b'[submodule "lib"]\n\tpath = vendor/lib\n\turl = https://me:secret@git.example.com/lib.git\n'
    settings = git("hash-object", "-w", "--stdin", at=code.one.path, feed=modules)
    pinned = code.one.commit("refs/heads/other")
    vendor = git("mktree", "--missing", at=code.one.path, feed=f"160000 commit {pinned}\tlib\n".encode())
    inner = git("mktree", at=code.one.path, feed=f"100644 blob {blob}\t.gitattributes\n".encode())
    entries = f"040000 tree {inner}\tdesign\n040000 tree {vendor}\tvendor\n100644 blob {settings}\t.gitmodules\n"
    tree = git("mktree", at=code.one.path, feed=entries.encode())
    code.one.set("refs/heads/main", git("commit-tree", tree, "-m", "x", at=code.one.path))
    copy = code.snapshot()
    (told,) = details(copy).repositories
    lfs, modules_told = told.left_out
    assert "Git LFS" in lfs
    assert f"{code.one.url}/info/lfs" in lfs
    assert "vendor/lib (https://git.example.com/lib.git)" in modules_told
    assert "secret" not in repr(copy.manifest)
    assert sum("erp: " in finding for finding in copy.manifest.findings) == 2
    assert bare_url("git@git.example.com:lib.git") == "git@git.example.com:lib.git"


def signing_key(place: Path) -> tuple[Path, Path]:
    """An SSH key, and a file that allows it to sign."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place], check=True)
    allowed = place.with_suffix(".allowed")
    allowed.write_text("somebody@example.com " + place.with_suffix(".pub").read_text())
    return place, allowed


def signed_tag(origin: Origin, name: str, key: Path) -> None:
    """As a person makes one who has told git which key is theirs."""
    settings = {
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": "gpg.format",
        "GIT_CONFIG_VALUE_0": "ssh",
        "GIT_CONFIG_KEY_1": "user.signingKey",
        "GIT_CONFIG_VALUE_1": str(key),
    }
    git("tag", "-s", "-m", name, name, "refs/heads/main", at=origin.path, environment=settings)


def test_release_tags_are_signed_or_said_not_to_be(code: CodeSet, tmp_path: Path) -> None:
    key, allowed = signing_key(tmp_path / "key")
    stranger, _ = signing_key(tmp_path / "stranger")
    code.protect(signed_tags="true", allowed_signers=str(allowed))
    code.one.commit()
    signed_tag(code.one, "v1.0", key)
    code.one.tag("other")
    copy = code.snapshot()
    assert copy.manifest.findings == ()
    code.one.tag("v1.1")
    code.one.set("refs/tags/v1.2", code.one.ids()["refs/heads/main"])
    signed_tag(code.one, "v1.3", stranger)
    done = code.verified()
    assert "new release tags without a good signature: v1.1, v1.2, v1.3." in done.alarm
    copy = code.snapshot()
    assert "erp: release tags without a good signature: v1.1, v1.2, v1.3." in copy.manifest.findings


def test_without_allowed_signers_a_signature_is_only_looked_for(code: CodeSet, tmp_path: Path) -> None:
    stranger, _ = signing_key(tmp_path / "stranger")
    code.one.commit()
    signed_tag(code.one, "v1.0", stranger)
    code.one.tag("v2.0")
    copy = code.snapshot()
    assert copy.manifest.findings == ("erp: release tags without a good signature: v2.0.",)
