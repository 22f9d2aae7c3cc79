"""One region of an address space, and the small values that describe it. No I/O."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping

from vmatlas.arguments import number, shown
from vmatlas.errors import UsageError
from vmatlas.model.memory import MemoryUse, memory_of_keys
from vmatlas.notebook import repr_html
from vmatlas.values import NamedTuple

UNKNOWN = 2**64 - 1
"""In a column of 64-bit numbers: the system does not tell. A `Region` shows it as None."""


class Protection(enum.IntFlag):
    """What may be done with the memory. The numbers are those of POSIX's PROT_READ, PROT_WRITE and PROT_EXEC."""

    NONE = 0
    READ = 1
    WRITE = 2
    EXECUTE = 4
    UNTOLD = 8
    """Nobody tells: a core file can name memory whose rights it did not keep. It stands alone, and is not NONE."""

    @property
    def letters(self) -> str:
        """As in `/proc/PID/maps`: three letters, "r-x"; "???" where it is not told."""
        return _LETTERS[int(self) & 15]  # an enum's own & takes ten times as long


_LETTERS = tuple(
    ("r" if bits & 1 else "-") + ("w" if bits & 2 else "-") + ("x" if bits & 4 else "-") if bits < 8 else "???"
    for bits in range(16)
)

PROTECTIONS = tuple(Protection(bits) for bits in range(8))
"""Every protection that a system tells, by its number, so that making a region makes no enum value."""

PROTECTIONS_OR_UNTOLD = (*PROTECTIONS, Protection.UNTOLD)
"""The same, and that of a region whose rights are not told."""


class Kind(enum.IntEnum):
    """What a region is, told from what the kernel says of it. The numbers are kept for columns and captures."""

    OTHER = 0
    """None of the below; `name` or `path` says what the kernel calls it."""
    FILE = 1
    """The contents of a file."""
    ANONYMOUS = 2
    """Memory without a file."""
    HEAP = 3
    """The program break's memory (`brk`)."""
    STACK = 4
    """A stack that the kernel knows as one."""
    SHARED_MEMORY = 5
    """POSIX or System V shared memory, memfd, shared anonymous memory, or another object that the system makes to be
    shared and that has no name in any folder. A private mapping of a POSIX object that is a file is a FILE."""
    DEVICE = 6
    """A device's memory, or a driver's buffer."""
    PHYSICAL = 7
    """A physical address range."""
    VDSO = 8
    """Code that the kernel gives to every process."""
    VVAR = 9
    """The data of the VDSO."""
    VSYSCALL = 10
    """x86-64's page of old system calls; above every process's own memory."""
    GUARD = 11
    """Address space where any access faults: a guard page or a reserved range."""

    @property
    def label(self) -> str:
        """For people and for filters: "shared-memory"."""
        return _KIND_LABELS[self]


_KIND_LABELS = {kind: kind.name.lower().replace("_", "-") for kind in Kind}

KINDS = {int(kind): kind for kind in Kind}


