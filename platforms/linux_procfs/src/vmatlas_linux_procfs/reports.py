"""Texts of Linux that others made of a map, or that tell how a process ended. Pure.

    pmap        pmap -X and -XX (procps): a line for each region, in the words of smaps
    journal     an entry that systemd-coredump wrote (journalctl --all -o json, -o export): /proc/PID/maps
    pmap-short  pmap without -X: ranges and rights, but half of a name; refused, with what to ask for
    hs-err      a JVM's report: /proc/PID/maps below "Dynamic libraries:", signal and registers above
    glibc       what glibc before 2.26 printed when it gave up: /proc/PID/maps below "Memory map:"
    sanitizer   a report of a sanitizer; a map in it only where the shadow found no place, ranges and names alone
    tombstone   Android's debuggerd: range, rights, offset and name of each region
    go          a crash of Go's runtime: no map at all

A capture keeps of them the lines that tell of the map, and those that tell of the end: a report also holds the
environment, and pieces of memory. Facts: tried on pmap 4.0.2, systemd 262, OpenJDK 17 and 25 and gcc 12's libasan;
tombstones (Android 4.4 to 14, also as logcat shows them) by system/core/debuggerd, not tried on a device; hs_err of
older JVMs by hotspot's vmError.cpp; Go's by its runtime/signal_unix.go; glibc's by its libc_fatal.c of 2.25.
"""

from __future__ import annotations

import json
import re
import struct
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

from vmatlas.capture import Capture, check_count
from vmatlas.errors import MalformedData, Unsupported
from vmatlas.model import UNKNOWN, AddressSpace, Consistency, Kind, Protection, Query, SystemInfo, Thread
from vmatlas.model.columns import NO_LABEL, UNKNOWN_BYTE
from vmatlas.model.crash import Crash, CrashedThread
from vmatlas.model.facts import Meaning, Packer, columns_of
from vmatlas.systems.linux.naming import tell_without_sharing
from vmatlas.systems.linux.order import in_order
from vmatlas_linux_procfs.core_notes import AT_PAGESZ, GENERAL_PROTECTION, SIGNALS, WITH_ADDRESS
from vmatlas_linux_procfs.decode import LINE, MAPS, SMAPS, decode
from vmatlas_linux_procfs.texts import passed_over, without_odd_lines

REPORT = "report-"
"""Before the form, the name of the stream with the lines that are kept."""

_USUAL_PAGE = 4096
_PAGE_TAKEN = "a text does not tell the page size (taken for 4,096)"
_NO_MAP = {
    "sanitizer": "this report of a sanitizer tells no map",
    "go": "a crash of Go tells no map",
    "journal": "this entry of the journal tells no map: it has no field COREDUMP_PROC_MAPS",
    "glibc": "this report of the C library tells no map",
}
_ONE_READ, _USUAL_LINE = 4096, 128
_ONE_PAGE = "it may be the beginning of the map alone: systemd before 258 kept its first 4,096 bytes"
"""What the kernel gives at once was taken for the whole, and it gives whole lines of at most a page: nothing above the
last line is there then, the stack and the vdso among it."""
_MOST_NAMED = 3
_IS_OPEN = "it ends within the map: it may be cut"
_NUMBERS = {name: number for number, name in SIGNALS.items()}


class _Found(NamedTuple):
    """What a report holds."""

    maps: bytes
    """Lines of /proc/PID/maps or smaps; empty where it has none."""
    lines: list[bytes]
    """Lines that are kept, of what has another form."""
    gaps: list[str]
    pid: int = 0
    name: str | None = None
    time: float | None = None
    page_size: int = 0
    frozen: bool = False


