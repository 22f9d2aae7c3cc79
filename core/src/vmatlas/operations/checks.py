"""Arguments, judged before anything is done: the same rules on every system. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, TypeAlias

from vmatlas.arguments import in_hex, shown, whole
from vmatlas.errors import UsageError
from vmatlas.model import Protection

Range: TypeAlias = tuple[int, int]
"""[start, end)."""


def check_size(size: Any, *, bits: int, what: str = "size") -> int:
    """A number of bytes from 1 to the address space's. Raises UsageError."""
    number = whole(size, what)
    if number <= 0:
        raise UsageError(f"the {what} is {in_hex(number)} bytes", hint="give one byte or more")
    if number >= 2 ** min(bits, 63):  # no processor of 64 bits gives a process more than half of what they count
        raise UsageError(f"the {what} {in_hex(number)} does not fit in an address space of {bits} bits")
    return number


def round_up(size: int, page: int) -> int:
    """Bytes in as many whole pages as it takes."""
    return -(-size // page) * page


def check_address(address: Any, *, page: int, bits: int, what: str = "address") -> int:
    """An address where a page begins. Raises UsageError."""
    number = whole(address, what)
    if not 0 <= number < 2**bits:
        raise UsageError(f"the {what} {in_hex(number)} lies outside of an address space of {bits} bits")
    if number % page:
        below = number - number % page
        raise UsageError(
            f"the {what} {number:#x} is not where a page of {page} bytes begins",
            hint=f"the page that holds it begins at {below:#x}",
        )
    return number


def check_range(address: Any, size: Any, *, page: int, bits: int, what: str = "range") -> Range:
    """[start, end) of whole pages, from an address and a size. Raises UsageError."""
    start = check_address(address, page=page, bits=bits, what=f"address of the {what}")
    length = check_size(size, bits=bits, what=f"size of the {what}")
    if length % page:
        raise UsageError(
            f"the size {length:#x} of the {what} is no number of whole pages",
            hint=f"a page has {page} bytes: {round_up(length, page):#x} would be whole",
        )
    if start + length > 2**bits:
        raise UsageError(f"the {what} of {length:#x} bytes at {start:#x} wraps around the end of the address space")
    return start, start + length


def check_ranges(ranges: Iterable[Any], *, page: int, bits: int) -> list[Range]:
    """Regions, or pairs (start, end), in the order given; none may overlap another. Raises UsageError."""
    found = []
    if not isinstance(ranges, Iterable):
        raise UsageError(f"{shown(ranges)} is no set of regions", hint="give regions, or pairs (start, end)")
    for each in ranges:
        try:
            start, end = whole(each[0], "start"), whole(each[1], "end")
        except (TypeError, IndexError, KeyError):
            raise UsageError(f"{shown(each)} is no range", hint="give regions, or pairs (start, end)") from None
        if end <= start:
            raise UsageError(
                f"the range from {in_hex(start)} to {in_hex(end)} is empty",
                hint="a range is (start, end), not (address, size)",
            )
        found.append(check_range(start, end - start, page=page, bits=bits))
    for (low, end), (start, other) in pairwise(sorted(found)):
        if start < end:
            raise UsageError(f"the ranges {low:#x}-{end:#x} and {start:#x}-{other:#x} overlap")
    return found


def check_descriptor(descriptor: Any) -> int:
    """The number of a descriptor, open or not. Raises UsageError."""
    try:
        number = whole(descriptor, "descriptor")
    except UsageError:
        number = -1
    if not 0 <= number < 2**31:
        raise UsageError(f"{shown(descriptor)} is no descriptor", hint="give the number of an open one, from 0 on")
    return number


def check_protection(protection: Any) -> Protection:
    """One of the eight protections. Raises UsageError."""
    if not isinstance(protection, Protection) or not 0 <= int(protection) <= 7:
        raise UsageError(
            f"{shown(protection)} is no protection", hint="give vmatlas.Protection.READ | vmatlas.Protection.WRITE, say"
        )
    return protection


def apart(first: Range, second: Range) -> bool:
    """Whether two ranges have no address in common."""
    return first[1] <= second[0] or second[1] <= first[0]
