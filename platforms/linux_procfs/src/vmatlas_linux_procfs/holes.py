"""Asks PROCMAP_QUERY about each hole that a text shows, on this machine: `unlisted` says why.

native/holes.c does the same, for the compiled twin and for agents.
"""

from __future__ import annotations

import fcntl
import sys
from array import array
from errno import EACCES, EINVAL, ENAMETOOLONG, ENOENT, ENOSYS, ENOTTY, EPERM

from vmatlas.patterns import pattern
from vmatlas.systems.linux.procmap import FIELDS, MAX_NAME, PROCMAP_QUERY, SIZE, QueryFlags, record

_TOP = 2**64
_UNABLE = frozenset([ENOTTY, ENOSYS, EINVAL, EPERM, EACCES])
"""Linux before 6.11, an emulator, a sandbox that does not let the ioctl pass: the text then stands as it is."""

_RECORD = record(sys.byteorder)
_NAMES = [name for name, _, _ in FIELDS]
_START, _END, _NAME_SIZE = map(_NAMES.index, ("vma_start", "vma_end", "vma_name_size"))
_POINTERS = slice(88, SIZE)
_BOUNDS = pattern(rb"(?m)^([0-9a-f]++)-([0-9a-f]++) ")


def ask_about_holes(maps: int, text: bytes | memoryview) -> bytes:
    """What is mapped in the holes of a text, by a descriptor of maps: the stream `unlisted`, empty when they are empty.

    Where nothing is found no memory is made that outlasts a question: the text may be that of our own map. Raises
    OSError.
    """
    asker = _Asker(maps)
    behind = 0
    for line in _BOUNDS.finditer(text):
        start, end = int(line[1], 16), int(line[2], 16)
        if start > behind and not asker.ask(behind, start):
            return b"".join(asker.found)
        behind = max(behind, end)
    if behind:
        asker.ask(behind, _TOP)
    return b"".join(asker.found)


class _Asker:
    """Asks about holes, and keeps what is in them."""

    def __init__(self, maps: int) -> None:
        self.found: list[bytes] = []
        self._maps = maps
        self._name = array("B", bytes(MAX_NAME))
        self._name_address = self._name.buffer_info()[0]
        self._record = bytearray(SIZE)

    def ask(self, address: int, end: int) -> bool:
        """All that is mapped from the address on and starts below `end`. False: there is no need to ask on."""
        while address < end:
            told = self._query(address, named=False)
            if told is None:
                return False
            if told[0] >= end:
                return True
            # A path that is longer than the kernel tells: the region is told without it.
            told = self._query(address, named=True) or self._query(address, named=False)
            if told is None:
                return False
            if told[0] >= end:
                return True
            self._record[_POINTERS] = bytes(SIZE - _POINTERS.start)
            name_size: int = _RECORD.unpack_from(self._record)[_NAME_SIZE]
            self.found.append(bytes(self._record) + self._name[:name_size].tobytes())
            address = told[1]
        return True

    def _query(self, address: int, *, named: bool) -> tuple[int, int] | None:
        """The bounds of what covers the address, or is next above; None: nothing does, or it cannot be asked."""
        pointer, size = (self._name_address, MAX_NAME) if named else (0, 0)
        asked = SIZE, QueryFlags.COVERING_OR_NEXT.value, address, 0, 0, 0, 0, 0, 0, 0, 0, size, 0, pointer, 0
        _RECORD.pack_into(self._record, 0, *asked)
        try:
            fcntl.ioctl(self._maps, PROCMAP_QUERY, self._record)
        except OSError as error:
            if error.errno == ENOENT or error.errno in _UNABLE or (named and error.errno == ENAMETOOLONG):
                return None
            raise
        fields = _RECORD.unpack_from(self._record)
        if fields[_END] <= address:
            raise OSError(EINVAL, "an answer of PROCMAP_QUERY that does not reach the address")
        return fields[_START], fields[_END]
