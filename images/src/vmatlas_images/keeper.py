"""The process that holds a machine, started by `keep.hold_apart`: python -m vmatlas_images.keeper NAME SECONDS."""

from __future__ import annotations

import os
import sys
import threading

from .command import hold_machine
from .run.keep import STAY, UP


def main(name: str, seconds: float) -> int:
    """Holds the machine; its exit code is that of `invoke machine-boot`."""
    may_stay = threading.Event()

    def listen() -> None:
        if os.read(0, len(STAY)) == STAY:
            may_stay.set()
        else:
            os._exit(1)  # its starter is gone: the guard ends the machine

    def came_up() -> None:
        sys.stdout.write(f"{UP}\n")
        sys.stdout.flush()
        may_stay.wait()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):  # nobody listens any more
            os.dup2(nowhere, descriptor)
        os.close(nowhere)

    threading.Thread(target=listen, daemon=True).start()
    return int(hold_machine(name, seconds, came_up))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2])))
