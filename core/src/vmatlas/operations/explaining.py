"""Why and where a process ended or stands: signal, fault, instruction, each thread's stack; in a value and a paragraph.
Pure: all is told by a map and by what a file says of the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from vmatlas.model import AddressSpace, Kind, Protection, Region
from vmatlas.model.crash import Crash, CrashedThread, Module
from vmatlas.model.stacks import lower_parts, whole_of
from vmatlas.operations import faults
from vmatlas.operations.values import Fault, FaultCause
from vmatlas.symbols.lines import Frames
from vmatlas.symbols.table import Symbol

_OF_MEMORY = ("SIGSEGV", "SIGBUS")
"""The signals whose address is one that was accessed; of others it is the instruction's."""

_CODES = {
    ("SIGBUS", 1): "the address is not aligned as the instruction needs it",
    ("SIGBUS", 2): "nothing stands behind the mapping there: its file is shorter, or could not be read",
    ("SIGBUS", 4): "the memory itself is defective",
    ("SIGSEGV", 4): "a protection key forbids it",
    ("SIGSEGV", 8): "the tag of the pointer is not that of the memory",
    ("SIGSEGV", 9): "the tag of the pointer is not that of the memory",
}
"""What a code says that no map can: BUS_ADRALN and BUS_ADRERR (POSIX), and of Linux BUS_MCEERR_AR, SEGV_PKUERR,
SEGV_MTEAERR, SEGV_MTESERR."""
_NOT_MAPPED = ("SIGSEGV", 1)
"""SEGV_MAPERR."""
_NOTHING_BEHIND = ("SIGBUS", 2)
"""BUS_ADRERR."""
_OF_POSIX = 2
"""The codes of SIGBUS up to this one are every system's."""

_NEARLY_FULL = 0.9


class Place(NamedTuple):
    """An address, and what lies there."""

    address: int
    region: Region | None
    """None where nothing is mapped."""
    file_offset: int | None
    """How far from the beginning of its file it stands, where that is told."""
    module: Module | None = None
    """The program or library that it lies in, where the file tells no map but lists those."""
    elf_address: int | None = None
    """The address in the addresses of its ELF file, where that file is at hand."""
    symbol: Symbol | None = None
    """The function that it lies in, by the symbols at hand."""
    lines: Frames = ()
    """The lines of source code there, where they were asked for and are told; the innermost function first."""
    no_lines: str | None = None
    """Why none are told, where they were asked for."""
    unread: str | None = None
    """Why nothing was read of its file, in words; None where it was, or there is none."""


class ThreadStack(NamedTuple):
    """A thread, and how full its stack is."""

    number: int | None
    """Its id, in the process's own pid namespace where a file tells it."""
    instruction: Place | None
    """Where it stood; None where that is not told."""
    stack_pointer: int | None
    stack: Region | None
    """The region that its stack pointer lies in; None where it lies in none."""
    used: int | None
    """Bytes from the stack pointer to the end of that region: in use, if the stack alone lies there. Of a stack that is
    several regions, since a part of it was locked, to the end of the last."""
    size: int | None = None
    """Bytes of the stack: of that region, or of all its parts."""

    @property
    def full(self) -> float | None:
        """The used part of the stack as it is, from 0 to 1. A stack that can grow may have more room than it has."""
        return None if self.used is None or not self.size else self.used / self.size


@dataclass(frozen=True, slots=True, repr=False)
class Explanation:
    """Why and where a process ended, or stands."""

    crash: Crash
    """What was told of the end; of a live process only its threads."""
    space: AddressSpace
    """The map; empty where the file tells none (`crash.no_map`)."""
    fault: Fault | None
    """The access that failed, with the regions around it; None where there was none, or its address is not told."""
    instruction: Place | None
    """Where the thread stood that the signal went to."""
    threads: tuple[ThreadStack, ...]
    """The one that the signal went to first."""
    text: str
    """All of it in a paragraph."""
    said: tuple[str, ...] = ()
    """What went wrong with debuginfod servers, and what names could not be told for."""

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Explanation of pid {self.space.pid}: {self.crash.signal_name or 'no signal'}>"


class Named(NamedTuple):
    """What the files at hand tell of an address."""

    elf_address: int | None = None
    symbol: Symbol | None = None
    lines: Frames = ()
    no_lines: str | None = None
    unread: str | None = None


Names = Callable[[Sequence[int]], Sequence[Named]]
"""Tells it for addresses."""


def explain_crash(
    crash: Crash,
    space: AddressSpace,
    guard_at: faults.GuardAt = lambda address: None,
    names: Names = lambda addresses: [Named()] * len(addresses),
) -> Explanation:
    """`guard_at` asks the process of the map, where there is one."""
    counters = [each.program_counter for each in crash.threads]
    asked = [counter for counter in dict.fromkeys(counters) if counter is not None]
    named = dict(zip(asked, names(asked), strict=True))
    parts = lower_parts(space)
    threads = tuple(_thread(crash, each, space, named, parts) for each in crash.threads)
    instruction = threads[0].instruction if threads else None
    fault = None if crash.no_map else _fault(crash, space, instruction, guard_at)
    text = " ".join(_sentences(crash, space, fault, instruction, threads))
    return Explanation(crash, space, fault, instruction, threads, text)


