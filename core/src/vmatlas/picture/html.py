"""A picture as one HTML file: everything is in it, and it asks nobody for anything. Pure.

What it shows of a process is text and nothing else. Names have gone through `legible.escape` in the scene; what stands
in markup here is quoted (`html.escape`), what the script is given is JSON in which no `<` stands, and the script puts
it in as text. The page's own policy (CSP) allows the one style and the one script that are in it, by their digests,
and nothing from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape as quoted
from importlib.resources import files
from typing import Any

from vmatlas.legible import count, escape, human
from vmatlas.model import Protection, Region
from vmatlas.model.memory import FIELDS
from vmatlas.picture.palette import DARK, DARK_GROUND, LIGHT, LIGHT_GROUND, SAYS, Became, Look
from vmatlas.picture.scene import Node, PageMark, Piece, Scene, SortTotal, short_of
from vmatlas.picture.treemap import Box, squarified

_WX = int(Protection.WRITE | Protection.EXECUTE)
_PAGE_MARKS = ("present", "huge", "swapped", "guard", "zero")
"""As numbers in the data."""

MEASURES = {
    "resident": "in memory",
    "private": "private",
    "proportional": "proportional (PSS)",
    "swapped": "in swap",
    "swapped_proportional": "in swap, proportional",
    "dirty": "changed",
    "anonymous": "of no file",
    "file": "of files",
    "shared_memory": "of shared memory",
    "huge": "in huge pages",
    "hugetlb": "in pages of hugetlb",
    "locked": "locked",
}
"""What each number of the memory in use is called."""

_TITLES = {"resident": "in memory", "private": "private", "swapped": "swap"}
"""Of columns of the list."""


def page(title: str, articles: Sequence[tuple[str, str]], *, together: bool = False) -> str:
    """The whole page, of articles each with what it is called; of several one is shown, and the others to be chosen,
    unless they stand `together`."""
    style = f"{look()}\n{_file('atlas.css')}\n{_colours()}"
    script = _file("atlas.js")
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; base-uri 'none'; "
        "form-action 'none'"
    )
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
        f'<meta http-equiv="Content-Security-Policy" content="{quoted(policy)}">\n',
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
        '<meta name="referrer" content="no-referrer">\n',
        f'<meta name="generator" content="vmatlas">\n<title>{quoted(title)}</title>\n<style>{style}</style>\n</head>\n',
        "<body>\n<main>\n",
    ]
    if len(articles) > 1 and not together:
        options = "".join(
            f'<option value="{number}">{quoted(name)}</option>' for number, (name, _) in enumerate(articles)
        )
        parts.append(f'<p class="choose"><label>Shown: <select>{options}</select></label></p>\n')
    for number, (_, article) in enumerate(articles):
        parts.append(f'<article class="view"{" hidden" if number and not together else ""}>\n{article}</article>\n')
    parts.append("</main>\n")
    parts.append(f'<script type="application/json" id="palettes">{as_json(_palettes())}</script>\n')
    parts.append(f"<script>{script}</script>\n</body>\n</html>\n")
    return "".join(parts)


def look() -> str:
    """The style that all of our pages share, those of other distributions too: custom properties, by daylight, at night
    and on paper."""
    return _file("look.css")


def space_article(scene: Scene) -> str:
    """Of one address space: totals, the map, what is in memory, the list."""
    return "".join(
        (
            head(scene.title, scene.origin, scene.says, scene.notes),
            totals_section(scene),
            map_section(scene),
            treemap_section(scene),
            list_section(scene),
            data_script(space_data(scene)),
        )
    )


def head(title: str, origin: str, says: str, notes: Iterable[str]) -> str:
    """What stands above an article."""
    listed = "".join(f"<li>{quoted(note)}</li>" for note in notes)
    return (
        f'<header>\n<h1 class="name">{quoted(title)}</h1>\n<p>{quoted(says)}</p>\n'
        f'<p class="quiet name">{quoted(origin)}</p>\n'
        + (f'<ul class="notes">{listed}</ul>\n' if listed else "")
        + "</header>\n"
    )


def data_script(data: dict[str, Any]) -> str:
    """What the script is given."""
    return f'<script type="application/json" class="data">{as_json(data)}</script>\n'


def as_json(value: object) -> str:
    """JSON that ends no element and begins none."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


# Totals


