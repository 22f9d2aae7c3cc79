"""The notes of a Linux core file. Pure.

Facts: include/uapi/linux/elfcore.h (prstatus, prpsinfo), fs/binfmt_elf.c (`fill_files_note`), sigaction(2), and the
layouts of `elf_gregset_t` in arch/*/include/asm; tried on cores of Linux 5.10 to 7.3, gdb 13.1 and qemu-user 7.2, 11.1.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vmatlas.errors import MalformedData
from vmatlas.files.elf_core import NOTES, Header, Note, notes_in
from vmatlas.model.crash import Crash, CrashedThread

PRSTATUS, PRPSINFO, AUXV = 1, 3, 6
FILE = 0x46494C45
SIGINFO = 0x53494749
_GDB = b"GDB"

AT_PHDR, AT_PAGESZ, AT_RANDOM, AT_EXECFN, AT_SYSINFO_EHDR = 3, 6, 25, 31, 33

X86_64, I386, AARCH64, ARM, S390, PPC, PPC64, RISCV, LOONGARCH, MIPS, M68K = 62, 3, 183, 40, 22, 20, 21, 243, 258, 8, 4
_SPARC, _SPARC32PLUS, _PARISC, _SPARC64, _ALPHA = 2, 18, 15, 43, 0x9026

_MACHINES = {
    (X86_64, 64): "x86_64",
    (X86_64, 32): "x86_64",
    (I386, 32): "i686",
    (AARCH64, 64): "aarch64",
    (ARM, 32): "armv7l",
    (S390, 64): "s390x",
    (S390, 32): "s390",
    (PPC, 32): "ppc",
    (PPC64, 64): "ppc64",
    (RISCV, 64): "riscv64",
    (RISCV, 32): "riscv32",
    (LOONGARCH, 64): "loongarch64",
    (MIPS, 64): "mips64",
    (MIPS, 32): "mips",
    (M68K, 32): "m68k",
    (_SPARC, 32): "sparc",
    (_SPARC32PLUS, 32): "sparc",
    (_SPARC64, 64): "sparc64",
    (_PARISC, 32): "parisc",
    (_ALPHA, 64): "alpha",
}
"""As uname -m calls the kernel for such processes; a 64-bit one runs those of 32 bits as well."""


class _Registers(NamedTuple):
    """Where two registers stand in pr_reg, counted in registers of `size` bytes."""

    size: int
    stack_pointer: int
    program_counter: int


_REGISTERS = {
    (X86_64, 64): _Registers(8, 19, 16),
    (X86_64, 32): _Registers(8, 19, 16),
    (I386, 32): _Registers(4, 15, 12),
    (AARCH64, 64): _Registers(8, 31, 32),
    (ARM, 32): _Registers(4, 13, 15),
    (S390, 64): _Registers(8, 17, 1),
    (PPC, 32): _Registers(4, 1, 32),
    (PPC64, 64): _Registers(8, 1, 32),
    (RISCV, 64): _Registers(8, 2, 0),
    (RISCV, 32): _Registers(4, 2, 0),
    (LOONGARCH, 64): _Registers(8, 3, 33),
    (MIPS, 64): _Registers(8, 29, 34),
}
"""Of other processors nothing is told."""

_IN_ORDER = (
    "SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2 SIGPIPE SIGALRM "
    "SIGTERM SIGSTKFLT SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF "
    "SIGWINCH SIGIO SIGPWR SIGSYS"
)
SIGNALS = dict(enumerate(_IN_ORDER.split(), 1))
"""include/uapi/asm-generic/signal.h."""
SIGNALS_OF_MIPS = {4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 8: "SIGFPE", 9: "SIGKILL", 10: "SIGBUS", 11: "SIGSEGV"}
"""Of processors that count others their own way: MIPS, and those of `_COUNT_THEIR_OWN`."""
_COUNT_THEIR_OWN = (MIPS, _SPARC, _SPARC32PLUS, _SPARC64, _PARISC, _ALPHA)
WITH_ADDRESS = ("SIGILL", "SIGTRAP", "SIGBUS", "SIGFPE", "SIGSEGV")
_SI_KERNEL = 128
_LEAST_OF_PRPSINFO = 124
"""Bytes. All end alike, whatever the width of what stands before: four numbers of processes, 16 bytes of the program's
name, 80 of its command line."""


class Mapped(NamedTuple):
    """What NT_FILE tells, by start: [start, end) and the offset in bytes, a name each as raw bytes."""

    starts: Sequence[int]
    ends: Sequence[int]
    offsets: Sequence[int]
    names: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Told:
    """What the notes of a core tell."""

    header: Header
    pid: int | None
    """None where NT_PRPSINFO is missing."""
    program: str | None
    arguments: str | None
    threads: tuple[CrashedThread, ...]
    signal: int | None
    siginfo: bytes | None
    auxv: Mapping[int, int]
    mapped: Mapped | None
    """None where NT_FILE is missing."""
    by_gdb: bool
    """gdb's `gcore` wrote it."""
    by_qemu: bool
    """qemu-user wrote it, of the program that it runs."""

    @property
    def machine(self) -> str:
        """As uname -m tells it, for a kernel whose word size is the process's."""
        name = _MACHINES.get((self.header.machine, self.header.bits), f"elf-machine-{self.header.machine}")
        return "ppc64le" if name == "ppc64" and self.header.byte_order == "little" else name


