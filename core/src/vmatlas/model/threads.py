"""One thread of a process, as far as it helps to tell whose a stack is. No I/O."""

from __future__ import annotations

from typing import NamedTuple


class Thread(NamedTuple):
    """A thread of a process, and where its stack pointer was when it was asked."""

    number: int
    """Its id in the pid namespace of who asked (Linux: TID)."""
    name: str | None
    """What the system calls it, in short (Linux: its comm); None where that is not told."""
    stack_pointer: int | None
    """An address in the stack on which it stood; None where that is not told."""
    untold: str = ""
    """Why the stack pointer is not told: "running" (on a processor just then), "EPERM" (it takes the right to trace the
    process), another error of the kernel's by its name; empty where it is told."""
