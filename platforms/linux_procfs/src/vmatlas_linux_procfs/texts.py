"""The text of /proc/PID/maps or smaps that somebody saved or pasted: a capture of it. Pure."""

from __future__ import annotations

import re
from itertools import islice

from vmatlas.capture import Capture
from vmatlas.errors import MalformedData, Unsupported
from vmatlas.files.texts import MAPS as FORM_OF_MAPS
from vmatlas.model import Query, SystemInfo
from vmatlas_linux_procfs.decode import DETAIL, LENIENT, LINE, MAPS, MOST_KEYS, SMAPS

_FILLED = re.compile(rb"[^\n]+")
_USUAL_PAGE = 4096
_SIZES = (
    rb"Size|KernelPageSize|MMUPageSize|Rss|Pss(?:_[A-Za-z]+)?|(?:Shared|Private)_[A-Za-z]+|Referenced|Anonymous|KSM"
    rb"|LazyFree|AnonHugePages|(?:Shmem|File)PmdMapped|Swap|SwapPss|Locked"
)
"""The keys of smaps whose values are amounts, and end in " kB" on every kernel: a number without it was cut."""
_CUT = re.compile(
    rb"^[ \t]*+(?:(?:" + _SIZES + rb"):(?![ \t]*+\d{1,20} kB[ \t\r]*+$)"
    rb"|(?:THPeligible|ProtectionKey):(?![ \t]*+\d{1,10}[ \t\r]*+$)"
    rb"|VmFlags:(?!(?:[ \t]++[^ \t\r\n]{2})*+[ \t\r]*+$))[^\n]*+",
    re.MULTILINE,
)
"""A line of a key that every kernel writes otherwise."""
_ROLLUP = re.compile(rb"^[ \t]*+[0-9a-f]{1,16}-[0-9a-f]{1,16} ---p 0+ 0+:0+ 0 +\[rollup\][ \t\r]*+$", re.MULTILINE)
"""The first line of smaps_rollup (fs/proc/task_mmu.c, `show_smaps_rollup`): no region, but all that there are."""
NO_END = "its last line has no end: it may be cut"
_TAIL = 1 << 16
_MOST_NAMED = 3
_NEVER = "a text tells neither whose map it is, nor when it was, nor the page size (taken for 4,096)"


class LinuxTexts:
    """See `vmatlas.files.contract.ReadsTexts`."""

    def capture_of_text(self, text: bytes, *, form: str, name: str, time: float, lenient: bool) -> Capture:
        """Raises MalformedData when nothing is left of it, Unsupported."""
        if form != FORM_OF_MAPS:
            from vmatlas_linux_procfs.reports import capture_of_report

            return capture_of_report(text, form=form, name=name, time=time, lenient=lenient)
        gaps = [_NEVER]
        is_open = not text.endswith(b"\n")
        _refuse_totals(text, name, lenient=lenient)
        if lenient:
            text, passed, first = without_odd_lines(text)
            if not text:
                raise MalformedData(name, 0, "a line of /proc/PID/maps or smaps somewhere in the text")
            gaps += passed_over(passed, first)
        elif (cut := _CUT.search(text)) is not None:
            expected = "a value of smaps, whole (of an amount a number and ' kB')"
            raise MalformedData(SMAPS, cut.start(), expected, found=cut[0][:80], hint=LENIENT)
        if is_open:  # the end of what was marked with a mouse, or of what could not be written
            gaps.append(NO_END)
        gaps += _lacking_keys(text)
        if not text.endswith(b"\n"):
            text += b"\n"
        return Capture(
            streams={SMAPS if DETAIL.search(text) else MAPS: text},
            system=SystemInfo("linux", "", "", "", "little", 64, _USUAL_PAGE),
            pid=0,
            backend="linux-procfs",
            distribution="vmatlas-linux-procfs",
            query=Query(residency=DETAIL.search(text) is not None),
            time=time,
            incomplete="; ".join(gaps),
        )


TEXTS = LinuxTexts()


def _refuse_totals(text: bytes, name: str, *, lenient: bool) -> None:
    """Raises Unsupported for the text of smaps_rollup, MalformedData for one that stands behind a map or before it."""
    found = _ROLLUP.search(text)
    if found is None:
        return
    if all(_ROLLUP.match(each[0]) for each in LINE.finditer(text)):
        raise Unsupported(
            f"{name} is the text of smaps_rollup: the totals of a process, and no map",
            hint="the map with its totals: cat /proc/PID/smaps, or vmatlas record PID",
        )
    if not lenient:
        expected = "a line of /proc/PID/maps or smaps, not of smaps_rollup"
        raise MalformedData(name, found.start(), expected, found=found[0][:80], hint=LENIENT)


def _lacking_keys(text: bytes) -> list[str]:
    """What is to be said where the last region lacks keys that the first one has: the kernel gives all the same."""
    second = LINE.search(text, 1)
    first = [
        each[1] for each in islice(DETAIL.finditer(text, 0, len(text) if second is None else second.start()), MOST_KEYS)
    ]
    if second is None or not first:
        return []
    *_, last = LINE.finditer(text, max(0, len(text) - _TAIL))
    has = {each[1] for each in DETAIL.finditer(text, last.end())}
    lacking = [each.decode("latin-1") for each in first if each not in has]
    if not lacking:
        return []
    more = f" and {len(lacking) - _MOST_NAMED} more" if len(lacking) > _MOST_NAMED else ""
    return [f"its last region has no {', '.join(lacking[:_MOST_NAMED])}{more}, as others have: it may be cut there"]


def passed_over(count: int, first: int) -> list[str]:
    """What is to be said of lines that were: how many, and the number of the first."""
    if not count:
        return []
    return [f"{count:,} odd line{' was' if count == 1 else 's were'} passed over (the first: line {first:,})"]


def without_odd_lines(text: bytes) -> tuple[bytes, int, int]:
    """The lines of regions, in order, and those of keys behind them; how many others there were, and the first's
    number. Empty lines are none, nor is what stands before or behind a line: blanks, a carriage return."""
    kept = bytearray()
    passed, at_first, end, keys = 0, 0, 0, MOST_KEYS
    for place in _FILLED.finditer(text):  # one at a time: as objects all of them are thirty times their bytes
        line = place[0].lstrip(b" \t").removesuffix(b"\r")
        found = LINE.fullmatch(line)
        is_region = found is not None and not _ROLLUP.match(line)
        if is_region and found is not None and end <= int(found[1], 16) < int(found[2], 16):
            end, keys = int(found[2], 16), 0
        elif found is None and keys < MOST_KEYS and DETAIL.fullmatch(line) and not _CUT.match(line):
            keys += 1
        else:
            if line.strip():
                passed, at_first = passed + 1, at_first if passed else place.start()
                keys = keys if found is None else MOST_KEYS  # keys behind a line that was passed over are its
            continue
        kept += line
        kept += b"\n"
    return bytes(kept), passed, text.count(b"\n", 0, at_first) + 1 if passed else 0
