"""What Linux's names for regions mean. Pure.

The kernel gives one name for each region (fs/proc/task_mmu.c, `get_vma_name`): a path, perhaps with " (deleted)"
appended; a name in brackets; or nothing. Both the text and the ioctl give the same names, but for the newline, which
the text escapes.
"""

from __future__ import annotations

import functools

from vmatlas.model import Kind, Label, Protection
from vmatlas.model.columns import NO_LABEL
from vmatlas.patterns import pattern

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
_STACK_OF_THREAD = pattern(rb"\[stack:\d+\]|\[anon: ?glibc: pthread stack: \d+\]|\[anon:stack_and_tls:[^]]*\]")
"""Linux 3.4 to 4.4; glibc 2.42 and newer where asked for by a tunable; Android's bionic."""
_MADE_UP = pattern(rb"(?s)/dev/zero|/dev/ashmem/.*|/SYSV[0-9a-f]{8,}|/memfd:.*|/?/anon_hugepage")
"""Names that the kernel makes up (before " (deleted)") which the rule of `is_made_up` would not tell from a file's."""
_UNDELETED = b"/dmabuf:"
"""How those begin that stand without that word."""
_HUGE = b"/anon_hugepage", b"//anon_hugepage"
_BUFFERS = b"/drm mm object", b"/i915", b"/ttm swap"
"""Those that are a driver's, beside those without that word."""
_OBJECTS = pattern(rb"/(?:secretmem|\[[^/]*\]|drm mm object|i915|ttm swap)")
"""Of objects that can be shared alone: what the kernel is known to call them."""
_NO_DEVICES = tuple(b"/dev/%b/" % folder for folder in (b"shm", b"hugepages", b"mqueue", b"ashmem", b"__properties__"))
_OF_MEMORY = tuple(b"anon_inode:[%b]" % object for object in (b"aio", b"secretmem", b"kvm-gmem", b"guest_memfd"))
"""Memory that some kernels name so, and others by a name of its own file system."""

_NOTHING = Protection.NONE


def is_made_up(name: bytes, major: int, *, shared: bool = True, mounted: bool | None = None) -> bool:
    """Whether a name is one that the kernel made up for an object which never had one in any folder.

    Such an object lies on a file system of the kernel's own, which is mounted nowhere: its device has major number 0
    and is in no mount table (`mounted`; None: nobody looked). Its name is one step below "/", and called deleted
    (`simple_dname` in fs/d_path.c); who makes a new kind of object chooses the step. It is shared: those that can be
    mapped privately are few, and known by name. So a file of the root folder of a container, whose device has major
    number 0 too, is told from it by the mount table, and code that runs from an unlinked file by being private, or by
    its right to run: the kernel refuses that to rings and secret memory (tried on 6.18), not to a driver's: see `tell`.
    """
    if major != 0 or mounted or not name.endswith(DELETED):
        return False
    stem = name[: -len(DELETED)]
    return _MADE_UP.fullmatch(stem) is not None or (shared and stem.startswith(b"/") and stem.count(b"/") == 1)


def is_of_memory(name: bytes) -> bool:
    """Whether it is a name that the kernel gives to memory alone, which lies on the file systems that it mounts for it.

    Those are one, and one for each size of huge pages (mm/shmem.c, fs/hugetlbfs/inode.c). A file of a tmpfs that was
    unmounted lazily can have just such a name, on another device.
    """
    return name.endswith(DELETED) and _MADE_UP.fullmatch(name[: -len(DELETED)]) is not None


def is_in_a_folder(name: bytes) -> bool:
    """Whether a name is that of a file in a folder below "/": only a mounted file system has such."""
    return name.startswith(b"/") and name.count(b"/") > 1 and not name.endswith(DELETED)


