"""A process that maps two files of a FUSE file system which then answers nothing any more.

    python hung.py FOLDER [rooted]

In a mount namespace of its own (as an ordinary user in a user namespace, too), read-only, so that no dirty page ever
waits for it. FOLDER/a.so is mapped and was deleted by the server; "FOLDER/b (deleted)" is mapped and really called so;
FOLDER/c.so is mapped and there. Says a line of JSON, {} or what is missing, and ends when its standard input does; with
it the mount ends, and with that whatever waits for an answer. `rooted`: that file system is the root of the process.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import select
import signal
import struct
import sys

SIZE = 8192
NAMES = {b"a.so": 2, b"b (deleted)": 3, b"c.so": 4}
NEW_NAMESPACE, NEW_USER = 0x00020000, 0x10000000
PRIVATE_FROM_HERE_ON = 1 << 18 | 1 << 14
READ_ONLY, NO_SUID, NO_DEVICES = 1, 2, 4
LOOKUP, GETATTR, OPEN, READ, RELEASE, FLUSH, INIT, OPENDIR = 1, 3, 14, 15, 18, 25, 26, 27
NO_ANSWER_WANTED = (2, 36, 42)  # FORGET, INTERRUPT, BATCH_FORGET
NOTIFY_DELETE = 6

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]


def check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def attributes(node: int) -> bytes:
    mode = 0o40755 if node == 1 else 0o100755
    return struct.pack("<QQQQQQIIIIIIIIII", node, SIZE, 16, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def answer_to(operation: int, node: int, body: bytes) -> tuple[int, bytes]:
    """The error and the bytes. Nothing may be remembered: valid for 0 seconds."""
    if operation == INIT:
        return 0, struct.pack("<IIIIHHIIHHI", 7, 31, 0, 0, 0, 0, 4096, 1, 0, 0, 0) + bytes(28)
    if operation == LOOKUP:
        found = NAMES.get(body.split(b"\0")[0])
        return (-2, b"") if found is None else (0, struct.pack("<QQQQII", found, 0, 0, 0, 0, 0) + attributes(found))
    if operation == GETATTR:
        return 0, struct.pack("<QII", 0, 0, 0) + attributes(node)
    if operation in (OPEN, OPENDIR):
        return 0, struct.pack("<QII", 1, 0, 0)
    if operation == READ:
        offset, size = struct.unpack_from("<8xQI", body)
        return 0, (b"\x7fELF" + bytes(SIZE - 4))[offset : offset + size]
    return (0, b"") if operation in (RELEASE, FLUSH) else (-38, b"")


def serve(device: int, told: int, says_so: int) -> None:
    """Answers until it is told to delete a.so, and then reads and says nothing."""
    hangs = False
    while True:
        ready = select.select([device, told], [], [])[0]
        if told in ready:
            if not os.read(told, 1):
                os._exit(0)
            notice = struct.pack("<QQII", 1, NAMES[b"a.so"], 4, 0) + b"a.so\0"
            os.write(device, struct.pack("<IiQ", 16 + len(notice), NOTIFY_DELETE, 0) + notice)
            hangs = True
            os.write(says_so, b"x")
        if device in ready:
            request = os.read(device, 1 << 20)
            _, operation, unique, node = struct.unpack_from("<IIQQ", request)
            if not hangs and operation not in NO_ANSWER_WANTED:
                error, bytes_told = answer_to(operation, node, request[40:])
                os.write(device, struct.pack("<IiQ", 16 + len(bytes_told), error, unique) + bytes_told)


def own_namespace() -> None:
    user, group = os.getuid(), os.getgid()
    check(libc.unshare(NEW_NAMESPACE | (NEW_USER if user else 0)), "unshare")
    if user:
        for name, content in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(content)
    check(libc.mount(b"none", b"/", None, PRIVATE_FROM_HERE_ON, None), "mount /")


def mount(folder: bytes) -> int:
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = b"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions" % device
    check(libc.mount(b"hung", folder, b"fuse", READ_ONLY | NO_SUID | NO_DEVICES, options), "mount of /dev/fuse")
    return device


def main() -> None:
    libc.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    folder = os.fsencode(sys.argv[1])
    try:
        own_namespace()
        device = mount(folder)
    except OSError as error:
        print(json.dumps({"missing": str(error)}), flush=True)
        return
    heard, tell = os.pipe()
    hung, says_so = os.pipe()
    if os.fork() == 0:
        os.close(tell)
        libc.prctl(1, signal.SIGKILL, 0, 0, 0)
        serve(device, heard, says_so)
    os.close(device)
    for name in NAMES:
        file = os.open(folder + b"/" + name, os.O_RDONLY)
        # Not by Python's mmap, which keeps a descriptor: to close that when we end would wait for an answer (FLUSH).
        mapped = libc.mmap(None, SIZE, mmap.PROT_READ, mmap.MAP_PRIVATE, file, 0)
        assert mapped != ctypes.c_void_p(-1).value
        os.close(file)
    if "rooted" in sys.argv:
        os.chroot(folder)
    os.write(tell, b"x")
    os.read(hung, 1)
    print("{}", flush=True)
    sys.stdin.read()
    os._exit(0)  # the server sees its pipe closed


if __name__ == "__main__":
    main()
