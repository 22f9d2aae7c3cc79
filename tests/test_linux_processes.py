"""Processes that are gone, going, changing, forbidden or odd: one right answer or one right error, by each backend."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import vmatlas
from tests.conftest import Start, as_root, born_with_pid, unshared, wait_until
from vmatlas import Kind, NoSuchProcess, operations
from vmatlas.cli.render.processes import processes_table
from vmatlas.conformance.patience import PATIENCE
from vmatlas.conformance.thorough import THOROUGH

QUESTIONS: dict[str, Callable[[vmatlas.Process], object]] = {
    "snapshot": lambda process: process.snapshot(),
    "find": lambda process: process.find(0x200000000000, or_next=True),
    "find_many": lambda process: process.find_many([0x1000]),
    "iterate": lambda process: list(process.iterate()),
    "capture": lambda process: process.capture(),
}


@pytest.fixture(params=QUESTIONS)
def ask(request: pytest.FixtureRequest) -> Callable[[vmatlas.Process], object]:
    return QUESTIONS[request.param]


@contextlib.contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A program that does not know of us: killed at the end."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE)


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


# Gone


def test_process_that_was_reaped_is_no_process(start: Start, backend: str) -> None:
    program = start("oddity", "sleeps")
    program.hear()
    program.end()
    with pytest.raises(vmatlas.NoSuchProcess, match=f"no process {program.pid}") as raised:
        vmatlas.snapshot(program.pid, backend=backend)
    assert raised.value.pid == program.pid


def test_process_that_ends_between_two_questions_is_no_process(
    start: Start, backend: str, ask: Callable[[vmatlas.Process], object]
) -> None:
    program = start("oddity", "sleeps")
    program.hear()
    with vmatlas.open(program.pid, backend=backend) as asked, vmatlas.open(program.pid, backend=backend) as unasked:
        ask(asked)
        program.end()
        for process in (asked, unasked):
            for _ in range(2):
                with pytest.raises(vmatlas.NoSuchProcess):
                    ask(process)


def test_zombie_is_no_process(start: Start, backend: str, ask: Callable[[vmatlas.Process], object]) -> None:
    program = start("oddity", "sleeps")
    program.hear()
    with vmatlas.open(program.pid, backend=backend) as before:
        ask(before)
        program.kill()
        wait_until(lambda: state(program.pid) == "Z")
        with vmatlas.open(program.pid, backend=backend) as after:
            for process in (before, after):
                with pytest.raises(vmatlas.NoSuchProcess, match="zombie"):
                    ask(process)


def test_zombie_has_no_residency(start: Start) -> None:
    program = start("oddity", "sleeps")
    program.hear()
    program.kill()
    wait_until(lambda: state(program.pid) == "Z")
    with pytest.raises(vmatlas.NoSuchProcess, match="zombie"):
        vmatlas.snapshot(program.pid, residency=True)


def test_process_killed_while_it_is_read_gives_its_whole_map_or_none(start: Start, backend: str) -> None:
    whole = gone = 0
    for trial in range(60):
        if gone and trial >= 6:
            break
        program = start("self_reader", 20_000)
        program.hear()
        with vmatlas.open(program.pid, backend=backend) as process:
            complete = len(process.snapshot())
            took = time.monotonic()
            process.capture()
            took = time.monotonic() - took
            killer = threading.Timer(took * (trial % 6) / 10 * random.uniform(0.8, 1.2), program.kill)
            killer.start()
            try:
                assert len(process.snapshot()) == complete
                whole += 1
            except vmatlas.NoSuchProcess:
                gone += 1
            killer.join()
        program.end()
    print(f"{backend}: {whole} whole, {gone} gone")
    assert gone


# Changing


def test_exec_between_two_questions_gives_the_new_memory(
    start: Start, tmp_path: Path, backend: str, ask: Callable[[vmatlas.Process], object]
) -> None:
    program = start("layout", tmp_path)
    program.hear()
    with vmatlas.open(program.pid, backend=backend) as process:
        ask(process)
        assert process.find(0x200000000000) is not None
        started = process.start_time
        assert program.tell("exec") == "ok"
        ask(process)
        assert process.find(0x200000000000) is None
        assert not [region for region in process.snapshot() if region.start in range(0x200000000000, 0x200100000000)]
        assert process.snapshot().start_time == started


@contextlib.contextmanager
def child_in_borrowed_memory(start: Start, folder: Path) -> Iterator[tuple[int, int, Callable[[], None]]]:
    """The pid of a child that shares its parent's memory, an address of that, what makes it execute another program."""
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    parent = start("borrower", pipe)
    address = int(parent.hear().split()[1])
    children: list[int] = []

    def found() -> bool:
        children[:] = [each.pid for each in vmatlas.processes() if each.parent == parent.pid]
        return bool(children)

    def execute() -> None:
        os.close(os.open(pipe, os.O_WRONLY))
        wait_until(lambda: Path(f"/proc/{child}/comm").read_text() == "sleep\n")

    wait_until(found)
    (child,) = children
    try:
        yield child, address, execute
    finally:
        os.kill(child, signal.SIGKILL)