def totals_section(scene: Scene) -> str:
    """The table by sort, and what is known of the gaps."""
    whole = scene.whole
    use = whole.total.memory.use
    columns: list[tuple[str, str, Any]] = [
        ("size", "addresses that are mapped", lambda each: each.total.size),
        ("committed", "mapped with some right: all but guards and reserved addresses", lambda each: each.committed),
    ]
    if use.resident is not None:
        columns.append(("in memory", "pages that are in memory now", lambda each: each.total.resident))
    if use.private is not None:
        told = "in memory, and mapped by nobody else: free when it ends"
        columns.append(("private", told, lambda each: each.total.private_resident))
        columns.append(("shared", "in memory, and mapped by others too", lambda each: each.shared))
    if use.proportional is not None:
        told = "in memory, each page divided by the number of its mappings (PSS)"
        columns.append(("proportional", told, lambda each: each.total.proportional))
    if use.swapped:
        columns.append(("swap", "in swap", lambda each: each.total.memory.use.swapped))
    rare = {"committed": ' class="rare"', "shared": ' class="rare"', "proportional": ' class="rare"'}
    titles = "".join(
        f'<th scope="col"{rare.get(name, "")} title="{quoted(says)}">{name}</th>' for name, says, _ in columns
    )
    tells = use.resident is not None
    most = max((_weight(each, tells) for each in scene.totals), default=0) or 1

    def line(each: SortTotal) -> str:
        told = [(rare.get(name, ""), tell(each)) for name, _, tell in columns]
        cells = "".join(f"<td{style}{_exact(value)}>{_size(value)}</td>" for style, value in told)
        if each.sort is None:
            first = '<th scope="row">all</th><td class="bar"></td>'
        else:
            key = each.sort.value
            first = (
                f'<th scope="row"><button type="button" data-sort="{key}" aria-pressed="false" '
                f'title="{quoted(SAYS[each.sort])}: show these alone">{swatch(each.sort)}{key}</button></th>'
                f'<td class="bar">{_bar(each, most, tells)}</td>'
            )
        largest = f"<td{_exact(each.largest)}>{_size(each.largest)}</td>"
        return f"<tr>{first}{cells}<td>{each.total.regions:,}</td>{largest}</tr>\n"

    body = "".join(map(line, scene.totals))
    return (
        '<section class="overview">\n'
        '<div class="wide" tabindex="0" role="group" aria-label="totals"><table class="totals">\n'
        '<thead><tr><th scope="col">sort</th>'
        f'<th scope="col" class="text bar">{"in memory" if tells else "size"}</th>{titles}'
        '<th scope="col">regions</th><th scope="col" title="the largest region">largest</th></tr></thead>\n'
        f"<tbody>\n{body}</tbody>\n<tfoot>{line(whole)}</tfoot>\n</table>"
        '<p class="quiet">Bytes, in powers of 1,024: 4K is 4,096. '
        f"{'' if tells else 'The memory in use is not told here. '}&ndash; is not told.</p></div>\n"
        f"{_facts(scene)}</section>\n"
    )


def _weight(each: SortTotal, tells: bool) -> int:
    return (each.total.resident or 0) if tells else each.total.size


def _bar(each: SortTotal, most: int, tells: bool) -> str:
    width = 100 * _weight(each, tells) / most
    return (
        f'<svg role="img" aria-label="{human(_weight(each, tells))}"><rect width="{width:.2f}%" height="100%" '
        f'class="is-{each.sort.value if each.sort else ""}"/></svg>'
    )


def _facts(scene: Scene) -> str:
    facts: list[tuple[str, str]] = []
    regions = scene.pieces
    if regions:
        facts.append(("lowest address", f"{regions[0].region.start:x}"))
        facts.append(("highest address", f"{regions[-1].region.end:x}"))
        facts.append(("free between regions", f"{human(scene.free)} in {count(scene.gaps, 'gap')}"))
    if scene.largest_gap is not None:
        facts.append(("largest free gap", f"{human(scene.largest_gap.size)} at {scene.largest_gap.start:x}"))
        rest = 1 - scene.largest_gap.size / scene.free
        facts.append(("free, and not in that gap", f"{human(scene.free - scene.largest_gap.size)} ({rest:.1%})"))
    if scene.guards is not None:
        facts.append(("guards that no map shows", human(scene.guards)))
    wx = sum(int(each.region.protection) & _WX == _WX for each in regions)
    facts.append(("writable and executable", count(wx, "region")))
    facts.append(("page size", human(scene.space.system.page_size)))
    listed = "".join(f"<div><dt>{quoted(term)}</dt><dd>{quoted(told)}</dd></div>\n" for term, told in facts)
    return f'<dl class="facts">\n{listed}</dl>\n'


