"""Which files a package manager of rpm installed: its database, read as bytes. No program of rpm's is run.

Whoever is audited may have written it (a container has its own), so nothing in it is believed: each number is checked,
no page is visited twice, and what is read, and what is made of it, has a limit. Raises ValueError for what is no such
database.

Sources: sqlite.org/fileformat2.html; lib/backend/ndb/rpmpkg.c and lib/header.c of rpm 4.18.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from itertools import chain, repeat

PATH_MAX = 4096
"""Bytes of a path, with the zero behind it (linux/limits.h)."""

_LARGEST = 1 << 26
"""Bytes of a package's header at most. lib/header.c allows four times as much; no distribution has one of a tenth."""
_MOST_ENTRIES = 0xFFFF
_MOST_NAMES = 1 << 20
"""Files, and folders, of one package at most."""

_DIRINDEXES, _BASENAMES, _DIRNAMES, _STATES, _OLD_NAMES = 1116, 1117, 1118, 1029, 1027
_NOT_INSTALLED = 2  # RPMFILE_STATE_NOTINSTALLED
_ENTRY = struct.Struct(">4I")  # tag, type, offset, count


def files_of(header: bytes) -> Iterator[bytes]:
    """The paths of the files that a package's header lists, but for those that were left out when it was installed.

    One after another: a folder stands there once, and may be that of every file, so all paths together can be a
    million times as long as the header. What is longer than a path may be (PATH_MAX) is none.
    """
    try:
        count, size = struct.unpack_from(">2I", header)
        if count > _MOST_ENTRIES or 8 + 16 * count + size > len(header):
            raise ValueError("a header of another length")
        start = 8 + 16 * count
        found = {}
        for at in range(count):
            tag, _, offset, number = _ENTRY.unpack_from(header, 8 + 16 * at)
            if tag in (_DIRINDEXES, _BASENAMES, _DIRNAMES, _STATES, _OLD_NAMES):
                found[tag] = start + offset, number
        if _BASENAMES not in found:
            if _OLD_NAMES in found:
                yield from _strings(header, *found[_OLD_NAMES])
            return
        folders = list(_strings(header, *found[_DIRNAMES]))
        at, number = found[_DIRINDEXES]
        if number != found[_BASENAMES][1] or at + 4 * number > len(header):
            raise ValueError("files without a folder")
        indexes = struct.iter_unpack(">I", memoryview(header)[at : at + 4 * number])
        at, number = found.get(_STATES, (0, 0))
        states = chain(header[at : at + number], repeat(None))
        for name, (index,), state in zip(_strings(header, *found[_BASENAMES]), indexes, states, strict=False):
            folder = folders[index]
            if state != _NOT_INSTALLED and len(folder) + len(name) < PATH_MAX:
                yield folder + name
    except (struct.error, LookupError) as error:
        raise ValueError(f"a header that is none: {error}") from None


def _strings(header: bytes, at: int, number: int) -> Iterator[bytes]:
    if number > _MOST_NAMES:
        raise ValueError("more names than a package has")
    for _ in range(number):
        end = header.find(b"\0", at)
        if end < 0:
            raise ValueError("fewer names than it says")
        yield header[at : min(end, at + PATH_MAX)]
        at = end + 1


# ---- sqlite: rpmdb.sqlite ----

_MAGIC = b"SQLite format 3\0"
_LEAF, _INTERIOR = 13, 5
_MOST_COLUMNS = 5
"""Of the tables that are read: sqlite_schema has so many."""