def capture_of_report(text: bytes, *, form: str, name: str, time: float, lenient: bool) -> Capture:
    """Raises MalformedData, with the byte; Unsupported."""
    found = _READERS[form](text if form == "journal" else text.replace(b"\r\n", b"\n"), name, lenient)
    gaps = list(found.gaps)
    maps = found.maps
    if maps and lenient:
        maps, passed, first = without_odd_lines(maps)
        gaps += passed_over(passed, first)
    if not found.page_size:
        gaps.append(_PAGE_TAKEN)
    streams = {SMAPS if form == "pmap" else MAPS: maps} if maps else {}
    streams[REPORT + form] = b"".join(line + b"\n" for line in found.lines)
    crash = _crash(form, streams[REPORT + form])
    return Capture(
        streams=streams,
        system=SystemInfo("linux", "", "", "", "little", 64, found.page_size or _USUAL_PAGE),
        pid=found.pid,
        backend="linux-procfs",
        distribution="vmatlas-linux-procfs",
        query=Query(residency=form == "pmap"),
        time=time if found.time is None else found.time,
        consistency=Consistency.FROZEN if found.frozen else Consistency.PER_REGION,
        incomplete="; ".join(gaps) or None,
        name=found.name or (crash.program if crash else None),
    )


def report_of(capture: Capture) -> str | None:
    """The form of the report that a capture was made of; None where it was made of none."""
    return next((name.removeprefix(REPORT) for name in capture.streams if name.startswith(REPORT)), None)


def decode_of_report(capture: Capture) -> AddressSpace:
    """Raises MalformedData, Disordered; Unsupported for one that tells no map."""
    form = report_of(capture) or ""
    space = decode(capture) if {MAPS, SMAPS} & set(capture.streams) else _of_rows(capture, form)
    crash = _crash(form, capture.stream(REPORT + form))
    threads = crash.threads if crash is not None else ()
    told = [
        Thread(each.number, None, each.stack_pointer, None if each.stack_pointer else "untold")
        for each in threads
        if each.number is not None
    ]
    return AddressSpace(space.columns, replace(space.origin, threads=tuple(told))) if told else space


def _of_rows(capture: Capture, form: str) -> AddressSpace:
    """Of one without lines of /proc/PID/maps."""
    stream = REPORT + form
    rows = []
    if form in _ROWS:
        pattern, _ = _ROWS[form]
        rows = [_row(found) for found in map(pattern.fullmatch, capture.stream(stream).split(b"\n")) if found]
    if not rows:
        why = _NO_MAP.get(form, "this report tells no map")
        raise Unsupported(why, pid=capture.pid, hint="vmatlas explain FILE tells what it says of the end")
    check_count(stream, len(rows), pid=capture.pid)
    packer = Packer()
    facts = b"".join(packer.pack(_meaning(row)) for row in rows)
    starts = array("Q", [row.start for row in rows])
    ends = array("Q", [row.end for row in rows])
    offsets = array("Q", [row.offset for row in rows])
    found = in_order(columns_of(starts, ends, offsets, facts, packer.labels), capture.origin)
    if isinstance(found, int):
        expected = f"a region that begins where the one before it ends, or above: not at {starts[found]:#x}"
        raise MalformedData(stream, 0, expected, pid=capture.pid)
    return found


def crash_of_report(capture: Capture) -> Crash:
    """Raises Unsupported for a text that does not tell how a process ended."""
    form = report_of(capture) or ""
    crash = _crash(form, capture.stream(REPORT + form))
    if crash is None:
        raise Unsupported("only the report of a crash tells how its process ended", pid=capture.pid)
    is_without = MAPS not in capture.streams and not _has_rows(form, capture.stream(REPORT + form))
    return replace(crash, no_map=_NO_MAP.get(form, "this report tells no map")) if is_without else crash


# ---- what each holds ----


