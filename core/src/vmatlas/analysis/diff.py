"""What changed between two address spaces. Pure.

Regions are paired by what stays when memory changes: the same start, then the same end, then (for what moved) the same
size and contents. What finds no partner was added or removed.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass

from vmatlas.arguments import shown
from vmatlas.errors import UsageError
from vmatlas.model import AddressSpace, Region
from vmatlas.model.space import check_space

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


@dataclass(frozen=True, slots=True, repr=False)
class Difference:
    """All changes from one address space to another, by address. False when there is none."""

    before: AddressSpace
    after: AddressSpace
    changes: tuple[Change, ...]

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __repr__(self) -> str:
        told = ", ".join(f"{len(changes)} {kind.value}" for kind in ChangeKind if (changes := self.of(kind)))
        pids = " to ".join(dict.fromkeys(str(space.pid) for space in (self.before, self.after)))
        return f"<Difference of pid {pids}: {f'{told}; {self.growth:+,} bytes' if told else 'none'}>"

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
        """Regions that reach further, upward or downward."""
        return self.of(ChangeKind.GROWN)

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


def diff(before: AddressSpace, after: AddressSpace, *, ignore: Collection[str] = ()) -> Difference:
    """What changed from one address space to another: regions added, removed, grown, shrunk, moved or changed.

        before = vmatlas.snapshot(1234)
        ...
        for change in vmatlas.diff(before, vmatlas.snapshot(1234)).grown:
            print(change.growth, change.region)

    Fields named in `ignore` ("flags", "resident", ...), and those that one of the two does not tell at all, are not
    compared. A `Difference` is False when there is none.

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
    return Difference(before, after, _Pairing(compared).changes(list(before), list(after)))


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

    def __init__(self, compared: list[str]) -> None:
        self._compared = compared
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
        return tuple(name for name in self._compared if getattr(before, name) != getattr(after, name))

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
        return Change(ChangeKind.CHANGED, before, after, fields)

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


def _grouped(regions: Iterable[Region], key: Callable[[Region], Hashable]) -> dict[Hashable, list[Region]]:
    groups: dict[Hashable, list[Region]] = defaultdict(list)
    for region in regions:
        groups[key(region)].append(region)
    return groups
