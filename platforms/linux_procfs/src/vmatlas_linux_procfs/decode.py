"""The text of /proc/PID/maps and /proc/PID/smaps to an address space. Pure: it never touches the system.

The format (proc_pid_maps(5); fs/proc/task_mmu.c, `show_map_vma`): a line for each region, sorted by address,

    START-END PERMS OFFSET MAJOR:MINOR INODE    NAME

all hexadecimal but INODE. NAME is all that follows the spaces, spaces of its own included; in it a newline is written
\\012 and nothing else is escaped. smaps has the same line, then `Key:  value kB` lines of that region.

The reading is by columns: one regular expression takes all lines apart, and what few distinct values there are
(rights, file, name) is worked out once for each. native/decode.c does the same where it was built. It gives up on all
that is unusual, so errors and their offsets are told here alone.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice, zip_longest

from vmatlas import compiled
from vmatlas.capture import Capture, check_count
from vmatlas.errors import CR_LF, Disordered, MalformedData
from vmatlas.model import UNKNOWN, AddressSpace, Columns, Kind, Label, SystemFlags
from vmatlas.model.facts import Meaning, Packer, Rows, columns_of, columns_of_rows, meaning_of
from vmatlas.model.region import PROTECTIONS
from vmatlas.patterns import pattern
from vmatlas.systems.linux import judge_empty_map, links, tell
from vmatlas.systems.linux.naming import DELETED
from vmatlas.systems.linux.order import in_order
from vmatlas_linux_procfs.unlisted import ESCAPE, UNLISTED, fill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vmatlas_linux_procfs.flags import VmFlags

MAPS = "maps"
SMAPS = "smaps"
STAT = "stat"

MOST_KEYS = 256
"""How many different keys smaps may have: ten times those of any kernel. Each takes a column."""

# Quantifiers are possessive (++): a line that fits in one way only is never tried in others, whatever stands in it.
# START-END PERMS OFFSET, then MAJOR:MINOR INODE NAME as one group (files are few), and NAME again.
_HEAD = (
    rb"(?m)^([0-9a-f]{1,16})-([0-9a-f]{1,16}) ([r-][w-][x-][spS]) ([0-9a-f]{1,16})"
    rb" ([0-9a-f]{1,8}:[0-9a-f]{1,8} [0-9]{1,20}(?: ++(.*+)|))$"
)
LINE = pattern(_HEAD)
# The same line, less strictly: rights and file are looked at once for each that is different from all before.
_QUICK_LINE = pattern(rb"([0-9a-f]{1,16})-([0-9a-f]{1,16}) (....) ([0-9a-f]{1,16}) (.*)\n")
_WINDOWS_LINE = pattern(
    rb"(?m)^(?:[0-9a-f-]++ .... [0-9a-f]++ [0-9a-f]++:[0-9a-f]++ [0-9]++(?: *+| ++\[[^\n]*\])"
    rb"|[A-Za-z][A-Za-z0-9_()]*+:[^\n]*)\r$"
)
"""A line that ends in CR and cannot but have been given it: of a region without a name, or in brackets, or of a key."""
DETAIL = pattern(rb"(?m)^([A-Za-z][A-Za-z0-9_()]*):[ \t]*(.*)$")
_SHAPE = "START-END rwxp OFFSET MAJOR:MINOR INODE NAME"
_RIGHTS = {
    f"{protection.letters}{sharing}".encode(): (int(protection), sharing != "p")
    for protection in PROTECTIONS
    for sharing in "spS"
}
"""Every PERMS: the protection, and whether shared. Linux without an MMU (fs/proc/task_nommu.c) writes "S" for a mapping
that is shared now and "s" for one that may be; with one, "s" is both."""

NATIVE = compiled.load("vmatlas_linux_procfs._native")
"""The compiled twin; None where this module serves alone."""

_Texts = Sequence[Sequence[bytes]]
"""The columns as texts: starts, ends, rights, offsets, files with their names."""
_Values = Mapping[bytes, Sequence[bytes | None]]


class _Meanings(dict[tuple[bytes, bytes], bytes]):
    """What each distinct (rights, file and name) means, packed, worked out when first met.

    Raises _Misshapen, OverflowError.
    """

    def __init__(self, settled: links.Settled, files: Iterable[bytes]) -> None:
        """`files`: what stands for file and name on each line, or on each that is different."""
        super().__init__()
        self._packer = Packer()
        self.labels = self._packer.labels
        self._settled = settled.seeing(_named(files))
        # Names that hold the four characters of the escape themselves; else each escape is a newline.
        self._exact = {(name.replace(b"\n", ESCAPE), inode): name for name, inode in settled.linked if ESCAPE in name}

    def __missing__(self, key: tuple[bytes, bytes]) -> bytes:
        rights = _RIGHTS.get(key[0])
        if rights is None:
            raise _Misshapen
        facts = self[key] = self.pack(key[1], *rights)
        return facts

    def pack(self, file: bytes, protection: int, shared: bool) -> bytes:
        """What one means, worked out once for all maps unless the file system had to be asked about it."""
        key = file, protection, shared
        meaning = _KNOWN.get(key)
        if meaning is None:
            meaning, is_plain = self._work_out(file, protection, shared)
            if is_plain and len(file) <= _LONGEST_KNOWN_FILE:
                if len(_KNOWN) >= MOST_KNOWN:
                    _KNOWN.clear()
                _KNOWN[key] = meaning
        return self._packer.pack(meaning)

    def _work_out(self, file: bytes, protection: int, shared: bool) -> tuple[Meaning, bool]:
        """The meaning, and whether it is the same in every process."""
        parts = _file_of(file)
        if parts is None:
            raise _Misshapen
        major, minor, inode, name = parts
        if inode > UNKNOWN:
            raise OverflowError("an inode number beyond 64 bits")
        is_plain = ESCAPE not in name and not name.endswith(DELETED)
        if ESCAPE in name:
            name = self._exact.get((name, inode)) or name.replace(ESCAPE, b"\n")
        label, kind = tell(
            name,
            protection=protection,
            shared=shared,
            major=major,
            has_file=bool(major or minor or inode),
            linked=self._settled.linked.get((name, inode), False),
            mounted=self._settled.mounted.get((major, minor)),
        )
        meaning = meaning_of(
            protection=protection, shared=shared, major=major, minor=minor, inode=inode, label=label, kind=kind
        )
        return meaning, is_plain


def _named(files: Iterable[bytes]) -> list[tuple[bytes, int, int]]:
    """Each different name with the numbers of its device, where one of them is called deleted."""
    different = set(files)
    if not any(file.endswith(DELETED) for file in different):
        return []
    return [(name, major, minor) for major, minor, _, name in filter(None, map(_file_of, different))]


_HEXADECIMAL = b"0123456789abcdef"


def _file_of(text: bytes) -> tuple[int, int, int, bytes] | None:
    """Major and minor number of the device, inode, and name, of `MAJOR:MINOR INODE NAME`; None for what is no such."""
    device, _, rest = text.partition(b" ")
    major, colon, minor = device.partition(b":")
    inode, _, name = rest.partition(b" ")
    if (
        not (colon and 1 <= len(major) <= 8 and 1 <= len(minor) <= 8 and len(inode) <= 20 and inode.isdigit())
        or (major + minor).translate(None, _HEXADECIMAL)
        or b"\n" in name
    ):
        return None
    return int(major, 16), int(minor, 16), int(inode), name.lstrip(b" ")


MOST_KNOWN, _LONGEST_KNOWN_FILE = 4096, 1024
_KNOWN: dict[tuple[bytes, int, bool], Meaning] = {}
"""Of (file, protection, shared), for all maps: those of most processes are the same few hundred."""


LONGEST_LINE = 1 << 20
"""Bytes. A path may be longer than PATH_MAX where folders lie deep, but not by that much."""


_MOST_LINES = 10_000_000
"""Of smaps: as many as the largest capture has of a kernel's lines, which have 27 bytes."""


