"""The memory calls of POSIX through this process's C library: what the plugins of several systems share.

It knows no number: each system gives its own. A plugin's class adds what its system has beyond POSIX. Every refusal is
an OperationFailed with the errno that the call left.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from errno import EINVAL, errorcode
from typing import Any

from vmatlas.errors import OperationFailed, Unsupported, VmatlasError
from vmatlas.model import Protection, Region
from vmatlas.once import cached_property
from vmatlas.operations.contract import Ability, Promise
from vmatlas.operations.values import Advice
from vmatlas.target.program import MapFlag

_FAILED = ctypes.c_size_t(-1).value
"""MAP_FAILED, as ctypes gives a pointer."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """How a system numbers what POSIX names (its sys/mman.h)."""

    shared: int
    private: int
    anonymous: int
    wait: int
    """MS_SYNC."""
    no_wait: int
    """MS_ASYNC."""
    invalidate: int
    current: int = 1
    """MCL_CURRENT."""
    future: int = 2
    """MCL_FUTURE."""
    read: int = 1
    write: int = 2
    execute: int = 4
    flags: dict[MapFlag, int] = field(default_factory=dict)
    """What mmap can be told besides; a flag that is not here, it cannot."""
    advice: dict[Advice, int] = field(default_factory=dict)


def refuse(what: str, number: int | None = None) -> OperationFailed:
    """The failure of a call, by its errno or the one that libc left."""
    errno = ctypes.get_errno() if number is None else number
    return OperationFailed(f"{what}: {os.strerror(errno)}", errno=errno, errno_name=errorcode.get(errno, str(errno)))


class PosixCalls:
    """Memory calls of this process."""

    system = "posix"
    distribution = "vmatlas"
    numbers: Numbers
    abilities = Ability.LOCK | Ability.LOCK_ALL | Ability.SHARED_OBJECT | Ability.BUFFERS
    occupied = frozenset({"EEXIST"})
    promises = Promise.NONE
    lock_resource: int | None = None
    stacks_grow = False
    lacking: dict[Ability, str] = {}  # noqa: RUF012  (a table of the class, never changed)
    """Why the system lacks an ability, in words."""

    def __init__(self, libc: Any = None) -> None:
        """`libc`: what has the calls; this process's C library, loaded when first used."""
        self._given = libc

    @cached_property
    def libc(self) -> Any:
        """The C library, which leaves errno where `ctypes.get_errno` finds it."""
        return self._given if self._given is not None else ctypes.CDLL(None, use_errno=True)

    @property
    def page_size(self) -> int:
        """Bytes."""
        return os.sysconf("SC_PAGESIZE")

    @property
    def address_bits(self) -> int:
        """Bits in a pointer of this process."""
        return ctypes.sizeof(ctypes.c_void_p) * 8

    def lacks(self, ability: Ability) -> str:
        """Why it lacks an ability."""
        return self.lacking.get(ability) or f"{self.system} has no such call"

    def advice_number(self, advice: Advice) -> int | None:
        """By the system's table."""
        return self.numbers.advice.get(advice)

    def lock_resource_of(self, machine: str) -> int | None:
        """One number on all machines, unless a system knows better."""
        return self.lock_resource

    def advised_since(self, advice: Advice) -> str | None:
        """Not declared, unless a system does."""
        return None

    def _protection(self, protection: Protection) -> int:
        return sum(
            number
            for right, number in (
                (Protection.READ, self.numbers.read),
                (Protection.WRITE, self.numbers.write),
                (Protection.EXECUTE, self.numbers.execute),
            )
            if protection & right
        )

    def _call(self, name: str, *arguments: Any) -> None:
        """A call that gives 0 or -1."""
        function = getattr(self.libc, name, None)
        if function is None:
            raise Unsupported(f"the C library of this machine has no {name}")
        if function(*arguments) != 0:
            raise refuse(name)

    def map(
        self, address: int, size: int, protection: Protection, flags: MapFlag, descriptor: int = -1, offset: int = 0
    ) -> int:
        """mmap. Raises Unsupported for a flag that the system lacks."""
        native = self.numbers.shared if flags & MapFlag.SHARED else self.numbers.private
        native |= self.numbers.anonymous if descriptor < 0 else 0
        for flag in flags & ~MapFlag.SHARED:
            if flag not in self.numbers.flags:
                raise Unsupported(f"{self.system} cannot map with {flag.name}")
            native |= self.numbers.flags[flag]
        function = self._mmap
        got = function(address or None, size, self._protection(protection), native, descriptor, offset)
        if got is None:  # with the privilege to map there; a Mapping at 0 would be what None is to ctypes
            self.unmap(0, size)
            raise refuse("mmap gave address 0", EINVAL)
        if got == _FAILED:
            raise refuse("mmap")
        return int(got)

    @cached_property
    def _mmap(self) -> Any:
        # The offset has 64 bits; where off_t has less, the call for that has a name of its own.
        found = getattr(self.libc, "mmap64", None) or self.libc.mmap
        found.restype = ctypes.c_void_p
        found.argtypes = [
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_int64,
        ]
        return found

    def unmap(self, address: int, size: int) -> None:
        """munmap."""
        self._call("munmap", ctypes.c_void_p(address), ctypes.c_size_t(size))

    def protect(self, address: int, size: int, protection: Protection) -> None:
        """mprotect."""
        native = ctypes.c_int(self._protection(protection))
        self._call("mprotect", ctypes.c_void_p(address), ctypes.c_size_t(size), native)

    def lock(self, address: int, size: int, on_fault: bool) -> None:
        """mlock."""
        if on_fault:
            raise Unsupported(f"locking on fault: {self.lacks(Ability.LOCK_ON_FAULT)}")
        self._call("mlock", ctypes.c_void_p(address), ctypes.c_size_t(size))

    def unlock(self, address: int, size: int) -> None:
        """munlock."""
        self._call("munlock", ctypes.c_void_p(address), ctypes.c_size_t(size))

    def lock_all(self, current: bool, future: bool, on_fault: bool) -> None:
        """mlockall."""
        if on_fault:
            raise Unsupported(f"locking on fault: {self.lacks(Ability.LOCK_ON_FAULT)}")
        flags = (self.numbers.current if current else 0) | (self.numbers.future if future else 0)
        self._call("mlockall", ctypes.c_int(flags))

    def unlock_all(self) -> None:
        """munlockall."""
        self._call("munlockall")

    def flush(self, address: int, size: int, wait: bool, invalidate: bool) -> None:
        """msync."""
        flags = (self.numbers.wait if wait else self.numbers.no_wait) | (self.numbers.invalidate if invalidate else 0)
        self._call("msync", ctypes.c_void_p(address), ctypes.c_size_t(size), ctypes.c_int(flags))

    def advise(self, address: int, size: int, number: int) -> None:
        """madvise."""
        self._call("madvise", ctypes.c_void_p(address), ctypes.c_size_t(size), ctypes.c_int(number))

    def why_unasked(self, advice: Advice) -> str | None:
        """POSIX lets a system refuse advice for no bytes, whatever the advice (posix_madvise)."""
        return f"{self.system} may refuse any advice for no bytes, so its kernel cannot be asked without a range"

    def move(self, address: int, size: int, new_size: int, to: int | None, may_move: bool, keep_old: bool) -> int:
        """POSIX cannot move memory. Raises Unsupported."""
        raise Unsupported(f"moving memory: {self.lacks(Ability.MOVE)}")

    def lock_limit(self) -> tuple[int, int | None] | None:
        """RLIMIT_MEMLOCK of this process."""
        import resource

        limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
        return None if limit == resource.RLIM_INFINITY else (limit, None)

    def locked_bytes(self) -> int | None:
        """POSIX does not tell."""
        return None

    def region_count(self) -> tuple[int, int] | None:
        """POSIX knows no limit."""
        return None

    def why_unmovable(self, region: Region) -> str | None:
        """Nothing is moved here."""
        return None

    def open_memory(self, name: str, size: int) -> int:
        """POSIX has no nameless memory object. Raises Unsupported."""
        raise Unsupported(f"a nameless memory object: {self.lacks(Ability.MEMORY_OBJECT)}")

    def open_shared(self, name: str, create: bool, exclusive: bool) -> int:
        """shm_open for reading and writing."""
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0) | (os.O_EXCL if exclusive else 0)
        # The mode is variadic in some libraries: a whole int either way.
        descriptor = self.libc.shm_open(os.fsencode(name), ctypes.c_int(flags), ctypes.c_int(0o600))
        if descriptor < 0:
            raise refuse("shm_open")
        return int(descriptor)

    def is_memory_object(self, told: os.stat_result) -> bool:
        """POSIX leaves it to the system how it tells them; most tell a regular file."""
        return False

    def where_registers_are(self, descriptor: int) -> str | None:
        """None is known."""
        return None

    def page_size_of(self, descriptor: int) -> int:
        """No others are known."""
        return self.page_size

    def unlink_shared(self, name: str) -> None:
        """shm_unlink."""
        self._call("shm_unlink", os.fsencode(name))

    def advise_process(self, pid: int, start_time: int | None, ranges: Sequence[tuple[int, int]], number: int) -> int:
        """POSIX has no advice to another process. Raises Unsupported."""
        raise Unsupported(f"advice to another process: {self.lacks(Ability.ADVISE_PROCESS)}", pid=pid)

    def advice_refused(
        self, refusal: OperationFailed, pid: int, advice: Advice, *, any_range: bool
    ) -> VmatlasError | None:
        """Only a system that lacks the call altogether."""
        if refusal.errno_name in ("ENOSYS", "ENOTSUP", "EOPNOTSUPP"):
            return Unsupported(f"{self.system} has no such call ({refusal.errno_name})", pid=pid)
        if any_range and refusal.errno_name == "EINVAL":
            return Unsupported(f"this kernel has no advice '{advice.value}' (EINVAL)", pid=pid)
        return None

    def range_refused(self, refusal: OperationFailed, advice: Advice) -> str:
        """By the errno alone."""
        if refusal.errno_name == "ENOMEM":
            return "a part of it is not mapped (ENOMEM)"
        return f"the kernel refused it ({refusal.errno_name})"