class _Sqlite:
    """The tables of one file, read page by page."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        head = os.pread(descriptor, 100, 0)
        if len(head) < 100 or not head.startswith(_MAGIC):
            raise ValueError("no sqlite")
        size = int.from_bytes(head[16:18], "big")
        self._size = 65536 if size == 1 else size
        self._usable = self._size - head[20]
        if self._size < 512 or self._size & (self._size - 1) or self._usable < 480:
            raise ValueError("pages of no size")
        self._pages_left = os.fstat(descriptor).st_size // self._size + 1

    def _page(self, number: int) -> bytes:
        self._pages_left -= 1  # a tree has each page once
        if self._pages_left < 0 or number < 1:
            raise ValueError("a tree of pages that is none")
        page = os.pread(self._descriptor, self._size, (number - 1) * self._size)
        if len(page) < self._size:
            raise ValueError("it ends too early")
        return page

    def rows(self, root: int) -> Iterator[bytes]:
        """The records of the table whose tree has this root."""
        waiting = [root]
        while waiting:
            number = waiting.pop()
            page = self._page(number)
            at = 100 if number == 1 else 0
            kind = page[at]
            cells = int.from_bytes(page[at + 3 : at + 5], "big")
            first = at + (8 if kind == _LEAF else 12)
            if kind not in (_LEAF, _INTERIOR) or first + 2 * cells > self._size:
                raise ValueError("a page of another kind")
            places = struct.unpack_from(f">{cells}H", page, first)
            if kind == _LEAF:
                for place in places:
                    yield self._record(page, place)
            else:
                waiting.append(int.from_bytes(page[at + 8 : at + 12], "big"))
                waiting += (int.from_bytes(page[place : place + 4], "big") for place in reversed(places))
            if len(waiting) > self._pages_left:
                raise ValueError("a tree of pages that is none")

    def _record(self, page: bytes, at: int) -> bytes:
        size, at = _varint(page, at)
        _, at = _varint(page, at)  # the number of the row
        if size > _LARGEST:
            raise ValueError("a record that is too large")
        most = self._usable - 35
        if size <= most:
            return page[at : at + size]
        least = (self._usable - 12) * 32 // 255 - 23
        here = least + (size - least) % (self._usable - 4)
        here = here if here <= most else least
        parts = [page[at : at + here]]
        left, following = size - here, int.from_bytes(page[at + here : at + here + 4], "big")
        while left > 0:
            more = self._page(following)
            following = int.from_bytes(more[:4], "big")
            parts.append(more[4 : 4 + min(left, self._usable - 4)])
            left -= self._usable - 4
        return b"".join(parts)


def _varint(page: bytes, at: int) -> tuple[int, int]:
    number = 0
    for length in range(1, 10):
        byte = page[at + length - 1]
        if length == 9:
            return number << 8 | byte, at + 9
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, at + length
    raise AssertionError("the ninth byte is the last")


_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_SIZES = {0: 0, 7: 8, 8: 0, 9: 0} | _INTEGERS


def _values(record: bytes) -> list[bytes | int | None]:
    """The columns of a record: numbers, and bytes of texts and blobs."""
    end, at = _varint(record, 0)
    place = end
    found: list[bytes | int | None] = []
    while at < end:
        kind, at = _varint(record, at)
        if kind in (10, 11) or len(found) == _MOST_COLUMNS:
            raise ValueError("a value of another kind")
        size = _SIZES[kind] if kind < 12 else (kind - 12) // 2
        value = record[place : place + size]
        if len(value) < size:
            raise ValueError("a record that ends too early")
        found.append(None if not kind else value if kind > 11 else kind - 8 if kind in (8, 9) else _signed(value))
        place += size
    return found


def _signed(value: bytes) -> int:
    return int.from_bytes(value, "big", signed=True)


def sqlite_headers(descriptor: int) -> Iterator[bytes]:
    """The header of each package: the table Packages (hnum, blob). What a journal beside it has is not seen."""
    try:
        file = _Sqlite(descriptor)
        tables = (_values(record) for record in file.rows(1))
        root = next((row[3] for row in tables if row[:2] == [b"table", b"Packages"]), None)
        if not isinstance(root, int):
            raise ValueError("no table of packages")
        for record in file.rows(root):
            row = _values(record)
            if len(row) != 2 or not isinstance(row[1], bytes):
                raise ValueError("a package that is none")
            yield row[1]
    except (LookupError, struct.error) as error:
        raise ValueError(f"a page that is none: {error}") from None


# ---- ndb: Packages.db ----

_HEAD, _PAGE, _SLOT, _BLOCK = 32, 4096, 16, 16
_SLOTS_MOST = 1 << 15
"""Pages of slots at most: eight million packages."""


def ndb_headers(descriptor: int) -> Iterator[bytes]:
    """The header of each package. Numbers are little-endian (`le2h` of rpmpkg.c)."""
    head = os.pread(descriptor, _HEAD, 0)
    if head[:4] != b"RpmP" or len(head) < _HEAD:
        raise ValueError("no ndb")
    version, _, pages = struct.unpack_from("<3I", head, 4)
    if version != 0 or not 0 < pages <= _SLOTS_MOST:
        raise ValueError("an ndb of another version")
    slots = os.pread(descriptor, pages * _PAGE, 0)
    left = os.fstat(descriptor).st_size
    for at in range(_HEAD, len(slots) - _SLOT + 1, _SLOT):
        magic, number, block, blocks = struct.unpack_from("<4sIII", slots, at)
        if magic != b"Slot":
            raise ValueError("a slot that is none")
        if block == 0:
            continue
        left -= blocks * _BLOCK  # blobs do not overlap
        if blocks * _BLOCK > _LARGEST or left < 0:
            raise ValueError("a package that is too large")
        blob = os.pread(descriptor, blocks * _BLOCK, block * _BLOCK)
        if len(blob) < _BLOCK:
            raise ValueError("it ends too early")
        magic, its_number, _, size = struct.unpack_from("<4sIII", blob)
        if (magic, its_number) != (b"BlbS", number) or _BLOCK + size > len(blob):
            raise ValueError("a package that is none")
        yield blob[_BLOCK : _BLOCK + size]