def _check_cost(text: bytes, stream: str, pid: int) -> None:
    """Before objects are made of a long text: it must not tell of too much, and be lines. Raises MalformedData."""
    if stream == MAPS:
        check_count(stream, text.count(b"\n"), pid=pid)
    else:  # at least as many as there are lines with rights; a name may hold such letters, too
        regions = sum(map(text.count, (b"-p ", b"xp ", b"-s ", b"xs ")))
        check_count(stream, regions, pid=pid)
        if (lines := text.count(b"\n")) > min(_MOST_LINES, (1 + MOST_KEYS) * (1 + regions)):
            raise MalformedData(stream, 0, f"fewer than {lines:,} lines of {regions:,} regions", pid=pid)
    for position in range(0, len(text), LONGEST_LINE):
        if text.find(b"\n", position, position + LONGEST_LINE) < 0 and position + LONGEST_LINE < len(text):
            start = text.rfind(b"\n", 0, position) + 1
            raise MalformedData(
                stream, start, f"a line of at most {LONGEST_LINE:,} bytes", found=text[start : start + 40], pid=pid
            )


class _Misshapen(Exception):
    """A line has not the shape that it seemed to have."""


LENIENT = "--lenient passes over such lines, and counts them"


def decode(capture: Capture) -> AddressSpace:
    """Raises MalformedData, Disordered, NoSuchProcess."""
    stream = SMAPS if SMAPS in capture.streams else MAPS
    text = capture.stream(stream)
    if not text:
        judge_empty_map(capture.streams.get(STAT), stream, pid=capture.pid)
        return AddressSpace(Columns(), capture.origin)
    if missed := capture.streams.get(UNLISTED):
        text = fill(text, missed, capture.system.byte_order)
    if len(text) > LONGEST_LINE:
        _check_cost(text, stream, capture.pid)
    settled = links.Settled.of(capture.streams)
    if NATIVE is not None:
        found = NATIVE.decode_smaps(text) if stream == SMAPS else NATIVE.decode_maps(text)
        if found is not None and (compiled_columns := columns_of_native(found, settled)) is not None:
            return AddressSpace(compiled_columns, capture.origin)
    _refuse_windows_lines(text, stream, capture.pid)
    try:
        columns = _decode_smaps(text, settled) if stream == SMAPS else _decode_maps(text, settled)
    except OverflowError:
        raise MalformedData(
            stream, _first_overflow(text), "an inode number of at most 64 bits", pid=capture.pid
        ) from None
    except MalformedData as error:
        if not capture.system.release:  # a text that somebody pasted tells no kernel
            error.hint = error.hint or LENIENT
        raise
    space = in_order(columns, capture.origin)
    if isinstance(space, int):
        offset = next(match.start() for number, match in enumerate(LINE.finditer(text)) if number == space)
        expected = "a region that begins where the one before it ends, or above"
        raise Disordered(stream, offset, expected, found=text[offset : offset + 40], pid=capture.pid)
    return space


