"""Our answers against those of tools that others wrote, on processes of our own that stand still and on this one; in a
thorough run on every process of this machine that lets itself be read.

A process counts when its map was the same before and after the tool looked at it. Differences that are known are
asserted here by name; there is no list of exceptions.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psutil
import pytest

import vmatlas
from tests.conftest import Program, offered, without_vsyscall
from tests.standing import agree_while_still
from vmatlas import AddressSpace, Kind, Region
from vmatlas.conformance.patience import PATIENCE
from vmatlas.conformance.thorough import THOROUGH

DELETED = " (deleted)"
ENOUGH = 3
"""Fewer processes than this would be no evidence; as many of our own stand still meanwhile."""

T = TypeVar("T")

GONE = (vmatlas.NoSuchProcess, psutil.NoSuchProcess, ProcessLookupError, FileNotFoundError)
REFUSED = (vmatlas.AccessDenied, psutil.AccessDenied, PermissionError)


@pytest.fixture(scope="module", autouse=True)
def still_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """One of some processes with a region of each sort, that stand still: so there is always much to compare."""
    programs = [Program("layout", tmp_path_factory.mktemp("peers")) for _ in range(ENOUGH + 2)]
    OURS[:] = [program.pid for program in programs]
    for program in programs:
        program.hear()
    yield programs[0]
    for program in programs:
        program.end()


OURS: list[int] = []
"""Their pids."""


def readable() -> Iterator[int]:
    for process in vmatlas.processes():
        if not THOROUGH and process.pid not in OURS:
            continue
        try:
            if process.pid != os.getpid() and vmatlas.snapshot(process.pid, backend="linux-procfs"):
                yield process.pid
        except (vmatlas.AccessDenied, vmatlas.NoSuchProcess, vmatlas.TornRead):
            continue


def compared(ask: Callable[[int], T], check: Callable[[AddressSpace, T], None], *, residency: bool = False) -> int:
    """How many processes stood still while `ask` looked at them, each then checked."""
    count = 0
    for pid in readable():
        try:
            count += agrees(pid, ask, check, residency=residency)
        except (*GONE, vmatlas.AccessDenied, vmatlas.TornRead):
            continue  # it ended, gave up its rights, or became another program meanwhile
    print(f"{count} processes compared")
    return count


def agrees(pid: int, ask: Callable[[int], T], check: Callable[[AddressSpace, T], None], *, residency: bool) -> bool:
    def answer() -> Any:
        try:
            return ask(pid)
        except REFUSED as refused:
            return f"refused: {refused}"

    def check_answer(space: AddressSpace, answer: Any) -> None:
        assert not isinstance(answer, str), f"process {pid} was read by us, and to the other {answer}"
        check(space, answer)

    return agree_while_still(
        lambda: vmatlas.snapshot(pid, backend="linux-procfs", residency=residency), answer, check_answer
    )


COMMON = ("start", "end", "permissions", "offset", "device", "inode", "path", "name", "deleted", "kind")
"""The fields that both backends tell."""


def common(region: Region, *, with_path: bool = True) -> list[object]:
    return [getattr(region, field) for field in COMMON if with_path or field not in ("path", "deleted")]


def test_backends_agree_on_every_process() -> None:
    offered("linux-ioctl")

    def check(text: AddressSpace, records: AddressSpace) -> None:
        assert len(without_vsyscall(text)) == len(records)
        for a, b in zip(text, records, strict=False):
            too_long = a.path is not None and len(a.path_bytes or b"") >= 4096 - len(DELETED)
            assert common(a, with_path=not too_long) == common(b, with_path=not too_long)
        if len(text) != len(records):  # the declared difference: only the text tells [vsyscall]
            assert [region.kind for region in text[len(records) :]] == [Kind.VSYSCALL]
            assert text[-1].start >= 2**63

    assert compared(lambda pid: vmatlas.snapshot(pid, backend="linux-ioctl"), check) >= ENOUGH


class Row(NamedTuple):
    """A line of `pmap -X`."""

    start: int
    permissions: str
    offset: int
    device: str
    inode: int
    size: int
    resident: int
    name: str


def pmap(pid: int) -> list[Row]:
    command = ["pmap", "-X", "-p", str(pid)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, timeout=PATIENCE, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    # Of a process that ended meanwhile it says nothing, or a part.
    _, heading, *lines = [*done.stdout.decode("utf-8", "surrogateescape").split("\n"), "", ""]
    columns = heading.split()
    rows = []
    for line in lines:
        if not line or re.match(r"\s*=+", line):
            break
        fields = line.split(None, len(columns) - 1)
        found = dict(zip(columns, fields, strict=False))
        name = re.sub(rf"^\s*(\S+\s+){{{len(columns) - 1}}}", "", line + " ") if len(fields) == len(columns) else ""
        rows.append(
            Row(
                int(found["Address"], 16), found["Perm"], int(found["Offset"], 16), found["Device"],
                int(found["Inode"]), int(found["Size"]) * 1024, int(found["Rss"]) * 1024, name.strip(),
            )
        )  # fmt: skip
    return rows


def shown_by_pmap(region: Region) -> Row:
    """What pmap ought to show of a region; None of ours stands for its 0."""
    major, minor = region.device or (0, 0)
    label = region.label.replace("\n", "\\012").strip()
    return Row(
        region.start, region.permissions, region.offset or 0, f"{major:02x}:{minor:02x}", region.inode or 0,
        region.size, region.resident or 0, label,
    )  # fmt: skip


def test_pmap_shows_the_same_regions() -> None:
    assert shutil.which("pmap"), "the package procps is missing"

    def check(space: AddressSpace, rows: list[Row]) -> None:
        assert [row._replace(name="") for row in rows] == [shown_by_pmap(region)._replace(name="") for region in space]
        for row, region in zip(rows, space, strict=True):
            # pmap cuts names at 127 bytes, and shows what is not printable as it is, or as "?".
            pattern = "".join(
                re.escape(c) if 32 < ord(c) < 127 else rf"(?:{re.escape(c)}|[\s?])*"
                for c in shown_by_pmap(region).name[:120]
            )
            assert re.match(pattern, row.name), (row.name, region.label)

    assert compared(pmap, check, residency=True) >= ENOUGH


def test_psutil_tells_the_same_regions_and_residency() -> None:
    def ask(pid: int) -> list[object]:
        return list(psutil.Process(pid).memory_maps(grouped=False))

    def check(space: AddressSpace, rows: list[object]) -> None:
        ours, theirs = [], []
        for region in space:
            ours.append(f"{region.start:08x}-{region.end:08x} {region.permissions} {region.resident}")
        for row in rows:
            theirs.append(f"{row.addr} {row.perms} {row.rss}")  # type: ignore[attr-defined]
        assert ours == theirs
        for region, row in zip(space, rows, strict=True):
            assert region.private_resident == row.private_clean + row.private_dirty  # type: ignore[attr-defined]
            assert row.path == shown_by_psutil(region)  # type: ignore[attr-defined]

    assert compared(ask, check, residency=True) >= ENOUGH


def shown_by_psutil(region: Region) -> str:
    """The declared differences: psutil strips spaces at both ends, leaves the escape of a newline as it stands, and
    cuts " (deleted)" off, unless a file of the very name that the text shows is there."""
    shown = region.label.replace("\n", "\\012").strip()
    if shown.endswith(DELETED) and not os.path.lexists(shown):
        shown = shown.removesuffix(DELETED)
    return shown or "[anon]"


def test_sums_are_those_of_smaps_rollup() -> None:
    def ask(pid: int) -> dict[str, int]:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        return {key: int(value.split()[0]) * 1024 for key, value in (line.split(":") for line in lines)}

    def check(space: AddressSpace, sums: dict[str, int]) -> None:
        huge = sums["Private_Hugetlb"] + sums["Shared_Hugetlb"]
        assert sum(region.resident or 0 for region in space) == sums["Rss"] + huge
        private = sums["Private_Clean"] + sums["Private_Dirty"] + sums["Private_Hugetlb"]
        assert sum(region.private_resident or 0 for region in space) == private
        for key in ("Anonymous", "Referenced", "Swap", "Shared_Clean", "AnonHugePages"):
            assert sum(int(region.details[key]) for region in space) == sums[key]

    assert compared(ask, check, residency=True) >= ENOUGH


def test_device_and_inode_are_those_of_the_mapped_file(still_process: Program) -> None:
    """By the kernel's own link to the file: os.stat of /proc/PID/map_files/START-END."""
    checked = 0
    for region in vmatlas.snapshot(still_process.pid, backend="linux-procfs"):
        if region.inode is None:
            continue
        try:
            stat = os.stat(f"/proc/{still_process.pid}/map_files/{region.start:x}-{region.end:x}")
        except PermissionError:
            pytest.skip("following /proc/PID/map_files needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE")
        assert (stat.st_ino, os.major(stat.st_dev), os.minor(stat.st_dev)) == (region.inode, *(region.device or ()))
        checked += 1
    assert checked > 20
