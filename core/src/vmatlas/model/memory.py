"""Memory in use, as one value: what a region, a process, or many of them have in memory and in swap. Pure.

A number is told once, by what the system says of each region or of a whole process, and added up here: sums are exact,
and know which part of what was not told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vmatlas.values import NamedTuple, dataclass


class MemoryUse(NamedTuple):
    """Bytes in use. What the system does not tell is None, never 0.

    Linux tells all but the last three of each region (smaps), and all but `file` and `shared_memory` of a whole process
    (smaps_rollup). FreeBSD and QNX tell `resident` and `private`; each plugin's README says what they mean there.
    """

    resident: int | None = None
    """In memory and mapped here, in pages of whatever size (Linux: Rss, and `hugetlb`, which Rss leaves out)."""
    proportional: int | None = None
    """The same, each page divided by the number of its mappings: what adds up over regions and processes (Linux: Pss,
    in which `hugetlb` does not count: the kernel does not tell by how many it is shared)."""
    private: int | None = None
    """In pages that nobody else maps: what is free when it ends (Linux: Private_Clean, Private_Dirty and
    Private_Hugetlb; elsewhere known as USS)."""
    swapped: int | None = None
    """In swap, of this mapping (Linux: Swap)."""
    swapped_proportional: int | None = None
    """The same, divided by the number of those who have it (Linux: SwapPss, 0 for shared memory)."""
    dirty: int | None = None
    """In memory and changed (Linux: Shared_Dirty and Private_Dirty)."""
    anonymous: int | None = None
    """In memory, in pages of no file nor object (Linux: Anonymous); also where a file's private mapping was written."""
    file: int | None = None
    """In memory, in pages of files, and of whatever else is no memory without a file and no shared memory object."""
    shared_memory: int | None = None
    """In memory, in pages of shared memory objects: regions of the kind SHARED_MEMORY, but for their `hugetlb`."""
    huge: int | None = None
    """Of what is in memory: mapped as huge pages that the system made by itself (Linux: AnonHugePages, ShmemPmdMapped,
    FilePmdMapped)."""
    hugetlb: int | None = None
    """Of what is in memory: in huge pages that were set aside (Linux: Private_Hugetlb and Shared_Hugetlb)."""
    locked: int | None = None
    """Of `proportional`: kept in memory by mlock (Linux: Locked)."""
    proportional_anonymous: int | None = None
    """The parts of `proportional` (Linux: Pss_Anon, Pss_File, Pss_Shmem), which are told of a whole process alone."""
    proportional_file: int | None = None
    """See `proportional_anonymous`."""
    proportional_shared_memory: int | None = None
    """See `proportional_anonymous`."""

    def __repr__(self) -> str:
        told = ", ".join(f"{name} {value:,}" for name, value in self._asdict().items() if value)
        return f"<MemoryUse {told or ('nothing told' if self == UNTOLD else 'nothing in use')}>"

    @property
    def is_told(self) -> bool:
        """Whether anything is."""
        return self != UNTOLD

    @property
    def held(self) -> int | None:
        """In memory or in swap: what was put there and not given back, wherever the system keeps it now."""
        if self.resident is None or self.swapped is None:
            return self.resident
        return self.resident + self.swapped

    def since(self, before: MemoryUse) -> MemoryUse:
        """What has come since, in each number: negative where it became less, None where one of the two is not told."""
        pairs = zip(self, before, strict=True)
        return MemoryUse(*(None if new is None or old is None else new - old for new, old in pairs))


UNTOLD = MemoryUse()
"""Nothing is told."""

FIELDS = MemoryUse._fields

REGION_FIELDS = tuple(name for name in FIELDS if not name.startswith("proportional_") and name != "private")
"""Those that may be told of a region, but for `private`, which a filter knows as a number of its own."""


