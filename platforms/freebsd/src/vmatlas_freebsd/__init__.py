"""The backends of FreeBSD: `freebsd-sysctl` (KERN_PROC_VMMAP) and `freebsd-procfs` (/proc/PID/map)."""

from vmatlas_freebsd.backend import PROCFS, SYSCTL, FreeBSDProcfs, FreeBSDSysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vmatlas_freebsd.flags import KvmeFlags

__all__ = ["PROCFS", "SYSCTL", "FreeBSDProcfs", "FreeBSDSysctl", "KvmeFlags"]


def __getattr__(name: str) -> object:
    """The flags, when they are first asked for: on a machine of another system nobody does."""
    if name != "KvmeFlags":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vmatlas_freebsd.flags import KvmeFlags

    return KvmeFlags
