"""The memory in use of processes, as totals and by region: against smaps_rollup, psutil, pmap and known layouts."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Iterator
from typing import NoReturn

import psutil
import pytest

import vmatlas
from tests.standing import agree_while_still
from vmatlas import totals
from vmatlas.backend import Totals
from vmatlas.conformance.patience import PATIENCE
from vmatlas.rounds import Rounds
from vmatlas.target.local import LOCAL
from vmatlas_linux_procfs.rollup import NATIVE, memory_apart, read_rollups

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these are numbers of Linux")

SIZE = 8 << 20
OTHERS = 2 << 20
"""Bytes of libraries whose share changes with whoever else maps them."""
GROWS = f"""
import mmap, sys
room = mmap.mmap(-1, {SIZE}, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
objects = mmap.mmap(-1, 1 << 20)
print("there", flush=True)
sys.stdin.readline()
room[:] = bytes([1]) * {SIZE}
objects[:] = bytes([1]) * (1 << 20)
print("grown", flush=True)
sys.stdin.readline()
"""


class Program:
    """A process that grows when told to, and is frozen otherwise: what it does on its way to wait is memory too."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid
        self._freeze()

    def _freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def grow(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        os.kill(self.pid, signal.SIGCONT)
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "grown\n"
        self._freeze()


@pytest.fixture
def program() -> Iterator[Program]:
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", GROWS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            assert process.stdout.readline() == "there\n"
            yield Program(process)
        finally:
            process.kill()


def rollup_of(pid: int) -> dict[str, int]:
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        lines = [line.split() for line in file][1:]
    return {line[0][:-1]: int(line[1]) * 1024 for line in lines}


def test_totals_are_those_of_the_kernel_and_of_psutil(program: Program) -> None:
    program.grow()

    def ask() -> tuple[vmatlas.MemoryUse, psutil._pslinux.pfullmem]:
        return vmatlas.memory(program.pid), psutil.Process(program.pid).memory_full_info()

    def check(text: dict[str, int], told: tuple[vmatlas.MemoryUse, psutil._pslinux.pfullmem]) -> None:
        use, theirs = told
        assert use.resident == text["Rss"] + text["Private_Hugetlb"] + text["Shared_Hugetlb"]
        assert use.proportional == text["Pss"] == theirs.pss
        assert use.swapped == text["Swap"] == theirs.swap
        assert use.private == theirs.uss
        assert use.anonymous == text["Anonymous"]
        assert use.dirty == text["Private_Dirty"] + text["Shared_Dirty"]

    assert agree_while_still(lambda: rollup_of(program.pid), ask, check)


@pytest.mark.skipif(shutil.which("pmap") is None, reason="no pmap in PATH (procps)")
def test_regions_add_up_to_the_totals_and_to_those_of_pmap(program: Program) -> None:
    program.grow()

    def ask() -> tuple[vmatlas.MemoryUse, vmatlas.AddressSpace, dict[str, int]]:
        shown = subprocess.run(
            ["pmap", "-X", str(program.pid)], capture_output=True, text=True, timeout=PATIENCE, check=True
        ).stdout.splitlines()
        title = next(line.split() for line in shown if "Rss" in line.split())
        columns = title[title.index("Size") :]
        sums = next(line.split() for line in shown if line.split()[-1:] == ["KB"])
        added = dict(zip(columns, map(int, sums[:-1]), strict=False))
        return vmatlas.memory(program.pid), vmatlas.snapshot(program.pid, residency=True), added

    def check(_: dict[str, int], told: tuple[vmatlas.MemoryUse, vmatlas.AddressSpace, dict[str, int]]) -> None:
        use, space, added = told
        total = space.memory.use
        for name in ("resident", "swapped", "dirty", "anonymous", "huge", "hugetlb"):
            assert getattr(total, name) == getattr(use, name), name
        # Rounded down for each region; and others who map the same libraries come and go.
        near = 1024 * len(space) + OTHERS
        assert total.proportional is not None and use.proportional is not None
        assert total.private is not None and use.private is not None
        assert abs(total.proportional - use.proportional) < near
        assert abs(total.private - use.private) < OTHERS
        assert total.anonymous + total.file + total.shared_memory == total.resident - total.hugetlb  # type: ignore[operator]
        assert added["Rss"] * 1024 == rollup_of(program.pid)["Rss"]
        assert abs(added["Pss"] * 1024 - total.proportional) < near

    assert agree_while_still(lambda: rollup_of(program.pid), ask, check)


def test_what_a_process_touches_is_told_as_what_it_is(program: Program) -> None:
    before = vmatlas.memory(program.pid)
    program.grow()
    after, space = vmatlas.memory(program.pid), vmatlas.snapshot(program.pid, residency=True)
    assert after.anonymous - before.anonymous >= SIZE  # type: ignore[operator]
    assert after.private - before.private >= SIZE + (1 << 20)  # type: ignore[operator]
    objects = vmatlas.summarize(space).kinds[vmatlas.Kind.SHARED_MEMORY].memory.use
    assert objects.shared_memory == objects.private == 1 << 20 and objects.anonymous == 0


def test_a_capture_keeps_the_totals_of_the_kernel(program: Program, tmp_path) -> None:
    capture = vmatlas.capture(program.pid, residency=True)
    capture.save(tmp_path / "it.vmatlas")
    use = vmatlas.replay_memory(tmp_path / "it.vmatlas")
    assert use == vmatlas.replay_memory(capture)
    assert use.proportional_anonymous is not None, "which only smaps_rollup tells"
    assert use.anonymous == vmatlas.replay(capture).memory.use.anonymous
    assert not vmatlas.replay_memory(vmatlas.capture(program.pid)).is_told, "it was not asked for"


def test_every_process_is_there_but_zombies_and_the_kernel_s(program: Program) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
        told = {each.process.pid: each for each in vmatlas.memories(regions=True)}
    assert dead.pid not in told
    mine = told[program.pid]
    assert mine.error is None and mine.memory is not None and mine.memory.resident
    assert mine.regions == len(vmatlas.snapshot(program.pid))
    known = vmatlas.open(program.pid)
    assert (mine.process.name, mine.process.start_time) == (known.name, known.start_time)
    assert not any(each.process.kernel for each in told.values())


def test_processes_without_a_description_are_told_by_their_number(program: Program) -> None:
    told = {each.process.pid: each for each in vmatlas.memories(described=False, threads=1)}
    assert told[program.pid].memory is not None and told[program.pid].process.name == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read the memory of every process")
def test_a_process_that_may_not_be_read_is_there_with_the_error() -> None:
    told = {each.process.pid: each for each in vmatlas.memories()}
    if 1 not in told or os.stat("/proc/1").st_uid == os.geteuid():
        pytest.skip("process 1 is not listed for this user, or is its own")
    assert isinstance(told[1].error, vmatlas.AccessDenied) and told[1].memory is None


def test_processes_are_put_together_by_what_they_have_in_common(program: Program) -> None:
    found = [each for each in vmatlas.memories() if each.process.pid in (program.pid, os.getpid())]
    for by in ("name", "user", "cgroup", "program"):
        groups = vmatlas.group_memories(found, by)
        assert sorted(pid for group in groups for pid in group.pids) == sorted([program.pid, os.getpid()])
        resident = sum(group.total.use.resident or 0 for group in groups)
        assert resident == sum(each.memory.resident or 0 for each in found if each.memory)
    named = {pid: group.key for group in vmatlas.group_memories(found, "program") for pid in group.pids}
    assert named[program.pid] == os.readlink(f"/proc/{program.pid}/exe")
    with pytest.raises(vmatlas.UsageError, match="cgroup"):
        vmatlas.group_memories(found, "colour")


@pytest.mark.skipif(NATIVE is None, reason="the compiled twin does not serve here")
def test_the_twin_reads_of_a_process_what_python_reads(program: Program) -> None:
    pids = array("i", [program.pid])
    assert agree_while_still(
        lambda: [(memory_apart(text), *more) for text, *more in read_rollups(pids, True, True)],  # type: ignore[arg-type]
        lambda: [(memory_apart(text), *more) for text, *more in NATIVE.rollups(pids, True, True)],  # type: ignore[union-attr]
        lambda known, told: _same(known, told),
    )


def _same(known: object, told: object) -> None:
    assert known == told


def test_who_cannot_be_read_for_want_of_descriptors_is_not_taken_for_gone(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    class One:
        def described(self, pid: int) -> vmatlas.ProcessInfo | None:
            with monkeypatch.context() as patched:
                patched.setattr("vmatlas.systems.linux.listing.open", none_left, raising=False)
                return LOCAL.system.described(pid)

    nothing = [Totals(None, None, None)]
    rounds = Rounds(lambda: {program.pid: 0})
    (told,) = totals._of_many(lambda _: nothing, One(), rounds, 1, False, PATIENCE)
    assert told.process.pid == program.pid and told.memory is not None, "it is asked by itself"


def test_those_who_are_asked_with_one_that_does_not_answer_are_asked_alone(program: Program) -> None:
    let_go = threading.Event()

    class Two:
        def described(self, pid: int) -> vmatlas.ProcessInfo:
            return vmatlas.ProcessInfo(pid=pid, parent=None, name="", start_time=None)

    def ask(pids: list[int]) -> list[Totals]:
        let_go.wait()
        return [Totals(None, None, None)] * len(pids)

    try:
        began = time.monotonic()
        rounds = Rounds(lambda: {program.pid: 0, os.getpid(): 0})
        found = list(totals._of_many(ask, Two(), rounds, 1, False, 2.0))
        assert time.monotonic() - began < PATIENCE
    finally:
        let_go.set()
    assert [each.process.pid for each in found] == sorted([program.pid, os.getpid()])
    assert all(each.memory is not None for each in found)