def _refuse_windows_lines(text: bytes, stream: str, pid: int) -> None:
    """Raises MalformedData for lines that end in CR LF.

    A path may end in CR, so one line proves nothing by itself: but no kernel calls a region CR, ends a name in brackets
    or a number so, and in no map does every path.
    """
    marked = text.count(b"\r\n")
    if marked and (marked == text.count(b"\n") > 1 or _WINDOWS_LINE.search(text)):
        raise MalformedData(
            stream,
            text.find(b"\r\n"),
            CR_LF,
            pid=pid,
            hint="take the carriage returns out (tr -d '\\r'), or record the process with 'vmatlas record'",
        )


def columns_of_native(found: Rows | tuple[Rows, list[str]], settled: links.Settled) -> Columns | None:
    """The columns of what the compiled twin took apart: of maps rows alone, of smaps with the keys.

    None when there is something unusual in it after all.
    """
    if not settled and (columns := columns_of_known(found)) is not None:
        return columns
    rows, keys = found if isinstance(found, tuple) else (found, [])
    facts = rows.facts()
    if any(file.endswith(b"\r") for file, _ in facts):
        return None
    meanings = _Meanings(settled, (file for file, _ in facts))
    try:
        packed = b"".join([meanings.pack(file, tag & 7, tag > 7) for file, tag in facts])
    except (_Misshapen, OverflowError):
        return None
    if not any(file.endswith(DELETED) or ESCAPE in file for file, _ in facts):
        signature = rows.signature()
        if len(signature) <= LONGEST_KNOWN:
            if len(_KNOWN_MAPS) >= MOST_KNOWN_MAPS:
                _KNOWN_MAPS.clear()
            _KNOWN_MAPS[signature] = packed, meanings.labels
    columns = columns_of_rows(rows, packed, meanings.labels)
    return columns if not keys or _add_details(columns, rows, keys) else None


def columns_of_known(found: Rows | tuple[Rows, list[str]]) -> Columns | None:
    """The same where all facts together were met before, and none is one that the file system must settle."""
    rows, keys = found if isinstance(found, tuple) else (found, [])
    known = _KNOWN_MAPS.get(rows.signature())
    if known is None:
        return None
    columns = columns_of_rows(rows, *known)
    return columns if not keys or _add_details(columns, rows, keys) else None


MOST_KNOWN_MAPS, LONGEST_KNOWN = 64, 1 << 16
_KNOWN_MAPS: dict[bytes, tuple[bytes, list[Label]]] = {}
"""By signature: who asks one process again and again meets the same facts each time."""


