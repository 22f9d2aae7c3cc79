"""Python on QNX itself, as far as it can be had here: this host's Python, on a C library that has QNX's devctl().

Never run on a real QNX with Python. The library answers with what a real 6.4.1 kernel gave, and as it was seen to.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas_qnx import MAPINFO, PAGEDATA
from vmatlas_qnx.layout import ENTRY

from .recorded import FOLDER, captured, recorded_names

HERE = Path(__file__).parent

ON_QNX = """
import collections, json, os, platform, sys
sys.platform = "qnx8"
Said = collections.namedtuple("Said", "system node release version machine")
os.uname = platform.uname = lambda: Said("QNX", "here", "8.0.0", "2026/01/01", "x86pc")
os.getpid = lambda: 40964
import vmatlas

def rows(space):
    return [(r.start, r.end, r.permissions, r.kind.label, r.path, r.resident, int(r.flags)) for r in space]

def told(ask):
    try:
        return rows(ask())
    except vmatlas.VmatlasError as error:
        return [type(error).__name__, error.message]
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler, or no LD_PRELOAD as on Linux")
    made = tmp_path_factory.mktemp("libc") / "libc-with-devctl.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", made, HERE / "libc.c", "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return made


class Qnx:
    """A QNX machine made of files."""

    def __init__(self, folder: Path, library: Path) -> None:
        self.folder, self.library = folder, library
        for recorded in FOLDER.glob("pid*_procinfo.bin"):
            pid, _, name = recorded.stem.removesuffix("_procinfo").removeprefix("pid").partition("_")
            parts = {each: FOLDER / f"pid{pid}_{name}_{each}.bin" for each in ("procinfo", "mapinfo", "pagedata")}
            self.process(int(pid), {each: path.read_bytes() for each, path in parts.items()})

    def process(self, pid: int, files: Mapping[str, bytes]) -> None:
        """A process, or more of one."""
        (self.folder / "proc" / str(pid)).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (self.folder / f"{pid}.{name}").write_bytes(content)

    def run(self, script: str) -> Any:
        """What a script there prints, as JSON."""
        environment = {**os.environ, "LD_PRELOAD": str(self.library), "VMATLAS_PROCFS": str(self.folder)}
        environment.pop("VMATLAS_BACKEND", None)
        done = subprocess.run(
            [sys.executable, "-c", ON_QNX + script],
            capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def qnx(library: Path, tmp_path: Path) -> Qnx:
    return Qnx(tmp_path, library)


def rows(space: Any) -> list[list[Any]]:
    return [
        [r.start, r.end, r.permissions, r.kind.label, r.path, r.resident, int(r.flags)] for r in space
    ]  # as JSON gives them


def of_pipe(stream: str, **others: bytes) -> Any:
    data = (FOLDER / f"pid40964_pipe_{stream}.bin").read_bytes()
    return {"mapinfo": MAPINFO, "pagedata": PAGEDATA}[stream].decode(captured(stream, data, **others))


EDGES = {
    name: told
    for name, told in json.loads((FOLDER / "edge_cases.json").read_text()).items()
    if re.match(r"(MAPINFO|PAGEDATA) (size \d|big)|many: size|wrong size|no dir|TOFROM|unknown sub|fd 99|fd -1", name)
}


@pytest.mark.parametrize("name", EDGES)
def test_library_answers_as_the_kernel_was_seen_to(
    name: str, qnx: Qnx, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buffers of any size, a part of an entry included; commands with a wrong size, direction or number."""
    told = EDGES[name]
    count = told["n"] or 10
    qnx.process(7, {"procinfo": b"", "mapinfo": bytes(ENTRY * count), "pagedata": bytes(ENTRY * count)})
    monkeypatch.setenv("VMATLAS_PROCFS", str(qnx.folder))
    libc = ctypes.CDLL(str(library))
    descriptor = {"fd 99": 99, "fd -1": -1}.get(name) or libc.open(b"/proc/7/as", os.O_RDONLY)
    room = ctypes.create_string_buffer(b"\xff" * told["size"], max(told["size"], 1))
    number = ctypes.c_int(-1)
    command = int(told["dcmd"], 16)
    answer = libc.devctl(descriptor, ctypes.c_int(command), room, ctypes.c_size_t(told["size"]), ctypes.byref(number))
    assert answer == told["rc"]
    assert (room.raw[: told["size"]]).count(0) == told["written"]
    if told["n"] is not None:
        assert number.value == told["n"]
    if descriptor not in (99, -1):
        os.close(descriptor)


def test_backend_is_chosen_by_the_question_and_gives_what_the_kernel_said(qnx: Qnx) -> None:
    plain, resident = qnx.run(
        "a, b = vmatlas.snapshot(40964), vmatlas.snapshot(40964, residency=True)\n"
        "print(json.dumps([[a.backend, rows(a)], [b.backend, rows(b)]]))"
    )
    assert plain == ["qnx-mapinfo", rows(of_pipe("mapinfo"))]
    assert resident == ["qnx-pagedata", rows(of_pipe("pagedata"))]


def test_names_are_asked_for_and_paged(qnx: Qnx) -> None:
    whole = (FOLDER / "own_pagedata.bin").read_bytes()
    info = bytearray((FOLDER / "pid40964_pipe_procinfo.bin").read_bytes())
    info[:4] = (4242).to_bytes(4, "little")
    qnx.process(4242, {"procinfo": bytes(info), "pagedata": whole, "mapinfo": whole, "mapdebug": recorded_names()})
    found = qnx.run("print(json.dumps(rows(vmatlas.snapshot(4242, residency=True))))")
    assert found == rows(PAGEDATA.decode(captured("pagedata", whole, mapdebug=recorded_names())))
    assert "/proc/boot/libc.so.3" in {row[4] for row in found}


def test_processes_are_listed_with_parent_and_name(qnx: Qnx) -> None:
    qnx.process(40964, {"program": b"proc/boot/pipe\0"})
    qnx.process(1, {"program": b"boot/procnto-instr\0"})
    qnx.process(2, {"denied": b""})
    listed = qnx.run("print(json.dumps([(p.pid, p.parent, p.name, p.kernel) for p in vmatlas.processes()]))")
    assert [1, 0, "procnto-instr", True] in listed
    assert [40964, 1, "pipe", False] in listed
    assert 2 not in [row[0] for row in listed], "one that may not be looked at is left out"


def test_each_way_of_being_no_process_is_said(qnx: Qnx) -> None:
    qnx.process(40965, {"zombie": b""})
    qnx.process(40966, {"reaped": b""})
    qnx.process(2, {"denied": b""})
    asked = "print(json.dumps([told(lambda: vmatlas.snapshot(pid)) for pid in (1, 40965, 40966, 5, 2)]))"
    kernel, zombie, reaped, never, denied = qnx.run(asked)
    assert kernel == []
    assert zombie == ["NoSuchProcess", "process 40965 has ended; it is a zombie without memory"]
    assert reaped == ["NoSuchProcess", "there is no process 40966"]
    assert never == ["NoSuchProcess", "there is no process 5"]
    assert denied == ["AccessDenied", "no right to read the memory map of process 2"]


def test_map_that_grows_between_two_calls_is_read_whole(qnx: Qnx) -> None:
    entry = (FOLDER / "pid40964_pipe_pagedata.bin").read_bytes()[8:ENTRY]
    grown = b"".join((0x2000 * (row + 1)).to_bytes(8, "little") + entry for row in range(3000))
    grown = b"".join(grown[at : at + 8] + (0x1000).to_bytes(8, "little") + grown[at + 16 : at + ENTRY]
                     for at in range(0, len(grown), ENTRY))  # fmt: skip
    first = grown[: ENTRY * 600]  # more than there is room for at first
    qnx.process(40964, {"pagedata": first, "later": grown})
    found = qnx.run("print(json.dumps(rows(vmatlas.snapshot(40964, residency=True))))")
    assert len(found) == 3000


def test_doctor_tells_the_machine_and_both_backends(qnx: Qnx) -> None:
    script = (
        "from vmatlas.target.local import LOCAL\n"
        "from vmatlas import registry\n"
        "info = LOCAL.system_info\n"
        "names = ('qnx-mapinfo', 'linux-procfs')\n"
        "offers = {n: [bool(o := LOCAL.offers(registry.backend(n))), o.reason] for n in names}\n"
        "print(json.dumps([info.system, info.release, info.machine, info.pointer_width, offers]))"
    )
    *told, offers = qnx.run(script)
    assert told == ["qnx", "8.0.0", "x86pc", 64 if sys.maxsize > 2**32 else 32]
    assert offers["qnx-mapinfo"] == [True, ""]
    assert offers["linux-procfs"][0] is False
