"""Core files of OpenBSD processes: a capture of one, and what it decodes to. Pure.

The program headers are of what is writable or was written to: the text of libraries is missing. What is one region is
several of them, of which each begins where another ends, with the same rights: they are joined. Names, offsets and what
is shared are nowhere. Facts: sys/kern/exec_elf.c, sys/sys/exec_elf.h (struct elfcore_procinfo) and the layout of two
real files (amd64, sparc64); never tried on a core that OpenBSD wrote here.

OpenBSD has no plugin of its own: what is told of its processes stands here, beside its sister's.
"""

from __future__ import annotations

import struct

from vmatlas.capture import Capture
from vmatlas.files.elf_core import HEADER, NOTES, Core, Header, nameless_capture, nameless_space, notes_in, parse_header
from vmatlas.model import AddressSpace
from vmatlas.model.crash import SIGNALS_OF_BSD, Crash, CrashedThread
from vmatlas_netbsd.cores import page_size_of, threads_of

_NAME = b"OpenBSD"
_PROCINFO, _AUXV = 10, 11
_MACHINES = {62: "amd64", 3: "i386", 183: "arm64", 40: "armv7", 243: "riscv64", 43: "sparc64", 8: "octeon"}
_NEVER = "a core file of OpenBSD tells no names, no offsets, not what is shared, and leaves out what was not written to"


class OpenBSDCores:
    """See `vmatlas.files.contract.ReadsCores`."""

    def capture_of_core(self, core: Core, *, name: str, time: float) -> Capture:
        """Raises MalformedData."""
        header = parse_header(core.header, name)
        told = _procinfo(header, core.notes)
        page = page_size_of(header, core.notes, _NAME, _AUXV)
        gaps = [_NEVER, *([core.incomplete] if core.incomplete else [])]
        if page is None:
            gaps.append("the page size is not told, and taken for 4,096 bytes")
        if told is None:
            gaps.append("the process's number is not told (0 stands for it)")
        return nameless_capture(
            core,
            header,
            system="openbsd",
            machines=_MACHINES,
            page_size=page,
            pid=told[1] if told else 0,
            backend="netbsd-map",
            distribution="vmatlas-netbsd",
            time=time,
            gaps=gaps,
            name=told[2] if told else None,
        )


CORES = OpenBSDCores()


def decode_core(capture: Capture) -> AddressSpace:
    """Raises MalformedData."""
    return nameless_space(capture, joined=True)


def decode_crash(capture: Capture) -> Crash:
    """Raises MalformedData."""
    header, notes = parse_header(capture.stream(HEADER)), capture.stream(NOTES)
    told = _procinfo(header, notes)
    number = told[0] if told else None
    return Crash(
        signal=number or None,
        signal_name=SIGNALS_OF_BSD.get(number or 0),
        code=None,
        fault_address=None,
        fault_span=1,
        no_address="a core file of OpenBSD does not tell it" if number else "the process did not stop by a signal",
        threads=tuple(CrashedThread(each, None, None) for each in threads_of(header, notes, _NAME)),
        program=told[2] if told else None,
        arguments=None,
    )


def _procinfo(header: Header, notes: bytes) -> tuple[int, int, str | None] | None:
    """Signal, process, program; None where they are cut off."""
    mark = "<" if header.byte_order == "little" else ">"
    for note in notes_in(notes, header.byte_order):
        if note.name == _NAME and note.type == _PROCINFO and len(note.content) >= 104:
            signal, pid = (struct.unpack_from(mark + "i", note.content, at)[0] for at in (8, 32))
            name = note.content[72:104].partition(b"\0")[0].decode("utf-8", "surrogateescape")
            return int(signal), max(0, int(pid)), name or None
    return None
