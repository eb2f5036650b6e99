"""``lifeboat verify`` finds what somebody changed, moved or deleted."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cli.conftest import Ledger, Said

Command = Callable[..., Said]


@contextmanager
def without(path: Path, aside: Path) -> Iterator[None]:
    shutil.move(path, aside)
    try:
        yield
    finally:
        if path.exists():
            shutil.rmtree(path)
        shutil.move(aside, path)


def test_a_flipped_byte_is_found_and_named_with_its_target(ledger: Ledger, lifeboat: Command) -> None:
    (damaged,) = (path for path in ledger.fulls[0].rglob("base.tar*") if path.is_file())
    content = damaged.read_bytes()
    damaged.write_bytes(content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])
    try:
        said = lifeboat(ledger.protected, "verify", "demo", "database", "--json")
        name = ledger.fulls[0].name
        shown = lifeboat(ledger.protected, "verify", "demo", "--recovery-point", name, "--target", "local")
    finally:
        damaged.write_bytes(content)
    assert said.code == 1
    (bad,) = (copy for copy in said.json["copies"] if not copy["good"])
    assert (bad["target"], bad["id"]) == ("local", ledger.fulls[0].name)
    assert "SHA-256" in bad["what"]
    assert bad["remedy"]
    assert shown.code == 1
    assert "not good" in shown.err
    listed = lifeboat(ledger.protected, "list", "demo")
    assert "NOT GOOD" in listed.out
    assert lifeboat(ledger.protected, "verify", "demo", "--recovery-point", name, "--target", "local").code == 0
    assert "NOT GOOD" not in lifeboat(ledger.protected, "list", "demo").out


def test_a_deleted_newest_recovery_point_shows_by_other_targets_and_by_the_journal(
    ledger: Ledger, lifeboat: Command, tmp_path: Path
) -> None:
    with without(ledger.fulls[-1], tmp_path / "aside"):
        said = lifeboat(ledger.protected, "verify", "demo", "--json")
        alone = lifeboat(ledger.protected, "verify", "demo", "--target", "local", "--json")
    assert said.code == alone.code == 1
    words = " ".join(finding["what"] for finding in said.json["findings"])
    assert "missing here" in words
    assert "is not there any more" in words
    assert "is not there any more" in alone.json["findings"][0]["what"]


def test_an_old_recovery_point_in_the_place_of_a_newer_one_is_not_believed(
    ledger: Ledger, lifeboat: Command, tmp_path: Path
) -> None:
    older, newer = ledger.fulls
    with without(newer, tmp_path / "aside"):
        shutil.copytree(older, newer)
        said = lifeboat(ledger.protected, "verify", "demo", "--target", "local", "--json")
        listed = lifeboat(ledger.protected, "list", "demo", "--json")
    assert said.code == 1
    assert "can't be believed" in said.json["findings"][0]["what"]
    assert any("can't be believed" in finding["what"] for finding in listed.json["sources"][0]["findings"])


def test_a_changed_event_of_the_journal_is_found(ledger: Ledger, lifeboat: Command) -> None:
    event = next(iter(sorted((ledger.protected.system.local / "demo" / "journal").rglob("*.json"))))
    content = event.read_bytes()
    event.write_bytes(content.replace(b'"actor":"', b'"actor":"not '))
    try:
        said = lifeboat(ledger.protected, "journal", "verify", "demo", "--json")
    finally:
        event.write_bytes(content)
    assert said.code == 1
    (local,) = (row for row in said.json["targets"] if row["target"] == "local")
    assert local["problems"]


def test_without_a_signing_key_copies_are_verified_and_not_journaled(ledger: Ledger, lifeboat: Command) -> None:
    signing = ledger.protected.system.keys / "signing.pem"
    content = signing.read_bytes()
    signing.unlink()
    events = len(list((ledger.protected.system.local / "demo" / "journal").rglob("*.json")))
    try:
        said = lifeboat(ledger.protected, "verify", "demo", "--target", "local")
    finally:
        signing.write_bytes(content)
    assert said.code == 0, said.err
    assert said.err.count("Nothing of this is written to the journal") == 1
    assert len(list((ledger.protected.system.local / "demo" / "journal").rglob("*.json"))) == events


def test_a_recovery_point_that_nobody_has_is_an_error(ledger: Ledger, lifeboat: Command) -> None:
    said = lifeboat(ledger.protected, "verify", "demo", "--recovery-point", "20260101T000000Z-full-0000")
    assert said.code == 1
    assert "No target that answers has a recovery point 20260101T000000Z-full-0000" in said.err
