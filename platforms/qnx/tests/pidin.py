"""What QNX's own `pidin mem` prints, read; and whether a summary says the same."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from vmatlas import AddressSpace
from vmatlas.analysis import Use, summarize

_SIZE = r"(\d+)([KM]?)"
_THREAD = re.compile(rf" *(\d+) +\d+ (\S+) +\d+\w \S+ +{_SIZE} +{_SIZE} +{_SIZE}\({_SIZE}\)")
_LIBRARY = re.compile(rf" +(\S+) +@[0-9a-f]+ +{_SIZE} +{_SIZE}$")
_PHYSICAL = re.compile(rf" +/dev/mem +@[0-9a-f]+ \( +\d+\) +{_SIZE}$")
_UNITS = {"": 1, "K": 1024, "M": 1 << 20}


@dataclass(frozen=True)
class Size:
    """As printed: rounded down to its unit."""

    amount: int
    unit: str

    @classmethod
    def of(cls, amount: str, unit: str) -> Size:
        """From the digits and the letter."""
        return cls(int(amount), unit)

    def says(self, number: int) -> bool:
        """Whether so many bytes are printed like this."""
        return number // _UNITS[self.unit] == self.amount

    @property
    def bytes(self) -> int:
        """Exact for what is small: code, stacks, libraries."""
        return self.amount * _UNITS[self.unit]


@dataclass
class Printed:
    """One process."""

    name: str
    """As far as its column has room: the end of the path."""
    code: Size
    data: Size
    stacks: list[tuple[int, int]] = field(default_factory=list)
    """Of each thread, bytes: touched, reserved."""
    libraries: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Text and data of each, bytes."""
    physical: int = 0


def read(text: str) -> dict[int, Printed]:
    """Each process that has memory of its own, by its pid."""
    found: dict[int, Printed] = {}
    last: Printed | None = None
    for line in text.splitlines():
        if told := _THREAD.match(line):
            pid, name = int(told[1]), told[2].rpartition("/")[2]
            code, data, touched, reserved = (Size.of(*told.group(at, at + 1)) for at in (3, 5, 7, 9))
            last = found.setdefault(pid, Printed(name, code, data))
            last.stacks.append((touched.bytes, reserved.bytes))
        elif told := _PHYSICAL.match(line):
            assert last is not None
            last.physical += Size.of(*told.group(1, 2)).bytes
        elif told := _LIBRARY.match(line):
            assert last is not None
            last.libraries[told[1]] = Size.of(*told.group(2, 3)).bytes, Size.of(*told.group(4, 5)).bytes
    return found


def check(space: AddressSpace, printed: Printed) -> None:
    """The summary of a space with residency is what pidin printed of the process."""
    summary = summarize(space)

    def size(uses: object, use: Use) -> int:
        assert isinstance(uses, dict)
        return uses[use].size if use in uses else 0

    files = {file.path.rpartition("/")[2]: file for file in summary.files}
    for library, told in printed.libraries.items():
        uses = files[library].uses
        assert (size(uses, Use.CODE), size(uses, Use.DATA)) == told, library
    texts, datas = (sum(told[at] for told in printed.libraries.values()) for at in (0, 1))
    code, data = size(summary.uses, Use.CODE) - texts, size(summary.uses, Use.DATA) - datas
    assert (code, printed.data.says(data)) == (printed.code.bytes, True), (code, data, printed)
    stack = summary.uses[Use.STACK]
    assert (stack.resident, stack.size) == tuple(map(sum, zip(*printed.stacks, strict=True)))
    assert size(summary.uses, Use.PHYSICAL) == printed.physical
    assert set(summary.uses) <= {Use.CODE, Use.DATA, Use.STACK, Use.PHYSICAL}
