"""The picture of an address space: the scene, and that every renderer shows it and nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from xml.etree import ElementTree

import html5lib
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vmatlas
from vmatlas import AddressSpace, Details, Device, Kind, PageRun, PageRuns, PageState, Protection, Region
from vmatlas.analysis.audit.finding import Untold
from vmatlas.analysis.naming import Certainty, Guess
from vmatlas.conformance.colours import SEEN_BY, contrast, seen
from vmatlas.picture import svg
from vmatlas.picture.comparison import ComparisonView, comparison
from vmatlas.picture.course import CELLS, ROWS, CourseView, _ticks, course
from vmatlas.picture.drawn import FORMATS, Picture, SpaceView, format_of, pictures
from vmatlas.picture.html import as_json, ink_on
from vmatlas.picture.palette import DARK, DARK_GROUND, LETTERS, LIGHT, LIGHT_GROUND, SAYS, Became, Sort
from vmatlas.picture.report import Report
from vmatlas.picture.scene import MOST_AREAS, Scene, cells, scene_of
from vmatlas.picture.text import plain
from vmatlas.picture.treemap import Box, squarified
from vmatlas.picturing import summary_of

from .strategies import ORIGIN, space_of, spaces

PAGE = 4096
READ, WRITE, EXECUTE = Protection.READ, Protection.WRITE, Protection.EXECUTE

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "</style></title><style>*{display:none}</style>",
    "]]><svg onload=alert(1)>",
    "\" onclick='x' autofocus onfocus=alert(1) x=\"",
    "&lt;b&gt; &#x3c;i&#x3e;",
    "\u202egnp.exe\u2066\u2069\u200b\ufeff\u200f",
    "line\nfeed\ttab\x00\x1b[31m\x07\x9b",
    "bytes \udcff\udcfe",
    "{{ 7*7 }} ${alert(1)} `x`",
    "\u2028\u2029\ufffe\U000e0041",
    "* total",
    "javascript:alert(1)",
]
"""What a file, a mapping or a process may be called."""


def region(start: int, pages: int, **told: object) -> Region:
    settings: dict[str, object] = {"protection": READ | WRITE, "shared": False, "kind": Kind.ANONYMOUS} | told
    return Region(start, start + pages * PAGE, **settings)  # type: ignore[arg-type]


def of_file(start: int, pages: int, path: str, protection: Protection = READ, **told: object) -> Region:
    return region(
        start, pages, protection=protection, path=path, kind=Kind.FILE, offset=0, device=Device(8, 1), inode=7, **told
    )


def used(size: int, **more: int) -> dict[str, object]:
    told = {"Rss": size, "Pss": size // 2, "Private_Clean": 0, "Private_Dirty": size // 2, "Shared_Dirty": 0} | more
    return {"resident": size, "private_resident": size // 2, "details": Details({**told, "Swap": 0, "Anonymous": 0})}


def many(number: int) -> list[Region]:
    """A map as large programs have: libraries of five regions, memory between them, in several places."""
    found, at = [], 0x7F0000000000
    for each in range(number):
        pages = 1 + each * 7919 % 61
        path = f"/usr/lib/x86_64-linux-gnu/lib{each // 5 % 83}.so.{each % 3}"
        memory = used(pages * PAGE * (each % 5) // 4 // 4096 * 4096)
        if each % 3:
            found.append(of_file(at, pages, path, READ | EXECUTE if each % 5 == 1 else READ, **memory))
        else:
            found.append(region(at, pages, **memory))
        at = found[-1].end + (each % 7 == 0) * PAGE * (each % 90)
    return found


def threads(number: int) -> Scene:
    """Stacks of threads side by side, each of its own name; then memory of which nobody knows, and a strange file."""
    regions = [region(0x7F0000000000 + each * 0x800000, 2048, **used(0x8000)) for each in range(number)]
    regions.append(region(regions[-1].end + (1 << 21), 512, **used(0x100000)))
    regions.append(of_file(regions[-1].end + (1 << 21), 512, '/usr/lib/a "b" heap,c.so', READ, **used(0x100000)))
    guesses = {
        each.start: Guess(
            f"stack of thread {number} (a worker)", "thread stack", ("its size",), Certainty.STRONG, "guarded"
        )
        for number, each in enumerate(regions[:number])
    }
    return scene_of(space_of(regions), guesses=guesses)


def rendered(scene: Scene) -> dict[str, str]:
    picture = Picture((SpaceView(scene),))
    return {each: picture.rendered(each) for each in FORMATS}


def tree(page: str) -> ElementTree.Element:
    """As a parser that follows the HTML standard reads it."""
    root: ElementTree.Element = html5lib.parse(page, namespaceHTMLElements=False)
    return root


def data_of(page: str) -> dict[str, object]:
    [told] = [
        each.text or ""
        for each in tree(page).iter("script")
        if each.get("class") == "data"
    ]  # fmt: skip
    found: dict[str, object] = json.loads(told)
    return found


# The scene


@given(spaces)
def test_every_region_is_drawn_once_in_order_and_none_lies_over_another(space):
    scene = scene_of(space)
    assert [piece.region for piece in scene.pieces] == list(space)
    assert all(begin <= end for begin, end in zip(scene.begins, scene.ends, strict=True))
    assert all(end <= begin for end, begin in zip(scene.ends, scene.begins[1:], strict=False))
    assert [row for area in scene.areas for row in range(area.first, area.last)] == list(range(len(space)))
    assert all(before.end == after.begin for before, after in pairwise(scene.areas))
    assert len(scene.areas) <= MOST_AREAS


@given(spaces)
def test_totals_of_sorts_add_up_to_the_whole(space):
    scene = scene_of(space)
    assert sum(each.total.size for each in scene.totals) == scene.whole.total.size == space.total
    assert sum(each.total.regions for each in scene.totals) == len(space)
    assert sum(each.committed for each in scene.totals) == scene.whole.committed <= space.total
    told = [each.total.memory.at_least.resident for each in scene.totals]
    assert sum(each for each in told if each is not None) == (scene.whole.total.memory.at_least.resident or 0)
    measured = sum(node.value for node in scene.tree)
    assert measured == (scene.whole.total.resident if scene.tree_tells_memory else space.total)
    assert all(node.value == sum(child.value for child in node.children) for node in scene.tree)


def test_what_is_larger_than_all_else_is_folded_and_the_rest_is_to_scale():
    huge = region(0x10000000000, 2**24)  # 64 GiB, reserved for later
    small = [region(0x7F0000000000 + 16 * PAGE * each, 1 + each) for each in range(12)]
    scene = scene_of(space_of([huge, *small]))
    lengths = [end - begin for begin, end in zip(scene.begins, scene.ends, strict=True)]
    assert scene.is_folded(0) and not any(map(scene.is_folded, range(1, 13)))
    assert lengths[1:] == pytest.approx([each.size for each in small])
    assert lengths[0] == scene.fold == pytest.approx(sum(lengths[1:]) / 3, abs=1)  # a quarter of all


def test_what_is_only_reserved_leaves_room_to_what_may_be_touched():
    """As in a browser: a thousand times as much is reserved as may be touched."""
    reserved = [region(0x10000000000 * each, 2**24, protection=Protection.NONE) for each in range(1, 9)]
    guards = [region(0x7E0000000000 + 64 * PAGE * each, 1, protection=Protection.NONE) for each in range(8)]
    touched = [region(0x7F0000000000 + 64 * PAGE * each, 20) for each in range(12)]
    scene = scene_of(space_of([*reserved, *guards, *touched]))
    lengths = [end - begin for begin, end in zip(scene.begins, scene.ends, strict=True)]
    assert lengths[16:] == pytest.approx([each.size for each in touched])
    assert lengths[8:16] == pytest.approx([PAGE] * 8)  # what is small stays as it is
    assert sum(lengths[:16]) == pytest.approx(sum(lengths) / 5)
    assert [scene.is_folded(row) for row in range(28)] == [True] * 8 + [False] * 20
    for format, text in rendered(scene).items():
        assert "reserved addresses of more than" in text.lower(), format
    alone = scene_of(space_of(reserved))
    assert [end - begin for begin, end in zip(alone.begins, alone.ends, strict=True)] == [2**24 * PAGE] * 8


def test_where_no_region_is_larger_than_a_quarter_nothing_is_folded():
    scene = scene_of(space_of([region(0x1000000 * each, 10) for each in range(1, 9)]))
    assert not any(map(scene.is_folded, range(8)))
    assert scene_of(space_of([region(PAGE, 10**6)])).fold == 10**6 * PAGE


def test_far_gaps_divide_areas_and_near_ones_are_marks():
    near = [region(0x400000, 4), region(0x500000, 4)]
    far = [region(0x7F0000000000, 4), region(0x7F0000005000, 4)]
    scene = scene_of(space_of([*near, *far]))
    assert [(area.first, area.last) for area in scene.areas] == [(0, 1), (1, 2), (2, 4)]
    assert [area.free_before for area in scene.areas] == [0, 0x500000 - 0x404000, 0x7F0000000000 - 0x504000]
    assert 0 < scene.begins[3] - scene.ends[2] <= PAGE
    assert (scene.gaps, scene.largest_gap) == (3, vmatlas.Gap(0x504000, 0x7F0000000000))


def test_gap_up_to_the_kernels_half_of_the_addresses_is_no_free_gap():
    top = region(0xFFFFFFFFFF600000, 1, protection=EXECUTE, name="[vsyscall]", kind=Kind.VSYSCALL)
    scene = scene_of(space_of([region(0x1000, 1), region(0x3000, 1), top]))
    assert (scene.gaps, scene.free, scene.largest_gap) == (1, PAGE, vmatlas.Gap(0x2000, 0x3000))
    for format, text in rendered(scene).items():
        assert "the kernel" in text, format
        assert "16E" not in text, format


def test_sorts_are_told_by_kind_and_files_with_code_from_others():
    told = [
        (of_file(0x1000, 1, "/lib/a.so"), Sort.IMAGE),
        (of_file(0x2000, 1, "/lib/a.so", READ | EXECUTE), Sort.IMAGE),
        (of_file(0x3000, 1, "/data"), Sort.FILE),
        (of_file(0x4000, 1, "/lib/a.so", Protection.NONE), Sort.IMAGE),
        (region(0x5000, 1, kind=Kind.HEAP), Sort.HEAP),
        (region(0x6000, 1), Sort.ANONYMOUS),
        (region(0x7000, 1, protection=Protection.NONE), Sort.RESERVED),
        (region(0x8000, 1, kind=Kind.STACK), Sort.STACK),
        (region(0x9000, 1, kind=Kind.GUARD), Sort.RESERVED),
        (region(0xA000, 1, kind=Kind.SHARED_MEMORY, shared=True), Sort.SHARED),
        (region(0xB000, 1, kind=Kind.PHYSICAL), Sort.DEVICE),
        (region(0xC000, 1, kind=Kind.VDSO), Sort.KERNEL),
        (region(0xD000, 1, kind=Kind.OTHER), Sort.OTHER),
        (region(0xE000, 1, protection=Protection.UNTOLD), Sort.ANONYMOUS),
    ]
    scene = scene_of(space_of([each for each, _ in told]))
    assert [piece.sort for piece in scene.pieces] == [sort for _, sort in told]
    committed = scene.whole.total.size - 2 * PAGE  # both have no rights
    assert scene.whole.committed == committed


def test_what_is_not_told_is_told_as_such_and_never_drawn_as_nothing():
    scene = scene_of(space_of([region(0x1000, 3, name="[anon:x]")]))
    assert not scene.tree_tells_memory and scene.pieces[0].filled is None
    assert [cell.filled for cell in cells(scene, 0, scene.length, PAGE)] == [None] * 3
    texts = rendered(scene)
    assert "What is in memory is not told here" in texts["txt"]
    assert "What is in memory is not told here" in texts["svg"]
    assert "what is in memory is not told" in texts["html"]
    assert "IN-MEMORY" not in texts["txt"]


def test_pages_are_drawn_where_they_are():
    told = PageState.PRESENT | PageState.SWAPPED | PageState.GUARD | PageState.HUGE
    states = [
        (0x2000, 0x4000, PageState.PRESENT),
        (0x4000, 0x5000, PageState.SWAPPED),
        (0x6000, 0x7000, PageState.GUARD),
        (0x7000, 0x9000, PageState.PRESENT | PageState.HUGE),
        (0x9000, 0xA000, PageState.HUGE),  # set aside, and not touched
    ]
    space = space_of([region(0x1000, 7), region(0x8000, 4)])
    pages = PageRuns.of([PageRun(*each, told) for each in states], ORIGIN, told)
    scene = scene_of(space, pages=pages)
    lower = [
        (0x2000, 0x4000, "present"),
        (0x4000, 0x5000, "swapped"),
        (0x6000, 0x7000, "guard"),
        (0x7000, 0x8000, "huge"),
    ]
    assert scene.marks == {0: lower, 1: [(0x8000, 0x9000, "huge")]}
    assert scene.guards == PAGE
    assert [cell.filled for cell in cells(scene, 0, scene.length, PAGE)] == [0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0]
    told_marks = data_of(rendered(scene)["html"])["marks"]
    assert told_marks == {"0": [1, 2, 0, 3, 1, 2, 5, 1, 3, 6, 1, 1], "1": [0, 1, 1]}
    without = scene_of(space, pages=pages.telling(PageState.SWAPPED))
    assert (without.marks, without.guards) == (None, None)


def test_a_guess_is_told_as_a_guess_everywhere():
    guess = Guess("stack of thread 7", "thread stack", ("it is as large as they are",), Certainty.WEAK, "unguarded")
    scene = scene_of(space_of([region(0x1000, 500, **used(PAGE))]), guesses={0x1000: guess})
    assert scene.pieces[0].label == "??stack of thread 7"
    assert scene.tree[0].children[0].label == "?thread stack"
    for format, text in rendered(scene).items():
        assert "??stack of thread 7" in text, format
        assert not re.search(r"[^?]stack of thread 7", text), format
    [told] = data_of(rendered(scene)["html"])["guesses"]
    assert told == {
        "label": "??stack of thread 7",
        "common": "?thread stack",
        "weak": True,
        "evidence": ["it is as large as they are"],
    }


def test_neighbours_with_no_room_for_their_names_have_once_what_they_have_in_common():
    labels = re.findall(r'class="l"[^>]*>([^<]*)<', rendered(threads(400))["svg"])
    counted = [re.fullmatch(r"(\d+) \u00d7 \?thread stack", label) for label in labels]
    assert (
        sum(int(each[1]) for each in counted if each) >= 400
    )  # one that goes on in the next line has its name there too
    assert [label for label in labels if label.startswith("?stack")] == []
    few = re.findall(r'class="l"[^>]*>([^<]*)<', rendered(threads(2))["svg"])
    assert {"?stack of thread 0 (a worker)", "?stack of thread 1 (a worker)"} <= set(few)


def test_a_rectangle_of_the_treemap_says_what_finds_it():
    finds = {node.label: node.find for group in threads(3).tree for node in group.children}
    assert finds["?thread stack"] == 'anonymous "?thread stack"'
    assert finds["(nameless)"] == "anonymous nameless"
    assert finds['/usr/lib/a "b" heap,c.so'] == 'file " heap,c.so"'
    [others] = [
        node for group in scene_of(space_of(many(400))).tree for node in group.children if "others" in node.label
    ][:1]
    assert others.find == others.sort.value


def test_an_empty_map_is_told_as_one():
    for format, text in rendered(scene_of(space_of([]))).items():
        assert "no region" in text.lower(), format


# Two compared


def compared() -> ComparisonView:
    """One of each change."""
    file = {"protection": READ}
    before = [
        region(0x10000, 4, **used(4 * PAGE)),  # grows upward
        region(0x20000, 4, **used(4 * PAGE)),  # shrinks
        of_file(0x30000, 2, "/gone", **used(PAGE)),  # is removed, and something else comes in its place
        of_file(0x40000, 2, "/moves", **used(PAGE)),  # moves
        region(0x50000, 4, **used(PAGE)),  # is filled
        region(0x60000, 4, **used(4 * PAGE)),  # is emptied
        region(0x70000, 2, **used(PAGE)),  # changes its rights
        region(0x80000, 2, **used(PAGE)),  # stays
    ]
    after = [
        region(0x10000, 6, **used(5 * PAGE)),
        region(0x20000, 3, **used(3 * PAGE)),
        of_file(0x31000, 2, "/new", **used(PAGE)),
        of_file(0x48000, 2, "/moves", **used(PAGE)),
        region(0x50000, 4, **used(3 * PAGE)),
        region(0x60000, 4, **used(PAGE)),
        region(0x70000, 2, **file, **used(PAGE)),
        region(0x80000, 2, **used(PAGE)),
    ]
    return comparison(vmatlas.diff(space_of(before), space_of(after)).with_guesses())


def test_a_comparison_draws_what_became_of_every_range():
    found = [(piece.region.start, piece.region.size // PAGE, piece.sort) for piece in compared().scene.pieces]
    assert found == [
        (0x10000, 4, Became.SAME),
        (0x14000, 2, Became.GROWN),
        (0x20000, 3, Became.SAME),
        (0x23000, 1, Became.SHRUNK),
        (0x30000, 1, Became.REMOVED),  # the rest of it is covered by what came
        (0x31000, 2, Became.ADDED),
        (0x40000, 2, Became.REMOVED),  # where it was
        (0x48000, 2, Became.MOVED),
        (0x50000, 4, Became.FILLED),
        (0x60000, 4, Became.EMPTIED),
        (0x70000, 2, Became.CHANGED),
        (0x80000, 2, Became.SAME),
    ]


def test_a_comparison_tells_what_each_kind_and_file_gained_in_every_renderer():
    view = compared()
    assert view.says == "1 added, 1 removed, 1 grown, 1 shrunk, 1 moved, 1 changed, 1 filled, 1 emptied; +4K of " + (
        "addresses, -4K in memory or swap"
    )
    page, lines = view.article(), plain(view.lines(100, colours=False))
    for told in ("/gone", "/new", "anonymous", "grown", "emptied"):
        assert told in page and told in lines, told
    assert "/moves" in page and "is-grown" in page
    drawing = view.drawing()
    assert ElementTree.fromstring(drawing).tag.endswith("svg")
    assert LIGHT[Became.REMOVED] in drawing and LIGHT[Became.GROWN] in drawing
    remarks = {piece.sort: piece.remark for piece in view.scene.pieces}
    assert "it was\t20000-24000 rw-p\nit is\t20000-23000 rw-p" in remarks[Became.SHRUNK]
    assert "addresses gained\t+8K" in remarks[Became.GROWN]
    assert "what differs\tprotection" in remarks[Became.CHANGED]


def test_equal_maps_compared_say_so():
    space = space_of(many(5))
    view = comparison(vmatlas.diff(space, space))
    assert "nothing changed" in view.article() and "nothing changed" in view.drawing()
    assert "is not compared" not in view.says
    assert {piece.sort for piece in view.scene.pieces} == {Became.SAME}


@given(spaces, spaces)
def test_any_two_maps_can_be_compared_and_all_that_is_there_is_drawn(before, after):
    view = comparison(vmatlas.diff(before, after))
    pieces = view.scene.pieces
    there = [piece for piece in pieces if piece.sort not in (Became.REMOVED, Became.SHRUNK)]
    assert sum(piece.region.size for piece in there) == after.total
    assert all(piece.region.start not in after for piece in pieces if piece.sort in (Became.REMOVED, Became.SHRUNK))
    assert view.article() and view.drawing() and plain(view.lines(80, colours=False))


# A series


def growing(moments: int = 6, **how: object) -> CourseView:
    """Nameless memory that grows downward, a file that goes, a heap that stays."""

    def read(index: int) -> AddressSpace:
        heap = region(0x10000, 4, kind=Kind.HEAP, name="[heap]", **used(4 * PAGE))
        low = region(0x7F0000100000 - index * 4 * PAGE, 4 * (index + 1), **used(4 * PAGE * (index + 1)))
        file = [of_file(0x7F0000200000, 8, "/lib/a.so", READ | EXECUTE, **used(PAGE))] * (index < 3)
        return space_of([heap, low, *file])

    times = [float(each) for each in range(moments)]
    return course(read, times, [1_750_000_000 + each for each in times], **how)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (True, False, "not told of after"),
        (False, True, "not told of before"),
        (False, False, "not told of before nor after"),
    ],
)
def test_a_comparison_says_when_memory_in_use_is_not_compared(before, after, words):
    spaces = [space_of([region(0x1000, 5, **(used(PAGE) if told else {}))]) for told in (before, after)]
    view = comparison(vmatlas.diff(*spaces))
    for text in (view.says, view.article(), view.drawing()):
        assert f"memory in use is not compared ({words})" in text


@pytest.mark.parametrize(
    ("span", "first", "last", "number"),
    [
        (0.004, "0 ms", "4 ms", 5),
        (4.02, "0 s", "4 s", 5),
        (119, "0 s", "100 s", 6),
        (600, "0 min", "10 min", 6),
        (3600, "0 min", "60 min", 7),
        (86400, "0 h", "24 h", 7),
        (40 * 86400, "0 d", "40 d", 6),
    ],
)
def test_times_of_a_course_are_round_and_in_one_unit(span, first, last, number):
    ticks = list(_ticks(span))
    assert (ticks[0][1], ticks[-1][1], len(ticks)) == (first, last, number)
    assert all(0 <= at <= span for at, _ in ticks)
    assert len({told.split()[1] for _, told in ticks}) == 1


@given(st.floats(0.001, 1e9))
def test_a_course_of_any_length_has_some_times(span):
    assert 2 <= len(list(_ticks(span))) <= 10


def test_a_course_follows_every_sort_and_name():
    view = growing()
    assert view.tells_memory and view.elapsed == (0, 1, 2, 3, 4, 5)
    sorts = {band.label: band.values for band in view.sorts}
    assert sorts["anonymous"] == tuple(4 * PAGE * each for each in range(1, 7))
    assert sorts["heap"] == (4 * PAGE,) * 6
    assert sorts["image"] == (PAGE,) * 3 + (0,) * 3
    names = {band.label: band.values for band in view.names}
    assert set(names) == {"(nameless)", "[heap]", "/lib/a.so"}
    assert view.names[0].label == "(nameless)"  # the most at the end
    totals = [sum(column) for column in zip(*sorts.values(), strict=True)]
    assert totals == [sum(column) for column in zip(*names.values(), strict=True)]
    assert view.says == "6 moments in 5 s: from 36K to 112K in memory"


def test_maps_of_a_course_are_on_one_line_so_what_stays_stands_still():
    view = growing()
    image, heap = (1 + 11 * list(Sort).index(sort) for sort in (Sort.IMAGE, Sort.HEAP))
    where = [{at for at, value in enumerate(told) if heap <= value <= heap + 10} for told in view.maps]
    assert where[0] and all(each == where[0] for each in where)
    assert [any(image <= value <= image + 10 for value in told) for told in view.maps] == [True] * 3 + [False] * 3
    assert all(len(told) == ROWS * CELLS for told in view.maps)
    data = json.loads(re.search(r'class="data">(.*?)</script>', view.article())[1])
    for told, runs in zip(view.maps, data["maps"], strict=True):
        assert b"".join(bytes([runs[at]]) * runs[at + 1] for at in range(0, len(runs), 2)) == told


def test_of_a_long_series_as_many_moments_are_drawn_as_can_be_told_apart():
    asked = []
    space = space_of([region(0x1000, 2, **used(PAGE))])
    view = course(lambda index: asked.append(index) or space, list(range(1000)), list(range(1000)))
    assert len(view.maps) == len(view.elapsed) == 120
    assert (min(asked), max(asked)) == (0, 999) and view.elapsed[-1] == 999
    assert "120 of 1,000 moments" in view.says
    data = json.loads(re.search(r'class="data">(.*?)</script>', view.article())[1])
    assert data["maps"][0] and not any(data["maps"][1:])  # what stayed the same is not told again


def test_where_memory_in_use_is_not_told_of_every_moment_addresses_are_followed():
    told = [space_of([region(0x1000, 2, **used(PAGE))]), space_of([region(0x1000, 3)])]
    view = course(told.__getitem__, [0, 1], [0, 1])
    assert not view.tells_memory
    assert [band.values for band in view.sorts] == [(2 * PAGE, 3 * PAGE)]
    assert "what is in memory is not told" in view.article()
    with pytest.raises(vmatlas.UsageError, match="two moments at least"):
        course(told.__getitem__, [0], [0])


def test_every_renderer_shows_a_course():
    view = growing()
    drawing = ElementTree.fromstring(view.drawing())
    assert len([each for each in drawing.iter() if each.tag.endswith("polygon")]) == 6
    text = plain(view.lines(100, colours=False))
    assert max(map(len, text.splitlines())) <= 100
    assert re.search(r"▂.*█ +16K +96K +\+80K +anonymous", text)
    page = tree(view.article())
    assert sum(str(each.tag).endswith("polygon") for each in page.iter()) == 6
    assert len(list(page.iter("input"))) == 1
    picture = Picture((view, SpaceView(view.last)))
    assert picture.title == "process 4321, over time"


# A report


def reported(names: Sequence[str] = ("x", "y")) -> Report:
    regions = [region(0x10000 * (1 + at), 2, protection=Protection(7), **used(PAGE)) for at, _ in enumerate(names)]
    named = [each._replace(name=name) for each, name in zip(regions, names, strict=True)]
    files = [of_file(0x7F0000000000 + 0x10000 * at, 1, f"/{name}", **used(PAGE)) for at, name in enumerate(names)]
    space = space_of([*named, *files]).named(names[0])
    scene = scene_of(space)
    return Report(scene, summary_of(scene), vmatlas.audit(space))


def test_a_report_has_findings_totals_and_the_picture():
    report = reported()
    untold = Untold(report.audit[0].rule, "nobody was asked")
    report = replace(report, audit=replace(report.audit, untold=(untold,)))
    page = tree(report.html())
    text = " ".join("".join(page.itertext()).split())
    assert "writable-and-executable" in text and "/x" in text
    assert "What could not be told: writable-and-executable: nobody was asked" in text
    assert {each.get("href") for each in page.iter("a")} == {"#findings", "#use", "#picture"}
    assert {"findings", "use", "picture"} <= {each.get("id") for each in page.iter()}
    assert [each.get("hidden") for each in page.iter("article")] == [None, None]
    assert not list(page.iter("select"))
    assert repr(report) == "<Report of process 4321 (x): 2 findings>"


def reported_series() -> tuple[Report, CourseView, list[tuple[float, AddressSpace]]]:
    """A report on a series, what it draws, and what its trends are of."""
    view = growing(12)
    spaces = [(float(at), space_of([region(0x10000, 4 + at, **used(4 * PAGE + at * PAGE))])) for at in range(12)]
    trends = vmatlas.trends(spaces)
    return Report(view.last, summary_of(view.last), vmatlas.audit(view.last.space), trends, view), view, spaces


def test_a_report_on_a_series_tells_what_grows():
    report, view, spaces = reported_series()
    text = " ".join("".join(tree(report.html()).itertext()).split())
    assert "grows" in text and "over time" in text and "+44K" in text  # gained in all
    steady = vmatlas.trends([(float(at), spaces[0][1]) for at in range(5)])
    still = Report(view.last, summary_of(view.last), vmatlas.audit(view.last.space), steady, view)
    assert "Nothing grows nor shrinks" in still.html()


# The treemap


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=30))
def test_areas_of_a_treemap_are_as_their_values_and_fill_their_box(values):
    values.sort(reverse=True)
    into = Box(2, 3, 320, 100)
    boxes = squarified(values, into)
    scale = into.width * into.height / sum(values)
    for value, box in zip(values, boxes, strict=True):
        assert math.isclose(box.width * box.height, value * scale, rel_tol=1e-6, abs_tol=1e-6)
        assert into.x - 1e-6 <= box.x and box.x + box.width <= into.x + into.width + 1e-6
        assert into.y - 1e-6 <= box.y and box.y + box.height <= into.y + into.height + 1e-6
    assert math.isclose(sum(box.width * box.height for box in boxes), into.width * into.height, rel_tol=1e-6)


def test_boxes_of_a_treemap_are_near_to_squares():
    boxes = squarified([6, 6, 4, 3, 2, 2, 1], Box(0, 0, 6, 4))  # the example of the paper
    assert max(max(box.width / box.height, box.height / box.width) for box in boxes) < 3


# Colours


@pytest.mark.parametrize("by", SEEN_BY)
@pytest.mark.parametrize(("palette", "ground"), [(LIGHT, LIGHT_GROUND), (DARK, DARK_GROUND)], ids=["light", "dark"])
def test_colours_of_sorts_are_told_apart_by_everybody(palette, ground, by):
    """20 is ten times what the eye can just tell; 15 from the ground for what is hatched besides."""
    for quiet, looks in ((Sort.RESERVED, Sort), (Became.SAME, Became)):
        filled = {look: seen(palette[look], by) for look in looks if look is not quiet}
        for one, other in combinations(filled, 2):
            assert math.dist(filled[one], filled[other]) >= 20, (one, other)
        for look, colour in filled.items():
            assert math.dist(colour, seen(ground, by)) >= 20, look
        assert math.dist(seen(palette[quiet], by), seen(ground, by)) >= 8


def test_every_colour_has_words_and_a_letter():
    everything = {*Sort, *Became}
    assert set(LIGHT) == set(DARK) == set(SAYS) == set(LETTERS) == everything
    for looks in (Sort, Became):
        assert len({LETTERS[look] for look in looks}) == len(looks)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_text_on_every_colour_can_be_read(palette):
    for colour in palette.values():
        assert contrast(colour, ink_on(colour)) >= 4.5, colour


# The renderers


def hostile_scene() -> Scene:
    regions = [of_file(0x1000 * (1 + 2 * each), 1, f"/{name}", **used(PAGE)) for each, name in enumerate(HOSTILE)]
    at = regions[-1].end + PAGE
    regions += [region(at + 0x2000 * each, 1, name=name, **used(PAGE)) for each, name in enumerate(HOSTILE)]
    nameless = region(regions[-1].end + PAGE, 1, **used(PAGE))
    guess = Guess(f"stack of {HOSTILE[0]}", HOSTILE[1], (HOSTILE[2],), Certainty.STRONG, "x")
    space = space_of([*regions, nameless]).named("".join(HOSTILE))
    object.__setattr__(space.origin, "incomplete", HOSTILE[0])
    object.__setattr__(space.origin, "target", HOSTILE[3])
    return scene_of(space, guesses={nameless.start: guess}, notes=HOSTILE)


def plain_scene() -> Scene:
    """The same shape with harmless words."""
    scene = hostile_scene()
    told = iter(range(1000))
    regions = [
        each._replace(path=f"/x{next(told)}" if each.path else None, name=f"y{next(told)}" if each.name else None)
        for each in scene.space
    ]
    space = space_of(regions).named("z")
    object.__setattr__(space.origin, "incomplete", "a")
    object.__setattr__(space.origin, "target", "b")
    last = regions[-1].start
    guess = Guess("stack of c", "d", ("e",), Certainty.STRONG, "x")
    return scene_of(space, guesses={last: guess}, notes=["f"] * len(HOSTILE))


def shape(root: ElementTree.Element) -> list[tuple[object, tuple[str, ...]]]:
    return [(element.tag, tuple(sorted(element.attrib))) for element in root.iter()]


def test_hostile_names_are_text_and_nothing_else_in_every_renderer():
    hostile, plain = rendered(hostile_scene()), rendered(plain_scene())
    assert shape(tree(hostile["html"])) == shape(tree(plain["html"]))
    assert shape(ElementTree.fromstring(hostile["svg"])) == shape(ElementTree.fromstring(plain["svg"]))
    assert len(hostile["txt"].splitlines()) >= len(plain["txt"].splitlines())
    for text in hostile.values():
        assert all(character.isprintable() or character == "\n" for character in text)
        assert "\u202e" not in text and "\\u202e" in text
    names = [f"/{name}" for name in HOSTILE]
    before = [of_file(0x1000 * (1 + 2 * each), 1, name) for each, name in enumerate(names)]
    after = [of_file(0x800000 + 0x1000 * (1 + 2 * each), 2, name) for each, name in enumerate(names)]
    view = comparison(vmatlas.diff(space_of(before).named(HOSTILE[0]), space_of(after).named(HOSTILE[0])))
    harmless = [[each._replace(path=f"/x{each.start}") for each in listed] for listed in (before, after)]
    other = comparison(vmatlas.diff(*map(space_of, harmless)))
    assert shape(tree(view.article())) == shape(tree(other.article()))
    assert "<script>alert" not in view.article() and all(each.isprintable() or each == "\n" for each in view.article())
    ElementTree.fromstring(view.drawing())

    def called(names: Sequence[str]) -> CourseView:
        spaces = [
            space_of(
                [region(0x1000 * (1 + 2 * at), 1, name=name, **used(PAGE * turn)) for at, name in enumerate(names)]
            )
            for turn in (0, 1)
        ]
        return course(spaces.__getitem__, [0, 1], [0, 1])

    over_time, harmless_course = called(HOSTILE), called([f"x{each}" for each in range(len(HOSTILE))])
    assert shape(tree(over_time.article())) == shape(tree(harmless_course.article()))
    assert shape(ElementTree.fromstring(over_time.drawing())) == shape(
        ElementTree.fromstring(harmless_course.drawing())
    )
    assert all(each.isprintable() or each == "\n" for each in over_time.article() + over_time.drawing())
    told, told_plainly = reported(HOSTILE).html(), reported([f"x{each}" for each in range(len(HOSTILE))]).html()
    assert shape(tree(told)) == shape(tree(told_plainly))
    assert all(each.isprintable() or each == "\n" for each in told)
    notebook = Picture((SpaceView(hostile_scene()),))._repr_html_()
    [frame] = tree(notebook).iter("iframe")
    assert frame.get("srcdoc") == hostile["html"] and frame.get("sandbox") == "allow-scripts"


@given(st.text())
def test_json_in_the_page_ends_no_element_and_is_read_back(text):
    written = as_json({"x": text})
    assert not set("<>&") & set(written) and written.isascii()
    assert json.loads(written) == {"x": text}


def test_page_allows_nothing_from_outside_and_only_its_own_script_and_style():
    page = rendered(hostile_scene())["html"]
    root = tree(page)
    [policy] = [
        each.get("content") for each in root.iter("meta") if each.get("http-equiv") == "Content-Security-Policy"
    ]
    told = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert set(told) == {"default-src", "style-src", "script-src", "base-uri", "form-action"}
    assert told["default-src"] == told["base-uri"] == told["form-action"] == "'none'"
    for name in ("script", "style"):
        texts = [each.text or "" for each in root.iter(name) if each.get("type") != "application/json"]
        [digest] = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
        assert told[f"{name}-src"] == f"'sha256-{digest}'"
    assert not [
        each for each in root.iter() if set(each.attrib) & {"src", "href", "style"} or each.tag in ("link", "img")
    ]
    script = next(each.text or "" for each in root.iter("script") if each.get("type") != "application/json")
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval",
        "fetch(",
        "XMLHttp",
        "import(",
    ):
        assert word not in script


@given(spaces)
def test_data_in_the_page_tell_every_region_exactly(space):
    data = data_of(rendered(scene_of(space))["html"])
    grain, at, found = data["grain"], 0, []
    for gap, size, rights, name in zip(data["gap"], data["size"], data["rights"], data["name"], strict=True):
        start = at + int(gap) * grain
        at = start + int(size) * grain
        found.append((start, at, data["strings"][rights], data["strings"][name]))
    escape = vmatlas.legible.escape
    assert found == [(each.start, each.end, each.permissions, escape(each.label)) for each in space]
    resident = data["memory"].get("resident")
    told = [each.resident for each in space]
    if resident is None:
        assert not any(told)
    else:
        assert [None if each is None else each * data["unit"] for each in resident] == told
    assert all(not isinstance(each, int) or each < 2**53 for key in ("gap", "size") for each in data[key])


def test_page_of_a_thousand_regions_is_smaller_than_300_000_bytes():
    space = space_of(many(1000))
    told = PageState.PRESENT | PageState.SWAPPED
    runs = [
        PageRun(at, at + PAGE, PageState.PRESENT, told)
        for each in space
        for at in range(each.start, each.end, 4 * PAGE)
    ]
    pages = PageRuns.of(runs, ORIGIN, told)
    assert len(pages) > 7000
    page = pictures([scene_of(space, pages=pages)]).html()
    assert len(page.encode()) < 300_000
    assert len(pictures([scene_of(space, pages=pages)]).svg().encode()) < 2_000_000


def test_regions_too_small_to_be_seen_are_drawn_as_the_pixel_that_they_share(monkeypatch):
    monkeypatch.setattr(svg, "_INNER", 60)
    drawing = ElementTree.fromstring(pictures([scene_of(space_of(many(4000)))]).svg())
    assert 100 < len(list(drawing.iter())) < 16 * 60 * 4  # at most a ground, a light part and a full one for each pixel


@pytest.mark.parametrize("width", [40, 60, 79, 200])
@pytest.mark.parametrize("colours", [False, True])
def test_no_line_of_text_is_wider_than_it_may_be(width, colours):
    for view in (SpaceView(scene_of(space_of(many(300)))), compared(), growing(40)):
        lines = ["".join(span.text for span in line) for line in view.lines(width, colours=colours)]
        assert max(map(len, lines)) <= width, [line for line in lines if len(line) > width]


# The value


def test_a_picture_is_saved_as_the_ending_says(tmp_path):
    picture = vmatlas.picture(space_of(many(20)))
    for name, begins in (
        ("a.html", "<!DOCTYPE html>"),
        ("a.htm", "<!DOCTYPE"),
        ("a.svg", "<?xml"),
        ("a.TXT", "process"),
    ):
        picture.save(tmp_path / name)
        assert (tmp_path / name).read_text("utf-8").startswith(begins)
        assert (tmp_path / name).stat().st_mode & 0o077 == 0
    with pytest.raises(FileExistsError):
        picture.save(tmp_path / "a.svg", replace=False)
    with pytest.raises(vmatlas.UsageError, match="is no name of a picture"):
        format_of("a.png")


def test_several_are_on_one_page_and_not_in_one_drawing():
    several = pictures([scene_of(space_of(many(3))), scene_of(space_of(many(4)))])
    articles = list(tree(several.html()).iter("article"))
    assert [each.get("hidden") for each in articles] == [None, ""]
    assert several.text().count("process 4321") == 2
    with pytest.raises(vmatlas.UsageError, match="one SVG file shows one picture"):
        several.svg()
    with pytest.raises(vmatlas.UsageError):
        pictures([])


def test_a_picture_is_made_of_whatever_has_a_map():
    with vmatlas.open() as process:
        whole = process.snapshot(residency=True)
        for what in (None, process, process.capture(residency=True), whole):
            picture = vmatlas.picture(what)
            assert "[stack]" in picture.text()
            assert repr(picture).startswith("<Picture of process")
        pages = process.pages_in(whole)
        assert vmatlas.picture(whole, pages=pages).views[0].scene.marks
        with pytest.raises(vmatlas.UsageError, match="pages go with the map"):
            vmatlas.picture(process, pages=pages)
    for wrong in ("1234", 1.5, object()):
        with pytest.raises(vmatlas.UsageError):
            vmatlas.picture(wrong)
    with pytest.raises(vmatlas.UsageError, match="are no runs of pages"):
        vmatlas.picture(whole, pages=[1])
