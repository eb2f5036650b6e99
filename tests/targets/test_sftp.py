"""What only an SFTP server as a target promises."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from lifeboat.errors import Cancelled, ObjectExists, TargetError, TargetFull, TargetUnavailable
from sandbox.sftp_servers import OpenSsh, SftpServer
from tests.targets.bodies import MIB, Body, digest
from tests.targets.conftest import Place, sftp_place
from tests.targets.cutting_proxy import CuttingProxy
from tests.targets.sftp_opened import opened, port_of, root_of


@pytest.fixture
def store(openssh: OpenSsh) -> Place:
    return sftp_place("openssh", openssh)


@pytest.fixture
def own_store(own_openssh: OpenSsh) -> Place:
    return sftp_place("openssh", own_openssh)


# What lies there


def test_files_and_folders_are_for_their_account_alone(store: Place) -> None:
    store.open().put("a/b/c", Body(10))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in root_of(store).rglob("*")}
    assert modes == {"a": 0o700, "b": 0o700, "c": 0o600}


def test_an_upload_in_progress_is_hidden_and_one_that_is_written_to_is_not_abandoned(store: Place) -> None:
    target = store.open()
    seen: list[str] = []

    def look() -> None:
        seen.extend(store.remains())
        assert list(target.list("")) == []
        assert target.stat("a/object") is None
        assert target.abandon_uploads("", older_than=datetime.now(UTC) - timedelta(hours=1)) == []

    target.put("a/object", Body(8 * MIB, at=6 * MIB, then=look))
    assert seen[0] == "a"
    assert seen[1].startswith("a/.lifeboat-upload-")
    assert store.remains() == ["a", "a/object"]


def test_links_and_pipes_are_no_objects(store: Place) -> None:
    target = store.open()
    target.put("a/real", Body(1))
    (root_of(store) / "a" / "link").symlink_to(root_of(store) / "a" / "real")
    (root_of(store) / "elsewhere").symlink_to(root_of(store) / "a")
    assert [found.key for found in target.list("")] == ["a/real"]
    assert target.list_folders("") == ["a"]
    for use in (lambda: target.read("a/link"), lambda: target.put("a/link", Body(1)), lambda: target.stat("a/link")):
        with pytest.raises(TargetError, match="symbolic link"):
            use()


def test_a_folder_that_is_a_link_is_never_followed_but_the_root_may_be_one(store: Place) -> None:
    outside = root_of(store).with_name(f"{root_of(store).name}-outside")
    (root_of(store) / "erp").mkdir(mode=0o777)
    (root_of(store) / "erp").chmod(0o777)
    _made(store, outside)
    (root_of(store) / "erp" / "linked").symlink_to(outside)
    store.plant("erp/real/object", b"1")
    target = store.open()
    for use in (
        lambda: target.put("erp/linked/below/object", Body(1)),
        lambda: target.put_new("erp/linked/object", b"1"),
        lambda: target.read("erp/linked/object"),
        lambda: target.stat("erp/linked/below/object"),
        lambda: target.delete("erp/linked/object"),
        lambda: list(target.list("erp/linked/")),
        lambda: target.list_folders("erp/linked/"),
        lambda: target.abandon_uploads("erp/linked/", older_than=datetime.now(UTC)),
    ):
        with pytest.raises(TargetError, match="the folder erp/linked in .* is a symbolic link") as caught:
            use()
        assert "mount --bind" in caught.value.remedy
    assert list(outside.iterdir()) == []
    assert [found.key for found in target.list("")] == ["erp/real/object"]
    (outside / "root").symlink_to(root_of(store))
    through = replace(store, policy={**store.policy, "url": f"{store.policy['url']}-outside/root"}).open()
    through.put("erp/real/another", Body(1))
    assert [found.key for found in through.list("erp/")] == ["erp/real/another", "erp/real/object"]


def test_a_marked_target_is_insisted_on_and_a_missing_or_another_mark_ends_everything(store: Place) -> None:
    target = store.open(marker="offsite-7")
    with pytest.raises(TargetUnavailable, match="no marker file") as caught:
        target.put("a", Body(1))
    assert "offsite-7" in caught.value.remedy
    assert [finding.severity for finding in target.check()] == ["error"]
    (root_of(store) / ".lifeboat-target").write_text("offsite-8\n")
    with pytest.raises(TargetUnavailable, match="'offsite-8', but the policy expects 'offsite-7'"):
        target.put_new("a", b"1")
    (root_of(store) / ".lifeboat-target").write_text("offsite-7\n")
    target.put_new("a", b"1")
    assert [found.key for found in target.list("")] == ["a"]


# Whom we believe


def test_a_host_key_that_is_not_pinned_is_never_believed_and_the_error_says_what_to_put_where(store: Place) -> None:
    assert isinstance(store.server, SftpServer)
    for extra in (
        {"host_key": None},
        {"host_key": None, "no_host_key_check": True},
        {"host_key": None, "known_hosts": "none"},
    ):
        with pytest.raises(TargetUnavailable, match="does not say which host key") as caught:
            opened(store, extra=extra).put("a", Body(1))
        assert f'"host_key": "{store.server.host_key_text}"' in caught.value.remedy
        assert store.server.host_key.get_fingerprint() in caught.value.what
    assert store.remains() == []


@pytest.mark.parametrize("algorithm", ["ssh-ed25519", "ssh-rsa"])
def test_another_host_key_than_the_pinned_one_is_an_error_and_nothing_is_sent(store: Place, algorithm: str) -> None:
    assert isinstance(store.server, SftpServer)
    other = asyncssh.generate_private_key(algorithm).export_public_key().decode()
    target = opened(store, extra={"host_key": other}, password="never-to-be-sent")
    with pytest.raises(TargetUnavailable, match="another host key than the connection store expects") as caught:
        target.put("a", Body(1))
    assert store.server.host_key_text in caught.value.remedy
    assert [finding.severity for finding in target.check()] == ["error"]


def test_known_hosts_serve_as_text_and_as_a_file(store: Place, tmp_path: Path) -> None:
    assert isinstance(store.server, SftpServer)
    line = f"[127.0.0.1]:{store.server.port} {store.server.host_key_text}\n"
    (tmp_path / "known_hosts").write_text(line)
    for known in (line, str(tmp_path / "known_hosts")):
        target = opened(store, extra={"host_key": None, "known_hosts": known})
        target.put("a", Body(1))
    (tmp_path / "known_hosts").write_text(f"other.example.com {store.server.host_key_text}\n")
    with pytest.raises(TargetUnavailable, match="host key"):
        opened(store, extra={"host_key": None, "known_hosts": str(tmp_path / "known_hosts")}).stat("a")


def test_keys_serve_as_text_as_a_file_and_with_a_passphrase(store: Place, tmp_path: Path) -> None:
    assert isinstance(store.server, SftpServer)
    (tmp_path / "key").write_text(store.server.private_key_text)
    locked = store.server.private_key.export_private_key("pkcs8-pem", passphrase="open-sesame").decode()
    for extra in (
        {"private_key": None, "key_file": str(tmp_path / "key")},
        {"private_key": locked, "private_key_passphrase": "open-sesame"},
        {"private_key": store.server.private_key_text.replace("\n", "\\n")},
    ):
        assert opened(store, extra=extra).stat("a") is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"conn_type": "aws"}, "is of type 'aws'"),
        ({"host": "other.example.com"}, "leads to other.example.com"),
        ({"login": None}, "has no login"),
        ({"extra": {"private_key": None}}, "neither a key nor a password"),
        ({"extra": {"private_key": "SECRET-nonsense"}}, "private_key that is no private key"),
        ({"extra": {"private_key": None, "key_file": "/nowhere/key"}}, "/nowhere/key that can't be read"),
        ({"extra": {"host_key": "ssh-ed25519 nonsense"}}, "host_key that is no public key"),
        ({"extra": {"known_hosts": "/nowhere/known_hosts", "host_key": None}}, "/nowhere/known_hosts that can't be"),
    ],
)  # fmt: skip
def test_a_connection_that_cannot_serve_is_refused_with_a_remedy(
    store: Place, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(TargetUnavailable, match=words) as caught:
        opened(store, **fields)
    assert caught.value.remedy
    assert "SECRET" not in str(caught.value)


def test_a_locked_key_without_its_passphrase_is_refused(store: Place) -> None:
    assert isinstance(store.server, SftpServer)
    locked = store.server.private_key.export_private_key(passphrase="open-sesame", rounds=50).decode()
    for passphrase in (None, "wrong"):
        with pytest.raises(TargetUnavailable, match="private_key that can't be opened") as caught:
            opened(store, extra={"private_key": locked, "private_key_passphrase": passphrase})
        assert "private_key_passphrase" in caught.value.remedy


def test_an_account_that_is_not_let_in_is_an_error_that_holds_no_secret(store: Place) -> None:
    stranger = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
    target = opened(store, extra={"private_key": stranger}, password="secret-word")
    with pytest.raises(TargetUnavailable, match="lets .* not in") as caught:
        target.put("a", Body(1))
    assert "authorized_keys" in caught.value.remedy
    texts = [str(error) + repr(error) for error in (caught.value, caught.value.__cause__)]
    assert not any("secret-word" in text or stranger.splitlines()[1] in text for text in texts)


# Broken connections


@pytest.fixture
def cutting(store: Place) -> Callable[..., CuttingProxy]:
    assert store.server is not None
    port = store.server.port
    return lambda **options: CuttingProxy(port, **options)


def test_a_download_that_is_cut_goes_on_where_it_was_cut(store: Place, cutting: Callable[..., CuttingProxy]) -> None:
    store.open().put("object", Body(20 * MIB))
    with cutting(after=3 * MIB, cuts=3) as proxy:
        summary = hashlib.sha256()
        with opened(store, port=port_of(proxy)).open("object") as stream:
            while piece := stream.read(MIB + 1):
                summary.update(piece)
        assert proxy.cuts_left == 0
    assert summary.hexdigest() == digest(20 * MIB)


def test_a_download_that_is_cut_again_and_again_ends(store: Place, cutting: Callable[..., CuttingProxy]) -> None:
    store.open().put("object", Body(20 * MIB))
    with cutting(after=MIB, cuts=1000) as proxy, opened(store, port=port_of(proxy)).open("object") as stream:
        stream._pause = lambda _: None  # type: ignore[attr-defined]
        with pytest.raises(TargetUnavailable, match=r"at byte \d+ of 20971520"):
            stream.read()
        assert 1000 - proxy.cuts_left < 20


def test_a_download_never_goes_on_in_another_object(store: Place, cutting: Callable[..., CuttingProxy]) -> None:
    store.open().put("object", Body(20 * MIB))
    with cutting(after=8 * MIB, cuts=1) as proxy, opened(store, port=port_of(proxy)).open("object") as stream:
        stream.read(MIB)
        store.open().put("object", io.BytesIO(bytes(20 * MIB + 1)))
        with pytest.raises(TargetError, match="replaced while it was being read"):
            stream.read()


def test_a_server_that_is_lost_in_mid_upload_is_a_clear_error_and_nothing_is_visible_later(
    own_store: Place, own_openssh: OpenSsh
) -> None:
    target = opened(own_store, patience=0.5)
    with pytest.raises(TargetUnavailable, match="does not answer as it should") as caught:
        target.put("object", Body(60 * MIB, at=20 * MIB, then=own_openssh.kill))
    assert "Remains of object may be left" in caught.value.__notes__[0]
    for use in (
        lambda: target.put("a", Body(1)),
        lambda: target.put_new("a", b"1"),
        lambda: target.read("a"),
        lambda: target.stat("a"),
        lambda: list(target.list("")),
        lambda: target.list_folders(""),
        lambda: target.delete("a"),
        lambda: target.abandon_uploads("", older_than=datetime.now(UTC)),
    ):
        with pytest.raises(TargetUnavailable, match="does not answer"):
            use()
    assert [finding.severity for finding in target.check()] == ["error"]
    own_openssh.start()
    assert target.stat("object") is None
    assert list(target.list("")) == []
    assert target.abandon_uploads("", older_than=datetime.now(UTC) + timedelta(hours=1)) == ["object"]
    assert own_store.remains() == []


def test_a_connection_that_was_cut_while_idle_is_made_anew(own_store: Place, own_openssh: OpenSsh) -> None:
    target = own_store.open()
    target.put_new("a", b"1")
    own_openssh.cut()
    assert target.read("a") == b"1"


@pytest.fixture
def frozen(own_openssh: OpenSsh) -> Iterator[Callable[[], None]]:
    yield own_openssh.freeze
    own_openssh.thaw()


def test_a_server_that_falls_silent_in_mid_upload_is_given_up(own_store: Place, frozen: Callable[[], None]) -> None:
    target = opened(own_store, silence=1.0, patience=1.0)
    with pytest.raises(TargetUnavailable, match="does not answer as it should"):
        target.put("object", Body(500 * MIB, at=20 * MIB, then=frozen))


def test_an_upload_to_a_silent_server_can_be_stopped(
    own_store: Place, frozen: Callable[[], None], own_openssh: OpenSsh, alarm: Callable[[float], None]
) -> None:
    target = own_store.open()

    def freeze() -> None:
        frozen()
        alarm(0.5)

    begun = time.monotonic()
    with pytest.raises(Cancelled) as caught:
        target.put("object", Body(500 * MIB, at=20 * MIB, then=freeze))
    assert time.monotonic() - begun < 30, "a server that hangs is given up after 60 s"
    assert "Remains of object may be left" in caught.value.__notes__[0]
    own_openssh.thaw()
    assert target.stat("object") is None


@pytest.mark.parametrize("use", ["put_new", "read", "list"])
def test_every_call_to_a_silent_server_can_be_stopped(
    own_store: Place, frozen: Callable[[], None], alarm: Callable[[float], None], use: str
) -> None:
    target = own_store.open()
    uses: dict[str, Callable[[], object]] = {
        "put_new": lambda: target.put_new("a", b"1"),
        "read": lambda: target.read("a"),
        "list": lambda: list(target.list("")),
    }
    target.stat("a")
    frozen()
    alarm(0.3)
    with pytest.raises(Cancelled):
        uses[use]()


# What a server refuses


def test_a_disk_that_fills_up_is_said_to_be_full_and_keeps_nothing_half_done(
    small_disk: Path, own_openssh: OpenSsh
) -> None:
    root = own_openssh.root / "small"
    root.mkdir()
    subprocess.run(["mount", "--bind", small_disk, root], check=True)
    try:
        os.chown(root, own_openssh.root.stat().st_uid, own_openssh.root.stat().st_gid)
        place = replace(sftp_place("openssh", own_openssh), extra={"root": root})
        place.policy["url"] = f"sftp://127.0.0.1:{own_openssh.port}{root}"
        target = place.open()
        target.put("a/kept", Body(MIB))
        with pytest.raises(TargetFull, match="is full") as caught:
            target.put("a/new/object", Body(50 * MIB))
        assert "Make room" in caught.value.remedy
        assert [found.key for found in target.list("")] == ["a/kept"]
        assert sorted(path.name for path in root.rglob("*")) == ["a", "kept"]
        assert any("are free" in finding.what for finding in target.check())
    finally:
        subprocess.run(["umount", "-l", root], check=True)


def _made(store: Place, directory: Path) -> None:
    account = store.server.account() if isinstance(store.server, OpenSsh) else None
    directory.mkdir(mode=0o700)
    if account is not None:
        os.chown(directory, account.uid, account.gid)


def test_a_directory_that_is_not_ours_to_write_is_a_clear_error(store: Place) -> None:
    target = store.open()
    target.put("a/b", Body(1))
    (root_of(store) / "a").chmod(0o500)
    for use in (lambda: target.put("a/c", Body(1)), lambda: target.put_new("a/c", b"1"), lambda: target.delete("a/b")):
        with pytest.raises(TargetError, match="Permission denied") as caught:
            use()
        assert "Let " in caught.value.remedy
    assert store.remains() == ["a", "a/b"]


def test_an_account_that_may_not_delete_backs_up_and_replaces_nothing(tmp_path: Path) -> None:
    denied = "-P remove,rmdir,posix-rename,hardlink,symlink,setstat,fsetstat,lsetstat"
    with OpenSsh(tmp_path / "room", tmp_path / "sshd.log", sftp_arguments=denied) as server:
        place = sftp_place("openssh", server)
        target = place.open()
        target.put("a/object", Body(9 * MIB))
        target.put_new("a/manifest.json", b"first")
        assert place.remains() == ["a", "a/manifest.json", "a/object"]
        with pytest.raises(ObjectExists):
            target.put_new("a/manifest.json", b"second")
        with pytest.raises(ObjectExists, match="can't replace it"):
            target.put("a/object", Body(1))
        with pytest.raises(TargetError, match="Permission denied") as caught:
            target.delete("a/object")
        assert "deleting belongs to the account that applies retention" in caught.value.remedy
        assert [found.key for found in target.list("")] == ["a/manifest.json", "a/object"]
        assert target.read("a/manifest.json") == b"first"
        for _ in range(3):
            findings = target.check()
            assert [finding.severity for finding in findings] == ["ok", "ok", "ok"]
            assert any("can't delete" in finding.what for finding in findings)
        assert target.conditional_writes
        assert [name for name in place.remains() if "check" in name] == [".lifeboat-check"]


def test_storing_a_long_object_takes_little_memory(store: Place) -> None:
    script = Path(__file__).parent / "memory_of_put.py"
    environment = {**os.environ, **store.environment, "POLICY": json.dumps(store.policy)}
    ended = subprocess.run([sys.executable, script, str(300 * MIB)], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) <= 40 * MIB
    assert (root_of(store) / "object").stat().st_size == 300 * MIB
