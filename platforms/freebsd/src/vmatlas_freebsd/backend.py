"""Ties decode and acquire together as the backends `freebsd-sysctl` and `freebsd-procfs`.

Cheap to import, since every backend is looked at for the choice: decode and acquire (which loads libc by ctypes) are
imported when first used.
"""

from __future__ import annotations

from vmatlas.backend import Availability, Feature, LocalProcess, Reading
from vmatlas.capture import Capture
from vmatlas.errors import Unsupported
from vmatlas.model import AddressSpace, Consistency, Query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vmatlas.model.crash import Crash

SEGMENTS = "elf-segments"
"""The stream of a capture that was made of a core file: `vmatlas.files.elf_core.SEGMENTS`."""
PROCSTAT = "procstat"
"""The same of what procstat printed: `vmatlas_freebsd.procstat.PROCSTAT`."""

_SYSCTL_RANK = 10
_PROCFS_RANK = 90
"""Far behind: names are not escaped in that text, so it is taken only where nothing else answers."""


class FreeBSDSysctl:
    """sysctl kern.proc.vmmap (FreeBSD 7.1 and newer)."""

    name = "freebsd-sysctl"
    system = "freebsd"
    distribution = "vmatlas-freebsd"
    source = "freebsd.vmmap"
    compiled = "vmatlas_freebsd._native"
    # Names of files come from the kernel's name cache, so they are told of many files and not of every one. The maximum
    # protection is read where it is told; 13.2, on which this was run, tells none, so it is not promised.
    features = (
        Feature.RESIDENCY
        | Feature.FLAGS
        | Feature.OFFSET
        | Feature.FILE_ID
        | Feature.ANY_FILE_NAME
        | Feature.OWNERS_ONLY
        | Feature.ANY_SIZE
        | Feature.NAMELESS_SHARING
    )
    consistency = Consistency.PER_REGION  # the kernel lets go of the map at each entry

    def probe(self) -> Availability:
        """Whether the kernel tells this process its own map."""
        from vmatlas_freebsd.acquire import probe_vmmap

        return probe_vmmap()

    def rank(self, query: Query) -> int | None:
        """It answers all but build ids. Each answer is the whole map."""
        return None if query.build_ids else _SYSCTL_RANK

    def acquire(self, process: LocalProcess, query: Query) -> Reading:
        """The records, whole: the kernel gives them in no other way."""
        from vmatlas_freebsd.acquire import acquire_vmmap

        return acquire_vmmap(process)

    def decode(self, capture: Capture) -> AddressSpace:
        """See `vmatlas_freebsd.decode.vmmap`; of what processes left, `cores` and `procstat`."""
        if SEGMENTS in capture.streams:
            from vmatlas_freebsd.cores import decode_core

            return decode_core(capture)
        if PROCSTAT in capture.streams:
            from vmatlas_freebsd.procstat import decode_procstat

            return decode_procstat(capture)
        from vmatlas_freebsd.decode import decode_vmmap

        return decode_vmmap(capture)

    def crash(self, capture: Capture) -> Crash:
        """See `vmatlas_freebsd.cores`. Raises Unsupported for a capture that was made of no core file."""
        if SEGMENTS not in capture.streams:
            raise Unsupported("only a core file tells how its process ended", pid=capture.pid, backend=self.name)
        from vmatlas_freebsd.cores import decode_crash

        return decode_crash(capture)


class FreeBSDProcfs:
    """The text of /proc/PID/map, where procfs is mounted."""

    name = "freebsd-procfs"
    system = "freebsd"
    distribution = "vmatlas-freebsd"
    source = "freebsd.procfs_map"
    # The kernel cuts the text at 1,048,575 bytes: of a larger map it is incomplete, and says so.
    features = Feature.RESIDENCY | Feature.FLAGS | Feature.OWNERS_ONLY | Feature.NAMELESS_SHARING
    consistency = Consistency.PER_REGION

    def probe(self) -> Availability:
        """Whether procfs is mounted."""
        from vmatlas_freebsd.acquire import probe_map

        return probe_map()

    def rank(self, query: Query) -> int | None:
        """It answers all but build ids, and after every other backend."""
        return None if query.build_ids else _PROCFS_RANK

    def acquire(self, process: LocalProcess, query: Query) -> Reading:
        """The text, in one read."""
        from vmatlas_freebsd.acquire import acquire_map

        return acquire_map(process)

    def decode(self, capture: Capture) -> AddressSpace:
        """See `vmatlas_freebsd.decode.map_text`."""
        from vmatlas_freebsd.decode import decode_map

        return decode_map(capture)


SYSCTL = FreeBSDSysctl()
PROCFS = FreeBSDProcfs()
