"""The recorded captures as `Capture` values."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from vmatlas import Capture, Query, SystemInfo
from vmatlas.model import Consistency
from vmatlas_qnx import names
from vmatlas_qnx.layout import Entry, pack_entry

FOLDER = Path(__file__).parent / "captures"
X86 = SystemInfo("qnx", "6.4.1", "2009/06/08", "x86pc", "little", 32, 4096)
PROCESSES = ("pid2_pci-bios", "pid40964_pipe", "pid40965_mqueue", "pid40966_devc-pty", "own")


def captured(stream: str, data: bytes, *, pid: int = 7, system: SystemInfo = X86, **others: bytes) -> Capture:
    """A capture of one stream, and of others beside it."""
    query = Query(residency=stream == "pagedata")
    return Capture(
        {**others, stream: data},
        system,
        pid,
        f"qnx-{stream}",
        "vmatlas-qnx",
        query,
        0.0,
        consistency=Consistency.SINGLE_CALL,
    )


def recorded(process: str, stream: str) -> Capture:
    """What was recorded of a process; with the names, where they were recorded."""
    pid = json.loads((FOLDER / f"{process}_{stream}.json").read_text())["pid"]
    others = {"mapdebug": recorded_names()} if process == "own" else {}
    if (info := FOLDER / f"{process}_procinfo.bin").exists():
        others["procinfo"] = info.read_bytes()
    return captured(stream, (FOLDER / f"{process}_{stream}.bin").read_bytes(), pid=pid, **others)


def recorded_names() -> bytes:
    """The answers of MAPDEBUG for each of the recorder's entries, as an agent sends them."""
    answers = b""
    for each in json.loads((FOLDER / "own_mapdebug.json").read_text()):
        answer = each["out_vaddr"].to_bytes(8, "little") + each["path"].encode() + b"\0"
        answers += names.pack(each["vaddr"], each["rc"], answer, "little")
    return answers


def operations() -> list[dict[str, Any]]:
    """What the recorder did to its own memory, in order."""
    made: list[dict[str, Any]] = json.loads((FOLDER / "own_made.json").read_text())["mappings"]
    return made


def published() -> Capture:
    """The published example; where it tells no offset there is 0."""
    rows = re.findall(
        r"^\d+ (0x\S+) (0x\S+) (0x\S+) (0x\S+) (0x\S+)$", (FOLDER / "published-example.txt").read_text(), re.M
    )
    entries = b""
    for vaddr, size, flags, dev, ino in ((int(text, 16) for text in row) for row in rows):
        entries += pack_entry(Entry(vaddr, size, flags, dev, 0, ino, 0))
    return captured("pagedata", entries)
