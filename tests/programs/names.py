"""A process whose map holds names that mislead.

    python names.py objects FOLDER    objects that never had a name, and files of /dev/shm
    python names.py locked-stack      a page of its stack locked, so that the stack is several regions
    python names.py chrooted FOLDER   a file replaced by another of its name, in a root of its own (as root)
    python names.py HOW FOLDER [NAME] in a mount namespace of its own, with a tmpfs at FOLDER, its lib.so unlinked:
        hide      another tmpfs over it, with a file "lib.so (deleted)" of the same inode number
        link      a symbolic link in its place
        folder    a folder in its place
        root      that tmpfs is the root, and the mapping shared
        detached  that tmpfs is unmounted, lazily; what was mapped is called NAME (a fourth word; or else lib.so)
        whole     the same, but it is not unlinked

Each says a line of JSON when it is ready (where what is mapped, or why not), and ends when its standard input does.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import platform
import resource
import sys

PAGE = os.sysconf("SC_PAGESIZE")
NEW_NAMESPACE, NEW_USER = 0x00020000, 0x10000000
PRIVATE_FROM_HERE_ON, DETACH = 1 << 18 | 1 << 14, 2
MEMFD_SECRET = 447
IO_SETUP = {"x86_64": 206, "aarch64": 0, "riscv64": 0, "s390x": 243}
PIVOT_ROOT = {"x86_64": 155, "s390x": 217}

MAPS = open("/proc/self/maps", buffering=1 << 20)  # noqa: SIM115 - kept: in another root there is no /proc

libc = ctypes.CDLL(None, use_errno=True)
kept: list[mmap.mmap] = []


def check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def mapped(fd: int, *, shared: bool, protection: int = mmap.PROT_READ) -> int:
    """Where: looked up in our own map by inode, which is what no name can mislead about."""
    inode = os.fstat(fd).st_ino
    kept.append(mmap.mmap(fd, PAGE, mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE, protection))
    os.close(fd)
    MAPS.seek(0)
    found = [int(line.split("-")[0], 16) for line in MAPS if line.split()[4] == str(inode)]
    return found[-1]


def named(path: str) -> int:
    fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    os.ftruncate(fd, PAGE)
    return fd


def ring() -> int:
    context = ctypes.c_ulong(0)
    number = IO_SETUP.get(platform.machine())
    if number is None:
        raise OSError(f"the number of io_setup on {platform.machine()} is not known here")
    check(libc.syscall(number, 64, ctypes.byref(context)), "io_setup")
    return context.value  # where the ring is mapped


def secret() -> int:
    fd = check(libc.syscall(MEMFD_SECRET, 0), "memfd_secret")
    os.ftruncate(fd, PAGE)
    return mapped(fd, shared=True, protection=mmap.PROT_READ | mmap.PROT_WRITE)


def nameless(folder: str) -> int:
    fd = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
    os.ftruncate(fd, PAGE)
    return mapped(fd, shared=False, protection=mmap.PROT_READ | mmap.PROT_EXEC)


def in_shm(*, shared: bool) -> int:
    path = f"/dev/shm/vmatlas-names-{os.getpid()}-{shared}"
    fd = named(path)
    os.unlink(path)
    return mapped(fd, shared=shared)


def objects(folder: str) -> dict[str, int | str]:
    told: dict[str, int | str] = {}
    for label, make in (
        ("ring", ring),
        ("secret", secret),
        ("nameless", lambda: nameless(folder)),
        ("shm-shared", lambda: in_shm(shared=True)),
        ("shm-private", lambda: in_shm(shared=False)),
    ):
        try:
            told[label] = make()
        except OSError as error:
            told[label] = str(error)
    return told


def locked_stack() -> dict[str, int | str]:
    """A page in the middle of what the stack has now."""
    with open("/proc/self/maps") as file:
        bounds = next(line.split()[0] for line in file if line.endswith("[stack]\n"))
    start, end = (int(each, 16) for each in bounds.split("-"))
    middle = start + (end - start) // PAGE // 2 * PAGE
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == 0:
        return {"lower": "no memory may be locked here"}
    check(libc.mlock(ctypes.c_void_p(middle), ctypes.c_size_t(PAGE)), "mlock")
    return {"lower": start, "upper": middle + PAGE}


def chrooted(folder: str) -> dict[str, int | str]:
    os.chroot(folder)
    os.chdir("/")
    start = mapped(named("/a.so"), shared=True)
    os.close(named("/new"))
    os.rename("/new", "/a.so")
    return {"start": start}


def mount(source: str, target: str, kind: str | None, flags: int = 0) -> None:
    check(libc.mount(source.encode(), target.encode(), kind and kind.encode(), flags, None), f"mount {target}")


def in_own_namespace(how: str, folder: str, name: str = "lib.so") -> dict[str, int | str]:
    user, group = os.getuid(), os.getgid()
    check(libc.unshare(NEW_NAMESPACE | (NEW_USER if user else 0)), "unshare")
    if user:
        for told, content in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            with open(f"/proc/self/{told}", "w") as file:
                file.write(content)
    mount("none", "/", None, PRIVATE_FROM_HERE_ON)
    mount("tmpfs", folder, "tmpfs")
    path = f"{folder}/{name}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    fd = named(path)
    inode = os.fstat(fd).st_ino
    if how == "root":
        os.mkdir(f"{folder}/old")
        number = PIVOT_ROOT.get(platform.machine(), 41)  # of the processors that came late
        check(libc.syscall(number, folder.encode(), f"{folder}/old".encode()), "pivot_root")
        path = "/lib.so"
    if how != "whole":
        os.unlink(path)
    if how == "hide":
        mount("tmpfs", folder, "tmpfs")
        made = 0
        while os.stat(named_and_closed(f"{path} (deleted)")).st_ino != inode:
            made += 1
            os.rename(f"{path} (deleted)", f"{folder}/{made}")
            if made > 10_000:
                raise OSError("no file gets the same inode number here")
    if how == "link":
        os.symlink("/etc/hostname", path)
    if how == "folder":
        os.mkdir(path)
    kept.append(mmap.mmap(fd, PAGE, mmap.MAP_SHARED if how == "root" else mmap.MAP_PRIVATE, mmap.PROT_READ))
    os.close(fd)
    if how in ("detached", "whole"):
        check(libc.umount2(folder.encode(), DETACH), "umount")
    return {"inode": inode}


def named_and_closed(path: str) -> str:
    os.close(named(path))
    return path


def main() -> None:
    libc.prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG
    how, *folder = sys.argv[1:]
    told: dict[str, int | str]
    try:
        if how == "objects":
            told = objects(folder[0])
        elif how == "locked-stack":
            told = locked_stack()
        elif how == "chrooted":
            told = chrooted(folder[0])
        else:
            told = in_own_namespace(how, *folder)
    except OSError as error:
        told = {"missing": str(error)}
    print(json.dumps(told), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
