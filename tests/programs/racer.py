"""Changes its memory without pause: splits, merges, unmaps, maps, grows and shrinks regions between others that stand
still, all over a map that is many pages of text long, so that each seam between two reads has changes on both sides.

    python racer.py SEED

Says where it works (a line of JSON), then races until its standard input closes, and says how often it changed what.
The model is the kernel's own tools/testing/selftests/proc/proc-maps-race.c.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import select
import sys

PAGE = os.sysconf("SC_PAGESIZE")
READ, READ_WRITE, READ_EXECUTE = 1, 3, 5
PRIVATE, FIXED, ANONYMOUS, FIXED_NOREPLACE = 0x02, 0x10, 0x20, 0x100000
BASE = 0x200000000000
GROUPS = 400
STRIDE = 16  # pages from group to group

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]


def put(address: int, pages: int, protection: int, flags: int = FIXED) -> None:
    assert libc.mmap(address, pages * PAGE, protection, PRIVATE | ANONYMOUS | flags, -1, 0) == address


def protect(address: int, pages: int, protection: int) -> None:
    assert libc.mprotect(address, pages * PAGE, protection) == 0


# Each change is made and undone. A group: 2 pages that stand still (r--), 6 that race (rw-), 2 that stand still (r-x),
# and a hole of 6.
def split(at: int) -> None:
    protect(at + 2 * PAGE, 2, READ_EXECUTE)
    protect(at + 2 * PAGE, 2, READ_WRITE)


def split_in_two_and_move_the_seam(at: int) -> None:
    protect(at, 3, READ_EXECUTE)
    protect(at + PAGE, 2, READ_WRITE)
    protect(at + PAGE, 4, READ_EXECUTE)
    protect(at, 6, READ_WRITE)


def unmap_and_map(at: int) -> None:
    libc.munmap(at, 6 * PAGE)
    put(at, 6, READ_WRITE)


def shrink_and_grow(at: int) -> None:
    libc.munmap(at + 3 * PAGE, 3 * PAGE)
    put(at + 3 * PAGE, 3, READ_WRITE)


def shrink_and_grow_at_the_front(at: int) -> None:
    libc.munmap(at, 3 * PAGE)
    put(at, 3, READ_WRITE)


def map_in_the_hole(at: int) -> None:
    put(at + 9 * PAGE, 2, READ_WRITE)
    put(at + 11 * PAGE, 1, READ_WRITE)
    libc.munmap(at + 9 * PAGE, 3 * PAGE)


CHANGES = [
    split, split_in_two_and_move_the_seam, unmap_and_map, shrink_and_grow, shrink_and_grow_at_the_front,
    map_in_the_hole,
]  # fmt: skip


def main() -> None:
    libc.prctl(1, 9, 0, 0, 0)
    rng = random.Random(int(sys.argv[1]))
    still, racing = [], []
    for group in range(GROUPS):
        start = BASE + group * STRIDE * PAGE
        put(start, 2, READ, FIXED_NOREPLACE)
        put(start + 2 * PAGE, 6, READ_WRITE, FIXED_NOREPLACE)
        put(start + 8 * PAGE, 2, READ_EXECUTE, FIXED_NOREPLACE)
        still += [(start, start + 2 * PAGE, READ), (start + 8 * PAGE, start + 10 * PAGE, READ_EXECUTE)]
        racing.append(start + 2 * PAGE)
    print(json.dumps({"still": still, "racing": racing, "page": PAGE}), flush=True)
    count = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        for _ in range(1000):
            rng.choice(CHANGES)(rng.choice(racing))
        count += 1000
    print(count, flush=True)


if __name__ == "__main__":
    main()
