"""The backend `linux-ioctl`: the PROCMAP_QUERY ioctl on /proc/PID/maps, since Linux 6.11."""

from vmatlas_linux_ioctl.backend import BACKEND, LinuxIoctl

__all__ = ["BACKEND", "LinuxIoctl"]
