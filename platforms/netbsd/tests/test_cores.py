"""Core files of NetBSD: made by the layout of sys/sys/exec_elf.h and of two real files (amd64, aarch64)."""

from __future__ import annotations

import struct

import pytest

import vmatlas
from vmatlas import Capture, Consistency, Kind, remains
from vmatlas.conformance.made_core import made_core, note
from vmatlas_netbsd import BACKEND


def procinfo(signal: int, mark: str = "<") -> bytes:
    content = bytearray(160)
    struct.pack_into(mark + "iii", content, 0, 1, 160, signal)
    struct.pack_into(mark + "ii", content, 80, 77, 1)
    content[124:130] = b"mapper"
    struct.pack_into(mark + "i", content, 156, 2)
    return note(b"NetBSD-CORE", 1, bytes(content), mark)


def core(mark: str = "<", bits: int = 64, signal: int = 11) -> bytes:
    words = "QQQQ" if bits == 64 else "IIII"
    notes = procinfo(signal, mark) + note(b"NetBSD-CORE", 2, struct.pack(mark + words, 6, 8192, 0, 0), mark)
    notes += b"".join(note(b"NetBSD-CORE@%d" % each, 0x21, bytes(16), mark) for each in (1, 2, 3))
    loads = [(0x400000, 0x1000, 5), (0x401000, 0x1000, 0), (0x402000, 0x2000, 6)]
    return made_core(loads, notes, mark=mark, bits=bits, notes_last=True)


def capture_of(content: bytes) -> Capture:
    found = remains.read_bytes(content, "core", 0.0)
    assert found is not None
    return found


@pytest.mark.parametrize(("mark", "bits"), [("<", 64), (">", 64), ("<", 32), (">", 32)])
def test_regions_and_rights_of_a_core_whose_notes_stand_last(mark: str, bits: int) -> None:
    space = vmatlas.replay(capture_of(core(mark, bits)))
    assert [(each.start, each.end, each.permissions, each.kind) for each in space] == [
        (0x400000, 0x401000, "r-x?", Kind.OTHER),
        (0x401000, 0x402000, "---?", Kind.OTHER),
        (0x402000, 0x404000, "rw-?", Kind.OTHER),
    ]
    assert {(each.path, each.offset, each.inode) for each in space} == {(None, None, None)}
    assert (space.pid, space.origin.name, space.system.page_size) == (77, "mapper", 8192)
    assert (space.consistency, space.system.pointer_width) == (Consistency.FROZEN, bits)
    assert "neither names, nor offsets" in (space.incomplete or "")


def test_thread_that_the_signal_went_to_is_the_first() -> None:
    crash = BACKEND.crash(capture_of(core()))
    assert (crash.signal_name, [each.number for each in crash.threads]) == ("SIGSEGV", [2, 1, 3])
    assert (crash.fault_address, crash.program) == (None, "mapper")
    assert BACKEND.crash(capture_of(core(signal=0))).signal is None


def openbsd(mark: str = "<") -> bytes:
    content = bytearray(104)
    struct.pack_into(mark + "iii", content, 0, 1, 104, 11)
    struct.pack_into(mark + "i", content, 32, 88)
    content[72:76] = b"true"
    notes = note(b"OpenBSD", 10, bytes(content), mark)
    notes += note(b"OpenBSD", 11, struct.pack(mark + "QQQQ", 6, 8192, 0, 0), mark)
    notes += b"".join(note(b"OpenBSD@%d" % each, 0x14, bytes(16), mark) for each in (1001, 1002))
    loads = [(0x2000, 0x1000, 6), (0x3000, 0x2000, 6), (0x5000, 0x1000, 4), (0x8000, 0x1000, 6)]
    return made_core(loads, notes, mark=mark, notes_last=True)


@pytest.mark.parametrize("mark", ["<", ">"])
def test_pieces_of_one_region_in_a_core_of_openbsd_are_joined(mark: str) -> None:
    space = vmatlas.replay(capture_of(openbsd(mark)))
    assert [(each.start, each.end, each.permissions) for each in space] == [
        (0x2000, 0x5000, "rw-?"),
        (0x5000, 0x6000, "r--?"),
        (0x8000, 0x9000, "rw-?"),
    ]
    assert (space.pid, space.origin.name, space.system.page_size, space.system.system) == (88, "true", 8192, "openbsd")
    assert "leaves out what was not written to" in (space.incomplete or "")
    crash = BACKEND.crash(capture_of(openbsd(mark)))
    assert (crash.signal_name, [each.number for each in crash.threads]) == ("SIGSEGV", [1001, 1002])