def told_by(header: Header, stream: bytes) -> Told:
    """Raises MalformedData."""
    mark = "<" if header.byte_order == "little" else ">"
    psinfo: bytes | None = None
    siginfo: bytes | None = None
    auxv: dict[int, int] = {}
    mapped: Mapped | None = None
    threads: list[CrashedThread] = []
    signal: int | None = None
    by_gdb = paged_by_bytes = False
    for note in notes_in(stream, header.byte_order):
        if note.name == _GDB:
            by_gdb = True
        if note.name != b"CORE":
            continue
        if note.type == PRSTATUS:
            if not threads:
                signal = _cursig(note.content, mark)
            threads.append(_thread(header, note, mark))
        elif note.type == PRPSINFO and psinfo is None:
            psinfo = note.content
        elif note.type == SIGINFO and siginfo is None:
            siginfo = note.content
        elif note.type == AUXV and not auxv:
            auxv = _auxv(header, note.content)
        elif note.type == FILE and mapped is None:
            mapped, page_size = _files(header, note)
            paged_by_bytes = page_size == 1
    if psinfo is not None and len(psinfo) < _LEAST_OF_PRPSINFO:
        psinfo = None
    return Told(
        header=header,
        pid=None if psinfo is None else struct.unpack_from(mark + "i", psinfo, len(psinfo) - 112)[0],
        program=None if psinfo is None else _text(psinfo[-96:-80]),
        arguments=None if psinfo is None else _text(psinfo[-80:]),
        threads=tuple(threads),
        signal=signal,
        siginfo=siginfo,
        auxv=auxv,
        mapped=mapped,
        by_gdb=by_gdb or paged_by_bytes,
        by_qemu=psinfo is not None and mapped is None and siginfo is None and not any(psinfo[:4]),
    )


GENERAL_PROTECTION = (
    "the processor does not tell it, as for an address that is not canonical, an operand that is not aligned as its "
    "instruction needs it (movaps), or an instruction that is the kernel's alone"
)
"""Of x86: SIGSEGV with SI_KERNEL, which is sent for #GP (arch/x86/kernel/traps.c, exc_general_protection)."""


def crash_of(told: Told) -> Crash:
    """Signal and fault address, threads, command."""
    mark = "<" if told.header.byte_order == "little" else ">"
    number, code, address, span, why = told.signal, None, None, 1, "the file does not tell it"
    names = SIGNALS_OF_MIPS if told.header.machine in _COUNT_THEIR_OWN else SIGNALS
    if told.siginfo is not None and len(told.siginfo) >= 24:
        first, second, third = struct.unpack_from(mark + "iii", told.siginfo)
        number, code = first or number, second if told.header.machine == MIPS else third
        name = names.get(number or 0)
        if name not in WITH_ADDRESS:
            why = f"{name or 'the signal'} is sent for none"
        elif code is None or code <= 0:
            why = "the signal was sent by a process, not by an access"
        elif code == _SI_KERNEL and told.header.machine in (X86_64, I386):
            why = GENERAL_PROTECTION
        else:
            wide = told.header.bits == 64
            (address,) = struct.unpack_from(mark + ("Q" if wide else "I"), told.siginfo, 16 if wide else 12)
            why = ""
            if told.header.machine == S390 and name in ("SIGSEGV", "SIGBUS"):
                address, span = address & ~0xFFF, 0x1000
    if told.by_gdb and names.get(number or 0) == "SIGSTOP":
        number = code = None  # by which gdb itself stopped a process that lived
    return Crash(
        signal=number,
        signal_name=names.get(number or 0),
        code=code,
        fault_address=address,
        fault_span=span,
        no_address=why if number else "the process did not stop by a signal",
        threads=told.threads,
        program=told.program,
        arguments=told.arguments,
        left_out="gdb wrote the file (gcore), and leaves regions out" if told.by_gdb else "",
    )


