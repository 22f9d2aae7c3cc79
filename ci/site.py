"""The documentation as a site, of the documents as they stand: Sphinx, with furo.

    python ci/site.py [FOLDER]

What is read is laid together in a folder of its own, each file where it lies in the repository: so its links hold. Made
are the pages of the API by its docstrings, the commands by their help, the machines by the README's table.
A warning is an error; then every link of every page is followed, as far as it stays on the site. No network is asked.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lock import ROOT, SITE, environment

DOCUMENTS = (
    "docs/*.md", "docs/tutorials/*.md", "CHANGELOG.md", "findings/README.md", "images/README.md",
    "platforms/*/README.md", "core/agent/README.md", "core/agent/PROTOCOL.md", "core/agent/licenses/README.md",
)  # fmt: skip
_LINK = re.compile(r"\]\(([^)#:\s]+)(#[^)\s]*)?\)")
_TABLE = re.compile(r"<!-- machines: .*?-->\n(.*?)<!-- end of machines -->", re.S)

MENU = {
    "Begin": ["docs/install"],
    "Tutorials": [
        "Performance <docs/tutorials/performance>", "Security <docs/tutorials/security>",
        "Boards <docs/tutorials/embedded>", "Runtimes <docs/tutorials/runtime>",
        "Plugins <docs/tutorials/plugin-author>",
    ],
    "How to": [
        "Find a leak <docs/leak-hunt>", "Draw a picture <docs/picture>", "Plot a series <docs/plots>",
        "Audit <docs/audit>", "Explain a crash <docs/postmortem>", "Ask another machine <docs/targets>",
        "Ask many <docs/fleet>", "docs/operations", "docs/captures", "docs/add-a-platform", "docs/get-an-image",
        "docs/release",
    ],
    "Reference": [
        "docs/cli", "docs/reference/commands", "docs/python", "docs/reference/api", "core/agent/PROTOCOL", "CHANGELOG",
    ],
    "Explanation": ["docs/architecture", "docs/names", "docs/security", "docs/speed"],
    "Systems": [
        "docs/reference/machines", "images/README", "platforms/linux_procfs/README", "platforms/linux_ioctl/README",
        "platforms/linux_pagemap/README", "platforms/linux_memory/README", "platforms/freebsd/README",
        "platforms/netbsd/README", "platforms/qnx/README", "core/agent/README", "findings/README",
    ],
}  # fmt: skip
"""What is found beside every page, by what it is for: by its own title, or by another one."""

API = {
    "Questions": ("open", "snapshot", "find", "find_many", "neighbours", "iterate", "memory", "memories", "watch"),
    "Processes": ("processes", "select", "survey", "snapshots"),
    "Kept": ("capture", "replay", "replay_memory", "record_series"),
    "Comparison and findings": ("diff", "summarize", "audit", "trends", "symbolize_many", "recover", "name_regions"),
    "Elsewhere": ("connect",),
}
"""The functions by what they are for; every other function of the package stands below these."""

VALUES = {
    "processes": ("Processes", ("process", "api", "selection", "survey", "target", "backend")),
    "maps": ("Maps", ("model.region", "model.space", "model.filter", "model.query", "model.system")),
    "memory": ("Memory in use, and pages", ("model", "totals")),
    "kept": ("Captures and series", ("capture", "series")),
    "audit": ("Findings of an audit", ("analysis.audit",)),
    "comparisons": ("Comparison, sums and growth", ("analysis",)),
    "more": ("More values", ("",)),
}
"""Values by the modules that make them, a page each (all on one are nearly a megabyte): its name, its title, and how
the names of the modules begin. The first that fits has it."""


def lay_together(space: Path) -> None:
    """All that Sphinx reads."""
    for path in sorted({path for pattern in DOCUMENTS for path in ROOT.glob(pattern)}):
        _lay(path, space)
        for link in _LINK.findall(path.read_text("utf-8")):
            beside = (path.parent / link[0]).resolve()
            if beside.is_file() and beside.suffix != ".md" and beside.is_relative_to(ROOT):
                _lay(beside, space)
    sources, beside = ROOT / "core" / "src", shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(
        sources, space / "core" / "src", ignore=beside, dirs_exist_ok=True
    )  # a page may lead to one of them
    for path in (ROOT / "docs" / "site").iterdir():
        (shutil.copytree if path.is_dir() else shutil.copy)(path, space / path.name)
    made = space / "docs" / "reference"
    made.mkdir()
    for name, page in _api():
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).write_text(page, "utf-8")
    (made / "commands.md").write_text(_commands(), "utf-8")
    (made / "machines.md").write_text(_machines(), "utf-8")
    with (space / "index.md").open("a", encoding="utf-8") as first:
        first.write(_menu(space))


def _lay(path: Path, space: Path) -> None:
    place = space / path.relative_to(ROOT)
    place.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix != ".md":
        shutil.copy(path, place)
        return
    text = path.read_text("utf-8")

    def settled(found: re.Match[str]) -> str:
        """A link to the first page of the repository is one to that of the site; a folder is its README."""
        to = (path.parent / found[1]).resolve()
        if to in (ROOT / "README.md", ROOT / "core" / "README.md"):
            return f"]({os.path.relpath(ROOT / 'index.md', path.parent)})"
        if to.is_dir() and (to / "README.md").is_file():
            return f"]({os.path.relpath(to / 'README.md', path.parent)}{found[2] or ''})"
        return found[0]

    place.write_text(_LINK.sub(settled, text), "utf-8")


def _menu(space: Path) -> str:
    """The pages by what they are for; those that nobody has placed come last, so that none is lost."""
    there = {str(path.relative_to(space).with_suffix("")) for path in space.rglob("*.md")} - {"index"}
    # The pages of the API are listed by the first of them.
    there = {page for page in there if not page.startswith("docs/reference/api/")}
    placed = {name: [page for page in pages if _page(page) in there] for name, pages in MENU.items()}
    left = sorted(there - {_page(page) for pages in placed.values() for page in pages})
    return "".join(
        f"\n```{{toctree}}\n:hidden:\n:caption: {name}\n:maxdepth: 1\n\n"
        + "".join(page.replace("<", "</") + "\n" if "<" in page else f"/{page}\n" for page in pages) + "```\n"
        for name, pages in {**placed, "More": left}.items()
        if pages
    )  # fmt: skip


def _page(listed: str) -> str:
    return listed.rpartition("<")[2].rstrip(">")


def _api() -> Iterator[tuple[str, str]]:
    """The pages of the API, by their names."""
    import vmatlas

    values = {name: getattr(vmatlas, name) for name in vmatlas.__all__}
    classes = {name for name, value in values.items() if isinstance(value, type)}
    errors = {name for name in classes if issubclass(values[name], BaseException)}
    functions = {name for name, value in values.items() if name not in classes and callable(value)}
    placed = {name for names in API.values() for name in names}
    pages: dict[str, list[str]] = {page: [] for page in VALUES}
    for name in sorted(classes - errors):
        module = values[name].__module__.partition(".")[2]
        pages[next(page for page, (_, of) in VALUES.items() if module.startswith(of))].append(name)
    listed = [*((page, VALUES[page][0], names) for page, names in pages.items() if names)]
    listed.append(("errors", "Errors", sorted(errors)))
    lines = [
        "# The API, by its docstrings",
        "",
        "What `import vmatlas` gives: its functions here, the values that they take and give on pages of their own.",
        "[The Python API](../python.md) tells how it goes together.",
        "",
        *("```{toctree}", ":maxdepth: 1", "", *(f"/docs/reference/api/{page}" for page, _, _ in listed), "```", ""),
    ]
    for title, names in [*API.items(), ("More functions", sorted(functions - placed))]:
        lines += [f"## {title}", "", *_documented("autofunction", names)]
    yield "api.md", "\n".join(lines)
    for page, title, names in listed:
        beside = f"Of `import vmatlas`: {', '.join(f'`{name}`' for name in names)}. [Functions](../api.md)."
        yield f"api/{page}.md", "\n".join([f"# {title}", "", beside, "", *_documented("autoclass", names)])


def _documented(kind: str, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        yield from ("```{eval-rst}", f".. {kind}:: vmatlas.{name}", "```", "")


def _commands() -> str:
    import click

    from vmatlas.cli.program import program

    lines = ["# Every command, by its help", "", "As `vmatlas COMMAND --help` and `man vmatlas` have it.", ""]
    context = click.Context(program, info_name="vmatlas", max_content_width=100)
    for name in program.list_commands(context):
        command = program.get_command(context, name)
        inner = click.Context(command, info_name=name, parent=context, max_content_width=100)
        lines += [f"## {name}", "", "```text", command.get_help(inner), "```", ""]
    return "\n".join(lines)


def _machines() -> str:
    """The README's table, and the page of the last run where there is one."""
    table = _TABLE.search((ROOT / "README.md").read_text("utf-8"))
    assert table is not None, "README.md has no table of machines"
    rows = re.sub(r"(\d{4})-(\d\d)-(\d\d)", "\\1\N{NON-BREAKING HYPHEN}\\2\N{NON-BREAKING HYPHEN}\\3", table[1])
    return (
        "# The machines\n\nReal kernels, booted in QEMU; on each the same conformance suite runs. What did not run is "
        f"told, and never counted as passed.\n\n{rows}\n"
        "How they are described, and where their kernels come from: [machines](../../images/README.md).\n"
    )


