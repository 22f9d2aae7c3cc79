#!/usr/bin/env bash
# Linux (seen on 6.18): the bounds that /proc/PID/maps shows are no name in /proc/PID/map_files where the address is low.
#
# Expected: proc_pid_map_files(5) calls its entries START-END, as maps writes them, so the one opens the other.
# Seen on 2026-11-29: maps pads to eight digits, map_files has no padding and refuses it: below 0x10000000 the bounds of the
# text are ENOENT, and the same numbers without the zeros are there.
set -euo pipefail
python3 - <<'P'
import ctypes
import os
import sys

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
descriptor = os.open(sys.executable, os.O_RDONLY)
PROT_READ, MAP_PRIVATE_FIXED_NOREPLACE = 1, 0x100002
assert libc.mmap(0x100000, 4096, PROT_READ, MAP_PRIVATE_FIXED_NOREPLACE, descriptor, 0) == 0x100000
bounds = next(line.split()[0] for line in open("/proc/self/maps") if int(line.split("-")[0], 16) == 0x100000)
bare = "-".join(f"{int(each, 16):x}" for each in bounds.split("-"))


def is_there(name):
    try:
        return bool(os.readlink(f"/proc/self/map_files/{name}"))
    except FileNotFoundError:
        return False


print(os.uname().release)
for name in (bounds, bare):
    print(name, "is there" if is_there(name) else "ENOENT")
sys.exit(not (bounds == "00100000-00101000" and not is_there(bounds) and is_there(bare)))
P
