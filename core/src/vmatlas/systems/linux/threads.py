"""The threads of a process: what each is called, and where its stack pointer stands.

The stream is the kernel's own bytes: for each thread its number, its comm, and its answer to the file `syscall`, each
ended by a NUL. What could not be read is `!` and the error's name; a comm has no NUL.

Facts: proc(5); fs/proc/base.c (`proc_pid_syscall`): a thread in a system call tells the call, six arguments, the stack
pointer and the program counter; one that waits elsewhere (a page fault) tells `-1` and the two; one on a processor says
`running`. It takes PTRACE_MODE_ATTACH: the same user and no stricter Yama, or CAP_SYS_PTRACE; else the read is EPERM.
Kernels without CONFIG_HAVE_ARCH_TRACEHOOK lack the file. The stack pointer is that of user space.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from vmatlas.backend import THREADS
from vmatlas.errors import MalformedData
from vmatlas.model import Thread

MOST_THREADS = 4096
"""How many threads are asked for their stack pointers; of the others, the numbers are told."""

MOST_REMOTE_THREADS = 256
"""The same over a wire, where each file is a question of its own."""

MOST_LISTED = 65_536
"""How many threads a stream may have; more than these are not listed."""

LIMIT = "LIMIT"
"""Stands for the error of a thread that was not asked, since there are so many."""

_LONGEST = 4096
"""Bytes of what a thread tells; the kernel's are below 200."""

_GONE = ("ENOENT", "ESRCH")
_TOLD = re.compile(rb"-?\d{1,10}(?: 0x[0-9a-f]{1,16})* 0x([0-9a-f]{1,16}) 0x[0-9a-f]{1,16}\n?")
_NUMBER = re.compile(rb"[1-9]\d{0,9}")


def stream_of(numbers: Iterable[int], read: Callable[[str], bytes | str], *, most: int) -> bytes:
    """Asks each thread. `read` gives a file below the folder `task`, or the name of the error.

    A thread that ends meanwhile is left out.
    """
    pieces: list[bytes] = []
    for count, number in enumerate(sorted(set(numbers))[:MOST_LISTED]):
        comm = read(f"{number}/comm") if count < most else LIMIT
        call = read(f"{number}/syscall") if count < most else LIMIT
        if comm in _GONE and call in _GONE:
            continue
        told = [b"!" + each.encode() if isinstance(each, str) else each.replace(b"\0", b"") for each in (comm, call)]
        pieces += [b"%d" % number, *told]
    return b"".join(piece + b"\0" for piece in pieces)


def parse_threads(stream: bytes, *, pid: int | None = None) -> tuple[Thread, ...]:
    """The threads in a stream, in order of their numbers. Raises MalformedData."""
    if (count := stream.count(b"\0") // 3) > MOST_LISTED:
        raise MalformedData(THREADS, 0, f"at most {MOST_LISTED:,} threads, not {count:,}", pid=pid)
    fields = stream.split(b"\0")
    if fields.pop() or len(fields) % 3:
        raise MalformedData(THREADS, len(stream), "three fields for each thread, each ended by a NUL", pid=pid)
    found: dict[int, Thread] = {}
    offset = 0
    for at in range(0, len(fields), 3):
        number, comm, call = fields[at : at + 3]
        if not _NUMBER.fullmatch(number) or int(number) in found:
            raise MalformedData(THREADS, offset, "the number of a thread, once", found=number, pid=pid)
        if len(comm) > _LONGEST or len(call) > _LONGEST:
            raise MalformedData(THREADS, offset, f"a name and a call of at most {_LONGEST} bytes each", pid=pid)
        found[int(number)] = _thread(int(number), comm, call)
        offset += len(number) + len(comm) + len(call) + 3
    return tuple(found[number] for number in sorted(found))


def _thread(number: int, comm: bytes, call: bytes) -> Thread:
    """A thread may call itself "!x", with no newline that the kernel would not have added."""
    name = comm.removesuffix(b"\n").decode("utf-8", "surrogateescape") if comm.endswith(b"\n") else None
    told = _TOLD.fullmatch(call)
    if told is not None and (pointer := int(told[1], 16)):
        return Thread(number, name, pointer)
    words = call.removeprefix(b"!").split()
    return Thread(number, name, None, words[0][:40].decode("ascii", "replace") if words else "untold")
