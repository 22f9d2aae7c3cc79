"""The small texts and the layout of tables, which ask no process."""

from __future__ import annotations

import codecs
import csv
import io
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmatlas.cli.render import output
from vmatlas.cli.render.table import Column, Row, Table, crop, fill, lay_out, plain_lines, terminal_lines
from vmatlas.cli.render.text import FOOT, escape, growth_text, human, one_line


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0"),
        (1023, "1023"),
        (1024, "1K"),
        (4096, "4K"),
        (1536, "1.5K"),
        (132 * 1024, "132K"),
        (1023 * 1024, "1023K"),
        (1024**2 - 1, "1.0M"),
        (1024**2, "1M"),
        (1536 * 1024, "1.5M"),
        (2 * 1024**2 + 4096, "2.0M"),
        (10 * 1024**2 + 4096, "10M"),
        (2**63, "8E"),
        (2**64 - 1, "16E"),
    ],
)
def test_human_size(size, text):
    assert human(size) == text


@given(st.integers(0, 2**64 - 1))
def test_human_size_is_short_and_off_by_less_than_a_twentieth(size):
    text = human(size)
    assert len(text) <= 5
    number, unit = re.fullmatch(r"([0-9.]+)([KMGTPE]?)", text).groups()
    value = float(number) * 1024 ** " KMGTPE".index(unit or " ")
    assert abs(value - size) <= size / 20


@pytest.mark.parametrize(("growth", "text"), [(0, "0"), (4096, "+4K"), (-4096, "-4K")])
def test_growth(growth, text):
    assert growth_text(growth, exact=False) == text


@given(st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")) | st.text("* totl"))
def test_an_escaped_path_prints_and_the_original_can_be_told_from_it(text):
    shown = escape(text)
    assert shown.isprintable() and not shown.startswith(FOOT)
    assert _unescape(shown) == text


def _unescape(text: str) -> str:
    def original(match: re.Match[str]) -> str:
        if match[0].startswith("\\x") and int(match[0][2:], 16) >= 0x80:
            return chr(0xDC00 + int(match[0][2:], 16))
        return codecs.decode(match[0], "unicode_escape")

    return re.sub(r"\\(?:x..|u....|U........|.)", original, text)


@pytest.mark.parametrize("text", ["/usr/lib/libc.so.6", "[heap]", "/a b/c", "/caf\u00e9"])
def test_an_ordinary_path_is_shown_as_it_is(text):
    assert escape(text) == text


def test_a_message_keeps_its_backslashes():
    assert one_line("a\\b\nc") == "a\\b\\nc"


COLUMNS = (
    Column("A"),
    Column("SIZE", right=True, leaves=1),
    Column("KIND", leaves=2, stands_in=True),
    Column("NAME", crops=True),
)


def table(*cells):
    return Table(COLUMNS, [Row(each) for each in cells])


def as_text(lines):
    return ["".join(cell.text for cell in line) for line in lines]


def test_plain_lines_are_aligned_and_whole():
    long = "/" + "x" * 300
    assert list(plain_lines(table(("1", "4K", "file", long), ("22", "132K", "heap", "-")))) == [
        "A   SIZE  KIND  NAME",
        f"1     4K  file  {long}",
        "22  132K  heap  -",
    ]


def test_columns_leave_a_narrow_terminal_in_their_order():
    wide = table(("1", "4K", "anonymous", "/a/rather/long/path/to/a/file"))
    assert lay_out(wide, 100).left == ()
    assert lay_out(wide, 32).left == (2,)
    assert lay_out(wide, 20).left == (1, 2)


def test_the_kind_stands_in_for_a_name_when_it_has_left():
    text = as_text(
        terminal_lines(table(("1", "4K", "anonymous", "-"), ("2", "4K", "file", "/a/rather/long/path/to")), 28)
    )
    assert "(anonymous)" in text[1]
    assert text[-1] == "(no room here for: KIND)"


@given(
    st.lists(st.tuples(*[st.text("abc/", max_size=30)] * 4), max_size=5),
    st.integers(1, 200),
)
def test_any_table_can_be_laid_out_for_any_terminal(rows, width):
    lines = as_text(terminal_lines(table(*rows), width))
    assert len(lines) >= len(rows)
    fixed = max([4, *(len(row[0]) for row in rows)]) + 14
    assert all(len(line) <= max(width, fixed, 40) for line in lines)


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("/usr/lib/libc.so.6", 18, "/usr/lib/libc.so.6"),
        ("/usr/lib/libc.so.6", 12, "…b/libc.so.6"),
        ("/usr/lib/libc.so.6", 10, "…libc.so.6"),
        ("/lib/array.cpython-311-x86_64-linux-gnu.so", 15, "array.c…-gnu.so"),
    ],
)
def test_a_path_is_cut_where_it_tells_least(text, width, shown):
    assert crop(text, width) == shown


@given(st.text("ab/", min_size=1), st.integers(3, 50))
def test_a_cut_path_is_never_wider(text, width):
    assert len(crop(text, width)) <= width


def test_titles_are_filled_into_lines():
    assert fill(("aa", "bb", "cc"), 7, " · ") == ["aa · bb", "cc"]


