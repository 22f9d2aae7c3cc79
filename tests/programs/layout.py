"""Makes one mapping of each sort, says on standard output what it made (a line of JSON), and then obeys.

    python layout.py FOLDER

What it says comes from mmap's arguments and from fstat of the mapped descriptor, never from /proc/PID/maps: it is the
oracle. Commands on standard input, each answered with a line: `mprotect LABEL OFFSET SIZE PROTECTION`,
`munmap LABEL OFFSET SIZE`, `exec` (goes on as a sleeping program). It ends when its standard input does.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import sys
import threading
from typing import Any

PAGE = os.sysconf("SC_PAGESIZE")
HUGE = 2 << 20
NONE, READ, WRITE, EXECUTE = 0, 1, 2, 4
SHARED, PRIVATE, FIXED_NOREPLACE, ANONYMOUS, NORESERVE, HUGETLB = 0x01, 0x02, 0x100000, 0x20, 0x4000, 0x40000
PR_SET_PDEATHSIG, PR_SET_VMA = 1, 0x53564D41
BASE = 0x200000000000  # far from all that the loader, malloc and the stack use; each mapping stands alone
STRIDE = 4 << 20

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
libc.shmat.restype = ctypes.c_void_p
libc.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
libc.getauxval.restype = ctypes.c_ulong
libc.getauxval.argtypes = [ctypes.c_ulong]
libc.sbrk.restype = ctypes.c_void_p
libc.pthread_self.restype = ctypes.c_ulong
libc.pthread_getattr_np.argtypes = [ctypes.c_ulong, ctypes.c_void_p]
libc.pthread_attr_getstack.argtypes = [ctypes.c_void_p] * 3
libc.pthread_attr_getguardsize.argtypes = [ctypes.c_void_p] * 2
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

made: dict[str, dict[str, Any]] = {}
missing: dict[str, str] = {}


def failure() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def place() -> int:
    return BASE + (len(made) + len(missing)) * STRIDE


def mapped(label: str, size: int, protection: int, flags: int, fd: int = -1, offset: int = 0, **told: Any) -> int:
    """One mapping, and what is known of it."""
    wanted = place()
    address = libc.mmap(wanted, size, protection, flags | FIXED_NOREPLACE, fd, offset)
    if address == ctypes.c_void_p(-1).value:
        raise failure()
    assert address == wanted
    told = {"start": address, "end": address + size, "protection": protection, "shared": bool(flags & SHARED), **told}
    if fd >= 0:
        stat = os.fstat(fd)
        told |= {"offset": offset, "device": [os.major(stat.st_dev), os.minor(stat.st_dev)], "inode": stat.st_ino}
    made[label] = told
    return address


def file_at(path: bytes, pages: int = 8, flags: int = os.O_RDWR) -> int:
    fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    os.ftruncate(fd, pages * PAGE)
    if flags == os.O_RDWR:
        return fd
    os.close(fd)
    return os.open(path, flags)


def named_file(label: str, path: bytes, *, deleted: bool = False, **told: Any) -> None:
    fd = file_at(path)
    mapped(label, PAGE, READ, PRIVATE, fd, path=os.fsdecode(path), deleted=deleted, kind="FILE", **told)
    os.close(fd)
    if deleted:
        os.unlink(path)


def anonymous_memory() -> None:
    for label, protection in (("r", READ), ("rw", READ | WRITE), ("rx", READ | EXECUTE), ("rwx", 7)):
        mapped(label, 3 * PAGE, protection, PRIVATE | ANONYMOUS, kind="ANONYMOUS")
    mapped("guard", 5 * PAGE, NONE, PRIVATE | ANONYMOUS, kind="GUARD")
    mapped("nine", 9 * PAGE, READ | WRITE, PRIVATE | ANONYMOUS, kind="ANONYMOUS")  # for mprotect and munmap
    touched = mapped("touched", 16 * PAGE, READ | WRITE, PRIVATE | ANONYMOUS, kind="ANONYMOUS")
    libc.madvise(ctypes.c_void_p(touched), ctypes.c_size_t(16 * PAGE), 15)  # MADV_NOHUGEPAGE: page by page
    ctypes.memset(touched, 1, 5 * PAGE)
    label = "anonymous-shared"
    mapped(label, 2 * PAGE, READ | WRITE, SHARED | ANONYMOUS, path="/dev/zero", deleted=True, kind="SHARED_MEMORY")
    name = ctypes.create_string_buffer(b"our arena")
    at = mapped("named", PAGE, READ | WRITE, PRIVATE | ANONYMOUS, name="[anon:our arena]", kind="ANONYMOUS")
    if libc.prctl(PR_SET_VMA, 0, at, PAGE, ctypes.addressof(name)) != 0:
        missing["named"] = f"prctl(PR_SET_VMA): {failure().strerror} (CONFIG_ANON_VMA_NAME)"
    zero = os.open("/dev/zero", os.O_RDWR)
    mapped("private-dev-zero", PAGE, READ | WRITE, PRIVATE, zero, path="/dev/zero", kind="ANONYMOUS")
    with contextlib.suppress(OSError):
        flags = PRIVATE | ANONYMOUS | HUGETLB | NORESERVE  # no page is taken as long as none is touched
        told = {"path": "/anon_hugepage", "deleted": True, "kind": "ANONYMOUS", "page_size": HUGE}
        mapped("hugetlb", HUGE, READ | WRITE, flags, **told)
    if "hugetlb" not in made:
        missing["hugetlb"] = "mmap(MAP_HUGETLB) is refused"


def files(folder: bytes) -> None:
    plain = folder + b"/plain"
    fd = file_at(plain)
    told = {"path": os.fsdecode(plain), "kind": "FILE"}
    mapped("file-shared-at-offset", 2 * PAGE, READ | WRITE, SHARED, fd, 3 * PAGE, **told)
    mapped("file-private-code", PAGE, READ | EXECUTE, PRIVATE, fd, PAGE, **told)
    mapped("file-no-rights", PAGE, NONE, PRIVATE, fd, **told)
    read_only = file_at(plain, flags=os.O_RDONLY)
    mapped("file-shared-read-only", PAGE, READ, SHARED, read_only, **told)
    named_file("deleted", folder + b"/gone", deleted=True)
    named_file("space", folder + b"/two  spaces and one at the end ")
    named_file("newline", folder + b"/a\nb")
    named_file("literal-escape", folder + b"/a\\012b")  # shown by the text just as the one before
    named_file("both-escapes", folder + b"/a\nb\\012c")
    named_file("deleted-literal-escape", folder + b"/gone\\012too", deleted=True)
    named_file("really-named-deleted", folder + b"/x (deleted)")
    named_file("shown-alike-but-deleted", folder + b"/x", deleted=True)
    named_file("named-deleted-and-deleted", folder + b"/y (deleted)", deleted=True)
    named_file("newline-named-deleted", folder + b"/z\n (deleted)")
    named_file("not-utf-8", folder + b"/\xff\xfe\x80 \xc3\xa9")
    named_file("brackets", folder + b"/[heap]")
    named_file("like-vsyscall", folder + b"/x [vsyscall]")
    named_file("tab-and-return", folder + b"/\t\r\v\x1c\x85")
    long_path(folder)


def long_path(folder: bytes) -> None:
    """A file whose path is longer than PATH_MAX: made step by step, since no call takes such a path."""
    here = os.open(b".", os.O_RDONLY | os.O_DIRECTORY)
    os.chdir(folder)
    path = folder
    for _ in range(18):
        step = b"d" * 250
        os.mkdir(step)
        os.chdir(step)
        path += b"/" + step
    fd = file_at(b"deep")
    mapped("long-path", PAGE, READ, PRIVATE, fd, path=os.fsdecode(path + b"/deep"), kind="FILE")
    os.fchdir(here)


def shared_memory(folder: bytes) -> None:
    for label, name in (("memfd", "our fd"), ("memfd-newline", "our\nfd"), ("memfd-literal-escape", r"our\012fd")):
        fd = os.memfd_create(name)
        os.ftruncate(fd, 4 * PAGE)
        told = {"path": f"/memfd:{name}", "deleted": True, "kind": "SHARED_MEMORY"}
        mapped(label, 2 * PAGE, READ | WRITE, SHARED, fd, PAGE, **told)
    try:
        path = f"/dev/shm/vmatlas-test-{os.getpid()}"
        fd = file_at(path.encode())
        mapped("posix-shared", PAGE, READ | WRITE, SHARED, fd, path=path, kind="SHARED_MEMORY")
        os.close(fd)
        made["posix-shared"]["unlink"] = path
    except OSError as error:
        missing["posix-shared"] = f"/dev/shm: {error.strerror}"
    number = libc.shmget(0, 2 * PAGE, 0o1600)
    wanted = place()
    address = libc.shmat(number, wanted, 0) if number >= 0 else None
    libc.shmctl(number, 0, None)  # IPC_RMID: it goes when we do
    if address != wanted:
        missing["sysv-shared"] = f"shmget or shmat: {failure().strerror}"
    else:
        made["sysv-shared"] = {
            "start": wanted, "end": wanted + 2 * PAGE, "protection": 3, "shared": True, "offset": 0,
            "inode": number, "path": "/SYSV00000000", "deleted": True, "kind": "SHARED_MEMORY",
        }  # fmt: skip


def kernel_s_own() -> dict[str, int]:
    """Addresses that must lie in regions of a kind, from the C library."""
    at = {
        "VDSO": libc.getauxval(33),
        "HEAP": libc.sbrk(0) - 1,
        "STACK": libc.getauxval(31),
    }  # AT_EXECFN is on the stack
    return {kind: address for kind, address in at.items() if address}


def has_light_guards() -> bool:
    """Whether stacks are guarded by MADV_GUARD_INSTALL (glibc since 2.42, Linux since 6.13): no region then."""
    page = mmap.mmap(-1, PAGE)
    answer = libc.madvise(ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(page))), PAGE, 102)
    name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    return answer == 0 and name == "glibc" and tuple(map(int, version.split("."))) >= (2, 42)


def thread_s_stack() -> dict[str, int]:
    told: dict[str, int] = {}
    ready = threading.Event()

    def tell() -> None:
        attributes = ctypes.create_string_buffer(128)
        address, size, guard = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
        libc.pthread_getattr_np(libc.pthread_self(), attributes)
        libc.pthread_attr_getstack(attributes, ctypes.byref(address), ctypes.byref(size))
        libc.pthread_attr_getguardsize(attributes, ctypes.byref(guard))
        told.update(start=address.value or 0, end=(address.value or 0) + size.value, thread=threading.get_native_id())
        told.update(guard=guard.value, guard_is_region=int(not has_light_guards()))
        ready.set()
        threading.Event().wait()

    threading.Thread(target=tell, daemon=True).start()
    ready.wait()
    return told


def clean_up() -> None:
    if path := made.get("posix-shared", {}).get("unlink"):
        os.unlink(path)


def obey(line: str) -> str:
    word, *arguments = line.split()
    if word == "exec":
        clean_up()
        os.execv(sys.executable, [sys.executable, "-c", "import sys; print('ok', flush=True); sys.stdin.read()"])
    start = made[arguments[0]]["start"] + int(arguments[1])
    size = int(arguments[2])
    done = libc.mprotect(start, size, int(arguments[3])) if word == "mprotect" else libc.munmap(start, size)
    return "ok" if done == 0 else str(failure())


def main() -> None:
    libc.prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0)
    folder = os.fsencode(sys.argv[1])
    anonymous_memory()
    files(folder)
    shared_memory(folder)
    stack = thread_s_stack()
    for label in missing:
        made.pop(label, None)
    told = {"made": made, "missing": missing, "kernel": kernel_s_own(), "thread_stack": stack, "page": PAGE}
    print(json.dumps(told), flush=True)
    for line in sys.stdin:
        print(obey(line), flush=True)
    clean_up()


if __name__ == "__main__":
    main()
