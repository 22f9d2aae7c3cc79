"""PAGEDATA as a source of pages: apart, since it is looked at when pages are asked for, the backends at every start."""

from __future__ import annotations

from vmatlas.backend import Availability, LocalProcess, Reading
from vmatlas.capture import Capture
from vmatlas.model import Consistency, Query
from vmatlas.model.pages import PageRuns, PageState

_PAGEDATA = "pagedata"


class PagedataPages:
    """PAGEDATA, asked which pages are in memory."""

    name = "qnx-pagedata-pages"
    system = "qnx"
    distribution = "vmatlas-qnx"
    source = "qnx.pagedata"
    consistency = Consistency.SINGLE_CALL
    stream = "pages-pagedata"
    states = PageState.PRESENT | PageState.FILE | PageState.ANONYMOUS  # of device memory neither of the last two
    cost = 10
    passes_holes = True

    def probe(self) -> Availability:
        """Whether this machine answers the device command, found out by asking about this process."""
        from vmatlas_qnx.acquire import probe

        return probe(_PAGEDATA)

    def acquire(self, process: LocalProcess, query: Query) -> Reading:
        """See `vmatlas_qnx.acquire`."""
        from vmatlas_qnx.acquire import acquire_pages

        return acquire_pages(process, query)

    def pages(self, capture: Capture) -> PageRuns:
        """See `vmatlas_qnx.pages`."""
        from vmatlas_qnx.pages import decode_pages

        return decode_pages(capture, self.states)


PAGEDATA_PAGES = PagedataPages()
