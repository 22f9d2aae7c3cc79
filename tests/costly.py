"""Streams of captures that were made to cost (`test_cost_of_captures.py`). Without pytest: programs import it, too."""

from __future__ import annotations

import functools
import struct
from pathlib import Path

import vmatlas
from vmatlas import Capture, registry
from vmatlas.conformance.thorough import THOROUGH
from vmatlas.systems.linux import procmap as vmas
from vmatlas_qnx import layout as entries

HERE = Path(__file__).parents[1]
SIZE = (2 << 20) if THOROUGH else (256 << 10)
"""Bytes of a stream; whatever does not grow with it shows up in the multiple."""
MULTIPLE = 24
"""How many bytes of memory one byte of a stream may cost. The dearest took 16: short lines, by Python alone."""
BASE = 24 * SIZE

STREAMS = {
    "linux-procfs": ("maps", "smaps", "links", "unsettled", "mounted"),
    "linux-ioctl": ("vmas", "links", "unsettled", "mounted"),
    "freebsd-sysctl": ("vmmap",),
    "freebsd-procfs": ("map",),
    "netbsd-map": ("map",),
    "qnx-mapinfo": ("mapinfo", "mapdebug"),
    "qnx-pagedata": ("pagedata", "mapdebug"),
}
"""The streams of each backend that grow with the map."""


@functools.cache
def base_of(backend: str) -> Capture:
    """A capture of that backend: a recorded one, or one of nothing."""
    folders = [HERE / "tests/captures", *sorted(HERE.glob("platforms/*/tests/captures"))]
    for path in sorted(file for folder in folders for file in folder.rglob("*.*")):
        if path.suffix in (".zip", ".vmatlas"):
            found = Capture.load(path)
            if found.backend == backend and found.streams.get(STREAMS[backend][0]):
                return found
    distribution = registry.backend(backend).distribution
    system = vmatlas.SystemInfo(backend.partition("-")[0], "9", "", "x86_64", "little", 64, 4096)
    return Capture({STREAMS[backend][0]: b""}, system, 7, backend, distribution, vmatlas.Query(), 0.0)


def lines(stream: str, number: int) -> bytes:
    """Text of regions that follow one another, each with a file of its own; small, so that they are many."""
    if stream == "maps":
        return b"".join(b"%x-%x r-xp 0 0:1 %d\n" % (2 * n, 2 * n + 1, n) for n in range(1, number))
    if stream == "smaps":
        return b"".join(b"%x-%x r-xp 0 0:1 %d\nRss: %d kB\n" % (2 * n, 2 * n + 1, n, n) for n in range(1, number))
    if stream == "links":
        return b"".join(b"1%d x\0" % n for n in range(number))
    if stream == "unsettled":
        return b"".join(b"%d x\0" % n for n in range(number))
    if stream == "mounted":
        return b"".join(b"1 %d:0\0" % n for n in range(number))
    if stream == "vmas":
        given = {"size": vmas.SIZE, "vma_flags": 5}
        kinds = "<" + "".join(kind for _, kind, _ in vmas.FIELDS)
        assert struct.calcsize(kinds) == vmas.SIZE
        names = [name for name, _, _ in vmas.FIELDS]
        changing = [{"vma_start": 2 * n, "vma_end": 2 * n + 1, "inode": n} for n in range(1, SIZE // vmas.SIZE)]
        return b"".join(struct.pack(kinds, *[(given | each).get(name, 0) for name in names]) for each in changing)
    if stream in ("mapinfo", "pagedata"):
        many = range(1, SIZE // entries.ENTRY)
        return b"".join(
            entries.pack_entry(entries.Entry(n << 13, 1 << 12, n << 8 & 0xFFFF00, 2, n, 0, n), "little") for n in many
        )
    return b""


def costly(stream: str) -> list[tuple[str, bytes]]:
    """Streams of SIZE bytes that were made to cost."""
    found = [(f"all {byte:#04x}", bytes([byte]) * SIZE) for byte in (0, 1, 10, 32, 48, 0x7F, 0xFF)]
    for backend, names in STREAMS.items():
        if stream in names and (recorded := base_of(backend).streams.get(stream)):
            many = recorded * (SIZE // len(recorded))
            first = recorded[: recorded.find(b"\n") + 1] or recorded[:64]
            found += [
                ("the same again and again", many),
                ("damaged at its end", many[:-40] + b"\xff" * 40),
                ("one line again and again", first * (SIZE // len(first))),
            ]
    if text := lines(stream, SIZE // 40):
        found += [("many small", text), ("many small, damaged at the end", text[:-1] + b"?")]
    found.append(("no line ends", b"1000-2000 r-xp 0 0:0 0 /" + b"a" * SIZE))
    return found
