"""The backends `qnx-mapinfo` and `qnx-pagedata`: what QNX Neutrino's process manager tells of a process's memory."""

from vmatlas_qnx.backend import MAPINFO, PAGEDATA, QnxBackend

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vmatlas_qnx.flags import MapFlags
    from vmatlas_qnx.page_source import PAGEDATA_PAGES, PagedataPages

__all__ = ["MAPINFO", "PAGEDATA", "PAGEDATA_PAGES", "MapFlags", "PagedataPages", "QnxBackend"]


def __getattr__(name: str) -> object:
    """The flags and the source of pages, when they are first asked for: on a machine of another system nobody does."""
    if name == "MapFlags":
        from vmatlas_qnx.flags import MapFlags

        return MapFlags
    if name in ("PAGEDATA_PAGES", "PagedataPages"):
        from vmatlas_qnx import page_source

        return getattr(page_source, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
