"""`VmFlags` of /proc/PID/smaps as flags.

From Documentation/filesystems/proc.rst and fs/proc/task_mmu.c (`show_smap_vma_flags`). The kernel writes two letters
for each flag, and newer kernels have more. Letters without a name here get a bit of their own from `FIRST_UNNAMED` on,
so that they are kept, compared and shown like the others.
"""

from __future__ import annotations

import enum

from vmatlas.model import SystemFlags

FIRST_UNNAMED = 64


class VmFlags(SystemFlags, boundary=enum.KEEP):
    """The flags of one region. The numbers are ours: the kernel tells letters; its own bits differ by processor."""

    READABLE = 1 << 0
    WRITABLE = 1 << 1
    EXECUTABLE = 1 << 2
    SHARED = 1 << 3
    MAY_READ = 1 << 4
    MAY_WRITE = 1 << 5
    MAY_EXECUTE = 1 << 6
    MAY_SHARE = 1 << 7
    GROWS_DOWN = 1 << 8
    PURE_PFN = 1 << 9
    LOCKED = 1 << 10
    IO = 1 << 11
    SEQUENTIAL_READ = 1 << 12
    RANDOM_READ = 1 << 13
    DONT_COPY_ON_FORK = 1 << 14
    DONT_EXPAND = 1 << 15
    ACCOUNTED = 1 << 16
    NO_RESERVE = 1 << 17
    HUGETLB = 1 << 18
    SYNCHRONOUS_FAULT = 1 << 19
    NON_LINEAR = 1 << 20
    ARCHITECTURE_SPECIFIC = 1 << 21
    WIPE_ON_FORK = 1 << 22
    DONT_DUMP = 1 << 23
    SOFT_DIRTY = 1 << 24
    MIXED_MAP = 1 << 25
    HUGE_PAGES_ADVISED = 1 << 26
    NO_HUGE_PAGES_ADVISED = 1 << 27
    MERGEABLE = 1 << 28
    USERFAULTFD_MISSING = 1 << 29
    USERFAULTFD_WRITE_PROTECT = 1 << 30
    USERFAULTFD_MINOR = 1 << 31
    BRANCH_TARGETS_GUARDED = 1 << 32
    MEMORY_TAGGING = 1 << 33
    SHADOW_STACK = 1 << 34
    SEALED = 1 << 35
    DROPPABLE = 1 << 36
    LOCKED_ON_FAULT = 1 << 37
    DENY_WRITE = 1 << 38
    GUARD_PAGES = 1 << 39
    """It may hold guard pages (MADV_GUARD_INSTALL). Stays when they are gone, and spreads where regions merge."""
    USERFAULTFD_READ_WRITE_PROTECT = 1 << 40
    """UFFDIO_REGISTER_MODE_RWP, since 7.3."""

    @property
    def label(self) -> str:
        """The kernel's two letters."""
        return _LETTERS.get(int(self)) or _unnamed_letters(int(self))

    @property
    def grows_down(self) -> bool:
        """MAP_GROWSDOWN, and the main stack."""
        return bool(self & VmFlags.GROWS_DOWN)

    @property
    def of_stack(self) -> bool:
        """What grows downward, also where somebody took its rights away: a guard within the main stack (the JVM's)."""
        return self.grows_down

    @property
    def sealed(self) -> bool:
        """VM_SEALED: mseal(2)."""
        return bool(self & VmFlags.SEALED)

    @property
    def may_hold_guards(self) -> bool:
        """VM_MAYBE_GUARD."""
        return bool(self & VmFlags.GUARD_PAGES)

    @property
    def locked(self) -> bool:
        """VM_LOCKED: mlock(2)."""
        return bool(self & VmFlags.LOCKED)


_FLAGS = {
    "rd": VmFlags.READABLE,
    "wr": VmFlags.WRITABLE,
    "ex": VmFlags.EXECUTABLE,
    "sh": VmFlags.SHARED,
    "mr": VmFlags.MAY_READ,
    "mw": VmFlags.MAY_WRITE,
    "me": VmFlags.MAY_EXECUTE,
    "ms": VmFlags.MAY_SHARE,
    "gd": VmFlags.GROWS_DOWN,
    "pf": VmFlags.PURE_PFN,
    "lo": VmFlags.LOCKED,
    "lf": VmFlags.LOCKED_ON_FAULT,
    "io": VmFlags.IO,
    "sr": VmFlags.SEQUENTIAL_READ,
    "rr": VmFlags.RANDOM_READ,
    "dc": VmFlags.DONT_COPY_ON_FORK,
    "de": VmFlags.DONT_EXPAND,
    "ac": VmFlags.ACCOUNTED,
    "nr": VmFlags.NO_RESERVE,
    "ht": VmFlags.HUGETLB,
    "sf": VmFlags.SYNCHRONOUS_FAULT,
    "nl": VmFlags.NON_LINEAR,
    "ar": VmFlags.ARCHITECTURE_SPECIFIC,
    "wf": VmFlags.WIPE_ON_FORK,
    "dd": VmFlags.DONT_DUMP,
    "sd": VmFlags.SOFT_DIRTY,
    "mm": VmFlags.MIXED_MAP,
    "hg": VmFlags.HUGE_PAGES_ADVISED,
    "nh": VmFlags.NO_HUGE_PAGES_ADVISED,
    "mg": VmFlags.MERGEABLE,
    "um": VmFlags.USERFAULTFD_MISSING,
    "uw": VmFlags.USERFAULTFD_WRITE_PROTECT,
    "ui": VmFlags.USERFAULTFD_MINOR,
    "bt": VmFlags.BRANCH_TARGETS_GUARDED,
    "mt": VmFlags.MEMORY_TAGGING,
    "ss": VmFlags.SHADOW_STACK,
    "sl": VmFlags.SEALED,
    "dp": VmFlags.DROPPABLE,
    "dw": VmFlags.DENY_WRITE,
    "gu": VmFlags.GUARD_PAGES,
    "ur": VmFlags.USERFAULTFD_READ_WRITE_PROTECT,
}
_LETTERS = {int(flag): letters for letters, flag in _FLAGS.items()}


def flag_of(letters: str) -> VmFlags | None:
    """The flag that two letters stand for; None when they are not two characters of printable ASCII."""
    if (flag := _FLAGS.get(letters)) is not None:
        return flag
    if len(letters) != 2 or not all("!" <= letter <= "~" for letter in letters):
        return None
    return VmFlags(1 << FIRST_UNNAMED + (ord(letters[0]) - 33) * 94 + ord(letters[1]) - 33)


def _unnamed_letters(bit: int) -> str:
    number = bit.bit_length() - 1 - FIRST_UNNAMED
    if number < 0 or bit & (bit - 1):
        return hex(bit)
    return chr(33 + number // 94) + chr(33 + number % 94)
