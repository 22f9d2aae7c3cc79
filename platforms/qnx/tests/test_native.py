"""native/acquire.c against a procfs that is made up on this host: what it asks, and what it makes of the answers."""

from __future__ import annotations

import errno
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vmatlas_agents.build import COMMON, NATIVE
from vmatlas_qnx import names
from vmatlas_qnx.layout import ENTRY, INFO, MAPDEBUG, MAPINFO, NAME_AT, NAME_ROOM, PAGEDATA, PROCESS_INFO, read_entries

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler: apt-get install gcc libc6-dev")
    folder = tmp_path_factory.mktemp("native")
    # The host's own headers stand in for QNX's; only devctl is not among them.
    (folder / "devctl.h").write_text(
        "#include <stddef.h>\nint devctl(int fd, int command, void *data, size_t size, int *told);\n"
    )
    flags = [*COMMON, "-O1", "-fno-builtin", f"-I{folder}", f"-I{NATIVE}"]
    command = ["cc", *flags, "-o", str(folder / "acquire"), str(HERE / "devctl.c")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "acquire"


class Said:
    """What the program asked, put and returned."""

    def __init__(self, program: Path, *arguments: int) -> None:
        command = [str(program), *map(str, arguments)]
        lines = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()
        self.asked = [(int(words[1], 16), int(words[2])) for line in lines if (words := line.split())[0] == "devctl"]
        self.streams: dict[str, bytes] = {}
        for line in lines:
            if line.startswith("put "):
                _, stream, _, data = line.split(" ")
                self.streams[stream] = self.streams.get(stream, b"") + bytes.fromhex(data)
        self.error = int(lines[-1].split()[1])
        self.failed = lines[-1].split(" ", 2)[2] if lines[-1].count(" ") > 1 else ""
        self.opened = [line.split()[1] for line in lines if line.startswith("open")]
        self.closed = sum(line.startswith("close") for line in lines)


def test_entries_information_and_names_are_put(program: Path) -> None:
    said = Said(program, 10, 0, 0, 0, 0)
    assert (said.error, said.opened, said.closed) == (0, ["/proc/40970/as"], 1)
    assert said.streams["procinfo"] == b"\x07" * INFO
    entries = read_entries(said.streams["mapinfo"], "little")
    assert [entry.vaddr for entry in entries] == [0x2000 * number for number in range(1, 11)]
    paths = names.unpack(said.streams["mapdebug"], "little")
    assert paths == {entry.vaddr: "/proc/boot/libc.so.3" for entry in entries if names.has_name(entry)}
    assert len(paths) == 5


def test_c_and_python_ask_for_the_same_names_with_the_same_numbers(program: Path) -> None:
    commands = {command for command, _ in Said(program, 10, 0, 0, 0, 0).asked}
    assert commands == {MAPINFO, MAPDEBUG, PROCESS_INFO}


@pytest.mark.parametrize("entries", [0, 1, 2047, 2048, 2049, 5000])
def test_each_entry_is_there_however_many_there_are(program: Path, entries: int) -> None:
    said = Said(program, entries, 0, 0, 0, 0)
    assert said.error == 0
    assert len(said.streams.get("mapinfo", b"")) == entries * ENTRY


def test_count_that_grows_between_calls_is_asked_for_again(program: Path) -> None:
    said = Said(program, 2040, 10, 0, 0, errno.ENXIO)
    assert said.error == 0
    assert len(said.streams["mapinfo"]) % ENTRY == 0
    rooms = [size for command, size in said.asked if command == MAPINFO]
    assert len(rooms) > 2
    assert rooms[-1] > rooms[0] == 2048 * ENTRY


def test_map_that_gains_a_fifth_between_two_calls_is_read(program: Path) -> None:
    said = Said(program, 3000, 20, 0, 0, 0)
    assert (said.error, said.failed) == (0, "")
    assert len(said.streams["mapinfo"]) > 3000 * ENTRY


def test_map_that_always_outgrows_its_room_is_given_up(program: Path) -> None:
    said = Said(program, 3000, 110, 0, 0, 0)
    assert said.error == errno.EAGAIN
    assert said.failed == "the map grew during each of 8 readings of /proc/40970/as"
    assert said.closed == 1


@pytest.mark.parametrize("count", [(1 << 20) + 1, 2**31, 2**32 - 1])
def test_count_that_is_none_to_make_room_for_is_refused(program: Path, count: int) -> None:
    said = Said(program, count, 0, 0, 0, 0)
    assert (said.error, said.failed) == (errno.E2BIG, "more than 1,048,576 entries in the map of /proc/40970/as")
    assert len(said.asked) == 2, "its information, and once its map"


def test_map_that_changes_while_names_are_asked_is_asked_again_and_else_said(program: Path) -> None:
    assert "unsettled" not in Said(program, 4, 0, 3, 0, 0).streams
    said = Said(program, 4, 0, 1000, 0, 0)
    assert (said.error, said.streams["unsettled"]) == (0, b"1")
    assert len(said.streams["mapinfo"]) == 4 * ENTRY


@pytest.mark.parametrize("number", [errno.ENXIO, errno.ESRCH, errno.EFAULT, errno.EBADF])
def test_kernels_errno_is_returned(program: Path, number: int) -> None:
    said = Said(program, 4, 0, 0, number, 0)
    assert (said.error, said.failed, said.closed) == (number, "devctl MAPINFO /proc/40970/as", 1)
    assert "mapinfo" not in said.streams


def test_pagedata_is_asked_and_named_as_such(program: Path) -> None:
    said = Said(program, 10, 0, 0, 0, 0, 1)
    assert {command for command, _ in said.asked} == {PAGEDATA, MAPDEBUG, PROCESS_INFO}
    assert said.streams["pagedata"] == Said(program, 10, 0, 0, 0, 0).streams["mapinfo"]
    assert Said(program, 4, 0, 0, errno.EFAULT, 0, 1).failed == "devctl PAGEDATA /proc/40970/as"


def test_process_that_never_was_is_enoent_of_open(program: Path) -> None:
    said = Said(program, 4242, 0, 0, 0, 0)
    assert (said.error, said.failed, said.asked) == (errno.ENOENT, "open /proc/40970/as", [])


def test_process_that_ends_while_names_are_asked_is_esrch(program: Path) -> None:
    assert Said(program, 4, 0, 0, 0, errno.ESRCH).error == errno.ESRCH


def test_name_that_is_refused_is_no_end(program: Path) -> None:
    said = Said(program, 4, 0, 0, 0, errno.ENXIO)
    assert said.error == 0
    assert names.unpack(said.streams["mapdebug"], "little") == {}


# ---- the trap ----


@pytest.mark.parametrize("room", range(NAME_AT + 1))
def test_mapdebug_is_never_asked_with_8_bytes_or_less(program: Path, room: int) -> None:
    said = Said(program, room)
    assert (said.error, said.asked) == (errno.EINVAL, [])


def test_mapdebug_with_9_bytes_is_asked(program: Path) -> None:
    assert Said(program, 9).asked == [(MAPDEBUG, 9)]


def test_every_mapdebug_of_a_reading_has_room_for_a_path(program: Path) -> None:
    for arguments in [(10, 0, 0, 0, 0), (2040, 10, 0, 0, 0), (4, 0, 1000, 0, 0), (4, 0, 0, 0, errno.ENXIO)]:
        sizes = {size for command, size in Said(program, *arguments).asked if command == MAPDEBUG}
        assert sizes == {NAME_ROOM}


def test_no_other_line_of_c_names_the_command() -> None:
    files = [*NATIVE.rglob("*.[ch]"), *(HERE.parent / "native").rglob("*.[ch]")]
    naming = [
        (file.name, line.strip())
        for file in files
        for line in file.read_text().splitlines()
        if "QNX_MAPDEBUG" in line or "qnx_ask_path(" in line or re.search("0x[4c]0100803", line.lower())
    ]
    compared = "(unsigned)DCMD_PROC_MAPDEBUG == QNX_MAPDEBUG && (unsigned)DCMD_PROC_MAPDEBUG_BASE == QNX_MAPDEBUG_BASE"
    assert naming.count(("system_qnx.c", compared)) == 1, "with the SDP's own number, when an agent is built by qcc"
    naming.remove(("system_qnx.c", compared))
    assert [line for name, line in naming if not line.startswith("#define QNX_MAPDEBUG")] == [
        "static inline int qnx_ask_path(int process, unsigned command, uint64_t address, uint8_t *answer, size_t room)",
        "return qnx_ask_path(process, QNX_MAPDEBUG, address, answer, room);",
        "return qnx_ask_path(process, QNX_MAPDEBUG_BASE, 0, answer, room);",
    ]
    assert {name for name, _ in naming} == {"source_qnx.h"}
