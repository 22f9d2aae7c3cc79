"""The compiled table of symbols is the one that Python makes, of whatever bytes, and finds the same; and alone, under
the sanitizers, nothing is found in it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmatlas import compiled
from vmatlas.conformance.compiling import SHARED
from vmatlas.conformance.fuzz import fuzz_driver
from vmatlas.conformance.thorough import examples
from vmatlas.symbols import table
from vmatlas.symbols.table import LONGEST_NAME, Symbol, SymbolTable, reader_of, symbols_of

SOURCE = SHARED / "symbol_table.c"
needs_twin = pytest.mark.skipif(
    not compiled.twin(table.MODULE).serves,
    reason=f"the twin of symbols does not serve here: {compiled.twin(table.MODULE).reason}",
)
WORDS = st.one_of(st.integers(0, 300), st.integers(0x1000, 0x1400), st.integers(0, 2**64 - 1))
SYMBOLS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 255), st.sampled_from((0, 1, 2, 3, 0xFEFF, 0xFF00)), WORDS, WORDS),
    max_size=60,
)
NAMES = st.lists(st.sampled_from((b"one", b"_two", b"$x", b"", b"f\xc3\xbc", b"\xff")), max_size=20).map(b"\0".join)


def elf(symbols: list[tuple[int, int, int, int, int]], text: bytes, *, wide: bool, mark: str, machine: int) -> bytes:
    """Of three sections, with a table and its names behind the headers."""
    most = 2**64 - 1 if wide else 2**32 - 1
    rows = b"".join(
        struct.pack(mark + "IBBHQQ", name, info, 0, section, value, size)
        if wide
        else struct.pack(mark + "IIIBBH", name, value & most, size & most, info, 0, section)
        for name, info, section, value, size in symbols
    )
    head, header = (64, "IIQQQQIIQQ") if wide else (52, "IIIIIIIIII")
    each = struct.calcsize("=" + header)
    at = head + 4 * each
    sections = [
        (0, 0, 0, 0, 0, 0),
        (0, 1, 0x1000, 0, 0x200, 0),
        (0, 2, 0, at, len(rows), 3),
        (0, 3, 0, at + len(rows), len(text), 0),
    ]
    made = b"\x7fELF" + bytes([2 if wide else 1, 1 if mark == "<" else 2, 1]) + bytes(9)
    layout = mark + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH")
    made += struct.pack(layout, 3, machine, 1, 0, 0, head, 0, head, 0, 0, each, len(sections), 0)
    for name, kind, address, offset, size, link in sections:
        made += struct.pack(mark + header, name, kind, 0, address, offset, size, link, 0, 0, 0)
    return made + rows + text


def columns(made: SymbolTable | None) -> list[list[int]]:
    return [] if made is None else [list(each) for each in (made._starts, made._ends, made._names, made._reach)]


@needs_twin
@settings(max_examples=examples(400), deadline=None)
@given(
    SYMBOLS, NAMES, st.booleans(), st.sampled_from("<>"), st.sampled_from((62, 40, 183)), st.lists(WORDS, max_size=20)
)
def test_twin_makes_and_finds_what_python_does(
    symbols: list[tuple[int, int, int, int, int]], text: bytes, wide: bool, mark: str, machine: int, asked: list[int]
) -> None:
    content = elf(symbols, text, wide=wide, mark=mark, machine=machine)
    asked = [*asked, *(value + shift for *_, value, size in symbols for shift in (0, 1, size - 1, size))]
    asked = [each for each in asked if 0 <= each < 2**64]
    by_twin = symbols_of(reader_of(content))
    found = by_twin and by_twin.find_many(asked, file="/lib/x")
    with pytest.MonkeyPatch.context() as without:
        without.setattr(table, "NATIVE", None)
        by_python = symbols_of(reader_of(content))
        assert columns(by_twin) == columns(by_python)
        assert found == (by_python and by_python.find_many(asked, file="/lib/x"))
    assert all(each is None or (type(each) is Symbol and each.source == ".symtab") for each in found or ())


@pytest.mark.parametrize("twin", [pytest.param(True, marks=needs_twin), False])
def test_names_without_an_end_and_numbers_beyond_any_address_tell_nothing(
    twin: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not twin:
        monkeypatch.setattr(table, "NATIVE", None)
    long = b"x" * (LONGEST_NAME + 1)
    made = SymbolTable([1, 5, 9], [20, 8, 12], [0, 4, 5 + len(long)], b"all\0" + long + b"\0end", ".symtab")
    assert list(map(str, made.find_many([0, 1, 6, 9, 19, 20]))) == [
        "None",
        "all+0x0",
        "all+0x5",
        "all+0x8",
        "all+0x12",
        "None",
    ]
    assert made.find_many([2**64, 1]) == [None, made.find(1)]


@needs_twin
def test_columns_that_do_not_belong_together_are_refused() -> None:
    made = SymbolTable([1, 5], [3, 8], [0, 2], b"a\0b\0", ".symtab")
    made._known.pop()
    with pytest.raises(ValueError, match="as long as each other"):
        made.find(1)


def test_mutated_tables_find_nothing(tmp_path: Path) -> None:
    fuzz_driver(Path(__file__).parent / "fuzz_symbols.c", [SOURCE], tmp_path)
