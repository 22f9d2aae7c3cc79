"""Bytes to address spaces. Pure: nothing here touches a system."""

from vmatlas_freebsd.decode.map_text import decode_map
from vmatlas_freebsd.decode.mincore import decode_mincore
from vmatlas_freebsd.decode.vmmap import decode_vmmap

__all__ = ["decode_map", "decode_mincore", "decode_vmmap"]