def told_by_the_kernel(pid: int) -> list[int]:
    """Where regions begin, by a file that was opened just now."""
    return [int(line.split(b"-")[0], 16) for line in Path(f"/proc/{pid}/maps").read_bytes().splitlines()]


def test_exec_in_memory_that_the_parent_keeps_gives_the_new_memory(
    start: Start, tmp_path: Path, backend: str, ask: Callable[[vmatlas.Process], object]
) -> None:
    with (
        child_in_borrowed_memory(start, tmp_path) as (pid, address, execute),
        vmatlas.open(pid, backend=backend) as process,
    ):
        ask(process)
        for _ in range(2):  # the first may make what answers the second
            found = process.find(address)
            assert found is not None and address in found
        execute()
        time.sleep(0.001)  # what was found out a tenth of a millisecond ago may be said again
        ask(process)
        assert process.find(address) is None
        assert process.find_many([address, address + 4096]) == [None, None]
        starts = told_by_the_kernel(pid)
        assert {region.start for region in process.snapshot() if region.name != "[vsyscall]"} <= set(starts)
        assert process.find(starts[0]) is not None
        around = process.neighbours(address)
        assert all(region.start in starts for region in (around.before, around.after) if region is not None)


def test_after_exec_in_memory_that_the_parent_keeps_its_own_pages_are_told(start: Start, tmp_path: Path) -> None:
    with child_in_borrowed_memory(start, tmp_path) as (pid, address, execute), vmatlas.open(pid) as process:
        page = address, address + 1
        assert process.pages(between=page).bytes_of(vmatlas.PageState.PRESENT)
        execute()
        assert not process.pages(between=page).bytes_of(vmatlas.PageState.PRESENT)
        assert process.pages().bytes_of(vmatlas.PageState.PRESENT)


def test_process_that_executes_itself_without_pause_gives_whole_maps(tmp_path: Path, backend: str) -> None:
    script = tmp_path / "again"
    script.write_text('#!/bin/sh\nexec "$0"\n')
    script.chmod(0o755)
    answers = torn = 0
    began = time.monotonic()
    with running([str(script)]) as program, vmatlas.open(program.pid, backend=backend) as process:
        while (lasted := time.monotonic() - began) < (3 if THOROUGH else 1) or (answers <= 10 and lasted < PATIENCE):
            try:
                space = process.snapshot()
            except vmatlas.TornRead:
                torn += 1
                continue
            # Half-made as it may be: a program's memory has a stack first of all.
            assert any(region.kind is Kind.STACK for region in space) or len(space) < 5
            assert len(space) > 0
            answers += 1
    print(f"{backend}: {answers} answers, {torn} torn reads")
    assert answers > 10


