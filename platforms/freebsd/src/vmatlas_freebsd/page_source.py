"""mincore(2) as a source of pages: apart, since it is looked at when pages are asked for, backends at every start."""

from __future__ import annotations

from vmatlas.backend import Availability, LocalProcess, Reading
from vmatlas.capture import Capture
from vmatlas.model import Consistency, Query
from vmatlas.model.pages import PageRuns, PageState


class MincorePages:
    """mincore(2), by which a process learns which of its own pages are in memory."""

    name = "freebsd-mincore"
    system = "freebsd"
    distribution = "vmatlas-freebsd"
    source = "freebsd.mincore"
    consistency = Consistency.PER_REGION  # the kernel lets go of the map at each page
    stream = "pages-mincore"
    states = PageState.PRESENT | PageState.HUGE
    cost = 10
    passes_holes = False
    own_alone = (
        "FreeBSD tells pages to the process itself alone (mincore); of another one, how much of a region is in memory: "
        "resident, --residency"
    )

    def probe(self) -> Availability:
        """Whether the kernel tells which pages this process has mapped, found out by asking about one of them."""
        from vmatlas_freebsd.acquire import probe_mincore

        return probe_mincore()

    def acquire(self, process: LocalProcess, query: Query) -> Reading:
        """See `vmatlas_freebsd.acquire.mincore`."""
        from vmatlas_freebsd.acquire import acquire_mincore

        return acquire_mincore(process, query, self.own_alone)

    def pages(self, capture: Capture) -> PageRuns:
        """See `vmatlas_freebsd.decode.mincore`."""
        from vmatlas_freebsd.decode import decode_mincore

        return decode_mincore(capture, self.states)


MINCORE = MincorePages()
