"""Core files of FreeBSD processes: a capture of one, and what it decodes to. Pure.

The map is the note NT_PROCSTAT_VMMAP: the records of the sysctl KERN_PROC_VMMAP behind the size of one, so they begin
at byte 4. The program headers leave out whatever has no rights, devices and the files' own pages; they serve only where
the note is missing. Facts: sys/kern/imgact_elf.c, sys/sys/procfs.h, sys/sys/ptrace.h of FreeBSD 11 to 14.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from vmatlas.capture import Capture
from vmatlas.errors import MalformedData
from vmatlas.files.elf_core import (
    HEADER,
    NOTES,
    SEGMENTS,
    Core,
    Header,
    Note,
    nameless_space,
    notes_in,
    parse_header,
)
from vmatlas.model import AddressSpace, Consistency, Query, SystemInfo, Thread
from vmatlas.model.crash import SIGNALS_OF_BSD, Crash, CrashedThread
from vmatlas_freebsd.decode.vmmap import VMMAP, decode_vmmap

_FREEBSD = b"FreeBSD"
_PRSTATUS, _PRPSINFO, _PROC, _VMMAP, _OSREL, _AUXV, _LWPINFO = 1, 3, 8, 10, 14, 16, 17
_AT_PAGESZ = 6
_USUAL_PAGE = 4096
_X86_64, _I386, _AARCH64, _ARM, _RISCV, _PPC64 = 62, 3, 183, 40, 243, 21
_MACHINES = {_X86_64: "amd64", _I386: "i386", _AARCH64: "arm64", _ARM: "arm", _RISCV: "riscv", _PPC64: "powerpc"}
"""As uname -m calls them."""


class _Registers(NamedTuple):
    """Where two registers stand in a `struct reg`, in bytes."""

    size: int
    stack_pointer: int
    program_counter: int


_REGISTERS = {_X86_64: _Registers(8, 160, 136), _I386: _Registers(4, 64, 52), _AARCH64: _Registers(8, 248, 256)}
_WITH_ADDRESS = ("SIGILL", "SIGTRAP", "SIGFPE", "SIGBUS", "SIGSEGV")
_SI_USER = 0x10001
"""From here on the codes are of signals that somebody sent."""
_BUS_OBJERR = 3
_NO_NOTE = "its map is not there, and its program headers leave out what has no rights, devices, unmodified files"


@dataclass(frozen=True, slots=True)
class _Told:
    """What the notes of a core tell."""

    header: Header
    pid: int | None
    program: str | None
    arguments: str | None
    release: str
    threads: tuple[CrashedThread, ...]
    signal: int | None
    siginfo: bytes | None
    page_size: int | None
    vmmap: bytes | None


class FreeBSDCores:
    """See `vmatlas.files.contract.ReadsCores`."""

    def capture_of_core(self, core: Core, *, name: str, time: float) -> Capture:
        """Raises MalformedData."""
        header = parse_header(core.header, name)
        told = _told_by(header, core.notes)
        gaps = [core.incomplete] if core.incomplete else []
        if told.vmmap is None:
            gaps.append(_NO_NOTE)
        if told.page_size is None:
            gaps.append("the page size is not told, and taken for 4,096 bytes")
        if told.pid is None:
            gaps.append("the process's number is not told (0 stands for it)")
        return Capture(
            streams={HEADER: core.header, SEGMENTS: core.segments, NOTES: core.notes},
            system=SystemInfo(
                system="freebsd",
                release=told.release,
                version="",
                machine=_MACHINES.get(header.machine, f"elf-machine-{header.machine}"),
                byte_order=header.byte_order,
                pointer_width=header.bits,
                page_size=told.page_size or _USUAL_PAGE,
            ),
            pid=told.pid or 0,
            backend="freebsd-sysctl",
            distribution="vmatlas-freebsd",
            query=Query(residency=told.vmmap is not None),
            time=time,
            pointer_width=header.bits,
            consistency=Consistency.FROZEN,
            incomplete="; ".join(gaps) or None,
            name=told.program,
        )


CORES = FreeBSDCores()


def decode_core(capture: Capture) -> AddressSpace:
    """Raises MalformedData, Disordered."""
    told = _told_by(parse_header(capture.stream(HEADER)), capture.stream(NOTES))
    if told.vmmap is not None:
        space = decode_vmmap(replace(capture, streams={VMMAP: told.vmmap}))
    else:
        space = nameless_space(capture)
    threads = [
        Thread(each.number, None, each.stack_pointer or None, None if each.stack_pointer else "untold")
        for each in told.threads
        if each.number is not None
    ]
    return AddressSpace(space.columns, replace(space.origin, threads=tuple(sorted(threads))))


def decode_crash(capture: Capture) -> Crash:
    """Raises MalformedData."""
    told = _told_by(parse_header(capture.stream(HEADER)), capture.stream(NOTES))
    number, code, address, why = told.signal, None, None, "the file does not tell it"
    if told.siginfo is not None:
        mark = "<" if told.header.byte_order == "little" else ">"
        signo, _, code = struct.unpack_from(mark + "iii", told.siginfo)
        number = signo or number
        (address,) = struct.unpack_from(mark + "Q", told.siginfo, 24)
        address, why = _judged(told, SIGNALS_OF_BSD.get(number or 0), code, address)
    return Crash(
        signal=number,
        signal_name=SIGNALS_OF_BSD.get(number or 0),
        code=code,
        fault_address=address,
        fault_span=1,
        no_address="" if address is not None else why if number else "the process did not stop by a signal",
        threads=told.threads,
        program=told.program,
        arguments=told.arguments,
        left_out="the file does not have the map, and memory that was not written is left out"
        if told.vmmap is None
        else "",
    )


def _judged(told: _Told, name: str | None, code: int, address: int) -> tuple[int | None, str]:
    if name not in _WITH_ADDRESS:
        return None, f"{name or 'the signal'} is sent for none"
    if code <= 0 or code >= _SI_USER:
        return None, "the signal was sent by a process, not by an access"
    # The trap of x86 for an address that is not canonical comes with the instruction's (sys/amd64/amd64/trap.c).
    is_counter = bool(told.threads) and told.threads[0].program_counter == address
    if told.header.machine in (_X86_64, _I386) and (name, code) == ("SIGBUS", _BUS_OBJERR) and is_counter:
        return None, "the processor does not tell it, as for an address that is not canonical"
    return address, ""


def _told_by(header: Header, stream: bytes) -> _Told:
    mark = "<" if header.byte_order == "little" else ">"
    pid = program = arguments = vmmap = signal = siginfo = page_size = None
    release = ""
    threads: list[CrashedThread] = []
    for note in notes_in(stream, header.byte_order):
        if note.name != _FREEBSD:
            continue
        content = note.content
        if note.type == _PRSTATUS:
            number, thread = _thread(header, note, mark)
            signal = number if not threads else signal
            threads.append(thread)
        elif note.type == _PRPSINFO and program is None:
            at = 16 if header.bits == 64 else 8
            program, arguments = _text(content[at : at + 17]), _text(content[at + 17 : at + 98])
        elif note.type == _PROC and pid is None:
            (pid,) = struct.unpack_from(mark + "i", content.ljust(80, b"\0"), 4 + (72 if header.bits == 64 else 40))
            pid = pid if pid > 0 else None
        elif note.type == _VMMAP and vmmap is None:
            if len(content) < 4:
                raise MalformedData(NOTES, note.offset, "the size of a record of the map", found=content)
            vmmap = content[4:]
        elif note.type == _OSREL and len(content) >= 8:
            (date,) = struct.unpack_from(mark + "i", content, 4)
            release = f"{date // 100_000}.{date // 1000 % 100}" if date > 0 else ""
        elif note.type == _AUXV and page_size is None:
            page_size = _auxv(header, content[4:], mark).get(_AT_PAGESZ)
        elif note.type == _LWPINFO and siginfo is None and header.bits == 64 and len(content) >= 84:
            siginfo = content[52:] if any(content[52:56]) else None
    if page_size is not None and (not 512 <= page_size <= 1 << 30 or page_size & (page_size - 1)):
        page_size = None
    return _Told(header, pid, program, arguments, release, tuple(threads), signal, siginfo, page_size, vmmap)


def _thread(header: Header, note: Note, mark: str) -> tuple[int | None, CrashedThread]:
    """The signal, and the thread, of a `prstatus_t`."""
    content = note.content
    signal_at, number_at, registers_at = (36, 40, 48) if header.bits == 64 else (20, 24, 28)
    if len(content) < number_at + 4:
        raise MalformedData(NOTES, note.offset, "a prstatus with the number of a thread", found=content[:16])
    signal, number = struct.unpack_from(mark + "ii", content, signal_at)
    known = _REGISTERS.get(header.machine)
    told: list[int | None] = [None, None]
    if known is not None and (known.size == 8) == (header.bits == 64):
        for which, at in enumerate((known.program_counter, known.stack_pointer)):
            place = registers_at + at
            if place + known.size <= len(content):
                told[which] = int.from_bytes(content[place : place + known.size], header.byte_order)
    return signal or None, CrashedThread(number if number > 0 else None, told[0], told[1])


def _auxv(header: Header, content: bytes, mark: str) -> Mapping[int, int]:
    pair = struct.Struct(mark + ("QQ" if header.bits == 64 else "II"))
    return dict(pair.iter_unpack(content[: len(content) - len(content) % pair.size]))


def _text(content: bytes) -> str | None:
    return content.partition(b"\0")[0].rstrip(b" ").decode("utf-8", "surrogateescape") or None
