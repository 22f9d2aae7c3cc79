"""A process in a state that is easily misread.

    python oddity.py leader-ends         the first thread ends, another lives on
    python oddity.py hops                the first thread ends; the memory lives on in one that begets the next and ends
    python oddity.py not-dumpable        as an ordinary user (root drops to nobody), and not to be dumped
    python oddity.py chrooted FOLDER     maps FOLDER/x (deleted), a file really so named, and changes its root to FOLDER
    python oddity.py asks PID BACKEND... as an ordinary user: asks about PID, says what came, a line for each backend
    python oddity.py sleeps              nothing odd

Each says a line when it is ready, and ends when its standard input does.
"""

from __future__ import annotations

import _thread
import ctypes
import mmap
import os
import select
import sys
import threading

libc = ctypes.CDLL(None, use_errno=True)
libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
NOBODY = 65534


def become_ordinary() -> None:
    """Python's own library may lie where an ordinary user does not look: what a question takes is loaded before."""
    import fcntl  # noqa: F401
    import re  # noqa: F401

    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    libc.prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG, which setuid takes away


def wait() -> None:
    print("ready", flush=True)
    sys.stdin.read()


def leader_ends() -> None:
    def live_on() -> None:
        wait()
        os._exit(0)

    threading.Thread(target=live_on).start()
    libc.pthread_exit(None)


def hops() -> None:
    def hop() -> None:
        if select.select([sys.stdin], [], [], 0.0003)[0]:
            os._exit(0)
        _thread.start_new_thread(hop, ())

    print("ready", flush=True)
    _thread.start_new_thread(hop, ())
    libc.pthread_exit(None)


def not_dumpable() -> None:
    import vmatlas

    for backend in vmatlas_backends():
        vmatlas.snapshot(backend=backend)  # imports, as long as we may read the files
    become_ordinary()
    assert libc.prctl(4, 0, 0, 0, 0) == 0  # PR_SET_DUMPABLE
    print(" ".join(str(len(vmatlas.snapshot(backend=backend)) > 10) for backend in vmatlas_backends()), flush=True)
    sys.stdin.read()


def vmatlas_backends() -> list[str]:
    from vmatlas.registry import backend
    from vmatlas.target.local import LOCAL

    return [name for name in ("linux-procfs", "linux-ioctl") if LOCAL.offers(backend(name))]


def chrooted(folder: str) -> None:
    with open(f"{folder}/x (deleted)", "w+b") as file:
        file.write(b"x")
        file.flush()
        mapped = mmap.mmap(file.fileno(), 1)
    os.chroot(folder)
    os.chdir("/")
    wait()
    mapped.close()


def asks(pid: str, *backends: str) -> None:
    import vmatlas

    for backend in backends:
        vmatlas.snapshot(backend=backend)
    become_ordinary()
    for backend in backends:
        try:
            print(backend, len(vmatlas.snapshot(int(pid), backend=backend)), flush=True)
        except vmatlas.VmatlasError as error:
            print(backend, type(error).__name__, error, "--", error.hint, flush=True)
    sys.stdin.read()


def main() -> None:
    libc.prctl(1, 9, 0, 0, 0)
    what, *arguments = sys.argv[1:]
    run = {"leader-ends": leader_ends, "hops": hops, "not-dumpable": not_dumpable, "chrooted": chrooted, "asks": asks}
    run.get(what, wait)(*arguments)


if __name__ == "__main__":
    main()
