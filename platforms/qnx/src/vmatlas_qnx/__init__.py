"""The backends `qnx-mapinfo` and `qnx-pagedata`: what QNX Neutrino's process manager tells of a process's memory."""

from vmatlas_qnx.backend import MAPINFO, PAGEDATA, PAGEDATA_PAGES, PagedataPages, QnxBackend

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vmatlas_qnx.flags import MapFlags

__all__ = ["MAPINFO", "PAGEDATA", "PAGEDATA_PAGES", "MapFlags", "PagedataPages", "QnxBackend"]


def __getattr__(name: str) -> object:
    """The flags, when they are first asked for: on a machine of another system nobody does."""
    if name != "MapFlags":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vmatlas_qnx.flags import MapFlags

    return MapFlags
