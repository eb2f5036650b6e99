"""Reports: what failed stands first, every word of a record is text, and the page stands alone."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import lifeboat
from lifeboat.recovery.comparing import changes_since, untested_since
from lifeboat.recovery.evidence import Check, Record
from lifeboat.recovery.reporting import Reports, in_markdown, legible, reports_of
from lifeboat.recovery.wording import length_of, moment_of, ratio_of, size_of
from tests.proving.test_evidence import BEGUN, proof, record

ZONE = ZoneInfo("Europe/Berlin")
NOW = BEGUN + timedelta(days=1)
WEEK = timedelta(days=7)
GOOD = Check(name="opens", passed=True)
BAD = Check(name="rows.sql", passed=False, what="12 rows are lost.")
HOSTILE = [
    "<script>alert(1)</script>",
    "a & b &lt; c",
    "\" onload='x' `code` **bold** _under_ [link](http://x.test) ![i](http://x.test/i.png) | cell \\",
    "# heading\n\n- list\n| a | b |\n| --- | --- |",
    "{{ page }} {% raw %}",
    "\u202eturned\u2066around\u200b",
    "x" * 400,
    "שלום עולם",
]
VOID = {"meta"}


class Page(HTMLParser):
    """A page taken apart: its tags must be balanced."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.cells[-1] += data

    @property
    def texts(self) -> list[str]:
        return [cell.strip() for cell in self.cells if cell.strip()]


def report(one: Record, *earlier: Record, now: datetime = NOW) -> Reports:
    return reports_of(one, earlier, ZONE, now)


def cells(markdown: str, first: str) -> list[str]:
    """The cells of the line of a table of Markdown that begins with ``first``."""
    (line,) = [line for line in markdown.splitlines() if line.startswith(f"| {first} |")][:1]
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def section(markdown: str, title: str) -> str:
    return markdown.split(f"\n## {title}", 1)[1].split("\n## ", 1)[0]


def failed() -> Record:
    return record(
        proof(checks=(GOOD, BAD), milliseconds={"fetch": 3_600_000, "replay": 900_000}),
        proof(source="files", target="offsite", error="Pack 7 is damaged.", remedy="Restore from primary.", checks=()),
        lacking={"code": "Nothing is committed."},
        key_id="ops",
        signature="c2ln",
    )


def test_a_failed_test_says_so_first_with_what_failed_and_what_to_do() -> None:
    made = report(failed())
    lines = made.markdown.splitlines()
    assert lines[0] == "# FAILED: restore test of demo, 2026-11-22"
    assert lines[2] == "**FAILED.** 3 of 3 sources failed: database, files, code."
    assert lines[4] == "## What was found"
    assert lines[6:8] == ["- **files**, recovery: Pack 7 is damaged.", "  - Next: Restore from primary."]
    page = Page(made.html)
    assert page.texts[:3] == ["FAILED: restore test of demo, 2026-11-22"] * 2 + ["FAILED."]
    assert page.texts.index("Pack 7 is damaged.") < page.texts.index("Summary")
    assert page.texts.index("Restore from primary.") < page.texts.index("Summary")


def test_a_passed_test_says_so_and_has_nothing_to_put_right() -> None:
    made = report(record())
    assert made.markdown.startswith("# Passed: restore test of demo, 2026-11-22\n")
    assert "1 source came back and passed every check." in made.markdown
    assert "## What was found" not in made.markdown
    assert 'id="found"' not in made.html
    assert section(made.markdown, "Corrective actions").strip() == "None is open."
    assert "FAILED" not in made.markdown + made.html


def test_a_test_that_passed_too_slowly_says_so_first() -> None:
    made = report(record(proof(milliseconds={"fetch": 4_000_000})))
    assert made.markdown.startswith("# Passed, but OVER its RTO: restore test of demo")
    assert "took longer than their RTO: database." in made.markdown
    assert cells(made.markdown, "database")[-2:] == ["1 h 07 min", "**1 h 00 min: OVER**"]
    assert "1 h 00 min: OVER" in Page(made.html).texts


