"""What an entry of FreeBSD's map means: its kind, and whether it is shared. Pure.

FreeBSD has no word for "shared". What is known [seen on 13.2, tests/captures]:
- Copy on write means private, whatever lies below.
- Without it a file, a device and a shared memory object are shared.
- Memory without an object (never touched) and anonymous memory before the first fork look alike, private or shared:
  the only difference, what a fork would do, is not told. Both are None here.
- A fork makes private anonymous memory copy on write, for good, and takes from the object of shared memory the flag
  that it has one mapping (until the others are gone). The text has that flag; the sysctl has not, and stays at None.
- The counts of references prove nothing: each page fault that is being served holds one. Of a process that touches
  fresh memory, more than half of the maps read had such a count [seen on 13.2].
"""

from __future__ import annotations

from dataclasses import dataclass

from vmatlas.model import Kind, Label
from vmatlas_freebsd.layout import EntryType

_SHARED_WITH_ALL = frozenset([EntryType.VNODE, EntryType.DEVICE, EntryType.MGTDEVICE, EntryType.PHYS, EntryType.SG])
_READ_EXECUTE = 5


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides the meaning of an entry."""

    type: int
    """An `EntryType`, or a number that has no name here."""
    copy_on_write: bool
    protection: int
    anonymous: bool | None
    """For DEFAULT and SWAP: whether the object is anonymous memory, not a shared memory object. None: not told."""
    in_other_maps: bool = False
    """The kernel says that an anonymous object is no longer of one map alone."""
    grows_down: bool = False
    shared_memory: bool = False
    """The kernel says that it is a System V or POSIX segment."""
    one_page: bool = False


def tell(facts: Facts) -> tuple[bool | None, Kind]:
    """Whether it is shared (None: not known), and the kind."""
    return _sharing(facts), _kind(facts)


def _is_anonymous(facts: Facts) -> bool:
    return facts.type == EntryType.DEFAULT or (facts.type == EntryType.SWAP and facts.anonymous is not False)


def _sharing(facts: Facts) -> bool | None:
    if facts.copy_on_write or facts.type == EntryType.GUARD:
        return False
    if facts.shared_memory or facts.type in _SHARED_WITH_ALL:
        return True
    if facts.type == EntryType.SWAP and facts.anonymous is False:
        return True
    if _is_anonymous(facts) and facts.in_other_maps:
        return True
    return None


def _kind(facts: Facts) -> Kind:
    if facts.type == EntryType.GUARD:
        return Kind.GUARD
    if facts.type == EntryType.VNODE:
        return Kind.FILE
    if facts.shared_memory or (facts.type == EntryType.SWAP and facts.anonymous is False):
        return Kind.SHARED_MEMORY
    if facts.type == EntryType.NONE or _is_anonymous(facts):
        if facts.grows_down:
            return Kind.STACK
        if not facts.protection:
            return Kind.GUARD
        return Kind.SHARED_MEMORY if _sharing(facts) else Kind.ANONYMOUS
    if facts.type in (EntryType.DEVICE, EntryType.MGTDEVICE):
        return Kind.DEVICE
    if facts.type == EntryType.PHYS:
        # The page of signal code and clock that every process has; nothing else of this type is one r-x page.
        return Kind.VDSO if facts.one_page and facts.protection == _READ_EXECUTE else Kind.PHYSICAL
    return Kind.OTHER


def label_of(text: bytes, is_path: bool) -> Label:
    """The label of a path, or of what the kernel calls something that is no file."""
    shown = text.decode("utf-8", "surrogateescape")
    if not shown:
        return Label()
    return Label(path=shown) if is_path else Label(name=shown)


class Labels:
    """The distinct names of a map, each kept once."""

    def __init__(self) -> None:
        self.all = [Label()]
        self._known: dict[tuple[bytes, bool], int] = {(b"", True): 0, (b"", False): 0}

    def number(self, text: bytes, is_path: bool) -> int:
        """The index in `all` of a path, or of what the kernel calls something that is no file."""
        found = self._known.get((text, is_path))
        if found is None:
            found = self._known[text, is_path] = len(self.all)
            self.all.append(label_of(text, is_path))
        return found