def swatch(sort: Look) -> str:
    """A square of its colour."""
    return _square(f"is-{sort.value}")


def _square(style: str) -> str:
    return f'<svg class="swatch" aria-hidden="true"><rect width="100%" height="100%" class="{style}"/></svg>'


def _size(value: int | None) -> str:
    return "&ndash;" if value is None else human(value)


def _exact(value: int | None) -> str:
    return "" if value is None else f' title="{value:,} bytes"'


# The map


def map_section(scene: Scene, what: str = "Address space") -> str:
    """The map, with what finds one's way in it."""
    present = {total.sort for total in scene.totals}
    is_comparison = Became.SAME in scene.looks

    def item(sort: Look) -> str:
        """The name of one; where the table of totals is not there, it is what chooses them."""
        if not is_comparison:
            return f"<li>{swatch(sort)}{sort.value}</li>"
        return (
            f'<li><button type="button" class="pick" data-sort="{sort.value}" aria-pressed="false" '
            f'title="{quoted(SAYS[sort])}: show these alone">{swatch(sort)}{sort.value}</button></li>'
        )

    items = [item(sort) for sort in scene.looks if sort in present]
    if scene.marks is not None:
        items.append("<li>full: in memory, page by page; light: not in memory</li>")
        items.append("<li>a band at the top: in swap; at the bottom: the shared page of zeros</li>")
        if scene.guards:
            items.append("<li>an empty box: a guard that no map shows</li>")
    elif scene.tree_tells_memory:
        items.append("<li>filled from below to the part that is in memory</li>")
    else:
        items.append("<li>what is in memory is not told here</li>")
    items.append("<li>a thin line: free addresses, long gaps folded</li>")
    if scene.folds:
        items.append(f"<li>//: {scene.folds}, folded to that length</li>")
    return (
        f"<section>\n<h2>{what} <small>from low to high, line by line, to scale but for what is folded</small>"
        "</h2>\n"
        '<div class="tools"><input type="search" placeholder="name, address, rwx, heap, size&gt;1M" '
        'aria-label="search: a name, an address, rights, a sort, size>1M, used>1M" spellcheck="false" '
        'autocomplete="off">'
        '<span class="found" role="status"></span>'
        '<span class="zoom"><button type="button" data-zoom="0.667" aria-label="zoom out">&minus;</button>'
        '<button type="button" data-zoom="1.5" aria-label="zoom in">+</button>'
        '<button type="button" data-zoom="0">all of it</button></span><span class="scale quiet"></span></div>\n'
        '<div class="stage"><div><div class="ribbon" tabindex="0" role="application" '
        'aria-label="the address space: arrow keys choose a region, plus and minus zoom">'
        '<canvas></canvas><div class="spacer"></div></div>\n'
        f'<ul class="legend">{"".join(items)}</ul>\n'
        '<p class="keys"><kbd>/</kbd> search, <kbd>Enter</kbd> the next that passes; in the map <kbd>&larr;</kbd> '
        "<kbd>&rarr;</kbd> <kbd>&uarr;</kbd> <kbd>&darr;</kbd> choose, <kbd>+</kbd> <kbd>&minus;</kbd> or "
        "<kbd>Ctrl</kbd> and the wheel zoom, <kbd>0</kbd> all of it. A filter has words with spaces between: "
        "<b>libc</b>, <b>7f00</b>, <b>rwx</b>, <b>r-x</b>, <b>heap</b>, <b>shared</b>, <b>guess</b>, "
        "<b>size&gt;1M</b>, <b>used&gt;64K</b>, <b>swap&gt;0</b>; <b>!</b> turns one around.</p></div>\n"
        '<aside class="detail" aria-live="polite" aria-label="the region that is chosen"></aside></div>\n'
        '<div class="tag" hidden></div>\n<noscript><p>The map is drawn by the script in this page, which is not run. '
        "'vmatlas picture -o FILE.svg' draws one without.</p></noscript>\n</section>\n"
    )


# The treemap