def test_a_long_last_column_goes_on_below_itself():
    told = Table((Column("A"), Column("WHY", wraps=True)), [Row(("x", "one two three four five six"))])
    assert as_text(terminal_lines(told, 20)) == ["A  WHY", "x  one two three", "   four five six"]


def test_what_has_no_room_in_its_row_is_told_below_it():
    columns = (Column("A"), Column("WHY", leaves=1, below=True), Column("NAME", crops=True))
    rows = [Row(("1", "because of something that is long", "/a/name/of/a/file")), Row(("2", "-", "/b"))]
    lines = as_text(terminal_lines(Table(columns, rows), 24))
    assert lines == ["A  NAME", "1  /a/name/of/a/file", "    because of something", "    that is long", "2  /b"]
    wide = as_text(terminal_lines(Table(columns, rows), 100))
    assert "because of something that is long" in wide[1]


def test_an_outlier_sticks_out_instead_of_widening_the_column():
    told = Table((Column("A"), Column("B", right=True)), [Row(("1", "22222")), Row(("11111", "2"), outlier=True)])
    assert as_text(terminal_lines(told, 80)) == ["A      B", "1  22222", "11111  2"]


# ---- CSV ----

HOSTILE = [
    "plain", "a\rforged,1,2", "a\nb", 'quo"te', "com,ma", "\x1b]0;x\x07", "\u202e\u2066", "\x9b\x85\u2028\x0b\x0c",
    "\udcff", "=1+1", "", " space ", "\\",
]  # fmt: skip


def test_no_name_ends_a_row_of_csv(capfdbinary):
    output.show_csv(["name", "number"], [{"name": name, "number": 1} for name in HOSTILE])
    text = capfdbinary.readouterr().out.decode("utf-8", "surrogateescape")
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows == [["name", "number"], *([name, "1"] for name in HOSTILE)]
    assert re.sub('"[^"]*"', "", text).replace("\n", "").isprintable(), "what is not quoted cannot end anything"


def test_csv_on_a_terminal_shows_names_as_tables_do(capfdbinary, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    output.show_csv(["name"], [{"name": name} for name in HOSTILE])
    lines = capfdbinary.readouterr().out.decode("utf-8").splitlines()
    assert len(lines) == len(HOSTILE) + 1
    assert all(line.isprintable() for line in lines)
    assert lines[2:3] == [r'"a\rforged,1,2"']


# ---- narrow terminals ----


def lines_of(table: Table, width: int) -> list[str]:
    return ["".join(cell.text for cell in line) for line in terminal_lines(table, width)]


@pytest.mark.parametrize("width", [80, 60, 40])
@pytest.mark.parametrize(
    "words",
    [
        ("maps", "PID", "--residency", "--flags", "--gaps"),
        ("find", "PID", "ffffffffff600000", "7fff00000000", "400000"),
        ("find", "PID", "7fff00000000", "--neighbours"),
        ("summary", "PID", "--residency"),
        ("summary", "--all", "--residency"),
        ("diff", "PID", "self"),
        ("audit", "--all"),
        ("processes",),
        ("doctor",),
        ("advise", "PID", "--cold", "--dry-run"),
    ],
)
def test_no_line_of_any_command_is_longer_than_the_terminal(run, child, monkeypatch, words, width):
    shown: list[Table] = []
    monkeypatch.setattr(output, "show", lambda *tables: shown.extend(tables))
    done = run(*[child.pid if word == "PID" else word for word in words])
    if done.exit_code in (4, 5) and words[0] == "advise":
        pytest.skip(f"no advice here: {done.stderr}")
    assert shown, done.stderr
    for table in shown:
        assert [line for line in lines_of(table, width) if len(line) > width] == []


def test_what_has_no_room_stands_below_its_row_with_its_title_and_nothing_is_lost():
    columns = (Column("RANGE"), Column("PERM"), Column("SIZE", right=True), Column("NAME", crops=True))
    rows = [Row(("5617e8c7b000-5617e8c7c000", "r--p", "4K", "/usr/bin/python3.11")), Row(("0-1", "rw-p", "-", "x"))]
    assert lines_of(Table(columns, rows), 40) == [
        "RANGE                      NAME",
        "5617e8c7b000-5617e8c7c000  …n/python3.11",
        "    PERM r--p  SIZE 4K",
        "0-1                        x",
        "    PERM rw-p",
    ]
    assert lines_of(Table(columns, rows), 20)[:4] == [
        "RANGE",
        "5617e8c7b000-5617e8c7c000",
        "    PERM r--p",
        "    SIZE 4K",
    ]


def test_titles_notes_and_long_words_go_on_in_another_line():
    table = Table(
        (Column("WHAT"), Column("HOW IT STANDS", wraps=True)),
        [Row(("/proc hidepid", "x" * 50)), Row(("a", "b"))],
        title=("a title that is longer than a narrow terminal is",),
        notes=("a note that is longer than a narrow terminal is wide",),
    )
    lines = lines_of(table, 40)
    assert max(map(len, lines)) <= 40
    assert "".join(lines).count("x") == 50
