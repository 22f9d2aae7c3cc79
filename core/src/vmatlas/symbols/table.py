"""The symbols of an ELF file: which function or object lies at an address. Pure but for the bytes that are asked for.

The layout is that of the System V ABI, chapters "Sections" and "Symbol Table"; the small table in `.gnu_debugdata` (an
ELF file of its own, compressed by xz) is that of "MiniDebugInfo" of Fedora. A file is a stranger's: nothing is taken
for more than it holds, and all sizes have limits.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, repeat
from operator import add
from typing import Literal, NamedTuple

from vmatlas import compiled

MODULE = "vmatlas.symbols._native"
NATIVE = compiled.load(MODULE)
"""The compiled twin (native/symbols.c); None where Python reads tables and looks addresses up."""

Read = Callable[[int, int], bytes]
"""So many bytes of a file from a place on; fewer where it ends."""

MOST_SYMBOLS = 2_000_000
"""A browser's debug file has a million. A symbol takes some 60 bytes of memory while they are sorted (by Python alone
130), and 40 later; and the names are at hand."""
_MOST_SECTIONS = 65_536
LONGEST_NAME = 1 << 16
"""Bytes of a name; what is called by a longer one has none. Mangled names of C++ have some thousand."""
_LARGEST = 1 << 29
"""Bytes of a table, or of its names."""
_MOST_UNPACKED = 1 << 26
_MOST_HEADERS = 1 << 24
"""Bytes of all section headers: those of 65,536 sections have 4 MiB."""
_LONGEST_SECTION_NAME = 64
_MOST_NOTES = 1 << 16
"""Bytes of notes of a file in which its build id is looked for."""
_LONGEST_ID = 64

_MAGIC = b"\x7fELF"
_ORDERS = {1: "<", 2: ">"}
_HEADERS = {1: "HHIIIIIHHHHHH", 2: "HHIQQQIHHHHHH"}
_SECTIONS = {1: "IIIIIIIIII", 2: "IIQQQQIIQQ"}
_SYMTAB, _NOTE, _DYNSYM = 2, 7, 11
_NOTYPE, _OBJECT, _FUNCTION, _IFUNC = 0, 1, 2, 10
_TOLD = frozenset((_NOTYPE, _OBJECT, _FUNCTION, _IFUNC))
_RANKS = [
    0 if info & 15 not in _TOLD else 1 + 4 * (1, 3, 2, 0)[min(info >> 4, 3)] + (info & 15 != _NOTYPE)
    for info in range(256)
]
"""Of st_info, 0 for what is no name: a global one before a weak and a local one, a function before a label."""
_ARM, _AARCH64, _RISCV = 40, 183, 243
_MAPPED_BY_LETTER = frozenset((_ARM, _AARCH64, _RISCV))
"""Their tables have marks ($x, $d) of what is code and what data, which are no names."""
_GNU_BUILD_ID = 3
_FEW = 1 << 17
_LOOKED_BACK = 32
"""So many symbols before an address are looked at: one may lie within another."""


class TooManySymbols(Exception):
    """Of a table that is not read, with how many there are."""


class Section(NamedTuple):
    """A section header. Bytes."""

    name: str
    type: int
    address: int
    offset: int
    size: int
    link: int


class Symbol(NamedTuple):
    """What lies at an address."""

    name: str
    """As the file has it: of C++ and Rust mangled."""
    offset: int
    """Bytes from its beginning."""
    elf_address: int | None = None
    """The address in the addresses of its ELF file; None of what a JIT made."""
    file: str | None = None
    """The path of the file that is mapped there; None of what a JIT made."""
    source: str = ""
    """Where the name stands: ".symtab", ".dynsym", ".gnu_debugdata", "debug file", "perf map"."""
    legible: str | None = None
    """What a mangled name means, where that was asked for (`demangle`) and is told."""

    def __str__(self) -> str:
        return f"{self.legible or self.name}+{self.offset:#x}"


class Sections:
    """The sections of an ELF file; none where it is no ELF file, or tells none."""

    def __init__(self, read: Read) -> None:
        """Raises what `read` raises."""
        self._read = read
        self.all: list[Section] = []
        self.machine = 0
        head = read(0, 64)
        self.bits = 0 if len(head) < 52 or head[:4] != _MAGIC or head[4] not in _HEADERS else 32 * head[4]
        order = _ORDERS.get(head[5]) if self.bits else None
        if order is None:
            self.bits = 0
            return
        self.mark = order
        try:
            self._read_all(head)
        except (struct.error, OverflowError):  # beyond what is there
            self.all = []

    def _read_all(self, head: bytes) -> None:
        size = self.bits // 32
        _, self.machine, _, _, _, at, _, _, _, _, entry, count, names_at = struct.unpack_from(
            self.mark + _HEADERS[size], head, 16
        )
        layout = struct.Struct(self.mark + _SECTIONS[size])
        if not at or entry < layout.size:
            return
        first = layout.unpack_from(self._read(at, layout.size))
        count = count or first[5]  # of 65,280 and more section 0 tells how many, and which has the names
        names_at = first[6] if names_at == 0xFFFF else names_at
        if count > _MOST_SECTIONS or count * entry > _MOST_HEADERS:
            return
        raw = self._read(at, count * entry)
        rows = [layout.unpack_from(raw, row * entry) for row in range(min(count, len(raw) // entry))]
        names = self._read(rows[names_at][4], min(rows[names_at][5], 1 << 20)) if names_at < len(rows) else b""
        for name, kind, _, address, offset, length, link, *_ in rows:
            called = names[name : name + _LONGEST_SECTION_NAME].partition(b"\0")[0].decode("latin-1")
            self.all.append(Section(called, kind, address, offset, length, link))

    def named(self, name: str) -> Section | None:
        """The first of that name."""
        return next((each for each in self.all if each.name == name), None)

    def content(self, section: Section, most: int = _LARGEST) -> bytes:
        """At most so many bytes of it. Raises what reading raises."""
        return self._read(section.offset, section.size) if section.size <= most else b""

    @property
    def build_id(self) -> bytes | None:
        """Of a note NT_GNU_BUILD_ID; None where there is none."""
        left = _MOST_NOTES
        for each in self.all:
            if each.type != _NOTE or each.size > left:
                continue
            left -= max(each.size, 1)
            if (found := build_id_in(self.content(each), self.mark)) is not None:
                return found
        return None


def build_id_in(notes: bytes, mark: str) -> bytes | None:
    """The build id among notes; None where there is none, or they are damaged. `mark`: "<" for little-endian."""
    place = 0
    while place + 12 <= len(notes):
        name, size, kind = struct.unpack_from(mark + "III", notes, place)
        at = place + 12 + name + -name % 4
        if kind == _GNU_BUILD_ID and notes[place + 12 : place + 12 + name] == b"GNU\0":
            return notes[at : at + size] if 0 < size <= _LONGEST_ID and at + size <= len(notes) else None
        place = at + size + -size % 4
    return None


def build_id_of_head(head: bytes) -> bytes | None:
    """The build id in the first bytes of an ELF file, by its program headers, as they are in memory."""
    if len(head) < 64 or head[:4] != _MAGIC or head[4] not in _HEADERS or head[5] not in _ORDERS:
        return None
    size, mark = head[4], _ORDERS[head[5]]
    layout = struct.Struct(mark + ("IIIIIIII" if size == 1 else "IIQQQQQQ"))
    _, _, _, _, at, _, _, _, entry, count, *_ = struct.unpack_from(mark + _HEADERS[size], head, 16)
    for row in range(count if entry >= layout.size else 0):
        place = at + row * entry
        if place + layout.size > len(head):
            return None
        fields = layout.unpack_from(head, place)
        offset, length = (fields[1], fields[4]) if size == 1 else (fields[2], fields[5])
        if fields[0] == 4 and offset < len(head) and length <= _MOST_NOTES:  # PT_NOTE
            found = build_id_in(head[offset : offset + length], mark)
            if found is not None:
                return found
    return None


class SymbolTable:
    """Symbols by address, of the best table that a file has. Names are made when they are asked for."""

    def __init__(
        self,
        starts: Sequence[int],
        ends: Sequence[int],
        names: Sequence[int],
        text: bytes,
        source: str,
        reach: array[int] | None = None,
    ) -> None:
        """`starts` are sorted, and of equal ones the last is told; `names` say where in `text` a name begins; `reach`
        is for each the highest end of it and of all before it (beyond that nothing needs to be looked at)."""
        self._ends, self._names, self._text = ends, names, text
        if reach is None:
            reach = array("Q", accumulate(ends, max))
        self._starts, self._reach = starts, reach
        self.source = source
        """Where they stand: ".symtab", ".dynsym", ".gnu_debugdata"."""
        self._told = _Told(self)
        if NATIVE is not None:
            self._columns = (_array(starts), _array(ends), reach, _array(names))
            self._known: list[str | bool | None] = [None] * len(starts)
        elif len(starts) < _FEW:  # an array makes a number anew each time that one is looked at
            self._starts = list(starts)

    def __len__(self) -> int:
        return len(self._starts)

    def find(self, address: int) -> Symbol | None:
        """What lies at an address of the file's own; None where no symbol covers it."""
        return self.find_many((address,))[0]

    def find_many(self, addresses: Sequence[int], *, file: str | None = None, source: str = "") -> list[Symbol | None]:
        """The same of many, in their order. `file` and `source` go into each."""
        source = source or self.source
        packed = None if NATIVE is None else _of_64_bits(addresses)
        if packed is not None:
            by_native: list[Symbol | None] = NATIVE.find_many(
                self._columns, self._text, self._known, packed, Symbol, file, source
            )
            return by_native
        told, make = self._told, tuple.__new__
        return [
            make(Symbol, (it[2], address - it[0], address, file, source, None))
            if address < (it := told[row])[1]
            else self._further(address, row, file, source)
            for address, row in zip(addresses, map(bisect_right, repeat(self._starts), addresses), strict=True)
        ]

    def _further(self, address: int, row: int, file: str | None, source: str) -> Symbol | None:
        """What began further below; `row` is that of the first symbol above the address."""
        if row and address < self._reach[row - 1]:
            for each in range(row - 1, max(-1, row - 1 - _LOOKED_BACK), -1):
                start, end, name = self._told[each + 1]
                if address < end:
                    return Symbol(name, address - start, address, file, source)
        return None


