"""What the rules may ask beside the map. Who holds the process answers; each answer may be None: it is not told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from vmatlas.model import AddressSpace, FileNow, FileRights, Region, Thread

if TYPE_CHECKING:
    from vmatlas.symbols import Elf

FileLookup: TypeAlias = "Callable[[Region], FileNow]"
"""What stands now at the path of the file that is mapped at a region."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What may be asked about a process; None where that cannot be asked here (a capture, a core, an agent)."""

    file_now: FileLookup | None = None
    look_again: Callable[[], AddressSpace | None] | None = None
    """The same map with the system's flags; None where it is not told with them."""
    guard_at: Callable[[int], bool | None] | None = None
    """Whether a guard that the map does not show lies at an address."""
    threads: Callable[[], tuple[Thread, ...] | None] | None = None
    """Its threads, with their stack pointers where these are told."""
    hidden_guards: Callable[[], Sequence[tuple[int, int]] | None] | None = None
    """All guards that the map does not show, [start, end) in order."""
    file_rights: Callable[[Region], FileRights | None] | None = None
    seals: Callable[[Region], frozenset[str] | None] | None = None
    """How the object in memory that is mapped at a region is sealed: `SeesFiles.seals` of `vmatlas.backend`."""
    elf: Callable[[Region], Elf | None] | None = None
    """The headers of the file that a region shows; None for what is no ELF file, or cannot be read."""
    changed: Callable[[Sequence[tuple[int, int]]], list[tuple[int, int]] | None] | None = None
    """Of these ranges [start, end) of mapped files the parts whose pages are no longer the file's: copied to be
    written."""
    most_regions: Callable[[], int | None] | None = None
    """How many regions the system allows a process."""
    known_files: Callable[[], Callable[[Region], bool | None] | None] | None = None
    """Whether a package manager of the process's system brought the file that is mapped at a region."""
    unmounted: Callable[[Sequence[Region]], Sequence[bool | None]] | None = None
    """Whether the file system of the file that is mapped at each of these regions is mounted nowhere any more."""
    misnamed: Callable[[Region], str | None] | None = None
    """Why the path of the file that is mapped at a region leads to another file, or none, for who asks; for the
    allowances of a policy, as the rest."""
    belongs_to: Callable[[str], str | None] | None = None
    """What the process belongs to: "program", "user", "unit"."""
    doubt: Callable[[str], str | None] | None = None
    """Why that may be a name of its own choice."""


NONE = Evidence()
"""The map alone."""
