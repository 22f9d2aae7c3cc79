"""The system that a map comes from, and the processes on it, as values. No I/O."""

from __future__ import annotations

import enum

from vmatlas.values import NamedTuple, dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TypeAlias

ByteOrder: TypeAlias = 'Literal["little", "big"]'


@dataclass(frozen=True, slots=True)
class SystemInfo:
    """All that a decoder may know of the machine that the bytes come from."""

    system: str
    """"linux", "freebsd", "qnx": the word under which plugins register."""
    release: str
    """The kernel's release: "6.12.43"."""
    version: str
    """The kernel's own words on its build."""
    machine: str
    """The processor: "x86_64"."""
    byte_order: ByteOrder
    pointer_width: int
    """Bits in a pointer of the kernel: 32 or 64."""
    page_size: int
    """Bytes in the system's base page."""


_WIDE = ("64", "64le", "64el", "64_be", "64eb", "s390x", "alpha")


def has_64_bits(machine: str) -> bool:
    """Whether a kernel for a processor of that name (uname -m) has 64 bits. A process on it may have 32."""
    return machine.endswith(_WIDE)


class Consistency(enum.Enum):
    """What the kernel promises of the regions of one reading, taken together."""

    PER_REGION = "per_region"
    """Each region is right in itself; the map may have changed between any two. Memory that stays at its address is
    never missing; what moves meanwhile may be seen at both places or at neither."""
    PER_CHUNK = "per_chunk"
    """Regions of one chunk (Linux: a page of text) belong together; the map may have changed between chunks."""
    SINGLE_CALL = "single_call"
    """One call gave everything."""
    FROZEN = "frozen"
    """Nothing of the process ran while it was written down: a core file, a minidump."""


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """One process as the system lists it."""

    pid: int
    parent: int | None
    name: str
    """The system's short name for it (Linux: comm), not its command line; empty where it may not be looked at, and of
    one that calls itself nothing (`known_name` tells them apart)."""
    start_time: int | None
    """When it started, in the system's own unit (Linux: clock ticks since boot): with the pid, its identity."""
    state: str = ""
    """The system's own letter or word for its state; "Z" is a zombie."""
    kernel: bool | None = False
    """It belongs to the kernel and has no address space of its own; None where the system does not let it be told."""
    user: int | None = None
    """The number of the user whose rights it has."""
    resident: int | None = None
    """Bytes in memory, as the system counts them for its list: at once, and not to the page (Linux: /proc/PID/stat)."""
    number_inside: int | None = None
    """Its number in the pid namespace that it is in itself, where that is another than `pid`: a container's. None also
    where that is not told."""
    lives_on: bool = False
    """By its state it is a zombie, and it is not: its first thread has ended, and others of it live on (Linux)."""

    @property
    def known_name(self) -> str | None:
        """`name`; None where it is not told."""
        return None if not self.name and self.kernel is None else self.name


class Thread(NamedTuple):
    """A thread of a process, and where its stack pointer was when it was asked."""

    number: int
    """Its id in the pid namespace of who asked (Linux: TID)."""
    name: str | None
    """What the system calls it, in short (Linux: its comm); None where that is not told."""
    stack_pointer: int | None
    """An address in the stack on which it stood; None where that is not told."""
    untold: str | None = None
    """Why the stack pointer is not told: "running" (on a processor just then), "EPERM" (it takes the right to trace the
    process), another error of the kernel's by its name; None where it is told."""
