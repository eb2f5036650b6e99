"""How results look on screens and in files."""

from __future__ import annotations

import pytest

from lifeboat.cli.output import show_table

COLUMNS = ("recovery point", "of", "read", "copies")
ROWS = [
    ("20261122T030000Z-incremental-7f3a", "2026-11-22 03:00:00 UTC", "1.2 GB", "primary offsite archive"),
    ("20261123T030000Z-full-0b1c", "2026-11-23 03:00:00 UTC", "15.0 GB", ""),
]


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    show_table("Recovery points", COLUMNS, ROWS, right=(2,))
    return capsys.readouterr().out


def words_of(text: str) -> list[str]:
    return [word for line in text.splitlines() for word in line.split()]


@pytest.mark.parametrize("width", [40, 60, 80, 110, 200])
def test_no_word_is_cut_however_narrow_the_screen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = shown(capsys)
    assert {word for row in ROWS for cell in row for word in cell.split()} <= set(words_of(text))
    assert all(len(line) <= width for line in text.splitlines())


def test_a_narrow_screen_shows_each_row_as_a_block_with_the_names_of_its_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    lines = [line.rstrip() for line in shown(capsys).splitlines()]
    assert lines == [
        "Recovery points",
        "20261122T030000Z-incremental-7f3a",
        "  of      2026-11-22 03:00:00 UTC",
        "  read    1.2 GB",
        "  copies  primary offsite archive",
        "",
        "20261123T030000Z-full-0b1c",
        "  of    2026-11-23 03:00:00 UTC",
        "  read  15.0 GB",
        "",
    ]


def test_a_file_gets_one_line_for_each_row_however_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    path = "a/very/long/path" * 30
    show_table("Paths", ("path", "size"), [(path, "3 B"), ("b", "4 B")])
    assert [words_of(line) for line in capsys.readouterr().out.splitlines()[-3:-1]] == [
        [path, "3", "B"],
        ["b", "4", "B"],
    ]
