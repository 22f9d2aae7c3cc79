"""Ties acquire and decode together as the backends `qnx-mapinfo` and `qnx-pagedata`.

Cheap to import, since every backend is looked at for the choice: acquire and decode are imported when first used.
"""

from __future__ import annotations

from vmatlas.backend import Availability, Feature, LocalProcess, Reading
from vmatlas.capture import Capture
from vmatlas.model import AddressSpace, Consistency, Query, Question

_MAPINFO, _PAGEDATA = "mapinfo", "pagedata"


class QnxBackend:
    """One of the two device commands. They give the same entries; PAGEDATA also says what is in the page tables."""

    system = "qnx"
    distribution = "vmatlas-qnx"
    compiled = "vmatlas_qnx._native"
    consistency = Consistency.SINGLE_CALL

    def __init__(self, stream: str, features: Feature) -> None:
        """`stream` is "mapinfo" or "pagedata"."""
        self.stream = stream
        self.name = f"qnx-{stream}"
        self.source = f"qnx.{stream}"
        self.features = features

    def probe(self) -> Availability:
        """Whether this machine answers the device command, found out by asking about this process."""
        from vmatlas_qnx.acquire import probe

        return probe(self.stream)

    def rank(self, query: Query) -> int | None:
        """PAGEDATA for residency, MAPINFO for all else. None: it cannot answer."""
        if query.build_ids:
            return None
        if self.stream == _PAGEDATA:
            return 10 if query.question is Question.RESIDENCY else 20
        return None if query.residency else 10

    def acquire(self, process: LocalProcess, query: Query) -> Reading:
        """See `vmatlas_qnx.acquire`."""
        from vmatlas_qnx.acquire import acquire

        return acquire(process, self.stream)

    def decode(self, capture: Capture) -> AddressSpace:
        """See `vmatlas_qnx.decode`."""
        from vmatlas_qnx.decode import decode

        return decode(capture)


_TOLD = Feature.FLAGS | Feature.OFFSET | Feature.ANY_FILE_NAME | Feature.ANONYMOUS_SHARING
MAPINFO = QnxBackend(_MAPINFO, _TOLD)
PAGEDATA = QnxBackend(_PAGEDATA, _TOLD | Feature.RESIDENCY)