def test_a_record_of_nothing_claims_nothing() -> None:
    made = report(record(proofs=(), passed=False))
    assert made.markdown.startswith("# FAILED")
    assert "No source was tested: it shows nothing." in made.markdown


@pytest.mark.parametrize(("kind", "words"), [("drill", "drill of demo"), ("restore", "restore of demo")])
def test_a_drill_and_a_restore_are_called_what_they_are(kind: str, words: str) -> None:
    assert f"Passed: {words}, 2026-11-22" in Page(report(record(kind=kind)).html).texts


def test_the_summary_has_all_that_is_known_of_each_source() -> None:
    one = record(
        proof(
            chosen="random", moment=BEGUN, data_until=BEGUN - timedelta(minutes=3), size=48_123_456_789,
            milliseconds={"fetch": 1_500_000, "replay": 9_900},
        )
    )  # fmt: skip
    made = report(one)
    expected = [
        "database", "passed", "20261122T000000Z-full-7f3a (full)", "primary", "at random",
        "2026-11-22 03:00:00 UTC+01:00", "2026-11-22 02:57:00 UTC+01:00", "48.1 GB", "25 min 10 s",
        "1 h 00 min: within",
    ]  # fmt: skip
    assert cells(made.markdown, "database") == expected
    texts = Page(made.html).texts
    assert all(text in texts for text in expected)
    assert "with the seed 7" in made.markdown
    assert "with the seed 7" in made.html


def test_a_source_that_did_not_come_back_is_not_said_to_be_in_time() -> None:
    markdown = report(failed()).markdown
    assert cells(markdown, "files")[1] == "**FAILED**"
    assert cells(markdown, "files")[-2:] == ["1.5 s until it failed", "1 h 00 min: not reached"]
    assert cells(markdown, "code")[:3] == ["code", "**NOTHING TO BRING BACK**", "—"]


def test_failed_checks_stand_before_the_others_in_both_forms() -> None:
    made = report(failed())
    part = section(made.markdown, "database, 20261122T000000Z-full-7f3a: FAILED")
    assert part.index("rows.sql") < part.index("| opens")
    texts = Page(made.html).texts
    assert texts.index("rows.sql", texts.index("What was looked at, failed ones first.")) < texts.index("opens")


def test_phases_are_shown_with_their_share() -> None:
    part = section(report(failed()).markdown, "database, 20261122T000000Z-full-7f3a: FAILED")
    assert cells(part, "fetch") == ["fetch", "1 h 00 min", "80%"]
    assert cells(part, "replay") == ["replay", "15 min 00 s", "20%"]
    assert cells(part, "all")[:2] == ["all", "1 h 15 min"]


def test_a_check_of_nothing_measured_is_shown_all_the_same() -> None:
    report(record(proof(milliseconds={})))
    report(record(proof(milliseconds={"fetch": 0})))


def test_actions_are_carried_with_their_day_and_marked_when_it_is_over() -> None:
    records = [record(proof(checks=(BAD,)), begun=BEGUN + number * WEEK) for number in range(2)]
    made = report(records[1], records[0], now=BEGUN + timedelta(days=29))
    assert "OVERDUE" not in made.markdown + made.html
    row = cells(section(made.markdown, "Corrective actions"), "database")
    assert row[1:3] == ["rows.sql", "2026-12-22 03:01:00 UTC+01:00"]
    assert row[-2:] == [
        f"2026-11-22 03:01:00 UTC+01:00 by {records[0].id}", "2 times, last 2026-11-29 03:01:00 UTC+01:00"
    ]  # fmt: skip
    late = report(records[1], records[0], now=BEGUN + timedelta(days=31))
    assert "**1 corrective action overdue.**" in late.markdown.splitlines()[:6]
    for text in (late.markdown, late.html):
        assert "OVERDUE since 2026-12-22 03:01:00 UTC+01:00" in text


