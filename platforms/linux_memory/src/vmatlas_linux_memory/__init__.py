"""Memory operations of Linux for vmatlas: advise, place, move, lock, protect."""

from vmatlas_linux_memory.calls import OPERATIONS, LinuxMemory

__all__ = ["OPERATIONS", "LinuxMemory"]
