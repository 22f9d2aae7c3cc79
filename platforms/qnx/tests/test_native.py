"""native/acquire.c against a procfs that is made up on this host: what it asks, and what it makes of the answers."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

from vmatlas.conformance.scripted_kernel import Asked, ScriptedKernel
from vmatlas_agents.build import NATIVE
from vmatlas_qnx import names
from vmatlas_qnx.layout import ENTRY, INFO, MAPDEBUG, MAPINFO, NAME_AT, NAME_ROOM, PAGEDATA, PROCESS_INFO, read_entries

HERE = Path(__file__).parent


class Procfs(ScriptedKernel):
    """With process 40970, whose names are wanted."""

    def read(self, **script: int) -> Asked:
        return self.ask(40970, want=1, **script)


@pytest.fixture(scope="module")
def procfs(tmp_path_factory: pytest.TempPathFactory) -> Procfs:
    return Procfs(tmp_path_factory.mktemp("native"), HERE / "native" / "driver.c")


def devctls(asked: Asked) -> list[tuple[int, int]]:
    """The device commands that were given, and the bytes of room for each."""
    words = [line.split() for line in asked.calls if line.startswith("devctl ")]
    return [(int(number, 16), int(room)) for _, number, room in words]


def files(asked: Asked) -> list[str]:
    """What was opened and closed."""
    return [line for line in asked.calls if not line.startswith("devctl ")]


ONCE = ["open /proc/40970/as", "close 99"]


def test_entries_information_and_names_are_put(procfs: Procfs) -> None:
    asked = procfs.read(entries=10)
    assert (asked.error, files(asked)) == (0, ONCE)
    assert asked.streams["procinfo"] == b"\x07" * INFO
    entries = read_entries(asked.streams["mapinfo"], "little")
    assert [entry.vaddr for entry in entries] == [0x2000 * number for number in range(1, 11)]
    paths = names.unpack(asked.streams["mapdebug"], "little")
    assert paths == {entry.vaddr: "/proc/boot/libc.so.3" for entry in entries if names.has_name(entry)}
    assert len(paths) == 5


def test_c_and_python_ask_for_the_same_names_with_the_same_numbers(procfs: Procfs) -> None:
    commands = {command for command, _ in devctls(procfs.read(entries=10))}
    assert commands == {MAPINFO, MAPDEBUG, PROCESS_INFO}


@pytest.mark.parametrize("entries", [0, 1, 2047, 2048, 2049, 5000])
def test_each_entry_is_there_however_many_there_are(procfs: Procfs, entries: int) -> None:
    asked = procfs.read(entries=entries)
    assert asked.error == 0
    assert len(asked.streams.get("mapinfo", b"")) == entries * ENTRY


def test_count_that_grows_between_calls_is_asked_for_again(procfs: Procfs) -> None:
    asked = procfs.read(entries=2040, growth=10, name_errno=errno.ENXIO)
    assert asked.error == 0
    assert len(asked.streams["mapinfo"]) % ENTRY == 0
    rooms = [size for command, size in devctls(asked) if command == MAPINFO]
    assert len(rooms) > 2
    assert rooms[-1] > rooms[0] == 2048 * ENTRY


def test_map_that_gains_a_fifth_between_two_calls_is_read(procfs: Procfs) -> None:
    asked = procfs.read(entries=3000, growth=20)
    assert (asked.error, asked.failed) == (0, "")
    assert len(asked.streams["mapinfo"]) > 3000 * ENTRY


def test_map_that_always_outgrows_its_room_is_given_up(procfs: Procfs) -> None:
    asked = procfs.read(entries=3000, growth=110)
    assert asked.error == errno.EAGAIN
    assert asked.failed == "the map grew during each of 8 readings of /proc/40970/as"
    assert files(asked) == ONCE


@pytest.mark.parametrize("count", [(1 << 20) + 1, 2**31, 2**32 - 1])
def test_count_that_is_none_to_make_room_for_is_refused(procfs: Procfs, count: int) -> None:
    asked = procfs.read(entries=count)
    assert (asked.error, asked.failed) == (errno.E2BIG, "more than 1,048,576 entries in the map of /proc/40970/as")
    assert len(devctls(asked)) == 2, "its information, and once its map"


def test_map_that_changes_while_names_are_asked_is_asked_again_and_else_said(procfs: Procfs) -> None:
    assert "unsettled" not in procfs.read(entries=4, changes=3).streams
    asked = procfs.read(entries=4, changes=1000)
    assert (asked.error, asked.streams["unsettled"]) == (0, b"1")
    assert len(asked.streams["mapinfo"]) == 4 * ENTRY


@pytest.mark.parametrize("number", [errno.ENXIO, errno.ESRCH, errno.EFAULT, errno.EBADF])
def test_kernels_errno_is_returned(procfs: Procfs, number: int) -> None:
    asked = procfs.read(map_errno=number)
    assert (asked.error, asked.failed, files(asked)) == (number, "devctl MAPINFO /proc/40970/as", ONCE)
    assert "mapinfo" not in asked.streams


def test_pagedata_is_asked_and_named_as_such(procfs: Procfs) -> None:
    asked = procfs.read(entries=10, source=1)
    assert {command for command, _ in devctls(asked)} == {PAGEDATA, MAPDEBUG, PROCESS_INFO}
    assert asked.streams["pagedata"] == procfs.read(entries=10).streams["mapinfo"]
    assert procfs.read(map_errno=errno.EFAULT, source=1).failed == "devctl PAGEDATA /proc/40970/as"


@pytest.mark.parametrize("puts", range(6))
def test_source_stops_when_nobody_takes_what_it_puts(procfs: Procfs, puts: int) -> None:
    """Who it is, the head and the name of two entries, the map."""
    asked = procfs.read(entries=4, puts=puts)
    names_too = [*["procinfo"] * (puts > 0), *["mapdebug"] * (puts > 1)]
    assert (asked.error, list(asked.streams), files(asked)) == (errno.EPIPE, names_too, ONCE)


def test_process_that_never_was_is_enoent_of_open(procfs: Procfs) -> None:
    asked = procfs.read(gone=1)
    assert (asked.error, asked.failed, asked.calls) == (errno.ENOENT, ONCE[0], ONCE[:1])


def test_process_that_ends_while_names_are_asked_is_esrch(procfs: Procfs) -> None:
    assert procfs.read(entries=4, name_errno=errno.ESRCH).error == errno.ESRCH


def test_name_that_is_refused_is_no_end(procfs: Procfs) -> None:
    asked = procfs.read(entries=4, name_errno=errno.ENXIO)
    assert asked.error == 0
    assert names.unpack(asked.streams["mapdebug"], "little") == {}


# ---- the trap ----


@pytest.mark.parametrize("room", range(NAME_AT + 1))
def test_mapdebug_is_never_asked_with_8_bytes_or_less(procfs: Procfs, room: int) -> None:
    asked = procfs.read(room=room)
    assert (asked.error, asked.calls) == (errno.EINVAL, [])


def test_mapdebug_with_9_bytes_is_asked(procfs: Procfs) -> None:
    assert devctls(procfs.read(room=9)) == [(MAPDEBUG, 9)]


def test_every_mapdebug_of_a_reading_has_room_for_a_path(procfs: Procfs) -> None:
    plain, growing = {"entries": 10}, {"entries": 2040, "growth": 10}
    changing, nameless = {"entries": 4, "changes": 1000}, {"entries": 4, "name_errno": errno.ENXIO}
    for script in (plain, growing, changing, nameless):
        sizes = {size for command, size in devctls(procfs.read(**script)) if command == MAPDEBUG}
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