def _text(content: bytes) -> str | None:
    return content.partition(b"\0")[0].rstrip(b" ").decode("utf-8", "surrogateescape") or None


def _cursig(content: bytes, mark: str) -> int | None:
    """pr_cursig; si_signo, which stands before it, is filled by all too."""
    return int(struct.unpack_from(mark + "h", content, 12)[0]) or None if len(content) >= 14 else None


def _thread(header: Header, note: Note, mark: str) -> CrashedThread:
    """From a NT_PRSTATUS, whose pr_pid is the thread's own number. Only m68k aligns to 2 bytes."""
    if header.machine == M68K:
        at, registers_at = 22, 70
    else:
        at, registers_at = (32, 112) if header.bits == 64 else (24, 72)
    if len(note.content) < at + 4:
        raise MalformedData(NOTES, note.offset, "a NT_PRSTATUS with the number of a thread", found=note.content)
    (number,) = struct.unpack_from(mark + "i", note.content, at)
    known = _REGISTERS.get((header.machine, header.bits))
    if known is None:
        return CrashedThread(number if number > 0 else None, None, None)
    counter, pointer = (
        _register(note.content, registers_at, known.size, which, mark)
        for which in (known.program_counter, known.stack_pointer)
    )
    return CrashedThread(number if number > 0 else None, counter, pointer)


def _register(content: bytes, base: int, size: int, which: int, mark: str) -> int | None:
    place = base + size * which
    if len(content) < place + size:
        return None
    return int(struct.unpack_from(mark + ("Q" if size == 8 else "I"), content, place)[0])


def _auxv(header: Header, content: bytes) -> dict[int, int]:
    """The first of each; AT_NULL ends them."""
    mark, letter = ("<" if header.byte_order == "little" else ">"), ("Q" if header.bits == 64 else "I")
    pair = struct.Struct(mark + 2 * letter)
    found: dict[int, int] = {}
    for key, value in pair.iter_unpack(content[: len(content) - len(content) % pair.size]):
        if not key:
            break
        found.setdefault(key, value)
    return found


def _files(header: Header, note: Note) -> tuple[Mapped, int]:
    """NT_FILE, with its page size: `count, page_size, { start, end, offset in pages } * count, names`, each a `long`.

    gdb writes a page size of 1, and offsets in bytes. Old kernels wrote numbers of 64 bits for MIPS processes of 32
    bits, which is seen by a page size of 0, or of big-endian ones a count of 0 with something behind it.
    """
    content = note.content
    words = array("I", content[: len(content) - len(content) % 4])
    swapped = header.byte_order != sys.byteorder
    if swapped:
        words.byteswap()
    is_wide = header.bits == 64 or (len(words) > 3 and (not words[1] or (not words[0] and bool(words[1]))))
    size = 8 if is_wide else 4
    numbers: array[int] = array("Q" if is_wide else "I", content[: len(content) - len(content) % size])
    if swapped:
        numbers.byteswap()
    count, page_size = (numbers[0], numbers[1]) if len(numbers) > 1 else (-1, 0)
    end = 2 + 3 * count
    if count < 0 or end > len(numbers):
        raise MalformedData(NOTES, note.offset, "the entries of NT_FILE, as many as it says", found=content[:16])
    names = content[end * size :].split(b"\0", count)
    if len(names) <= count:
        raise MalformedData(NOTES, note.offset + end * size, f"{count:,} names in NT_FILE, each ended by a NUL")
    offsets = numbers[4:end:3].tolist()
    if page_size != 1:
        offsets = [each * page_size for each in offsets]
    if max(offsets, default=0) >= 2**64 - 1:
        raise MalformedData(NOTES, note.offset, "offsets of files in NT_FILE that fit in 64 bits")
    starts, ends = numbers[2:end:3].tolist(), numbers[3:end:3].tolist()
    if any(map(int.__lt__, starts[1:], starts)):  # kernel.core_sort_vma
        order = sorted(range(count), key=starts.__getitem__)
        starts, ends, offsets = ([column[row] for row in order] for column in (starts, ends, offsets))
        names = [names[row] for row in order]
    return Mapped(starts, ends, offsets, names), page_size
