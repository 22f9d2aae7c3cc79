"""What a QNX process left, or somebody saved of it: cores by the source of its dumper, pmap by its documentation."""

from __future__ import annotations

import struct

import pytest

import vmatlas
from vmatlas import Capture, Kind, MalformedData, Protection, Unsupported, remains
from vmatlas.conformance.made_core import made_core, note
from vmatlas_qnx import MAPINFO

from .test_replay import FOLDER

PMAP = b"""vaddr,size,flags,prot,maxprot,dev,ino,offset,rsv,guardsize,refcnt,mapcnt,path
0x0000000000010000,0x0000000000080000,0x00081082,0x03,0x0f,0x00000001,0x0,0x0,0x80000,0x1000,0x1,0x1,
0x00000000001a0000,0x0000000000004000,0x00010071,0x05,0x0d,0x0000040c,0x2,0x1000,0x0,0x0,0x2,0x2,/proc/boot/x,y
0x00000000001a4000,0x0000000000001000,0x00000072,0x03,0x0f,0x0000040c,0x2,0x5000,0x1000,0x0,0x1,0x1,/proc/boot/x,y
0x0000000000200000,0x0000000000002000,0x00000041,0x03,0x0f,0x00000001,0x9,0x0,0x2000,0x0,0x2,0x2,/dev/shmem/q
0x0000000000300000,0x0000000000001000,0x00080002,0x00,0x0f,0x00000001,0x0,0x0,0x1000,0x0,0x1,0x1,
"""


def capture_of(content: bytes, *, lenient: bool = False) -> Capture:
    found = remains.read_bytes(content, "text", 0.0, lenient=lenient)
    assert found is not None
    return found


def status(thread: int, flags: int, signal: int) -> bytes:
    return note(b"QNX", 8, struct.pack("<iiIhh", 40964, thread, flags, 0, signal).ljust(96, b"\0"))


def test_core_of_qnx_tells_ranges_and_no_rights() -> None:
    """Its dumper writes rw for everything, and x for all of an ELF file."""
    loads = [(0x8048000, 0x2000, 7), (0xB0300000, 0x1000, 6)]
    content = made_core(loads, status(1, 0, 0) + status(2, 0x80, 11), bits=32, machine=3)
    space = vmatlas.replay(capture_of(content))
    assert [(each.start, each.end, each.protection, each.shared) for each in space] == [
        (0x8048000, 0x804A000, Protection.UNTOLD, None),
        (0xB0300000, 0xB0301000, Protection.UNTOLD, None),
    ]
    assert (space.pid, space.system.machine) == (40964, "x86")
    assert "neither rights, nor names" in (space.incomplete or "")
    crash = MAPINFO.crash(capture_of(content))
    assert (crash.signal_name, [each.number for each in crash.threads]) == ("SIGSEGV", [2, 1])


def test_text_of_pmap_is_read_by_the_names_of_its_columns() -> None:
    for text in (PMAP, PMAP.replace(b"\n", b"\r\n"), b"# cat /proc/40964/pmap\n" + PMAP):
        space = vmatlas.replay(capture_of(text, lenient=text.startswith(b"#")))
        assert [(each.start, each.size, each.permissions, each.kind, each.path, each.offset) for each in space] == [
            (0x10000, 0x80000, "rw-p", Kind.STACK, None, None),
            (0x1A0000, 0x4000, "r-xs", Kind.FILE, "/proc/boot/x,y", 0x1000),
            (0x1A4000, 0x1000, "rw-p", Kind.FILE, "/proc/boot/x,y", 0x5000),
            (0x200000, 0x2000, "rw-s", Kind.SHARED_MEMORY, "/dev/shmem/q", 0),
            (0x300000, 0x1000, "---p", Kind.GUARD, None, None),
        ]
    assert "neither whose it is" in (space.incomplete or "")


def test_odd_line_of_pmap_is_an_error_with_the_byte_or_counted() -> None:
    odd = PMAP.replace(b"0x0000000000200000", b"-- more --\n0x0000000000200000")
    with pytest.raises(MalformedData) as refused:
        capture_of(odd)
    assert refused.value.offset == odd.index(b"-- more")
    capture = capture_of(odd, lenient=True)
    assert "1 odd line was passed over (the first: line 5)" in (capture.incomplete or "")
    assert len(vmatlas.replay(capture)) == 5
    with pytest.raises(MalformedData, match="a column path"):
        capture_of(b"vaddr,size,flags,prot,offset\n")


def test_what_pidin_mem_prints_is_no_map() -> None:
    with pytest.raises(Unsupported, match="sizes, and no map") as refused:
        capture_of((FOLDER / "pidin_mem.txt").read_bytes())
    assert "/proc/PID/pmap" in (refused.value.hint or "")
