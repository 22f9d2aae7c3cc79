"""Core files for tests: those in the folder `cores`, and some that are made to have one trait."""

from __future__ import annotations

import lzma
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import vmatlas
from vmatlas import AddressSpace, Capture, Consistency, Query, SystemInfo

CORES = Path(__file__).parent / "cores"
PAGE = 4096


def saved(name: str, folder: Path) -> Path:
    """One of the recorded ones, as it was. The memory in it is a hole."""
    content = lzma.decompress((CORES / f"{name}.core.xz").read_bytes())
    path = folder / f"{name}.core"
    end = len(content.rstrip(b"\0"))
    with path.open("wb") as file:
        file.write(content[:end])
        file.truncate(len(content))
    return path


def truth(name: str) -> AddressSpace:
    """The map of the process just before it crashed."""
    return of_text((CORES / f"{name}.maps").read_bytes())


def of_text(maps: bytes) -> AddressSpace:
    """What the text of /proc/PID/maps alone tells."""
    system = SystemInfo("linux", "6.18.5", "", "x86_64", "little", 64, PAGE)
    return vmatlas.replay(
        Capture(
            {"maps": maps},
            system,
            1,
            "linux-procfs",
            "vmatlas-linux-procfs",
            Query(),
            0.0,
            consistency=Consistency.FROZEN,
        )
    )


class Load(NamedTuple):
    """Memory that a made core tells of."""

    start: int
    size: int
    flags: int = 6
    offset: int = 0
    file_size: int = 0


class Made(NamedTuple):
    """How a core is made: which processor's, of which word size and byte order."""

    bits: int = 64
    mark: str = "<"
    machine: int = 62

    def note(self, kind: int, content: bytes, name: bytes = b"CORE\0") -> bytes:
        """One note, padded as all are."""
        words = struct.pack(self.mark + "III", len(name), len(content), kind)
        return words + name + bytes(-len(name) % 4) + content + bytes(-len(content) % 4)

    def files(self, entries: Sequence[tuple[int, int, int, bytes]], page: int = PAGE, width: int = 0) -> bytes:
        """NT_FILE; the offsets in pages."""
        letter = "Q" if (width or self.bits) == 64 else "I"
        numbers = [len(entries), page, *(number for entry in entries for number in entry[:3])]
        words = struct.pack(f"{self.mark}{len(numbers)}{letter}", *numbers)
        return self.note(0x46494C45, words + b"".join(entry[3] + b"\0" for entry in entries))

    def status(self, thread: int = 7, signal: int = 11) -> bytes:
        """NT_PRSTATUS, whose registers are numbered from 0x1000 on."""
        at, size = (112, 8) if self.bits == 64 else (72, 4)
        content = bytearray(at + 80 * size)
        struct.pack_into(self.mark + "iiih", content, 0, signal, 0, 0, signal)
        struct.pack_into(self.mark + "i", content, 32 if self.bits == 64 else 24, thread)
        letter = "Q" if size == 8 else "I"
        struct.pack_into(f"{self.mark}80{letter}", content, at, *range(0x1000, 0x1050))
        return self.note(1, bytes(content))

    def psinfo(self, pid: int = 7, name: bytes = b"program", words: bytes = b"program -x ") -> bytes:
        """NT_PRPSINFO."""
        content = bytearray(136 if self.bits == 64 else 124)
        content[1] = ord("R")
        struct.pack_into(self.mark + "i", content, len(content) - 112, pid)
        content[-96:] = name.ljust(16, b"\0") + words.ljust(80, b"\0")
        return self.note(3, bytes(content))

    def auxv(self, **values: int) -> bytes:
        """NT_AUXV: `phdr`, `pagesz`, `random`, `execfn`, `sysinfo_ehdr`."""
        keys = {"phdr": 3, "pagesz": 6, "random": 25, "execfn": 31, "sysinfo_ehdr": 33}
        pairs = [(keys[key], value) for key, value in values.items()] + [(0, 0)]
        letter = "QQ" if self.bits == 64 else "II"
        return self.note(6, b"".join(struct.pack(self.mark + letter, *pair) for pair in pairs))

    def siginfo(self, signal: int, code: int, address: int) -> bytes:
        """NT_SIGINFO."""
        content = bytearray(128)
        second, third = (code, 0) if self.machine == 8 else (0, code)
        struct.pack_into(self.mark + "iii", content, 0, signal, second, third)
        wide = self.bits == 64
        struct.pack_into(self.mark + ("Q" if wide else "I"), content, 16 if wide else 12, address)
        return self.note(0x53494749, bytes(content))

    def core(self, loads: Sequence[Load], notes: bytes, *, section: bool = True) -> bytes:
        """The whole file; of many program headers with the section that has their number, at the end."""
        header, entry = (64, 56) if self.bits == 64 else (52, 32)
        count = len(loads) + 1
        notes_at = header + count * entry
        many = count >= 0xFFFF
        end = notes_at + len(notes)
        phdrs = [self._phdr(4, 0, notes_at, 0, len(notes), 0)]
        phdrs += [self._phdr(1, load.flags, load.offset, load.start, load.file_size, load.size) for load in loads]
        ident = b"\x7fELF" + bytes((self.bits // 32, 1 if self.mark == "<" else 2, 1)) + bytes(9)
        layout = self.mark + ("HHIQQQIHHHHHH" if self.bits == 64 else "HHIIIIIHHHHHH")
        sections_at = end if many and section else 0
        fields = (4, self.machine, 1, 0, header, sections_at, 0, header, entry, min(count, 0xFFFF), 64, int(many), 0)
        told = b""
        if sections_at:
            told = bytes(44 if self.bits == 64 else 28) + struct.pack(self.mark + "I", count) + bytes(16)
        return ident + struct.pack(layout, *fields) + b"".join(phdrs) + notes + told

    def _phdr(self, kind: int, flags: int, offset: int, start: int, file_size: int, size: int) -> bytes:
        if self.bits == 64:
            return struct.pack(self.mark + "IIQQQQQQ", kind, flags, offset, start, 0, file_size, size, PAGE)
        return struct.pack(self.mark + "IIIIIIII", kind, offset, start, 0, file_size, size, flags, PAGE)
