#!/usr/bin/env bash
# Linux (seen on 6.18): mremap of half of a hugetlb page moves the whole page, over what lies behind the new place.
#
# Expected: mremap(2) with a size that is no multiple of the huge page is refused, as mprotect and munmap refuse it (EINVAL);
# or else it takes no more of the new place than the size that was given.
# Seen on 2026-11-30: it succeeds where the new place begins as a huge page does; both sizes are made whole huge pages first, and a
# mapping that lay behind the size that was given is gone, without an error.
# Needs root (it reserves one huge page of 2 MiB for the moment) and x86-64.
set -euo pipefail
python3 - <<'P'
import ctypes
import os
import sys

HUGE, PAGE = 2 << 20, 4096
READ_WRITE, PRIVATE_ANONYMOUS, HUGETLB, FIXED_NOREPLACE = 3, 0x22, 0x40000, 0x100000
MAYMOVE_FIXED = 3
POOL = "/proc/sys/vm/nr_hugepages"

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

with open(POOL) as pool:
    kept = int(pool.read())
with open(POOL, "w") as pool:
    pool.write(str(kept + 1))
try:
    huge = libc.mmap(None, HUGE, READ_WRITE, PRIVATE_ANONYMOUS | HUGETLB, -1, 0)
    assert huge not in (None, 2**64 - 1), "no huge page of 2 MiB could be reserved"
    room = libc.mmap(None, 3 * HUGE, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0)
    place = -(-room // HUGE) * HUGE
    libc.munmap(room, 3 * HUGE)
    half = HUGE // 2
    behind = libc.mmap(place + half, PAGE, READ_WRITE, PRIVATE_ANONYMOUS | FIXED_NOREPLACE, -1, 0)
    assert behind == place + half
    ctypes.memmove(behind, b"mine", 4)
    refused = libc.mprotect(huge, half, 1) == -1
    moved = libc.mremap(huge, half, half, MAYMOVE_FIXED, place)
    left = ctypes.string_at(behind, 4)
    libc.munmap(place, HUGE)
finally:
    with open(POOL, "w") as pool:
        pool.write(str(kept))
print(os.uname().release)
print("mprotect of half of the page:", "refused" if refused else "done")
print("mremap of half of the page:", "done" if moved == place else "refused")
print("what lay behind the new place:", left)
sys.exit(not (refused and moved == place and left != b"mine"))
P
