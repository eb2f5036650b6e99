"""What an upload over SFTP makes of a connection that breaks."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifeboat.errors import Cancelled, ObjectExists, TargetError, TargetFull, TargetUnavailable
from lifeboat.targets.sftp_commits import Commits
from lifeboat.targets.sftp_session import Link
from lifeboat.targets.sftp_window import Window
from sandbox.sftp_servers import OpenSsh, RcloneSftp
from tests.targets.bodies import MIB, Body
from tests.targets.conftest import Place, sftp_place
from tests.targets.cutting_proxy import CuttingProxy
from tests.targets.sftp_opened import opened, port_of, root_of


@pytest.fixture
def store(openssh: OpenSsh) -> Place:
    return sftp_place("openssh", openssh)


@pytest.fixture
def own_store(own_openssh: OpenSsh) -> Place:
    return sftp_place("openssh", own_openssh)


def holds(place: Place, key: str, size: int) -> bool:
    return (root_of(place) / key).read_bytes() == Body(size).read()


def hidden_of(place: Place) -> Path:
    (found,) = (path for path in root_of(place).rglob(".lifeboat-upload-*"))
    return found


# In mid-upload


@pytest.mark.parametrize(("after", "cuts"), [(3 * MIB, 1), (20 * MIB, 1), (13 * MIB, 2)])
def test_an_upload_that_is_cut_goes_on_and_is_the_same_byte_for_byte(store: Place, after: int, cuts: int) -> None:
    assert store.server is not None
    with CuttingProxy(store.server.port, after=after, cuts=cuts, requests=True) as proxy:
        assert opened(store, port=port_of(proxy)).put("a/object", Body(30 * MIB + 7)) == 30 * MIB + 7
        assert proxy.cuts_left == 0
    assert holds(store, "a/object", 30 * MIB + 7)
    assert store.remains() == ["a", "a/object"]


def test_an_upload_that_is_cut_again_and_again_ends_and_leaves_nothing(store: Place) -> None:
    assert store.server is not None
    with CuttingProxy(store.server.port, after=MIB, cuts=1000, requests=True) as proxy:
        with pytest.raises(TargetUnavailable, match="does not answer as it should"):
            opened(store, port=port_of(proxy), patience=0.5).put("a/object", Body(30 * MIB))
        assert 1 < 1000 - proxy.cuts_left < 20
    assert store.remains() == []


def test_a_server_that_was_killed_and_is_started_again_gets_the_rest(own_store: Place, own_openssh: OpenSsh) -> None:
    def restart() -> None:
        own_openssh.kill()
        own_openssh.start()

    target = own_store.open()
    assert target.put("a/object", Body(30 * MIB, at=20 * MIB, then=restart)) == 30 * MIB
    assert holds(own_store, "a/object", 30 * MIB)
    assert own_store.remains() == ["a", "a/object"]


def test_a_server_that_comes_back_a_little_later_is_waited_for(own_store: Place, own_openssh: OpenSsh) -> None:
    target = opened(own_store)
    upload = target._upload("object")
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 4:
            own_openssh.start()

    upload._pause = pause
    upload.run(Body(30 * MIB, at=20 * MIB, then=own_openssh.kill), Commits(target._tree, "object").replacing)
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert holds(own_store, "object", 30 * MIB)


def put_through_a_loss(place: Place, server: OpenSsh, fault: Callable[[Path], object]) -> None:
    """Store 30 MiB; the machine is lost after 20, of which 16 are confirmed, and ``fault`` befalls the file."""
    target = opened(place)
    upload = target._upload("a/object")

    def lose() -> None:
        target._session.wait(upload._synced(), "syncing")
        assert upload._window.confirmed == 16 * MIB
        server.kill()
        fault(hidden_of(place))
        server.start()

    upload.run(Body(30 * MIB, at=20 * MIB, then=lose), Commits(target._tree, "a/object").replacing)


def test_what_a_lost_machine_had_not_synced_is_written_again(own_store: Place, own_openssh: OpenSsh) -> None:
    # Some zeros, as a file system leaves them, and the rest is gone.
    put_through_a_loss(own_store, own_openssh, lambda file: changed(file, lambda data: data[: 16 * MIB] + bytes(MIB)))
    assert holds(own_store, "a/object", 30 * MIB)


def changed(file: Path, change: Callable[[bytes], bytes]) -> None:
    file.write_bytes(change(file.read_bytes()))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda file: changed(file, lambda data: data[: 15 * MIB]), "the file has 15728640 bytes"),
        (lambda file: changed(file, lambda data: data + bytes(40 * MIB)), r"the file has \d+ bytes"),
        (lambda file: changed(file, lambda data: data[: 10 * MIB] + b"?" + data[10 * MIB + 1 :]), "holds other bytes"),
        (Path.unlink, "the file is gone"),
    ],
    ids=["short", "long", "changed", "gone"],
)
def test_a_server_that_has_not_kept_what_it_synced_ends_the_upload(
    own_store: Place, own_openssh: OpenSsh, fault: Callable[[Path], object], words: str
) -> None:
    with pytest.raises(TargetError, match=f"has not kept .*16777216 bytes synced.*{words}") as caught:
        put_through_a_loss(own_store, own_openssh, fault)
    assert "run it again" in caught.value.remedy
    assert own_store.remains() == []


def test_a_server_that_comes_back_with_another_host_key_gets_nothing(own_store: Place, own_openssh: OpenSsh) -> None:
    def replace_key() -> None:
        own_openssh.kill()
        other = asyncssh.generate_private_key("ssh-ed25519").export_private_key()
        (own_openssh.room / "host_key").write_bytes(other)
        own_openssh.start()

    with pytest.raises(TargetUnavailable, match="another host key"):
        own_store.open().put("object", Body(30 * MIB, at=20 * MIB, then=replace_key))
    assert not (root_of(own_store) / "object").exists()


def test_a_disk_that_fills_up_after_the_cut_is_said_to_be_full(small_disk: Path, own_openssh: OpenSsh) -> None:
    root = own_openssh.root / "small"
    root.mkdir()
    subprocess.run(["mount", "--bind", small_disk, root], check=True)
    try:
        os.chown(root, own_openssh.root.stat().st_uid, own_openssh.root.stat().st_gid)
        place = replace(sftp_place("openssh", own_openssh), extra={"root": root})
        place.policy["url"] = f"sftp://127.0.0.1:{own_openssh.port}{root}"
        with pytest.raises(TargetFull, match="is full"):
            place.open().put("a/object", Body(50 * MIB, at=4 * MIB, then=own_openssh.cut))
        assert list(root.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", root], check=True)


def test_two_uploads_over_one_connection_both_go_on(own_store: Place, own_openssh: OpenSsh) -> None:
    target = own_store.open()
    both = threading.Barrier(2, action=own_openssh.cut)
    bodies = {key: Body(24 * MIB, at=12 * MIB, then=both.wait) for key in ("a/one", "a/two")}  # type: ignore[arg-type]
    threads = [threading.Thread(target=target.put, args=item) for item in bodies.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(holds(own_store, key, 24 * MIB) for key in bodies)
    assert own_store.remains() == ["a", "a/one", "a/two"]


def test_an_account_that_may_not_delete_goes_on_as_well(tmp_path: Path) -> None:
    denied = "-P remove,rmdir,posix-rename,hardlink,symlink,setstat,fsetstat,lsetstat"
    with OpenSsh(tmp_path / "room", tmp_path / "sshd.log", sftp_arguments=denied) as server:
        place = sftp_place("openssh", server)
        place.open().put("object", Body(30 * MIB, at=20 * MIB, then=server.cut))
        assert holds(place, "object", 30 * MIB)
        assert place.remains() == ["object"]


# Given up meanwhile


def test_an_upload_can_be_stopped_while_it_waits_for_its_server(
    own_store: Place, own_openssh: OpenSsh, alarm: Callable[[float], None]
) -> None:
    def lose() -> None:
        own_openssh.kill()
        alarm(0.5)

    with pytest.raises(Cancelled) as caught:
        own_store.open().put("object", Body(30 * MIB, at=20 * MIB, then=lose))
    assert "Remains of object may be left" in caught.value.__notes__[0]


def test_a_body_that_is_given_up_while_its_upload_waits_for_the_server_ends_it(
    own_store: Place, own_openssh: OpenSsh
) -> None:
    class GivenUp(Body):
        reads = 0

        def read(self, size: int = -1, /) -> bytes:
            self.reads += 1
            if self.reads == 20:
                own_openssh.kill()
            if self.reads > 24:
                raise Cancelled("stopped")
            return super().read(size)

    # In a thread, as the stages of a stream are: no signal reaches it.
    raised: list[BaseException] = []

    def put() -> None:
        try:
            own_store.open().put("object", GivenUp(500 * MIB))
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=put)
    thread.start()
    thread.join()
    assert isinstance(raised[0], Cancelled)


# While the object gets its name


def commit_that(server: OpenSsh, place: Place, how: str, commits: Commits, only_if_new: bool):
    """A commit whose first try is cut: before it, in the middle of OpenSSH's plain rename, or before its answer."""
    tries = []
    usual = commits.only_if_new if only_if_new else commits.replacing

    async def commit(link: Link, hidden: str) -> None:
        tries.append(hidden)
        if len(tries) > 1:
            return await usual(link, hidden)
        file = hidden_of(place)
        if how == "after":
            await usual(link, hidden)
        elif how == "between":
            os.link(file, file.with_name("object"))
        elif how == "taken":
            place.plant("a/object", b"somebody else's")
        elif how == "gone":
            file.unlink()
        elif how == "damaged":
            file.write_bytes(bytes(file.stat().st_size))
        await asyncio.to_thread(server.cut)
        await link.sftp.stat(hidden)
        raise AssertionError("the connection was to be cut")

    return commit, tries


