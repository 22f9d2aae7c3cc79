"""What the documentation site is made with; `invoke site` makes it, and CI does."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def program(path: str) -> dict[str, Any]:
    sys.path.insert(0, str(ROOT / "ci"))
    try:
        return runpy.run_path(str(ROOT / path))
    finally:
        sys.path.remove(str(ROOT / "ci"))


def test_a_docstring_is_text_with_code_and_examples_and_no_sign_of_it_means_anything_else() -> None:
    reformed = program("docs/site/docstrings.py")["reformed"]
    told = [
        "All of `*args` and **criteria | of x_.",
        "",
        "    for each in it:",
        "        print(each)",
        "",
        "    more",
        "",
        "End.",
    ]
    assert reformed(told) == [
        "All of ``*args`` and \\*\\*criteria \\| of x\\_.",
        "",
        "::",
        "",
        "    for each in it:",
        "        print(each)",
        "",
        "    more",
        "",
        "",
        "End.",
        "",
    ]


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/b.html").write_text('<h1 id="there">b</h1><a href="../a.html#x">a</a>')
    (tmp_path / "a.html").write_text(
        '<p id="x"><a href="docs/b.html#there">1</a><a href="docs/b.html#gone">2</a><a href="c.html">3</a>'
        '<a href="#y">4</a>'
        '<a href="https://example.org/">5</a><img src="docs/b.html"><script src="none.js?v=1"></script>'
        '<link href="docs/b.html?v=2">'
    )
    dead = sorted(program("ci/site.py")["dead_links"](tmp_path))
    assert dead == ["a.html: #y", "a.html: c.html", "a.html: docs/b.html#gone", "a.html: none.js?v=1"]


def test_what_scrolls_can_be_reached_by_keys_and_every_landmark_and_heading_has_what_tells_it() -> None:
    """As furo and Sphinx write them; by the rules of axe, which found nothing else on the pages that it was run on."""
    page = (
        '<aside class="sidebar-drawer"><p class="caption" role="heading"><span>Begin</span></p></aside>'
        '<div class="highlight-none notranslate"><div class="highlight"><pre><span></span>code</pre></div></div>'
        '<div class="table-wrapper colwidths-auto docutils container"><table></table></div>'
        '<div id="search-results"></div><aside class="toc-drawer"></aside>'
        '<span class="sig-paren">(</span>\n\n<dl>\n<dd>one</dd></dl><dl class="py class"></dl>'
    )
    assert program("ci/site.py")["mended"](page) == (
        '<aside class="sidebar-drawer" aria-label="all pages">'
        '<p class="caption" role="heading" aria-level="2"><span>Begin</span></p></aside>'
        '<div class="highlight-none notranslate"><div class="highlight">'
        '<pre tabindex="0"><span></span>code</pre></div></div>'
        '<div class="table-wrapper colwidths-auto docutils container" tabindex="0"><table></table></div>'
        '<h1>Search</h1>\n<div id="search-results"></div><aside class="toc-drawer" aria-label="on this page"></aside>'
        '<span class="sig-paren">(</span>\n\n<dl role="presentation">\n<dd>one</dd></dl><dl class="py class"></dl>'
    )


def test_every_page_has_a_place_in_the_menu_that_there_is_a_document_for() -> None:
    site = program("ci/site.py")
    pages = [site["_page"](page) for pages in site["MENU"].values() for page in pages]
    assert len(set(pages)) == len(pages)
    made = {"docs/reference/api", "docs/reference/commands", "docs/reference/machines"}
    assert [page for page in pages if page not in made and not (ROOT / f"{page}.md").is_file()] == []
