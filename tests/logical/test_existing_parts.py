"""The pure parts of restores into a database that is there: the script cut up, and what fits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifeboat.postgres.logical_details import SequenceContent
from lifeboat.postgres.logical_fitting import Definition, Name, There, definitions, fit
from lifeboat.postgres.logical_script import DataScript, definitions_script
from lifeboat.postgres.logical_selection import Entry


class Taken:
    """What was done with a script, in order."""

    def __init__(self) -> None:
        self.done: list[tuple[str, bytes]] = []
        self.script = DataScript(
            run=lambda text: self.done.append(("run", text)),
            begin_rows=lambda text: self.done.append(("begin", text)),
            rows=self._rows,
            end_rows=lambda: self.done.append(("end", b"")),
        )

    def _rows(self, lines: bytes) -> None:
        if self.done[-1][0] == "rows":
            self.done[-1] = ("rows", self.done[-1][1] + lines)
        else:
            self.done.append(("rows", lines))


ROW = st.text(st.characters(exclude_characters="\n\r", codec="utf-8"), max_size=9).filter(lambda row: row != "\\.")
NAME = st.sampled_from(['public."two\nlines"', "sales.plain", '"It""s; COPY x FROM stdin;\n".t', 's."o\'clock"'])
QUOTED = st.text(st.sampled_from("a;'\"\n-\\C"), max_size=8).map(lambda text: "'" + text.replace("'", "''") + "'")
STATEMENT = st.one_of(
    QUOTED.map(lambda text: f"SELECT pg_catalog.setval({text}, 1, true);"),
    QUOTED.map(lambda text: f"COMMENT ON LARGE OBJECT 1 IS {text};"),
    st.just("SET xmloption = content;"),
)
PART = st.one_of(STATEMENT, st.tuples(NAME, st.lists(ROW, max_size=4)))


@given(st.lists(PART, max_size=6), st.data())
def test_a_script_is_cut_into_the_same_however_its_pieces_are(
    parts: list[str | tuple[str, list[str]]], data: st.DataObject
) -> None:
    text, wanted = "--\n-- 'It's a dump\n--\n\n\\restrict abc\n\n", []
    for part in parts:
        text += '--\n-- Name: "odd; Type: x\n--\n\n'
        if isinstance(part, str):
            text += f"{part}\n\n\n"
            wanted.append(("run", part.encode()))
        else:
            name, rows = part
            lines = "".join(f"{row}\n" for row in rows)
            text += f'COPY {name} (a, "b\'") FROM stdin;\n{lines}\\.\n\n\n'
            wanted += [("begin", f'COPY {name} (a, "b\'") FROM stdin'.encode())]
            wanted += [("rows", lines.encode())] * bool(lines) + [("end", b"")]
    stream = (text + "BEGIN;\n\nCOMMIT;\n\n\\unrestrict abc\n\n").encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    taken = Taken()
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        taken.script.take(stream[begin:end])
    assert taken.script.end()
    # Statements may be handed over together.
    assert b"\n".join(text for kind, text in taken.done if kind == "run") == b"\n".join(
        text for kind, text in wanted if kind == "run"
    )
    assert [one for one in taken.done if one[0] != "run"] == [one for one in wanted if one[0] != "run"]


@pytest.mark.parametrize("text", [b"COPY a.b (c) FROM stdin;\n1\n", b"SELECT 'a", b"COPY a.b (c) FROM"])
def test_a_script_that_ends_too_early_is_noticed(text: bytes) -> None:
    taken = Taken()
    taken.script.take(text)
    assert not taken.script.end()


def test_definitions_go_to_the_server_without_what_is_meant_for_psql() -> None:
    script = b"--\n\\restrict x1\n\nSET a = 1;\nSET row_security = off;\n\nCREATE TABLE t ();\n\n\\unrestrict x1\n\n"
    settings, rest = definitions_script(script)
    assert settings == b"--\n\nSET a = 1;\nSET row_security = off;\n"
    assert rest == b"\nCREATE TABLE t ();\n\n\n"


SCRIPT = """
--
-- TOC entry 10 (class 1247 OID 16598)
-- Dependencies: 9
-- Name: state; Type: TYPE; Schema: sales; Owner: -
-- Data Pos: 0
--

CREATE TYPE sales.state AS ENUM (
    'open'
);


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- TOC entry 11 (class 1259 OID 7)
-- Name: numbers; Type: SEQUENCE; Schema: sales; Owner: -
--

CREATE SEQUENCE sales.numbers;


-- Completed on 2026-11-24 17:32:54 UTC

--
-- PostgreSQL database dump complete
--
"""


def test_definitions_are_read_with_their_numbers_and_without_what_stands_between_them() -> None:
    assert definitions(SCRIPT) == [
        Definition(10, Name("TYPE", "sales", "state"), "CREATE TYPE sales.state AS ENUM (\n    'open'\n);"),
        Definition(11, Name("SEQUENCE", "sales", "numbers"), "CREATE SEQUENCE sales.numbers;"),
    ]


def sequence(last: int) -> SequenceContent:
    return SequenceContent(oid=7, schema_name="sales", name="numbers", last=last, called=True, increment=1, cycle=False)


@pytest.mark.parametrize(
    ("stands", "used", "in_the_way"),
    [(5, {10, 11, 12}, 0), (9, {10, 11, 12}, 0), (4, {10}, 1)],
)
def test_a_sequence_that_is_there_is_used_unless_it_is_behind(stands: int, used: set[int], in_the_way: int) -> None:
    wanted = definitions(SCRIPT)
    there = There(
        schemas={"sales"},
        defined={one.name: one.text for one in wanted},
        sequences={("sales", "numbers"): sequence(stands)},
    )
    entries = [Entry(11, 7, "SEQUENCE", "", ()), Entry(12, 0, "SEQUENCE SET", "", (11,))]
    found = fit(entries, {10, 11, 12}, wanted, there, [sequence(5)])
    assert found.used == used
    assert len(found.in_the_way) == in_the_way
