"""The watch over files: it sees that they look different, once they have come to rest, and reads none of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import pytest

from lifeboat.configuration.looking import looks_of
from lifeboat.operators import watching
from lifeboat.operators.watching import FilesLookDifferent
from tests.configuration.conftest import Configuration


def test_files_look_different_when_one_is_written_touched_made_removed_or_given_another_mode(
    settings: Configuration,
) -> None:
    file = settings.write("erp/app.conf", "one")
    before = {looks_of({"files": [str(settings.etc)]}, ["**/*.tmp"])}

    def differs(change: Callable[[], object]) -> None:
        change()
        now = looks_of({"files": [str(settings.etc)]}, ["**/*.tmp"])
        assert now not in before
        assert now == looks_of({"files": [str(settings.etc)]}, ["**/*.tmp"])
        before.add(now)

    differs(lambda: file.write_text("two"))
    differs(lambda: file.chmod(0o600))
    differs(lambda: settings.write("erp/new"))
    differs(lambda: os.utime(file, (1, 1)))
    differs(file.unlink)
    folder = settings.etc / "erp"
    times = folder.stat()
    settings.write("erp/x.tmp")
    os.utime(folder, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert looks_of({"files": [str(settings.etc)]}, ["**/*.tmp"]) in before


def test_the_trigger_fires_once_for_changes_that_belong_together(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter(["a", "a", "b", "c", "d", "d", "d", "e", "e"])
    asked = []

    def look(watched: object, exclude: object) -> str:
        asked.append((watched, exclude))
        return next(seen)

    import lifeboat.configuration.looking as looking

    monkeypatch.setattr(looking, "looks_of", look)

    async def watch() -> list[int]:
        trigger = FilesLookDifferent({"files": ["/etc/erp"]}, ["x"], every=0)
        fired = []
        events = trigger.run()
        for _ in range(2):
            await anext(events)
            fired.append(len(asked))
        await events.aclose()  # type: ignore[attr-defined]
        return fired

    assert asyncio.run(watch()) == [6, 9]
    assert asked[0] == ({"files": ["/etc/erp"]}, ["x"])


def test_the_trigger_is_made_again_from_what_it_says_of_itself() -> None:
    path, arguments = FilesLookDifferent({"files": ["/etc/erp"]}, ["x"]).serialize()
    assert path == "lifeboat.operators.watching.FilesLookDifferent"
    again = watching.FilesLookDifferent(**arguments)
    assert again.serialize() == (path, arguments)
