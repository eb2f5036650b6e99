"""The page of faults matches the tree: its tests exist, and every fault speaks of every tier."""

from __future__ import annotations

import re

from sandbox.accounts import CLONE

PAGE = (CLONE / "docs" / "faults.md").read_text(encoding="utf-8")
ALL = {"full", "incremental", "logical", "long full", "export", "WAL"}


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 50
    assert len(named) == PAGE.count("::"), "a test is named in another form"
    missing = [f"{file}::{name}" for file, name in named if f"def {name}(" not in (CLONE / file).read_text("utf-8")]
    assert missing == []


def test_every_fault_speaks_of_every_tier() -> None:
    faults = re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]
    assert len(faults) > 15
    for fault in faults:
        rows = re.findall(r"^\| (.+?) \| .+ \|$", fault, re.MULTILINE)
        tiers = [tier for row in rows if row not in ("tier", "---") for tier in row.split(", ")]
        told = sorted(ALL | set(tiers) - {"all"} if "all" in tiers else tiers)
        assert told == sorted(ALL | {"follow"}), fault.splitlines()[0]
