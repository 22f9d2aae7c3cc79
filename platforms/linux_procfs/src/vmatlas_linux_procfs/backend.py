"""Ties acquire and decode together as the backend `linux-procfs`.

Cheap to import, since every backend is looked at for the choice: acquire and decode are imported when first used.
"""

from __future__ import annotations

from collections.abc import Sequence

from vmatlas.backend import Availability, Feature, Finder, LocalProcess, Reading, Totals
from vmatlas.errors import Unsupported
from vmatlas.model import AddressSpace, Columns, Consistency, MemoryUse, Query, Question
from vmatlas.systems.linux.proc import probe_proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vmatlas.capture import Capture
    from vmatlas.model.crash import Crash

SEGMENTS = "elf-segments"
"""The stream of a capture that was made of a core file: `vmatlas.files.elf_core.SEGMENTS`."""
MINIDUMP = "minidump"
"""The same of a minidump: `vmatlas.files.minidump.STREAM`."""
REPORT = "report-"
"""How the stream is called of a text that others made: `vmatlas_linux_procfs.reports.REPORT`."""

_RANKS = {
    Question.WHOLE_MAP: 10,  # one read gives fifty regions; the ioctl takes a call for each
    Question.FILTERED_MAP: 20,
    Question.POINT: 30,  # the whole text is made for one line of it
    Question.RESIDENCY: 10,
    Question.TOTALS: 10,
}


class LinuxProcfs:
    """/proc/PID/maps (any Linux); /proc/PID/smaps and, since 4.14, smaps_rollup (CONFIG_PROC_PAGE_MONITOR)."""

    name = "linux-procfs"
    system = "linux"
    distribution = "vmatlas-linux-procfs"
    source = "linux.maps"
    features = (
        Feature.RESIDENCY
        | Feature.PAGE_SIZE
        | Feature.FLAGS
        | Feature.OFFSET
        | Feature.ABOVE_USER
        | Feature.THREADS
        | Feature.FILE_ID
        | Feature.FILE_NAME
        | Feature.ANY_FILE_NAME
        | Feature.LONG_FILE_NAME
        | Feature.ANONYMOUS_SHARING
        | Feature.DELETED
        | Feature.OWNERS_ONLY
        | Feature.TOTALS
        | Feature.ANY_SIZE
        | Feature.NAMELESS_SHARING
    )
    compiled = "vmatlas_linux_procfs._native"
    consistency = Consistency.PER_REGION  # a page of text is of one moment before Linux 6.17 only: see README.md

    def probe(self) -> Availability:
        """Whether /proc is mounted, and calls this process and others by their numbers."""
        return probe_proc()

    def rank(self, query: Query) -> int | None:
        """It answers all but build ids."""
        return _RANKS.get(query.question)

    def acquire(self, process: LocalProcess, query: Query) -> Reading:
        """The text, whole: the kernel gives it in no other way."""
        if query.totals:
            from vmatlas_linux_procfs.rollup import acquire_rollup

            return acquire_rollup(process)
        from vmatlas_linux_procfs.acquire import acquire

        return acquire(process, "smaps" if query.residency else "maps")

    def read(self, process: LocalProcess, query: Query, most: int) -> Columns | None:
        """See `vmatlas_linux_procfs.by_twin.read`."""
        from vmatlas_linux_procfs.by_twin import read

        return read(process, "smaps" if query.residency else "maps", most)

    def reads_like(self, process: LocalProcess, capture: Capture) -> bool | None:
        """See `vmatlas_linux_procfs.by_twin.reads_like`."""
        from vmatlas_linux_procfs.by_twin import reads_like

        return reads_like(process, capture.streams)

    def finder(self, process: LocalProcess) -> Finder | None:
        """There is none: the kernel makes the whole text for one line of it."""
        return None

    def decode(self, capture: Capture) -> AddressSpace:
        """See `vmatlas_linux_procfs.decode`; of files that processes left, `cores`, `minidumps` and `reports`."""
        if SEGMENTS in capture.streams:
            from vmatlas_linux_procfs.cores import decode_core

            return decode_core(capture)
        if MINIDUMP in capture.streams:
            from vmatlas_linux_procfs.minidumps import decode_minidump

            return decode_minidump(capture)
        if any(name.startswith(REPORT) for name in capture.streams):
            from vmatlas_linux_procfs.reports import decode_of_report

            return decode_of_report(capture)
        from vmatlas_linux_procfs.decode import decode

        return decode(capture)

    def crash(self, capture: Capture) -> Crash:
        """See `cores`, `minidumps`, `reports`. Raises Unsupported for a capture that was made of none of these."""
        if MINIDUMP in capture.streams:
            from vmatlas_linux_procfs.minidumps import decode_minidumps_crash

            return decode_minidumps_crash(capture)
        if any(name.startswith(REPORT) for name in capture.streams):
            from vmatlas_linux_procfs.reports import crash_of_report

            return crash_of_report(capture)
        if SEGMENTS not in capture.streams:
            raise Unsupported(
                "only what a process left at its end tells how its process ended", pid=capture.pid, backend=self.name
            )
        from vmatlas_linux_procfs.cores import decode_crash

        return decode_crash(capture)

    def totals(self, capture: Capture) -> MemoryUse:
        """See `vmatlas_linux_procfs.rollup.totals_of_streams`."""
        from vmatlas_linux_procfs.rollup import totals_of_streams

        return totals_of_streams(capture.streams, pid=capture.pid)

    def totals_of(self, pids: Sequence[int], *, described: bool, counted: bool) -> list[Totals]:
        """See `vmatlas.backend.TellsTotalsOfMany`."""
        from vmatlas_linux_procfs.rollup import totals_of

        return totals_of(pids, described=described, counted=counted)


BACKEND = LinuxProcfs()
