"""Reads its own map when told to, with memory of as many regions as wanted.

    python self_reader.py REGIONS

Commands on standard input: `read BACKEND maps|smaps|iterate`, answered with what it saw (a line of JSON: start, end,
permissions, label), and `two-threads BACKEND`: the same while another thread reads all the time.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
import threading

import vmatlas

PAGE = os.sysconf("SC_PAGESIZE")
BASE = 0x200000000000

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]


def make_regions(count: int) -> None:
    assert libc.mmap(BASE, count * PAGE, 1, 0x100022, -1, 0) == BASE  # private, anonymous, nothing replaced
    for page in range(0, count, 2):
        assert libc.mprotect(BASE + page * PAGE, PAGE, 3) == 0


def seen(backend: str, how: str) -> list[tuple[int, int, str, str]]:
    if how == "iterate":
        found = list(vmatlas.iterate(backend=backend))
    else:
        found = list(vmatlas.snapshot(backend=backend, residency=how == "smaps"))
    return [(region.start, region.end, region.permissions, region.label) for region in found]


def seen_beside_another_reader(backend: str) -> list[tuple[int, int, str, str]]:
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            vmatlas.snapshot(backend=backend)

    thread = threading.Thread(target=read)
    thread.start()
    found = {region for _ in range(20) for region in seen(backend, "maps")}
    done.set()
    thread.join()
    return sorted(found)


def main() -> None:
    libc.prctl(1, 9, 0, 0, 0)
    make_regions(int(sys.argv[1]))
    for backend in sys.argv[2:]:
        with contextlib.suppress(vmatlas.Unsupported):  # what is imported on first use is there from now on
            vmatlas.snapshot(backend=backend, residency=True)
        vmatlas.snapshot(backend=backend)
    print("ready", flush=True)
    for line in sys.stdin:
        word, *arguments = line.split()
        answer = seen(*arguments) if word == "read" else seen_beside_another_reader(*arguments)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
