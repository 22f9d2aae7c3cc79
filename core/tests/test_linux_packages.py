"""Lists of package managers: rpm's databases, made byte by byte, and whose lists are believed of whose files."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import struct
import subprocess
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

import vmatlas
from vmatlas.conformance.patience import PATIENCE
from vmatlas.systems.linux import packages, rpm

STRINGS, NUMBERS, BYTES = 8, 4, 1


def header(paths, states=None):
    """A package's header as rpm stores it: lib/header.c."""
    folders = sorted({path.rpartition("/")[0] + "/" for path in paths})
    entries = [
        (1116, NUMBERS, b"".join(struct.pack(">I", folders.index(p.rpartition("/")[0] + "/")) for p in paths)),
        (1117, STRINGS, b"".join(p.rpartition("/")[2].encode() + b"\0" for p in paths)),
        (1118, STRINGS, b"".join(each.encode() + b"\0" for each in folders)),
    ]
    if states is not None:
        entries.append((1029, BYTES, bytes(states)))
    index, data = b"", b""
    for tag, kind, value in entries:
        data += b"\0" * (-len(data) % 4)
        count = {STRINGS: value.count(b"\0"), NUMBERS: len(value) // 4, BYTES: len(value)}[kind]
        index += struct.pack(">4I", tag, kind, len(data), count)
        data += value
    return struct.pack(">2I", len(entries), len(data)) + index + data


FEW = header(["/usr/bin/a", "/usr/lib64/libb.so", "/opt/left-out"], [0, 0, 2])
MANY = header([f"/usr/share/many/a-file-with-a-name-{number}" for number in range(3000)])
"""Larger than a page."""


def sqlite(path, headers, page=4096):
    with sqlite3.connect(path) as base:
        base.execute(f"PRAGMA page_size={page}")
        base.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
        base.execute("CREATE TABLE Name (key TEXT, hnum INTEGER, idx INTEGER)")
        base.executemany("INSERT INTO Packages (blob) VALUES (?)", [(each,) for each in headers])
    base.close()


def ndb(path, headers):
    """lib/backend/ndb/rpmpkg.c."""
    pages = 1 + (2 + len(headers)) * 16 // 4096
    slots, blobs, at = b"", b"", pages * 4096 // 16
    for number, each in enumerate(headers, 1):
        blob = struct.pack("<4s3I", b"BlbS", number, 0, len(each)) + each
        blob += b"\0" * (-(len(blob) + 12) % 16) + struct.pack("<2I4s", 0, len(each), b"BlbE")
        slots += struct.pack("<4s3I", b"Slot", number, at, len(blob) // 16)
        blobs, at = blobs + blob, at + len(blob) // 16
    head = struct.pack("<4s4I12x", b"RpmP", 0, 1, pages, len(headers) + 1)
    page = head + slots
    page += struct.pack("<4s3I", b"Slot", 0, 0, 0) * ((pages * 4096 - len(page)) // 16)
    path.write_bytes(page + blobs)


def read(path, headers):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return [path for each in headers(descriptor) for path in rpm.files_of(each)]
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("make", "headers"),
    [
        (sqlite, rpm.sqlite_headers),
        (lambda path, each: sqlite(path, each, 512), rpm.sqlite_headers),
        (lambda path, each: sqlite(path, each, 65536), rpm.sqlite_headers),
        (ndb, rpm.ndb_headers),
    ],
    ids=["sqlite", "pages of 512", "pages of 65536", "ndb"],
)
def test_the_files_of_each_package_are_told_and_none_that_was_left_out(make, headers, tmp_path):
    make(tmp_path / "base", [FEW, MANY, *[FEW] * 300])
    found = read(tmp_path / "base", headers)
    assert len(found) == 301 * 2 + 3000
    assert set(found) >= {b"/usr/bin/a", b"/usr/lib64/libb.so", b"/usr/share/many/a-file-with-a-name-2999"}
    assert b"/opt/left-out" not in found


def test_a_header_of_old_has_whole_names():
    data = b"/bin/x\0/bin/y\0"
    old = struct.pack(">6I", 1, len(data), 1027, STRINGS, 0, 2) + data
    assert list(rpm.files_of(old)) == [b"/bin/x", b"/bin/y"]


def test_a_long_folder_that_is_that_of_every_file_costs_what_the_header_has():
    """All paths together would be 100 GB: what is longer than a path may be is none."""
    many = header([f"/{'d' * (1 << 20)}/{number:x}" for number in range(200)] + ["/usr/bin/a"])
    indexes, names, folders = struct.unpack_from(">12I", many, 8)[2::4]
    assert len(many) < 2 << 20 and indexes < names < folders
    tracemalloc.start()
    try:
        assert list(rpm.files_of(many)) == [b"/usr/bin/a"]
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_line_that_is_too_long_is_none_and_lists_of_many_lines_have_no_more_room_than_there_is(monkeypatch, tmp_path):
    """Whoever is audited may have written them."""
    file = tmp_path / "x.list"
    file.write_bytes(b"/bin/a\n/" + b"d" * 10_000 + b"\n/bin/b\n" + b"/c" * 5_000)
    monkeypatch.setattr(packages, "_PIECE", 100)
    with open(file, "rb") as opened:
        assert packages._read(packages._lines(opened.fileno(), 1 << 20))[:2] == ({b"/bin/a", b"/bin/b"}, True)
    monkeypatch.setattr(packages, "_ROOM", 1 << 20)
    lists = packages._read([[b"/%d" % number for number in range(1 << 20)]])
    assert not lists.is_whole and 1000 < len(lists.files) < 1 << 13 and lists.room >= 1 << 20


def test_what_is_kept_of_other_roots_goes_where_there_is_no_room_for_all(monkeypatch):
    monkeypatch.setattr(packages, "_known", {})
    monkeypatch.setattr(packages, "_ROOM", 100)
    kept = []
    for number, room in enumerate([10, 20, 30, 5, 5, 60, 101]):
        packages._keep(((number, 0, 0, 0),), packages.Lists(frozenset(), True, room))
        kept.append([marks[0][0] for marks in packages._known])
    assert kept == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [6]]


def test_a_record_of_more_columns_than_any_that_is_read_is_refused():
    with pytest.raises(ValueError, match="another kind"):
        rpm._values(bytes([100]) + b"\0" * 99)


@pytest.mark.parametrize(("make", "headers"), [(sqlite, rpm.sqlite_headers), (ndb, rpm.ndb_headers)])
def test_whatever_was_done_to_a_database_it_is_read_in_bounds_or_refused(make, headers, tmp_path):
    """Who is audited may have made it: one error, no endless tree."""
    file = tmp_path / "base"
    make(file, [FEW, header([f"/usr/share/{number}" for number in range(400)])])
    whole = file.read_bytes()
    chosen = random.Random(4)
    refused = 0
    for _ in range(400):
        changed = bytearray(whole)
        for _ in range(chosen.randrange(1, 4)):
            changed[chosen.randrange(len(changed))] = chosen.randrange(256)
        file.write_bytes(changed[: chosen.choice([len(changed), chosen.randrange(len(changed))])])
        try:
            assert len(read(file, headers)) <= 100_000
        except ValueError:
            refused += 1
    assert refused > 50


def test_a_tree_that_leads_back_to_itself_is_refused(tmp_path):
    file = tmp_path / "base"
    sqlite(file, [FEW] * 500, 512)
    pages = bytearray(file.read_bytes())
    for at in range(512, len(pages), 512):
        if pages[at] == 5:  # an interior page: its last child is itself
            pages[at + 8 : at + 12] = (at // 512 + 1).to_bytes(4, "big")
    file.write_bytes(pages)
    with pytest.raises(ValueError, match="tree"):
        read(file, rpm.sqlite_headers)


# ---- whose lists, of whose files ----

SLEEP = os.path.realpath(shutil.which("sleep") or "/bin/sleep")
LISTED = [SLEEP, SLEEP.removeprefix("/usr")]


@pytest.fixture
def machine(tmp_path):
    """A folder for a root's lists, and how a program is started that has them; all are ended with the test."""
    started = []

    def start(script, *arguments):
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        command = ["unshare", *user, "--mount", "sh", "-ec", script, "sh", *map(str, arguments)]
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        except FileNotFoundError:
            pytest.skip("unshare (package util-linux) is missing")
        started.append(process)
        end = time.monotonic() + PATIENCE
        while os.path.realpath(f"/proc/{process.pid}/exe").rpartition("/")[2] != SLEEP.rpartition("/")[2]:
            if process.poll() is not None:
                pytest.skip(f"no such namespace here: {process.stderr.read().strip()}")
            assert time.monotonic() < end
            time.sleep(0.005)
        return process.pid

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=PATIENCE)


def told(pid) -> dict[str, bool | None] | None:
    """What is known of each file of code of a process, by its name; None where there are no lists."""
    with vmatlas.open(pid) as process:
        knows = process.evidence().known_files()
        if knows is None:
            return None
        files = process.snapshot(executable=True, kind=vmatlas.Kind.FILE)
        return {(each.path or "").rpartition("/")[2]: knows(each) for each in files}


def _dpkg(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "some.list").write_text("\n".join(LISTED) + "\n")
    return folder


IN_ITS_PLACE = 'mount --bind "$1" "$2"; exec sleep 3600'


@pytest.mark.skipif(not Path("/var/lib/dpkg/info").is_dir(), reason="no folder of dpkg's to lay another one over")
def test_a_list_of_its_own_vouches_for_a_process_where_it_is_root_s(machine, tmp_path):
    pid = machine(IN_ITS_PLACE, _dpkg(tmp_path / "info"), "/var/lib/dpkg/info")
    found = told(pid)
    name = SLEEP.rpartition("/")[2]
    libraries = {key: value for key, value in found.items() if key != name}
    if os.geteuid() != 0:  # he has made both himself
        assert found[name] is None and set(libraries.values()) <= {None}
    elif found[name] is None:
        pytest.skip("the file systems of this machine are none that are asked")
    else:
        assert found[name] is True and set(libraries.values()) == {False}


CHANGED_ROOT = 'mount --rbind / "$1"; mount --bind "$2" "$1/var/lib/dpkg/info"; exec chroot "$1" sleep 3600'


@pytest.mark.skipif(not Path("/var/lib/dpkg/info").is_dir(), reason="no folder of dpkg's to lay another one over")
@pytest.mark.skipif(os.geteuid() != 0, reason="of another user's lists nothing is believed")
def test_a_process_below_a_chroot_is_known_by_the_lists_below_it(machine, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    found = told(machine(CHANGED_ROOT, root, _dpkg(tmp_path / "info")))
    name = SLEEP.rpartition("/")[2]
    if found[name] is None:
        pytest.skip("the file systems of this machine are none that are asked")
    assert (found.pop(name), set(found.values())) == (True, {False})


def test_what_is_not_read_to_its_end_tells_what_it_has_and_nothing_of_the_rest(monkeypatch, tmp_path):
    def names() -> Iterator[list[bytes] | None]:
        yield [b"/usr/bin/a"]
        raise ValueError("it is none")

    assert packages._read(names())[:2] == ({b"/bin/a"}, False)
    assert packages._read([[b"/usr/bin/a"], None]).is_whole is False
    assert packages._read([[b"/usr/bin/a"]]).is_whole is True
    monkeypatch.setattr(packages, "_LONGEST", -1.0)
    assert packages._read([[b"/bin/a"], [b"/bin/b"]])[:2] == ({b"/bin/a"}, False)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: an empty file system in the place of another")
def test_where_nothing_is_installed_so_nobody_is_asked(machine, tmp_path):
    script = "for each in /var/lib /usr/lib/sysimage; do test ! -d $each || mount -t tmpfs none $each; done; "
    assert told(machine(script + "exec sleep 3600")) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: an empty file system in the place of another")
@pytest.mark.parametrize("kind", ["rpmdb.sqlite", "Packages.db", "Packages", "rpmdb.sqlite-wal"])
def test_rpm_s_database_is_asked_as_dpkg_s_lists_are(kind, machine, tmp_path):
    base = tmp_path / "rpm"
    base.mkdir()
    where = header(LISTED)
    if kind == "Packages.db":
        ndb(base / kind, [where])
    elif kind != "Packages":
        sqlite(base / "rpmdb.sqlite", [where])
    if kind in ("Packages", "rpmdb.sqlite-wal"):  # Berkeley DB; what a transaction of just now has written
        (base / kind).write_bytes(b"\0" * 4096)
    script = 'mount -t tmpfs none /var/lib; mkdir /var/lib/rpm; mount --bind "$1" /var/lib/rpm; exec sleep 3600'
    found = told(machine(script, base))
    name = SLEEP.rpartition("/")[2]
    if kind == "Packages":
        assert set(found.values()) == {None}
        return
    if found[name] is None:
        pytest.skip("the file systems of this machine are none that are asked")
    assert found.pop(name) is True
    assert set(found.values()) == {None if kind.endswith("-wal") else False}
