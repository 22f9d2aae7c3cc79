"""The backends `qnx-mapinfo` and `qnx-pagedata`: what QNX Neutrino's process manager tells of a process's memory."""

from vmatlas_qnx.backend import MAPINFO, PAGEDATA, QnxBackend
from vmatlas_qnx.flags import MapFlags

__all__ = ["MAPINFO", "PAGEDATA", "MapFlags", "QnxBackend"]
