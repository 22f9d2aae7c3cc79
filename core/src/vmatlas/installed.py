"""Entry points of the installed distributions, as `importlib.metadata.entry_points` gives them.

Its import alone takes 30 ms (it brings in zip files and the whole parser of e-mail), a fifth of `vmatlas maps self`.
What is needed here is a line of a text file in each `*.dist-info` folder (packaging.python.org: "Entry points
specification"). Where anything is unusual (distributions in zip files, other finders) importlib.metadata is asked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.machinery import PathFinder

from vmatlas.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FOLDERS = (".dist-info", ".egg-info")
_LENGTH = max(map(len, _FOLDERS))


class Entry(NamedTuple):
    """One entry point: what a distribution registers under a name."""

    name: str
    value: str
    """"package.module:attribute"."""
    distribution: str

    def load(self) -> Any:
        """The object. Raises what its import raises, and AttributeError."""
        module, _, attributes = self.value.partition("[")[0].partition(":")
        loaded: Any = import_module(module.strip())
        for attribute in filter(None, attributes.strip().split(".")):
            loaded = getattr(loaded, attribute)
        return loaded


def entry_points(groups: Sequence[str]) -> dict[str, list[Entry]]:
    """The entry points of some groups, each by name. Of two distributions of one name, the first on `sys.path` counts.

    Raises OSError when a folder cannot be looked into for a reason of the moment (EMFILE): that is no empty folder.
    """
    if _is_unusual():
        return {group: _by_metadata(group) for group in groups}
    found: dict[str, list[Entry]] = {group: [] for group in groups}
    for folder, distribution in _distributions():
        try:
            with open(f"{folder}/entry_points.txt", encoding="utf-8") as file:
                text = file.read()
        except (FileNotFoundError, NotADirectoryError):
            continue
        for group, entries in found.items():
            if group in text:
                entries += [Entry(name, value, distribution) for name, value in _section(text, group)]
    return {group: sorted(entries) for group, entries in found.items()}


def companions(extra: str = "") -> frozenset[str]:
    """The distributions of vmatlas itself, as this one names them in its extras (or in one): those that users may be
    told to install.
    """
    import re
    from importlib import metadata

    try:
        wanted = metadata.requires("vmatlas") or []
    except metadata.PackageNotFoundError:  # it runs from its sources
        return frozenset()
    named = (each for each in wanted if not extra or re.search(rf"extra == ['\"]{re.escape(extra)}['\"]", each))
    names = (re.match(r"[A-Za-z0-9._-]+", each) for each in named)
    return frozenset(name[0].lower() for name in names if name is not None and name[0].startswith("vmatlas-"))


_FOLDERS_OF = {"vmatlas-agents": "core/agent", "vmatlas-fleet": "core/fleet", "vmatlas-images": "images"}


def how_to_install(*distributions: str) -> str | None:
    """What users are told who lack distributions of ours; None for none.

    It names where vmatlas came from, and never a package index: whoever registers a name there that we have not would
    have it installed.
    """
    if not distributions:
        return None
    names = " ".join(distributions)
    folders = " ".join(
        f"./{_FOLDERS_OF.get(each) or 'platforms/' + each.removeprefix('vmatlas-').replace('-', '_')}"
        for each in distributions
    )
    return (
        f"from the folder of wheels that vmatlas came from: pip install --no-index --find-links FOLDER {names}"
        f"   in a checkout: pip install {folders}"
    )


def how_to_install_for(system: str) -> str | None:
    """The same for what an extra of that name brings: the plugins of a system. None where there are none."""
    return how_to_install(*sorted(companions(system)))


def _is_unusual() -> bool:
    if any(hasattr(finder, "find_distributions") and finder is not PathFinder for finder in sys.meta_path):
        return True
    return any(path.endswith(".egg") or os.path.isfile(path) for path in sys.path)


def _distributions() -> Iterator[tuple[str, str]]:
    """The folder and the name of each."""
    seen = set()
    for path in sys.path:
        try:
            names = os.listdir(path or os.curdir)
        except OSError as error:
            if isinstance(error, PermissionError) or not os.path.isdir(path or os.curdir):
                continue  # import, too, passes over it
            raise
        for name in sorted([name for name in names if name[-_LENGTH:].lower().endswith(_FOLDERS)]):
            distribution = name.rpartition(".")[0].partition("-")[0].replace("_", "-").lower()
            if distribution not in seen:
                seen.add(distribution)
                yield os.path.join(path, name), distribution


def _section(text: str, group: str) -> Iterator[tuple[str, str]]:
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
        elif section == group and line and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield name.strip(), value.strip()


def _by_metadata(group: str) -> list[Entry]:
    from importlib import metadata

    for _ in _distributions():  # metadata takes a folder that cannot be listed for an empty one, and remembers that
        pass
    found = metadata.entry_points(group=group)
    return sorted(Entry(each.name, each.value, each.dist.name if each.dist else each.value) for each in found)