def _pmap(text: bytes, name: str, lenient: bool) -> _Found:
    """The columns have the names of smaps' keys; only the last may have blanks in it, and VmFlags before it."""
    lines = text.split(b"\n")
    heads = [row for row, line in enumerate(lines) if line.split()[:3] == [b"Address", b"Perm", b"Offset"]]
    before = next((line for line in lines[: heads[0]] if _PMAP_HEAD.match(line)), None)
    if before is not None:
        raise Unsupported(
            f"{name} has regions above the columns of pmap ({before.split()[0].decode()}): those of another map",
            hint="pmap -XX -p PID, for each process",
        )
    if len(heads) > 1:
        named = [lines[row - 1].strip()[:40].decode("utf-8", "replace") for row in heads[:_MOST_NAMED] if row]
        more = ", ..." if len(heads) > _MOST_NAMED else ""
        raise Unsupported(
            f"{name} has the maps of {len(heads):,} processes ({', '.join(named)}{more}): one file holds one",
            hint="pmap -XX -p PID, for each of them",
        )
    at = heads[0]
    keys = lines[at].split()
    flags = keys.index(b"VmFlags") if b"VmFlags" in keys else None
    if keys[:6] != [b"Address", b"Perm", b"Offset", b"Device", b"Inode", b"Size"] or keys[-1] != b"Mapping":
        raise MalformedData(name, _place(lines, at), "the columns of pmap -X", found=lines[at])
    told: list[bytes] = []
    passed = first = 0
    is_whole = False
    for number, line in enumerate(lines[at + 1 :], at + 1):
        words = line.split()
        if not words or set(words[0]) == {ord("=")}:
            is_whole = bool(words)  # the sums stand below
            break
        told_line = _line_of_pmap(line, keys, flags)
        if told_line is not None:
            told.append(told_line)
        elif lenient:
            passed, first = passed + 1, first or number + 1
        else:
            raise MalformedData(name, _place(lines, number), "a line of pmap -X", found=line[:80])
    whose = re.match(rb"(\d+): +(\S+)", lines[at - 1]) if at else None
    gaps = passed_over(passed, first)
    if not is_whole:
        gaps.append("the sums with which pmap ends are not there: it may be cut")
    if not any(b" /" in line for line in told):
        gaps.append("pmap without -p shows the last part of the files' names alone")
    program = whose[2].rpartition(b"/")[2].decode("utf-8", "surrogateescape") if whose else None
    return _Found(b"".join(told), [], gaps, pid=int(whose[1]) if whose else 0, name=program)


_PMAP_HEAD = re.compile(
    rb" *([0-9a-f]+) ([r-][w-][x-][sp]) +([0-9a-f]+) +([0-9a-f]+:[0-9a-f]+) +(\d+) +(\d+)((?: +-?\d+)*)"
)


def _line_of_pmap(line: bytes, keys: list[bytes], flags: int | None) -> bytes | None:
    """The lines of smaps that one was made of; None for what is none."""
    found = _PMAP_HEAD.match(line)
    numbers = [] if found is None else found[7].split()
    wanted = len(keys) - 7 - (flags is not None)
    if found is None or len(numbers) < wanted:
        return None
    if len(numbers) > wanted:  # a name of digits
        ends = [each.end() for each in re.finditer(rb" +-?\d+", found[7])]
        rest = line[found.start(7) + (ends[wanted - 1] if wanted else 0) :]
    else:
        rest = line[found.end() :]
    marks = b""
    if flags is not None:
        told = re.match(rb" *((?:[a-z]{2} )*)(.*)", rest)
        marks, rest = (told[1], told[2]) if told else (b"", rest)
    start, size = int(found[1], 16), int(found[6]) << 10
    if not size or start + size >= UNKNOWN:
        return None
    pieces = [
        b"%x-%x %b %b %b %b %b\n" % (start, start + size, found[2], found[3], found[4], found[5], rest.strip(b" "))
    ]
    pieces += [b"%b: %b kB\n" % (key, value) for key, value in zip(keys[6:], numbers, strict=False)
               if key not in (b"THPeligible", b"ProtectionKey")]  # fmt: skip
    if flags is not None:
        pieces.append(b"VmFlags: %b\n" % marks)
    return b"".join(pieces)


