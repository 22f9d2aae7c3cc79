"""The backends of FreeBSD: `freebsd-sysctl` (KERN_PROC_VMMAP) and `freebsd-procfs` (/proc/PID/map)."""

from vmatlas_freebsd.backend import PROCFS, SYSCTL, FreeBSDProcfs, FreeBSDSysctl
from vmatlas_freebsd.flags import KvmeFlags

__all__ = ["PROCFS", "SYSCTL", "FreeBSDProcfs", "FreeBSDSysctl", "KvmeFlags"]
