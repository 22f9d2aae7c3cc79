"""Changes its memory without pause: splits, merges, unmaps, maps, grows and shrinks regions between others that stand
still, all over a map that is many pages of text long, so that each seam between two reads has changes on both sides.

    python racer.py SEED [anchored | pages]

Says where it works (a line of JSON), then races until its standard input closes, and says how often it changed what.
`anchored`: instead, memory that is mapped all the time, and that other threads split, merge and replace in place
without pause: no byte of it is ever missing from the map. `pages`: pages that were touched and stand still, and between
them memory that is mapped, touched, guarded and unmapped without pause.
The model is the kernel's own tools/testing/selftests/proc/proc-maps-race.c.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import select
import sys
import threading

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
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
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


# Anchored memory: blocks of pages, each for itself (a hole of a page lies behind it), always mapped from end to end.
ANCHORS, ANCHOR_PAGES = 24, 16


def split_and_merge(at: int, rng: random.Random) -> None:
    first = rng.randrange(ANCHOR_PAGES - 1)
    protect(at + first * PAGE, rng.randrange(1, ANCHOR_PAGES - first), READ)
    protect(at, ANCHOR_PAGES, READ_WRITE)


def split_everywhere_and_merge(at: int, rng: random.Random) -> None:
    for page in range(rng.randrange(2), ANCHOR_PAGES, 2):
        protect(at + page * PAGE, 1, READ)
    for page in rng.sample(range(ANCHOR_PAGES), ANCHOR_PAGES):
        protect(at + page * PAGE, 1, READ_WRITE)


def replace_in_place(at: int, rng: random.Random) -> None:
    """What mmap(MAP_FIXED) replaces is never unmapped for others to see: it is done under one lock."""
    first = rng.randrange(ANCHOR_PAGES - 1)
    put(at + first * PAGE, rng.randrange(1, ANCHOR_PAGES - first), rng.choice([READ, READ_WRITE, READ_EXECUTE]))
    put(at, ANCHOR_PAGES, READ_WRITE)


ANCHORED_CHANGES = [split_and_merge, split_everywhere_and_merge, replace_in_place]


def race_anchored(seed: int) -> None:
    """One thread changes half of the blocks, another the other half."""
    blocks = [BASE + block * (ANCHOR_PAGES + 1) * PAGE for block in range(ANCHORS)]
    for at in blocks:
        put(at, ANCHOR_PAGES, READ_WRITE, FIXED_NOREPLACE)
    counts = [0, 0]
    enough = threading.Event()

    def race(which: int) -> None:
        rng = random.Random(seed + which)
        while not enough.is_set():
            rng.choice(ANCHORED_CHANGES)(rng.choice(blocks[which::2]), rng)
            counts[which] += 1

    print(json.dumps({"anchored": [(at, at + ANCHOR_PAGES * PAGE) for at in blocks]}), flush=True)
    threads = [threading.Thread(target=race, args=(which,)) for which in range(len(counts))]
    for thread in threads:
        thread.start()
    sys.stdin.readline()
    enough.set()
    for thread in threads:
        thread.join()
    print(sum(counts), flush=True)


GUARD_INSTALL, DONTNEED = 102, 4
TROUPES, STILL, RACING = 40, 4, 8  # pages of each troupe; behind it a hole as large as both


def race_pages(seed: int) -> None:
    """Troupes: pages that stand still, then those that race, then a hole."""
    rng = random.Random(seed)
    size = (STILL + RACING) * PAGE
    blocks = [BASE + number * 2 * size for number in range(TROUPES)]
    for at in blocks:
        put(at, STILL + RACING, READ_WRITE, FIXED_NOREPLACE)
        for page in range(STILL):
            ctypes.memset(at + page * PAGE, 1, 1)
    told = {
        "still": [(at, at + STILL * PAGE) for at in blocks],
        "mapped": [(at, at + size) for at in blocks],
        "holes": [(at + size, at + 2 * size) for at in blocks],
    }
    print(json.dumps(told), flush=True)
    count = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        for _ in range(100):
            at = rng.choice(blocks) + STILL * PAGE
            for page in rng.sample(range(RACING), 4):
                ctypes.memset(at + page * PAGE, 1, 1)
            change = rng.randrange(3)
            if change == 0:
                libc.munmap(at, RACING * PAGE)
                put(at, RACING, READ_WRITE)
            elif change == 1:
                libc.madvise(at, rng.randrange(1, RACING) * PAGE, DONTNEED)
            else:
                libc.madvise(at, 2 * PAGE, GUARD_INSTALL)  # refused before Linux 6.13, which leaves all as it was
                put(at, RACING, READ_WRITE)
            count += 1
    print(count, flush=True)


def main() -> None:
    libc.prctl(1, 9, 0, 0, 0)
    if sys.argv[2:] == ["pages"]:
        race_pages(int(sys.argv[1]))
        return
    if sys.argv[2:] == ["anchored"]:
        race_anchored(int(sys.argv[1]))
        return
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