def _add_details(columns: Columns, rows: Rows, keys: list[str]) -> bool:
    for number, key in enumerate(keys):
        if key != "VmFlags":
            columns.details[key] = rows.number(number)
            continue
        marks = rows.marks()
        flags: list[SystemFlags | None] = [_flags(mark) for mark in marks]
        if None in flags or any(mark.endswith(b"\r") for mark in marks):
            return False
        columns.flags = rows.pick(number, flags)
        growing = [mark for mark, each in enumerate(flags) if each and each.grows_down]
        _tell_stacks(columns, _rows_with(growing, rows.number(number)) if growing else ())
    private = None
    if "Private_Clean" in keys and "Private_Dirty" in keys:
        private = rows.sum(keys.index("Private_Clean"), keys.index("Private_Dirty"))
    _add_use(columns, private)
    return True


def _tell_stacks(columns: Columns, growing: Iterable[int]) -> None:
    """What grows downward is a stack, named or not: of a main stack that was split the kernel names the top alone."""
    for row in growing:
        if columns.kind[row] == Kind.ANONYMOUS:
            columns.kind[row] = Kind.STACK


def _rows_with(marks: Sequence[int], of_rows: array[int]) -> Iterator[int]:
    """The rows that have one of some marks, which few have."""
    for mark in marks:
        row = -1
        with contextlib.suppress(ValueError):
            while True:
                row = of_rows.index(mark, row + 1)
                yield row


def _first_overflow(text: bytes) -> int:
    return next(m.start() for m in LINE.finditer(text) if int(m[5].split(b" ")[1]) > UNKNOWN)


def _decode_maps(text: bytes, settled: links.Settled) -> Columns:
    # What stands between the lines that were found, then the groups of one line, and again to the end.
    pieces = _QUICK_LINE.split(text)
    between, *texts = (pieces[each::6] for each in range(6))
    try:
        if any(between):
            raise _Misshapen
        return _columns(texts, settled)
    except _Misshapen:
        raise _bad_line(text, MAPS, lambda line: LINE.fullmatch(line) is not None) from None


def _columns(texts: _Texts, settled: links.Settled) -> Columns:
    starts, ends, rights, offsets, files = texts
    meanings = _Meanings(settled, files)
    facts = b"".join(map(meanings.__getitem__, zip(rights, files, strict=True)))
    return columns_of(_numbers_of(starts), _numbers_of(ends), _numbers_of(offsets), facts, meanings.labels)


def _numbers_of(texts: Sequence[bytes]) -> array[int]:
    """Hexadecimal numbers of at most 16 digits. All in one go, at half of what int(text, 16) of each takes."""
    numbers = array("Q", bytes.fromhex((b"%16b" * len(texts) % tuple(texts)).replace(b" ", b"0").decode("ascii")))
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers


def _bad_line(text: bytes, stream: str, good: Callable[[bytes], bool], expected: str = _SHAPE) -> MalformedData:
    position = 0
    while (stop := text.find(b"\n", position)) >= 0 and good(text[position:stop]):
        position = stop + 1
    expected = expected if stop >= 0 else f"a whole line: {expected}"
    return MalformedData(stream, position, expected, found=text[position : stop if stop >= 0 else len(text)])


def _decode_smaps(text: bytes, settled: links.Settled) -> Columns:
    texts, values = _take_apart(text) or _take_apart_unlike(text)
    columns = _columns(texts, settled)
    for key, raw in values.items():
        _add_detail(columns, key.decode("ascii"), raw)
    clean, dirty = _numbers(columns, "Private_Clean"), _numbers(columns, "Private_Dirty")
    private = None
    if clean is not None and dirty is not None:
        sums = (UNKNOWN if UNKNOWN in both else min(sum(both), UNKNOWN) for both in zip(clean, dirty, strict=True))
        private = array("Q", sums)
    _add_use(columns, private)
    return columns


def _add_use(columns: Columns, private: array[int] | None) -> None:
    """The memory in use. `private`: Private_Clean and Private_Dirty together.

    The kernel counts pages of hugetlb apart from all others (`smaps_hugetlb_range`): of them all other keys are 0.
    """
    huge, shared_huge = _numbers(columns, "Private_Hugetlb"), _numbers(columns, "Shared_Hugetlb")
    columns.resident = _with_huge(_with_huge(_numbers(columns, "Rss"), huge), shared_huge)
    columns.private_resident = _with_huge(private, huge)
    columns.page_size = _numbers(columns, "KernelPageSize")


