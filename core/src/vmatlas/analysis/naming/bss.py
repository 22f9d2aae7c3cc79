"""Zeros behind the data of a program or library: its .bss.

The kernel and ld.so map it as anonymous memory directly behind the last writable page of the file. Where a file has
none, something else may have been mapped there; where it has one, something else may have joined it. Only the file's
headers tell, which are not read here: so what is larger than all that is mapped of the file is not told, and the rest
is a weak guess. Of 244 such regions of the processes of one machine 198 were just the .bss by those headers, 13 a part
of it or more, 33 something else.
"""

from __future__ import annotations

from collections.abc import Iterator

from vmatlas.analysis.naming.guess import Certainty
from vmatlas.analysis.naming.layout import READ_WRITE, Layout
from vmatlas.analysis.naming.rule import Found, Rule
from vmatlas.model import Protection


def behind_data(layout: Layout) -> Iterator[Found]:
    """Directly above the writable private mapping of a file that is mapped as code too."""
    files: dict[str, int] = {}
    with_code = set()
    for region in layout.regions:
        if region.path is not None:
            files[region.path] = files.get(region.path, 0) + region.size
            if region.protection & Protection.EXECUTE:
                with_code.add(region.path)
    for row in layout.nameless:
        below = layout.below(row)
        if below is None or not layout.is_data(row):
            continue
        data = layout.regions[below]
        if data.path is None or data.path not in with_code or data.protection != READ_WRITE or data.shared:
            continue
        name = data.path.rpartition("/")[2]
        if layout.regions[row].size > files[data.path]:
            continue  # other memory has joined it, most likely
        signs = (f"directly behind the writable data of {data.path}", "whether that has a .bss only its headers tell")
        yield Found(row, f".bss of {name}", signs, Certainty.WEAK, group=".bss")


BEHIND_DATA = Rule("bss", "Linux, ELF programs and libraries that are mapped with code", behind_data)
