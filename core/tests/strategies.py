"""Hypothesis strategies for the values of vmatlas: regions, columns, address spaces, captures, filters.

Tests beside this file import it as `from .strategies import ...`.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import strategies as st

from vmatlas.capture import Capture
from vmatlas.model import (
    AddressSpace,
    Consistency,
    Details,
    Device,
    Filter,
    Kind,
    Origin,
    Protection,
    Query,
    Region,
    SystemFlags,
    SystemInfo,
)
from vmatlas.model.filter import NumberRange

LINUX = SystemInfo(
    system="linux",
    release="6.12.43",
    version="#1 SMP",
    machine="x86_64",
    byte_order="little",
    pointer_width=64,
    page_size=4096,
)
ORIGIN = Origin(system=LINUX, pid=4321, backend="linux-procfs", time=1_750_000_000.0, start_time=777)

TOP = 2**64 - 2
"""The highest end of a region that columns can hold."""


class Flags(SystemFlags, boundary=enum.KEEP):
    """A system's flags, for tests."""

    WIRED = 1
    COPIED = 2
    HUGE = 16


numbers = st.integers(0, 2**64 - 2)
protections = st.integers(0, 7).map(Protection)
kinds = st.sampled_from(Kind)
# Small alphabets, so that equal names, and names that a pattern matches, are common. \udcff is a byte that is no UTF-8.
paths = st.builds(
    "/{}{}".format,
    st.sampled_from(["lib", "a b", "é", "\udcff\udc80", "new\nline", "usr/lib"]),
    st.text("ab.,", max_size=3),
)
names = st.sampled_from(["[heap]", "[stack]", "[anon:x]", "anon_inode:[io_uring]"])
devices = st.builds(Device, st.integers(0, 2**32 - 2), st.integers(0, 2**32 - 1)) | st.just(Device(8, 1))

_DETAIL_VALUES = {"Rss": numbers, "THPeligible": st.integers(0, 1), "Note": st.text("xyz", max_size=3)}
details = st.fixed_dictionaries({}, optional=_DETAIL_VALUES).map(Details)


@st.composite
def regions(draw: st.DrawFn, start: int, end: int, *, plain: bool = False) -> Region:
    """A region with these bounds. Plain: without what only some backends tell."""
    has_file = draw(st.booleans())
    path = draw(paths) if has_file else None
    name = draw(st.none() | names) if path is None else None
    common = Region(
        start,
        end,
        draw(protections),
        draw(st.sampled_from([True, False, None])),
        draw(numbers) if has_file else None,
        draw(devices) if has_file else None,
        draw(numbers) if has_file else None,
        path,
        name,
        path is not None and draw(st.booleans()),
        draw(kinds),
    )
    if plain:
        return common
    return common._replace(
        flags=draw(st.none() | st.integers(0, 2**70).map(Flags)),
        max_protection=draw(st.none() | protections),
        resident=draw(st.none() | numbers),
        private_resident=draw(st.none() | numbers),
        page_size=draw(st.sampled_from([None, 4096, 2**21])),
        build_id=draw(st.none() | st.binary(min_size=1, max_size=20)),
        details=draw(details),
    )


@st.composite
def bounds(draw: st.DrawFn, *, most: int = 5) -> list[tuple[int, int]]:
    """Sorted [start, end) that do not overlap; some touch."""
    low, high = draw(st.sampled_from([(0, 12), (0, 2**20), (0, TOP), (TOP - 20, TOP)]))
    points = sorted(draw(st.sets(st.integers(low, high), max_size=2 * most)))
    found: list[tuple[int, int]] = []
    position = 0
    while position + 1 < len(points):
        found.append((points[position], points[position + 1]))
        position += draw(st.sampled_from([1, 2]))  # 1: the next one begins where this one ends
    return found[:most]


@st.composite
def region_lists(draw: st.DrawFn, *, plain: bool | None = None, most: int = 5) -> list[Region]:
    """Regions in order."""
    is_plain = draw(st.booleans()) if plain is None else plain
    return [draw(regions(start, end, plain=is_plain)) for start, end in draw(bounds(most=most))]


def space_of(found: Sequence[Region]) -> AddressSpace:
    """An address space of these regions."""
    return AddressSpace.of(found, ORIGIN)


spaces = region_lists().map(space_of)
plain_spaces = region_lists(plain=True).map(space_of)


def addresses(space: Sequence[Region]) -> st.SearchStrategy[int]:
    """Addresses: anywhere, and, much more often, at the edges of regions."""
    edges = {edge + step for region in space for edge in (region.start, region.end) for step in (-1, 0, 1)} - {-1}
    return st.sampled_from(sorted(edges)) | st.integers(0, 2**64 - 1) if edges else st.integers(0, 2**64 - 1)


texts_of_names = st.sampled_from(["lib", "heap", "[heap]", "a b", "*", "b?", ",", " x", "\\"])
patterns = st.sampled_from(["[heap]", "/lib*", "*.a", "*,*", "/a b?", "[[]*", "*", "/lib", "*\\", " x ", "/[!l]*"])


