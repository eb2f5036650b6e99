"""CeleryExecutor with two workers that share no disk, as the deployed stack has them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from lifeboat.connections import outside_from
from lifeboat.policy.loading import load_policy
from lifeboat.repository.system import SystemRepository
from sandbox.airflow_client import FINAL
from sandbox.postgres_builds import WHEEL_MAJOR
from sandbox.postgres_template import Template
from tests.dags.cluster import WORKERS, Cluster
from tests.dags.stage import SOURCE, System

pytestmark = pytest.mark.timeout(600)

DUMP = "dump_compress_upload"


@dataclass
class Ended:
    """The cluster after its runs, and what was seen while they went on."""

    cluster: Cluster
    runs: dict[str, tuple[str, str]] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    most_backups_at_once: int = 0


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, postgres_template: Callable[[int], Template]) -> Iterator[Ended]:
    """Two systems protect one server. Their backups are started at the same time; when both have ended, one more."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), postgres_template(WHEEL_MAJOR))
    try:
        alpha = cluster.system(
            "alpha", targets=cluster.stored_target("alpha"), source="    checkpoint: fast\n    max_rate: 4 MiB/s"
        )
        alpha.change("wal: {", "wal: {queue: wal, ")
        twin = cluster.system(
            "twin", targets=cluster.stored_target("twin"), source="    checkpoint: fast\n    max_rate: 4 MiB/s"
        )
        twin.connections["twin_database"] = alpha.connections["alpha_database"]
        cluster.start()
        cluster.wait_until_ready()
        with cluster.client() as client:
            seen = Ended(cluster)
            for name, dag in (
                ("first", alpha.daily),
                ("twin", twin.daily),
                ("wal", alpha.wal),
            ):
                seen.runs[name] = (dag, client.trigger(dag))
            end = time.monotonic() + 280
            while "second" not in seen.states or len(seen.states) < len(seen.runs):
                assert time.monotonic() < end, {name: client.task_states(*run) for name, run in seen.runs.items()}
                rows = alpha.server.run_sql("SELECT count(*) FROM pg_stat_progress_basebackup")
                seen.most_backups_at_once = max(seen.most_backups_at_once, int(rows[0][0]))
                for name in seen.runs.keys() - seen.states.keys():
                    if (state := client.run(*seen.runs[name])["state"]) in FINAL:
                        seen.states[name] = str(state)
                if "second" not in seen.runs and {"first", "twin"} <= seen.states.keys():
                    # Not before: where the first stands back at once, the second would meet the same backup.
                    seen.runs["second"] = (alpha.daily, client.trigger(alpha.daily))
                time.sleep(0.3)
        yield seen
    finally:
        cluster.stop()


def points(ended: Ended, system: System) -> dict[str, str]:
    """Its committed fulls: the DAG run that each names, by recovery point."""
    environment = {"AIRFLOW_CONN_CLUSTER_STORE": ended.cluster.offsite.airflow_connection_uri()}
    repository = SystemRepository(load_policy(system.policy), outside_from(environment))
    listing = repository.catalogue("primary").recovery_points(SOURCE)
    assert listing.unreadable == ()
    return {copy.manifest.recovery_point: str(copy.manifest.run.run_id) for copy in listing.copies}


def test_each_run_that_succeeds_makes_exactly_one_recovery_point(ended: Ended) -> None:
    alpha, twin = (ended.cluster.systems[name] for name in ("alpha", "twin"))
    made = sorted([*points(ended, alpha).values(), *points(ended, twin).values()])
    good = [ended.runs[name][1] for name in ("first", "second", "twin") if ended.states[name] == "success"]
    assert made == sorted(good)
    assert ended.states["second"] == "success"
    assert ended.states["wal"] == "success"


def test_of_two_backups_of_one_server_at_once_one_stands_back_and_says_so(ended: Ended) -> None:
    assert ended.most_backups_at_once == 1
    (loser,) = [name for name in ("first", "twin") if ended.states[name] == "failed"]
    (log,) = [
        worker.log(*ended.runs[loser], DUMP)
        for worker in ended.cluster.workers.values()
        if DUMP in worker.has_run(*ended.runs[loser])
    ]
    assert "Another base backup of this server is under way" in log
    dag, run = ended.runs[loser]
    assert any(run in message.text for message in ended.cluster.slack.messages()), f"nobody was told that {dag} failed"


def test_the_tasks_of_one_run_pass_on_workers_that_share_no_disk(ended: Ended) -> None:
    ran = {
        name: {worker.name: worker.has_run(*run) for worker in ended.cluster.workers.values()}
        for name, run in ended.runs.items()
    }
    good = {name: places for name, places in ran.items() if ended.states[name] == "success"}
    assert any(all(places.values()) for places in good.values()), f"no run was on both workers: {ran}"
    for name, places in ran.items():
        one, two = places.values()
        assert not one & two, f"a task of {name} ran twice"


def test_a_worker_takes_tasks_of_its_own_queues_alone(ended: Ended) -> None:
    assert WORKERS["two"] == "backup"
    assert ended.cluster.workers["one"].has_run(*ended.runs["wal"]) == {"collect", "publish"}
    assert ended.cluster.workers["two"].has_run(*ended.runs["wal"]) == set()


def test_nothing_of_a_backup_is_left_on_a_workers_disk(ended: Ended) -> None:
    for worker in ended.cluster.workers.values():
        files = [path for path in worker.home.rglob("*") if path.is_file()]
        assert files
        assert [path for path in files if path.suffix in (".enc", ".zst", ".tar")] == []
        large = [path for path in files if path.stat().st_size > 2_000_000]
        assert large == [], "a backup went over this disk"