class _Told(dict[int, tuple[int, int, str]]):
    """Start, end and name of what is told of the symbols up to a row, worked out when first asked for."""

    def __init__(self, table: SymbolTable) -> None:
        super().__init__({0: (0, 0, "")})
        self._table = table

    def __missing__(self, row: int) -> tuple[int, int, str]:
        table = self._table
        at, start = table._names[row - 1], table._starts[row - 1]
        end = table._text.find(b"\0", at, at + LONGEST_NAME + 1)
        if end < 0:  # a name without an end: it covers nothing
            told = start, start, ""
        else:
            told = start, table._ends[row - 1], table._text[at:end].decode("utf-8", "surrogateescape")
        self[row] = told
        return told


def has_symbols(sections: Sections) -> bool:
    """Whether it has a whole table of symbols, and not those alone that others may use."""
    return any(each.type == _SYMTAB and each.size for each in sections.all)


def symbols_of(read: Read | Sections) -> SymbolTable | None:
    """The best table of a file (of its sections, where they were read): .symtab, else .gnu_debugdata, else .dynsym;
    None where it has none. Raises what `read` raises, and TooManySymbols."""
    sections = read if isinstance(read, Sections) else Sections(read)
    whole = _table(sections, _SYMTAB, ".symtab")
    if whole is not None:
        return whole
    exported = _table(sections, _DYNSYM, ".dynsym")
    packed = sections.named(".gnu_debugdata")
    inner = None if packed is None else _unpacked(sections.content(packed, _MOST_UNPACKED))
    small = None if not inner else _table(Sections(reader_of(inner)), _SYMTAB, ".gnu_debugdata")
    if small is None or exported is None:
        return small or exported
    return _merged(small, exported)  # it has what .dynsym has not, and no more


