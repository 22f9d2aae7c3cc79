"""Advice to real processes of this machine: exact results, and every error as the kernel gives it."""

from __future__ import annotations

import contextlib
import os
import pickle
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import vmatlas
from vmatlas import operations
from vmatlas.model import AddressSpace
from vmatlas.operations import Advice
from vmatlas_linux_memory import OPERATIONS

from .conftest import Child

PAGE = OPERATIONS.page_size
NOBODY = 65534


def _is_tmpfs(folder: Path) -> bool:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    inside = [each for each in mounts if folder.is_relative_to(each[1])]
    return max(inside, key=lambda each: len(each[1]))[2] == "tmpfs"


@pytest.mark.usefixtures("may_advise")
class TestWithTheRight:
    def test_regions_of_a_query_are_advised_whole(self, child: Child) -> None:
        start = child.ask("lay(300)")
        space = vmatlas.snapshot(child.pid).where(kind=vmatlas.Kind.ANONYMOUS, larger_than="1M")
        assert space.find(start) is not None
        for advice in (Advice.COLD, Advice.PAGEOUT, Advice.WILLNEED):
            advised = operations.advise(child.pid, space, advice)
            assert (advised.asked, advised.advised, advised.complete) == (space.total, space.total, True)
            assert (advised.pid, advised.ranges) == (child.pid, len(space))

    def test_file_pages_leave_memory_when_paged_out(self, child: Child, tmp_path: Path) -> None:
        path = tmp_path / "table"
        path.write_bytes(bytes(64 * PAGE))
        os.sync()  # dirty pages would stay
        start = child.ask(
            f"(lambda m: (globals().update(m=m), sum(m[::PAGE]), ctypes.addressof(ctypes.c_char.from_buffer(m)))[2])"
            f"(mmap.mmap(os.open({str(path)!r}, os.O_RDWR), {64 * PAGE}, flags=mmap.MAP_PRIVATE))"
        )
        before = vmatlas.snapshot(child.pid, residency=True).find(start)
        assert before is not None
        assert before.resident == 64 * PAGE
        operations.advise(child.pid, [before], Advice.PAGEOUT).required()
        after = vmatlas.snapshot(child.pid, residency=True).find(start)
        assert after is not None
        assert after.resident is not None
        if _is_tmpfs(tmp_path):
            pytest.skip("the temporary folder lies in memory (tmpfs), and there may be no swap")
        assert after.resident < before.resident

    def test_more_than_1024_ranges_are_all_advised(self, child: Child) -> None:
        start = child.ask("lay(5000)")
        ranges = [(start + page * PAGE, start + (page + 1) * PAGE) for page in range(0, 5000, 2)]
        advised = operations.advise(child.pid, ranges, Advice.COLD)
        assert (advised.ranges, advised.advised) == (2500, 2500 * PAGE)

    def test_more_than_two_gigabytes_are_all_advised(self, child: Child) -> None:
        start = child.ask(f"libc.mmap(None, {5 << 30}, 3, 0x4022, -1, 0)")
        advised = operations.advise(child.pid, [(start, start + (5 << 30))], Advice.COLD)
        assert (advised.advised, advised.complete) == (5 << 30, True)

    def test_hole_in_the_middle_stops_there_and_is_named(self, child: Child) -> None:
        start = child.ask("lay(9)")
        assert child.ask(f"libc.munmap({start + 4 * PAGE}, PAGE)") == 0
        ranges = [(start + page * PAGE, start + (page + 3) * PAGE) for page in (0, 3, 6)]
        advised = operations.advise(child.pid, ranges, Advice.COLD)
        assert (advised.asked, advised.advised) == (9 * PAGE, 3 * PAGE)
        assert advised.stopped_at == ranges[1]
        assert advised.failure is not None
        assert advised.failure.errno_name == "ENOMEM"
        assert f"nothing is mapped at {start + 4 * PAGE:#x}" in advised.failure.message
        with pytest.raises(vmatlas.OperationFailed):
            advised.required()

    def test_hole_in_the_first_range_is_told_likewise(self, child: Child) -> None:
        start = child.ask("lay(9)")
        assert child.ask(f"libc.munmap({start + 4 * PAGE}, PAGE)") == 0
        advised = operations.advise(child.pid, [(start, start + 9 * PAGE)], Advice.COLD)
        assert (advised.advised, advised.stopped_at) == (0, (start, start + 9 * PAGE))

    def test_locked_memory_is_refused_with_the_reason(self, child: Child) -> None:
        start = child.ask("lay(4)")
        assert child.ask(f"libc.mlock({start + PAGE}, PAGE)") == 0
        pages = [(start + page * PAGE, start + (page + 1) * PAGE) for page in range(4)]
        advised = operations.advise(child.pid, pages, Advice.PAGEOUT)
        assert (advised.advised, advised.stopped_at) == (PAGE, pages[1])
        assert "locked" in (advised.reason or "")
        assert "EINVAL" in (advised.reason or "")

    def test_range_above_the_process_stops_there_and_what_is_before_is_done(self, child: Child) -> None:
        start = child.ask("lay(4)")
        above = (2**64 - 16 * PAGE, 2**64 - 15 * PAGE)
        ranges = [(start, start + PAGE), (start + PAGE, start + 2 * PAGE), above]
        advised = operations.advise(child.pid, ranges, Advice.COLD)
        assert (advised.advised, advised.stopped_at) == (2 * PAGE, above)
        assert "EFAULT" in (advised.reason or "")

    @pytest.mark.parametrize("advice", [Advice.DONTNEED, Advice.FREE, Advice.GUARD_INSTALL, Advice.MERGEABLE])
    def test_advice_that_no_other_process_takes_is_unsupported(self, child: Child, advice: Advice) -> None:
        start = child.ask("lay(1)")
        with pytest.raises(vmatlas.Unsupported, match="does not take the advice") as refused:
            operations.advise(child.pid, [(start, start + PAGE)], advice)
        assert "cold, pageout, willneed, collapse" in (refused.value.hint or "")
        with pytest.raises(vmatlas.Unsupported):
            operations.advise(child.pid, [(start, start + PAGE)], advice, dry_run=True)

    def test_dry_run_asks_the_kernel_and_does_nothing(self, child: Child) -> None:
        start = child.ask("lay(4)")
        advised = operations.advise(child.pid, [(start, start + 4 * PAGE)], Advice.PAGEOUT, dry_run=True)
        assert (advised.asked, advised.advised, advised.dry_run) == (4 * PAGE, 0, True)

    def test_no_ranges_are_no_error(self, child: Child) -> None:
        empty = vmatlas.snapshot(child.pid).where("size>1T")
        advised = operations.advise(child.pid, empty, Advice.COLD)
        assert (advised.ranges, advised.asked, advised.advised, advised.complete) == (0, 0, 0, True)

    def test_handle_of_a_process_that_has_ended_is_told(self, child: Child) -> None:
        start = child.ask("lay(1)")
        with vmatlas.open(child.pid) as process:
            child.end()
            with pytest.raises(vmatlas.NoSuchProcess):
                operations.advise(process, [(start, start + PAGE)], Advice.COLD)

    def test_pid_that_another_process_has_now_is_never_advised(self, child: Child) -> None:
        space = vmatlas.snapshot(child.pid).where(kind=vmatlas.Kind.ANONYMOUS)
        assert space.start_time is not None
        earlier = AddressSpace(space.columns, replace(space.origin, start_time=space.start_time - 1))
        with pytest.raises(vmatlas.NoSuchProcess, match="another process's now"):
            operations.advise(child.pid, earlier, Advice.COLD)
        with pytest.raises(vmatlas.OperationFailed) as refused:  # the look after pidfd_open itself
            OPERATIONS.advise_process(child.pid, space.start_time - 1, [(space[0].start, space[0].size)], 20)
        assert refused.value.errno_name == "ESRCH"

    def test_thread_is_no_process(self, child: Child) -> None:
        thread = child.ask(
            "(lambda t: (t.start(), t.native_id)[1])"
            "(__import__('threading').Thread(target=__import__('time').sleep, args=(600,), daemon=True))"
        )
        with pytest.raises(vmatlas.UsageError, match="id of a thread"):
            OPERATIONS.advise_process(thread, None, [], 20)


