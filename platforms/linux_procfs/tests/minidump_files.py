"""Minidumps for tests: those in the folder `cores`, and some that are made to have one trait."""

from __future__ import annotations

import lzma
import struct
from collections.abc import Sequence

from .core_files import CORES

MAPS = b"""00400000-00401000 r-xp 00001000 08:01 77                         /bin/x
00600000-00601000 rw-p 00000000 00:00 0                          [heap]
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]
"""
LINUX, MACOS, WINDOWS = 0x8201, 0x8101, 2
AMD64, X86, ARM, ARM64 = 9, 0, 5, 12
REGISTERS = {AMD64: (0x98, 0xF8, 8), X86: (0xC4, 0xB8, 4), ARM: (0x38, 0x40, 4), ARM64: (0x100, 0x108, 8)}
STATUS = b"Name:\tx\nTgid:\t42\nPid:\t43\n"
_HEADER = 32


def recorded(name: str) -> bytes:
    """One that a program wrote."""
    return lzma.decompress((CORES / f"{name}.dmp.xz").read_bytes())


def memory_info(entries: Sequence[tuple[int, int, int, int]]) -> bytes:
    """A list of memory: start, size, protection, type."""
    told = struct.pack("<IIQ", 16, 48, len(entries))
    for start, size, protection, kind in entries:
        told += struct.pack("<QQIIQIIII", start, start, protection, 0, size, 0x1000, protection, kind, 0)
    return told


class Dump:
    """A minidump that is being made: streams, and what they point to."""

    def __init__(self, *, platform: int = LINUX, processor: int = AMD64) -> None:
        self.streams: list[tuple[int, bytes]] = []
        self._more = bytearray()
        self._processor = processor
        self.stream(7, struct.pack("<H18xI32x", processor, platform))

    def stream(self, kind: int, content: bytes) -> Dump:
        """One more, of any type."""
        self.streams.append((kind, content))
        return self

    def place(self, content: bytes) -> int:
        """Bytes that a stream points to, before all streams."""
        at = _HEADER + len(self._more)
        self._more += content
        return at

    def context(self, pointer: int, counter: int) -> tuple[int, int]:
        """Size and place of a context of registers."""
        pointer_at, counter_at, size = REGISTERS[self._processor]
        content = bytearray(1232)
        content[pointer_at : pointer_at + size] = pointer.to_bytes(size, "little")
        content[counter_at : counter_at + size] = counter.to_bytes(size, "little")
        return len(content), self.place(bytes(content))

    def threads(self, *told: tuple[int, int, int]) -> Dump:
        """Number, stack pointer, program counter of each."""
        content = struct.pack("<I", len(told))
        for number, pointer, counter in told:
            content += struct.pack("<I36xII", number, *self.context(pointer, counter))
        return self.stream(3, content)

    def exception(self, thread: int, signal: int, code: int, address: int, at: tuple[int, int] = (0, 0)) -> Dump:
        """`at`: stack pointer and program counter."""
        content = struct.pack("<IIIIQQ", thread, 0, signal & 0xFFFFFFFF, code & 0xFFFFFFFF, 0, address).ljust(
            160, b"\0"
        )
        return self.stream(6, content + struct.pack("<II", *(self.context(*at) if any(at) else (0, 0))))

    def modules(self, *told: tuple[int, int, str, bytes]) -> Dump:
        """Start, size, name, build id of each."""
        content = struct.pack("<I", len(told))
        for start, size, name, build_id in told:
            text = name.encode("utf-16-le")
            named = self.place(struct.pack("<I", len(text)) + text + b"\0\0")
            record = b"LEpB" + build_id
            content += (struct.pack("<QIIII", start, size, 0, 0, named) + bytes(52) +
                        struct.pack("<II", len(record), self.place(record))).ljust(108, b"\0")  # fmt: skip
        return self.stream(4, content)

    def made(self, *, time: int = 1_700_000_000) -> bytes:
        """The file."""
        at = _HEADER + len(self._more)
        directory, contents = b"", b""
        first = at + 12 * len(self.streams)
        for kind, content in self.streams:
            directory += struct.pack("<III", kind, len(content), first + len(contents))
            contents += content
        head = struct.pack("<4sIIIIIQ", b"MDMP", 0xA793, len(self.streams), at, 0, time, 0)
        return head + bytes(self._more) + directory + contents


def whole(processor: int = AMD64) -> Dump:
    """One as Breakpad writes it, of a crash at 0x18."""
    dump = Dump(processor=processor).threads((42, 0x600C00, 1), (43, 0x600800, 0x400020))
    vector = struct.pack("<QQQQ" if processor in (AMD64, ARM64) else "<IIII", 6, 0x1000, 0, 0)
    dump.exception(43, 11, 1, 0x18, (0x600100, 0x400123)).stream(0x47670004, STATUS).stream(0x47670008, vector)
    return (
        dump.stream(0x47670009, MAPS)
        .stream(0x47670006, b"/bin/x\0-v\0")
        .modules((0x400000, 0x1000, "/bin/x", b"\1\2\3"))
    )