def reader_of(content: bytes) -> Read:
    """Of bytes that are at hand."""
    return lambda offset, size: content[offset : offset + size]


def _unpacked(content: bytes) -> bytes:
    import lzma

    try:
        return lzma.LZMADecompressor(memlimit=1 << 27).decompress(content, _MOST_UNPACKED)
    except (lzma.LZMAError, EOFError):
        return b""


def _table(sections: Sections, kind: int, source: str) -> SymbolTable | None:
    found = next((each for each in sections.all if each.type == kind and each.size), None)
    if found is None or found.link >= len(sections.all):
        return None
    size = 24 if sections.bits == 64 else 16
    if found.size // size > MOST_SYMBOLS:
        raise TooManySymbols(found.size // size)
    text = sections.content(sections.all[found.link])
    # A file in an object's form (a debug file) keeps the sizes of sections that it has no bytes of.
    bounds = [(each.address, each.address + each.size) for each in sections.all]
    raw = sections.content(found)
    if NATIVE is not None:
        return _by_native(sections, raw, text, sorted(bounds), source)
    rows = _rows(sections, raw, text)
    if not rows:
        return None
    starts = array("Q", [row >> _ADDRESS for row in rows])
    names = array("I", [_NO_NAME - (row >> _NAME & _NO_NAME) for row in rows])
    lengths = array("Q", [row & _SIZE for row in rows])
    del rows
    try:
        ends = array("Q", map(add, starts, lengths))
    except OverflowError:
        ends = array("Q", [min(end, _SIZE) for end in map(add, starts, lengths)])
    _end_labels(starts, ends, lengths, bounds)
    return SymbolTable(starts, ends, names, text, source)


def _by_native(
    sections: Sections, raw: bytes, text: bytes, bounds: list[tuple[int, int]], source: str
) -> SymbolTable | None:
    """What `_rows`, `_end_labels` and the sums make."""
    flat = array("Q", [min(place, _SIZE) for both in bounds for place in both])
    is_swapped = sections.mark != ("<" if sys.byteorder == "little" else ">")
    columns = NATIVE.table(
        raw,
        text,
        sections.bits == 64,
        is_swapped,
        sections.machine == _ARM,
        sections.machine in _MAPPED_BY_LETTER,
        flat,
    )
    starts, ends, reach, names = map(array, "QQQI", columns)
    return SymbolTable(starts, ends, names, text, source, reach) if starts else None


def _array(numbers: Sequence[int]) -> array[int]:
    return numbers if isinstance(numbers, array) else array("Q", numbers)


def _of_64_bits(numbers: Sequence[int]) -> array[int] | None:
    try:
        return array("Q", numbers)
    except OverflowError:  # nothing lies there
        return None


_SIZE, _NO_NAME = (1 << 64) - 1, (1 << 32) - 1
_NAME, _RANK, _ADDRESS = 64, 96, 102
"""Where the fields of a row begin, in bits: below is the size, above the address. A number takes a quarter of the
memory of a tuple, and there can be millions."""


def _rows(sections: Sections, raw: bytes, text: bytes) -> list[int]:
    """What is told of a table, by address, and of one address the best last: address, rank, name (the first in the
    text last) and size, in one number."""
    size = 24 if sections.bits == 64 else 16
    raw = raw[: len(raw) - len(raw) % size]
    swapped = sections.mark != ("<" if sys.byteorder == "little" else ">")

    def column(code: Literal["H", "I", "Q"], first: int, step: int) -> array[int]:
        found = array(code, raw)[first::step]
        if swapped:
            found.byteswap()
        return found

    word: Literal["Q", "I"] = "Q" if size == 24 else "I"
    if size == 24:
        kinds, where, names = raw[4::24], column("H", 3, 12), column("I", 0, 6)
        values, sizes = column(word, 1, 3), column(word, 2, 3)
    else:
        kinds, where, names = raw[12::16], column("H", 7, 8), column("I", 0, 4)
        values, sizes = column(word, 1, 4), column(word, 2, 4)
    if sections.machine == _ARM:  # of a function the lowest bit says that it is Thumb
        values = array(
            word, [at & ~1 if info & 15 == _FUNCTION else at for at, info in zip(values, kinds, strict=True)]
        )
    end, ranks = len(text), _RANKS
    # A mark ($x) of what is code and what data is no name.
    marks = 0x24 if sections.machine in _MAPPED_BY_LETTER else -1
    # 0xFF00 and above are no sections: absolute and common symbols. Of several at one address the last is told.
    rows = [
        value << _ADDRESS
        | (((length > 0) * 32 + ranks[info] + 2 * (text[name] != 0x5F)) << _RANK)
        | ((_NO_NAME - name) << _NAME)
        | length
        for info, value, name, section, length in zip(kinds, values, names, where, sizes, strict=True)
        if ranks[info] and value and 0 < name < end and 0 < section < 0xFF00 and text[name] != marks
    ]
    rows.sort()
    return rows


def _end_labels(starts: array[int], ends: array[int], lengths: array[int], bounds: list[tuple[int, int]]) -> None:
    """A label, which has no size, goes on to the next symbol, and not beyond its section."""
    if 0 not in lengths:
        return
    firsts, lasts = zip(*sorted(bounds), strict=True)
    for row, length in enumerate(lengths):
        if not length:
            place = bisect_right(firsts, starts[row]) - 1
            end = lasts[place] if place >= 0 else starts[row]
            above = bisect_right(starts, starts[row])
            ends[row] = min(max(starts[row], min(end, starts[above] if above < len(starts) else end)), _SIZE)


def _merged(one: SymbolTable, other: SymbolTable) -> SymbolTable:
    """Both in one; where both have an address, the first tells its name. Names are not copied: however many symbols
    are called by one, it stands there once."""
    text = one._text + b"\0" + other._text
    rows: dict[int, tuple[int, int]] = {}
    for table, shift in ((other, len(one._text) + 1), (one, 0)):
        places = (name + shift for name in table._names)
        rows.update(zip(table._starts, zip(table._ends, places, strict=True), strict=True))
    order = array("Q", sorted(rows))
    ends, names = array("Q", [rows[each][0] for each in order]), array("Q", [rows[each][1] for each in order])
    return SymbolTable(order, ends, names, text, one.source)
