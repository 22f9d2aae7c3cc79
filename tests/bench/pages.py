"""A process with known pages: `python pages.py touched | striped | reserved | threads`. It ends when its input ends.

`touched`: 1 GiB of pages that were all written; `striped`: the same, every second one; `reserved`: 1 TiB of which four
pages were written; `threads`: 500 threads. No huge pages. Says where: two addresses.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import threading

GIB, TIB = 1 << 30, 1 << 40
NORESERVE, NOHUGEPAGE = 0x4000, 15
THREADS = 500


def lay(size: int) -> tuple[mmap.mmap, int]:
    """Private memory without huge pages, and where it lies."""
    made = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(made))
    ctypes.CDLL(None).madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), NOHUGEPAGE)
    return made, address


def main() -> None:
    how = sys.argv[1]
    page = mmap.PAGESIZE
    size = {"touched": GIB, "striped": GIB, "reserved": TIB, "threads": page}[how]
    made, address = lay(size)
    if how == "reserved":
        at = [0, size // 3 // page * page, size // 2, size - page]
    else:
        at = list(range(0, size, page if how != "striped" else 2 * page))
    for place in at:
        made[place] = 1
    if how == "threads":
        end = threading.Event()
        for _ in range(THREADS):
            threading.Thread(target=end.wait, daemon=True).start()
    print(address, address + size, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
