"""The backends of FreeBSD: `freebsd-sysctl` (KERN_PROC_VMMAP) and `freebsd-procfs` (/proc/PID/map).

`freebsd-mincore` (mincore(2)) tells pages.
"""

from vmatlas_freebsd.backend import PROCFS, SYSCTL, FreeBSDProcfs, FreeBSDSysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vmatlas_freebsd.flags import KvmeFlags
    from vmatlas_freebsd.page_source import MINCORE, MincorePages

__all__ = ["MINCORE", "PROCFS", "SYSCTL", "FreeBSDProcfs", "FreeBSDSysctl", "KvmeFlags", "MincorePages"]


def __getattr__(name: str) -> object:
    """The flags and the source of pages, when they are first asked for: on a machine of another system nobody does."""
    if name == "KvmeFlags":
        from vmatlas_freebsd.flags import KvmeFlags

        return KvmeFlags
    if name in ("MINCORE", "MincorePages"):
        from vmatlas_freebsd import page_source

        return getattr(page_source, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
