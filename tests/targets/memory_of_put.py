"""A process that stores an object of a given size and prints by how many bytes its memory grew at most."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent.parent)]

from lifeboat.connections import outside_from  # noqa: E402
from lifeboat.policy.targets import TargetPolicy  # noqa: E402
from lifeboat.targets.opening import open_target  # noqa: E402
from tests.targets.bodies import Body  # noqa: E402


def kilobytes(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


target = open_target("store", TargetPolicy(**json.loads(os.environ["POLICY"])), outside_from(os.environ))
target.put("warm", Body(1))
target.delete("warm")
before = kilobytes("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
target.put("object", Body(int(sys.argv[1])))
print((kilobytes("VmHWM") - before) * 1024)