def _journal(text: bytes, name: str, lenient: bool) -> _Found:
    entries = list(_exported(text, name) if text.startswith(b"__CURSOR=") else _entries(text, name))
    crashes = [each for each in entries if any(key.startswith("COREDUMP_") for key in each)]
    if not crashes:
        raise Unsupported(
            f"{name} is an entry of the journal that tells of no core",
            hint="journalctl --all -o json MESSAGE_ID=fc2e22bc6ee647b6b90729ab34a250b1 COREDUMP_PID=...",
        )
    entry = crashes[-1]
    left_out = sorted(key for key, value in entry.items() if value is None and key.startswith("COREDUMP_"))
    if "COREDUMP_PROC_MAPS" in left_out:
        raise Unsupported(
            f"{name}: journalctl left out the map, as it does fields of 4,096 bytes and more",
            hint="journalctl --all -o json, or -o export",
        )
    gaps = [f"of {len(crashes):,} crashes it is the last"] if len(crashes) > 1 else []
    maps = _bytes(entry.get("COREDUMP_PROC_MAPS"))
    vector = _bytes(entry.get("COREDUMP_PROC_AUXV"))
    kept = ("PID", "SIGNAL", "COMM", "CMDLINE", "UNIT", "USER_UNIT", "EXE", "HOSTNAME")
    lines = [
        f"COREDUMP_{key}=".encode() + value.replace(b"\n", b" ")
        for key in kept
        if (value := _bytes(entry.get(f"COREDUMP_{key}")))
    ]
    pid, when = _bytes(entry.get("COREDUMP_PID")), _bytes(entry.get("COREDUMP_TIMESTAMP"))
    comm = _bytes(entry.get("COREDUMP_COMM")).decode("utf-8", "surrogateescape") or None
    if not maps:
        gaps.append(_NO_MAP["journal"])
    elif b"[stack]" not in maps or _ONE_READ - _USUAL_LINE < len(maps) <= _ONE_READ:
        gaps.append(_ONE_PAGE)
    return _Found(
        maps,
        lines,
        gaps,
        pid=int(pid) if re.fullmatch(rb"\d{1,10}", pid) else 0,
        name=comm,
        time=int(when) / 1e6 if re.fullmatch(rb"\d{1,16}", when) else None,
        page_size=_page_size(vector),
        frozen=True,
    )


def _entries(text: bytes, name: str) -> Iterator[dict[str, object]]:
    """Of journalctl -o json and json-pretty: one object behind another, or a list of them."""
    words = text.decode("utf-8", "surrogateescape")
    decoder, place = json.JSONDecoder(), 0
    while True:
        while place < len(words) and words[place] in " \n\r\t,":
            place += 1
        if place >= len(words):
            return
        try:
            told, place = decoder.raw_decode(words, place)
        except (ValueError, RecursionError) as error:
            raise MalformedData(name, place, f"an entry of the journal as JSON ({error})") from None
        for each in told if isinstance(told, list) else [told]:
            if isinstance(each, dict):
                yield each


def _exported(text: bytes, name: str) -> Iterator[dict[str, object]]:
    """Of journalctl -o export: KEY=VALUE, or KEY, a newline, the length in 8 bytes, the value; an empty line ends."""
    entry: dict[str, object] = {}
    place = 0
    while place < len(text):
        end = text.find(b"\n", place)
        line = text[place : end if end >= 0 else len(text)]
        place = end + 1 if end >= 0 else len(text)
        key, equals, value = line.partition(b"=")
        if not line:
            if entry:
                yield entry
            entry = {}
        elif equals:
            entry[key.decode("latin-1")] = list(value)
        else:
            (size,) = struct.unpack_from("<Q", text, place) if place + 8 <= len(text) else (UNKNOWN,)
            if place + 8 + size > len(text):
                raise MalformedData(name, place, f"the whole value of {key.decode('latin-1')[:40]}")
            entry[key.decode("latin-1")] = list(text[place + 8 : place + 8 + size])
            place += 8 + size + 1
    if entry:
        yield entry


def _bytes(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, list):
        if all(isinstance(each, int) and 0 <= each < 256 for each in value):
            return bytes(each for each in value if isinstance(each, int))
        return _bytes(value[0])  # the field stood there more than once
    return b""


def _page_size(vector: bytes) -> int:
    """Of an auxiliary vector of 64 bits; 0 where it does not tell it."""
    if vector.startswith(b"["):  # systemd 262 has the numbers of the bytes, as text, in JSON
        numbers = vector.strip(b"[]\n ").split(b",")
        if not all(re.fullmatch(rb" *\d{1,3} *", each) for each in numbers):
            return 0
        vector = bytes(min(255, int(each)) for each in numbers)
    for key, value in struct.iter_unpack("<QQ", vector[: len(vector) & ~15]):
        if key == AT_PAGESZ and 512 <= value <= 1 << 30 and not value & (value - 1):
            return int(value)
    return 0


