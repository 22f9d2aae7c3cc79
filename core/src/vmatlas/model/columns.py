"""The regions of an address space, held column by column. No I/O.

A map of 100,000 regions as objects costs some 40 MB and most of the time of reading it; as columns it is 47 bytes a
region and its distinct names. Decoders fill columns; `Region` objects are made one at a time, when somebody asks.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, count, islice
from operator import ge, gt, lt

from vmatlas import compiled
from vmatlas.model.region import (
    KINDS,
    NO_DETAILS,
    PROTECTIONS_OR_UNTOLD,
    UNKNOWN,
    Details,
    Device,
    Region,
    SystemFlags,
)
from vmatlas.values import NamedTuple, dataclass, field

MOST_REGIONS = 1_250_000
"""How many regions (names, answers) one stream may tell of: Linux allows a process 65,530, and 1,048,576 where a
distribution raises it. Decoders look at it before they make an object of each."""

UNKNOWN_BYTE = 255
"""In a column of bytes: the system does not tell."""

MODULE = "vmatlas.model._native"
NATIVE = compiled.load(MODULE)
"""The compiled twin (native/model.c); None where Python makes the regions."""

_AT_A_TIME = 256
_PARTS = Region, Device, PROTECTIONS_OR_UNTOLD, tuple(KINDS.values()), None, NO_DETAILS
"""What the compiled twin makes regions of."""

SHARED = {0: False, 1: True, UNKNOWN_BYTE: None}
"""What the column `shared` says."""
_SHARED_CODES = {False: 0, True: 1, None: UNKNOWN_BYTE}


class Label(NamedTuple):
    """What a region is called. Kept once for all the regions that share it."""

    path: str | None = None
    name: str | None = None
    deleted: bool | None = False


NO_LABEL = Label()


def pack_device(major: int, minor: int) -> int:
    """A device's numbers as one 64-bit number: major in the upper half, minor in the lower."""
    return major << 32 | minor


def unpack_device(packed: int) -> Device:
    """The numbers that `pack_device` packed."""
    return Device(packed >> 32, packed & 0xFFFFFFFF)


def _numbers() -> array[int]:
    return array("Q")


def _bytes() -> array[int]:
    return array("B")


