"""What lies inside regions: a line of totals for each, and one region drawn page by page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vmatlas.cli.render.maps import origin_json
from vmatlas.cli.render.regions import REGION_CSV, amount, region_json, regions_table
from vmatlas.cli.render.table import Column, Row, Table
from vmatlas.cli.render.text import NOTHING, range_text, size_text
from vmatlas.model import AddressSpace, Region
from vmatlas.model.pages import USUAL, PageRun, PageRuns, PageState

_LETTERS = 64
"""At the most, for one region."""

_DRAWN = (
    (PageState.GUARD, "G"),
    (PageState.SWAPPED, "S"),
    (PageState.ZERO, "0"),
    (PageState.HUGE, "H"),
    (PageState.PRESENT, "#"),
)
"""The first state that a page is in has its letter."""

_NONE, _OTHER, _MIXED, _GUARD_AMONG = ".", "d", "+", "g"


def untold(runs: PageRuns) -> list[str]:
    """The states that are asked for when nothing is said, and are not told here."""
    return (USUAL & ~runs.told).words


def _sums(runs: PageRuns, told: PageState) -> list[int]:
    sums = runs.sums()
    return [sums[state] for state in told]


def pages_table(space: AddressSpace, runs: PageRuns, *, exact: bool) -> Table:
    """A line for each region, with the bytes in each state; the sums below."""
    told = [state for state in PageState if state & runs.told]
    columns = [Column(state.words[0].upper(), right=True) for state in told]

    def cells(of: PageRuns) -> list[str]:
        return [amount(size, exact=exact) for size in _sums(of, runs.told)]

    rows = [(region, cells(runs.of_region(region))) for region in space]
    return regions_table(space, columns, rows, cells(runs), exact=exact)


def region_tables(space: AddressSpace, runs: PageRuns, *, exact: bool) -> list[Table]:
    """Of a map of one region: its totals, how it looks, and its runs one by one, with what lies between them."""
    totals = pages_table(space, runs, exact=exact)
    totals = totals._replace(rows=[row for row in totals.rows if row.style != "heading"], feet=0)
    page = space.system.page_size
    tables = [totals]
    for region in space:
        drawn, each = blocks(region, runs, page)
        shown = Row((drawn, f"{each:,} {'page' if each == 1 else 'pages'}"))
        tables.append(Table((Column("BLOCKS"), Column("A LETTER IS", leaves=1)), [shown]))
        rows = [
            Row((range_text(start, end), size_text(end - start, exact=exact), f"{(end - start) // page:,}", words))
            for start, end, words in _parts(region, runs)
        ]
        tables.append(
            Table((Column("RANGE"), Column("SIZE", right=True), Column("PAGES", right=True), Column("STATE")), rows)
        )
    return tables


def _parts(region: Region, runs: PageRuns) -> Iterator[tuple[int, int, str]]:
    """The whole of a region: its runs, and what is in none."""
    at = region.start
    for run in runs.of_region(region):
        if at < run.start:
            yield at, run.start, NOTHING
        yield run.start, run.end, " ".join(run.state.words)
        at = run.end
    if at < region.end:
        yield at, region.end, NOTHING


def blocks(region: Region, runs: PageRuns, page: int) -> tuple[str, int]:
    """A region drawn from its start to its end, and how many pages a letter stands for."""
    pages = -(-region.size // page)
    each = -(-pages // _LETTERS)
    drawn: list[str] = []
    inside: Sequence[PageRun] = runs.of_region(region)
    row = 0
    for start in range(region.start, region.end, each * page):
        end = min(start + each * page, region.end)
        while row < len(inside) and inside[row].end <= start:
            row += 1
        letters: set[str] = set()
        covered, here = 0, row
        while here < len(inside) and inside[here].start < end:
            run = inside[here]
            letters.add(_letter(run.state))
            covered += min(run.end, end) - max(run.start, start)
            here += 1
        if covered < end - start:
            letters.add(_NONE)
        drawn.append(letters.pop() if len(letters) == 1 else _GUARD_AMONG if "G" in letters else _MIXED)
    return "".join(drawn), each


def _letter(state: PageState) -> str:
    return next((letter for each, letter in _DRAWN if each & state), _OTHER)


def pages_json(space: AddressSpace, runs: PageRuns) -> dict[str, Any]:
    """Where the map comes from; its regions, each with the bytes in each state (null: not told), and its runs."""
    value = origin_json(space)
    value["pages_backend"] = runs.origin.backend
    value["told"] = runs.told.words
    value["regions"] = [
        {**_region_json(region, within), "runs": _runs_json(within)}
        for region, within in ((region, runs.of_region(region)) for region in space)
    ]
    value["totals"] = _states_json(runs)
    return value


def _states_json(runs: PageRuns) -> dict[str, int | None]:
    sums = runs.sums()
    return {(state.name or "").lower(): sums.get(state) for state in PageState}


def _region_json(region: Region, runs: PageRuns) -> dict[str, Any]:
    return {
        **region_json(region),
        "pages": _states_json(runs),
    }


def _runs_json(runs: PageRuns) -> list[dict[str, Any]]:
    return [{"start": run.start, "end": run.end, "states": run.state.words} for run in runs]


def pages_csv(space: AddressSpace, runs: PageRuns, *, by_run: bool) -> tuple[list[str], list[dict[str, Any]]]:
    """Titles and rows: a row for each region, or for each run; sizes and addresses are decimal numbers."""
    rows: list[dict[str, Any]] = (
        [row for region in space for row in runs.of_region(region).to_dicts()]
        if by_run
        else [_flat(_region_json(region, runs.of_region(region))) for region in space]
    )
    states = [(state.name or "").lower() for state in PageState]
    own = ["start", "end", "size"] if by_run else REGION_CSV
    return [*own, *states, *([] if by_run else ["path", "name"])], rows


def _flat(told: dict[str, Any]) -> dict[str, Any]:
    return {**told, **told["pages"]}