class TestArguments:
    @pytest.mark.parametrize("ranges", [[(1, PAGE)], [(PAGE, PAGE)], [(PAGE, 3 * PAGE), (2 * PAGE, 4 * PAGE)], [7]])
    def test_bad_ranges_are_refused_before_the_kernel_is_asked(self, child: Child, ranges: Any) -> None:
        with pytest.raises(vmatlas.UsageError):
            operations.advise(child.pid, ranges, Advice.COLD)

    def test_map_of_another_process_is_refused(self, child: Child) -> None:
        with pytest.raises(vmatlas.UsageError, match="the regions are of process"):
            operations.advise(child.pid, vmatlas.snapshot(), Advice.COLD)

    def test_what_is_no_advice_is_refused(self, child: Child) -> None:
        for advice in ("cold", 20, None):
            with pytest.raises(vmatlas.UsageError, match="no advice"):
                operations.advise(child.pid, [], advice)  # type: ignore[arg-type]

    def test_filter_is_no_set_of_regions(self, child: Child) -> None:
        with pytest.raises(vmatlas.UsageError, match="no set of regions"):
            operations.advise(child.pid, "anonymous", Advice.COLD)

    def test_process_that_never_was(self) -> None:
        with pytest.raises(vmatlas.NoSuchProcess):
            operations.advise(2**22 + 1, [(PAGE, 2 * PAGE)], Advice.COLD)


