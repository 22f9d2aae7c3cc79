"""Core files of QNX processes (its `dumper`): a capture of one, and what it decodes to. Pure.

The program headers are the mapped pieces of memory, always written as readable and writable, and as executable where
the region is of an ELF file: so rights are not told, nor names, and what is not mapped is missing. Facts: services/
dumper of QNX Neutrino 6.4 (elf notes QNT_CORE_STATUS); never tried on a core that QNX wrote here.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from vmatlas.capture import Capture
from vmatlas.files.elf_core import HEADER, NOTES, Core, Header, nameless_capture, nameless_space, notes_in, parse_header
from vmatlas.model import AddressSpace
from vmatlas.model.crash import SIGNALS_OF_BSD, Crash, CrashedThread

_STATUS = 8
_CURRENT = 0x80
"""Of a thread's flags: the one that the signal went to."""
_MACHINES = {3: "x86", 40: "arm", 62: "x86_64", 183: "aarch64", 8: "mips", 20: "ppc", 42: "sh"}
_NEVER = "a core file of QNX tells neither rights, nor names, nor offsets, and leaves out what is not mapped"


class _Status(NamedTuple):
    """The beginning of a `procfs_status`."""

    pid: int
    thread: int
    flags: int
    signal: int


class QnxCores:
    """See `vmatlas.files.contract.ReadsCores`."""

    def capture_of_core(self, core: Core, *, name: str, time: float) -> Capture:
        """Raises MalformedData."""
        header = parse_header(core.header, name)
        told = _statuses(header, core.notes)
        gaps = [_NEVER, "the page size is taken for 4,096 bytes", *([core.incomplete] if core.incomplete else [])]
        if not told:
            gaps.append("the process's number is not told (0 stands for it)")
        return nameless_capture(
            core,
            header,
            system="qnx",
            machines=_MACHINES,
            page_size=None,
            pid=max(0, told[0].pid) if told else 0,
            backend="qnx-mapinfo",
            distribution="vmatlas-qnx",
            time=time,
            gaps=gaps,
        )


CORES = QnxCores()


def decode_core(capture: Capture) -> AddressSpace:
    """Raises MalformedData."""
    return nameless_space(capture, rights=False)


def decode_crash(capture: Capture) -> Crash:
    """Raises MalformedData."""
    told = _statuses(parse_header(capture.stream(HEADER)), capture.stream(NOTES))
    told.sort(key=lambda each: not each.flags & _CURRENT)
    number = told[0].signal if told and told[0].flags & _CURRENT else None
    return Crash(
        signal=number or None,
        signal_name=SIGNALS_OF_BSD.get(number or 0),
        code=None,
        fault_address=None,
        fault_span=1,
        no_address="it is not read of a core file of QNX" if number else "the process did not stop by a signal",
        threads=tuple(CrashedThread(each.thread, None, None) for each in told),
        program=None,
        arguments=None,
    )


def _statuses(header: Header, notes: bytes) -> list[_Status]:
    layout = struct.Struct(("<" if header.byte_order == "little" else ">") + "iiIxxh")
    return [
        _Status(*layout.unpack_from(note.content))
        for note in notes_in(notes, header.byte_order)
        if note.name == b"QNX" and note.type == _STATUS and len(note.content) >= layout.size
    ]