class _Page(HTMLParser):
    """What a page leads to, and the places in it that one can lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep both."""
        for name, value in attrs:
            if value and name == "id":
                self.places.add(value)
            if value and (name, tag) in {("href", "a"), ("href", "link"), ("src", "img"), ("src", "script")}:
                self.links.append(value)


def dead_links(site: Path) -> Iterator[str]:
    """The links of a site that lead to nothing on it."""
    pages = {}
    for path in site.rglob("*.html"):
        pages[path] = _Page()
        pages[path].feed(path.read_text("utf-8"))
    for path, page in pages.items():
        for link in page.links:
            scheme, server, where, _, place = urlsplit(link)
            if scheme or server:
                continue
            to = (path.parent / unquote(where)).resolve() if where else path
            to = to / "index.html" if to.is_dir() else to
            if not to.is_file() or (place and to in pages and unquote(place) not in pages[to].places):
                yield f"{path.relative_to(site)}: {link}"


_MENDS = (
    (re.compile(r'<p class="caption" role="heading">'), '<p class="caption" role="heading" aria-level="2">'),
    (re.compile(r'<aside class="sidebar-drawer">'), '<aside class="sidebar-drawer" aria-label="all pages">'),
    (re.compile(r'<aside class="toc-drawer">'), '<aside class="toc-drawer" aria-label="on this page">'),
    (re.compile(r"(<div class=\"highlight\"><pre)>"), r'\1 tabindex="0">'),
    (re.compile(r'(<div class="table-wrapper [^">]*")>'), r'\1 tabindex="0">'),
    (re.compile(r'(<span class="sig-paren">[(\[]</span>\s*)<dl>'), r'\1<dl role="presentation">'),
    (re.compile(r'<div id="search-results"></div>'), '<h1>Search</h1>\n<div id="search-results"></div>'),
)
"""What furo and Sphinx leave out that those need who hear a page, or have no mouse (the rules of axe): how high the
headings of the menu are, which landmark is which, that keys reach what scrolls, a heading on the search's page; that
arguments, a line each, are no list of terms."""


def mended(page: str) -> str:
    """A page, with that in it."""
    for pattern, put in _MENDS:
        page = pattern.sub(put, page)
    return page


def make(output: Path) -> int:
    """Build it, and look at its links; how many pages it has. Raises CalledProcessError, ValueError."""
    with tempfile.TemporaryDirectory() as folder:
        space = Path(folder, "site")
        space.mkdir()
        lay_together(space)
        if output.exists():
            shutil.rmtree(output)
        python = environment(SITE) / "bin" / "python"
        words = [python, "-P", "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", "-j", "auto"]
        subprocess.run([*words, "-d", Path(folder, "doctrees"), space, output], check=True)
    for path in output.rglob("*.html"):
        path.write_text(mended(path.read_text("utf-8")), "utf-8")
    if dead := sorted(dead_links(output)):
        raise ValueError("links that lead nowhere:\n" + "\n".join(dead))
    return len(list(output.rglob("*.html")))


if __name__ == "__main__":
    place = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / ".vmatlas" / "site-made").resolve()
    try:
        print(f"{place}/index.html: {make(place)} pages, every link leads somewhere")
    except (subprocess.CalledProcessError, ValueError) as error:
        sys.exit(str(error))