_JVMS = {b"windows": "Windows", b"bsd": "macOS or a BSD", b"aix": "AIX", b"solaris": "Solaris"}


def _hs_err(text: bytes, name: str, lenient: bool) -> _Found:
    head, mark, rest = text.partition(b"\nDynamic libraries:\n")
    libraries, end, _ = rest.partition(b"\n\n")
    maps = libraries + b"\n" if mark else b""
    maps = b"".join(
        line + b"\n" for line in maps.split(b"\n") if line and not line.startswith(b"Total number of mappings")
    )
    gaps = [] if maps else ["this hs_err tells no map"]
    if maps and not end:
        gaps.append(_IS_OPEN)
    if b" linux-" not in head:
        gaps.append("it does not say that it is of Linux")
    found = re.search(rb"\bpid=(\d{1,10})\b", head)
    if (elsewhere := re.search(rb"^# Java VM: .*\b(windows|bsd|aix|solaris)-", head, re.MULTILINE)) is not None:
        raise Unsupported(f"{name} is the report of a JVM on {_JVMS[elsewhere[1]]}; those of Linux are read")
    return _Found(maps, _kept("hs-err", head), gaps, pid=int(found[1]) if found else 0, name="java")


def _with_rows(form: str, begin: re.Pattern[bytes], end: re.Pattern[bytes]) -> Callable[[bytes, str, bool], _Found]:
    """What reads a report with lines of regions of its own, between two others."""

    def read(text: bytes, name: str, lenient: bool) -> _Found:
        pattern, gap = _ROWS[form]
        text = _without_logcat(text) if form == "tombstone" else text
        kept = _kept(form, text)
        lines = text.split(b"\n")
        at = next((row for row, line in enumerate(lines) if begin.match(line)), None)
        gaps = [gap] if at is not None else [_NO_MAP.get(form, "this report tells no map")]
        passed = first = last = 0
        is_open = at is not None
        for number, line in enumerate(lines[at + 1 :] if at is not None else (), (at or 0) + 1):
            if end.match(line):
                is_open = False
                break
            found = pattern.fullmatch(line)
            row = None if found is None else _row(found)
            if row is not None and last <= row.start < row.end < UNKNOWN:
                last = row.end
                kept.append(line)
            elif line.strip() and not line.startswith(b"--->Fault address"):
                if not lenient:
                    raise MalformedData(name, _place(lines, number), "a line of its map, in order", found=line[:80])
                passed, first = passed + 1, first or number + 1
        gaps += [_IS_OPEN] * is_open
        found_pid = re.search(rb"(?:^|\n)(?:==(\d{1,10})==|pid: (\d{1,10}), tid: |WARNING: .*\(pid=(\d{1,10})\))", text)
        pid = int(found_pid[1] or found_pid[2] or found_pid[3]) if found_pid else 0
        return _Found(b"", kept, [*gaps, *passed_over(passed, first)], pid=pid, frozen=form == "tombstone")

    return read


_LOGCAT = re.compile(rb"^.*\bDEBUG *(?:\( *\d+\))? ?: ")


def _without_logcat(text: bytes) -> bytes:
    """The lines that debuggerd wrote, without what logcat puts before each; what others wrote between them is left
    out. A text that has none of it is as it was."""
    found = [_LOGCAT.match(line) for line in text.split(b"\n")]
    if not any(found):
        return text
    return b"".join(each.string[each.end() :] + b"\n" for each in found if each is not None)


def _glibc(text: bytes, name: str, lenient: bool) -> _Found:
    head, _, rest = text.partition(b" Memory map: =")
    lines = rest.partition(b"\n")[2].split(b"\n")
    end = next((row for row, line in enumerate(lines) if LINE.fullmatch(line) is None), len(lines))
    maps = b"".join(line + b"\n" for line in lines[:end])
    return _Found(maps, _kept("glibc", head), [] if maps else [_NO_MAP["glibc"]])


def _pmap_short(text: bytes, name: str, lenient: bool) -> _Found:
    raise Unsupported(
        f"{name} is what pmap prints without -X: neither offsets, nor devices, nor whole names",
        hint="pmap -XX -p PID tells all of it",
    )