def test_what_this_record_closed_is_told_with_the_record_that_opened_it() -> None:
    before, now = record(proof(checks=(BAD,)), begun=BEGUN - WEEK), record(proof(checks=(GOOD, well())))
    made = report(now, before)
    part = section(made.markdown, "Corrective actions")
    assert "None is open." in part
    row = cells(part, "database")
    assert row == [
        "database", "rows.sql", "12 rows are lost.", f"2026-11-15 03:01:00 UTC+01:00 by {before.id}",
        f"2026-11-22 03:01:00 UTC+01:00 by {now.id}",
    ]  # fmt: skip
    assert "Closed by this record" in Page(made.html).texts


def well() -> Check:
    return BAD.model_copy(update={"passed": True})


def test_it_is_compared_with_the_test_before() -> None:
    before = record(proof(checks=(GOOD, BAD, Check(name="counts", passed=True))), begun=BEGUN - WEEK)
    bad = Check(name="opens", passed=False)
    made = report(record(proof(checks=(bad, well()), milliseconds={"fetch": 2700})), before)
    row = cells(section(made.markdown, "Compared"), "database")
    assert row == ["database", before.id, "opens", "rows.sql", "counts", "2.7 s", "1.5 s", "1.80 times"]
    texts = Page(made.html).texts
    assert texts[texts.index("Ratio") + 1 :][: len(row)] == row


def test_each_source_is_compared_with_its_own_newest_test_and_never_with_a_restore() -> None:
    old = record(proof(), proof(source="files"), begun=BEGUN - 3 * WEEK)
    mid = record(proof(), begun=BEGUN - 2 * WEEK)
    earnest = record(proof(), kind="restore", begun=BEGUN - WEEK)
    one = record(proof(), proof(source="files"), proof(source="new"))
    assert [change.before for change in changes_since(one, [old, mid, earnest])] == [mid, old, None]


def test_a_source_that_the_test_before_had_and_this_one_has_not_is_named() -> None:
    before = record(proof(), lacking={"code": "none"}, begun=BEGUN - WEEK)
    assert untested_since(record(), [before]) == ("code",)
    assert "but in the one before: code." in report(record(), before).markdown
    assert "never tested before" in report(record(proof(source="new")), before).markdown


def test_a_recovery_that_failed_is_not_compared_by_its_time() -> None:
    before = record(proof(checks=(GOOD, well())), begun=BEGUN - WEEK)
    (change,) = changes_since(record(proof(error="It stopped.", checks=())), [before])
    assert (change.failing, change.milliseconds, change.before_milliseconds) == (("recovery",), None, 1500)
    assert change.unlooked == ()


def test_what_was_wrong_before_is_neither_newly_failing_nor_passing_where_nobody_looked() -> None:
    before = record(proof(checks=(BAD, Check(name="counts", passed=False))), begun=BEGUN - WEEK)
    (change,) = changes_since(record(proof(checks=(BAD,))), [before])
    assert (change.failing, change.passing, change.unlooked) == ((), (), ("counts",))


def test_records_of_later_of_other_systems_and_twice_the_same_change_nothing() -> None:
    one, before = record(), record(proof(checks=(BAD,)), begun=BEGUN - WEEK)
    later = record(proof(checks=(BAD,)), begun=BEGUN + WEEK)
    other = record(proof(checks=(BAD,)), system="other", begun=BEGUN - WEEK, mark="ffffffff")
    assert report(one, later, before, other, one, before.model_copy()) == report(one, before)


def test_earlier_records_may_come_in_any_order() -> None:
    weeks = [record(proof(checks=(BAD,)), begun=BEGUN - number * WEEK) for number in range(1, 4)]
    assert report(record(), *weeks) == report(record(), *reversed(weeks))
    assert weeks[-1].id in section(report(record(), *weeks).markdown, "Corrective actions")


