"""What FreeBSD's own `procstat -v` prints of a process, against what we decode of it."""

from __future__ import annotations

import re

from vmatlas import AddressSpace, Kind
from vmatlas_freebsd import KvmeFlags

_LETTERS = {
    KvmeFlags.COW: "C",
    KvmeFlags.NEEDS_COPY: "N",
    KvmeFlags.SUPER: "S",
    KvmeFlags.GROWS_DOWN: "D",
    KvmeFlags.USER_WIRED: "W",
}
_TYPES = {
    "none": "--", "default": "df", "vnode": "vn", "swap": "sw", "device": "dv", "phys": "ph", "dead": "dd", "sg": "sg",
    "mgtdevice": "md", "guard": "gd", "unknown": "??",
}  # fmt: skip
_EVERYBODYS = frozenset([Kind.FILE, Kind.DEVICE, Kind.VDSO, Kind.PHYSICAL])


def lines_of(text: str) -> list[list[str]]:
    """Its columns, a list for each region."""
    lines = [re.split(r" +", line.lstrip(), maxsplit=10) for line in text.split("\n")[1:] if line]
    return [words if words[-1] else words[:-1] for words in lines]  # a name keeps the spaces at its end


def disagreements(text: str, space: AddressSpace, page: int = 4096) -> list[str]:
    """Where it differs from a space of the sysctl: every column of every region. Empty when both say the same.

    Who else maps a file or a page of the kernel's may change while procstat itself runs, so REF and SHD are held
    to ours for memory alone.
    """
    said = lines_of(text)
    if len(said) != len(space):
        return [f"{len(said)} lines and {len(space)} regions"]
    found = []
    for words, region in zip(said, space, strict=True):
        flags = region.flags
        assert isinstance(flags, KvmeFlags)
        assert region.resident is not None and region.private_resident is not None
        ours = [
            words[0], f"{region.start:#x}", f"{region.end:#x}", region.protection.letters,
            str(region.resident // page), str(region.private_resident // page),
            str(region.details.get("ref_count", 0)), str(region.details.get("shadow_count", 0)),
            "".join(letter if flag in flags else "-" for flag, letter in _LETTERS.items()),
            _TYPES[str(region.details["type"])],
        ]  # fmt: skip
        if region.kind in _EVERYBODYS:
            ours[6:8] = words[6:8]
        if region.path is not None:
            ours.append(region.path)
        if words != ours:
            found.append(f"procstat: {' '.join(words)}\nvmatlas:  {' '.join(ours)}")
    return found
