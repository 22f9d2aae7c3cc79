"""The structures, held to a second declaration that the C ABI lays out."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import pytest

from vmatlas_netbsd import layout


def several(kind: Any, names: str) -> list[tuple[str, Any]]:
    return [(name, kind) for name in names.split()]


class CRegion(ctypes.Structure):
    """struct kinfo_vmentry of <sys/sysctl.h>."""

    _fields_ = (
        *several(ctypes.c_uint64, "start end offset"),
        *several(ctypes.c_uint32, "type flags pages wired_count advice attributes protection max_protection"),
        *several(ctypes.c_uint32, "ref_count inheritance"),
        *several(ctypes.c_uint64, "vn_fileid vn_size vn_fsid vn_rdev"),
        *several(ctypes.c_uint32, "vn_type vn_mode"),
        ("path", ctypes.c_char * 1024),
    )


SIGNALS = ctypes.c_uint32 * 4  # ki_sigset_t


class CProcess(ctypes.Structure):
    """struct kinfo_proc2 of <sys/sysctl.h>."""

    _fields_ = (
        *several(ctypes.c_uint64, "forw back paddr addr fd cwdi stats limit vmspace sigacts sess tsess ru"),
        *several(ctypes.c_int32, "eflag exitsig flag pid ppid sid _pgid tpgid"),
        *several(ctypes.c_uint32, "uid ruid gid rgid"),
        ("groups", ctypes.c_uint32 * 16),
        *several(ctypes.c_int16, "ngroups jobc"),
        *several(ctypes.c_uint32, "tdev estcpu rtime_sec rtime_usec"),
        ("cpticks", ctypes.c_int32),
        *several(ctypes.c_uint32, "pctcpu swtime slptime"),
        ("schedflags", ctypes.c_int32),
        *several(ctypes.c_uint64, "uticks sticks iticks tracep"),
        *several(ctypes.c_int32, "traceflag holdcnt"),
        *several(SIGNALS, "siglist sigmask sigignore sigcatch"),
        ("stat", ctypes.c_int8),
        *several(ctypes.c_uint8, "priority usrpri nice"),
        *several(ctypes.c_uint16, "xstat acflag"),
        ("comm", ctypes.c_char * 24),
        ("wmesg", ctypes.c_char * 8),
        ("wchan", ctypes.c_uint64),
        ("login", ctypes.c_char * 24),
        *several(ctypes.c_int32, "vm_rssize vm_tsize vm_dsize vm_ssize"),
        ("uvalid", ctypes.c_int64),
        *several(ctypes.c_uint32, "ustart_sec ustart_usec uutime_sec uutime_usec ustime_sec ustime_usec"),
        *several(ctypes.c_uint64, "uru_maxrss uru_ixrss uru_idrss uru_isrss uru_minflt uru_majflt uru_nswap"),
        *several(ctypes.c_uint64, "uru_inblock uru_oublock uru_msgsnd uru_msgrcv uru_nsignals uru_nvcsw uru_nivcsw"),
        *several(ctypes.c_uint32, "uctime_sec uctime_usec"),
        *several(ctypes.c_uint64, "cpuid realflag nlwps nrlwps realstat"),
        *several(ctypes.c_uint32, "svuid svgid"),
        ("ename", ctypes.c_char * 16),
        *several(ctypes.c_int64, "vm_vsize vm_msize"),
    )


@pytest.mark.parametrize(
    ("declared", "fields", "size"),
    [
        (CRegion, layout.REGION_FIELDS, layout.REGION_SIZE),
        (CProcess, layout.PROCESS_FIELDS, layout.PROCESS_SIZE),
    ],
    ids=["region", "process"],
)
def test_layout_is_that_of_the_c_structure(declared: type[ctypes.Structure], fields: layout.Fields, size: int) -> None:
    assert ctypes.sizeof(declared) == size
    for name, code, offset in fields:
        field = getattr(declared, name)
        assert (name, field.offset, field.size) == (name, offset, struct.calcsize(f"={code}"))


def test_records_have_the_fields_of_the_layout() -> None:
    assert layout.KernelRegion._fields == tuple(name for name, _, _ in layout.REGION_FIELDS)
    assert layout.KernelProcess._fields == tuple(name for name, _, _ in layout.PROCESS_FIELDS)


def test_both_byte_orders_read_what_they_wrote() -> None:
    values = [
        bytes([number]).ljust(struct.calcsize(f"={code}"), b"\0") if code.endswith("s") else number
        for number, (_, code, _) in enumerate(layout.REGION_FIELDS, 1)
    ]
    for order in ("little", "big"):
        packed = layout.region_structure(order).pack(*values)
        assert len(packed) == layout.REGION_SIZE
        assert list(layout.region_structure(order).unpack(packed)) == values
