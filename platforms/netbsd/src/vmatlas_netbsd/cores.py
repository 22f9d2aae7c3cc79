"""Core files of NetBSD processes: a capture of one, and what it decodes to. Pure.

Each region has its program header, with its rights, also what has none; of a region no more is in the file than up to
the last byte that is not zero. Names, offsets and what is shared are nowhere. The notes stand last. Facts: sys/kern/
core_elf32.c and sys/sys/exec_elf.h (struct netbsd_elfcore_procinfo); never tried on a core that NetBSD wrote here.
"""

from __future__ import annotations

import struct

from vmatlas.capture import Capture
from vmatlas.files.elf_core import HEADER, NOTES, Core, Header, nameless_capture, nameless_space, notes_in, parse_header
from vmatlas.model import AddressSpace
from vmatlas.model.crash import SIGNALS_OF_BSD, Crash, CrashedThread

_NAME = b"NetBSD-CORE"
_PROCINFO, _AUXV = 1, 2
_AT_PAGESZ = 6
_MACHINES = {62: "amd64", 3: "i386", 183: "aarch64", 40: "evbarm", 243: "riscv", 2: "sparc", 43: "sparc64", 8: "mips"}
_NEVER = "a core file of NetBSD tells neither names, nor offsets, nor what is shared"


class NetBSDCores:
    """See `vmatlas.files.contract.ReadsCores`."""

    def capture_of_core(self, core: Core, *, name: str, time: float) -> Capture:
        """Raises MalformedData."""
        header = parse_header(core.header, name)
        told = _procinfo(header, core.notes)
        page = page_size_of(header, core.notes, _NAME, _AUXV)
        gaps = [_NEVER, *([core.incomplete] if core.incomplete else [])]
        if page is None:
            gaps.append("the page size is not told, and taken for 4,096 bytes")
        return nameless_capture(
            core,
            header,
            system="netbsd",
            machines=_MACHINES,
            page_size=page,
            pid=told[1] if told else 0,
            backend="netbsd-map",
            distribution="vmatlas-netbsd",
            time=time,
            gaps=gaps,
            name=told[3] if told else None,
        )


CORES = NetBSDCores()


def decode_core(capture: Capture) -> AddressSpace:
    """Raises MalformedData."""
    return nameless_space(capture)


def decode_crash(capture: Capture) -> Crash:
    """Raises MalformedData."""
    header, notes = parse_header(capture.stream(HEADER)), capture.stream(NOTES)
    told = _procinfo(header, notes)
    first = told[2] if told else 0
    order = sorted(threads_of(header, notes, _NAME), key=lambda each: each != first)
    number = told[0] if told else None
    return Crash(
        signal=number or None,
        signal_name=SIGNALS_OF_BSD.get(number or 0),
        code=None,
        fault_address=None,
        fault_span=1,
        no_address="a core file of NetBSD does not tell it" if number else "the process did not stop by a signal",
        threads=tuple(CrashedThread(each, None, None) for each in order),
        program=told[3] if told else None,
        arguments=None,
    )


def _procinfo(header: Header, notes: bytes) -> tuple[int, int, int, str | None] | None:
    """Signal, process, thread that the signal went to, program; None where they are cut off."""
    mark = "<" if header.byte_order == "little" else ">"
    for note in notes_in(notes, header.byte_order):
        if note.name == _NAME and note.type == _PROCINFO and len(note.content) >= 156:
            signal, pid = (struct.unpack_from(mark + "i", note.content, at)[0] for at in (8, 80))
            thread = struct.unpack_from(mark + "i", note.content, 156)[0] if len(note.content) >= 160 else 0
            name = note.content[124:156].partition(b"\0")[0].decode("utf-8", "surrogateescape")
            return int(signal), max(0, int(pid)), int(thread), name or None
    return None


def page_size_of(header: Header, notes: bytes, name: bytes, kind: int) -> int | None:
    """From the auxiliary vector, which stands in a note of that name and type; None where it does not tell."""
    mark = "<" if header.byte_order == "little" else ">"
    pair = struct.Struct(mark + ("QQ" if header.bits == 64 else "II"))
    for note in notes_in(notes, header.byte_order):
        if note.name == name and note.type == kind:
            for key, value in pair.iter_unpack(note.content[: len(note.content) - len(note.content) % pair.size]):
                if key == _AT_PAGESZ and 512 <= value <= 1 << 30 and not value & (value - 1):
                    return int(value)
    return None


def threads_of(header: Header, notes: bytes, name: bytes) -> list[int]:
    """The numbers of those that have notes, whose name ends in @ and the number; in their order."""
    prefix = name + b"@"
    suffixes = [note.name[len(prefix) :] for note in notes_in(notes, header.byte_order) if note.name.startswith(prefix)]
    return list(dict.fromkeys(int(suffix) for suffix in suffixes if suffix.isdigit() and len(suffix) < 10))
