"""The backend `linux-procfs`: /proc/PID/maps and, for residency, /proc/PID/smaps."""

from vmatlas_linux_procfs.backend import BACKEND, LinuxProcfs
from vmatlas_linux_procfs.flags import VmFlags

__all__ = ["BACKEND", "LinuxProcfs", "VmFlags"]