@dataclass(slots=True, eq=False)
class Columns:
    """One entry a region in each column that is there. `UNKNOWN` or `UNKNOWN_BYTE` stands for None.

    Optional columns are None when the system (or the question) gave no value for any region.
    """

    start: array[int] = field(default_factory=_numbers)
    end: array[int] = field(default_factory=_numbers)
    offset: array[int] = field(default_factory=_numbers)
    device: array[int] = field(default_factory=_numbers)
    inode: array[int] = field(default_factory=_numbers)
    protection: array[int] = field(default_factory=_bytes)
    shared: array[int] = field(default_factory=_bytes)
    kind: array[int] = field(default_factory=_bytes)
    label: array[int] = field(default_factory=lambda: array("I"))
    """An index into `labels`."""
    labels: list[Label] = field(default_factory=lambda: [NO_LABEL])
    flags: list[SystemFlags | None] | None = None
    """The system's own; a list, since a plugin's flags may need more than 64 bits. Equal values are one object; None
    where none are told."""
    max_protection: array[int] | None = None
    resident: array[int] | None = None
    private_resident: array[int] | None = None
    page_size: array[int] | None = None
    build_id: list[bytes | None] | None = None
    details: dict[str, array[int] | list[str | None]] = field(default_factory=dict)
    """The system's own keys, each a column of 64-bit numbers, or of texts."""

    def __len__(self) -> int:
        return len(self.start)

    def region(self, row: int) -> Region:
        """The region of one row, 0 to len - 1."""
        path, name, deleted = self.labels[self.label[row]]
        offset, device, inode = self.offset[row], self.device[row], self.inode[row]
        maximum = UNKNOWN_BYTE if self.max_protection is None else self.max_protection[row]
        return Region(
            self.start[row],
            self.end[row],
            PROTECTIONS_OR_UNTOLD[self.protection[row]],
            SHARED[self.shared[row]],
            None if offset == UNKNOWN else offset,
            None if device == UNKNOWN else unpack_device(device),
            None if inode == UNKNOWN else inode,
            path,
            name,
            deleted,
            KINDS[self.kind[row]],
            None if self.flags is None else self.flags[row],
            None if maximum == UNKNOWN_BYTE else PROTECTIONS_OR_UNTOLD[maximum],
            _known(self.resident, row),
            _known(self.private_resident, row),
            _known(self.page_size, row),
            None if self.build_id is None else self.build_id[row],
            self.details_of(row) if self.details else NO_DETAILS,
        )

    def details_of(self, row: int) -> Details:
        """The details of one row."""
        values = ((key, column[row]) for key, column in self.details.items())
        return Details({key: value for key, value in values if value is not None and value != UNKNOWN})

    def regions(self) -> Iterator[Region]:
        """Every region, made when it is its turn: one at a time, or some hundreds by the compiled twin."""
        if NATIVE is None:
            return map(self.region, range(len(self)))
        return self._regions_by_native()

    def _regions_by_native(self) -> Iterator[Region]:
        count = len(self)
        for first in range(0, count, _AT_A_TIME):
            yield from NATIVE.regions(self, _PARTS, first, min(first + _AT_A_TIME, count))

    def find_many(self, addresses: array[int]) -> list[Region | None]:
        """The region that covers each address (64-bit numbers), in their order. Each region is made once."""
        if NATIVE is not None:
            by_native: list[Region | None] = NATIVE.find_many(self, _PARTS, addresses)
            return by_native
        made: dict[int, Region] = {}
        found: list[Region | None] = []
        for address in addresses:
            row = bisect_right(self.start, address) - 1
            if row < 0 or address >= self.end[row]:
                found.append(None)
                continue
            at = made.get(row)
            if at is None:
                at = made[row] = self.region(row)
            found.append(at)
        return found

    @classmethod
    def of(cls, regions: Iterable[Region]) -> Columns:
        """From regions, in the order given."""
        made = cls()
        numbers = {NO_LABEL: 0}
        rows = list(regions)
        for region in rows:
            label = Label(region.path, region.name, region.deleted)
            if label not in numbers:
                numbers[label] = len(made.labels)
                made.labels.append(label)
            made.start.append(region.start)
            made.end.append(region.end)
            made.offset.append(UNKNOWN if region.offset is None else region.offset)
            made.device.append(UNKNOWN if region.device is None else pack_device(*region.device))
            made.inode.append(UNKNOWN if region.inode is None else region.inode)
            made.protection.append(region.protection)
            made.shared.append(_SHARED_CODES[region.shared])
            made.kind.append(region.kind)
            made.label.append(numbers[label])
        if any(region.flags is not None for region in rows):
            made.flags = [region.flags for region in rows]
        if any(region.max_protection is not None for region in rows):
            made.max_protection = array(
                "B", (UNKNOWN_BYTE if r.max_protection is None else r.max_protection for r in rows)
            )
        made.resident = _column(region.resident for region in rows)
        made.private_resident = _column(region.private_resident for region in rows)
        made.page_size = _column(region.page_size for region in rows)
        if any(region.build_id is not None for region in rows):
            made.build_id = [region.build_id for region in rows]
        for key in dict.fromkeys(key for region in rows for key in region.details):
            made.details[key] = _detail_column([region.details.get(key) for region in rows])
        return made

    def take(self, rows: Sequence[int]) -> Columns:
        """The given rows, in the order given. Labels are shared, not copied."""

        def numbers(column: array[int]) -> array[int]:
            return array(column.typecode, map(column.__getitem__, rows))

        def optional(column: array[int] | None) -> array[int] | None:
            return None if column is None else numbers(column)

        return Columns(
            numbers(self.start),
            numbers(self.end),
            numbers(self.offset),
            numbers(self.device),
            numbers(self.inode),
            numbers(self.protection),
            numbers(self.shared),
            numbers(self.kind),
            numbers(self.label),
            self.labels,
            None if self.flags is None else [self.flags[row] for row in rows],
            optional(self.max_protection),
            optional(self.resident),
            optional(self.private_resident),
            optional(self.page_size),
            None if self.build_id is None else [self.build_id[row] for row in rows],
            {
                key: numbers(column) if isinstance(column, array) else [column[row] for row in rows]
                for key, column in self.details.items()
            },
        )

    def first_disorder(self) -> int | None:
        """The first row that is empty or backward, or begins before the row before it ends; None when all is right."""
        starts, ends = self.start.tolist(), self.end.tolist()
        if all(map(lt, starts, ends)) and not any(map(gt, ends, islice(starts, 1, None))):
            return None
        backward = next(compress(count(), map(ge, starts, ends)), len(self))
        overlap = next(compress(count(1), map(gt, ends, islice(starts, 1, None))), len(self))
        return min(backward, overlap)


def _known(column: array[int] | None, row: int) -> int | None:
    if column is None:
        return None
    value = column[row]
    return None if value == UNKNOWN else value


def _detail_column(values: list[int | str | None]) -> array[int] | list[str | None]:
    if any(isinstance(value, str) for value in values):
        return [None if value is None else str(value) for value in values]
    return array("Q", (UNKNOWN if value is None else int(value) for value in values))


def _column(values: Iterable[int | None]) -> array[int] | None:
    listed = list(values)
    if all(value is None for value in listed):
        return None
    return array("Q", (UNKNOWN if value is None else value for value in listed))
