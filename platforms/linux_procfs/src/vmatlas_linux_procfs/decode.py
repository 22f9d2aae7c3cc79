"""The text of /proc/PID/maps and /proc/PID/smaps to an address space. Pure: it never touches the system.

The format (proc_pid_maps(5); fs/proc/task_mmu.c, `show_map_vma`): a line for each region, sorted by address,

    START-END PERMS OFFSET MAJOR:MINOR INODE    NAME

all hexadecimal but INODE. NAME is all that follows the spaces, spaces of its own included; in it a newline is written
\\012 and nothing else is escaped. smaps has the same line, then `Key:  value kB` lines of that region.

The reading is by columns: one regular expression takes all lines apart, and what few distinct values there are
(rights, file, name) is worked out once for each.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Mapping
from itertools import pairwise, repeat

from vmatlas.capture import Capture
from vmatlas.errors import Disordered, MalformedData
from vmatlas.model import UNKNOWN, AddressSpace, Columns, SystemFlags, pack_device
from vmatlas.systems.linux import Namer, judge_empty_map, links
from vmatlas_linux_procfs.flags import VmFlags, flag_of

MAPS = "maps"
SMAPS = "smaps"
STAT = "stat"

ESCAPE = b"\\012"
"""How the text shows a newline in a name. The same four characters in a name are shown alike."""

MOST_KEYS = 256
"""How many different keys smaps may have: ten times those of any kernel. Each takes a column."""

# START-END PERMS OFFSET, then MAJOR:MINOR INODE as one group: it names the file, and files are few.
_HEAD = (
    rb"^([0-9a-f]{1,16})-([0-9a-f]{1,16}) ([r-][w-][x-][sp]) ([0-9a-f]{1,16})"
    rb" ([0-9a-f]{1,8}:[0-9a-f]{1,8} [0-9]{1,20})(?: +(.*)|)$"
)
LINE = re.compile(_HEAD, re.MULTILINE)
_DETAIL = re.compile(rb"^([A-Za-z][A-Za-z0-9_()]*):[ \t]*(.*)$", re.MULTILINE)
_SHAPE = "START-END rwxp OFFSET MAJOR:MINOR INODE NAME"
_RIGHTS = {b"r": 1, b"w": 2, b"x": 4}

# What a distinct (rights, file, name) means: protection, shared, device, inode, label, kind, whether there is a file.
_Facts = tuple[int, int, int, int, int, int, bool]
_Row = tuple[bytes, bytes, bytes, bytes, bytes, bytes]


class _Meanings(dict[tuple[bytes, bytes, bytes], _Facts]):
    """What each distinct (rights, file, name) means, worked out when first met."""

    def __init__(self, linked: Mapping[links.Name, bool]) -> None:
        super().__init__()
        self.namer = Namer(linked)
        # Names that hold the four characters of the escape themselves; else each escape is a newline.
        self._exact = {(name.replace(b"\n", ESCAPE), inode): name for name, inode in linked if ESCAPE in name}

    def __missing__(self, key: tuple[bytes, bytes, bytes]) -> _Facts:
        rights, file, name = key
        protection = sum(bit for letter, bit in _RIGHTS.items() if letter in rights)
        device, inode_text = file.split(b" ")
        major, minor = (int(number, 16) for number in device.split(b":"))
        inode = int(inode_text)
        if inode > UNKNOWN:
            raise OverflowError("an inode number beyond 64 bits")
        has_file = bool(major or minor or inode)
        if ESCAPE in name:
            name = self._exact.get((name, inode)) or name.replace(ESCAPE, b"\n")
        label, kind = self.namer.tell(name, inode, protection, has_file)
        facts = (
            protection,
            rights.endswith(b"s"),
            pack_device(major, minor) if has_file else UNKNOWN,
            inode if has_file else UNKNOWN,
            label,
            kind,
            has_file,
        )
        self[key] = facts
        return facts


def decode(capture: Capture) -> AddressSpace:
    """Raises MalformedData, Disordered, NoSuchProcess."""
    stream = SMAPS if SMAPS in capture.streams else MAPS
    text = capture.stream(stream)
    if not text:
        judge_empty_map(capture.streams.get(STAT), stream, pid=capture.pid)
        return AddressSpace(Columns(), capture.origin)
    linked = links.decode(capture.streams.get(links.STREAM, b""))
    try:
        columns = _decode_smaps(text, linked) if stream == SMAPS else _decode_maps(text, linked)
    except OverflowError:
        raise MalformedData(
            stream, _first_overflow(text), "an inode number of at most 64 bits", pid=capture.pid
        ) from None
    row = columns.first_disorder()
    if row is not None:
        offset = next(match.start() for number, match in enumerate(LINE.finditer(text)) if number == row)
        raise Disordered(
            stream,
            offset,
            "a region after the one before it, and not empty",
            found=text[offset : offset + 40],
            pid=capture.pid,
        )
    return AddressSpace(columns, capture.origin)


def _first_overflow(text: bytes) -> int:
    return next(m.start() for m in LINE.finditer(text) if int(m[5].split(b" ")[1]) > UNKNOWN)


def _decode_maps(text: bytes, linked: Mapping[links.Name, bool]) -> Columns:
    rows: list[_Row] = LINE.findall(text)
    if not text.endswith(b"\n") or len(rows) != text.count(b"\n"):
        raise _bad_line(text, MAPS, lambda line: LINE.fullmatch(line) is not None)
    return _columns(rows, _Meanings(linked))


def _columns(rows: list[_Row], meanings: _Meanings) -> Columns:
    starts, ends, rights, offsets, files, names = zip(*rows, strict=True)
    facts = map(meanings.__getitem__, zip(rights, files, names, strict=True))
    protection, shared, device, inode, label, kind, has_file = zip(*facts, strict=True)
    return Columns(
        start=array("Q", map(int, starts, repeat(16))),
        end=array("Q", map(int, ends, repeat(16))),
        offset=array("Q", [int(o, 16) if there else UNKNOWN for o, there in zip(offsets, has_file, strict=True)]),
        device=array("Q", device),
        inode=array("Q", inode),
        protection=array("B", protection),
        shared=array("B", shared),
        kind=array("B", kind),
        label=array("I", label),
        labels=meanings.namer.labels,
    )


def _bad_line(text: bytes, stream: str, good: Callable[[bytes], bool], expected: str = _SHAPE) -> MalformedData:
    position = 0
    while (stop := text.find(b"\n", position)) >= 0 and good(text[position:stop]):
        position = stop + 1
    expected = expected if stop >= 0 else f"a whole line: {expected}"
    return MalformedData(stream, position, expected, found=text[position : stop if stop >= 0 else len(text)])


def _decode_smaps(text: bytes, linked: Mapping[links.Name, bool]) -> Columns:
    heads = list(LINE.finditer(text))
    details = len(_DETAIL.findall(text))
    if not heads or heads[0].start() or not text.endswith(b"\n") or len(heads) + details != text.count(b"\n"):
        if _DETAIL.match(text):
            raise MalformedData(SMAPS, 0, _SHAPE, found=text[:40])
        raise _bad_line(
            text,
            SMAPS,
            lambda line: bool(LINE.fullmatch(line) or _DETAIL.fullmatch(line)),
            f"{_SHAPE}, then lines 'Key: value'",
        )
    columns = _columns([_row(match) for match in heads], _Meanings(linked))
    values = _Details(len(heads))
    bounds = [match.end() for match in heads]
    for row, (begin, end) in enumerate(pairwise([*bounds, len(text)])):
        stop = heads[row + 1].start() if row + 1 < len(heads) else end
        for match in _DETAIL.finditer(text, begin, stop):
            values.put(row, match[1].decode("ascii"), match[2], match.start())
    values.into(columns)
    return columns


def _row(match: re.Match[bytes]) -> _Row:
    start, end, rights, offset, file, name = match.groups(b"")
    return start, end, rights, offset, file, name


class _Details:
    """The `Key: value` lines of smaps, gathered by key."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._numbers: dict[str, array[int]] = {}
        self._texts: dict[str, list[str | None]] = {}
        self._flags: list[SystemFlags] | None = None
        self._known_flags: dict[bytes, VmFlags | None] = {}

    def put(self, row: int, key: str, value: bytes, offset: int) -> None:
        if key == "VmFlags" and (flags := self._flags_of(value)) is not None:
            if self._flags is None:
                self._flags = [VmFlags(0)] * self._rows
            self._flags[row] = flags
            return
        number, _, unit = value.partition(b" ")
        if number.isdigit() and unit in (b"", b"kB"):
            amount = int(number) * (1024 if unit else 1) if len(number) <= 20 else UNKNOWN
            if amount >= UNKNOWN:
                raise MalformedData(SMAPS, offset, f"'{key}' of less than 64 bits", found=value)
            column = self._numbers.get(key)
            if column is None:
                column = self._numbers[key] = array("Q", [UNKNOWN]) * self._rows
            column[row] = amount
        else:
            # Not a number that we know how to read: kept as it stands.
            self._texts.setdefault(key, [None] * self._rows)[row] = value.decode("utf-8", "surrogateescape")
        if len(self._numbers) + len(self._texts) > MOST_KEYS:
            raise MalformedData(SMAPS, offset, f"at most {MOST_KEYS} different keys")

    def _flags_of(self, value: bytes) -> VmFlags | None:
        if value not in self._known_flags:
            flags: VmFlags | None = VmFlags(0)
            for letters in value.decode("latin-1").split():
                flag = flag_of(letters)
                flags = None if flags is None or flag is None else flags | flag
            self._known_flags[value] = flags
        return self._known_flags[value]

    def into(self, columns: Columns) -> None:
        columns.flags = self._flags
        columns.resident = self._numbers.get("Rss")
        columns.page_size = self._numbers.get("KernelPageSize")
        clean, dirty = self._numbers.get("Private_Clean"), self._numbers.get("Private_Dirty")
        if clean is not None and dirty is not None:
            columns.private_resident = array(
                "Q",
                [UNKNOWN if UNKNOWN in both else min(sum(both), UNKNOWN) for both in zip(clean, dirty, strict=True)],
            )
        # A key may be a number in one region and text in another, on a kernel that we do not know: then all is text.
        for key, texts in self._texts.items():
            for row, number in enumerate(self._numbers.pop(key, ())):
                if number != UNKNOWN:
                    texts[row] = str(number)
        columns.details = {**self._numbers, **self._texts}
