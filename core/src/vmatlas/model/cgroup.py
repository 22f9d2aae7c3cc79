"""What the system itself counts of the memory of a group of processes. Pure."""

from __future__ import annotations

from typing import NamedTuple


class CgroupMemory(NamedTuple):
    """The counters of one cgroup (Linux), with those of the cgroups below it; bytes.

    They count what was charged to it, which is not what its processes have mapped: a page is charged, whole, to whoever
    touched it first, for as long as it is in memory; files that were read or written are, and memory of the kernel's.
    Source: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst. What is not told is None.
    """

    path: str
    """In the hierarchy that has the memory controller, as the one who asks sees it."""
    current: int | None = None
    """All of it (v2: memory.current, which the root has not; v1: memory.usage_in_bytes). Not the sum of
    what follows: each processor may have charged up to 64 pages ahead (mm/memcontrol.c, MEMCG_CHARGE_BATCH; 6.12 and
    7.3 told 45 pages more of a cgroup of one process)."""
    anonymous: int | None = None
    """In memory of no file (v2: anon; v1: total_rss)."""
    file: int | None = None
    """The page cache: of files, and of shared memory objects (v2: file; v1: total_cache)."""
    mapped_file: int | None = None
    """Of `file`: mapped by some process (v2: file_mapped; v1: total_mapped_file)."""
    shared_memory: int | None = None
    """Of `file`: in shared memory objects, in tmpfs (v2: shmem; v1: total_shmem)."""
    kernel: int | None = None
    """Of the kernel itself: page tables, stacks, its objects (v2: kernel, since Linux 5.18; v1:
    memory.kmem.usage_in_bytes)."""
    slab: int | None = None
    """Of `kernel`: its objects (v2: slab)."""
    sockets: int | None = None
    """Buffers of the network (v2: sock)."""
    swapped: int | None = None
    """In swap (v2: memory.swap.current; v1: total_swap)."""
    untold: str | None = None
    """Why nothing is told; None where something is."""

    @property
    def unmapped_file(self) -> int | None:
        """The part of the page cache that is in nobody's map."""
        if self.file is None or self.mapped_file is None:
            return None
        return max(self.file - self.mapped_file, 0)