def _go(text: bytes, name: str, lenient: bool) -> _Found:
    return _Found(b"", _kept("go", text), [_NO_MAP["go"]])


def _place(lines: list[bytes], row: int) -> int:
    """Where a line begins, in bytes."""
    return sum(map(len, lines[:row])) + row


class _Row(NamedTuple):
    """A region as a report tells it."""

    start: int
    end: int
    protection: int
    offset: int
    name: bytes


_RIGHTS = {b"r": 1, b"w": 2, b"x": 4}
_ROWS = {
    "sanitizer": (
        re.compile(rb"\t0x(?P<start>[0-9a-f]{1,16})-0x(?P<end>[0-9a-f]{1,16})\t(?P<name>.*)"),
        "a sanitizer tells neither rights nor offsets, nor what is shared",
    ),
    "tombstone": (
        re.compile(
            rb"(?:--->| {4})(?P<start>[0-9a-f']{1,17})-(?P<last>[0-9a-f']{1,17}) (?P<rights>[r-][w-][x-]) +"
            rb"(?P<offset>[0-9a-f]{1,16}) +[0-9a-f]{1,16}(?:  (?P<name>.*?)(?: {1,2}\(BuildId: [0-9a-f]*\))?"
            rb"(?: {1,2}\(load bias 0x[0-9a-f]+\))?)? *"
        ),
        "a tombstone tells neither what is shared, nor devices and inodes",
    ),
}


def _row(found: re.Match[bytes]) -> _Row:
    told = found.groupdict()
    start = int(told["start"].replace(b"'", b""), 16)
    end = int(told["end"], 16) if "end" in told else int(told["last"].replace(b"'", b""), 16) + 1
    rights = int(Protection.UNTOLD)
    if "rights" in told:
        rights = sum(_RIGHTS.get(bytes([each]), 0) for each in told["rights"])
    name = told["name"] or b""
    has_file = name.startswith(b"/")
    offset = int(told["offset"], 16) if has_file and "offset" in told else UNKNOWN
    return _Row(start, end, rights, offset, name)


def _meaning(row: _Row) -> Meaning:
    """Whether it is shared is not told, so some kinds are not either."""
    if not row.name:
        kind = {int(Protection.UNTOLD): Kind.OTHER, 0: Kind.GUARD}.get(row.protection, Kind.ANONYMOUS)
        return Meaning(UNKNOWN, UNKNOWN, UNKNOWN, NO_LABEL, row.protection, UNKNOWN_BYTE, kind)
    label, kind = tell_without_sharing(row.name, protection=row.protection)
    return Meaning(UNKNOWN, UNKNOWN, 0 if row.offset != UNKNOWN else UNKNOWN, label, row.protection, UNKNOWN_BYTE, kind)


def _has_rows(form: str, lines: bytes) -> bool:
    return form in _ROWS and any(map(_ROWS[form][0].fullmatch, lines.split(b"\n")))


_READERS: dict[str, Callable[[bytes, str, bool], _Found]] = {
    "pmap": _pmap,
    "pmap-short": _pmap_short,
    "journal": _journal,
    "hs-err": _hs_err,
    "glibc": _glibc,
    "sanitizer": _with_rows(
        "sanitizer",
        re.compile(rb"==\d+==Process memory map follows:"),
        re.compile(rb"==\d+==End of process memory map"),
    ),
    "tombstone": _with_rows(
        "tombstone", re.compile(rb"memory map(?: \(\d+ entr(?:y|ies)\))?:"), re.compile(rb"$|--- |open files:|log ")
    ),
    "go": _go,
}


# ---- how it ended ----

