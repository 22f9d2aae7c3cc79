"""The text of /proc/PID/pmap (QNX 7.1 and 8) that somebody saved: a capture of it, and what it decodes to. Pure.

    vaddr,size,flags,prot,maxprot,dev,ino,offset,rsv,guardsize,refcnt,mapcnt,path

Columns by their names; numbers with 0x are hexadecimal. By QNX' "System Architecture", "The pmap parameters": no such
text of a real machine was at hand. What is in memory is not told: rsv is what is set aside.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping

from vmatlas.capture import Capture, check_count
from vmatlas.errors import MalformedData, Unsupported
from vmatlas.model import UNKNOWN, AddressSpace, Kind, Label, Query, SystemInfo
from vmatlas.model.facts import Meaning, Packer, columns_of
from vmatlas_qnx.flags import MapFlags, Sharing

PMAP = "pmap"
"""The stream that holds the text, as it is the name of its form."""

_USUAL_PAGE = 4096
_NEEDED = ("vaddr", "size", "flags", "prot", "offset", "path")
_GAP = "a text of pmap tells neither whose it is, nor what is in memory, nor the page size (taken for 4,096)"


class QnxTexts:
    """See `vmatlas.files.contract.ReadsTexts`."""

    def capture_of_text(self, text: bytes, *, form: str, name: str, time: float, lenient: bool) -> Capture:
        """Raises MalformedData; Unsupported for what `pidin mem` prints, which is no map."""
        if form != PMAP:
            hint = "cat /proc/PID/pmap (QNX 7.1 and newer), or vmatlas record --target ssh:BOARD PID"
            raise Unsupported(f"{name} is what pidin mem prints: sizes, and no map", hint=hint)
        lines = text.split(b"\n")
        at = next(row for row, line in enumerate(lines) if line.lstrip().startswith(b"vaddr,size,"))
        kept, passed, first, last = [lines[at].strip()], 0, 0, 0
        names = kept[0].decode("latin-1").split(",")
        if missing := [each for each in _NEEDED if each not in names]:
            place = sum(map(len, lines[:at])) + at
            raise MalformedData(name, place, f"a column {missing[0]}", found=lines[at][:80])
        for number, raw in enumerate(lines[at + 1 :], at + 1):
            line = raw.removesuffix(b"\r")
            row = _row(line, names)
            if row is not None and last <= row["vaddr"]:
                last = row["vaddr"] + row["size"]
                kept.append(line)
            elif line.strip():
                if not lenient:
                    place = sum(map(len, lines[:number])) + number
                    raise MalformedData(name, place, "a line of pmap, in order", found=line[:80])
                passed, first = passed + 1, first or number + 1
        gaps = [_GAP]
        if passed:
            were = "was" if passed == 1 else "were"
            gaps.append(
                f"{passed:,} odd line{'' if passed == 1 else 's'} {were} passed over (the first: line {first:,})"
            )
        return Capture(
            streams={PMAP: b"".join(line + b"\n" for line in kept)},
            system=SystemInfo("qnx", "", "", "", "little", 64, _USUAL_PAGE),
            pid=0,
            backend="qnx-mapinfo",
            distribution="vmatlas-qnx",
            query=Query(),
            time=time,
            incomplete="; ".join(gaps),
        )


TEXTS = QnxTexts()


def decode_pmap(capture: Capture) -> AddressSpace:
    """Raises MalformedData."""
    head, *lines = capture.stream(PMAP).split(b"\n")
    names = head.decode("latin-1").split(",")
    check_count(PMAP, len(lines), pid=capture.pid)
    starts, ends, offsets, facts = array("Q"), array("Q"), array("Q"), []
    flags: list[MapFlags] = []
    packer = Packer()
    place = len(head) + 1
    for line in lines:
        row = _row(line, names) if line else None
        if line and (row is None or (ends and row["vaddr"] < ends[-1])):
            raise MalformedData(PMAP, place, "a line of pmap, in order", found=line[:80], pid=capture.pid)
        place += len(line) + 1
        if row is None:
            continue
        path = _path(line, names).decode("utf-8", "surrogateescape") or None
        mark = MapFlags(row["flags"])
        is_file = path is not None and not path.startswith("/dev/shmem/")
        starts.append(row["vaddr"])
        ends.append(row["vaddr"] + row["size"])
        offsets.append(row["offset"] if path is not None and row["offset"] < 1 << 63 else UNKNOWN)
        flags.append(mark)
        kind = Kind.FILE if is_file else Kind.SHARED_MEMORY if path is not None else _kind(mark, row["prot"] & 7)
        shared = int(mark.sharing is Sharing.SHARED)
        facts.append(packer.pack(Meaning(UNKNOWN, UNKNOWN, 0, Label(path), row["prot"] & 7, shared, kind)))
    columns = columns_of(starts, ends, offsets, b"".join(facts), packer.labels)
    columns.flags = list(flags)
    return AddressSpace(columns, capture.origin)


def _kind(flags: MapFlags, protection: int) -> Kind:
    if flags.of_stack:
        return Kind.STACK if protection else Kind.GUARD
    if flags & MapFlags.PHYS and not flags.is_anonymous:
        return Kind.PHYSICAL
    return Kind.ANONYMOUS if protection else Kind.GUARD


def _row(line: bytes, names: list[str]) -> Mapping[str, int] | None:
    """Its numbers; None for what is no line of pmap."""
    words = line.split(b",")
    if len(words) < len(names):
        return None
    try:
        found = {
            name: int(word, 16 if word.strip().lower().startswith(b"0x") else 10)
            for name, word in zip(names, words, strict=False)
            if name in ("vaddr", "size", "flags", "prot", "offset")
        }
    except ValueError:
        return None
    is_sane = all(value >= 0 for value in found.values()) and found["size"] > 0 and found["prot"] < 256
    return found if is_sane and found["vaddr"] + found["size"] < UNKNOWN and found["flags"] < 1 << 32 else None


def _path(line: bytes, names: list[str]) -> bytes:
    """It may have commas of its own; behind it 8.0 has the name of its kind of memory."""
    before, behind = names.index("path"), len(names) - 1 - names.index("path")
    words = line.split(b",")
    return b",".join(words[before : len(words) - behind])
