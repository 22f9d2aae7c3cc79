"""How processors number system calls: what is added to the number that a call since Linux 5.1 has everywhere else.

Facts: include/uapi/asm-generic/unistd.h; arch/mips/include/uapi/asm/unistd.h (`__NR_Linux` of each ABI),
arch/alpha/kernel/syscalls/syscall.tbl. Its twin in C is native/call_base.h.
"""

from __future__ import annotations

import functools
import os
import struct
import sys

_O32, _N64, _N32, _ALPHA = 4000, 5000, 6000, 110
_IS_N32 = getattr(sys.implementation, "_multiarch", "").endswith("abin32")


def call_base(machine: str, wide: bool) -> int:
    """`machine`: as uname says; `wide`: whether this process has 64-bit pointers."""
    if machine.startswith("mips"):
        return _N64 if wide else _N32 if _IS_N32 else _O32
    return _ALPHA if machine == "alpha" else 0


@functools.cache
def own_call_base() -> int:
    """This process's."""
    return call_base(os.uname().machine, struct.calcsize("P") == 8)
