"""Ties acquire and decode together as two ways to ask about pages: `linux-pagemap-scan` and `linux-pagemap`.

Cheap to import, since both are looked at for the choice: acquire and decode are imported when first used.
"""

from __future__ import annotations

from vmatlas.backend import YES, Availability, LocalProcess, Reading
from vmatlas.capture import Capture
from vmatlas.model import Consistency, Query
from vmatlas.model.pages import PageRuns, PageState, RunColumns
from vmatlas.systems.linux.proc import probe_proc
from vmatlas_linux_pagemap.layout import COMPILED_OUT


class PagemapScan:
    """PAGEMAP_SCAN (Linux 6.7 and newer): runs of pages, and untouched memory costs nothing."""

    name = "linux-pagemap-scan"
    system = "linux"
    distribution = "vmatlas-linux-pagemap"
    source = "linux.pagemap_scan"
    consistency = Consistency.PER_REGION
    stream = "pages-scan"
    states = ~PageState.EXCLUSIVE
    cost = 10
    passes_holes = True
    compiled = "vmatlas_linux_pagemap._native"

    def probe(self) -> Availability:
        """Whether /proc is that of this process, and the kernel knows the ioctl: a question of size 0, which it must
        refuse in its own way."""
        if not (proc := probe_proc()):
            return proc
        from vmatlas_linux_pagemap.acquire import probe_scan

        refused = probe_scan()
        return YES if refused is None else Availability(False, refused[1])

    def acquire(self, process: LocalProcess, query: Query) -> Reading:
        """See `vmatlas_linux_pagemap.acquire`."""
        from vmatlas_linux_pagemap.acquire import acquire_scan

        return acquire_scan(process, query)

    def read(self, process: LocalProcess, query: Query) -> tuple[RunColumns, PageState] | None:
        """See `vmatlas_linux_pagemap.acquire`."""
        from vmatlas_linux_pagemap.acquire import read_scan

        return read_scan(process, query)

    def pages(self, capture: Capture) -> PageRuns:
        """See `vmatlas_linux_pagemap.decode`."""
        from vmatlas_linux_pagemap.decode import decode_scan

        return decode_scan(capture)


class Pagemap:
    """/proc/PID/pagemap (CONFIG_PROC_PAGE_MONITOR): 8 bytes for each page, touched or not."""

    name = "linux-pagemap"
    system = "linux"
    distribution = "vmatlas-linux-pagemap"
    source = "linux.pagemap"
    consistency = Consistency.PER_REGION
    stream = "pages-entries"
    states = (
        PageState.PRESENT
        | PageState.SWAPPED
        | PageState.FILE
        | PageState.ANONYMOUS
        | PageState.GUARD
        | PageState.SOFT_DIRTY
        | PageState.EXCLUSIVE
    )
    cost = 20
    passes_holes = False
    compiled = "vmatlas_linux_pagemap._native"

    def probe(self) -> Availability:
        """Whether /proc is that of this process, and has the file."""
        import os

        if not (proc := probe_proc()):
            return proc
        try:
            os.close(os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            return Availability(False, COMPILED_OUT)
        except OSError as error:
            return Availability(False, f"/proc/self/pagemap: {error.strerror}")
        return YES

    def acquire(self, process: LocalProcess, query: Query) -> Reading:
        """See `vmatlas_linux_pagemap.acquire`."""
        from vmatlas_linux_pagemap.acquire import acquire_entries

        return acquire_entries(process, query)

    def read(self, process: LocalProcess, query: Query) -> tuple[RunColumns, PageState] | None:
        """See `vmatlas_linux_pagemap.acquire`."""
        from vmatlas_linux_pagemap.acquire import read_entries

        return read_entries(process, query)

    def pages(self, capture: Capture) -> PageRuns:
        """See `vmatlas_linux_pagemap.decode`."""
        from vmatlas_linux_pagemap.decode import decode_entries

        return decode_entries(capture)


SCAN = PagemapScan()
PAGEMAP = Pagemap()
