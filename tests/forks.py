"""Processes of their own in which work is killed with -9: forks of one server that has Lifeboat loaded, and no threads.

All tests of a worker share that server, and what it loads is said once: a fork that has to load Lifeboat spends a
second on it.
"""

from __future__ import annotations

import multiprocessing

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "aws_encryption_sdk",
        "lifeboat.code.kind",
        "lifeboat.configuration.kind",
        "lifeboat.files.kind",
        "lifeboat.postgres.kind",
        "tests.backfill.killed_rebuild",
        "tests.code.killed_work",
        "tests.configuration.killed_backup",
        "tests.drills.killed_drill",
        "tests.files.killed_work",
        "tests.logical.killed_test",
        "tests.proving.killed_test",
        "tests.repository.retention.killed_cleanup",
    ]
)