_HEX = rb"(?:0x)?([0-9a-f']{1,17})\b"
_SAYS: dict[str, dict[str, re.Pattern[bytes]]] = {
    form: {what: re.compile(pattern, re.MULTILINE) for what, pattern in patterns.items()}
    for form, patterns in {
        "journal": {
            "number": rb"^COREDUMP_SIGNAL=(\d{1,3})$",
            "program": rb"^COREDUMP_COMM=(.*)$",
            "arguments": rb"^COREDUMP_CMDLINE=(.*)$",
            "thread": rb"^COREDUMP_PID=(\d{1,10})$",
            "unit": rb"^COREDUMP_UNIT=(.*)$",
            "user unit": rb"^COREDUMP_USER_UNIT=(.*)$",
            "executable": rb"^COREDUMP_EXE=(.*)$",
            "host": rb"^COREDUMP_HOSTNAME=(.*)$",
        },
        "hs-err": {
            "signal": rb"^# +(SIG[A-Z]+) \(0x[0-9a-f]+\) at pc=",
            "pc": rb"^# +SIG[A-Z]+ \(0x[0-9a-f]+\) at pc=" + _HEX,
            # Before JDK 9 tid= was the library's number of the thread (an address), and stood as 0x... later.
            "thread": rb"^(?:#.*\btid=|Current thread .*\bid=)(\d{1,10})\b",
            "sp": rb"^Stack: .*\bsp=" + _HEX,
            "code": rb"^siginfo:.*\bsi_code[:=] ?(-?\d{1,9})",
            "address": rb"^siginfo:.*\bsi_addr[:=] ?" + _HEX,
            "arguments": rb"^Command Line: (.*)$",
            "said": rb"^# +((?:Internal|Out of Memory) Error \(.*?\))(?:, pid=|$)",
        },
        "sanitizer": {
            "signal": rb"^==\d+== ?ERROR: [A-Za-z]+Sanitizer: (SEGV|BUS|FPE|ILL|ABRT|TRAP|stack-overflow) ",
            "address": (
                rb"^==\d+== ?ERROR: [A-Za-z]+Sanitizer: (?:(?:SEGV|BUS) on unknown|stack-overflow on) address " + _HEX
            ),
            "pc": rb"^==\d+== ?ERROR: .*\bpc " + _HEX,
            "sp": rb"^==\d+== ?ERROR: .*\bsp " + _HEX,
            "high": rb"^==\d+== ?Hint: this fault was caused by a dereference of a (high) value address",
            "said": (
                rb"^(?:==\d+== ?(?:ERROR|WARNING): |WARNING: )([A-Za-z]+Sanitizer: .*?)(?: \(?(?:at )?pc | \(pid=|$)"
            ),
        },
        "tombstone": {
            "signal": rb"^signal \d+ \((SIG[A-Z]+)\)",
            "code": rb"^signal \d+ \(SIG[A-Z]+\), code (-?\d{1,9}) ",
            "address": rb"^signal .*, fault addr (?:0x)?([0-9a-f]{1,16})\b",
            "thread": rb"^pid: \d+, tid: (\d{1,10}), name: ",
            "program": rb"^pid: \d+, tid: \d+, name: (.*?)  >>> ",
            "arguments": rb"^pid: \d+, tid: \d+, name: .*  >>> (.*) <<<",
            "sp": rb"^ .*\b[re]?sp +([0-9a-f]{8,16})\b",
            "pc": rb"^ .*\b(?:pc|rip|eip) +([0-9a-f]{8,16})\b(?!  /)",
            "said": rb"^Abort message: (.*)$",
        },
        "glibc": {"said": rb"^\*\*\* (.*?) \*\*\*(?:: .*)?$"},
        "go": {
            "signal": rb"^(?:\[signal )?(SIG[A-Z]+): ",
            "code": rb"\b(?:sigcode=|code=(?=0x))((?:0x[0-9a-f]{1,8}|\d{1,20})\b)",
            "address": rb"\baddr=0x([0-9a-f]{1,16})\b",
            "pc": rb"\b(?:pc|PC)=0x([0-9a-f]{1,16})\b",
            "sp": rb"^(?:(?:rsp|esp|sp) +0x|runtime: sp=0x)([0-9a-f]{1,16})\b",
            "said": rb"^((?:panic|fatal error): .*)$",
        },
    }.items()
}


