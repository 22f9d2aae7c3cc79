"""Ties decode and acquire together as the backend `netbsd-map`.

Cheap to import, since every backend is looked at for the choice: the other rooms are imported when first used.
"""

from __future__ import annotations

from vmatlas.backend import Availability, Feature, LocalProcess, Reading
from vmatlas.capture import Capture
from vmatlas.model import AddressSpace, Consistency, Query


class NetBSDMap:
    """The sysctl vm.proc.map (NetBSD 8 and newer). Never run yet."""

    name = "netbsd-map"
    system = "netbsd"
    distribution = "vmatlas-netbsd"
    source = "netbsd.map"
    # Names of files come from the kernel's name cache, so some have none.
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
        """See `vmatlas_netbsd.decode`."""
        from vmatlas_netbsd.decode import decode

        return decode(capture)


BACKEND = NetBSDMap()