# ---- rights: two children of ours become somebody else, and one advises the other ----


def _as_nobody(done: Callable[[int], object], *, dumpable: bool) -> Any:
    """What `done` gives, or the error it raises, in a process of the user nobody, about another one of nobody's."""
    ready, told = os.pipe(), os.pipe()
    other = os.fork()
    if not other:
        with contextlib.suppress(BaseException):
            _become_nobody(dumpable)
            os.write(ready[1], b".")
            os.read(told[0], 1)  # until the end
        os._exit(0)
    os.read(ready[0], 1)
    answer = os.pipe()
    asker = os.fork()
    if not asker:
        try:
            _become_nobody(True)
            try:
                found: Any = done(other)
            except vmatlas.VmatlasError as error:
                found = error
            os.write(answer[1], pickle.dumps(found))
        except BaseException:
            os.write(answer[1], pickle.dumps(traceback.format_exc()))
        os._exit(0)
    os.close(answer[1])
    with os.fdopen(answer[0], "rb") as file:
        got = pickle.loads(file.read())
    os.kill(other, 9)
    for pid in (other, asker):
        os.waitpid(pid, 0)
    for end in (*ready, *told):
        os.close(end)
    return got


def _become_nobody(dumpable: bool) -> None:
    import ctypes

    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    ctypes.CDLL(None).prctl(4, int(dumpable), 0, 0, 0)  # PR_SET_DUMPABLE


def _advise(pid: int) -> object:
    return operations.advise(pid, [(2**20, 2**20 + PAGE)], Advice.COLD)


def test_without_the_capability_the_error_names_it() -> None:
    error = _as_nobody(_advise, dumpable=True)
    assert isinstance(error, vmatlas.AccessDenied), error
    assert "CAP_SYS_NICE (EPERM)" in error.message
    assert "sudo" in (error.hint or "")


def test_without_the_right_to_read_the_error_names_that() -> None:
    error = _as_nobody(lambda pid: OPERATIONS.advise_process(pid, None, [], 20), dumpable=False)
    assert isinstance(error, vmatlas.OperationFailed), error
    assert error.errno_name == "EACCES"
    told = OPERATIONS.advice_refused(error, 7, Advice.COLD, any_range=True)
    assert isinstance(told, vmatlas.AccessDenied)
    assert "right to read it (EACCES)" in told.message
    assert "CAP_SYS_PTRACE" in (told.hint or "")


