"""Ties acquire and decode together as the backends `qnx-mapinfo` and `qnx-pagedata`.

Cheap to import, since every backend is looked at for the choice: acquire and decode are imported when first used.
"""

from __future__ import annotations

from vmatlas.backend import Availability, Feature, LocalProcess, Reading
from vmatlas.capture import Capture
from vmatlas.errors import Unsupported
from vmatlas.model import AddressSpace, Consistency, Query, Question

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vmatlas.model.crash import Crash

SEGMENTS = "elf-segments"
"""The stream of a capture that was made of a core file: `vmatlas.files.elf_core.SEGMENTS`."""
PMAP = "pmap"
"""The same of the text of /proc/PID/pmap: `vmatlas_qnx.pmap.PMAP`."""
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
        """See `vmatlas_qnx.decode`; of what processes left, `cores` and `pmap`."""
        if SEGMENTS in capture.streams:
            from vmatlas_qnx.cores import decode_core

            return decode_core(capture)
        if PMAP in capture.streams:
            from vmatlas_qnx.pmap import decode_pmap

            return decode_pmap(capture)
        from vmatlas_qnx.decode import decode

        return decode(capture)

    def crash(self, capture: Capture) -> Crash:
        """See `vmatlas_qnx.cores`. Raises Unsupported for a capture that was made of no core file."""
        if SEGMENTS not in capture.streams:
            raise Unsupported("only a core file tells how its process ended", pid=capture.pid, backend=self.name)
        from vmatlas_qnx.cores import decode_crash

        return decode_crash(capture)


_TOLD = (
    Feature.FLAGS
    | Feature.OFFSET
    | Feature.ANY_FILE_NAME
    | Feature.ANONYMOUS_SHARING
    | Feature.ANY_SIZE
    | Feature.NAMELESS_SHARING
)
MAPINFO = QnxBackend(_MAPINFO, _TOLD)
PAGEDATA = QnxBackend(_PAGEDATA, _TOLD | Feature.RESIDENCY)
