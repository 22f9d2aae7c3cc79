"""What the kernel is to be asked for the states of pages that are wanted, and what its answer then tells. Pure."""

from __future__ import annotations

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
