"""Ties acquire and decode together as the backend `linux-ioctl`.

Cheap to import, since every backend is looked at for the choice: acquire and decode are imported when first used.
"""

from __future__ import annotations

import os
from errno import EINVAL, ENOTTY

from vmatlas.backend import YES, Availability, Feature, Finder, LocalProcess, Reading
from vmatlas.model import AddressSpace, Columns, Consistency, Filter, Protection, Query, Question
from vmatlas.systems.linux.proc import probe_proc
from vmatlas.systems.linux.procmap import PROCMAP_QUERY, SIZE, UNTOLD, QueryFlags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vmatlas.capture import Capture


class LinuxIoctl:
    """PROCMAP_QUERY (Linux 6.11 and newer)."""

    name = "linux-ioctl"
    system = "linux"
    distribution = "vmatlas-linux-ioctl"
    source = "linux.procmap_query"
    features = (
        Feature.WALK
        | Feature.BUILD_ID
        | Feature.PAGE_SIZE
        | Feature.OFFSET
        | Feature.KERNEL_FILTER
        | Feature.THREADS
        | Feature.FILE_ID
        | Feature.FILE_NAME
        | Feature.ANY_FILE_NAME
        | Feature.ANONYMOUS_SHARING
        | Feature.DELETED
        | Feature.OWNERS_ONLY
        | Feature.ANY_SIZE
        | Feature.NAMELESS_SHARING
    )
    consistency = Consistency.PER_REGION
    blind_spots = UNTOLD
    compiled = "vmatlas_linux_ioctl._native"

    def probe(self) -> Availability:
        """Whether /proc is that of this process, and the kernel knows the ioctl: a question of size 0, which it must
        refuse in its own way."""
        import fcntl

        if not (proc := probe_proc()):
            return proc
        try:
            descriptor = os.open("/proc/self/maps", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            return Availability(False, f"/proc/self/maps: {error.strerror}")
        try:
            fcntl.ioctl(descriptor, PROCMAP_QUERY, bytearray(SIZE))
        except OSError as error:
            if error.errno == ENOTTY:
                return Availability(False, "the kernel is older than 6.11: no PROCMAP_QUERY ioctl (ENOTTY)")
            if error.errno != EINVAL:  # what stands between does not hand it on: an emulator, a filter of system calls
                return Availability(False, f"PROCMAP_QUERY is not answered: {error.strerror}")
        finally:
            os.close(descriptor)
        return YES

    def rank(self, query: Query) -> int | None:
        """Best for single addresses and for what the kernel can filter; not for what it cannot see."""
        match query.question:
            case Question.RESIDENCY:
                return None
            case Question.BUILD_IDS:
                return 10
            case Question.POINT:
                return 10
            case Question.FILTERED_MAP:
                from vmatlas_linux_ioctl.question import kernel_flags

                return 10 if kernel_flags(query.where) and _excludes_blind_spots(query.where) else 25
            case _:
                return 20

    def acquire(self, process: LocalProcess, query: Query) -> Reading:
        """See `vmatlas_linux_ioctl.acquire`."""
        from vmatlas_linux_ioctl.acquire import acquire

        return acquire(process, query)

    def read(self, process: LocalProcess, query: Query, most: int) -> Columns | None:
        """See `vmatlas_linux_ioctl.acquire.read`."""
        from vmatlas_linux_ioctl.acquire import read

        return read(process, query, most)

    def reads_like(self, process: LocalProcess, capture: Capture) -> bool | None:
        """The ioctl gives its answers one by one: there is nothing to compare but all of them."""
        return None

    def finder(self, process: LocalProcess) -> Finder | None:
        """See `vmatlas_linux_ioctl.acquire.finder`."""
        from vmatlas_linux_ioctl.acquire import finder

        return finder(process)

    def decode(self, capture: Capture) -> AddressSpace:
        """See `vmatlas_linux_ioctl.decode`."""
        from vmatlas_linux_ioctl.decode import decode

        return decode(capture)


def _excludes_blind_spots(where: Filter) -> bool:
    """Whether [vsyscall] and [vectors] (--xp or r-xp, no file) cannot pass: then nothing is missed."""
    from vmatlas_linux_ioctl.question import kernel_flags

    asks_for_file = QueryFlags.FILE_BACKED in kernel_flags(where)
    return asks_for_file or bool(where.shared) or bool(where.given & Protection.WRITE)


BACKEND = LinuxIoctl()