def tell(
    name: bytes,
    *,
    protection: int,
    shared: bool,
    major: int,
    has_file: bool,
    linked: bool | None = False,
    mounted: bool | None = None,
) -> tuple[Label, Kind]:
    """The label and the kind of a region.

    `linked`: the name ends in " (deleted)", and a file really of that name is meant; None: nobody could tell, so the
    path is all that the kernel shows. `mounted`: whether a file system of its device is mounted, where that was looked
    up (see `links`).
    """
    deleted = name.endswith(DELETED) and not linked
    is_code = bool(protection & Protection.EXECUTE)
    # A driver's buffer may be code. But where its device was looked up, and is neither mounted nor the kernel's own for
    # such objects (then `mounted` is None), it may as well be a file of a tmpfs that was unmounted lazily.
    is_buffer = deleted and mounted is None and _is_buffer(name[: -len(DELETED)])
    is_memory = shared and (not is_code or is_buffer)
    made_up = deleted and is_made_up(name, major, shared=is_memory, mounted=mounted)
    is_copy_or_code = not shared or is_code
    label, kind = _read(name, deleted, made_up, shared, major, is_copy_or_code)
    if deleted and linked is None and not made_up and label.path is not None:
        label = label._replace(path=label.path + DELETED.decode(), deleted=None)
    if kind is Kind.ANONYMOUS and protection == _NOTHING and not has_file:
        # Reserved address space and guard pages look alike: mapped, private, no file, no rights.
        return label, Kind.GUARD
    if kind is Kind.ANONYMOUS and has_file and not name:  # a name that is longer than the kernel tells
        return label._replace(deleted=None), Kind.FILE
    return label, kind


def tell_without_sharing(name: bytes, *, protection: int) -> tuple[Label, Kind]:
    """The same where neither device nor sharing is told (a core file, a tombstone), so that some kinds are not either.

    Names that the kernel is known to make for objects which never had one mean those, here as everywhere. Any other
    that is called deleted may be one of those, an unlinked file, or a file that is really called so.
    """
    (label, kind), (other, other_kind) = [
        tell(name, protection=protection & 7, shared=shared, major=0, has_file=True, linked=None)
        for shared in (False, True)
    ]
    if kind is other_kind:
        return label, kind
    if name.startswith(b"/dev/shm/"):
        return label, Kind.FILE
    is_known = label.deleted is not None or _OBJECTS.fullmatch(name[: -len(DELETED)]) is not None
    return (other if is_known else label), Kind.OTHER  # "/anon_hugepage" is of either kind


@functools.lru_cache(4096)
def _read(
    name: bytes, deleted: bool, made_up: bool, shared: bool, major: int, is_copy_or_code: bool
) -> tuple[Label, Kind]:
    if not name:
        return NO_LABEL, Kind.ANONYMOUS
    text = name.decode("utf-8", "surrogateescape")
    if name.startswith(b"["):
        return Label(name=text), _bracketed(name)
    path = name[: -len(DELETED)] if deleted else name
    if made_up or (major == 0 and not name.endswith(DELETED) and name.startswith(_UNDELETED)):
        kind = _made_up_kind(path, shared)
    elif deleted and is_copy_or_code and path.startswith(b"/dev/"):
        kind = Kind.FILE  # of a device that is gone, neither a copy nor code is mapped
    else:
        kind = _kind_of(path, shared)
    if not name.startswith(b"/"):
        return Label(name=text), kind
    return Label(path=text[: -len(DELETED)] if deleted else text, deleted=deleted), kind


def _bracketed(name: bytes) -> Kind:
    if (kind := _BRACKETED.get(name)) is not None:
        return kind
    if name.startswith((b"[stack:", b"[anon:")) and _STACK_OF_THREAD.fullmatch(name):
        return Kind.STACK
    if name.startswith(b"[anon:"):
        return Kind.ANONYMOUS
    return Kind.SHARED_MEMORY if name.startswith(b"[anon_shmem:") else Kind.OTHER


def _made_up_kind(path: bytes, shared: bool) -> Kind:
    if _is_buffer(path):
        return Kind.DEVICE
    return Kind.ANONYMOUS if path in _HUGE and not shared else Kind.SHARED_MEMORY


def _kind_of(path: bytes, shared: bool) -> Kind:
    if path.startswith(b"/dev/shm/"):
        return Kind.SHARED_MEMORY if shared else Kind.FILE  # a file like any other, but where it is shared
    if path == b"/dev/zero":
        return Kind.ANONYMOUS
    if path in _OF_MEMORY:
        return Kind.SHARED_MEMORY
    return Kind.DEVICE if _is_device(path) else Kind.FILE


def _is_buffer(path: bytes) -> bool:
    return path in _BUFFERS or path.startswith(_UNDELETED)


def _is_device(path: bytes) -> bool:
    if path.startswith(b"/dev/"):
        return not path.startswith(_NO_DEVICES)
    is_socket = path.startswith(b"socket:[") and path.endswith(b"]") and path[len(b"socket:[") : -1].isdigit()
    return is_socket or path.startswith(b"anon_inode:")
