"""The contract of memory operations: what a system's plugin gives. Registered under `vmatlas.operations`.

Calls are raw: one system call each, with the kernel's own errno. What holds on every system (alignment, overlap,
ownership, buffers, batches, what happens after a failure) stands once, above this contract.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence
from typing import Protocol

from vmatlas.errors import OperationFailed, VmatlasError
from vmatlas.model import Protection, Region
from vmatlas.operations.values import Advice
from vmatlas.target.program import MapFlag


class Ability(enum.Flag):
    """What a system's memory calls can do. What one cannot is refused with Unsupported, and the reason."""

    NONE = 0
    PLACE = enum.auto()
    """Map at an address, and over nothing that is there."""
    LOCK = enum.auto()
    LOCK_ALL = enum.auto()
    LOCK_ON_FAULT = enum.auto()
    """Lock each page when it is first touched."""
    MOVE = enum.auto()
    """Move a mapping, its pages with it."""
    KEEP_OLD = enum.auto()
    """Move the pages and leave the old place mapped."""
    RESIZE = enum.auto()
    MEMORY_OBJECT = enum.auto()
    """Nameless shared memory behind a descriptor (memfd)."""
    SHARED_OBJECT = enum.auto()
    """POSIX shared memory."""
    ADVISE_PROCESS = enum.auto()
    """Advise another process."""
    BUFFERS = enum.auto()
    """The memory is this process's own, so that it can be shown as a buffer."""


class Promise(enum.Flag):
    """What a system's calls hold to beyond POSIX. The suite asserts what is promised, and nothing of the rest."""

    NONE = 0
    LOCKS_ARE_TOLD = enum.auto()
    """The flags of the map's regions tell what is locked (`SystemFlags.locked`)."""
    HOLES_STOP_ADVICE = enum.auto()
    """Advice for a range with a hole fails (ENOMEM), whatever the advice."""
    DONTNEED_DISCARDS = enum.auto()
    """Private anonymous memory is zeros after DONTNEED; POSIX lets it keep its contents."""
    HINTS_SUCCEED = enum.auto()
    """NORMAL and WILLNEED do not fail for memory that is mapped."""
    ALIKE_AGAIN_IS_ONE = enum.auto()
    """What a change of rights has split is one region again once the rights are the same again."""


class Calls(Protocol):
    """Memory calls of one process: this one, or one that carries out what it is asked.

    Every call raises OperationFailed with the kernel's errno and its name, unless it says otherwise.
    """

    system: str
    """"linux"."""
    abilities: Ability
    occupied: frozenset[str]
    """The errno names of a placement over something that is there."""
    promises: Promise
    lock_resource: int | None
    """The number of RLIMIT_MEMLOCK for setrlimit(2); None where what may be locked has no such limit."""
    stacks_grow: bool
    """Whether a stack grows into what is free below it, so that nothing should be placed there."""

    @property
    def page_size(self) -> int:
        """Bytes."""
        ...

    @property
    def address_bits(self) -> int:
        """Bits in an address of the process: 32 or 64."""
        ...

    def lacks(self, ability: Ability) -> str:
        """Why it lacks an ability: "FreeBSD has no mremap"."""
        ...

    def advice_number(self, advice: Advice) -> int | None:
        """The system's number; None where the system has no such advice."""
        ...

    def map(
        self, address: int, size: int, protection: Protection, flags: MapFlag, descriptor: int = -1, offset: int = 0
    ) -> int:
        """mmap; anonymous without a descriptor. Gives the address."""
        ...

    def unmap(self, address: int, size: int) -> None:
        """munmap."""
        ...

    def protect(self, address: int, size: int, protection: Protection) -> None:
        """mprotect."""
        ...

    def lock(self, address: int, size: int, on_fault: bool) -> None:
        """mlock."""
        ...

    def unlock(self, address: int, size: int) -> None:
        """munlock."""
        ...

    def lock_all(self, current: bool, future: bool, on_fault: bool) -> None:
        """mlockall."""
        ...

    def unlock_all(self) -> None:
        """munlockall."""
        ...

    def flush(self, address: int, size: int, wait: bool, invalidate: bool) -> None:
        """msync."""
        ...

    def advise(self, address: int, size: int, number: int) -> None:
        """madvise, with the system's number."""
        ...

    def why_unasked(self, advice: Advice) -> str | None:
        """Why `advise` for no bytes does not tell, or does something; None: it does nothing, and tells by EINVAL that
        the kernel has no such advice."""
        ...

    def move(self, address: int, size: int, new_size: int, to: int | None, may_move: bool, keep_old: bool) -> int:
        """mremap; `to` replaces what is there. Gives the address."""
        ...

    def lock_limit(self) -> tuple[int, int | None] | None:
        """Bytes that the process may lock, and how many it has locked, where that is told; None for no limit known."""
        ...

    def locked_bytes(self) -> int | None:
        """Bytes of the process that are locked, whatever the limit; None where that is not told."""
        ...

    def region_count(self) -> tuple[int, int] | None:
        """The regions of the process that count, and how many it may have; None where there is no such limit known."""
        ...

    def why_unmovable(self, region: Region) -> str | None:
        """Why the kernel does not move such a region, or not with others, as far as the region tells."""
        ...

    def range_refused(self, refusal: OperationFailed, advice: Advice) -> str:
        """Why the kernel did not complete a range, in words."""
        ...


class Operations(Calls, Protocol):
    """A system's memory operations on this machine. Registered under its name."""

    distribution: str
    """"vmatlas-linux-memory": what to install to have it."""

    def open_memory(self, name: str, size: int) -> int:
        """A descriptor of a new nameless memory object of that size, sealed against shrinking where that can be."""
        ...

    def open_shared(self, name: str, create: bool, exclusive: bool) -> int:
        """shm_open for reading and writing."""
        ...

    def is_memory_object(self, told: os.stat_result) -> bool:
        """Whether fstat tells of shared memory that is no regular file, where the system has such (S_TYPEISSHM)."""
        ...

    def where_registers_are(self, descriptor: int) -> str | None:
        """The file system of a descriptor, when its regular files may be a device's registers: "sysfs"."""
        ...

    def page_size_of(self, descriptor: int) -> int:
        """The size of the pages that a descriptor is mapped in, where it is of huge pages; else that of all."""
        ...

    def unlink_shared(self, name: str) -> None:
        """shm_unlink."""
        ...

    def lock_resource_of(self, machine: str) -> int | None:
        """`lock_resource` on a machine of that system whose uname says `machine`: the numbers of some differ."""
        ...

    def advised_since(self, advice: Advice) -> str | None:
        """The system's release from which another process can be given this advice; None where that is not declared."""
        ...

    def advise_process(self, pid: int, start_time: int | None, ranges: Sequence[tuple[int, int]], number: int) -> int:
        """One call for (address, size) ranges of a process: the bytes of the ranges that were completed.

        ESRCH when the process that has the pid started at another time; asked after the process was pinned.
        """
        ...

    def advice_refused(
        self, refusal: OperationFailed, pid: int, advice: Advice, *, any_range: bool
    ) -> VmatlasError | None:
        """What a refusal means when it is no matter of one range; None when it is.

        `any_range`: the kernel refuses it for no ranges at all, too.
        """
        ...