def test_reused_pid_is_never_taken_for_the_old_process(
    start: Start, backend: str, ask: Callable[[vmatlas.Process], object]
) -> None:
    as_root("choosing a pid takes CAP_CHECKPOINT_RESTORE")
    program = start("oddity", "sleeps")
    program.hear()
    with vmatlas.open(program.pid, backend=backend) as asked, vmatlas.open(program.pid, backend=backend) as unasked:
        ask(asked)
        (info,), space = vmatlas.select(program.pid), asked.snapshot()
        program.end()
        time.sleep(0.05)  # start times are counted in hundredths of a second
        if not born_with_pid(program.pid, ["/bin/sleep", "3600"]):
            pytest.skip("clone3(2) with set_tid is refused here")
        try:
            wait_until(lambda: Path(f"/proc/{program.pid}/comm").read_text() == "sleep\n")
            for process in (asked, unasked):
                with pytest.raises(vmatlas.NoSuchProcess):
                    ask(process)
                with pytest.raises(vmatlas.NoSuchProcess, match="another's now"):
                    vmatlas.snapshot(process, backend=backend)
            for was in (info, space):
                with pytest.raises(vmatlas.NoSuchProcess, match="another's now"):
                    vmatlas.find(was, 4096)
            with vmatlas.open(program.pid, backend=backend) as new:
                ask(new)
                assert new.start_time != asked.start_time
        finally:
            os.kill(program.pid, signal.SIGKILL)
            os.waitpid(program.pid, 0)


