"""A process that stores an object without end, for the tests that kill it: says ``going`` once 20 MiB are under way."""

from __future__ import annotations

import json
import os
import sys

from lifeboat.connections import outside_from
from lifeboat.policy.targets import TargetPolicy
from lifeboat.targets.opening import open_target


class Endless:
    def __init__(self) -> None:
        self._given = 0

    def read(self, size: int = -1, /) -> bytes:
        self._given += size
        if self._given - size < 20 * 1024 * 1024 <= self._given:
            print("going", flush=True)
        return bytes(size)


policy = TargetPolicy(**json.loads(os.environ["POLICY"]))
open_target("store", policy, outside_from(os.environ)).put(sys.argv[1], Endless())
