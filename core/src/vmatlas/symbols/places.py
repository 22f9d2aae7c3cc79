"""From addresses of a map to addresses of ELF files, for all that are asked at once. Pure: who asks reads the files."""

from __future__ import annotations

from collections.abc import Callable

from vmatlas.model import Kind, Region
from vmatlas.symbols.elf import Elf, Lookup, place_in_bss, place_in_elf

OF_FILES = (Kind.FILE, Kind.SHARED_MEMORY)
"""What programs are run from: a memfd, too."""

ElfOf = Callable[[Region], Elf | None]
"""The program headers of the file that a region shows."""


def elf_place(address: int, at: Region, *, elf_of: ElfOf, lookup: Lookup, page: int) -> tuple[int, Region] | None:
    """The address in the file's own addresses, and a region of that file; None where it lies in none that is read.

    `at` covers the address. Memory without a file above a file's last page may be its zeros (.bss).
    """
    if at.path is not None and at.kind in OF_FILES:
        elf = elf_of(at)
        own = None if elf is None else place_in_elf(elf, at, address, page=page, lookup=lookup)
        return None if own is None else (own, at)
    if at.path is not None or at.kind not in (Kind.ANONYMOUS, Kind.HEAP) or at.start == 0:
        return None
    below = lookup(at.start - 1)
    if below is None or below.path is None or below.kind not in OF_FILES or (elf := elf_of(below)) is None:
        return None
    last = place_in_elf(elf, below, below.end - 1, page=page, lookup=lookup)
    own = None if last is None else place_in_bss(elf, below.end - 1 - last, address)
    return None if own is None else (own, below)


class Places:
    """The same for many addresses: most regions show one segment, so what is true at both ends is within."""

    def __init__(self, *, elf_of: ElfOf, lookup: Lookup, page: int) -> None:
        self._elf_of, self._lookup, self._page = elf_of, lookup, page
        self._shifts: dict[int, int | None] = {}

    def shift(self, at: Region) -> int | None:
        """From an address in a region to that in its file, where it is the same for the whole region."""
        if at.start not in self._shifts:
            self._shifts[at.start] = self._shift(at)
        return self._shifts[at.start]

    def of(self, address: int, at: Region) -> tuple[int, Region] | None:
        """See `elf_place`."""
        shift = self.shift(at)
        if shift is not None:
            return address + shift, at
        return elf_place(address, at, elf_of=self._elf_of, lookup=self._lookup, page=self._page)

    def _shift(self, at: Region) -> int | None:
        if at.path is None or at.kind not in OF_FILES:
            return None
        ends = [
            elf_place(address, at, elf_of=self._elf_of, lookup=self._lookup, page=self._page)
            for address in (at.start, at.end - 1)
        ]
        first, last = ends
        if first is None or last is None or last[0] - first[0] != at.end - 1 - at.start:
            return None
        return first[0] - at.start
