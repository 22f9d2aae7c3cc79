"""A process with a known number of regions: `python child.py COUNT`. It ends when its input ends.

A third of them is file-backed, at offsets that all differ, so that no reader lives on repeated lines; the others are
anonymous, readable or writable in turn.
"""

from __future__ import annotations

import ctypes
import os
import sys

PAGE = os.sysconf("SC_PAGESIZE")
PRIVATE, FIXED, ANONYMOUS = 0x02, 0x10, 0x20
NONE, READ, WRITE = 0, 1, 2


def count_regions() -> int:
    """How many this process has now, by the kernel's own text."""
    with open("/proc/self/maps", "rb") as file:
        return file.read().count(b"\n")


def make_regions(wanted: int) -> None:
    """So many has this process then."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]

    def place(address: int | None, size: int, protection: int, flags: int, file: int = -1, offset: int = 0) -> int:
        found = libc.mmap(address, size, protection, PRIVATE | flags, file, offset)
        if found == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), f"mmap of region {made} failed (see vm.max_map_count)")
        return found

    made = 0
    with open(sys.executable, "rb") as file:  # any file will do: its pages are mapped, and not touched
        block = place(None, (wanted + 2) * PAGE, NONE, ANONYMOUS)
        count_regions()  # once in vain: what the counting itself maps is there from here on
        missing = wanted - count_regions() - 1  # what is left of the block behind the last region is one, too
        for made in range(missing):
            address = block + (made + 1) * PAGE
            if made % 3 == 2:
                place(address, PAGE, READ, FIXED, file.fileno(), made * PAGE)
            else:
                place(address, PAGE, READ | WRITE * (made % 3), FIXED | ANONYMOUS)


def main() -> None:
    make_regions(int(sys.argv[1]))
    print(count_regions(), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
