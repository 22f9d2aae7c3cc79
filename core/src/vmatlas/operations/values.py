"""What memory operations are asked, and what they give back, as values. No I/O."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from vmatlas.errors import OperationFailed
from vmatlas.model import Region


class Advice(enum.Enum):
    """What a process tells the kernel of its memory: the names of madvise(2), without MADV_.

    Not every system, and not every kernel of one, has each. Numbers belong to the systems.
    """

    NORMAL = "normal"
    RANDOM = "random"
    SEQUENTIAL = "sequential"
    WILLNEED = "willneed"
    """Read ahead what is in a file or in swap."""
    DONTNEED = "dontneed"
    """Linux: private memory is zeros again at once."""
    FREE = "free"
    """The kernel may take the contents when it needs the memory."""
    REMOVE = "remove"
    """The range and the part of the file behind it become zeros."""
    DONTFORK = "dontfork"
    DOFORK = "dofork"
    WIPEONFORK = "wipeonfork"
    KEEPONFORK = "keeponfork"
    MERGEABLE = "mergeable"
    UNMERGEABLE = "unmergeable"
    HUGEPAGE = "hugepage"
    NOHUGEPAGE = "nohugepage"
    COLLAPSE = "collapse"
    """Make huge pages of it now."""
    DONTDUMP = "dontdump"
    """FreeBSD: MADV_NOCORE."""
    DODUMP = "dodump"
    """FreeBSD: MADV_CORE."""
    COLD = "cold"
    """Take it first when memory is short."""
    PAGEOUT = "pageout"
    """Take it now: write it to swap or to its file."""
    POPULATE_READ = "populate_read"
    POPULATE_WRITE = "populate_write"
    DONTNEED_LOCKED = "dontneed_locked"
    GUARD_INSTALL = "guard_install"
    GUARD_REMOVE = "guard_remove"
    HWPOISON = "hwpoison"
    SOFT_OFFLINE = "soft_offline"
    NOSYNC = "nosync"
    """FreeBSD."""
    AUTOSYNC = "autosync"
    """FreeBSD."""
    PROTECT = "protect"
    """FreeBSD: do not kill the process for want of swap."""


HARMLESS = frozenset(
    {
        Advice.NORMAL,
        Advice.RANDOM,
        Advice.SEQUENTIAL,
        Advice.WILLNEED,
        Advice.MERGEABLE,
        Advice.UNMERGEABLE,
        Advice.HUGEPAGE,
        Advice.NOHUGEPAGE,
        Advice.COLLAPSE,
        Advice.DONTDUMP,
        Advice.COLD,
        Advice.PAGEOUT,
        Advice.POPULATE_READ,
        Advice.POPULATE_WRITE,
        Advice.NOSYNC,
        Advice.AUTOSYNC,
        Advice.PROTECT,
    }
)
"""Advice that changes neither what any memory holds nor what protects it: it may be given for any. The rest throws
contents away, here or in children, or undoes what somebody asked for (guards, what children and core dumps shall not
have): the interpreter's own memory would not survive it, and other code in the process counts on it."""

MAKES_FAULTS = frozenset({Advice.GUARD_INSTALL, Advice.HWPOISON, Advice.SOFT_OFFLINE, Advice.DONTFORK, Advice.REMOVE})
"""Advice after which a touch of the memory, here or in a child, can kill the process. REMOVE makes a hole in the file
behind it, which takes room again with a touch: there may be none."""

_LEFT_BEHIND = "its pages would be given back without being overwritten"
_COPIED = "the kernel would copy it, and not overwrite the pages that it was in"
_TAKEN = "its pages would be taken out of use without being overwritten"
_SWAPPED = "it would go to swap"

UNDOES_SECRETS = {
    Advice.DODUMP: "core dumps would have it",
    Advice.KEEPONFORK: "children would have a copy",
    Advice.MERGEABLE: "its pages could become other memory's, too, and would not be overwritten at its end",
    Advice.HUGEPAGE: _COPIED,
    Advice.COLLAPSE: _COPIED,
    Advice.DONTNEED: _LEFT_BEHIND,
    Advice.DONTNEED_LOCKED: _LEFT_BEHIND,
    Advice.FREE: _LEFT_BEHIND,
    Advice.GUARD_INSTALL: _LEFT_BEHIND,
    Advice.HWPOISON: _TAKEN,
    Advice.SOFT_OFFLINE: _TAKEN,
    Advice.COLD: _SWAPPED,
    Advice.PAGEOUT: _SWAPPED,
}
"""Advice that takes from a secret what makes it one, and how. Some of it Linux refuses for memory that is locked
(mm/madvise.c), which a secret is; in a child, which has no lock, it would take that, too."""


