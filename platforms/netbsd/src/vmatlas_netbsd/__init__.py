"""The backend `netbsd-map`."""

from vmatlas_netbsd.backend import BACKEND, NetBSDMap
from vmatlas_netbsd.flags import KvmeFlags

__all__ = ["BACKEND", "KvmeFlags", "NetBSDMap"]