@pytest.mark.parametrize(("only_if_new", "size"), [(False, 20 * MIB), (True, 10)])
@pytest.mark.parametrize(("how", "tries"), [("before", 2), ("between", 1), ("after", 1)])
def test_a_cut_while_the_object_gets_its_name_is_found_out(
    own_store: Place, own_openssh: OpenSsh, how: str, tries: int, size: int, only_if_new: bool
) -> None:
    target = opened(own_store)
    commit, tried = commit_that(own_openssh, own_store, how, Commits(target._tree, "a/object"), only_if_new)
    assert target._upload("a/object").run(Body(size), commit) == size
    assert len(tried) == tries
    assert holds(own_store, "a/object", size)
    assert own_store.remains() == ["a", "a/object"]


def test_an_object_that_somebody_else_stored_during_the_cut_stays(own_store: Place, own_openssh: OpenSsh) -> None:
    target = opened(own_store)
    commit, _ = commit_that(own_openssh, own_store, "taken", Commits(target._tree, "a/object"), only_if_new=True)
    with pytest.raises(ObjectExists):
        target._upload("a/object").run(Body(15), commit)
    assert (root_of(own_store) / "a/object").read_bytes() == b"somebody else's"
    assert own_store.remains() == ["a", "a/object"]


@pytest.mark.parametrize(("how", "words"), [("gone", "lost a/object"), ("damaged", "keeps other bytes of a/object")])
def test_what_is_not_there_as_it_was_written_gets_no_name(
    own_store: Place, own_openssh: OpenSsh, how: str, words: str
) -> None:
    target = opened(own_store)
    commit, _ = commit_that(own_openssh, own_store, how, Commits(target._tree, "a/object"), only_if_new=False)
    with pytest.raises(TargetError, match=words):
        target._upload("a/object").run(Body(20 * MIB), commit)
    assert own_store.remains() == []


