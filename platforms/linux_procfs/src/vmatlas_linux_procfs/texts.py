"""The text of /proc/PID/maps or smaps that somebody saved or pasted: a capture of it. Pure."""

from __future__ import annotations

import re

from vmatlas.capture import Capture
from vmatlas.errors import MalformedData
from vmatlas.files.texts import MAPS as FORM_OF_MAPS
from vmatlas.model import Query, SystemInfo
from vmatlas_linux_procfs.decode import DETAIL, LINE, MAPS, MOST_KEYS, SMAPS

_FILLED = re.compile(rb"[^\n]+")
_USUAL_PAGE = 4096
_NEVER = "a text tells neither whose map it is, nor when it was, nor the page size (taken for 4,096)"


class LinuxTexts:
    """See `vmatlas.files.contract.ReadsTexts`."""

    def capture_of_text(self, text: bytes, *, form: str, name: str, time: float, lenient: bool) -> Capture:
        """Raises MalformedData when nothing is left of it, Unsupported."""
        if form != FORM_OF_MAPS:
            from vmatlas_linux_procfs.reports import capture_of_report

            return capture_of_report(text, form=form, name=name, time=time, lenient=lenient)
        gaps = [_NEVER]
        if lenient:
            text, passed, first = without_odd_lines(text)
            if not text:
                raise MalformedData(name, 0, "a line of /proc/PID/maps or smaps somewhere in the text")
            gaps += passed_over(passed, first)
        if not text.endswith(b"\n"):  # the end of what was marked with a mouse
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
        if found is not None and end <= int(found[1], 16) < int(found[2], 16):
            end, keys = int(found[2], 16), 0
        elif found is None and keys < MOST_KEYS and DETAIL.fullmatch(line):
            keys += 1
        else:
            if line.strip():
                passed, at_first = passed + 1, at_first if passed else place.start()
                keys = keys if found is None else MOST_KEYS  # keys behind a line that was passed over are its
            continue
        kept += line
        kept += b"\n"
    return bytes(kept), passed, text.count(b"\n", 0, at_first) + 1 if passed else 0
