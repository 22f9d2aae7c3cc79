"""What the kernel tells in lines, of names that whoever chose them made to look like more lines."""

from __future__ import annotations

import ast
import io
import os
import threading
import time
from pathlib import Path

import pytest

import vmatlas.systems
from vmatlas.errors import MalformedData
from vmatlas.systems.linux import host, listing
from vmatlas.systems.linux.host import LinuxProcess
from vmatlas.systems.linux.membership import cgroup_of, user_of
from vmatlas.systems.linux.mounts import read
from vmatlas.systems.linux.proc import key_of, lines_of, mount_of

ENDS = ["\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\r\r"]
"""What ends a line to `str.splitlines`, and not to the kernel."""


@pytest.mark.parametrize("end", ENDS)
def test_only_a_newline_ends_a_line(end: str) -> None:
    name = f"a{end}b:\tc".encode()
    assert lines_of(b"Name:\t" + name + b"\nPid:\t7\n") == [b"Name:\t" + name, b"Pid:\t7"]
    status = b"Name:\t" + name + b"\nPid:\t7 \n"
    assert [key_of(status, key) for key in (b"Name", b"Pid", b"b", b"ame", b"Uid")] == [name, b"7", b"", b"", b""]


class Scripted(LinuxProcess):
    """A process whose files say what a test says."""

    def __init__(self, **files: bytes) -> None:
        super().__init__(7)
        self._files = files

    def read_file(self, name: str) -> bytes:
        return self._files[name]


@pytest.mark.parametrize("end", ENDS)
def test_a_cgroup_is_not_told_another_by_its_name(end: str) -> None:
    own = f"/user.slice/x{end}0::/system.slice/ssh.service"
    assert cgroup_of(Scripted(cgroup=f"0::{own}\n".encode())) == own
    assert cgroup_of(Scripted(cgroup=f"4:memory:{own}\n0::/\n".encode())) == own
    assert cgroup_of(Scripted(cgroup=f"4:memory:{own}\n0::/mine\n".encode())) == "/mine"


def test_cgroups_are_told_as_they_were() -> None:
    assert cgroup_of(Scripted(cgroup=b"0::/\n")) == "/"
    assert cgroup_of(Scripted(cgroup=b"5:pids:/\n4:cpu,cpuacct:/a\n")) == "/a"
    assert cgroup_of(Scripted(cgroup=b"")) is None


@pytest.mark.parametrize("end", ENDS)
def test_a_user_is_not_told_by_a_name(end: str) -> None:
    status = f"Name:\tx{end}Uid:\t0\t0\t0\t0\nUid:\t1\t987654\t1\t1\n".encode()
    assert user_of(Scripted(status=status)) == "987654"


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("forged", ["Kthread:\t1", "State:\tZ (zombie)", "PPid:\t2"])
@pytest.mark.parametrize("groups", [0, 65536])
def test_a_process_that_does_not_answer_is_not_told_to_be_the_kernels_by_its_name(
    end: str, forged: str, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{end}{forged}".encode()
    files = {
        "/proc/77/comm": name + b"\n",
        "/proc/77/status": b"Name:\t" + name + b"\nUmask:\t0022\nState:\tD (disk sleep)\nTgid:\t77\nPPid:\t1\n"
        b"Groups:\t" + b"1000000000 " * groups + b"\nKthread:\t0\n",
    }
    monkeypatch.setattr("builtins.open", lambda path, *_, **__: io.BytesIO(files[path]))
    found = listing.describe_silent(77)
    monkeypatch.undo()
    assert found is not None
    assert (found.kernel, found.state, found.parent) == (False, "D", 1)


@pytest.mark.parametrize("end", ENDS)
def test_a_mount_is_not_told_another_by_the_names_of_folders(end: str) -> None:
    named = end.encode()
    table = b"46 44 0:21 / /proc rw - proc proc rw\n47 46 0:9 /a%b /b%b/proc rw - tmpfs x%by rw\n"
    found = read(table.replace(b"%b", named))
    assert [(mount.number, mount.point, mount.type) for mount in found] == [
        (46, b"/proc", b"proc"),
        (47, b"/b%b/proc" % named, b"tmpfs"),
    ]
    forged = b"46 44 0:21 / /proc rw - proc proc rw\n47 46 0:9 /a%b/proc /mnt rw - tmpfs x rw\n" % named
    assert mount_of(forged) == mount_of(b"46 44 0:21 / /proc rw - proc proc rw\n")


def test_names_of_mounts_are_told_as_they_are_and_cost_what_they_are_long() -> None:
    table = rb"47 46 0:9 /a\040\011\012\043b /c\134\134012\054\134 rw - tmpfs x rw" + b"\n"
    assert [(mount.root, mount.point) for mount in read(table)] == [(b"/a \t\n#b", b"/c\\\\012,\\")]
    assert [mount.point for mount in read(table.replace(rb"\054", b""))] == [b"/c\\\\012\\"]
    long = b"".join(
        b"%d 46 0:9 /%b /%b rw - tmpfs x rw\n" % (at, rb"\012" * 4000, rb"\012" * 4000) for at in range(500)
    )
    before = time.process_time()
    assert {mount.point for mount in read(long)} == {b"/" + b"\n" * 4000}
    assert time.process_time() - before < 4.0, "a tenth of a second"


def test_a_mount_table_without_an_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_MOST_OF_A_FILE", 10)
    with pytest.raises(MalformedData, match="'mountinfo' at byte 10: expected its end: it may have 10 bytes"):
        LinuxProcess(os.getpid()).read_file("mountinfo")


def test_a_kernel_thread_that_does_not_answer_is_one_by_its_own_line(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"/proc/77/comm": b"kworker/0:1\n", "/proc/77/status": b"Name:\tx\nKthread:\t1\n"}
    monkeypatch.setattr("builtins.open", lambda path, *_, **__: io.BytesIO(files[path]))
    found = listing.describe_silent(77)
    monkeypatch.undo()
    assert found is not None and found.kernel


def test_those_who_do_not_answer_are_waited_for_together_and_the_others_have_answered() -> None:
    goes_on = threading.Event()

    def ask(number: int) -> int:
        if number % 10 == 3:
            goes_on.wait()
        return number * 2

    began = time.monotonic()
    found = listing.ask_each(range(200), ask)
    took = time.monotonic() - began
    goes_on.set()
    assert found == [None if number % 10 == 3 else number * 2 for number in range(200)]
    assert took < 10 * listing.SILENCE, "not twenty times two seconds"
    assert listing.ask_each([], ask) == []


def test_what_asking_each_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        listing.ask_each([1, 0, 2], lambda number: 1 // number)


def sources() -> list[Path]:
    root = Path(vmatlas.systems.__file__).parents[1]
    plugins = Path(__file__).parents[2] / "platforms"
    return [*root.rglob("*.py"), *plugins.glob("*/src/**/*.py")]


OURS = {"manual.py", "program.py", "installed.py"}
"""They take apart what we wrote ourselves: help, the frames of a traceback, the metadata of a distribution."""


def test_nothing_that_others_chose_is_taken_apart_by_splitlines() -> None:
    found = [
        f"{path}:{node.lineno}"
        for path in sources()
        if path.name not in OURS and "conformance" not in path.parts
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "splitlines"
    ]
    assert found == [], "use vmatlas.systems.linux.proc.lines_of"
