"""What Linux's names for regions mean. Pure.

The kernel gives one name for each region (fs/proc/task_mmu.c, `get_vma_name`): a path, perhaps with " (deleted)"
appended; a name in brackets; or nothing. Both the text and the ioctl give the same names, but for the newline, which
the text escapes.
"""

from __future__ import annotations

import functools
import re

from vmatlas.model import Kind, Label, Protection
from vmatlas.model.columns import NO_LABEL

DELETED = b" (deleted)"

_BRACKETED = {
    b"[heap]": Kind.HEAP,
    b"[stack]": Kind.STACK,
    b"[vdso]": Kind.VDSO,
    b"[vvar]": Kind.VVAR,
    b"[vvar_vclock]": Kind.VVAR,
    b"[vsyscall]": Kind.VSYSCALL,
    b"[vectors]": Kind.VSYSCALL,
    b"[sigpage]": Kind.VDSO,
    b"[timens]": Kind.VVAR,
}
_STACK_OF_THREAD = re.compile(rb"\[stack:\d+\]|\[anon: ?glibc: pthread stack: \d+\]|\[anon:stack_and_tls:[^]]*\]")
"""Linux 3.4 to 4.4; glibc 2.42 and newer where asked for by a tunable; Android's bionic."""
_SHARED_NAMES = re.compile(
    rb"/dev/zero \(deleted\)|/dev/shm/.*|/memfd:.*|(?:/SYSV[0-9a-f]{8,}|/?/anon_hugepage)(?: \(deleted\))?",
    re.DOTALL,
)
_DRIVER_NAMES = re.compile(rb"anon_inode:.*|socket:\[\d+\]|/dev/(?!shm/|hugepages/|mqueue/).*|/i915.*", re.DOTALL)
_NEVER_NAMED = re.compile(rb"/dev/zero|/SYSV[0-9a-f]{8,}|/memfd:.*|/?/anon_hugepage", re.DOTALL)
"""Objects without a name in any folder; the kernel always calls them deleted."""

_NOTHING = Protection.NONE


def may_be_ambiguous(name: bytes) -> bool:
    """Whether only the file system can tell: a real name may end in " (deleted)"."""
    return name.endswith(DELETED) and _NEVER_NAMED.fullmatch(name[: -len(DELETED)]) is None


def tell(name: bytes, linked: bool, protection: int, has_file: bool) -> tuple[Label, Kind]:
    """The label and the kind of a region.

    `linked`: the name ends in " (deleted)", and a file really of that name is meant (see `links`).
    """
    deleted = name.endswith(DELETED) and not linked
    label, kind = _read(name, deleted)
    if kind is Kind.ANONYMOUS and protection == _NOTHING and not has_file:
        # Reserved address space and guard pages look alike: mapped, private, no file, no rights.
        return label, Kind.GUARD
    if kind is Kind.ANONYMOUS and has_file and not name:
        return label, Kind.FILE
    return label, kind


@functools.lru_cache(4096)
def _read(name: bytes, deleted: bool) -> tuple[Label, Kind]:
    if not name:
        return NO_LABEL, Kind.ANONYMOUS
    text = name.decode("utf-8", "surrogateescape")
    if name.startswith(b"["):
        kind = _BRACKETED.get(name)
        if kind is None:
            if _STACK_OF_THREAD.fullmatch(name):
                kind = Kind.STACK
            elif name.startswith(b"[anon:"):
                kind = Kind.ANONYMOUS
            elif name.startswith(b"[anon_shmem:"):
                kind = Kind.SHARED_MEMORY
            else:
                kind = Kind.OTHER
        return Label(name=text), kind
    path = text[: -len(DELETED)] if deleted else text
    if _SHARED_NAMES.fullmatch(name):
        kind = Kind.SHARED_MEMORY
    elif name == b"/dev/zero":
        kind = Kind.ANONYMOUS
    elif _DRIVER_NAMES.fullmatch(name):
        kind = Kind.DEVICE
    else:
        kind = Kind.FILE
    if not name.startswith(b"/"):
        return Label(name=text), kind
    return Label(path=path, deleted=deleted), kind