def test_dry_run_finds_out_that_the_right_is_missing() -> None:
    error = _as_nobody(
        lambda pid: operations.advise(pid, [(2**20, 2**20 + PAGE)], Advice.COLD, dry_run=True), dumpable=True
    )
    assert isinstance(error, vmatlas.AccessDenied), error


# ---- on oneself ----


def test_advice_on_oneself_takes_every_value_that_the_kernel_has() -> None:
    with operations.map_anonymous(64 * PAGE, populate=True) as mine:
        taken, refused = [], []
        for advice in Advice:
            if OPERATIONS.advice_number(advice) is None:
                with pytest.raises(vmatlas.Unsupported):
                    operations.advise(None, [(mine.start, mine.end)], advice, unsafe=True)
                continue
            if advice in (Advice.HWPOISON, Advice.SOFT_OFFLINE):
                continue  # they take pages of this machine away
            try:
                dry = operations.advise(None, [(mine.start, mine.end)], advice, unsafe=True, dry_run=True)
            except vmatlas.Unsupported:  # a kernel that is older, or was built without
                with pytest.raises(vmatlas.Unsupported, match=f"has no advice '{advice.value}'"):
                    operations.advise(None, [(mine.start, mine.end)], advice, unsafe=True)
                continue
            assert (dry.advised, dry.unasked) == (0, None)
            advised = operations.advise(None, [(mine.start, mine.end)], advice, unsafe=True)
            (taken if advised.complete else refused).append((advice, advised.reason))
        assert {advice for advice, _ in taken} >= {
            Advice.NORMAL,
            Advice.RANDOM,
            Advice.SEQUENTIAL,
            Advice.WILLNEED,
            Advice.DONTNEED,
            Advice.FREE,
            Advice.DONTFORK,
            Advice.DOFORK,
            Advice.DONTDUMP,
            Advice.DODUMP,
            Advice.WIPEONFORK,
            Advice.KEEPONFORK,
            Advice.COLD,
        }
        assert all(reason for _, reason in refused)  # REMOVE: this memory is private
        assert Advice.REMOVE in {advice for advice, _ in refused}


def test_advice_on_oneself_by_pid_and_by_region() -> None:
    with operations.map_anonymous(8 * PAGE) as mine:
        for process in (None, os.getpid()):
            advised = operations.advise(process, mine.regions(), Advice.COLD)
            assert (advised.pid, advised.advised) == (os.getpid(), 8 * PAGE)


def test_dontneed_makes_memory_of_ours_zeros() -> None:
    with operations.map_anonymous(PAGE) as mine:
        mine.buffer[0] = 7
        operations.advise(None, [(mine.start, mine.end)], Advice.DONTNEED).required()
        assert mine.buffer[0] == 0


def test_dry_run_on_oneself_does_nothing() -> None:
    with operations.map_anonymous(2 * PAGE) as mine:
        mine.buffer[0] = 7
        advised = operations.advise(None, [(mine.start, mine.end)], Advice.DONTNEED, dry_run=True)
        assert (advised.asked, advised.advised, advised.dry_run, advised.unasked) == (2 * PAGE, 0, True, None)
        assert mine.buffer[0] == 7


def test_advice_that_this_kernel_lacks_is_told_from_memory_that_takes_it_not() -> None:
    class Future(type(OPERATIONS)):  # type: ignore[misc]
        def advice_number(self, advice: Advice) -> int | None:
            return 9999 if advice is Advice.NOSYNC else super().advice_number(advice)

    memory = operations.Memory(Future())
    mine = memory.map_anonymous(PAGE)
    for dry_run in (True, False):
        with pytest.raises(vmatlas.Unsupported, match=r"this kernel has no advice 'nosync' \(EINVAL\)"):
            memory.advise([(mine.start, mine.end)], Advice.NOSYNC, os.getpid(), unsafe=True, dry_run=dry_run)
    advised = memory.advise([(mine.start, mine.end)], Advice.REMOVE, os.getpid(), unsafe=True, dry_run=False)
    assert "only shared memory" in (advised.reason or "")
