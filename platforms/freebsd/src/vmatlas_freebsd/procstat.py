"""What `procstat -v` of FreeBSD prints, to the records that it printed, and the address space of these. Pure.

It prints of each record all but the offset, the file's identity and the number of the object: these are None.

      PID              START                END PRT  RES PRES REF SHD FLAG  TP PATH    (FL, of two letters, in old ones)
       21          0x1000000          0x1003000 r--    3    8   2   0 CN--- vn /bin/sh
"""

from __future__ import annotations

import re
from array import array
from dataclasses import replace

from vmatlas.capture import Capture
from vmatlas.errors import MalformedData, Unsupported
from vmatlas.model import UNKNOWN, AddressSpace, Kind, Query, SystemInfo
from vmatlas.model.columns import UNKNOWN_BYTE
from vmatlas_freebsd.decode.vmmap import VMMAP, decode_vmmap
from vmatlas_freebsd.flags import KvmeFlags
from vmatlas_freebsd.layout import PATH_AT, PATH_ROOM, VMENTRY_FIELDS, EntryType, vmentry

PROCSTAT = "procstat"
"""The stream that holds the text."""

_USUAL_PAGE = 4096
_HEAD = re.compile(rb" *PID +START +END +PRT +RES +PRES +REF +SHD +FL(?:AGS?)? +TP +PATH *")
_LINE = re.compile(
    rb" *(\d{1,10}) +0x([0-9a-f]{1,16}) +0x([0-9a-f]{1,16}) ([r-])([w-])([x-]) +(\d{1,10}) +(\d{1,10}) +(\d{1,10})"
    rb" +(\d{1,10}) ([A-Z-]{2,8}) +([a-z?-]{2})(?: (.*))?"
)
_TYPES = {b"--": EntryType.NONE, b"df": EntryType.DEFAULT, b"vn": EntryType.VNODE, b"sw": EntryType.SWAP,
          b"dv": EntryType.DEVICE, b"ph": EntryType.PHYS, b"dd": EntryType.DEAD, b"sg": EntryType.SG,
          b"md": EntryType.MGTDEVICE, b"gd": EntryType.GUARD}  # fmt: skip
_FLAGS = {
    b"C": KvmeFlags.COW,
    b"N": KvmeFlags.NEEDS_COPY,
    b"S": KvmeFlags.SUPER,
    b"U": KvmeFlags.GROWS_UP,
    b"D": KvmeFlags.GROWS_DOWN,
    b"W": KvmeFlags.USER_WIRED,
}
_GAP = "procstat -v tells neither offsets nor which file it is; the page size is taken for 4,096 bytes"


class ProcstatTexts:
    """See `vmatlas.files.contract.ReadsTexts`."""

    def capture_of_text(self, text: bytes, *, form: str, name: str, time: float, lenient: bool) -> Capture:
        """Raises MalformedData; Unsupported for the maps of several processes."""
        kept: list[bytes] = []
        pids: dict[int, None] = {}
        passed = first = last = place = 0
        for number, raw in enumerate(text.split(b"\n"), 1):
            line = raw.removesuffix(b"\r")
            found = _LINE.fullmatch(line)
            if found is not None and last <= int(found[2], 16) < int(found[3], 16) < UNKNOWN:
                last = int(found[3], 16)
                pids[int(found[1])] = None
                kept.append(line)
            elif found is not None and int(found[1]) not in pids and pids:
                raise Unsupported(f"{name} tells of several processes", hint="procstat -v PID tells of one")
            elif line.strip() and not (_HEAD.fullmatch(line) and not kept):
                if not lenient:
                    raise MalformedData(name, place, "a line of procstat -v, in order", found=line[:80])
                passed, first = passed + 1, first or number
            place += len(raw) + 1
        if len(pids) > 1:
            raise Unsupported(f"{name} tells of several processes", hint="procstat -v PID tells of one")
        if not kept:
            raise MalformedData(name, 0, "a line of procstat -v somewhere in the text")
        gaps = [_GAP]
        if passed:
            gaps.append(
                f"{passed:,} odd line{' was' if passed == 1 else 's were'} passed over (the first: line {first:,})"
            )
        return Capture(
            streams={PROCSTAT: b"".join(line + b"\n" for line in kept)},
            system=SystemInfo("freebsd", "", "", "", "little", 64, _USUAL_PAGE),
            pid=next(iter(pids)),
            backend="freebsd-sysctl",
            distribution="vmatlas-freebsd",
            query=Query(residency=True),
            time=time,
            incomplete="; ".join(gaps),
        )


TEXTS = ProcstatTexts()


def decode_procstat(capture: Capture) -> AddressSpace:
    """Raises MalformedData, Disordered."""
    records = [
        _record(found, number)
        for number, found in enumerate(map(_LINE.fullmatch, capture.stream(PROCSTAT).split(b"\n")[:-1]))
    ]
    space = decode_vmmap(replace(capture, streams={VMMAP: b"".join(records)}))
    space.columns.offset = array("Q", [UNKNOWN]) * len(space)
    space.columns.details.pop("object_offset", None)
    # Of memory with swap behind it the number of its object would tell whether it is a shared memory object.
    for row, (type, kind) in enumerate(zip(space.columns.details.get("type", ()), space.columns.kind, strict=False)):
        if type == "swap" and kind == Kind.ANONYMOUS and space.columns.shared[row] == UNKNOWN_BYTE:
            space.columns.kind[row] = Kind.OTHER
    return space


def _record(found: re.Match[bytes] | None, number: int) -> bytes:
    """The record that a line was printed of."""
    if found is None:
        raise MalformedData(PROCSTAT, 0, f"a line of procstat -v as line {number + 1:,}")
    flags = 0
    for letter in found[11]:
        flags |= _FLAGS.get(bytes([letter]), KvmeFlags(0))
    path = (found[13] or b"")[: PATH_ROOM - 1]
    size = (PATH_AT + len(path) + 1 + 7) // 8 * 8
    rights = sum(bit for bit, each in ((1, found[4]), (2, found[5]), (4, found[6])) if each != b"-")
    fields = {name: 0 for name, _, _ in VMENTRY_FIELDS}
    fields |= {
        "structsize": size,
        "type": _TYPES.get(found[12], EntryType.UNKNOWN),
        "start": int(found[2], 16),
        "end": int(found[3], 16),
        "flags": flags,
        "resident": min(int(found[7]), 2**32 - 1),
        "private_resident": min(int(found[8]), 2**32 - 1),
        "protection": rights,
        "ref_count": min(int(found[9]), 2**32 - 1),
        "shadow_count": min(int(found[10]), 2**32 - 1),
    }
    head = vmentry("little").pack(*fields.values())
    return (head.ljust(PATH_AT, b"\0") + path).ljust(size, b"\0")