def test_it_says_by_what_it_can_be_proved() -> None:
    one = failed()
    made = report(one)
    texts = Page(made.html).texts
    for proven in (one.id, one.sha256, "ops", one.key):
        assert proven in made.markdown
        assert proven in texts
    assert "NOT SIGNED" not in made.markdown + made.html


def test_a_record_that_nobody_signed_is_said_to_prove_nothing() -> None:
    for text in (report(record()).markdown, report(record()).html):
        assert "NOT SIGNED" in text
        assert "it proves nothing" in text


def test_the_page_fetches_nothing_and_runs_nothing_and_names_its_columns() -> None:
    before = record(proof(checks=(BAD,)), begun=BEGUN - WEEK)
    html = report(failed(), before).html
    page = Page(html)
    names = [tag for tag, _ in page.tags]
    assert not {"script", "link", "img", "iframe", "object", "form", "a"} & set(names)
    assert not [value for _, attributes in page.tags for name, value in attributes.items()
                if name.startswith("on") or name in ("src", "href", "style")]  # fmt: skip
    assert not re.search(r"https?:|url\(|@import", html)
    assert ("html", {"lang": "en"}) in page.tags
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in page.tags if tag == "th")
    assert names.count("caption") == names.count("table")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    labels = {attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes}
    assert labels <= set(ids)
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_words_are_shown_as_they_are_wherever_they_stand(words: str) -> None:
    one = everywhere(words)
    made = report(one, everywhere(words, begun=BEGUN - WEEK))
    plain = report(everywhere("plain"), everywhere("plain", begun=BEGUN - WEEK))
    page, expected = Page(made.html), Page(plain.html)
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in expected.tags]
    # As often as a harmless word, and whole.
    assert sum(legible(words) in text for text in page.texts) >= sum("plain" in text for text in expected.texts)
    assert markdown_shape(made.markdown) == markdown_shape(plain.markdown)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b]", made.markdown + made.html)


def everywhere(words: str, begun: datetime = BEGUN) -> Record:
    check = Check(name=words, passed=False, what=words)
    return record(
        proof(source=words, kind=words, recovery_point=words, target=words, chosen="random", error=words, remedy=words,
              checks=(check, GOOD), milliseconds={words: 5_000_000, "b": 2}),
        proof(checks=(check,)),
        begun=begun, lacking={f"{words}.": words}, actor=words, reason=words, policy_digest=words, key_id=words,
        signature=words, lifeboat_version=words,
    )  # fmt: skip


def markdown_shape(text: str) -> list[tuple[str, str]]:
    """What a reader of Markdown makes of it, without its texts."""
    shape = []
    for token in MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text):
        shape.append((token.type, token.tag))
        shape += [(child.type, child.tag) for child in token.children or [] if child.type not in ("text",)]
    # Words that only one of two texts has to escape cut the text, and no more.
    return [kind for kind in shape if kind[0] not in ("text_special",)]


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1).filter(lambda text: text.split()))
def test_any_words_leave_both_forms_as_they_are_built(words: str) -> None:
    words = words.encode("utf-8", "backslashreplace").decode()
    made, plain = report(everywhere(words)), report(everywhere("plain"))
    assert [tag for tag, _ in Page(made.html).tags] == [tag for tag, _ in Page(plain.html).tags]
    assert markdown_shape(made.markdown) == markdown_shape(plain.markdown)


@given(st.text())
def test_markdown_reads_back_as_the_legible_text(words: str) -> None:
    tokens = MarkdownIt("commonmark").parseInline(f"a {in_markdown(words)} b")
    shown = "".join(child.content for child in tokens[0].children or [])
    assert shown == f"a {legible(words)} b"


def test_lines_become_one() -> None:
    assert legible(" a\r\n\t b\u2028c ") == "a b c"