class SystemFlags(enum.IntFlag, boundary=enum.KEEP):
    """A system's own flags; each plugin has a subclass that names them. Bits without a name are kept and shown."""

    @property
    def label(self) -> str:
        """One flag as the system's own tools write it; a plugin may override it."""
        return self.name or hex(self)

    @property
    def of_stack(self) -> bool:
        """Whether they say that the region belongs to a stack, be it the guard below it; a plugin may override it."""
        return False

    @property
    def grows_down(self) -> bool:
        """Whether they say that a touch just below the region makes it larger; a plugin may override it."""
        return False

    @property
    def sealed(self) -> bool:
        """Whether they say that the mapping may be neither changed nor unmapped (mseal); a plugin may override it."""
        return False

    @property
    def may_hold_guards(self) -> bool:
        """Whether they say that guard pages may lie in it that the map does not show; a plugin may override it."""
        return False

    @property
    def locked(self) -> bool:
        """Whether they say that the region is kept in memory (mlock); a plugin may override it."""
        return False

    def words(self) -> frozenset[str]:
        """What a filter may call each flag that is set: as the system writes it, and its name, both in lower case."""
        kind = type(self)
        names = (member.name.lower() for member in kind if self & member and member.name)
        return frozenset([*names, *(label.lower() for label in self.labels())])

    @classmethod
    def known(cls) -> list[str]:
        """The names of all flags that have one, in lower case."""
        return [member.name.lower() for member in cls if member.name]

    @classmethod
    def knows(cls, word: str) -> bool:
        """Whether a flag with a name may be called so (in lower case)."""
        return any(word in member.words() for member in cls)

    def labels(self) -> list[str]:
        """Every flag that is set, the lowest bit first; a bit without a name by what `label` makes of it."""
        kind, rest = type(self), int(self)
        found = []
        while rest:
            lowest = rest & -rest
            found.append(kind(lowest).label)
            rest ^= lowest
        return found

    def __str__(self) -> str:
        return ",".join(self.labels())

    def __format__(self, form: str) -> str:
        return format(int(self), form) if form else str(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"


class Details(Mapping[str, int | str]):
    """What this one system tells beyond the common fields: the system's own keys, sizes in bytes. Immutable."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, int | str] | None = None) -> None:
        self._items = dict(items or {})

    def __getitem__(self, key: str) -> int | str:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return f"Details({self._items!r})"


NO_DETAILS = Details()


class Device(NamedTuple):
    """The device that holds the file, by its numbers."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major:02x}:{self.minor:02x}"


class Region(NamedTuple):
    """One contiguous range of virtual addresses with the same properties: [start, end).

    What a system does not tell is None, never 0. Sizes and offsets are bytes. A named tuple, since maps of 100,000
    regions are common and making one costs a fifth of making a frozen dataclass.
    """

    start: int
    """The first address."""
    end: int
    """The address after the last."""
    protection: Protection
    """What may be done with the memory now; `Protection.UNTOLD` where nobody tells (in files that a process left)."""
    shared: bool | None = None
    """True: writes are seen by whoever maps the same object. False: they are this process's own (copy on write)."""
    offset: int | None = None
    """Where in the file the region begins. None where there is no file, nor a path."""
    device: Device | None = None
    """The device that holds the file. None where there is no file, or the system has no number for it."""
    inode: int | None = None
    """The file's inode number on that device. None where there is no file, or the system has no number for it."""
    path: str | None = None
    """The file's path as the kernel tells it, decoded as UTF-8 with surrogate escapes (`os.fsdecode` on any UTF-8
    system, and the same on every host); without the " (deleted)" that Linux appends (see `deleted`)."""
    name: str | None = None
    """What the kernel calls a region that has no path: "[heap]", "[anon:NAME]"."""
    deleted: bool | None = False
    """The file has been unlinked (or never had a name). None where nobody can tell whether it was, or is really called
    "x (deleted)": the path is then with those words."""
    kind: Kind = Kind.OTHER
    """What the region is."""
    flags: SystemFlags | None = None
    """The system's own flags, in the plugin's subclass; unknown bits are kept. None where none are told, which is not
    the same as told and empty."""
    max_protection: Protection | None = None
    """The most that the protection may be changed to."""
    resident: int | None = None
    """Bytes in memory, in pages of whatever size."""
    private_resident: int | None = None
    """Bytes in memory that the system calls private. Each plugin's README says what its system means by it."""
    page_size: int | None = None
    """The size of the pages that back it, in bytes, where the system tells it for each region."""
    build_id: bytes | None = None
    """The ELF build id of the file, when it was asked for and there is one."""
    details: Details = NO_DETAILS
    """What else this system tells, under its own keys; sizes in bytes."""

    def __repr__(self) -> str:
        """In a line: where, which rights, what it is, what it is called, and how much of it is in memory."""
        told = [f"{self.start:#x}-{self.end:#x}", self.permissions, self.kind.label]
        if self.label:
            told.append(repr(self.label))
        if self.offset:
            told.append(f"from {self.offset:#x}")
        if self.resident is not None:
            told.append(f"({self.resident:,} bytes in memory)")
        return f"<Region {' '.join(told)}>"

    def _repr_html_(self) -> str:
        return repr_html(self)

    @property
    def memory(self) -> MemoryUse | None:
        """The memory in use, as one value: what is resident, shared with others, swapped, dirty, in huge pages, locked.

        None where it was not asked for (`residency`), or is not told of this region.
        """
        if self.resident is None and self.private_resident is None:
            return None
        use = memory_of_keys(self.details) if self.details else MemoryUse()
        objects = files = None
        rss = self.details.get("Rss")
        if isinstance(rss, int) and use.anonymous is not None:
            other = max(rss - use.anonymous, 0)
            objects, files = (other, 0) if self.kind is Kind.SHARED_MEMORY else (0, other)
        return use._replace(resident=self.resident, private=self.private_resident, file=files, shared_memory=objects)

    @property
    def proportional(self) -> int | None:
        """Bytes in memory, each page divided by the number of its mappings: what adds up over regions and processes.

        The system's own number (Linux: Pss, in which huge pages of hugetlb do not count), told with residency; else
        None. See `MemoryUse.proportional`.
        """
        told = self.details.get("Pss")
        return told if isinstance(told, int) else None

    @property
    def size(self) -> int:
        """Bytes, from start to end."""
        return self.end - self.start

    @property
    def label(self) -> str:
        """The path or the name as the kernel shows it, " (deleted)" included; "" where it has neither."""
        if self.path is None:
            return self.name or ""
        return f"{self.path} (deleted)" if self.deleted else self.path

    @property
    def path_bytes(self) -> bytes | None:
        """The path's own bytes."""
        return None if self.path is None else self.path.encode("utf-8", "surrogateescape")

    @property
    def permissions(self) -> str:
        """Protection and sharing in four letters, as in `/proc/PID/maps`: "r-xp"; "?" where sharing is not known."""
        return self.protection.letters + _SHARING[self.shared]

    def covers(self, address: int) -> bool:
        """Whether the address lies in the region. Raises UsageError for what is no number."""
        try:
            return self.start <= number(address) < self.end
        except TypeError:
            raise UsageError(f"{shown(address)} is no address", hint="give a whole number of bytes") from None


_SHARING = {True: "s", False: "p", None: "?"}


class FileRights(NamedTuple):
    """Who may write a file, or put another in its place."""

    mode: int
    """Of the file: st_mode of stat(2)."""
    user: int
    """Its owner."""
    folder_mode: int | None
    """Of the folder that it lies in; None where that is not told, or it lies in none any more."""
    folder_user: int | None
    above: tuple[tuple[str, int], ...] = ()
    """The folders above that one, upwards to the root: the path of each, and its st_mode. Who may rename one of them
    puts another file in the place of this one, too."""


class FileNow(NamedTuple):
    """What stands now at the path of a mapped file, on the file system that the mapped file is of."""

    inode: int | None
    """Of what stands there; None when there is nothing, or it is not told."""
    unasked: str = ""
    """Why the file system was not asked; empty when it was."""
    what: str = "file"
    """What stands there, in a word: "file", "folder", "symbolic link", "device", "pipe", "socket"."""
