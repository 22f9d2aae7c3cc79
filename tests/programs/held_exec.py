"""A process about which the kernel answers no question, and that no page has to be written for.

It executes a program while a file of a FUSE file system is open, to be closed on the way; the file system (this program
serves it, read only) never answers the flush of that file, and so the kernel holds the lock that guards the process's
identity against readers (exec_update_lock) until the file system goes. Says `held PID` on standard output, or `cannot
REASON`; lets go when its standard input ends, or after LONGEST seconds, come what may.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
import sys
import tempfile
import threading

LONGEST = 40

_OWN_MOUNTS, _OWN_USERS = 0x20000, 0x10000000
_READ_ONLY = 1
_HEADER, _ANSWER = struct.Struct("<IIQQII"), struct.Struct("<IiQ")
_LOOKUP, _FORGET, _ATTRIBUTES, _OPEN, _RELEASE = 1, 2, 3, 14, 18
_FLUSH, _INIT, _INTERRUPT, _FORGET_MANY = 25, 26, 36, 42

libc = ctypes.CDLL(None, use_errno=True)


def attributes(node: int) -> bytes:
    mode = 0o40555 if node == 1 else 0o100444
    return struct.pack("<6Q10I", node, 4096, 8, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def answer(operation: int, node: int) -> tuple[int, bytes] | None:
    """The error and the body; None: no answer."""
    if operation == _INIT:
        return 0, struct.pack("<4I2H2I2H8I", 7, 31, 0, 0, 0, 0, 65536, 1, 0, 0, *[0] * 8)
    if operation == _LOOKUP:
        return 0, struct.pack("<4Q2I", 2, 0, 100, 100, 0, 0) + attributes(2)
    if operation == _ATTRIBUTES:
        return 0, struct.pack("<Q2I", 100, 0, 0) + attributes(node)
    if operation == _OPEN:
        return 0, struct.pack("<Q2I", 1, 0, 0)
    if operation == _RELEASE:
        return 0, b""
    return None if operation in (_FORGET, _FORGET_MANY, _INTERRUPT, _FLUSH) else (-38, b"")


def serve(device: int, held: threading.Event) -> None:
    while True:
        try:
            asked = os.read(device, 1 << 18)
        except OSError:  # it was unmounted
            return
        _, operation, request, node, _, _ = _HEADER.unpack_from(asked)
        told = answer(operation, node)
        if operation == _FLUSH:
            held.set()
        if told is not None:
            with contextlib.suppress(FileNotFoundError):  # whoever asked has gone
                os.write(device, _ANSWER.pack(_ANSWER.size + len(told[1]), told[0], request) + told[1])


def main() -> None:
    signal.alarm(LONGEST)
    try:
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        sys.exit(print(f"cannot open /dev/fuse: {error.strerror}"))
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_OWN_MOUNTS | (_OWN_USERS if user else 0)):
        sys.exit(print(f"cannot have mounts of its own: {os.strerror(ctypes.get_errno())}"))
    libc.mount(b"none", b"/", None, 0x4000 | 0x40000, None)  # nobody else sees what is mounted here
    with tempfile.TemporaryDirectory() as folder:
        options = f"fd={device},rootmode=40000,user_id={user},group_id={group}".encode()
        if libc.mount(b"silent", folder.encode(), b"fuse", _READ_ONLY, options):
            sys.exit(print(f"cannot mount a FUSE file system: {os.strerror(ctypes.get_errno())}"))
        held = threading.Event()
        threading.Thread(target=serve, args=(device, held), daemon=True).start()
        child = os.fork()
        if not child:
            os.close(device)
            os.open(f"{folder}/file", os.O_RDONLY | os.O_CLOEXEC)
            os.execv("/bin/sleep", ["sleep", str(LONGEST)])
        try:
            print(f"held {child}" if held.wait(60) else "cannot: no flush came", flush=True)
            sys.stdin.read()
        finally:
            os.kill(child, signal.SIGKILL)
            libc.umount2(folder.encode(), 1 | 2)  # by force, and at once: the kernel answers for the file system


main()