@dataclass(frozen=True, slots=True, repr=False)
class Advised:
    """What became of advice: as exact as the kernel tells it. Sizes are bytes."""

    advice: Advice
    pid: int
    ranges: int
    """How many ranges were asked for."""
    asked: int
    """Bytes in all of them."""
    advised: int
    """Bytes of the ranges (or pieces of a gigabyte of large ones) that the kernel said it went through."""
    stopped_at: tuple[int, int] | None = None
    """[start, end): the range, or piece of a large one, that the kernel did not complete. Pages of it may have been
    advised all the same: the kernel does not say which. Nothing after it was asked for. None: all was done."""
    failure: OperationFailed | None = field(default=None, compare=False)
    """Why it stopped: the errno and its story."""
    dry_run: bool = False
    """Everything was checked, and nothing done."""
    unasked: str | None = None
    """Why the kernel was not asked in a dry run, where it has no harmless way to be asked; None: it was."""
    refused: tuple[tuple[int, int], ...] = ()
    """With `go_on`: every range, or piece of a large one, that the kernel refused; `failure` tells of the first. What
    came after was asked for all the same, so that it stopped nowhere."""

    def __repr__(self) -> str:
        done = f"{self.advised:,} of {self.asked:,} bytes" + (" (dry run)" if self.dry_run else "")
        stopped = "" if self.stopped_at is None else f", stopped at {self.stopped_at[0]:#x}-{self.stopped_at[1]:#x}"
        refused = f", {len(self.refused):,} refused" if self.refused else ""
        return f"<Advised {self.advice.value} to pid {self.pid}: {done}{stopped}{refused}>"

    @property
    def complete(self) -> bool:
        """Whether it went through every range."""
        return self.stopped_at is None and not self.refused and not self.dry_run

    @property
    def reason(self) -> str | None:
        """Why it stopped, or the first range was refused, in a line; None when neither."""
        return None if self.failure is None else self.failure.message

    def required(self) -> Advised:
        """The same when all was done. Raises OperationFailed, with the reason, when it was not."""
        if self.failure is not None:
            raise self.failure
        return self


@dataclass(frozen=True, slots=True, repr=False)
class Piece:
    """One mapping of a range that was to be moved: where it was, and where it was to go. Bytes."""

    start: int
    end: int
    to: int

    def __repr__(self) -> str:
        return f"<Piece {self.start:#x}-{self.end:#x} to {self.to:#x}>"

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


@dataclass(frozen=True, slots=True, repr=False)
class Moved:
    """What became of a move: which mapping is where now."""

    address: int
    size: int
    """[address, address + size) was to be moved."""
    to: int
    """The first address of the range's new place."""
    moved: tuple[Piece, ...]
    """The mappings that are at their new place."""
    left: tuple[Piece, ...] = ()
    """The mappings that are where they were."""
    lost: tuple[Piece, ...] = ()
    """Mappings that are at neither place: unmapped meanwhile, by another thread say."""
    at_once: bool = True
    """One call moved everything (one mapping; on Linux 6.17 and newer, several). False: one call a mapping, so that
    other threads could see some of them moved and others not."""
    kept_old: bool = False
    """The old place stays mapped, empty."""

    def __repr__(self) -> str:
        told = ", ".join(
            f"{len(pieces)} {word}"
            for word, pieces in (("moved", self.moved), ("left", self.left), ("lost", self.lost))
            if pieces or word == "moved"
        )
        return f"<Moved {self.address:#x}-{self.address + self.size:#x} to {self.to:#x}: {told}>"

    @property
    def complete(self) -> bool:
        """Whether everything is at its new place."""
        return not self.left and not self.lost


class PartlyMoved(OperationFailed):
    """A move stopped half-way. `result` says which mappings are where now, as a reading of the map showed."""

    def __init__(self, message: str, result: Moved, *, errno: int = 0, errno_name: str = "") -> None:
        super().__init__(
            message,
            errno=errno,
            errno_name=errno_name,
            hint="`result.moved` and `result.left` of this error say what is where; move single mappings on, or back",
        )
        self.result = result


class BufferInUse(OperationFailed, BufferError):
    """Memory that a live buffer still shows was to be unmapped, moved, or protected against that buffer."""


class FaultCause(enum.Enum):
    """Why an access to an address faults."""

    GUARD = "guard"
    """It lies in memory without any rights: a guard page (within a mapping, too), or a range only reserved."""
    STACK_OVERFLOW = "stack-overflow"
    """It lies in the hole below a stack that can grow, and not so far: beyond its limit, or too near to the region
    below. Where the limit is not known (Linux: of a capture), this is only possible (`Fault.certain`)."""
    STACK_GROWTH = "stack-growth"
    """It lies in the hole below a stack, within what that may have: the kernel answers by growing it (Linux)."""
    HOLE = "hole"
    """Nothing is mapped there. Up to a gigabyte below a stack whose limit is not known, it may be that stack's overflow
    (then not `Fault.certain`)."""
    PROTECTION = "protection"
    """The region there, or the stack that grows to there, forbids that access."""
    BEYOND_FILE = "beyond-file"
    """The region there allows that access, and the file behind it ends in a page before (SIGBUS)."""
    NOT_BY_THE_MAP = "not-by-the-map"
    """The region there allows that access. The text names what the map tells that may be why (a protection key, a
    userfaultfd); else the map may have changed since, the file behind it be shorter (SIGBUS), where that is not told,
    or the memory itself have failed."""


@dataclass(frozen=True, slots=True, repr=False)
class Fault:
    """A fault and its neighbourhood."""

    address: int
    cause: FaultCause
    at: Region | None
    """The region that covers the address."""
    before: Region | None
    """The last region below."""
    after: Region | None
    """The first region above."""
    stack: Region | None = None
    """The stack that a guard, or the hole, belongs to, where there is one."""
    distance: int | None = None
    """Bytes from the address to the nearest region, for an address in a hole; None for one where nothing can be."""
    certain: bool = True
    """False where the cause is only possible: what decides, as the limit of a stack, is not told."""
    text: str = ""
    """The whole of it in a sentence."""

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Fault at {self.address:#x}: {self.cause.value}>"

    def _repr_html_(self) -> str:
        from vmatlas.picture.notebook import sentence

        named = (("before", self.before), ("at", self.at), ("after", self.after))
        return sentence(self.text, [(name, region) for name, region in named if region is not None])
