"""Texts that tell a map, or how a process ended: which one it is, and of which system. What it says is a plugin's.

A text is known by a line near its beginning. Pure.
"""

from __future__ import annotations

import re
from typing import NamedTuple

HEAD = 1 << 18
"""So many bytes of a text are looked at."""

MAPS = "maps"
"""The text of Linux' /proc/PID/maps or smaps, as it is."""


class Form(NamedTuple):
    """A text of one writer."""

    name: str
    system: str
    called: str
    """What errors call it."""


LINUX_MAPS = Form(MAPS, "linux", "the text of a map of Linux")

_REGION = rb"[0-9a-f]{1,16}-[0-9a-f]{1,16} [r-][w-][x-][spS] "
_LINE_OF_MAPS = re.compile(rb"\s*+" + _REGION)
_LINE_FURTHER = re.compile(rb"^[ \t]*" + _REGION, re.MULTILINE)
_EXPORT = b"__CURSOR="
_FORMS = (
    (rb"\A\s*+[\[{](?s:.)*?\"(?:COREDUMP_[A-Z_]+|MESSAGE_ID)\"\s*:",
     Form("journal", "linux", "an entry of systemd's journal")),
    (rb"\A" + _EXPORT, Form("journal", "linux", "an entry of systemd's journal")),
    (rb"^[ \t]*+Address +Perm +Offset +Device +Inode +Size .*\bMapping *$",
     Form("pmap", "linux", "what pmap -X prints")),
    (rb"^ *PID +START +END +PRT +RES +PRES +REF +SHD +FL(?:AGS?)? +TP +PATH *$",
     Form("procstat", "freebsd", "what procstat -v prints")),
    (rb"^vaddr,size,flags,prot,", Form("pmap", "qnx", "the text of /proc/PID/pmap of QNX")),
    (rb"^ *pid tid name +prio STATE +code +data +stack", Form("pidin", "qnx", "what pidin mem prints")),
    (rb"^Address +Kbytes +(?:RSS|PSS|Mode)\b.*\bMapping *$|^\d+: .*\n[0-9a-f]{8,16} +\d+K [r-][w-][x-]",
     Form("pmap-short", "linux", "what pmap prints without -X")),
    (rb"^# (?:A fatal error has been detected by|There is insufficient memory for) the Java Runtime Environment",
     Form("hs-err", "linux", "a JVM's hs_err")),
    (rb"^==\d+== ?(?:(?:ERROR|WARNING): [A-Za-z]+Sanitizer: |Process memory map follows|"
     rb"Shadow memory range interleaves)|^WARNING: ThreadSanitizer: ",
     Form("sanitizer", "linux", "a sanitizer's report")),
    (rb"^(?:.*: )?(?:\*\*\* ){15}\*\*\*$|^(?:.*\bDEBUG *(?:\( *\d+\))?: )?pid: \d+, tid: \d+, name: ",
     Form("tombstone", "linux", "a tombstone of Android")),
    (rb"^=+ Memory map: =+$", Form("glibc", "linux", "what the C library prints when it gives up")),
    (rb"^(?:panic: |fatal error: |SIG[A-Z]+: |\[signal SIG)", Form("go", "linux", "a crash of Go")),
)  # fmt: skip
_KNOWN = tuple((re.compile(pattern, re.MULTILINE), form) for pattern, form in _FORMS)
_MORE = {"go": re.compile(rb"^goroutine \d+", re.MULTILINE)}
"""What else such a text has: the first line alone could be anybody's."""


def form_of(head: bytes) -> Form | None:
    """By the first bytes of a file (`HEAD` are enough); None for what is no such text."""
    if b"\0" in head[:4096] and not head.startswith(_EXPORT):  # which has lengths in eight bytes
        return None
    if _LINE_OF_MAPS.match(head):
        return LINUX_MAPS
    plain = head[:HEAD].replace(b"\r\n", b"\n")
    for pattern, form in _KNOWN:
        if pattern.search(plain) and ((more := _MORE.get(form.name)) is None or more.search(plain)):
            return form
    return LINUX_MAPS if _LINE_FURTHER.search(plain) else None  # behind odd lines, as the command that printed it
