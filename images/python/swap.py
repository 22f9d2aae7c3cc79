"""Gives a Linux guest a swap area in compressed memory (zram), for what is told of pages that are not in memory.

It runs as root, before the tests. Where the kernel has no zram it says so, and the tests that need swap then say that
they were not run. The header is that of mkswap(8): version 1, the number of the last
page, and a mark at the end of the first page.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys
from pathlib import Path

SIZE = 64 << 20
DEVICE = Path("/dev/zram0")
MARK = b"SWAPSPACE2"

_libc = ctypes.CDLL(None, use_errno=True)


def mounted(kind: str, folder: Path) -> None:
    """mount(2) of a file system of the kernel's own, unless it is there. Raises OSError."""
    if any(line.split()[1] == str(folder) for line in Path("/proc/mounts").read_text().splitlines()):
        return
    folder.mkdir(exist_ok=True)
    if _libc.mount(kind.encode(), os.fsencode(folder), kind.encode(), 0, None) != 0:
        raise OSError(ctypes.get_errno(), f"mounting {kind}")


def made(settings: Path) -> None:
    """Give the device its size: by the kernel's usual way to compress, or where that is not built in (Debian's 6.1 for
    clouds) by the first that is. Raises OSError."""
    named = (settings / "comp_algorithm").read_text().replace("[", "").replace("]", "").split()
    refused: OSError | None = None
    for each in (None, *named):
        try:
            if each is not None:
                (settings / "comp_algorithm").write_text(each)
            (settings / "disksize").write_text(str(SIZE))
            return
        except OSError as error:
            refused = refused or error
    assert refused is not None
    raise refused


def main() -> None:
    """Make it, and switch it on. Raises OSError."""
    mounted("sysfs", Path("/sys"))
    settings = Path("/sys/block/zram0")
    if not settings.is_dir():
        sys.stdout.write("no swap: this kernel has no zram device\n")
        return
    made(settings)
    if not DEVICE.exists():
        major, minor = map(int, (settings / "dev").read_text().split(":"))
        os.mknod(DEVICE, stat.S_IFBLK | 0o600, os.makedev(major, minor))
    page = os.sysconf("SC_PAGE_SIZE")
    header = bytearray(page)
    struct.pack_into("=III", header, 1024, 1, SIZE // page - 1, 0)
    header[-len(MARK) :] = MARK
    with DEVICE.open("r+b", buffering=0) as device:
        device.write(header)
        os.fsync(device.fileno())
    if _libc.swapon(os.fsencode(DEVICE), 0) != 0:
        raise OSError(ctypes.get_errno(), f"swapon {DEVICE}")
    sys.stdout.write(Path("/proc/swaps").read_text())


if __name__ == "__main__":
    main()