def treemap_section(scene: Scene) -> str:
    """What is in memory, by sort, then by file and name."""
    what = "in memory" if scene.tree_tells_memory else "mapped (what is in memory is not told)"
    title = f"<h2>By sort, file and name <small>areas are as the bytes that are {what}</small></h2>\n"
    if not scene.tree:
        return f'<section>\n{title}<p class="empty">Nothing is {what}.</p>\n</section>\n'
    whole = sum(node.value for node in scene.tree)
    low = " low" if sum(len(node.children) for node in scene.tree) < 4 else ""
    parts = [f'<svg class="treemap{low}" role="img" aria-label="{quoted(f"a treemap of {human(whole)} {what}")}">\n']
    aspect = 3.2
    boxes = squarified([node.value for node in scene.tree], Box(0, 0, aspect, 1))
    for node, box in zip(scene.tree, boxes, strict=True):
        inner = squarified([child.value for child in node.children], box)
        for child, place in zip(node.children, inner, strict=True):
            parts.append(_cell(child, place, aspect, whole))
        parts.append(f'<rect class="group" {_place(box, aspect)}/>\n')
    parts.append("</svg>\n")
    return f"<section>\n{title}{''.join(parts)}</section>\n"


def _place(box: Box, aspect: float) -> str:
    return (
        f'x="{100 * box.x / aspect:.3f}%" y="{100 * box.y:.3f}%" '
        f'width="{100 * box.width / aspect:.3f}%" height="{100 * box.height:.3f}%"'
    )


def _cell(node: Node, box: Box, aspect: float, whole: int) -> str:
    size = human(node.value)
    short = short_of(node.label)
    text = ""
    if box.width / aspect > 0.035 and box.height > 0.06:
        text = f'<text x="6" y="16" class="on-{node.sort.value}">{quoted(short)}</text>'
        if box.height > 0.11:
            text += f'<text x="6" y="31" class="size on-{node.sort.value}">{size}</text>'
    told = f"{node.label}\n{node.sort.value}, {size}, {node.value / whole:.1%}"
    return (
        f'<svg {_place(box, aspect)}><g data-find="{quoted(node.find)}"><title>{quoted(told)}</title>'
        f'<rect class="cell is-{node.sort.value}" width="100%" height="100%"/>{text}</g></svg>\n'
    )


# The list


def list_section(scene: Scene) -> str:
    """The list of regions."""

    def title(by: str, name: str, kind: str = "") -> str:
        style = f' class="{kind}"' if kind else ""
        sorted_now = ' aria-sort="ascending"' if by == "start" else ""
        return f'<th scope="col"{style}{sorted_now}><button type="button" data-by="{by}">{name}</button></th>'

    look = "change" if Became.SAME in scene.looks else "sort"
    columns = "".join(title(key, _TITLES[key], "" if key == "resident" else "narrow") for key in _columns(scene))
    return (
        '<section>\n<h2>Regions</h2>\n<div class="list" tabindex="0" role="region" aria-label="the list of regions">'
        f"<table>\n<thead><tr>{title('start', 'addresses')}{title('size', 'size')}{columns}"
        f"{title('rights', 'rights', 'text narrow')}{title('sort', look, 'text narrow')}"
        f"{title('name', 'name', 'text label')}</tr></thead>\n<tbody></tbody>\n</table></div>\n"
        '<p class="empty list-empty" hidden></p>\n</section>\n'
    )


def _columns(scene: Scene) -> list[str]:
    told = scene.whole.total.memory.at_least
    return [key for key in _TITLES if (value := getattr(told, key)) is not None and (value or key != "swapped")]


# What the script is given


