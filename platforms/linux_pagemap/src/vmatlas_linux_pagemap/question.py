"""What the kernel is to be asked for the states of pages that are wanted, and what its answer then tells. Pure."""

from __future__ import annotations

import functools
from array import array
from typing import NamedTuple

from vmatlas.model.pages import PageState
from vmatlas_linux_pagemap.layout import (
    CATEGORIES,
    FILE,
    GUARD,
    PRESENT,
    SWAPPED,
    UPPER_BITS,
    WPALLOWED,
    WRITTEN,
)


class Masks(NamedTuple):
    """Of PAGEMAP_SCAN: pages with one of `anyof` are given, each with what it has of `told`."""

    anyof: int
    told: int

    def without(self, category: int) -> Masks:
        """The same, of a kernel that does not know a category, or that says nothing true by it."""
        return Masks(self.anyof & ~category, self.told & ~category)


def below_the_top(ranges: tuple[tuple[int, int], ...], machine: str, page: int) -> list[tuple[int, int]]:
    """Ranges without what no process of such a machine can have.

    arm64 extends bit 55 of an address upward, whatever stands there: a range that ends at 2**56 ends at 0 to it. What
    lies below, and above all that a process has, the kernel says itself (EFAULT).
    """
    top = 2**64 - page if machine.startswith("s390") else 2**56 - page
    return [(start, min(end, top)) for start, end in ranges if start < top]


def masks_of(of: PageState) -> Masks:
    """For these states. What is not EXCLUSIVE has a category, or follows from several."""
    anyof = told = 0
    for state, category in CATEGORIES.items():
        if state & of:
            anyof |= category
            told |= category
    if of & PageState.SWAPPED:
        told |= GUARD  # whose pages have the bit SWAPPED as well
    if of & PageState.ANONYMOUS:
        anyof |= PRESENT  # there is no bit for it: in memory, and of no file
        told |= PRESENT | FILE
    if of & PageState.WRITTEN:
        anyof |= WRITTEN
        told |= WRITTEN | WPALLOWED  # only then it means what it says
    return Masks(anyof, told)


def told_by_masks(masks: Masks) -> PageState:
    """The states of which the answer to a scan tells all pages that are in them."""
    anyof, told = masks
    found = PageState.NONE
    for state, category in CATEGORIES.items():
        if anyof & told & category:
            found |= state
    if told & GUARD and anyof & (GUARD | SWAPPED):
        found |= PageState.GUARD
    if anyof & PRESENT and told & FILE and told & PRESENT:
        found |= PageState.ANONYMOUS | PageState.FILE
    if anyof & WRITTEN and told & WPALLOWED:
        found |= PageState.WRITTEN
    return found


def state_of_categories(categories: int, told: PageState) -> PageState:
    """What the categories of a page mean."""
    found = PageState.NONE
    for state, category in CATEGORIES.items():
        if categories & category:
            found |= state
    if found & PageState.GUARD:
        found &= ~PageState.SWAPPED
    if categories & PRESENT and not categories & FILE:
        found |= PageState.ANONYMOUS
    if categories & WRITTEN and categories & WPALLOWED:
        found |= PageState.WRITTEN
    return found & told


def told_by_bits(bits: int) -> PageState:
    """The states that the entries of a kernel tell which has these bits."""
    found = PageState.ANONYMOUS
    for state, bit in UPPER_BITS.items():
        if bits & bit:
            found |= state
    return found


def state_of_entry(entry: int, told: PageState) -> PageState:
    """What the upper 16 bits of an entry mean."""
    found = PageState.NONE
    for state, bit in UPPER_BITS.items():
        if entry & bit:
            found |= state
    if found & told & PageState.GUARD:
        found &= ~PageState.SWAPPED
    if found & PageState.PRESENT and not found & PageState.FILE:
        found |= PageState.ANONYMOUS
    return found & told


_UPPER_NINE = 7
"""The compiled twin looks at the upper nine of the upper 16 bits of an entry: all that tell something."""


@functools.cache
def states_of_categories(told: PageState) -> bytes:
    """What the categories of a page mean, as the compiled twin takes it: of each value of nine bits."""
    return array("I", [state_of_categories(bits, told).value for bits in range(512)]).tobytes()


@functools.cache
def states_of_entries(told: PageState) -> bytes:
    """The same of the upper nine bits of an entry."""
    return array("I", [state_of_entry(bits << _UPPER_NINE, told).value for bits in range(512)]).tobytes()
