"""Names in a text of regions that only the file system can settle (vmatlas.systems.linux.links): which they are."""

from __future__ import annotations

import re
from collections.abc import Callable

from vmatlas.systems.linux import links
from vmatlas.systems.linux.naming import may_be_ambiguous
from vmatlas_linux_procfs.decode import ESCAPE

_OPEN_NAME = re.compile(rb"^([0-9a-f]+-[0-9a-f]+) \S+ \S+ \S+ ([0-9]+) +(/.*\\012.*|/.* \(deleted\))$", re.MULTILINE)
"""A line with such a name: bounds, inode, name."""


def open_names(text: bytes, mapped_name: Callable[[bytes], bytes | None]) -> list[links.Name]:
    """Each such name, with nothing escaped, and its inode.

    `mapped_name` asks for the name of the file at START-END (/proc/PID/map_files); None where it cannot be asked.
    """
    if b" (deleted)\n" not in text and ESCAPE not in text:
        return []
    shown: dict[tuple[bytes, int], bytes] = {}
    for bounds, inode, escaped in _OPEN_NAME.findall(text):
        shown.setdefault((escaped, int(inode)), bounds)
    names = [(_exact(mapped_name, escaped, bounds), inode) for (escaped, inode), bounds in shown.items()]
    return [each for each in names if may_be_ambiguous(each[0]) or ESCAPE in each[0]]


def _exact(mapped_name: Callable[[bytes], bytes | None], escaped: bytes, bounds: bytes) -> bytes:
    """The name with nothing escaped; where it cannot be asked for, each escape is taken for a newline."""
    exact = mapped_name(bounds) if ESCAPE in escaped else None
    if exact is not None and exact.replace(b"\n", ESCAPE) == escaped:
        return exact
    return escaped.replace(ESCAPE, b"\n")
