"""Memory calls of this Linux machine: POSIX through libc, the rest by system call.

What a kernel has is found out by asking it: ENOSYS and EINVAL are answers. Comments name the release for the reader.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from errno import ESRCH
from typing import Any

from vmatlas.errors import MalformedData, OperationFailed, Unsupported, UsageError, VmatlasError
from vmatlas.model import Kind, Region
from vmatlas.operations.contract import Ability, Promise
from vmatlas.operations.posix import PosixCalls, refuse
from vmatlas.operations.values import Advice
from vmatlas.systems.linux.calls import call_base
from vmatlas.systems.linux.denied import why_denied
from vmatlas.systems.linux.proc import (
    capabilities_of,
    check_numbers,
    key_of,
    most_regions,
    own_regions,
    read_own,
)
from vmatlas.systems.linux.stat import parse_stat
from vmatlas_linux_memory import apart, numbers, story


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class LinuxMemory(PosixCalls):
    """Linux."""

    system = "linux"
    distribution = "vmatlas-linux-memory"
    abilities = (
        PosixCalls.abilities
        | Ability.PLACE
        | Ability.LOCK_ON_FAULT
        | Ability.MOVE
        | Ability.KEEP_OLD
        | Ability.RESIZE
        | Ability.MEMORY_OBJECT
        | Ability.ADVISE_PROCESS
    )

    promises = (
        Promise.LOCKS_ARE_TOLD
        | Promise.HOLES_STOP_ADVICE
        | Promise.DONTNEED_DISCARDS
        | Promise.HINTS_SUCCEED
        | Promise.ALIKE_AGAIN_IS_ONE
    )
    stacks_grow = True

    def __init__(self, libc: Any = None, machine: str | None = None) -> None:
        """`libc` and `machine`: those of this process, unless others are given."""
        super().__init__(libc)
        self._machine = os.uname().machine if machine is None else machine
        self.numbers = numbers.numbers_of(self._machine)
        self.lock_resource = self.lock_resource_of(self._machine)

    def lock_resource_of(self, machine: str) -> int:
        """RLIMIT_MEMLOCK, which some processors number in their own way."""
        return numbers.lock_resource_of(machine)

    def advised_since(self, advice: Advice) -> str | None:
        """The release from which process_madvise takes it (process_madvise(2))."""
        return numbers.SINCE.get(advice)

    def _system_call(self, number: int, what: str, *arguments: Any) -> int:
        if self._machine.startswith(numbers.OWN_NUMBERS):
            raise Unsupported(
                f"{what}: nobody has tried it on the processor {self._machine}, which numbers it otherwise"
            )
        call = self.libc.syscall
        call.restype = ctypes.c_long
        value = int(call(ctypes.c_long(number), *arguments))
        if value == -1:
            raise refuse(what)
        return value

    # ---- this process's memory ----

    def lock(self, address: int, size: int, on_fault: bool) -> None:
        """mlock, or mlock2 with MLOCK_ONFAULT (since 4.4)."""
        if not on_fault:
            super().lock(address, size, on_fault)
            return
        number = numbers.mlock2_number(self._machine, self.address_bits == 64)
        flag = ctypes.c_int(numbers.LOCK_ON_FAULT)
        self._system_call(number, "mlock2", ctypes.c_void_p(address), ctypes.c_size_t(size), flag)

    def lock_all(self, current: bool, future: bool, on_fault: bool) -> None:
        """mlockall; MCL_ONFAULT since 4.4."""
        flags = (self.numbers.current if current else 0) | (self.numbers.future if future else 0)
        flags |= numbers.lock_on_fault_flag(self._machine) if on_fault else 0
        self._call("mlockall", ctypes.c_int(flags))

    def why_unasked(self, advice: Advice) -> None:
        """madvise judges the advice before the range, and does nothing for no bytes (mm/madvise.c).

        What it does not judge so is the capability that HWPOISON and SOFT_OFFLINE take: older kernels do, newer not.
        """

    def move(self, address: int, size: int, new_size: int, to: int | None, may_move: bool, keep_old: bool) -> int:
        """mremap(2). Of several mappings at once since 6.17 (`new_size` the same, and `to` given)."""
        flags = numbers.MREMAP_MAYMOVE if may_move or to is not None or keep_old else 0
        flags |= numbers.MREMAP_FIXED if to is not None else 0
        flags |= numbers.MREMAP_DONTUNMAP if keep_old else 0
        call = self.libc.mremap
        call.restype = ctypes.c_void_p
        got = call(
            ctypes.c_void_p(address),
            ctypes.c_size_t(size),
            ctypes.c_size_t(new_size),
            ctypes.c_int(flags),
            ctypes.c_void_p(to or 0),
        )
        if got is None or got == ctypes.c_size_t(-1).value:
            raise refuse("mremap")
        return int(got)

    def lock_limit(self) -> tuple[int, int | None] | None:
        """RLIMIT_MEMLOCK, and VmLck of /proc/self/status; None where CAP_IPC_LOCK lifts the limit."""
        status = read_own("status")  # without /proc the limit alone is told
        if (capabilities_of(status) or 0) >> _CAP_IPC_LOCK & 1:
            return None
        limit = super().lock_limit()
        return None if limit is None else (limit[0], _locked(status))

    def locked_bytes(self) -> int | None:
        """VmLck of /proc/self/status."""
        return _locked(read_own("status"))

    def region_count(self) -> tuple[int, int] | None:
        """By /proc/self/maps and vm.max_map_count."""
        most, count = most_regions(), own_regions()
        return None if count is None or most is None else (count, most)

    def why_unmovable(self, region: Region) -> str | None:
        """By VmFlags, where the region has them, and by what it is (mm/mremap.c, `vma_multi_allowed`)."""
        flags = [] if region.flags is None else region.flags.labels()
        if not {"um", "uw", "ui", "ur"}.isdisjoint(flags):
            return "a userfaultfd watches it, and would lose it"
        if "sl" in flags:
            return "it is sealed (mseal)"
        label = region.label
        if region.kind is Kind.DEVICE or (
            label.startswith("/dev/") and not label.startswith(("/dev/shm/", "/dev/zero (d"))
        ):
            return "its driver may place it where it likes"
        if region.kind in (Kind.VVAR, Kind.VSYSCALL):
            return "it is the kernel's"
        return None

    # ---- memory objects ----

    def open_memory(self, name: str, size: int) -> int:
        """memfd_create (since 3.17), sealed so that nobody can shrink it under a mapping."""
        import fcntl

        try:
            descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError as error:
            raise refuse("memfd_create", error.errno) from None
        try:
            os.ftruncate(descriptor, size)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        except OSError as error:
            os.close(descriptor)
            raise refuse(f"a memory object of {size:,} bytes", error.errno) from None
        return descriptor

    def where_registers_are(self, descriptor: int) -> str | None:
        """sysfs (Documentation/PCI/sysfs-pci.rst, resource0..N) and proc (bus/pci), wherever they are mounted."""
        return numbers.REGISTERS_LIE_IN.get(self._file_system(descriptor))

    def page_size_of(self, descriptor: int) -> int:
        """The block size of hugetlbfs, on which the kernel maps whole huge pages, whatever size is asked for."""
        if self._file_system(descriptor) != numbers.HUGETLBFS:
            return self.page_size
        return os.fstatvfs(descriptor).f_bsize

    def _file_system(self, descriptor: int) -> int:
        """Its kind, by f_type of statfs(2)."""
        # struct statfs begins with f_type: a long, but on s390x an int. It is larger than no kernel's.
        told = ctypes.create_string_buffer(512)
        if self.libc.fstatfs(ctypes.c_int(descriptor), told) != 0:
            raise refuse("fstatfs")
        kind = (ctypes.c_uint if self._machine == "s390x" else ctypes.c_ulong).from_buffer(told).value
        return int(kind) & 0xFFFFFFFF

    # ---- other processes ----

    def advise_process(self, pid: int, start_time: int | None, ranges: Sequence[tuple[int, int]], number: int) -> int:
        """pidfd_open (since 5.3), the start time, process_madvise (since 5.10).

        The start time is what /proc tells of that number: it must be a /proc that means the same process by it.
        """
        check_numbers()
        base = call_base(self._machine, self.address_bits == 64)
        try:
            descriptor = self._system_call(base + numbers.PIDFD_OPEN, "pidfd_open", ctypes.c_int(pid), ctypes.c_uint(0))
        except OperationFailed as refusal:
            # A thread's id: EINVAL, and ENOENT on newer kernels. /proc shows it, so its start time could be read.
            if refusal.errno_name in ("EINVAL", "ENOENT"):
                raise UsageError(f"{pid} is the id of a thread; advice goes to a process", pid=pid) from None
            raise
        try:
            # The process was pinned before this look: if its number had been given to another, that shows here.
            if start_time is not None and _start_time(pid) != start_time:
                raise refuse("the process has ended", ESRCH)
            vector = (_Iovec * max(len(ranges), 1))(*[_Iovec(address, size) for address, size in ranges])
            if number == self.advice_number(Advice.WILLNEED) and ranges and apart.is_possible():
                return apart.advise(base + numbers.PROCESS_MADVISE, descriptor, bytes(vector), len(ranges), number)
            return self._system_call(
                base + numbers.PROCESS_MADVISE,
                "process_madvise",
                ctypes.c_int(descriptor),
                vector,
                ctypes.c_size_t(len(ranges)),
                ctypes.c_int(number),
                ctypes.c_uint(0),
            )
        except OperationFailed as refusal:
            if refusal.errno_name == "EACCES":
                refusal.hint = why_denied(pid)
            raise
        finally:
            os.close(descriptor)

    def advice_refused(
        self, refusal: OperationFailed, pid: int, advice: Advice, *, any_range: bool
    ) -> VmatlasError | None:
        """See `story`."""
        return story.advice_refused(refusal, pid, advice, any_range=any_range)

    def range_refused(self, refusal: OperationFailed, advice: Advice) -> str:
        """See `story`."""
        return story.range_refused(refusal, advice)


_CAP_IPC_LOCK = 14


def _locked(status: bytes) -> int | None:
    told = key_of(status, b"VmLck").split()
    return int(told[0]) * 1024 if told else None


def _start_time(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return parse_stat(file.read(4096), pid=pid).start_time
    except (FileNotFoundError, ProcessLookupError, MalformedData):  # it has ended
        return None
    except OSError as error:
        raise refuse(f"/proc/{pid}/stat", error.errno) from None


OPERATIONS = LinuxMemory()
