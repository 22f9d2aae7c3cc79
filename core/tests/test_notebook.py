"""What a notebook shows of values: short tables, in which names are text and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import vmatlas
from vmatlas import PageRun, PageRuns, PageState, Protection, operations
from vmatlas.picture.notebook import MOST, shown

from .strategies import ORIGIN, space_of
from .test_picture import HOSTILE, PAGE, many, of_file, region, shape, tree, used

TOLD = PageState.PRESENT | PageState.GUARD


def values(name: Callable[[int], str]) -> dict[str, object]:
    """One of each, of which everything that may be called anything is called so."""
    number = len(HOSTILE)
    files = [of_file(0x10000 * (1 + at), 2, f"/{name(at)}", **used(PAGE)) for at in range(number)]
    code = [region(0x7F0000000000 + 0x10000 * at, 1, protection=Protection(7), name=name(at)) for at in range(number)]
    space = space_of([*files, *code]).named(name(0))
    later = space_of([*(each._replace(end=each.end + PAGE) for each in files), *code[1:]])
    report = vmatlas.audit(space)
    runs = [PageRun(0x10000, 0x11000, PageState.PRESENT, TOLD), PageRun(0x20000, 0x21000, PageState.GUARD, TOLD)]
    return {
        "AddressSpace": space,
        "Region": files[0],
        "nameless Region": region(0x1000, 1),
        "Difference": vmatlas.diff(space, later),
        "no Difference": vmatlas.diff(space, space),
        "Summary": vmatlas.summarize(space),
        "AuditReport": report,
        "Finding": report[0],
        "PageRuns": PageRuns.of(runs, ORIGIN, TOLD),
        "Fault": operations.classify_fault(files[0].end + 1, space),
    }


def html_of(value: object) -> str:
    told: str = value._repr_html_()  # type: ignore[attr-defined]
    return told


@pytest.mark.parametrize("what", values(str))
def test_hostile_names_are_text_in_every_table(what):
    hostile, plain = html_of(values(HOSTILE.__getitem__)[what]), html_of(values(lambda at: f"x{at}")[what])
    assert shape(tree(hostile)) == shape(tree(plain))
    assert all(each.isprintable() or each == "\n" for each in hostile)
    assert not [each for each in tree(hostile).iter() if each.tag in ("script", "style", "link", "img", "iframe")]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("AddressSpace", ("process 4321 (0): 26 regions", "/0", "and 14 more", "file", "r--p")),
        ("Region", ("10000-12000", "r--p", "8K", "4K", "file", "/0")),
        ("nameless Region", ("1000-2000", "\u2013", "anonymous")),
        ("Difference", ("14 changes", "grown", "+4K", "and 2 more")),
        ("no Difference", ("0 changes",)),
        ("Summary", ("data", "read-only", "all", "26")),
        ("AuditReport", ("high", "writable-and-executable", "findings", "could not be told")),
        ("Finding", ("high", "writable-and-executable")),
        ("PageRuns", ("2 runs of pages, 8K", "present 4K", "guard")),
        ("Fault", ("before", "after", "/0", "/1")),
    ],
)
def test_a_table_tells_what_there_is(what, words):
    told = " ".join(" ".join(tree(html_of(values(str)[what])).itertext()).split())
    for word in words:
        assert word in told


def test_a_table_is_short_whatever_there_is():
    space = space_of(many(5000))
    page = tree(html_of(space))
    assert len(list(page.iter("tr"))) == MOST + 2
    assert "and 4,988 more" in html_of(space)
    assert len(html_of(space)) < 20_000
    with pytest.raises(TypeError):
        shown(1)


def test_what_has_a_map_draws_itself(tmp_path):
    with vmatlas.open() as process:
        capture = process.capture()
        space = process.snapshot()
        for each in (process, capture, space, vmatlas.diff(space, space)):
            assert each.picture().svg().startswith("<?xml")
        list(vmatlas.record_series(process, tmp_path / "x.vmatlas", every=0, seconds=0.01))
    with vmatlas.Series.open(tmp_path / "x.vmatlas") as series:
        assert "over time" in series.picture().title
