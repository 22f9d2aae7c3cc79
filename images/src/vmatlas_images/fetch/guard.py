"""Runs a command that must not outlive its parent, whatever ends the parent: run as a script, with the standard
library alone.

    python guard.py LIFELINE PARENT FOLDER COMMAND...

The guard holds LIFELINE, the reading end of a pipe whose other end only the parent has, and watches the process PARENT.
When either ends, SIGKILL included, it kills the command and its process group, removes FOLDER (`-`: none) and ends. It
stands in a session of its own, so a Ctrl-C or a kill of the parent's process group does not reach it; and the
command dies with the guard (PR_SET_PDEATHSIG, prctl(2), Linux), should that be killed instead. Its exit status is
the command's, 128 + N for signal N, and 127 when the command cannot be started. It must never wait for anything
without watching the parent.
"""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def start(command: list[str], lifeline: int) -> int:
    """Starts the command in a process group of its own and gives its pid."""
    guard = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.close(lifeline)
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != guard:
                os._exit(127)
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"cannot start {command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def watch(pid: int, lifeline: int, parent: int) -> int:
    """Waits for the command or for the end of the parent; kills the command's group; gives the exit status."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: None)
    waits = select.poll()
    waits.register(lifeline, select.POLLIN | select.POLLHUP)
    waits.register(woken, select.POLLIN)
    try:
        waits.register(os.pidfd_open(parent), select.POLLIN)
    except ProcessLookupError:
        return kill(pid)
    except (AttributeError, OSError):
        pass  # no pidfd on this system: the lifeline alone tells
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            kill(pid)
            return os.waitstatus_to_exitcode(status)
        for descriptor, _ in waits.poll():
            if descriptor != woken or signal.SIGTERM in os.read(woken, 512):
                return kill(pid)


def kill(pid: int) -> int:
    """Kills the command's process group and reaps the command, if that was not done."""
    for how in (os.killpg, os.kill):
        # It may have ended; or it has not made its group yet, and then the other call reaches it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            how(pid, signal.SIGKILL)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return 0


def main() -> None:
    """Reads the arguments, runs the command, removes the folder."""
    lifeline, parent, folder, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]
    os.setsid()
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        status = watch(start(command, lifeline), lifeline, parent)
    finally:
        if folder != "-":
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