def of_live_threads(space: AddressSpace, program: str | None) -> Crash:
    """What a process that lives tells: its threads, and no signal."""
    told = space.origin.threads or ()
    return Crash(
        signal=None,
        signal_name=None,
        code=None,
        fault_address=None,
        fault_span=1,
        no_address="the process lives",
        threads=tuple(CrashedThread(each.number, None, each.stack_pointer) for each in told),
        program=program,
        arguments=None,
    )


def _fault(crash: Crash, space: AddressSpace, at: Place | None, guard_at: faults.GuardAt) -> Fault | None:
    if crash.fault_address is None or crash.signal_name not in _OF_MEMORY:
        return None
    # A jump to where nothing can be executed: the address is that of the instruction itself.
    access = Protection.EXECUTE if at is not None and at.address == crash.fault_address else None
    if crash.signal_name == "SIGBUS" and access is None:
        access = Protection.READ  # rights are not what it is sent for
    is_jump = None if at is None or crash.fault_span > 1 else access is Protection.EXECUTE
    limit = space.origin.stack_limit
    pointer = (crash.threads[0].stack_pointer if crash.threads else None) or None
    found = faults.classify(
        crash.fault_address,
        space,
        access,
        guard_at,
        stack_limit=lambda: limit,
        stack_pointer=pointer,
        is_jump=is_jump,
    )
    if crash.left_out and found.at is None:
        found = replace(found, certain=False)
    if space.system.system == "linux" and (crash.signal_name, crash.code) == _NOT_MAPPED:
        return faults.by_code(found, space, pointer)
    if (crash.signal_name, crash.code) == _NOTHING_BEHIND and found.cause is FaultCause.NOT_BY_THE_MAP:
        return replace(found, cause=FaultCause.BEYOND_FILE, certain=False)
    return found


def _instruction(crash: Crash, space: AddressSpace, address: int | None, named: Mapping[int, Named]) -> Place | None:
    if address is None:
        return None
    if crash.no_map:
        return Place(address, None, None, next((m for m in crash.modules if m.start <= address < m.end), None))
    region = space.find(address)
    is_told = region is not None and region.offset is not None
    offset = region.offset + address - region.start if region is not None and region.offset is not None else None
    return Place(address, region, offset if is_told else None, None, *named.get(address, Named()))


def _thread(
    crash: Crash,
    thread: CrashedThread,
    space: AddressSpace,
    named: Mapping[int, Named],
    parts: frozenset[int],
) -> ThreadStack:
    pointer = thread.stack_pointer or None
    stack = None if pointer is None else space.find(pointer)
    if stack is not None and (stack.kind is Kind.GUARD or not stack.protection):
        stack = None
    at = _instruction(crash, space, thread.program_counter, named)
    if stack is None or pointer is None:
        return ThreadStack(thread.number, at, pointer, stack, None)
    start, end = whole_of(stack, parts, space)
    return ThreadStack(thread.number, at, pointer, stack, end - pointer, end - start)


def _sentences(
    crash: Crash, space: AddressSpace, fault: Fault | None, at: Place | None, threads: tuple[ThreadStack, ...]
) -> list[str]:
    called = crash.arguments or crash.program
    who = (f"Process {space.pid}" if space.pid else "A process") + (f" ({called})" if called else "")
    if crash.unit is not None:
        who += f" of {crash.unit}"
    if crash.signal is None:
        told = [f"{who} was not stopped by a signal, as far as that is told."]
    else:
        number = threads[0].number if threads else None
        thread = "" if number is None or len(threads) < 2 else f" in thread {number}"
        told = [f"{who} was stopped by {crash.signal_name or f'signal {crash.signal}'}{thread}."]
        told += _of_the_address(crash, space, fault)
    if crash.said is not None:
        told.append(f"The report says: {crash.said}.")
    if at is not None:
        told.append(f"The instruction at {at.address:#x} {_lies(crash, at)}.")
        if fault is None and crash.signal_name in _OF_MEMORY and _cannot_be_executed(at):
            told.append("That memory cannot be executed: the program jumped into it.")
    if crash.no_map:
        told.append(f"What lies anywhere else is not told: {crash.no_map}.")
    told += _of_stacks(crash, space, threads, fault)
    return told


def _cannot_be_executed(at: Place) -> bool:
    rights = at.region.protection if at.region is not None else Protection.UNTOLD
    return not rights & (Protection.EXECUTE | Protection.UNTOLD)


