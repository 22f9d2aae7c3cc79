"""process_madvise(2) by a child, for advice that reads files: it may wait for a file system that never answers.

A thread that waits so (in a sleep that no signal ends) keeps its process from ending. A child is left behind, and ends
when it is answered. It is a Python of its own and no fork: other threads of a program may hold any lock.
"""

from __future__ import annotations

import subprocess
import sys
from errno import ETIMEDOUT

from vmatlas.operations.posix import refuse
from vmatlas.systems.linux.starting import ended_early, not_started

LIMIT = 300.0
"""Seconds for one call, of at most 2 GiB."""

_WANTED = "to have the kernel read files"

_PROGRAM = """
import ctypes, sys
call, process, count, advice = map(int, sys.argv[1:])
vector = sys.stdin.buffer.read()
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc.prctl(1, 9)  # PR_SET_PDEATHSIG: it is of no use to anybody else
done = libc.syscall(
    ctypes.c_long(call), ctypes.c_int(process), ctypes.create_string_buffer(vector, len(vector) + 1),
    ctypes.c_size_t(count), ctypes.c_int(advice), ctypes.c_uint(0),
)
print(done, ctypes.get_errno() if done < 0 else 0)
"""


def is_possible() -> bool:
    """Whether there is a Python to start: a program that embeds one may not tell where."""
    return bool(sys.executable)


def advise(call: int, process: int, vector: bytes, count: int, advice: int) -> int:
    """The bytes that were done. `process`: a pidfd. Raises OperationFailed: ETIMEDOUT beyond `LIMIT`; NotStarted."""
    words = [sys.executable, "-I", "-S", "-c", _PROGRAM, *map(str, (call, process, count, advice))]
    try:
        # Nothing of ours stays open in it: whoever reads what we write waits for its end.
        child = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, pass_fds=[process]
        )
    except OSError as error:
        raise not_started(error, _WANTED) from None
    try:
        told, _ = child.communicate(vector, LIMIT)
    except subprocess.TimeoutExpired:
        raise refuse("process_madvise", ETIMEDOUT) from None
    finally:
        child.kill()  # one that waits in the kernel ends when that answers, and nobody waits for it here
    words_told = told.split()
    if len(words_told) != 2:
        raise ended_early(_WANTED)
    done, error_number = map(int, words_told)
    if done < 0:
        raise refuse("process_madvise", error_number)
    return done
