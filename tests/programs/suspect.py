"""A process with one trait that an audit looks for, or its twin without it.

    python suspect.py TRAIT bad|good FOLDER

Says "ready" when it is (or why the trait cannot be had here), and ends when its standard input does.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import sys

PAGE = os.sysconf("SC_PAGESIZE")
READ, WRITE, EXECUTE = mmap.PROT_READ, mmap.PROT_WRITE, mmap.PROT_EXEC

libc = ctypes.CDLL(None, use_errno=True)
libc.sbrk.restype = ctypes.c_void_p
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
libc.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int


def place(protection: int, fd: int = -1, *, shared: bool = False, size: int = PAGE) -> int:
    flags = (mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE) | (mmap.MAP_ANONYMOUS if fd < 0 else 0)
    address: int = libc.mmap(None, size, protection, flags, fd, 0)
    if address == 2 ** (8 * ctypes.sizeof(ctypes.c_void_p)) - 1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return address


def protect(address: int, protection: int, size: int = PAGE) -> None:
    if libc.mprotect(address, size, protection) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def file_in(folder: str, name: str = "code.bin", mode: int = 0o644) -> str:
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.write(b"\xc3" * PAGE)
    os.chmod(path, mode)
    return path


def code_of(path: str, protection: int = READ | EXECUTE) -> int:
    fd = os.open(path, os.O_RDONLY)
    try:
        return place(protection, fd)
    finally:
        os.close(fd)


def memfd() -> int:
    fd = os.memfd_create("suspect", 0)
    os.ftruncate(fd, PAGE)
    return fd


def region_of(wanted: str, permissions: str) -> tuple[int, int]:
    """The last region of a file with these rights, by our own map."""
    found = (0, 0)
    with open("/proc/self/maps") as file:
        for line in file:
            if wanted in line and line.split()[1] == permissions:
                low, _, high = line.split()[0].partition("-")
                found = int(low, 16), int(high, 16)
    if found == (0, 0):
        raise OSError(0, f"no {permissions} of {wanted}")
    return found


def written_and_executed(bad: bool, _: str) -> None:
    place(READ | WRITE | (EXECUTE if bad else 0))


def made_executable(bad: bool, _: str) -> None:
    protect(place(READ | WRITE), READ | (EXECUTE if bad else 0))


def of_a_memfd(bad: bool, _: str) -> None:
    place(READ | (EXECUTE if bad else 0), memfd(), shared=True)


def executed_memfd(bad: bool, _: str) -> None:
    program = shutil.which("cat") or "/bin/cat"
    fd = os.memfd_create("program", 0)
    with open(program, "rb") as source:
        os.write(fd, source.read())
    print("ready", flush=True)
    os.execv(f"/proc/self/fd/{fd}" if bad else program, ["cat"])


def seal(address: int, size: int) -> None:
    """mseal(2), which is 462 on every processor; Linux 6.10 and newer, 64 bits."""
    if libc.syscall(462, ctypes.c_void_p(address), ctypes.c_size_t(size), ctypes.c_ulong(0)) != 0:
        raise OSError(ctypes.get_errno(), f"mseal: {os.strerror(ctypes.get_errno())}")


def partly_sealed(bad: bool, folder: str) -> None:
    """All code of files but one, or all of it."""
    left = file_in(folder)
    code_of(left)
    with open("/proc/self/maps") as file:
        lines = [line.split(None, 5) for line in file]
    for bounds, rights, _, _, inode, *name in lines:
        if "x" in rights and inode != "0" and not (bad and name and name[0].strip() == left):
            low, _, high = bounds.partition("-")
            seal(int(low, 16), int(high, 16) - int(low, 16))


def in_shared_memory(bad: bool, _: str) -> None:
    path = file_in("/dev/shm", f"suspect-{os.getpid()}")
    try:
        code_of(path, READ | (EXECUTE if bad else 0))
    finally:
        os.unlink(path)


def mapped_twice(bad: bool, _: str) -> None:
    fd = memfd()
    place(READ | WRITE, fd, shared=True)
    place(READ | EXECUTE, fd if bad else memfd(), shared=True)


def heap(bad: bool, _: str) -> None:
    end = (libc.sbrk(4 * PAGE) + 4 * PAGE) // PAGE * PAGE
    if bad:
        protect(end - PAGE, READ | WRITE | EXECUTE)


def stack(bad: bool, _: str) -> None:
    low, _high = region_of("[stack]", "rw-p")
    if bad:
        protect(low, READ | WRITE | EXECUTE)


def below_the_stack(bad: bool, _: str) -> None:
    low, _high = region_of("[stack]", "rw-p")
    fixed = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100000  # MAP_FIXED_NOREPLACE: nothing of ours is taken away
    if libc.mmap(low - PAGE, PAGE, READ | WRITE if bad else 0, fixed, -1, 0) != low - PAGE:
        raise OSError(ctypes.get_errno(), f"below the stack: {os.strerror(ctypes.get_errno())}")


def anybodys_file(bad: bool, folder: str) -> None:
    code_of(file_in(folder, mode=0o646 if bad else 0o664))


def anybodys_folder(bad: bool, folder: str) -> None:
    os.chmod(folder, 0o777 if bad else 0o1777)
    code_of(file_in(folder))


def anybodys_folder_above(bad: bool, folder: str) -> None:
    inner = os.path.join(folder, "a", "b")
    os.makedirs(inner, exist_ok=True)
    os.chmod(os.path.join(folder, "a"), 0o777 if bad else 0o1777)
    code_of(file_in(inner))


def temporary(bad: bool, folder: str) -> None:
    code_of(file_in(folder) if bad else os.path.realpath(sys.executable))


def changed(bad: bool, folder: str) -> None:
    address = code_of(file_in(folder), READ | WRITE)
    if bad:
        ctypes.memset(address, 0x90, 1)
    protect(address, READ | EXECUTE)


def relro(bad: bool, _: str) -> None:
    low, high = region_of("libc.so", "r--p")
    if bad:
        protect(low, READ | WRITE, high - low)


def unlinked(bad: bool, folder: str) -> None:
    path = file_in(folder)
    code_of(path)
    if bad:
        os.unlink(path)


def replaced(bad: bool, folder: str) -> None:
    path = file_in(folder)
    code_of(path)
    other = file_in(folder, "other.bin")
    if bad:
        os.rename(other, path)


def never_named(bad: bool, folder: str) -> None:
    fd = os.open(folder, os.O_TMPFILE | os.O_RDWR) if bad else os.open(file_in(folder), os.O_RDWR)
    os.ftruncate(fd, PAGE)
    place(READ | EXECUTE, fd)


def many(bad: bool, _: str) -> None:
    with open("/proc/sys/vm/max_map_count") as file:
        most = int(file.read())
    if most > 100_000:
        raise OSError(0, f"{most} regions are allowed here")
    wanted = most * 95 // 100 if bad else most // 2
    start = place(READ | WRITE, size=wanted * PAGE)
    for page in range(1, wanted, 2):
        protect(start + page * PAGE, READ)


TRAITS = {
    "writable-and-executable": written_and_executed,
    "nameless-code": made_executable,
    "code-in-memory-file": of_a_memfd,
    "code-in-memory-file/executed": executed_memfd,
    "code-in-memory-file/shm": in_shared_memory,
    "dual-mapping": mapped_twice,
    "executable-heap": heap,
    "executable-stack": stack,
    "stack-with-no-guard": below_the_stack,
    "code-anybody-may-write": anybodys_file,
    "code-anybody-may-write/folder": anybodys_folder,
    "code-anybody-may-write/above": anybodys_folder_above,
    "code-in-temporary-folder": temporary,
    "changed-code": changed,
    "relro-undone": relro,
    "deleted-file": unlinked,
    "replaced-file": replaced,
    "nameless-file": never_named,
    "many-regions": many,
    "unsealed-code": partly_sealed,
}


def main() -> None:
    trait, which, folder = sys.argv[1:]
    try:
        TRAITS[trait](which == "bad", folder)
    except (OSError, AttributeError) as error:
        print(f"not to be had here: {error}", flush=True)
        return
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
