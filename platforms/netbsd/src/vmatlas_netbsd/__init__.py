"""The backend `netbsd-map`."""

from vmatlas_netbsd.backend import BACKEND, NetBSDMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vmatlas_netbsd.flags import KvmeFlags

__all__ = ["BACKEND", "KvmeFlags", "NetBSDMap"]


def __getattr__(name: str) -> object:
    """The flags, when they are first asked for: on a machine of another system nobody does."""
    if name != "KvmeFlags":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vmatlas_netbsd.flags import KvmeFlags

    return KvmeFlags