@given(st.text())
def test_no_character_without_a_shape_is_left(words: str) -> None:
    assert all(character.isprintable() or character in "\u200c\u200d" for character in legible(words))


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [
        (0, "0.0 s"), (1500, "1.5 s"), (59_940, "59.9 s"), (59_950, "1 min 00 s"), (60_001, "1 min 01 s"),
        (3_599_000, "59 min 59 s"), (3_599_001, "1 h 00 min"), (3_600_001, "1 h 01 min"), (360_000_000, "100 h 00 min"),
    ],
)  # fmt: skip
def test_lengths_read_as_people_say_them(milliseconds: int, words: str) -> None:
    assert length_of(milliseconds) == words


@given(st.integers(0, 10**10))
def test_a_length_of_a_minute_or_more_is_never_said_to_be_shorter_than_it_is(milliseconds: int) -> None:
    words = length_of(milliseconds).split()
    units = {"h": 3_600_000, "min": 60_000, "s": 1000}
    said = sum(float(number) * units[unit] for number, unit in zip(words[::2], words[1::2], strict=True))
    assert said >= milliseconds or milliseconds < 60_000
    assert abs(said - milliseconds) <= max(50.5, 60_000 if "h" in words else 1000 if "min" in words else 0)


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (48_123_456_789, "48.1 GB"), (5 * 10**15, "5,000.0 TB")],
)
def test_sizes_read_as_disks_are_sold(count: int, words: str) -> None:
    assert size_of(count) == words


@pytest.mark.parametrize(
    ("zone", "words"),
    [
        (UTC, "2026-11-22 02:00:00 UTC"),
        (ZoneInfo("Asia/Kolkata"), "2026-11-22 07:30:00 UTC+05:30"),
        (ZoneInfo("America/St_Johns"), "2026-11-21 22:30:00 UTC-03:30"),
    ],
    ids=str,
)
def test_moments_stand_on_the_zones_clock_with_their_offset(zone: ZoneInfo, words: str) -> None:
    assert moment_of(BEGUN, zone) == words


def test_a_ratio_to_nothing_is_not_a_figure() -> None:
    assert (ratio_of(2700, 1500), ratio_of(5, 0), ratio_of(5, None), ratio_of(None, 5)) == ("1.80 times", "—", "—", "—")


def test_the_same_records_make_the_same_reports() -> None:
    assert report(failed()) == report(failed())


PACKAGE = Path(lifeboat.__file__).parent
MAKE = (
    "from datetime import UTC, datetime; import sys; sys.path.insert(0, sys.argv[1]);"
    "from lifeboat.recovery.reporting import reports_of; from lifeboat.recovery.evidence import Record;"
    "record = Record.model_validate_json(sys.argv[2]);"
    "print(reports_of(record, (), UTC, datetime.now(UTC)).markdown.splitlines()[0])"
)


def made_from(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", MAKE, path, record().to_json().decode()],
        capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip


def test_a_wheel_brings_its_templates(tmp_path: Path) -> None:
    clone = PACKAGE.parents[1]
    source = tmp_path / "source"
    shutil.copytree(PACKAGE, source / "plugins" / "lifeboat", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(clone / name, source / name)
    build = "from setuptools.build_meta import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, tmp_path], cwd=source, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    made = made_from(tmp_path / "installed")
    assert made.stdout == "# Passed: restore test of demo, 2026-11-22\n", made.stderr


def test_an_installation_without_templates_says_what_is_missing(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "lifeboat", ignore=shutil.ignore_patterns("__pycache__", "*.md.j2"))
    made = made_from(tmp_path)
    last = made.stderr.splitlines()[-1]
    assert last.startswith("lifeboat.errors.RepositoryError: The report's template restore_test.md.j2 can't be used")
    assert "Install Lifeboat again" in last
    shutil.rmtree(tmp_path / "lifeboat" / "recovery" / "templates")
    assert "Install Lifeboat again" in made_from(tmp_path).stderr.splitlines()[-1]
