"""Runs commands of vmatlas short of something: each in a fork of this process, which has loaded what they need.

In: a JSON object a line, {"args": [...], "lack": [KIND, ...], "whole": BOOLEAN, "limit": SECONDS}. Out, a line each:
how it ended, what it said. What "lack" may be is `shorten`'s to say; "whole": with the interpreter's own end, which
takes longer than most commands.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import importlib
import io
import json
import os
import pkgutil
import platform
import resource
import struct
import sys
import time

PACKAGES = ("vmatlas", "vmatlas_linux_procfs", "vmatlas_linux_ioctl", "vmatlas_linux_memory")
OTHERS = ("vmatlas_freebsd", "vmatlas_netbsd", "vmatlas_qnx", "encodings.cp437", "difflib", "importlib.metadata")

NUMBERS = {
    "x86_64": {
        "ioctl": 16, "socketpair": 53, "clone": 56, "readlink": 89, "prctl": 157, "sched_getaffinity": 204,
        "getdents64": 217, "openat": 257, "readlinkat": 267, "pipe2": 293, "memfd_create": 319, "statx": 332,
        "pidfd_open": 434, "clone3": 435, "openat2": 437, "process_madvise": 440,
    },
    "aarch64": {
        "ioctl": 29, "openat": 56, "pipe2": 59, "getdents64": 61, "readlinkat": 78, "sched_getaffinity": 123,
        "prctl": 167, "socketpair": 199, "clone": 220, "memfd_create": 279, "statx": 291, "pidfd_open": 434,
        "clone3": 435, "openat2": 437, "process_madvise": 440,
    },
}  # fmt: skip

CLONE_THREAD = 0x10000
PROCMAP_QUERY = 0xC0686611
ARGUMENTS = {"threads": ("clone", 0, CLONE_THREAD, CLONE_THREAD), "query": ("ioctl", 1, 0xFFFFFFFF, PROCMAP_QUERY)}
"""Of a call that is denied for one argument: its number, the bits that are looked at, and what they must be."""

LIBC = ctypes.CDLL(None, use_errno=True)
LOAD, EQUAL, AND, GIVE = 0x20, 0x15, 0x54, 0x06  # linux/bpf_common.h
LET, FAIL = 0x7FFF0000, 0x00050000  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO


def refused(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")


def deny(call: str, error: int) -> None:
    """A system call fails from now on: seccomp(2), by prctl(2)."""
    name, index, mask, value = ARGUMENTS.get(call, (call, None, 0, 0))
    number = NUMBERS[platform.machine()][name]
    steps = [(LOAD, 0, 0, 0)]
    if index is None:
        steps += [(EQUAL, 0, 1, number), (GIVE, 0, 0, FAIL | error)]
    else:
        looked = [(LOAD, 0, 0, 16 + 8 * index), (AND, 0, 0, mask), (EQUAL, 0, 1, value), (GIVE, 0, 0, FAIL | error)]
        steps += [(EQUAL, 0, len(looked), number), *looked]
    code = b"".join(struct.pack("=HBBI", *step) for step in [*steps, (GIVE, 0, 0, LET)])
    program = ctypes.create_string_buffer(code, len(code))
    told = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(program)))
    if LIBC.prctl(38, 1, 0, 0, 0) or LIBC.prctl(22, 2, ctypes.c_void_p(ctypes.addressof(told)), 0, 0):
        raise refused("seccomp")


def shorten(kind: str, *how: int | str) -> None:
    """Take something away from this process. Raises OSError where that may not be done."""
    if kind == "memory":  # so many bytes of address space are left
        with open("/proc/self/statm", "rb") as file:
            size = int(file.read().split()[0]) * os.sysconf("SC_PAGESIZE")
        resource.setrlimit(resource.RLIMIT_AS, (size + int(how[0]),) * 2)
    elif kind == "descriptors":  # the first number that there is none of
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(how[0]),) * 2)
    elif kind == "room":  # no file may become longer
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    elif kind == "call":
        deny(str(how[0]), getattr(errno, str(how[1])))
    elif kind == "proc":
        if LIBC.unshare(0x00020000):  # CLONE_NEWNS
            raise refused("unshare")
        if LIBC.mount(None, b"/", None, 0x44000, None) or LIBC.mount(b"none", b"/proc", b"tmpfs", 0, None):
            raise refused("mount")
    elif kind == "streams":
        for number in how:
            os.close(int(number))
            setattr(sys, ("stdin", "stdout", "stderr")[int(number)], None)
    elif kind != "nothing":
        raise ValueError(kind)


def become_command(ask: dict, out: int, said: int) -> None:
    """The standard streams of a program of its own, and what it is to lack."""
    os.setpgid(0, 0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, descriptor in enumerate((nothing, out, said)):
        os.dup2(descriptor, number)
    os.closerange(3, 256)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)))
    sys.stderr = io.TextIOWrapper(io.BufferedWriter(io.FileIO(2, "w", closefd=False)), line_buffering=True)
    sys.argv = ["vmatlas", *ask["args"]]
    try:
        shorten(*ask["lack"])
    except OSError as error:
        os.write(2, f"cannot be shortened: {error}".encode())
        os._exit(125)


def whole(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    text = b"".join(iter(lambda: os.read(descriptor, 1 << 20), b""))
    os.close(descriptor)
    return text.decode("utf-8", "backslashreplace")


def forked() -> dict | None:
    """In each fork: what it is asked. In the first process: None, at the end."""
    for line in sys.stdin:
        ask = json.loads(line)
        out, said = os.memfd_create("out"), os.memfd_create("said")
        child = os.fork()
        if child == 0:
            become_command(ask, out, said)
            return ask
        end = time.monotonic() + ask["limit"]
        is_through, status = os.waitpid(child, os.WNOHANG)
        while not is_through and time.monotonic() < end:
            time.sleep(0.002)
            is_through, status = os.waitpid(child, os.WNOHANG)
        left = True
        try:
            os.killpg(child, 9)
        except ProcessLookupError:
            left = False
        if not is_through:
            os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status) if is_through else None
        print(json.dumps({"code": code, "left": left and code is not None, "out": whole(out), "said": whole(said)}))
        sys.stdout.flush()
    return None


for package in PACKAGES:
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if "conformance" not in found.name and not found.name.endswith("__main__"):
            importlib.import_module(found.name)
for other in OTHERS:
    importlib.import_module(other)
from vmatlas.cli import main  # noqa: E402

gc.collect()
gc.freeze()  # what was loaded is no garbage, and no fork looks at it again
print("ready", flush=True)
if (asked := forked()) is not None:
    code = main()
    if asked["whole"]:
        sys.exit(code)
    if sys.stdout is not None:
        sys.stdout.flush()
    os._exit(code)
