"""Names in a text of regions that only the file system can settle (vmatlas.systems.linux.links): which they are."""

from __future__ import annotations

from collections.abc import Callable

from vmatlas.patterns import pattern
from vmatlas.systems.linux import links
from vmatlas_linux_procfs.unlisted import ESCAPE

_OPEN_NAME = pattern(
    rb"(?m)^([0-9a-f]{1,16})-([0-9a-f]{1,16}) \S+ \S+ ([0-9a-f]{1,8}):([0-9a-f]{1,8}) ([0-9]{1,20}) +"
    rb"(/.*\\012.*|/.* \(deleted\))$"
)
"""A line with such a name: bounds, device, inode, name."""


def open_names(text: bytes, mapped_name: Callable[[bytes], bytes | None]) -> list[links.OpenName]:
    """Each such name, with nothing escaped, and a region that has it.

    `mapped_name` asks for the name of the file at START-END (/proc/PID/map_files); None where it cannot be asked.
    """
    if b" (deleted)\n" not in text and ESCAPE not in text:
        return []
    shown: dict[tuple[bytes, bytes, bytes, bytes], tuple[int, int]] = {}
    for start, end, major, minor, inode, escaped in _OPEN_NAME.findall(text):
        shown.setdefault((escaped, inode, major, minor), (int(start, 16), int(end, 16)))
    names = []
    for (escaped, inode, major, minor), bounds in shown.items():
        name = _exact(mapped_name, escaped, b"%x-%x" % bounds)
        device = int(major, 16), int(minor, 16)
        if links.is_open(name, device) or ESCAPE in name:
            names.append(links.OpenName(name, int(inode), device, *bounds))
    return names


def _exact(mapped_name: Callable[[bytes], bytes | None], escaped: bytes, bounds: bytes) -> bytes:
    """The name with nothing escaped; where it cannot be asked for, each escape is taken for a newline."""
    exact = mapped_name(bounds) if ESCAPE in escaped else None
    if exact is not None and exact.replace(b"\n", ESCAPE) == escaped:
        return exact
    return escaped.replace(ESCAPE, b"\n")