def _kept(form: str, text: bytes) -> list[bytes]:
    """The first line that says each, whole; of a tombstone also those of its other threads."""
    places = {found.start() for pattern in _SAYS[form].values() if (found := pattern.search(text)) is not None}
    if form == "tombstone":
        places |= _threads_of_tombstone(text)
    starts = sorted({text.rfind(b"\n", 0, place) + 1 for place in places})
    ends = [text.find(b"\n", start) for start in starts]
    return [text[start : end if end >= 0 else None][:4096] for start, end in zip(starts, ends, strict=True)]


def _code(told: bytes | None) -> int | None:
    """A signal's code. Go prints it without a sign, in hexadecimal or in decimal digits."""
    if told is None:
        return None
    code = int(told, 16 if told.startswith(b"0x") else 10)
    return code - (1 << 64) if 1 << 63 <= code < 1 << 64 else code


_THREAD_OF_TOMBSTONE = re.compile(rb"^pid: \d+, tid: (\d{1,10}), name: ", re.MULTILINE)


def _threads_of_tombstone(text: bytes) -> set[int]:
    """Where the lines stand that begin a thread, and those with its two registers (none of a backtrace, or the map)."""
    places: set[int] = set()
    wanted: list[re.Pattern[bytes]] = []
    place = 0
    for line in text.split(b"\n"):
        if _THREAD_OF_TOMBSTONE.match(line):
            wanted = [_SAYS["tombstone"]["sp"], _SAYS["tombstone"]["pc"]]
            places.add(place)
        elif line.startswith((b"backtrace:", b"memory map", b"stack:")):
            wanted = []
        elif found := [each for each in wanted if each.search(line)]:
            wanted = [each for each in wanted if each not in found]
            places.add(place)
        place += len(line) + 1
    return places


def _other_threads(lines: bytes) -> list[CrashedThread]:
    """Of a tombstone, those behind the first."""
    begins = list(_THREAD_OF_TOMBSTONE.finditer(lines))
    ends = [*(each.start() for each in begins[1:]), len(lines)][: len(begins)]  # of a text that was cut early no begin
    return [
        CrashedThread(int(begin[1]), *(_register(lines[begin.start() : end], each) for each in ("pc", "sp")))
        for begin, end in list(zip(begins, ends, strict=True))[1:]
    ]


def _register(lines: bytes, which: str) -> int | None:
    found = _SAYS["tombstone"][which].search(lines)
    return None if found is None else int(found[1], 16)


def _crash(form: str, lines: bytes) -> Crash | None:
    """None for what tells of no end."""
    if form not in _SAYS:
        return None
    told = {what: found[1] for what, pattern in _SAYS[form].items() if (found := pattern.search(lines)) is not None}

    def number(what: str, base: int = 16) -> int | None:
        value = int(told[what].replace(b"'", b""), base) if what in told else None
        return None if value is not None and value > UNKNOWN else value

    def text(what: str) -> str | None:
        return told[what].decode("utf-8", "surrogateescape") or None if what in told else None

    name = text("signal")
    if name == "stack-overflow":  # a sanitizer's word for an access near the stack pointer
        name = "SEGV"
    if name is not None and not name.startswith("SIG"):
        name = f"SIG{name}"
    signal = number("number", 10) if "number" in told else _NUMBERS.get(name or "")
    name = name or SIGNALS.get(signal or 0)
    code = _code(told.get("code"))
    address, why = number("address"), "the text does not tell it"
    if name is None:
        address, why = None, "the process did not stop by a signal"
    elif name not in WITH_ADDRESS:
        address, why = None, f"{name} is sent for none"
    elif code is not None and code <= 0:
        address, why = None, "the signal was sent by a process, not by an access"
    elif code == 128 or "high" in told:
        address, why = None, GENERAL_PROTECTION
    thread = CrashedThread(number("thread", 10), number("pc"), number("sp"))
    others = _other_threads(lines) if form == "tombstone" else []
    return Crash(
        signal=signal,
        signal_name=name,
        code=code,
        fault_address=address,
        fault_span=1,
        no_address="" if address is not None else why,
        threads=(thread, *others) if any(each is not None for each in thread) else (),
        program=text("program"),
        arguments=text("arguments"),
        said=text("said"),
        unit=text("unit") or text("user unit"),
        executable=text("executable"),
        host=text("host"),
    )