@dataclass(frozen=True, slots=True, repr=False)
class MemoryTotal:
    """The memory in use of several together: regions of a process, processes of a group."""

    parts: int
    """How many."""
    at_least: MemoryUse
    """What was told, added up; None where none told it."""
    missing: tuple[int, ...]
    """How many did not tell it, for each field of `MemoryUse` in order."""

    @classmethod
    def of(cls, uses: Iterable[MemoryUse | None], *, private_adds_up: bool = True) -> MemoryTotal:
        """Of each part's; None for a part of which nothing is told.

        Without `private_adds_up` the system's private numbers cannot be added up (`Origin.private_adds_up`): that sum
        is not told.
        """
        given = list(uses)
        if given.count(None) == len(given):  # as of every region, where the memory in use was not asked for
            return cls(len(given), UNTOLD, (len(given),) * len(FIELDS))
        listed = [UNTOLD if use is None else use for use in given]
        sums: list[int | None] = []
        missing: list[int] = []
        for column in zip(*listed, strict=True):
            untold = column.count(None)
            told = column if not untold else [value for value in column if value is not None]
            sums.append(sum(told) if told else None)
            missing.append(untold)
        at_least = MemoryUse(*sums)
        if not private_adds_up:
            at_least = at_least._replace(private=None)
            missing[FIELDS.index("private")] = len(listed)
        return cls(len(listed), at_least, tuple(missing))

    def __add__(self, other: MemoryTotal) -> MemoryTotal:
        """Both together."""
        at_least = MemoryUse(*map(_add, self.at_least, other.at_least))
        missing = tuple(map(int.__add__, self.missing, other.missing))
        return MemoryTotal(self.parts + other.parts, at_least, missing)

    def __repr__(self) -> str:
        untold = f", not told of all: {', '.join(self.untold)}" if self.untold else ""
        return f"<MemoryTotal of {self.parts}: {self.use!r}{untold}>"

    @property
    def use(self) -> MemoryUse:
        """The sums; None for one of which any part is not told (`at_least` has what is)."""
        return MemoryUse(*(None if count else total for total, count in zip(self.at_least, self.missing, strict=True)))

    @property
    def untold(self) -> dict[str, int]:
        """By field: how many parts do not tell it. Only fields that some of them tell."""
        told = zip(FIELDS, self.at_least, self.missing, strict=True)
        return {name: count for name, total, count in told if count and total is not None}


def _add(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other


OTHERS_KEYS = frozenset(
    (
        *("Pss", "Pss_Dirty", "SwapPss", "Locked", "Shared_Clean", "Shared_Dirty", "Private_Clean", "Private_Dirty"),
        *("Shared_Hugetlb", "Private_Hugetlb", "Referenced", "LazyFree", "KSM"),
    )
)
"""Keys of Linux of which a number changes without the process: by who else maps the same pages, and by what the kernel
makes of pages that nobody touched. What a process does itself shows in the others too (Rss, Anonymous, Swap)."""


SWAPPED = "Swap"
"""The key of `MemoryUse.swapped`."""


def memory_of_keys(told: Mapping[str, int | str]) -> MemoryUse:
    """From the keys under which Linux tells it, of a region or of a process; in bytes.

    Source: fs/proc/task_mmu.c (`__show_smap`). Without `file` and `shared_memory`: no key tells them.
    """
    get = told.get
    shared_dirty, private_dirty = get("Shared_Dirty"), get("Private_Dirty")
    hugetlb = _more(_number(get("Private_Hugetlb")), get("Shared_Hugetlb"))
    return MemoryUse(
        _more(_number(get("Rss")), hugetlb),
        _number(get("Pss")),
        _more(_both(get("Private_Clean"), private_dirty), get("Private_Hugetlb")),
        _number(get(SWAPPED)),
        _number(get("SwapPss")),
        _both(shared_dirty, private_dirty),
        _number(get("Anonymous")),
        None,
        None,
        _more(_more(_number(get("AnonHugePages")), get("ShmemPmdMapped")), get("FilePmdMapped")),
        hugetlb,
        _number(get("Locked")),
        _number(get("Pss_Anon")),
        _number(get("Pss_File")),
        _number(get("Pss_Shmem")),
    )


def _number(value: int | str | None) -> int | None:
    return value if isinstance(value, int) else None


def _both(one: int | str | None, other: int | str | None) -> int | None:
    """Added; not told where one of them is not."""
    return one + other if isinstance(one, int) and isinstance(other, int) else None


def _more(value: int | None, more: int | str | None) -> int | None:
    """Added; what an older kernel does not tell adds nothing."""
    return value + more if value is not None and isinstance(more, int) else value
