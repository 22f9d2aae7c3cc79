"""What adds up to what: totals by use, by kind and by file, in the manner of QNX's `pidin mem`. Pure."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from vmatlas.model import AddressSpace, Kind, Protection, Region
from vmatlas.model.space import check_space


class Use(enum.Enum):
    """What memory is for."""

    CODE = "code"
    """Executable and not writable."""
    DATA = "data"
    """Writable, executable too or not."""
    READ_ONLY = "read-only"
    """Readable only: constants, read-only files."""
    STACK = "stacks"
    """Stacks that the system knows as such, with their guards where the system's flags tell it; so it can be more than
    the kind `stack`."""
    RESERVED = "reserved"
    """Without any right: guard pages, reserved address space."""
    PHYSICAL = "physical"
    """Physical memory or a device's, mapped as such: none of it is the process's own."""


def use_of(region: Region) -> Use:
    """What a region is for, told by its kind and its protection."""
    if region.kind is Kind.STACK or (region.flags is not None and region.flags.of_stack):
        return Use.STACK
    if region.kind is Kind.PHYSICAL:
        return Use.PHYSICAL
    if region.protection & Protection.WRITE:
        return Use.DATA
    if region.protection & Protection.EXECUTE:
        return Use.CODE
    return Use.READ_ONLY if region.protection & Protection.READ else Use.RESERVED


@dataclass(frozen=True, slots=True)
class Total:
    """Some regions together. Sizes in bytes; `resident` is None where it was not asked for or not told.

    `private_resident` is None too where the system's numbers do not add up (`Origin.private_adds_up`).
    """

    regions: int
    size: int
    resident: int | None
    private_resident: int | None
    proportional: int | None = None
    """See `Region.proportional`."""

    @classmethod
    def of(cls, regions: Iterable[Region], *, private_adds_up: bool = True) -> Total:
        """The total of some regions. Residency is told when it is for each of them."""
        listed = list(regions)
        return cls(
            regions=len(listed),
            size=sum(region.size for region in listed),
            resident=_sum([region.resident for region in listed]),
            private_resident=_sum([region.private_resident for region in listed]) if private_adds_up else None,
            proportional=_sum([region.proportional for region in listed]),
        )


@dataclass(frozen=True, slots=True, repr=False)
class FileTotal:
    """The regions of one file."""

    path: str
    deleted: bool
    total: Total
    uses: dict[Use, Total]

    def __repr__(self) -> str:
        deleted = " (deleted)" if self.deleted else ""
        return f"<FileTotal {self.path!r}{deleted}: {self.total.size:,} bytes in {self.total.regions} regions>"

    @property
    def is_library(self) -> bool:
        """Some of it is mapped as code."""
        return Use.CODE in self.uses


@dataclass(frozen=True, slots=True, repr=False)
class Summary:
    """The totals of an address space."""

    total: Total
    uses: dict[Use, Total]
    """Only the uses that occur, in the order of `Use`."""
    kinds: dict[Kind, Total]
    """Only the kinds that occur, the largest first."""
    files: tuple[FileTotal, ...]
    """The largest first."""

    def __repr__(self) -> str:
        resident = "" if self.total.resident is None else f", {self.total.resident:,} in memory"
        uses = ", ".join(f"{use.value} {total.size:,}" for use, total in self.uses.items())
        return f"<Summary of {self.total.regions} regions, {self.total.size:,} bytes{resident}: {uses}>"


def summarize(space: AddressSpace) -> Summary:
    """Totals by use (code, data, stack, ...), by kind, and by file; bytes.

    The memory in use is told where the space was read with `residency=True`; else those totals are None.
    """
    check_space(space)
    regions = list(space)
    by_kind: dict[Kind, list[Region]] = {}
    by_file: dict[tuple[str, bool], list[Region]] = {}
    for region in regions:
        by_kind.setdefault(region.kind, []).append(region)
        if region.path is not None:
            by_file.setdefault((region.path, region.deleted), []).append(region)
    total = partial(Total.of, private_adds_up=space.origin.private_adds_up)
    kinds = {kind: total(group) for kind, group in by_kind.items()}
    files = [
        FileTotal(path, deleted, total(group), _by_use(group, total)) for (path, deleted), group in by_file.items()
    ]
    return Summary(
        total=total(regions),
        uses=_by_use(regions, total),
        kinds=dict(sorted(kinds.items(), key=lambda item: -item[1].size)),
        files=tuple(sorted(files, key=lambda file: (-file.total.size, file.path))),
    )


def _by_use(regions: Iterable[Region], total: Callable[[Iterable[Region]], Total]) -> dict[Use, Total]:
    groups: dict[Use, list[Region]] = {}
    for region in regions:
        groups.setdefault(use_of(region), []).append(region)
    return {use: total(groups[use]) for use in Use if use in groups}


def _sum(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None