def space_data(scene: Scene) -> dict[str, Any]:
    """Everything of a scene in columns: numbers in pages where they are whole pages, each text once."""
    pieces = scene.pieces
    regions = [piece.region for piece in pieces]
    grain = math.gcd(scene.space.system.page_size, *(edge for each in regions for edge in (each.start, each.end)))
    looks = {look: number for number, look in enumerate(scene.looks)}
    strings: dict[str, int] = {}

    def text(value: str) -> int:
        return strings.setdefault(value, len(strings))

    guesses: dict[Any, int] = {}
    guessed = [
        -1 if piece.guess is None or piece.name else guesses.setdefault(piece.guess, len(guesses)) for piece in pieces
    ]
    gaps = [region.start - (regions[row - 1].end if row else 0) for row, region in enumerate(regions)]
    memory, unit = _memory(pieces)
    offsets = [region.offset if region.path is not None else None for region in regions]
    data: dict[str, Any] = {
        "type": "space",
        "grain": grain,
        "page": scene.space.system.page_size,
        "gap": [_number(gap // grain) for gap in gaps],
        "size": [_number((region.end - region.start) // grain) for region in regions],
        "sort": [looks[piece.sort] for piece in pieces],
        "name": [text(piece.name) for piece in pieces],
        "rights": [text(region.permissions) for region in regions],
        "about": [text("\n".join(filter(None, (piece.remark, _about(piece.region))))) for piece in pieces],
        "offset": [None if each is None else _number(each) for each in offsets],
        "memory": memory,
        "unit": unit,
        "drawn": {row: scene.ends[row] - scene.begins[row] for row in range(len(pieces)) if scene.is_folded(row)},
        "mark": scene.mark,
        "areas": [area.first for area in scene.areas],
        "columns": _columns(scene),
        "measures": [[key, MEASURES[key]] for key in memory],
        "sorts": [{"key": sort.value, "label": sort.value} for sort in looks],
        "strings": list(strings),
        "marks": None if scene.marks is None else _marks(scene, grain),
    }
    if guesses:
        data["guess"] = guessed
        data["guesses"] = [
            {
                "label": escape(guess.label),
                "common": escape(guess.group_label),
                "weak": guess.label.startswith("??"),
                "evidence": [escape(each) for each in guess.evidence],
            }
            for guess in guesses
        ]
    return data


def _number(value: int) -> int | str:
    """As a text where a number of JavaScript would not hold it."""
    return value if value < 2**53 else str(value)


def _memory(pieces: Sequence[Piece]) -> tuple[dict[str, list[int | None]], int]:
    """The columns that say anything, and in how many bytes they count."""
    uses = [piece.memory for piece in pieces]
    found = {}
    for key in MEASURES:
        place = FIELDS.index(key)
        column = [None if use is None else use[place] for use in uses]
        if any(column) or (key == "resident" and any(value is not None for value in column)):
            found[key] = column
    whole = all(not value % 1024 for column in found.values() for value in column if value)
    unit = 1024 if whole else 1
    return {key: [None if value is None else value // unit for value in column] for key, column in found.items()}, unit


def _about(region: Region) -> str:
    """What else is told of a region: lines of a term, a tab, and what is told."""
    told = []
    if region.deleted:
        told.append("its file\thas been unlinked")
    elif region.deleted is None:
        told.append("its file\tmay have been unlinked: nobody can tell")
    if region.inode is not None:
        told.append(f"inode\t{region.inode}" + ("" if region.device is None else f" on {region.device}"))
    if region.max_protection is not None:
        told.append(f"may become\t{region.max_protection.letters}")
    if region.page_size is not None:
        told.append(f"page size\t{human(region.page_size)}")
    if region.flags is not None:
        told.append(f"flags\t{escape(' '.join(region.flags.labels())) or 'none'}")
    if region.build_id is not None:
        told.append(f"build id\t{region.build_id.hex()}")
    return "\n".join(told)


def _marks(scene: Scene, grain: int) -> dict[int, list[int]]:
    """By row: where pages of a sort begin within the region, how many grains there are, and of which sort."""
    found: dict[int, list[int]] = {}

    def flat(start: int, marks: Sequence[PageMark]) -> list[int]:
        numbers: list[int] = []
        for mark in marks:
            numbers += [(mark.start - start) // grain, (mark.end - mark.start) // grain, _PAGE_MARKS.index(mark.what)]
        return numbers

    for row, marks in (scene.marks or {}).items():
        found[row] = flat(scene.pieces[row].region.start, marks)
    return found


# Colours


def _palettes() -> dict[str, Any]:
    def one(sorts: dict[Look, str], paper: str, ink: str, quiet: str, rule: str) -> dict[str, Any]:
        return {
            "paper": paper,
            "ink": ink,
            "quiet": quiet,
            "rule": rule,
            "sorts": {sort.value: colour for sort, colour in sorts.items()},
        }

    return {
        "light": one(LIGHT, LIGHT_GROUND, "#1b1f24", "#5b636d", "#c9ced5"),
        "dark": one(DARK, DARK_GROUND, "#e6e9ed", "#9aa4b0", "#3a424c"),
    }


def ink_on(colour: str) -> str:
    """Black or white, whichever can be read on a colour."""
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    light = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in (red, green, blue)]
    return "#000000" if 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2] > 0.18 else "#ffffff"


def _colours() -> str:
    """The style's part that the palette gives."""

    def rules(sorts: dict[Look, str]) -> str:
        return "\n".join(
            f".is-{sort.value} {{ fill: {colour}; }} .on-{sort.value} {{ fill: {ink_on(colour)}; }}"
            for sort, colour in sorts.items()
        )

    return f"{rules(LIGHT)}\n@media screen and (prefers-color-scheme: dark) {{\n{rules(DARK)}\n}}\n"


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"


@cache
def _file(name: str) -> str:
    return (files("vmatlas.picture") / name).read_text("utf-8")
