"""The lines of an index: the short way to the frequent ones says what the long way says, and all are read back."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifeboat.files.entries import Entry, Place

NAMES = st.one_of(
    st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), min_size=1, max_size=30),
    st.binary(min_size=1, max_size=30).map(os.fsdecode),
).filter(lambda name: not any(part in ("", ".", "..") for part in name.split("/")) and "\0" not in name)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
NUMBERS = st.integers(-(10**19), 10**19)
RARE: dict[str, st.SearchStrategy[object]] = {
    "owner": WORDS,
    "group": WORDS,
    "sha256": st.just(""),
    "place": st.one_of(st.none(), st.builds(Place, WORDS.filter(bool), WORDS, NAMES)),
    "sparse": st.just(True),
    "link": NAMES,
    "hard_link": NAMES,
    "device": st.tuples(st.integers(0, 9), st.integers(0, 9)),
    "xattrs": st.dictionaries(st.just("user.a"), st.binary(max_size=3)),
    "identity": WORDS,
    "properties": st.dictionaries(WORDS, WORDS, max_size=1),
}
# One thing that is rare, several, or none: each alone needs the long way.
LINES: dict[str, st.SearchStrategy[dict[str, object]]] = {
    "common": st.just({}),
    "of several kinds": st.fixed_dictionaries({}, optional=RARE),
} | {name: st.fixed_dictionaries({name: values}) for name, values in RARE.items()}


@st.composite
def entries(draw: st.DrawFn, path: st.SearchStrategy[str], rare: st.SearchStrategy[dict[str, Any]]) -> Entry:
    """A file's entry: as most are but for the path and what is rare."""
    common = Entry(
        draw(path), "file", draw(st.integers(0, 0o7777)), draw(NUMBERS),
        draw(NUMBERS), draw(NUMBERS), "www-data", "root", draw(NUMBERS), draw(NUMBERS), draw(st.integers(0, 2**63)),
        "ab" * 32, Place("pack-00001.tar", "20261122T030000Z-full-7f3a"),
    )  # fmt: skip
    return replace(common, **draw(rare))


@pytest.mark.parametrize("paths", [st.just("invoices/1.pdf"), NAMES], ids=["plain path", "any path"])
@pytest.mark.parametrize("rare", LINES.values(), ids=LINES.keys())
def test_a_line_says_what_the_long_way_says_and_is_read_back(
    paths: st.SearchStrategy[str], rare: st.SearchStrategy[dict[str, Any]]
) -> None:
    @settings(max_examples=30)
    @given(entries(paths, rare))
    def holds(entry: Entry) -> None:
        line = entry.to_line()
        assert line == entry._any_line()
        assert Entry.from_line(line) == entry

    holds()
