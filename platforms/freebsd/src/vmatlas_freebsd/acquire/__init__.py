"""Asks this machine's kernel. Loads libc by ctypes when a question is asked; of use on FreeBSD alone."""

from vmatlas_freebsd.acquire.map_text import acquire_map, probe_map
from vmatlas_freebsd.acquire.mincore import acquire_mincore, probe_mincore
from vmatlas_freebsd.acquire.vmmap import acquire_vmmap, probe_vmmap

__all__ = ["acquire_map", "acquire_mincore", "acquire_vmmap", "probe_map", "probe_mincore", "probe_vmmap"]