def test_handle_in_a_forked_child_still_means_the_parent(backend: str) -> None:
    with vmatlas.open(backend=backend) as process:
        before = process.snapshot()
        child = os.fork()
        if child == 0:
            try:
                space = process.snapshot()
                os._exit(0 if space.pid == before.pid and not [r for r in space if "scratch" in r.label] else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# Odd


def test_process_whose_first_thread_has_ended_is_read_through_another(
    start: Start, backend: str, ask: Callable[[vmatlas.Process], object]
) -> None:
    program = start("oddity", "leader-ends")
    program.hear()
    wait_until(lambda: state(program.pid) == "Z")
    with vmatlas.open(program.pid, backend=backend) as process:
        ask(process)
        space = process.snapshot()
        assert space.pid == program.pid
        assert len(space) > 20
        assert any(region.kind is Kind.STACK for region in space)
    (thread,) = {int(name) for name in os.listdir(f"/proc/{program.pid}/task")} - {program.pid}
    assert vmatlas.snapshot(program.pid, thread=thread, backend=backend) == space


def test_a_process_that_hops_from_thread_to_thread_is_read_or_changed_too_fast_and_is_no_zombie(
    start: Start, backend: str
) -> None:
    program = start("oddity", "hops")
    program.hear()
    wait_until(lambda: state(program.pid) == "Z")
    read = 0
    for _ in range(20):
        with contextlib.suppress(vmatlas.TornRead):
            read += len(vmatlas.snapshot(program.pid, backend=backend)) > 20
            read += vmatlas.memory(program.pid).resident is not None
    assert read


def test_short_of_descriptors_a_process_that_lives_on_in_other_threads_is_no_zombie(
    start: Start, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = start("oddity", "leader-ends")
    program.hear()
    wait_until(lambda: state(program.pid) == "Z")
    opens, refused = os.open, ["task"]

    def short(path: object, flags: int, *rest: object, **more: object) -> int:
        if str(path).startswith(refused[0]):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return opens(path, flags, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", short)
    for name in ("task/", "task"):
        refused[0] = name
        with pytest.raises(vmatlas.OperationFailed, match="Too many open files"):
            vmatlas.snapshot(program.pid, backend=backend)


@pytest.mark.parametrize("residency", [False, True])
def test_first_thread_that_has_ended_is_said_to_have(start: Start, backend: str, residency: bool) -> None:
    program = start("oddity", "leader-ends")
    program.hear()
    wait_until(lambda: state(program.pid) == "Z")
    if residency and backend == "linux-ioctl":
        pytest.skip("the ioctl does not tell the memory in use")
    with pytest.raises(NoSuchProcess, match=f"thread {program.pid} of process {program.pid} has ended; others") as told:
        vmatlas.snapshot(program.pid, thread=program.pid, backend=backend, residency=residency)
    assert told.value.hint is not None


def test_advice_to_a_process_whose_first_thread_has_ended_says_so(start: Start) -> None:
    program = start("oddity", "leader-ends")
    program.hear()
    wait_until(lambda: state(program.pid) == "Z")
    regions = vmatlas.snapshot(program.pid).where("anonymous,w")
    try:
        with pytest.raises(vmatlas.Unsupported, match=f"the first thread of process {program.pid} has ended"):
            operations.advise(program.pid, regions, operations.Advice.COLD)
    except vmatlas.AccessDenied as error:
        pytest.skip(f"no right to advise here: {error}")


def test_a_list_tells_a_process_whose_first_thread_has_ended_from_a_zombie(start: Start, binary: Path) -> None:
    program, zombie = start("oddity", "leader-ends"), start("oddity", "leader-ends")
    program.hear()
    wait_until(lambda: state(program.pid) == "Z")
    zombie.hear()
    zombie.kill()
    wait_until(lambda: vmatlas_state(zombie.pid) == ("Z", False))
    listed = {each.pid: each for each in vmatlas.processes()}
    assert (listed[program.pid].state, listed[program.pid].lives_on) == ("Z", True)
    assert listed[program.pid].resident is None, "the kernel tells it of the first thread alone"
    with vmatlas.connect(f"agent:{binary}") as board:
        told = {each.pid: each.lives_on for each in vmatlas.processes(board)}
    assert (told[program.pid], told[zombie.pid]) == (True, False)
    rows = processes_table([listed[program.pid], listed[zombie.pid]], {}).rows
    assert [row.cells[3] for row in rows] == ["Z+threads", "Z"]


def vmatlas_state(pid: int) -> tuple[str, bool]:
    found = next(each for each in vmatlas.processes() if each.pid == pid)
    return found.state, found.lives_on


def test_thread_that_ends_while_it_is_held_is_said_to_have_ended() -> None:
    begun, end = threading.Event(), threading.Event()

    def live() -> None:
        begun.set()
        end.wait(PATIENCE)

    thread = threading.Thread(target=live)
    thread.start()
    assert begun.wait(PATIENCE)
    assert thread.native_id is not None
    with vmatlas.open(os.getpid(), thread=thread.native_id, backend="linux-procfs") as process:
        assert len(process.snapshot()) > 20  # the ioctl's descriptor goes on answering: the memory lives
        end.set()
        thread.join()
        wait_until(lambda: not Path(f"/proc/self/task/{thread.native_id}").exists())
        with pytest.raises(NoSuchProcess, match=f"thread {thread.native_id} of process {os.getpid()} has ended"):
            process.capture()


def test_thread_that_is_not_there_is_said_to_be_missing(backend: str) -> None:
    with pytest.raises(vmatlas.NoSuchProcess, match=f"process {os.getpid()} has no thread 1"):
        vmatlas.snapshot(os.getpid(), thread=1, backend=backend)


def test_kernel_thread_is_an_empty_space(backend: str) -> None:
    found = [process for process in vmatlas.processes() if process.kernel]
    if not found:
        pytest.skip("this container shows no kernel threads")
    for process in found[:5]:
        with vmatlas.open(process.pid, backend=backend) as opened:
            assert len(opened.snapshot()) == 0
            assert opened.snapshot().incomplete is None
            assert opened.find(0x1000) is None
            assert opened.find(0x1000, or_next=True) is None
            assert list(opened.iterate()) == []
            assert opened.find_many([0, 2**63]) == [None, None]
            assert len(vmatlas.replay(opened.capture())) == 0
    assert len(vmatlas.snapshot(found[0].pid, residency=True)) == 0


def elf_of_32_bits() -> bytes:
    """The least i386 program that stays: `again: mov $29, %eax; int $0x80; jmp again` (pause)."""
    code = bytes.fromhex("b81d000000 cd80 ebf7")
    base, headers = 0x08048000, 52 + 32
    size = headers + len(code)
    header = b"\x7fELF\x01\x01\x01" + bytes(9)
    header += struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, base + headers, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    program = struct.pack("<8I", 1, 0, base, base, size, size, 5, 0x1000)
    return header + program + code


def test_process_of_32_bits_is_read_whole(tmp_path: Path, backend: str) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip(f"the program is i386 code; this machine is {os.uname().machine}")
    path = tmp_path / "pauses"
    path.write_bytes(elf_of_32_bits())
    path.chmod(0o755)
    try:
        program = subprocess.Popen([path])
    except OSError as error:
        pytest.skip(f"this kernel runs no 32-bit programs: {error.strerror}")
    try:
        wait_until(lambda: state(program.pid) == "S")  # exec is told to be done before the memory is made
        space = vmatlas.snapshot(program.pid, backend=backend)
        assert space[-1].end <= 2**32
        code = space.find(0x08048000)
        assert code is not None
        assert (code.path, code.permissions, code.inode) == (str(path), "r-xp", path.stat().st_ino)
        assert {Kind.STACK, Kind.VDSO, Kind.VVAR} <= {region.kind for region in space}
        assert vmatlas.find(program.pid, 2**32, or_next=True, backend=backend) is None
        assert vmatlas.snapshot(program.pid, residency=True)[-1].end <= 2**32
    finally:
        program.kill()
        program.wait(PATIENCE)


def test_file_in_another_root_that_is_really_named_deleted_is_not_deleted(
    start: Start, tmp_path: Path, backend: str
) -> None:
    as_root("chroot(2)")
    program = start("oddity", "chrooted", tmp_path)
    program.hear()
    found = [region for region in vmatlas.snapshot(program.pid, backend=backend) if "x (deleted)" in region.label]
    assert [(region.path, region.deleted) for region in found] == [(str(tmp_path / "x (deleted)"), False)]


# Forbidden


def test_process_of_another_user_is_denied_with_what_to_do(start: Start, backend: str) -> None:
    program = start("oddity", "asks", 1, backend)
    answer = program.hear()
    assert answer.startswith(f"{backend} AccessDenied no right to read the memory map of process 1")
    assert "CAP_SYS_PTRACE" in answer


def test_process_that_may_not_be_dumped_is_denied_to_its_own_user_and_reads_itself(start: Start, backend: str) -> None:
    secret = start("oddity", "not-dumpable")
    assert set(secret.hear().split()) == {"True"}
    assert start("oddity", "asks", secret.pid, backend).hear().startswith(f"{backend} AccessDenied")
    if os.geteuid() == 0:
        assert len(vmatlas.snapshot(secret.pid, backend=backend)) > 10


def test_kernel_thread_is_an_empty_space_for_an_ordinary_user_too(start: Start, backend: str) -> None:
    found = [process for process in vmatlas.processes() if process.kernel]
    if not found:
        pytest.skip("this container shows no kernel threads")
    assert start("oddity", "asks", found[0].pid, backend).hear() == f"{backend} 0"


ASK_ALL = """
import sys, vmatlas
for ask in (vmatlas.snapshot, lambda: list(vmatlas.processes()), lambda: vmatlas.snapshot(1, backend=sys.argv[1]),
            lambda: vmatlas.find(None, 0x1000, backend=sys.argv[1])):
    try:
        print("answered", ask())
    except vmatlas.VmatlasError as error:
        print(type(error).__name__, error, "--", error.hint)
"""


def test_machine_without_proc_says_what_to_mount(backend: str) -> None:
    lines = unshared("--mount", 'mount -t tmpfs none /proc && exec "$1" -c "$2" "$3"', ASK_ALL, backend)
    assert len(lines) == 4
    for line in lines:
        assert line.startswith("Unsupported")
        assert "mount -t proc proc /proc" in line


def test_proc_of_another_pid_namespace_is_not_taken_for_ours(backend: str) -> None:
    lines = unshared("--pid --fork --mount", 'exec "$1" -c "$2" "$3"', ASK_ALL, backend)
    # There our own pid is a small number, which in this /proc is somebody else's; and so is every other number.
    for line in lines:
        assert line.startswith("Unsupported /proc is of another pid namespace")
        assert "mount -t proc proc /proc" in line
