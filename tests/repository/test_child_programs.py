"""A child is ended with everything that it has started."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from lifeboat.errors import Cancelled
from lifeboat.repository.child_programs import converse, end, in_memory
from sandbox.processes import wait_until


def test_a_child_is_ended_with_its_children_also_where_they_do_not_listen() -> None:
    """As ``git`` with an ``ssh`` below it whose server has fallen silent."""
    script = "trap '' TERM; (trap '' TERM; echo $BASHPID; while :; do sleep 100; done) & wait"
    child = subprocess.Popen(
        ["bash", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )
    said: list[bytes] = []

    def tick() -> None:
        if said:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        converse(child, feed=None, take=said.append, tick=tick, rest="refuse")
    below = psutil.Process(int(said[0])), *psutil.Process(int(said[0])).children()
    end(child)
    assert child.returncode == -9
    wait_until(
        lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in below),
        within=30,
        what="all have ended",
    )


def test_what_lies_in_memory_is_for_its_owner_alone_and_gone_afterwards() -> None:
    with in_memory({"key": "a secret"}) as (paths, (descriptor,)):
        place = Path(f"/proc/self/fd/{descriptor}")
        assert paths["key"] == str(place)
        assert place.stat().st_mode & 0o777 == 0o600
        assert place.read_text() == "a secret"
        assert place.read_text() == "a secret"  # from its beginning each time
    assert not place.exists()