def _of_the_address(crash: Crash, space: AddressSpace, fault: Fault | None) -> list[str]:
    if fault is not None:
        words = ""
        if crash.fault_span > 1:
            words = "The processor tells the page alone in which the address lies; of its first byte: "
        text = fault.text if words else fault.text[0].upper() + fault.text[1:]
        told = [f"{words}{text}."]
        if crash.left_out and fault.at is None:
            told.append(f"Something may have been there all the same: {crash.left_out}.")
        is_known = space.system.system == "linux" or (crash.signal_name == "SIGBUS" and (crash.code or 0) <= _OF_POSIX)
        if is_known and (more := _CODES.get((crash.signal_name or "", crash.code or 0))) is not None:
            told.append(f"The signal's code says that {more}.")
        return told
    if crash.signal_name == "SIGABRT":
        return ["That is what abort() sends: the program ended itself."]
    if crash.no_map and crash.fault_address is not None and crash.signal_name in _OF_MEMORY:
        return [f"The access that failed was at {crash.fault_address:#x}."]
    if crash.fault_address is None:
        return [f"No address is told: {crash.no_address}."]
    return []  # it is the instruction's, which is told anyway


def _lies(crash: Crash, at: Place) -> str:
    if at.module is not None:
        return (
            f"lies in {at.module.name or 'a module without a name'}, {at.address - at.module.start:#x} from its start"
        )
    if crash.no_map:
        return "lies in no module that is listed" if crash.modules else "lies where no module is told"
    if at.region is None:
        return "lies in no region: the program jumped to where nothing is mapped"
    nameless = "memory whose name is not told" if at.region.kind is Kind.OTHER else "nameless memory"
    where = at.region.label or f"{nameless} ({at.region.permissions})"
    into = f", {at.file_offset:#x} bytes into the file" if at.file_offset is not None else ""
    return f"lies in {where}{into}" + (f", in {at.symbol}" if at.symbol is not None else "") + _in_source(at)


def _in_source(at: Place) -> str:
    if at.no_lines is not None:
        return f" (no line of source code is told: {at.no_lines})"
    return f": {', inlined into '.join(map(str, at.lines))}" if at.lines else ""


def _of_stacks(crash: Crash, space: AddressSpace, threads: tuple[ThreadStack, ...], fault: Fault | None) -> list[str]:
    if not threads:
        return ["No thread is told."]
    first = threads[0]
    told = []
    if crash.signal is not None:
        if first.stack is not None and first.used is not None:
            told.append(f"Of its stack ({_whole(first, first.stack)}) {first.used:,} are in use.")
        elif first.stack_pointer is not None and not crash.no_map:
            line = f"Its stack pointer, {first.stack_pointer:#x}, lies in no memory that can be a stack"
            over = _stack_above(space, first.stack_pointer) if fault is None else None
            if over is not None:  # no address is told, and this says as much
                line += f", but just below some ({_range(over)}): most likely that stack has overflowed"
            told.append(f"{line}.")
    others = threads[1:] if crash.signal is not None else threads
    known = [each for each in others if each.full is not None]
    if others:
        words = "other thread" if crash.signal is not None else "thread"
        line = f"There {'is' if len(others) == 1 else 'are'} {len(others):,} {words}{'' if len(others) == 1 else 's'}"
        fullest = max(known, key=lambda each: each.full or 0, default=None)
        if fullest is not None and fullest.stack is not None and fullest.used is not None:
            line += f"; the fullest stack has {fullest.used:,} of {fullest.size:,} bytes in use"
        told.append(f"{line}.")
    is_overflow = fault is not None and fault.cause in (FaultCause.GUARD, FaultCause.STACK_OVERFLOW)
    if is_overflow and fault is not None and fault.stack is not None and _is_low(first, fault.stack):
        told.append("The stack pointer stands at the low end of that stack as well: it has overflowed.")
    return told


def _stack_above(space: AddressSpace, pointer: int) -> Region | None:
    """The memory that can be written and begins where the guard ends that a stack pointer lies in."""
    _, at, after = space.neighbours(pointer)
    if at is None or at.protection or after is None or after.start != at.end:
        return None
    return after if after.protection & Protection.WRITE and not after.protection & Protection.UNTOLD else None


def _is_low(thread: ThreadStack, stack: Region) -> bool:
    """Whether the stack pointer shows that a stack is full: it lies below it, or in its last tenth."""
    pointer = thread.stack_pointer
    return pointer is not None and stack.start - stack.size <= pointer < stack.end - _NEARLY_FULL * stack.size


def _whole(thread: ThreadStack, stack: Region) -> str:
    """A stack, by the region that its pointer lies in."""
    if thread.size == stack.size:
        return f"{_range(stack)}, {stack.size:,} bytes"
    return f"in several parts, of which {_range(stack)} is in use; {thread.size:,} bytes in all"


def _range(region: Region) -> str:
    return f"{region.start:#x}-{region.end:#x}"
