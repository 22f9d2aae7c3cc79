"""Columns from few distinct facts. Pure.

A map has tens of thousands of regions and some dozens of files, so a decoder works out what a region's rights, file and
name mean once for each that is different. The answer is kept packed: joined for all regions, the bytes are cut into
columns by strides, which makes no object a region. A compiled decoder does the same with `Rows`.
"""

from __future__ import annotations

import struct
import sys
from array import array

from vmatlas.contracts import Protocol, TypeVar
from vmatlas.model.columns import Columns, Label, pack_device
from vmatlas.model.region import UNKNOWN
from vmatlas.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

# device, inode, what hides the offset, label, protection, shared, kind: `struct meaning` of native/binding.h
_FACTS = struct.Struct("=QQQIBBBx")


_Object = TypeVar("_Object")


class Meaning(NamedTuple):
    """What a region has in common with others."""

    device: int
    """Packed; UNKNOWN where there is no file."""
    inode: int
    hidden: int
    """The bits that hide an offset where there is neither a file nor the name of one: UNKNOWN, or 0."""
    label: Label
    protection: int
    shared: int
    """As in the column: 0, 1, or 255 for not known."""
    kind: int


def meaning_of(
    *, protection: int, shared: bool, major: int, minor: int, inode: int, label: Label, kind: int
) -> Meaning:
    """All of device and inode 0: no file is told. An offset is one all the same where it stands beside a name.

    Kernels and emulators without device numbers tell the path and the offset of a file with zeros between them. Beside
    a name in brackets, or none, it is no offset: old kernels put the address there.
    """
    if major or minor or inode:
        return Meaning(pack_device(major, minor), inode, 0, label, protection, shared, kind)
    has_name = label.path is not None or (label.name is not None and not label.name.startswith("["))
    hidden = 0 if has_name else UNKNOWN
    return Meaning(UNKNOWN, UNKNOWN, hidden, label, protection, shared, kind)


class Packer:
    """Packs meanings, and numbers their labels."""

    def __init__(self) -> None:
        self.labels: list[Label] = [Label()]
        self._numbers = {self.labels[0]: 0}

    def pack(self, meaning: Meaning) -> bytes:
        """32 bytes."""
        device, inode, hidden, label, protection, shared, kind = meaning
        number = self._numbers.get(label)
        if number is None:
            number = self._numbers[label] = len(self.labels)
            self.labels.append(label)
        return _FACTS.pack(device, inode, hidden, number, protection, shared, kind)


_Numbers: TypeAlias = "array[int]"
Filled: TypeAlias = tuple[
    _Numbers, _Numbers, _Numbers, _Numbers, _Numbers, _Numbers, _Numbers, _Numbers, _Numbers
]  # fmt: skip
"""The columns from `start` to `label`, in their order in `Columns`."""


class Rows(Protocol):
    """A map that a compiled decoder took apart, before it is known what its distinct facts mean (native/binding.h)."""

    def __len__(self) -> int:
        """How many regions."""

    def facts(self) -> list[tuple[bytes, int]]:
        """The distinct facts: the decoder's own bytes and a number beside them."""

    def signature(self) -> bytes:
        """All facts in one: equal for maps of equal facts in equal order, as those of one process mostly are."""

    def marks(self) -> list[bytes]:
        """The distinct texts of a further column."""

    def fill(self, meanings: bytes) -> Filled:
        """The columns from `start` to `label`, from the packed meaning of each fact."""

    def number(self, which: int) -> array[int]:
        """One of the further numbers of each region."""

    def sum(self, one: int, other: int) -> array[int]:
        """Two of them added; at most UNKNOWN."""

    def pick(self, which: int, objects: list[_Object]) -> list[_Object]:
        """For each region the object of its mark; `which` is the number that names the mark."""


def columns_of_rows(rows: Rows, meanings: bytes, labels: list[Label]) -> Columns:
    """The columns of what a compiled decoder found, with what each of its facts means."""
    return Columns(*rows.fill(meanings), labels)


def columns_of(start: array[int], end: array[int], offset: array[int], facts: bytes, labels: list[Label]) -> Columns:
    """The columns of regions with these bounds; `facts` holds those of each, joined."""
    words = array("Q", facts)
    return Columns(
        start=start,
        end=end,
        offset=_either(offset, words[2::4]),
        device=words[0::4],
        inode=words[1::4],
        protection=array("B", facts[28::32]),
        shared=array("B", facts[29::32]),
        kind=array("B", facts[30::32]),
        label=array("I", facts)[6::8],
        labels=labels,
    )


def _either(numbers: array[int], others: array[int]) -> array[int]:
    """The bits of both. As two very long numbers, which takes a tenth of the time of `a | b` of each."""
    bits = int.from_bytes(numbers.tobytes(), sys.byteorder) | int.from_bytes(others.tobytes(), sys.byteorder)
    return array("Q", bits.to_bytes(8 * len(numbers), sys.byteorder))
