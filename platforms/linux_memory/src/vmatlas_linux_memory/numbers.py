"""How Linux numbers what is asked of its memory: include/uapi/asm-generic/mman-common.h and mman.h, mman(2) pages.

The same on every processor but alpha, mips, parisc, sparc, powerpc and xtensa, which number some flags of mmap and
mlockall, system calls, limits, or some advice, in their own way: see `numbers_of`.
"""

from __future__ import annotations

from dataclasses import replace

from vmatlas.operations.posix import Numbers
from vmatlas.operations.values import Advice
from vmatlas.systems.linux.calls import call_base
from vmatlas.target.program import MapFlag

ADVICE = {
    Advice.NORMAL: 0,
    Advice.RANDOM: 1,
    Advice.SEQUENTIAL: 2,
    Advice.WILLNEED: 3,
    Advice.DONTNEED: 4,
    Advice.FREE: 8,  # since 4.5
    Advice.REMOVE: 9,
    Advice.DONTFORK: 10,
    Advice.DOFORK: 11,
    Advice.MERGEABLE: 12,
    Advice.UNMERGEABLE: 13,
    Advice.HUGEPAGE: 14,
    Advice.NOHUGEPAGE: 15,
    Advice.DONTDUMP: 16,
    Advice.DODUMP: 17,
    Advice.WIPEONFORK: 18,  # since 4.14
    Advice.KEEPONFORK: 19,
    Advice.COLD: 20,  # since 5.4
    Advice.PAGEOUT: 21,  # since 5.4
    Advice.POPULATE_READ: 22,  # since 5.14
    Advice.POPULATE_WRITE: 23,
    Advice.DONTNEED_LOCKED: 24,  # since 5.18
    Advice.COLLAPSE: 25,  # since 6.1
    Advice.HWPOISON: 100,
    Advice.SOFT_OFFLINE: 101,
    Advice.GUARD_INSTALL: 102,  # since 6.13
    Advice.GUARD_REMOVE: 103,
}

SINCE = {Advice.COLD: "5.10", Advice.PAGEOUT: "5.10", Advice.WILLNEED: "5.13", Advice.COLLAPSE: "6.1"}
"""The release from which process_madvise takes an advice for another process (process_madvise(2)). For messages only:
what a kernel takes is found out by asking it."""

FLAGS = {
    MapFlag.FIXED: 0x10,
    MapFlag.FIXED_NOT_OVER: 0x100000,  # MAP_FIXED_NOREPLACE, since 4.17; older kernels ignore it
    MapFlag.NO_RESERVE: 0x4000,
    MapFlag.POPULATE: 0x8000,
    MapFlag.GROWS_DOWN: 0x100,
    MapFlag.LOCKED: 0x2000,
    MapFlag.HUGE: 0x40000,
    MapFlag.STACK: 0x20000,
}

GENERIC = Numbers(shared=1, private=2, anonymous=0x20, wait=4, no_wait=1, invalidate=2, flags=FLAGS, advice=ADVICE)

REGISTERS_LIE_IN = {0x62656572: "sysfs", 0x9FA0: "proc", 0x64626720: "debugfs"}
"""File systems, by f_type of statfs(2) (linux/magic.h), whose regular files a driver can map registers behind."""

HUGETLBFS = 0x958458F6
"""A file system of huge pages, by f_type of statfs(2) (linux/magic.h)."""

LOCK_ON_FAULT = 1
"""MLOCK_ONFAULT of mlock2(2), since 4.4."""

MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP = 1, 2, 4
"""DONTUNMAP since 5.7; for shared and file mappings since 5.13."""

PIDFD_OPEN, PROCESS_MADVISE = 434, 440
"""System calls since 5.3 and 5.10, and `call_base` on some processors."""

_MLOCK2 = {
    "x86_64": 325,
    "i686": 376,
    "i386": 376,
    "arm": 390,
    "s390x": 374,
    "ppc64le": 378,
    "ppc64": 378,
}
_MLOCK2_GENERIC = 284
"""aarch64, riscv64, loongarch64: include/uapi/asm-generic/unistd.h."""

_MLOCK2_MIPS = {4000: 359, 5000: 319, 6000: 323}
"""Of each ABI of mips, by its `call_base`, which is to be added."""

MIPS_FLAGS = FLAGS | {
    MapFlag.NO_RESERVE: 0x400,
    MapFlag.POPULATE: 0x10000,
    MapFlag.GROWS_DOWN: 0x1000,
    MapFlag.LOCKED: 0x8000,
    MapFlag.HUGE: 0x80000,
    MapFlag.STACK: 0x40000,
}
"""arch/mips/include/uapi/asm/mman.h."""

MEMLOCK = 8
"""RLIMIT_MEMLOCK of setrlimit(2): include/uapi/asm-generic/resource.h."""

_MEMLOCK_OWN = 9
"""The same on mips and alpha: arch/mips/include/uapi/asm/resource.h, arch/alpha/include/uapi/asm/resource.h."""

OWN_NUMBERS = ("alpha", "parisc", "hppa", "sparc", "xtensa")
"""Processors whose Linux numbers these things differently, and that nobody tried."""


def mlock2_number(machine: str, wide: bool) -> int:
    """The system call mlock2; `wide`: this process has 64-bit pointers."""
    if machine.startswith("mips"):
        base = call_base(machine, wide)
        return base + _MLOCK2_MIPS[base]
    if machine == "x86_64" and not wide:
        return _MLOCK2["i686"]
    if machine == "aarch64" and not wide:
        return _MLOCK2["arm"]
    return _MLOCK2.get("arm" if machine.startswith("arm") else machine, _MLOCK2_GENERIC)


def numbers_of(machine: str) -> Numbers:
    """For the processor that uname names."""
    if machine.startswith("ppc"):
        flags = FLAGS | {MapFlag.NO_RESERVE: 0x40, MapFlag.LOCKED: 0x80}
        return replace(GENERIC, flags=flags, current=0x2000, future=0x4000)
    if machine.startswith("mips"):
        return replace(GENERIC, flags=MIPS_FLAGS, anonymous=0x800)
    return GENERIC


def lock_resource_of(machine: str) -> int:
    """The number of RLIMIT_MEMLOCK on the processor that uname names."""
    return _MEMLOCK_OWN if machine.startswith(("mips", "alpha")) else MEMLOCK


def lock_on_fault_flag(machine: str) -> int:
    """MCL_ONFAULT of mlockall(2), since 4.4."""
    return 0x8000 if machine.startswith("ppc") else 4
