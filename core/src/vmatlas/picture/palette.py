"""Which colour stands for what: the sorts of memory, and what became of regions. Pure.

The colours are chosen to be told apart by everybody: a test computes how far each two of them are from one another as
they are, and as people see them who lack one sort of cones (protanopia, deuteranopia, tritanopia). Nowhere does a
colour stand alone: what it says is in the tables, in the names and in what is told of a region, too.
"""

from __future__ import annotations

import enum
from typing import TypeAlias

from vmatlas.model import Kind, Region


class Sort(enum.Enum):
    """What a region is drawn as: its kind, with files that hold code told from other files, and kinds of which there
    is little put together."""

    IMAGE = "image"
    FILE = "file"
    HEAP = "heap"
    ANONYMOUS = "anonymous"
    STACK = "stack"
    SHARED = "shared-memory"
    DEVICE = "device"
    KERNEL = "kernel"
    RESERVED = "reserved"
    OTHER = "other"


class Became(enum.Enum):
    """What a region of a comparison is drawn as: what became of it (`ChangeKind`), part by part."""

    ADDED = "added"
    GROWN = "grown"
    FILLED = "filled"
    REMOVED = "removed"
    SHRUNK = "shrunk"
    EMPTIED = "emptied"
    MOVED = "moved"
    CHANGED = "changed"
    SAME = "same"


Look: TypeAlias = Sort | Became
"""What a colour stands for."""

SAYS: dict[Look, str] = {
    Sort.IMAGE: "files of which some is mapped as code: programs and libraries",
    Sort.FILE: "other files",
    Sort.HEAP: "the heap that the kernel knows (brk)",
    Sort.ANONYMOUS: "memory without a file: allocators, stacks of threads, managed heaps",
    Sort.STACK: "stacks that the kernel knows as such",
    Sort.SHARED: "shared memory objects",
    Sort.DEVICE: "devices and physical memory",
    Sort.KERNEL: "what the kernel gives to every process: vdso, vvar, vsyscall",
    Sort.RESERVED: "no rights and no file: guards and reserved addresses",
    Sort.OTHER: "whatever else",
    Became.ADDED: "was not there before",
    Became.GROWN: "what a region gained at its end or its beginning",
    Became.FILLED: "reaches as far as before, and holds more in memory or in swap",
    Became.REMOVED: "is there no more",
    Became.SHRUNK: "what a region lost",
    Became.EMPTIED: "reaches as far as before, and holds less",
    Became.MOVED: "is the same elsewhere: where it is now",
    Became.CHANGED: "other rights, another file, other flags",
    Became.SAME: "as it was",
}
"""What each stands for, for people."""

LETTERS: dict[Look, str] = {
    Sort.IMAGE: "I",
    Sort.FILE: "F",
    Sort.HEAP: "H",
    Sort.ANONYMOUS: "A",
    Sort.STACK: "S",
    Sort.SHARED: "M",
    Sort.DEVICE: "D",
    Sort.KERNEL: "K",
    Sort.RESERVED: "-",
    Sort.OTHER: "O",
    Became.ADDED: "N",
    Became.GROWN: "G",
    Became.FILLED: "F",
    Became.REMOVED: "X",
    Became.SHRUNK: "S",
    Became.EMPTIED: "E",
    Became.MOVED: "M",
    Became.CHANGED: "C",
    Became.SAME: "-",
}
"""Where there are no colours."""

_SORT_OF_KIND = {
    Kind.HEAP: Sort.HEAP,
    Kind.ANONYMOUS: Sort.ANONYMOUS,
    Kind.STACK: Sort.STACK,
    Kind.SHARED_MEMORY: Sort.SHARED,
    Kind.DEVICE: Sort.DEVICE,
    Kind.PHYSICAL: Sort.DEVICE,
    Kind.VDSO: Sort.KERNEL,
    Kind.VVAR: Sort.KERNEL,
    Kind.VSYSCALL: Sort.KERNEL,
    Kind.GUARD: Sort.RESERVED,
    Kind.FILE: Sort.FILE,
    Kind.OTHER: Sort.OTHER,
}

_WITHOUT_CONTENT = (Sort.ANONYMOUS, Sort.STACK, Sort.HEAP, Sort.OTHER)


def sort_of(region: Region, has_code: bool) -> Sort:
    """What a region is drawn as; `has_code`: some of its file is mapped as code."""
    sort = _SORT_OF_KIND[region.kind]
    if sort is Sort.FILE:
        return Sort.IMAGE if has_code else Sort.FILE
    if sort in _WITHOUT_CONTENT and not region.protection and region.path is None:
        return Sort.RESERVED
    return sort


LIGHT: dict[Look, str] = {
    Sort.IMAGE: "#1f4eb8",
    Sort.FILE: "#7dc4f0",
    Sort.HEAP: "#c77d1a",
    Sort.ANONYMOUS: "#f6d265",
    Sort.STACK: "#7a2f5d",
    Sort.SHARED: "#2f9158",
    Sort.DEVICE: "#7a1008",
    Sort.KERNEL: "#8763b0",
    Sort.RESERVED: "#e3e5e8",
    Sort.OTHER: "#a9b2b1",
    Became.ADDED: "#2f9158",
    Became.GROWN: "#1f4eb8",
    Became.FILLED: "#7dc4f0",
    Became.REMOVED: "#7a1008",
    Became.SHRUNK: "#c77d1a",
    Became.EMPTIED: "#f6d265",
    Became.MOVED: "#8763b0",
    Became.CHANGED: "#7a2f5d",
    Became.SAME: "#d9dcdf",
}
"""On white."""

DARK: dict[Look, str] = {
    Sort.IMAGE: "#2f6fe6",
    Sort.FILE: "#ade2ff",
    Sort.HEAP: "#db871d",
    Sort.ANONYMOUS: "#fade7d",
    Sort.STACK: "#9c397e",
    Sort.SHARED: "#41af66",
    Sort.DEVICE: "#b1321d",
    Sort.KERNEL: "#b67cd7",
    Sort.RESERVED: "#3a4048",
    Sort.OTHER: "#96a8a6",
    Became.ADDED: "#41af66",
    Became.GROWN: "#2f6fe6",
    Became.FILLED: "#ade2ff",
    Became.REMOVED: "#b1321d",
    Became.SHRUNK: "#db871d",
    Became.EMPTIED: "#fade7d",
    Became.MOVED: "#b67cd7",
    Became.CHANGED: "#9c397e",
    Became.SAME: "#3a4048",
}
"""On a dark ground."""

LIGHT_GROUND, DARK_GROUND = "#ffffff", "#14171c"
