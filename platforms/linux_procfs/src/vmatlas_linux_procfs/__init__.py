"""The backend `linux-procfs`: /proc/PID/maps and, for residency, /proc/PID/smaps."""

from vmatlas_linux_procfs.backend import BACKEND, LinuxProcfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vmatlas_linux_procfs.flags import VmFlags

__all__ = ["BACKEND", "LinuxProcfs", "VmFlags"]


def __getattr__(name: str) -> object:
    """`VmFlags`, imported when it is first used: its forty members take as long as a map is read."""
    if name != "VmFlags":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vmatlas_linux_procfs.flags import VmFlags

    return VmFlags
