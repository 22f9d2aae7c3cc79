"""Ties decode and acquire together as the backend `netbsd-map`.

Cheap to import, since every backend is looked at for the choice: the other rooms are imported when first used.
"""

from __future__ import annotations

from vmatlas.backend import Availability, Feature, LocalProcess, Reading
from vmatlas.capture import Capture
from vmatlas.errors import Unsupported
from vmatlas.model import AddressSpace, Consistency, Query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vmatlas.model.crash import Crash

OPENBSD = "openbsd"
"""Whose core files are read here as well: it has no plugin of its own."""
SEGMENTS = "elf-segments"
"""The stream of a capture that was made of a core file: `vmatlas.files.elf_core.SEGMENTS`."""


class NetBSDMap:
    """The sysctl vm.proc.map (NetBSD 8 and newer)."""

    name = "netbsd-map"
    system = "netbsd"
    distribution = "vmatlas-netbsd"
    source = "netbsd.map"
    # Names of files come from the kernel's name cache, so some have none; a POSIX shared memory object is a file there.
    # A map of more than some 9,000 regions the kernel refuses to tell (E2BIG).
    features = (
        Feature.FLAGS
        | Feature.MAX_PROTECTION
        | Feature.OFFSET
        | Feature.FILE_ID
        | Feature.ANY_FILE_NAME
        | Feature.ANONYMOUS_SHARING
    )
    consistency = Consistency.SINGLE_CALL  # the map is locked while all of it is told (fill_vmentries)

    def probe(self) -> Availability:
        """Whether this machine's kernel tells this process its own map."""
        from vmatlas_netbsd.acquire import probe

        return probe()

    def rank(self, query: Query) -> int | None:
        """It answers all but build ids and residency. Each answer is the whole map."""
        return None if query.build_ids or query.residency else 10

    def acquire(self, process: LocalProcess, query: Query) -> Reading:
        """The kernel's bytes, whole."""
        from vmatlas_netbsd.acquire import acquire

        return acquire(process)

    def decode(self, capture: Capture) -> AddressSpace:
        """See `vmatlas_netbsd.decode`; of a core file, `cores` and `openbsd_cores`."""
        if SEGMENTS in capture.streams:
            if capture.system.system == OPENBSD:
                from vmatlas_netbsd import openbsd_cores

                return openbsd_cores.decode_core(capture)
            from vmatlas_netbsd.cores import decode_core

            return decode_core(capture)
        from vmatlas_netbsd.decode import decode

        return decode(capture)

    def crash(self, capture: Capture) -> Crash:
        """See `vmatlas_netbsd.cores`. Raises Unsupported for a capture that was made of no core file."""
        if SEGMENTS not in capture.streams:
            raise Unsupported("only a core file tells how its process ended", pid=capture.pid, backend=self.name)
        if capture.system.system == OPENBSD:
            from vmatlas_netbsd import openbsd_cores

            return openbsd_cores.decode_crash(capture)
        from vmatlas_netbsd.cores import decode_crash

        return decode_crash(capture)


BACKEND = NetBSDMap()
