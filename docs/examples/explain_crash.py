"""Runs a program; when a signal is about to kill it, saves its memory map and explains the fault from what was saved.

    python explain_crash.py crash.vmatlas PROGRAM [ARGUMENT...]
    python explain_crash.py --read crash.vmatlas ADDRESS           later, on any machine

The program is traced (ptrace(2)), which takes no right for a child of one's own; its first thread alone is looked at.
Linux.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys

import vmatlas
from vmatlas import operations

TRACEME, CONT, GETSIGINFO = 0, 7, 0x4202
DEADLY = (signal.SIGSEGV, signal.SIGBUS)
_libc = ctypes.CDLL(None, use_errno=True)


def ptrace(request: int, pid: int, data: object) -> None:
    """ptrace(2). Raises OSError."""
    if _libc.ptrace(ctypes.c_long(request), ctypes.c_long(pid), None, data) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def fault_address(pid: int) -> int:
    """`si_addr` of the signal that a stopped process is about to get (sigaction(2))."""
    info = (ctypes.c_char * 128)()
    ptrace(GETSIGINFO, pid, info)
    wide = struct.calcsize("P") == 8
    return int(struct.unpack_from("=Q" if wide else "=I", info, 16 if wide else 12)[0])


def run(path: str, command: list[str]) -> int:
    """Run a program to its end. Its exit code; when it crashed, the capture has been saved."""
    pid = os.fork()
    if not pid:
        try:
            ptrace(TRACEME, 0, None)
            os.execvp(command[0], command)
        except OSError as error:
            print(f"{command[0]}: {error.strerror}", file=sys.stderr)
            os._exit(127)
    while True:
        status = os.waitpid(pid, 0)[1]
        if not os.WIFSTOPPED(status):
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code  # as shells tell of a signal
        stopped_by = os.WSTOPSIG(status)
        if stopped_by in DEADLY:
            vmatlas.capture(pid, residency=True).save(path)
            explain(path, fault_address(pid))
        passed_on = 0 if stopped_by == signal.SIGTRAP else stopped_by  # SIGTRAP: the stop at exec
        ptrace(CONT, pid, ctypes.c_long(passed_on))


def explain(path: str, address: int) -> None:
    """Say why an access to an address faulted, from a saved map."""
    fault = operations.classify_fault(address, vmatlas.replay(path))
    print(f"{fault.cause.value}: {fault.text}")
    for where, region in (("before", fault.before), ("at", fault.at), ("after", fault.after)):
        if region is not None:
            print(f"  {where:6} {region.start:x}-{region.end:x} {region.permissions} {region.label}")


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "--read":
        explain(sys.argv[2], int(sys.argv[3], 16))
    elif len(sys.argv) > 2 and not sys.argv[1].startswith("-"):
        sys.exit(run(sys.argv[1], sys.argv[2:]))
    else:
        sys.exit(__doc__)