def _with_huge(column: array[int] | None, huge: array[int] | None) -> array[int] | None:
    """Both added; what is not told of huge pages adds nothing."""
    if column is None or huge is None or not any(huge):
        return column
    added = (
        number if UNKNOWN in (number, more) else min(number + more, UNKNOWN)
        for number, more in zip(column, huge, strict=True)
    )
    return array("Q", added)


def _numbers(columns: Columns, key: str) -> array[int] | None:
    found = columns.details.get(key)
    return found if isinstance(found, array) else None


def _take_apart(text: bytes) -> tuple[_Texts, _Values] | None:
    """The header lines, and the value of each region by key; None unless every region has the keys of the first one.

    That is what kernels write; then one regular expression takes a region apart, at five times the speed.
    """
    second = LINE.search(text, 1)
    first = DETAIL.finditer(text, 0, len(text) if second is None else second.start())
    keys = [each[1] for each in islice(first, MOST_KEYS + 1)]
    if len(set(keys)) != len(keys) or not 0 < len(keys) <= MOST_KEYS:
        return None
    import re

    details = b"".join(rb"\n%s:[ \t]*+(.*+)" % re.escape(key) for key in keys)
    regions = re.findall(_HEAD + details, text)
    if not text.endswith(b"\n") or len(regions) * (1 + len(keys)) != text.count(b"\n"):
        return None
    columns = list(zip(*regions, strict=True))
    return columns[:5], dict(zip(keys, columns[6:], strict=True))


def _take_apart_unlike(text: bytes) -> tuple[_Texts, _Values]:
    """The same for regions of different keys. Raises MalformedData."""
    heads = list(LINE.finditer(text))
    details = sum(1 for _ in DETAIL.finditer(text))
    if DETAIL.match(text):
        raise MalformedData(SMAPS, 0, _SHAPE, found=text[:40])
    if not heads or not text.endswith(b"\n") or len(heads) + details != text.count(b"\n"):
        raise _bad_line(
            text,
            SMAPS,
            lambda line: bool(LINE.fullmatch(line) or DETAIL.fullmatch(line)),
            f"{_SHAPE}, then lines 'Key: value'",
        )
    values: dict[bytes, list[bytes | None]] = {}
    for row, (head, following) in enumerate(zip_longest(heads, heads[1:])):
        stop = len(text) if following is None else following.start()
        for match in DETAIL.finditer(text, head.end(), stop):
            values.setdefault(match[1], [None] * len(heads))[row] = match[2]
            if len(values) > MOST_KEYS:
                raise MalformedData(SMAPS, match.start(), f"at most {MOST_KEYS} different keys")
    return list(zip(*(head.groups()[:5] for head in heads), strict=True)), values


def _add_detail(columns: Columns, key: str, raw: Sequence[bytes | None]) -> None:
    """One key's column: flags, numbers, or, where one value is not a number that we know how to read, texts."""
    distinct = set(raw)
    if key == "VmFlags":
        flags = {value: None if value is None else _flags(value) for value in distinct}
        columns.flags = [flags[value] for value in raw]
        growing = {value for value, each in flags.items() if each and each.grows_down}
        _tell_stacks(columns, (row for row, value in enumerate(raw) if value in growing) if growing else ())
        raw = [value if flags[value] is None else None for value in raw]
        distinct = set(raw)
        if distinct == {None}:
            return
    amounts = {value: amount for value in distinct if (amount := _amount(value)) is not None}
    if len(amounts) == len(distinct):
        columns.details[key] = array("Q", map(amounts.__getitem__, raw))
        return
    columns.details[key] = [None if value is None else value.decode("utf-8", "surrogateescape") for value in raw]


def _amount(value: bytes | None) -> int | None:
    """Bytes, or a bare number; None for any other text."""
    if value is None:
        return UNKNOWN
    number, _, unit = value.partition(b" ")
    if not number.isdigit() or len(number) > 20 or unit not in (b"", b"kB"):
        return None
    amount = int(number) * (1024 if unit else 1)
    return amount if amount < UNKNOWN else None


@functools.lru_cache(1024)
def _flags(value: bytes) -> VmFlags | None:
    """None for a text that is not made of pairs of letters."""
    from vmatlas_linux_procfs.flags import VmFlags, flag_of  # a map without them does not pay for forty members

    flags = VmFlags(0)
    for letters in value.decode("latin-1").split():
        flag = flag_of(letters)
        if flag is None:
            return None
        flags |= flag
    return flags
