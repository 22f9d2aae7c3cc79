"""Ties acquire and decode together as the backends `qnx-mapinfo` and `qnx-pagedata`."""

from __future__ import annotations

from vmatlas.backend import Availability, Feature, LocalProcess, Reading
from vmatlas.capture import Capture
from vmatlas.model import AddressSpace, Consistency, Query, Question
from vmatlas_qnx import acquire, decode


class QnxBackend:
    """One of the two device commands. They give the same entries; PAGEDATA also says what is in the page tables."""

    system = "qnx"
    distribution = "vmatlas-qnx"
    consistency = Consistency.SINGLE_CALL

    def __init__(self, stream: str, features: Feature) -> None:
        """`stream` is "mapinfo" or "pagedata"."""
        self.stream = stream
        self.name = f"qnx-{stream}"
        self.source = f"qnx.{stream}"
        self.features = features

    def probe(self) -> Availability:
        """Whether this machine answers the device command, found out by asking about this process."""
        return acquire.probe(self.stream)

    def rank(self, query: Query) -> int | None:
        """PAGEDATA for residency, MAPINFO for all else. None: it cannot answer."""
        if query.build_ids:
            return None
        if self.stream == decode.PAGEDATA:
            return 10 if query.question is Question.RESIDENCY else 20
        return None if query.residency else 10

    def acquire(self, process: LocalProcess, query: Query) -> Reading:
        """See `vmatlas_qnx.acquire`."""
        return acquire.acquire(process, self.stream)

    def decode(self, capture: Capture) -> AddressSpace:
        """See `vmatlas_qnx.decode`."""
        return decode.decode(capture)


MAPINFO = QnxBackend(decode.MAPINFO, Feature.FLAGS | Feature.OFFSET)
PAGEDATA = QnxBackend(decode.PAGEDATA, Feature.FLAGS | Feature.OFFSET | Feature.RESIDENCY)
