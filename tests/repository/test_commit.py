"""A recovery point exists when its mark is written, and then for good: attempts, races, dead workers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

from lifeboat.errors import AlreadyCommitted, KeyUnavailable, ObjectDamaged, RepositoryError
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.commit import commit, keep_policy, refuse_if_committed
from lifeboat.repository.verification import verify_stored
from sandbox.s3_servers import MotoServer
from tests.repository.world import SOURCE, World, everything


def test_what_was_committed_is_found_and_good(any_world: World) -> None:
    copy = any_world.point()
    repository = any_world.repository()
    (found,) = repository.catalogue("primary").recovery_points(SOURCE).copies
    assert found == copy
    assert verify_stored(repository.target("primary"), found).objects == 3


def test_nothing_exists_before_the_commit(any_world: World) -> None:
    repository = any_world.repository()
    any_world.store(repository, any_world.work())
    catalogue = repository.catalogue("primary")
    assert catalogue.recovery_points(SOURCE).copies == ()
    assert catalogue.recovery_points(SOURCE).unreadable == ()
    assert catalogue.committed(SOURCE, "full") == []


def test_a_retry_has_the_same_id_and_leaves_the_first_attempt_alone(any_world: World) -> None:
    repository = any_world.repository()
    first = any_world.work(mark="7f3a")
    any_world.store(repository, first)
    retry = any_world.work(mark="7f3a", attempt=2)
    assert retry.recovery_point == first.recovery_point
    assert retry.attempt != first.attempt
    copy = any_world.point(repository, work=retry)
    assert copy.manifest.attempt == retry.attempt
    with pytest.raises(AlreadyCommitted, match="is committed on target primary already"):
        refuse_if_committed(repository.target("primary"), copy.manifest.folder)


def test_of_two_attempts_exactly_one_wins_and_the_loser_changes_nothing(any_world: World) -> None:
    repository = any_world.repository()
    first, second = (any_world.work(mark="7f3a", attempt=number) for number in (1, 2))
    manifests = [
        any_world.manifest(repository, work, any_world.store(repository, work, streams={"base.tar": data}))
        for work, data in ((first, b"the first"), (second, b"the second"))
    ]
    target = repository.target("primary")
    winner = commit(target, manifests[1], repository.signer)
    before = {info.key: target.read(info.key) for info in target.list("")}
    with pytest.raises(AlreadyCommitted):
        commit(target, manifests[0], repository.signer)
    # The loser's worker goes on: it stores one more object of its attempt, and its signature.
    any_world.store(repository, first, streams={"late.tar": b"late"})
    late = manifests[0].folder.signature(first.attempt)
    if target.stat(late) is None:
        target.put_new(late, repository.signer.signature_file(manifests[0].to_json()))
    after = {info.key: target.read(info.key) for info in target.list("")}
    assert {key: after[key] for key in before} == before
    assert repository.catalogue("primary").recovery_points(SOURCE).copies == (winner,)
    verify_stored(target, winner)


@pytest.mark.parametrize("kind", ["local", "moto"])
def test_when_attempts_race_exactly_one_is_told_that_it_won(
    make_world: Callable[..., World], moto: MotoServer, kind: str
) -> None:
    world = make_world(moto if kind == "moto" else None)
    repository = world.repository()
    works = [world.work(mark="7f3a", attempt=number) for number in range(1, 6)]
    manifests = [world.manifest(repository, work, world.store(repository, work, streams={"a": b"1"})) for work in works]
    start = threading.Barrier(len(works))
    told: list[Copy | AlreadyCommitted] = []

    def attempt(number: int) -> None:
        start.wait()
        try:
            told.append(commit(repository.target("primary"), manifests[number], repository.signer))
        except AlreadyCommitted as error:
            told.append(error)

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [one for one in told if isinstance(one, Copy)]
    assert len(told) == len(works)
    assert repository.catalogue("primary").recovery_points(SOURCE).copies == (winner,)


def test_a_store_without_conditions_is_asked_which_mark_it_holds(world: World, monkeypatch) -> None:
    repository = world.repository()
    target = repository.target("primary")
    first, second = (world.work(mark="7f3a", attempt=number) for number in (1, 2))
    ours, theirs = (
        world.manifest(repository, work, world.store(repository, work, streams={"a": b"1"})) for work in (first, second)
    )
    monkeypatch.setattr(type(target), "conditional_writes", False)
    original = type(target).put_new

    def put_new(self, key: str, data: bytes, **more: object) -> None:
        original(self, key, data, **more)
        if key == ours.folder.manifest:
            # Such a store lets the other attempt, which had looked before, write over it.
            self.put(key, BytesIO(theirs.to_json()))

    monkeypatch.setattr(type(target), "put_new", put_new)
    with pytest.raises(AlreadyCommitted):
        commit(target, ours, repository.signer)


def start_writer(world: World, mark: str) -> subprocess.Popen[str]:
    program = Path(__file__).parent / "dying_writer.py"
    command = [sys.executable, str(program), str(world.policy), mark]
    environment = {**os.environ, **world.environment, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, env=environment)


def test_a_worker_killed_in_mid_upload_leaves_nothing_that_counts_and_the_retry_succeeds(any_world: World) -> None:
    writer = start_writer(any_world, "7f3a")
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "in the middle\n"
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()
        writer.stdin.close()
    repository = any_world.repository()
    assert repository.catalogue("primary").recovery_points(SOURCE).copies == ()
    copy = any_world.point(repository, work=any_world.work(mark="7f3a", attempt=2))
    assert repository.catalogue("primary").recovery_points(SOURCE).copies == (copy,)
    verify_stored(repository.target("primary"), copy)


def test_a_worker_thought_dead_that_ends_after_the_retry_changes_nothing(any_world: World) -> None:
    repository = any_world.repository()
    writer = start_writer(any_world, "7f3a")
    assert writer.stdout is not None
    assert writer.stdin is not None
    assert writer.stdout.readline() == "in the middle\n"
    copy = any_world.point(repository, work=any_world.work(mark="7f3a", attempt=2))
    writer.stdin.write("go on\n")
    writer.stdin.flush()
    rest = writer.stdout.read()
    assert "AlreadyCommitted" in rest
    assert writer.wait() == 1
    writer.stdout.close()
    writer.stdin.close()
    assert repository.catalogue("primary").recovery_points(SOURCE).copies == (copy,)
    verify_stored(repository.target("primary"), copy)


def test_an_object_sealed_with_fewer_keys_than_the_manifest_says_is_refused(any_world: World) -> None:
    repository = any_world.repository()
    both = repository.sealing.wrapping_keys
    fewer = any_world.bent(
        any_world.policy.read_text().partition("    - name: demo-break-glass")[2].partition("signing:")[0],
        "\n      kind: rsa_public\n      public_key_file: /nowhere\n      optional: true\n\n",
    ).repository()
    assert len(fewer.sealing.left_out) == 1
    work = any_world.work()
    stored = any_world.store(fewer, work)
    manifest = any_world.manifest(repository, work, stored)
    assert len(both) == 2
    with pytest.raises(ObjectDamaged, match="is wrapped by demo-local instead of demo-break-glass, demo-local"):
        commit(repository.target("primary"), manifest, repository.signer)
    assert repository.catalogue("primary").recovery_points(SOURCE).copies == ()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.unlink(), "is not there after it was stored"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "after it was stored with"),
        (lambda path: path.write_bytes(b"x" * path.stat().st_size), "does not begin with a message header"),
    ],
    ids=["missing", "shorter", "no message"],
)
def test_what_the_target_lost_or_changed_is_found_before_the_commit(
    world: World, damage: Callable[[Path], object], says: str
) -> None:
    repository = world.repository()
    work = world.work()
    manifest = world.manifest(repository, work, world.store(repository, work))
    damage(world.file(manifest.folder.attempt(work.attempt) + manifest.streams[0].volumes[1].file))
    with pytest.raises(ObjectDamaged, match=says):
        commit(repository.target("primary"), manifest, repository.signer)
    assert not world.file(manifest.folder.manifest).exists()


def test_nothing_is_committed_with_a_signing_key_whose_time_is_over(world: World) -> None:
    over = world.bent(
        "valid_from: 2026-01-01T00:00:00Z", "valid_from: 2026-01-01T00:00:00Z\n      valid_until: 2026-11-22T02:00:00Z"
    )
    with pytest.raises(KeyUnavailable, match="'demo-signing' is not valid at 2026-11-22T02:00:00"):
        over.point()
    assert [key for key in everything(world) if key.endswith("manifest.json")] == []


def test_a_policy_is_kept_once_and_a_changed_one_is_an_error(world: World) -> None:
    target = world.repository().target("primary")
    keep_policy(target, "demo/policies/abc.yaml", b"one")
    keep_policy(target, "demo/policies/abc.yaml", b"one")
    with pytest.raises(RepositoryError, match="is not the policy whose digest it bears"):
        keep_policy(target, "demo/policies/abc.yaml", b"two")


def test_an_id_of_the_same_second_and_another_mark_is_another_recovery_point(world: World) -> None:
    first = world.work(mark="0001")
    second = replace(first, recovery_point=replace(first.recovery_point, mark="0002"), attempt="attempt-01-00000001")
    repository = world.repository()
    for work in (first, second):
        world.point(repository, work=work)
    assert len(repository.catalogue("primary").recovery_points(SOURCE).copies) == 2