flag_words = st.sampled_from(["wired", "copied", "huge", "wired|huge"])
_KEYS = ("private", "page_size", "offset", "inode", "start", "end")
_OWN_KEYS = ("rss", "thpeligible", "note")


@st.composite
def number_ranges(draw: st.DrawFn, keys: Sequence[str]) -> frozenset[NumberRange]:
    """One range for each of some keys."""
    ends = st.none() | st.integers(0, 2**22)
    return frozenset(
        NumberRange(key, draw(st.integers(0, 2**12)), draw(ends))
        for key in draw(st.sets(st.sampled_from(keys), max_size=2))
    )


@st.composite
def filters(draw: st.DrawFn, *, own: bool = False) -> Filter:
    """Filters that ask for little, as people do: most conditions are left out.

    `own`: also for flags and the system's own keys, which a map refuses that has none.
    """
    chosen = draw(st.sets(st.sampled_from(range(12)), max_size=3))
    given = draw(protections) if 0 in chosen else Protection.NONE
    low, high = sorted([draw(st.integers(0, 16)), draw(st.integers(0, 2**21))])
    start = draw(st.integers(0, 20))
    return Filter(
        given=given,
        withheld=(draw(protections) & ~given) & Protection(7) if 0 in chosen else Protection.NONE,
        shared=draw(st.booleans()) if 1 in chosen else None,
        file_backed=draw(st.booleans()) if 2 in chosen else None,
        deleted=draw(st.booleans()) if 3 in chosen else None,
        kinds=draw(st.frozensets(kinds, max_size=3)) if 4 in chosen else frozenset(),
        other_kinds=draw(st.frozensets(kinds, max_size=3)) if 5 in chosen else frozenset(),
        paths=draw(st.frozensets(patterns, max_size=2)) if 6 in chosen else frozenset(),
        names=draw(st.frozensets(patterns, max_size=2)) if 6 in chosen and draw(st.booleans()) else frozenset(),
        texts=draw(st.frozensets(texts_of_names, max_size=2)) if 9 in chosen else frozenset(),
        other_texts=draw(st.frozensets(texts_of_names, max_size=2)) if 9 in chosen else frozenset(),
        flags=draw(st.frozensets(flag_words, max_size=2)) if own and 10 in chosen else frozenset(),
        other_flags=draw(st.frozensets(flag_words, max_size=2)) if own and 10 in chosen else frozenset(),
        numbers=draw(number_ranges((*_KEYS, *_OWN_KEYS) if own else _KEYS)) if 11 in chosen else frozenset(),
        min_size=low if 7 in chosen else 0,
        max_size=draw(st.none() | st.just(high)) if 7 in chosen else None,
        min_resident=low if 8 in chosen else 0,
        max_resident=draw(st.none() | st.just(high)) if 8 in chosen else None,
        overlaps=(start, start + draw(st.integers(1, 20) | st.integers(1, 2**63))) if draw(st.booleans()) else None,
    )


queries = st.builds(
    Query,
    address=st.none() | numbers,
    or_next=st.booleans(),
    limit=st.integers(1, 5000),
    residency=st.booleans(),
    build_ids=st.booleans(),
    where=st.just(Filter()) | filters(),
).map(lambda query: replace(query, limit=query.limit_of_answer or 1))
"""Their `limit` is what it is by itself where it has no meaning: a capture does not keep it there."""

_texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=10)
systems = st.builds(
    SystemInfo,
    system=st.sampled_from(["linux", "freebsd", "qnx"]),
    release=_texts,
    version=_texts,
    machine=_texts,
    byte_order=st.sampled_from(["little", "big"]),
    pointer_width=st.sampled_from([32, 64]),
    page_size=st.sampled_from([4096, 16384, 65536]),
)
captures = st.builds(
    Capture,
    streams=st.dictionaries(st.sampled_from(["maps", "smaps", "vmas", "stat", "links"]), st.binary(max_size=300)),
    system=systems,
    pid=st.integers(0, 2**31 - 1),
    backend=st.sampled_from(["linux-procfs", "linux-ioctl", "somewhere_else-2"]),
    distribution=st.sampled_from(["vmatlas-linux-procfs", "a", "x.y_z-1"]),
    query=queries,
    time=st.integers(0, 4_000_000_000_000_000).map(lambda microseconds: microseconds / 1e6),
    start_time=st.none() | numbers,
    thread=st.none() | st.integers(1, 2**31 - 1),
    pointer_width=st.sampled_from([None, 32, 64]),
    target=_texts,
    consistency=st.sampled_from(Consistency),
    incomplete=st.none() | _texts,
)


def maps_text(found: Sequence[Region]) -> bytes:
    """Regions as Linux writes them in /proc/PID/maps: an encoder of our own, for the decoder to undo."""
    lines = []
    for region in found:
        device, inode = region.device or Device(0, 0), region.inode or 0
        head = (
            f"{region.start:08x}-{region.end:08x} {region.permissions} {region.offset or 0:08x} "
            f"{device.major:02x}:{device.minor:02x} {inode}"
        ).encode()
        label = os.fsencode(region.label).replace(b"\n", b"\\012")
        lines.append(head.ljust(72) + b" " + label if label else head + b" ")
    return b"".join(line + b"\n" for line in lines)