# A server that does not sync


def test_without_fsync_a_short_upload_begins_anew_and_a_long_one_ends(rclone_sftp: RcloneSftp) -> None:
    place = sftp_place("rclone-sftp", rclone_sftp)
    with CuttingProxy(rclone_sftp.port, after=5 * MIB, cuts=1, requests=True) as proxy:
        opened(place, port=port_of(proxy)).put("a/short", Body(12 * MIB))
        assert proxy.cuts_left == 0
    assert holds(place, "a/short", 12 * MIB)
    with CuttingProxy(rclone_sftp.port, after=30 * MIB, cuts=1, requests=True) as proxy:
        with pytest.raises(TargetUnavailable, match="does not answer"):
            opened(place, port=port_of(proxy)).put("a/long", Body(50 * MIB))
        assert proxy.cuts_left == 0
    assert place.remains() == ["a", "a/short"]


# What is held


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=9), st.booleans()), max_size=40), st.integers(0, 400))
def test_the_window_gives_back_what_was_appended_since_the_sync_before_the_last(
    steps: list[tuple[bytes, bool]], wanted: int
) -> None:
    window, stream, before = Window(), b"", 0
    for piece, sync in steps:
        window.append(piece)
        stream += piece
        if sync:
            before, _ = window.confirmed, window.confirm(window.end)
    assert window.end == len(stream)
    assert window.start <= max(before, 0)
    end = min(wanted, len(stream))
    held = list(window.between(window.start, end))
    assert b"".join(piece for _, piece in held) == stream[window.start : end]
    assert all(stream[offset : offset + len(piece)] == piece for offset, piece in held)
