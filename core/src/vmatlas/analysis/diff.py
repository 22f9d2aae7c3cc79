"""What changed between two address spaces. Pure.

Regions are paired by what stays when memory changes: the same start, then the same end, then (for what moved) the same
size and contents. What finds no partner was added or removed.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vmatlas import arguments
from vmatlas.arguments import shown
from vmatlas.errors import UsageError
from vmatlas.model import AddressSpace, MemoryUse, Region
from vmatlas.model.memory import OTHERS_KEYS
from vmatlas.model.space import check_space
from vmatlas.notebook import draw, repr_html

if TYPE_CHECKING:
    from vmatlas.analysis.naming import Guess

_OPTIONAL = ("flags", "max_protection", "resident", "private_resident", "page_size", "build_id", "details")
"""Fields that a backend may not tell at all."""

_IDENTITY = ("path", "name", "device", "inode")
"""Fields that say what a region is of; they stay when its bounds or its protection change."""

_MEASURES = frozenset(["resident", "private_resident", "details", "flags"])
"""Fields that change by themselves when a region grows or moves."""


class ChangeKind(enum.Enum):
    """What happened to a region."""

    ADDED = "added"
    REMOVED = "removed"
    GROWN = "grown"
    SHRUNK = "shrunk"
    MOVED = "moved"
    CHANGED = "changed"
    FILLED = "filled"
    """It reaches as far as before, and holds more: in memory or in swap."""
    EMPTIED = "emptied"
    """It reaches as far as before, and holds less."""


@dataclass(frozen=True, slots=True, repr=False)
class Change:
    """One change. `before` is None for an added region, `after` for a removed one."""

    kind: ChangeKind
    before: Region | None
    after: Region | None
    fields: tuple[str, ...] = ()
    """The fields that differ, by name."""

    def __repr__(self) -> str:
        fields = f": {', '.join(self.fields)}" if self.fields else ""
        return f"<Change {self.kind.value} {self.region!r}{fields}>"

    @property
    def region(self) -> Region:
        """The region as it is now, or was last."""
        region = self.after if self.after is not None else self.before
        assert region is not None
        return region

    @property
    def growth(self) -> int:
        """Bytes of address space gained; negative when lost."""
        return (self.after.size if self.after else 0) - (self.before.size if self.before else 0)

    @property
    def memory(self) -> MemoryUse | None:
        """The memory in use that was gained; negative where lost. None where it was not asked for, or is not told.

        `memory.held` is what came into memory or swap, and was not given back.
        """
        before, after = (None if region is None else region.memory for region in (self.before, self.after))
        if (self.before is not None and before is None) or (self.after is not None and after is None):
            return None
        return (after or NOTHING).since(before or NOTHING)


@dataclass(frozen=True, slots=True, repr=False)
class Difference:
    """All changes from one address space to another, by address. False when there is none."""

    before: AddressSpace
    after: AddressSpace
    changes: tuple[Change, ...]
    guesses: tuple[Mapping[int, Guess], Mapping[int, Guess]] | None = None
    """What the nameless regions before and after seem to be, by their starts, where it was asked for."""

    def __bool__(self) -> bool:
        return bool(self.changes)

    _repr_html_ = repr_html
    picture = draw

    def with_guesses(self) -> Difference:
        """The same, with what `name_regions` says of both maps, which must be whole: `growth_by` puts what has no name
        together by it."""
        from vmatlas.analysis.naming import name_regions  # a plain comparison does not pay for it

        return replace(self, guesses=(name_regions(self.before), name_regions(self.after)))

    def __repr__(self) -> str:
        told = ", ".join(f"{len(changes)} {kind.value}" for kind in ChangeKind if (changes := self.of(kind)))
        pids = " to ".join(dict.fromkeys(str(space.pid) for space in (self.before, self.after)))
        memory = self.memory
        used = "" if memory is None or memory.held is None else f", {memory.held:+,} in use"
        return f"<Difference of pid {pids}: {f'{told}; {self.growth:+,} bytes{used}' if told else 'none'}>"

    def of(self, kind: ChangeKind) -> list[Change]:
        """The changes of one kind."""
        return [change for change in self.changes if change.kind is kind]

    @property
    def added(self) -> list[Change]:
        """Regions that are new."""
        return self.of(ChangeKind.ADDED)

    @property
    def removed(self) -> list[Change]:
        """Regions that are gone."""
        return self.of(ChangeKind.REMOVED)

    @property
    def grown(self) -> list[Change]:
        """Regions that reach further, upward or downward, and those that hold more, where memory in use is told."""
        return [
            change
            for change in self.changes
            if change.kind is ChangeKind.GROWN
            or (change.before is not None and change.after is not None and _held(change) > 0)
        ]

    @property
    def shrunk(self) -> list[Change]:
        """Regions that reach less far."""
        return self.of(ChangeKind.SHRUNK)

    @property
    def moved(self) -> list[Change]:
        """Regions that are the same elsewhere."""
        return self.of(ChangeKind.MOVED)

    @property
    def changed(self) -> list[Change]:
        """Regions of which another field changed: `Change.fields` says which."""
        return self.of(ChangeKind.CHANGED)

    @property
    def growth(self) -> int:
        """Bytes of address space gained in all; negative when lost."""
        return sum(change.growth for change in self.changes)

    @property
    def memory(self) -> MemoryUse | None:
        """The memory in use that was gained in all; negative where lost. None where one of the two does not tell it."""
        before, after = self.before.memory, self.after.memory
        if not (before.at_least.is_told and after.at_least.is_told):
            return None
        return after.use.since(before.use)

    def apply(self, space: AddressSpace) -> AddressSpace:
        """The changes made to an address space: applied to `before`, it gives `after`, in all that was compared.

        Raises ValueError when the space lacks a region that changed, or has one where another is to come.
        """
        regions = {region.start: region for region in space}
        for change in self.changes:
            if change.before is not None and regions.pop(change.before.start, None) is None:
                raise ValueError(f"the space has no region at {change.before.start:#x}")
        for change in self.changes:
            if change.after is not None:
                if change.after.start in regions:
                    raise ValueError(f"the space has another region at {change.after.start:#x}")
                regions[change.after.start] = change.after
        return AddressSpace.of(regions.values(), self.after.origin)


NOTHING = MemoryUse(*(0 for _ in MemoryUse._fields))
"""What is not there uses nothing."""


def _held(change: Change) -> int:
    memory = change.memory
    return 0 if memory is None else memory.held or 0


def diff(
    before: AddressSpace, after: AddressSpace, *, ignore: Collection[str] = (), others: bool = False
) -> Difference:
    """What changed from one address space to another: regions added, removed, grown, shrunk, moved, changed, and, where
    both tell the memory in use, filled or emptied.

        before = vmatlas.snapshot(1234)
        ...
        for change in vmatlas.diff(before, vmatlas.snapshot(1234)).grown:
            print(change.growth, change.region)

    Fields named in `ignore` ("flags", "resident", ...), and those that one of the two does not tell at all, are not
    compared. Nor is what other processes change: the share of pages that they map too (`private_resident`, Pss), and
    whether somebody looked at them (Referenced); unless `others`. A `Difference` is False when there is none.

    Raises UsageError when `ignore` names what is no field of a region.
    """
    check_space(before)
    check_space(after)
    check_fields(ignore)
    compared = [
        field
        for field in Region._fields
        if field not in ignore and not (field in _OPTIONAL and (_untold(before, field) or _untold(after, field)))
    ]
    return Difference(
        before, after, _Pairing(compared, others=arguments.flag(others, "others")).changes(list(before), list(after))
    )


def check_fields(names: Collection[str]) -> None:
    """Raises UsageError for what is no list of fields of a region."""
    is_list = isinstance(names, Collection) and not isinstance(names, str | bytes)
    unknown = [name for name in names if name not in Region._fields] if is_list else [names]
    if unknown:
        raise UsageError(
            f"no list of a region's fields: {', '.join(map(shown, unknown))}",
            hint=f"fields: {', '.join(Region._fields)}",
        )


def _untold(space: AddressSpace, field: str) -> bool:
    return bool(len(space)) and not getattr(space.columns, field)


class _Pairing:
    """Finds the partner of each region."""

    def __init__(self, compared: list[str], *, others: bool = True) -> None:
        self._compared = compared if others else [name for name in compared if name != "private_resident"]
        self._own_details = not others and "details" in compared
        self._of_identity = [field for field in _IDENTITY if field in compared]
        self._found: list[Change] = []

    def changes(self, old: list[Region], new: list[Region]) -> tuple[Change, ...]:
        self._found = []
        old, new = self._pair(old, new, lambda region: (region.start, self._identity(region)), self._resized_or_changed)
        old, new = self._pair(old, new, lambda region: (region.end, self._identity(region)), self._grown_downward)
        old, new = self._pair_unique(old, new)
        self._found += [Change(ChangeKind.REMOVED, region, None) for region in old]
        self._found += [Change(ChangeKind.ADDED, None, region) for region in new]
        return tuple(sorted(self._found, key=lambda change: (change.region.start, change.kind.value)))

    def _identity(self, region: Region) -> Hashable:
        """What a region keeps when its bounds or its protection change."""
        return tuple(getattr(region, field) for field in self._of_identity)

    def _differing(self, before: Region, after: Region) -> tuple[str, ...]:
        if before == after:  # by far the most frequent, and much quicker than field by field
            return ()
        differing = tuple(name for name in self._compared if getattr(before, name) != getattr(after, name))
        if self._own_details and "details" in differing and _own(before.details) == _own(after.details):
            return tuple(name for name in differing if name != "details")
        return differing

    def _pair(
        self,
        old: list[Region],
        new: list[Region],
        key: Callable[[Region], Hashable],
        judge: Callable[[Region, Region], Change | bool],
    ) -> tuple[list[Region], list[Region]]:
        """`judge` gives the change, True for a pair without one, or False for no pair."""
        partners = {key(region): region for region in new}
        paired: set[int] = set()
        rest: list[Region] = []
        for region in old:
            partner = partners.get(key(region))
            verdict = partner is not None and partner.start not in paired and judge(region, partner)
            if partner is None or verdict is False:
                rest.append(region)
                continue
            paired.add(partner.start)
            if isinstance(verdict, Change):
                self._found.append(verdict)
        return rest, [region for region in new if region.start not in paired]

    def _resized_or_changed(self, before: Region, after: Region) -> Change | bool:
        fields = self._differing(before, after)
        if not fields:
            return True
        if "end" in fields and _MEASURES.issuperset(set(fields) - {"end"}):
            kind = ChangeKind.GROWN if after.end > before.end else ChangeKind.SHRUNK
            return Change(kind, before, after, fields)
        return Change(_filled(before, after, fields), before, after, fields)

    def _grown_downward(self, before: Region, after: Region) -> Change | bool:
        fields = self._differing(before, after)
        if not _MEASURES.issuperset(set(fields) - {"start", "offset"}):
            return False
        if before.offset is not None and after.offset is not None:
            # The same bytes of the file must still stand at the same addresses.
            if after.offset - before.offset != after.start - before.start:
                return False
        kind = ChangeKind.GROWN if after.start < before.start else ChangeKind.SHRUNK
        return Change(kind, before, after, fields)

    def _pair_unique(self, old: list[Region], new: list[Region]) -> tuple[list[Region], list[Region]]:
        """What moved: alike in all but its place. Nameless memory only where there is just one such on each side."""

        def alike(region: Region) -> Hashable:
            kept = [name for name in self._compared if name not in ("start", "end") and name not in _MEASURES]
            return region.size, tuple(getattr(region, name) for name in kept)

        candidates = _grouped(new, alike)
        counts = {key: len(group) for key, group in _grouped(old, alike).items()}
        paired: set[int] = set()
        rest: list[Region] = []
        for region in old:
            group = candidates.get(alike(region), [])
            named = region.inode is not None or bool(region.label)
            if group and (named or (len(group) == 1 and counts[alike(region)] == 1)):
                partner = group.pop(0)
                paired.add(partner.start)
                fields = self._differing(region, partner)
                self._found.append(Change(ChangeKind.MOVED, region, partner, fields))
            else:
                rest.append(region)
        return rest, [region for region in new if region.start not in paired]


def _own(details: Mapping[str, int | str]) -> dict[str, int | str]:
    """What the process itself changes."""
    return {key: value for key, value in details.items() if key not in OTHERS_KEYS}


def _filled(before: Region, after: Region, fields: tuple[str, ...]) -> ChangeKind:
    """What to call a region that differs within the same bounds: by what it holds, where nothing else differs."""
    if not _MEASURES.issuperset(fields) or "flags" in fields:
        return ChangeKind.CHANGED
    held = _held(Change(ChangeKind.CHANGED, before, after))
    return ChangeKind.FILLED if held > 0 else ChangeKind.EMPTIED if held < 0 else ChangeKind.CHANGED


def _grouped(regions: Iterable[Region], key: Callable[[Region], Hashable]) -> dict[Hashable, list[Region]]:
    groups: dict[Hashable, list[Region]] = defaultdict(list)
    for region in regions:
        groups[key(region)].append(region)
    return groups
