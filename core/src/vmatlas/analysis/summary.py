"""What adds up to what: totals by use, by kind, by file and by name, in the manner of QNX's `pidin mem`. Pure."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from vmatlas import arguments
from vmatlas.errors import UsageError
from vmatlas.model import AddressSpace, Kind, MemoryTotal, MemoryUse, Protection, Region
from vmatlas.model.space import check_space
from vmatlas.notebook import repr_html

if TYPE_CHECKING:
    from vmatlas.analysis.naming import Guess


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
    UNTOLD = "untold"
    """Its rights are not told: a core file that names the memory and did not keep it."""


def use_of(region: Region) -> Use:
    """What a region is for, told by its kind and its protection."""
    if region.kind is Kind.STACK or (region.flags is not None and region.flags.of_stack):
        return Use.STACK
    if region.kind is Kind.PHYSICAL:
        return Use.PHYSICAL
    if region.protection & Protection.UNTOLD:
        return Use.UNTOLD
    if region.protection & Protection.WRITE:
        return Use.DATA
    if region.protection & Protection.EXECUTE:
        return Use.CODE
    return Use.READ_ONLY if region.protection & Protection.READ else Use.RESERVED


@dataclass(frozen=True, slots=True)
class Total:
    """Some regions together. Sizes in bytes."""

    regions: int
    size: int
    memory: MemoryTotal
    """The memory in use, where it was asked for and is told."""

    @classmethod
    def of(cls, regions: Iterable[Region], *, private_adds_up: bool = True) -> Total:
        """The total of some regions."""
        listed = list(regions)
        uses = [region.memory for region in listed]
        return cls._of_told(list(zip(listed, uses, strict=True)), private_adds_up)

    @classmethod
    def _of_told(cls, told: Sequence[_Told], private_adds_up: bool) -> Total:
        return cls(
            regions=len(told),
            size=sum(region.end - region.start for region, _ in told),
            memory=MemoryTotal.of((use for _, use in told), private_adds_up=private_adds_up),
        )

    @property
    def resident(self) -> int | None:
        """Bytes in memory; None where that is not told of each of the regions."""
        return self.memory.use.resident

    @property
    def private_resident(self) -> int | None:
        """Bytes that the system calls private. None too where the system's numbers do not add up
        (`Origin.private_adds_up`)."""
        return self.memory.use.private

    @property
    def proportional(self) -> int | None:
        """See `Region.proportional`."""
        return self.memory.use.proportional


_Told = tuple[Region, MemoryUse | None]


@dataclass(frozen=True, slots=True, repr=False)
class FileTotal:
    """The regions of one file."""

    path: str
    deleted: bool | None
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
    names: dict[str, Total] = field(default_factory=dict)
    """What has no path, by the name that the kernel gives it ("[heap]", "[anon:x]"; "" for none), the largest first.
    Where guesses were given, what has no name is by their groups, each with a "?" before it ("?thread stack")."""

    def __repr__(self) -> str:
        resident = "" if self.total.resident is None else f", {self.total.resident:,} in memory"
        uses = ", ".join(f"{use.value} {total.size:,}" for use, total in self.uses.items())
        return f"<Summary of {self.total.regions} regions, {self.total.size:,} bytes{resident}: {uses}>"

    _repr_html_ = repr_html


def summarize(space: AddressSpace, guesses: Mapping[int, Guess] | None = None) -> Summary:
    """Totals by use (code, data, stack, ...), by kind, by file, and by name of what has no file; bytes.

    The memory in use is told where the space was read with `residency=True`; else those totals are None. `guesses`, by
    the start of a region, are what `name_regions` gives: see `Summary.names`.

    Raises UsageError for what is no address space, and for guesses that are none.
    """
    check_space(space)
    if guesses is not None and not isinstance(guesses, Mapping):
        raise UsageError(f"{arguments.shown(guesses)} is no guess", hint="vmatlas.name_regions(space) gives them")
    guessed = {start: guess.group_label for start, guess in (guesses or {}).items()}
    told: list[_Told] = [(region, region.memory) for region in space]
    by_kind: dict[Kind, list[_Told]] = {}
    by_file: dict[tuple[str, bool | None], list[_Told]] = {}
    by_name: dict[str, list[_Told]] = {}
    for each in told:
        region = each[0]
        by_kind.setdefault(region.kind, []).append(each)
        if region.path is not None:
            by_file.setdefault((region.path, region.deleted), []).append(each)
        else:
            by_name.setdefault(region.name or guessed.get(region.start, ""), []).append(each)
    total = partial(Total._of_told, private_adds_up=space.origin.private_adds_up)
    kinds = {kind: total(group) for kind, group in by_kind.items()}
    names = {name: total(group) for name, group in by_name.items()}
    files = [_of_file(path, deleted, group, total) for (path, deleted), group in by_file.items()]
    return Summary(
        total=total(told),
        uses=_by_use(told, total),
        kinds=dict(sorted(kinds.items(), key=lambda item: -item[1].size)),
        files=tuple(sorted(files, key=lambda file: (-file.total.size, file.path))),
        names=dict(sorted(names.items(), key=lambda item: (-item[1].size, item[0]))),
    )


def _of_file(
    path: str, deleted: bool | None, told: Sequence[_Told], total: Callable[[Sequence[_Told]], Total]
) -> FileTotal:
    """There can be a million files, most of one use: that is added up once."""
    whole = total(told)
    uses = {use_of(region) for region, _ in told}
    return FileTotal(path, deleted, whole, dict.fromkeys(uses, whole) if len(uses) == 1 else _by_use(told, total))


def _by_use(told: Iterable[_Told], total: Callable[[Sequence[_Told]], Total]) -> dict[Use, Total]:
    groups: dict[Use, list[_Told]] = {}
    for each in told:
        groups.setdefault(use_of(each[0]), []).append(each)
    return {use: total(groups[use]) for use in Use if use in groups}
