"""This process's own memory, on this machine's kernel: what is made is read back from the map, and nothing crashes."""

from __future__ import annotations

import array
import contextlib
import ctypes
import faulthandler
import gc
import mmap
import os
import resource
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

import vmatlas
from vmatlas import Kind, Protection, compiled, operations
from vmatlas.conformance.patience import PATIENCE
from vmatlas.operations import Advice, BufferInUse, Mapping, buffers
from vmatlas.operations.values import UNDOES_SECRETS
from vmatlas_linux_memory import OPERATIONS

PAGE = OPERATIONS.page_size
READ, WRITE, EXECUTE, NONE = Protection.READ, Protection.WRITE, Protection.EXECUTE, Protection.NONE
RW = READ | WRITE
CAP_IPC_LOCK = 14


def mapped(address: int) -> bool:
    return vmatlas.find(None, address) is not None


# ---- the mapping object ----


def test_anonymous_memory_is_zeros_of_which_the_map_tells() -> None:
    with operations.map_anonymous(3 * PAGE - 5) as mine:
        assert bytes(mine.buffer) == bytes(3 * PAGE - 5)
        assert (mine.length, mine.size, mine.address) == (3 * PAGE - 5, 3 * PAGE, mine.start)
        region = mine.as_region()
        assert (region.start, region.end, region.protection) == (mine.start, mine.end, RW)
        assert (region.kind, region.shared) == (Kind.ANONYMOUS, False)
        start = mine.start
    assert mine.closed
    assert not mapped(start)


def test_two_mappings_that_the_kernel_merges_are_told_apart() -> None:
    with operations.map_anonymous(4 * PAGE) as place:
        start = place.start
    one = operations.map_anonymous(PAGE, at=start)
    two = operations.map_anonymous(PAGE, at=start + PAGE)
    assert (one.as_region().start, one.as_region().end) == (start, start + PAGE)
    assert (two.as_region().start, two.as_region().end) == (start + PAGE, start + 2 * PAGE)


def test_mapping_of_parts_with_different_rights_has_several_regions() -> None:
    with operations.map_anonymous(3 * PAGE) as mine:
        mine.protect(READ, PAGE, PAGE)
        assert [region.permissions for region in mine.regions()] == ["rw-p", "r--p", "rw-p"]
        assert mine.protection == READ
        assert mine.buffer.readonly
        with pytest.raises(vmatlas.UsageError, match="3 regions"):
            mine.as_region()


USES: dict[str, Callable[[memoryview], object]] = {
    "the view": lambda view: view,
    "a slice": lambda view: view[10:20],
    "a slice of a slice": lambda view: view[10:20][::2],
    "a cast": lambda view: view.cast("I"),
    "a read-only view": lambda view: view.toreadonly(),
    "ctypes from_buffer": lambda view: (ctypes.c_char * 8).from_buffer(view),
    "a memoryview of it": lambda view: memoryview(view)[1:],
    "a closure": lambda view: lambda: view,
    "a list": lambda view: [view],
}


compiled_only = pytest.mark.skipif(
    not compiled.twin(buffers.MODULE).serves,
    reason=f"the compiled exporter does not serve here: {compiled.twin(buffers.MODULE).reason}",
)


@pytest.fixture(params=[pytest.param("compiled", marks=compiled_only), "python"])
def _exporter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "python":
        monkeypatch.setattr(buffers, "NATIVE", None)


@pytest.mark.usefixtures("_exporter")
@pytest.mark.parametrize("use", USES)
def test_memory_that_something_still_shows_is_not_unmapped(use: str) -> None:
    mine = operations.map_anonymous(PAGE)
    view = mine.buffer
    held = [USES[use](view)]
    del view
    with pytest.raises(BufferInUse, match="still in use") as refused:
        mine.close()
    assert isinstance(refused.value, BufferError)
    assert "release()" in (refused.value.hint or "")
    assert mapped(mine.start)
    assert not mine.closed
    held.clear()
    mine.close()
    assert mine.closed


@pytest.mark.usefixtures("_exporter")
def test_released_view_frees_the_mapping() -> None:
    mine = operations.map_anonymous(PAGE)
    view = mine.buffer
    part = view[1:3]
    part.release()
    view.release()
    mine.close()
    with pytest.raises(ValueError, match="released"):
        view[0]


@pytest.mark.usefixtures("_exporter")
@pytest.mark.parametrize("use", [use for use in USES if use not in ("a closure", "a list")])
def test_mapping_that_only_a_view_holds_goes_with_the_view_at_once(use: str) -> None:
    mine = operations.map_anonymous(PAGE, shared=True)  # which nothing merges with
    start = mine.start
    held = [USES[use](mine.buffer)]
    ended = weakref.ref(mine)
    del mine
    assert ended() is not None
    assert mapped(start)
    held.clear()
    assert ended() is None
    assert operations._own().lifetimes.in_range(start, start + PAGE) == []


@compiled_only
@pytest.mark.parametrize("protection", [READ, RW])
def test_nothing_made_of_a_buffer_can_be_written_that_it_cannot(protection: Protection) -> None:
    with operations.map_anonymous(PAGE, protection=protection) as mine:
        view = mine.buffer
        made = [view, view[1:9], view.cast("I"), view.toreadonly(), memoryview(view), view[::-1], memoryview(view.obj)]
        assert [each.readonly for each in made] == [protection == READ] * 3 + [True] + [protection == READ] * 3
        if protection == READ:
            for each in (view, view.obj):
                with pytest.raises((TypeError, BufferError)):
                    (ctypes.c_char * 8).from_buffer(each)
        del view, made


@compiled_only
def test_exporter_of_a_buffer_shows_nothing_of_what_was_closed() -> None:
    mine = operations.map_anonymous(PAGE)
    with mine.buffer as view:
        exporter = view.obj
        other = memoryview(exporter)
    with pytest.raises(BufferInUse):
        mine.close()
    other.release()
    mine.close()
    with pytest.raises(BufferError, match="has been released"):
        memoryview(exporter)


def test_read_only_buffer_of_python_alone_is_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "NATIVE", None)
    with operations.map_anonymous(PAGE, protection=READ) as mine:
        assert mine.buffer.readonly
        assert isinstance(mine.buffer.obj, ctypes.Array)  # so it was the other way


def test_copies_are_no_buffers() -> None:
    with operations.map_anonymous(PAGE) as mine:
        kept = bytes(mine.buffer), array.array("B", mine.buffer), mine.buffer.tolist()
    assert len(kept[0]) == PAGE


def test_view_in_a_dead_cycle_is_no_reason_to_refuse() -> None:
    mine = operations.map_anonymous(PAGE)
    gc.disable()
    try:
        cycle: list[object] = [mine.buffer]
        cycle.append(cycle)
        del cycle
        mine.close()
    finally:
        gc.enable()
    assert mine.closed


def test_buffer_keeps_the_memory_of_a_mapping_that_nobody_holds() -> None:
    view = operations.map_anonymous(PAGE).buffer
    gc.collect()
    view[0:3] = b"abc"
    assert bytes(view[:3]) == b"abc"
    start = ctypes.addressof(ctypes.c_char.from_buffer(view))
    assert mapped(start)
    view.release()
    gc.collect()
    assert not mapped(start)


def test_block_that_ends_with_a_live_buffer_says_so_and_keeps_the_memory() -> None:
    with pytest.raises(BufferInUse), operations.map_anonymous(PAGE) as mine:
        view = mine.buffer
    view[0] = 1
    view.release()
    mine.close()


def test_protection_that_a_live_buffer_would_trip_over_is_refused() -> None:
    with operations.map_anonymous(2 * PAGE) as mine:
        view = mine.buffer
        for protection in (READ, NONE, READ | EXECUTE):
            with pytest.raises(BufferInUse, match="a live buffer of anonymous memory needs"):
                mine.protect(protection)
            with pytest.raises(BufferInUse):
                operations.protect(mine.start + PAGE, PAGE, protection)
        view[0] = view[PAGE] = 1
        only_read = view.toreadonly()
        view.release()
        del view
        with pytest.raises(BufferInUse):  # the read-only view still shows memory that was exported to be written
            mine.protect(NONE)
        only_read.release()
        del only_read
        mine.protect(NONE)
        with pytest.raises(vmatlas.UsageError, match="cannot be read"):
            _ = mine.buffer


def test_guard_that_cannot_restore_what_a_buffer_needs_says_so() -> None:
    with operations.map_anonymous(PAGE, protection=READ) as mine:
        with pytest.raises(BufferInUse), mine.protected(RW):
            view = mine.buffer
            view[0] = 1
        view[0] = 2  # and the process lives
        view.release()
        mine.protect(READ)


def test_protect_as_a_guard_restores() -> None:
    with operations.map_anonymous(3 * PAGE) as mine:
        mine.protect(READ, PAGE, PAGE)
        with operations.protected(mine.start, mine.size, READ | EXECUTE):
            assert {region.permissions for region in mine.regions()} == {"r-xp"}
        assert [region.permissions for region in mine.regions()] == ["rw-p", "r--p", "rw-p"]


def test_memory_of_the_interpreter_is_not_touched_without_unsafe() -> None:
    heap = next(region for region in vmatlas.snapshot() if region.kind is Kind.HEAP)
    for attempt in (
        lambda: operations.protect(heap.start, PAGE, NONE),
        lambda: operations.move(heap.start, heap.size),
        lambda: operations.map_anonymous(PAGE, at=heap.start, replace=True),
        lambda: operations.advise(None, [heap], operations.Advice.DONTNEED),
        lambda: operations.advise(None, [heap], operations.Advice.GUARD_INSTALL),
        lambda: operations.advise(None, [heap], operations.Advice.DONTFORK),
    ):
        with pytest.raises(vmatlas.UsageError) as refused:
            attempt()
        assert "unsafe=True" in f"{refused.value} {refused.value.hint}"


# ---- placement ----


def test_mapping_is_placed_where_it_was_asked_and_over_nothing() -> None:
    with operations.map_anonymous(4 * PAGE) as place:
        start = place.start
        with pytest.raises(vmatlas.OperationFailed, match="already") as refused:
            operations.map_anonymous(PAGE, at=start + PAGE)
        assert refused.value.errno_name == "EEXIST"
    with operations.map_anonymous(PAGE, at=start + PAGE) as mine:
        assert mine.start == start + PAGE


def test_placement_on_a_kernel_that_ignores_the_flag_compares_and_undoes() -> None:
    """As before Linux 4.17, simulated: the flag is dropped on its way to the real kernel."""

    class Before417(type(OPERATIONS)):  # type: ignore[misc]
        def map(self, address, size, protection, flags, descriptor=-1, offset=0):  # type: ignore[no-untyped-def]
            flags &= ~operations.memory.MapFlag.FIXED_NOT_OVER
            return super().map(address, size, protection, flags, descriptor, offset)

    old = operations.Memory(Before417())
    with old.map_anonymous(4 * PAGE) as place:
        count = len(vmatlas.snapshot())
        with pytest.raises(vmatlas.OperationFailed) as refused:
            old.map_anonymous(PAGE, at=place.start)
        assert refused.value.errno_name == "EEXIST"
        assert abs(len(vmatlas.snapshot()) - count) <= 1
        place.buffer[0] = 1  # it is still there
        free = place.start
    again = old.map_anonymous(PAGE, at=free)
    assert again.start == free


def test_address_that_the_system_forbids_is_told() -> None:
    with pytest.raises(vmatlas.OperationFailed) as refused:
        operations.map_anonymous(PAGE, at=0)
    assert refused.value.errno_name in ("EPERM", "EINVAL", "EEXIST") or os.geteuid() == 0
    with pytest.raises((vmatlas.UsageError, vmatlas.OperationFailed)):  # by what the processor can address
        operations.map_anonymous(PAGE, at=2**63)


def test_memory_that_cannot_be_had_is_told() -> None:
    with pytest.raises((vmatlas.UsageError, vmatlas.OperationFailed), match=r"ENOMEM|memory"):
        operations.map_anonymous(2**62)


# ---- files, shared memory, devices ----


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * (2 * PAGE // 256) + b"tail")
    return path


def test_file_is_mapped_to_its_last_byte_and_no_further(file: Path) -> None:
    with operations.map_file(file) as mine:
        assert bytes(mine.buffer) == file.read_bytes()
        assert mine.buffer.readonly
        region = mine.as_region()
        assert (region.path, region.offset, region.shared) == (str(file), 0, False)
    with operations.map_file(file, offset=2 * PAGE) as mine:
        assert bytes(mine.buffer) == b"tail"
        assert mine.as_region().offset == 2 * PAGE


@pytest.mark.parametrize(("size", "offset"), [(2 * PAGE + 5, 0), (5, 2 * PAGE), (None, 4 * PAGE), (1, 3 * PAGE)])
def test_bytes_beyond_the_end_of_a_file_are_not_mapped(file: Path, size: int | None, offset: int) -> None:
    with pytest.raises(vmatlas.UsageError, match="bytes: from offset"):
        operations.map_file(file, size, offset)


def test_private_writes_stay_here_and_shared_ones_reach_the_file(file: Path) -> None:
    with operations.map_file(file, protection=RW) as mine:
        mine.buffer[0:4] = b"mine"
        assert file.read_bytes()[:4] != b"mine"
    with operations.map_file(file, protection=RW, shared=True) as mine:
        mine.buffer[0:4] = b"ours"
        mine.flush()
        operations.flush(mine.start, mine.size, wait=False, invalidate=True)
        assert file.read_bytes()[:4] == b"ours"


def test_shared_mapping_of_a_file_that_was_opened_to_read_cannot_be_made_writable(file: Path) -> None:
    with operations.map_file(file, shared=True) as mine:
        with pytest.raises(vmatlas.OperationFailed) as refused:
            mine.protect(RW)
        assert refused.value.errno_name == "EACCES"
        assert "opened for that" in (refused.value.hint or "")
        assert mine.protection == READ
        assert mine.buffer[0] == 0


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, "/dev/zero"):
        with pytest.raises(vmatlas.UsageError, match="no regular file"):
            operations.map_file(path)
    with pytest.raises(FileNotFoundError):
        operations.map_file(tmp_path / "none")
    (tmp_path / "empty").touch()
    with pytest.raises(vmatlas.UsageError, match="has 0 bytes"):
        operations.map_file(tmp_path / "empty")


@pytest.mark.skipif(not os.path.ismount("/sys"), reason="there is no sysfs at /sys")
def test_file_of_sysfs_which_may_be_registers_needs_unsafe() -> None:
    attribute = Path("/sys/kernel/uevent_seqnum")  # a regular file of 4,096 bytes, as resource0 is one; no registers
    with attribute.open("rb") as opened:
        for file in (attribute, opened.fileno(), f"/proc/self/fd/{opened.fileno()}"):
            with pytest.raises(vmatlas.UsageError, match="lies in sysfs") as refused:
                operations.map_file(file)
            assert "unsafe=True" in (refused.value.hint or "")
    with pytest.raises(vmatlas.OperationFailed):  # the kernel was asked, and maps no such attribute
        operations.map_file(attribute, unsafe=True)


def test_memory_object_is_the_same_memory_through_its_descriptor() -> None:
    with operations.map_shared(2 * PAGE) as one, operations.map_shared(descriptor=one.descriptor) as two:
        one.buffer[5] = 7
        assert two.buffer[5] == 7
        assert two.size == 2 * PAGE
        region = one.as_region()
        assert (region.kind, region.shared, region.path) == (Kind.SHARED_MEMORY, True, "/memfd:vmatlas")
        with pytest.raises(OSError, match="not permitted"):
            os.ftruncate(one.descriptor, 0)  # sealed: nobody takes the pages away under a buffer
        descriptor = one.descriptor
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(descriptor)


def test_memory_object_reaches_another_process() -> None:
    with operations.map_shared(PAGE) as mine:
        code = "import mmap, sys; mmap.mmap(int(sys.argv[1]), 0)[0:2] = b'hi'"
        descriptor = mine.descriptor
        subprocess.run(
            [sys.executable, "-c", code, str(descriptor)], pass_fds=[descriptor], check=True, timeout=PATIENCE
        )
        assert bytes(mine.buffer[:2]) == b"hi"


def test_named_shared_memory_is_found_by_its_name() -> None:
    name = f"/vmatlas-test-{os.getpid()}"
    with pytest.raises(vmatlas.OperationFailed) as refused:
        operations.map_shared(name=name)
    assert (refused.value.errno_name, refused.value.hint) == ("ENOENT", "create=True makes it")
    with operations.map_shared(PAGE, name, create=True, exclusive=True) as one:
        try:
            with operations.map_shared(name=name) as two:
                one.buffer[0] = 9
                assert two.buffer[0] == 9
            with pytest.raises(vmatlas.OperationFailed) as refused:
                operations.map_shared(PAGE, name, create=True, exclusive=True)
            assert refused.value.errno_name == "EEXIST"
            with pytest.raises(vmatlas.UsageError, match="bytes, not"):
                operations.map_shared(2 * PAGE, name)
        finally:
            operations.unlink_shared(name)
        assert one.buffer[0] == 9
    with pytest.raises(vmatlas.OperationFailed):
        operations.unlink_shared(name)


@pytest.mark.parametrize("name", ["buffer", "/a/b", "/", "", "/a\0b"])
def test_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(vmatlas.UsageError, match="no name of shared memory"):
        operations.map_shared(PAGE, name, create=True)


@pytest.mark.parametrize(
    "asked", [{}, {"size": 0}, {"size": PAGE, "name": "/a", "exclusive": True}, {"name": "/a", "create": True},
              {"name": "/a", "descriptor": 0}]
)  # fmt: skip
def test_shared_memory_that_makes_no_sense_is_refused(asked: dict[str, object]) -> None:
    with pytest.raises(vmatlas.UsageError):
        operations.map_shared(**asked)  # type: ignore[arg-type]


def test_device_needs_unsafe_and_is_then_mapped() -> None:
    with pytest.raises(vmatlas.UsageError, match="needs unsafe=True"):
        operations.map_device("/dev/zero", PAGE)
    with operations.map_device("/dev/zero", PAGE, shared=False, protection=RW, unsafe=True) as mine:
        registers = mine.buffer.cast("I")
        registers[0] = 0xCAFE
        assert registers[0] == 0xCAFE
        assert mine.as_region().path == "/dev/zero"
        del registers
    with pytest.raises(vmatlas.UsageError, match="no device"):
        operations.map_device(sys.executable, PAGE, unsafe=True)


def test_physical_memory_is_mapped_where_the_kernel_lets() -> None:
    """The BIOS area of a PC, which kernels with CONFIG_STRICT_DEVMEM still show."""
    if not os.path.exists("/dev/mem") or not os.access("/dev/mem", os.R_OK):
        pytest.skip("there is no /dev/mem that this user may read")
    try:
        mine = operations.map_device("/dev/mem", PAGE, 0xF0000, unsafe=True)
    except (OSError, vmatlas.OperationFailed) as refused:
        pytest.skip(f"this kernel does not show physical memory: {refused}")
    with mine:
        region = mine.as_region()
        assert (region.path, region.offset) == ("/dev/mem", 0xF0000)
        assert len(bytes(mine.buffer)) == PAGE


# ---- shapes ----


def _signal_of(done: Callable[[], object]) -> int:
    """The signal that ends a child which does this; 0 when it ends by itself."""
    child = os.fork()
    if not child:
        faulthandler.disable()  # pytest's: the fault is what is wanted
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        done()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("size", [1, 100, 4096, 5000])
def test_overflow_of_a_guarded_buffer_faults_at_the_first_byte(size: int, hidden: bool) -> None:
    with operations.guarded_buffer(size, hidden=hidden) as mine:
        assert _signal_of(lambda: ctypes.memset(mine.address, 1, size)) == 0
        assert _signal_of(lambda: ctypes.memset(mine.address, 1, size + 1)) == signal.SIGSEGV
        assert _signal_of(lambda: ctypes.memset(mine.start - 1, 1, 1)) == signal.SIGSEGV


def test_hidden_guards_of_a_buffer_are_told_as_guards_and_spend_no_region() -> None:
    with operations.guarded_buffer(100, hidden=True) as mine:
        around = [region for region in vmatlas.snapshot() if region.start <= mine.end and region.end > mine.start - 1]
        if len(around) > 1:
            pytest.skip("this kernel makes no guards without a region (MADV_GUARD_INSTALL: Linux 6.13)")
        try:
            space = vmatlas.snapshot(guards=True)
        except vmatlas.Unsupported as error:
            pytest.skip(str(error))
        for place in (mine.start - 1, mine.end):
            guard = space.find(place)
            assert guard is not None and (guard.kind, guard.size) == (vmatlas.Kind.GUARD, mmap.PAGESIZE)
            assert operations.classify_fault(place).cause is operations.FaultCause.GUARD


def test_python_itself_cannot_overflow_a_guarded_buffer() -> None:
    with operations.guarded_buffer(100) as mine:
        mine.buffer[99] = 1
        with pytest.raises(IndexError):
            mine.buffer[100] = 1


def test_code_is_written_and_then_executed_and_never_both() -> None:
    machine = os.uname().machine
    codes = {
        "x86_64": bytes.fromhex("b82a000000c3"),
        "i686": bytes.fromhex("b82a000000c3"),
        "aarch64": bytes.fromhex("40058052c0035fd6"),
    }
    if machine not in codes:
        pytest.skip(f"no code for the processor {machine} here")
    with operations.write_then_execute(codes[machine]) as mine:
        assert ctypes.CFUNCTYPE(ctypes.c_int)(mine.address)() == 42
        assert mine.as_region().permissions == "r-xp"
        assert mine.buffer.readonly
        assert bytes(mine.buffer) == codes[machine]
        assert _signal_of(lambda: ctypes.memset(mine.address, 0, 1)) == signal.SIGSEGV
    for code in (b"", 5, "ret"):
        with pytest.raises(vmatlas.UsageError):
            operations.write_then_execute(code)  # type: ignore[arg-type]


def _flags(mine: Mapping) -> set[str]:
    return set(mine.as_region().flags.labels())


def test_secret_is_locked_kept_from_dumps_and_children_and_wiped() -> None:
    with operations.secret(100) as mine:
        assert _flags(mine) >= {"lo", "dd", "wf"}
        view = mine.buffer
        view[0:6] = b"secret"
        child = os.fork()
        if not child:
            os._exit(view[0])  # zeros there
        assert os.waitpid(child, 0)[1] == 0
        assert bytes(view[:6]) == b"secret"
        view.release()
        with pytest.raises(vmatlas.UsageError, match="is a secret"):
            operations.unlock(mine.start, mine.size)
        with pytest.raises(vmatlas.UsageError, match="is a secret"):
            operations.unlock_all()


@pytest.mark.parametrize("advice", [each for each in UNDOES_SECRETS if OPERATIONS.advice_number(each) is not None])
def test_advice_that_would_undo_a_secret_is_refused_and_it_stays_one(advice: Advice) -> None:
    with operations.secret(3 * PAGE) as mine:
        mine.buffer[0:6] = b"secret"
        before = _flags(mine)
        for unsafe in (False, True):
            with pytest.raises(vmatlas.UsageError, match=f"advice '{advice.value}' for .* would undo .*a secret") as no:
                operations.advise(None, [(mine.start + PAGE, mine.end)], advice, unsafe=unsafe)
            assert UNDOES_SECRETS[advice] in str(no.value)
        assert _flags(mine) == before >= {"lo", "dd", "wf"}
        assert bytes(mine.buffer[:6]) == b"secret"
        assert operations.advise(None, [(mine.start, mine.end)], Advice.WILLNEED).complete


@pytest.mark.parametrize("advice", [Advice.DODUMP, Advice.KEEPONFORK, Advice.DONTNEED_LOCKED])
def test_kernel_itself_takes_advice_that_undoes_a_secret(advice: Advice) -> None:
    """Why it is refused here: a kernel that took to refusing it would end that need."""
    with operations.secret(PAGE) as mine:
        mine.buffer[0:6] = b"secret"
        number = OPERATIONS.advice_number(advice)
        assert number is not None
        try:
            OPERATIONS.advise(mine.start, mine.size, number)
        except vmatlas.OperationFailed as refused:
            assert advice is Advice.DONTNEED_LOCKED  # since 5.18
            pytest.skip(f"this kernel has no such advice: {refused.message}")
        undone = {Advice.DODUMP: "dd", Advice.KEEPONFORK: "wf"}.get(advice)
        if undone is not None:
            assert undone not in _flags(mine)
        else:
            assert bytes(mine.buffer[:6]) == bytes(6)


def test_secret_of_a_child_is_not_locked_and_is_not_advised_into_swap_either() -> None:
    with operations.secret(PAGE) as mine:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                operations.advise(None, [(mine.start, mine.end)], Advice.PAGEOUT)
            except vmatlas.UsageError as refused:
                os.write(writer, f"{'lo' in _flags(mine)}: {refused}".encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as file:
            said = file.read()
        os.waitpid(child, 0)
    assert said.startswith("False: ")
    assert "would go to swap" in said


def test_secret_is_wiped_before_it_is_unmapped(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    unmap = OPERATIONS.unmap
    mine = operations.secret(8)
    mine.buffer[0:6] = b"secret"
    mine.protect(NONE)

    def look(address: int, size: int) -> None:
        seen.append(ctypes.string_at(address, size))
        unmap(address, size)

    monkeypatch.setattr(OPERATIONS, "unmap", look)
    mine.close()
    assert seen == [bytes(PAGE)]


def test_secret_that_moved_and_kept_its_old_place_is_wiped_at_both() -> None:
    mine = operations.secret(PAGE)
    mine.buffer[0:6] = b"secret"
    old = mine.start
    operations.move(mine.start, mine.size, keep_old=True)
    assert bytes(mine.buffer[:6]) == b"secret"
    assert _flags(mine) >= {"lo", "dd", "wf"}
    new = mine.start
    mine.close()
    assert not mapped(old)
    assert not mapped(new)


def test_secret_that_is_replaced_is_wiped_first() -> None:
    mine = operations.secret(PAGE)
    with operations.map_anonymous(PAGE, at=mine.start, replace=True) as there:
        assert mine.closed
        assert there.buffer[0] == 0


# ---- locking ----


def test_lock_and_unlock_are_shown_by_the_map() -> None:
    with operations.map_anonymous(2 * PAGE) as mine:
        mine.lock()
        assert "lo" in _flags(mine)
        assert mine.as_region().resident == 2 * PAGE
        mine.unlock()
        assert "lo" not in _flags(mine)
        operations.lock(mine.start, mine.size, on_fault=True)
        assert _flags(mine) & {"lo", "lf"}
        operations.unlock(mine.start, mine.size)


def _in_child(limit: int, done: Callable[[], object]) -> str:
    """What an operation says in a child that may lock `limit` bytes and has not the capability to lock more."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        said = "nothing"
        try:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
            if os.geteuid() == 0:
                os.setresuid(65534, 65534, 65534)
            try:
                done()
                said = "done"
            except vmatlas.VmatlasError as error:
                said = f"{type(error).__name__}: {error} ({error.hint})"
        except BaseException as error:
            said = repr(error)
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        said = file.read()
    os.waitpid(child, 0)
    return said


@pytest.mark.parametrize("limit", [0, 4 * PAGE])
def test_lock_beyond_the_limit_explains_the_limit(limit: int) -> None:
    def lock() -> None:
        with operations.map_anonymous(16 * PAGE) as mine:
            mine.lock()

    said = _in_child(limit, lock)
    assert said.startswith(f"OperationFailed: locking {16 * PAGE:,} bytes failed")
    assert f"may lock {limit:,} bytes (RLIMIT_MEMLOCK)" in said
    assert "ulimit -l" in said


LIMIT = 16 * PAGE
"""Bytes: more than what is locked here, so that the limit is the cause of nothing."""


def _locked() -> int:
    return OPERATIONS.locked_bytes() or 0


def _refused(mine: operations.Mapping) -> str:
    before = _locked()
    with pytest.raises(vmatlas.OperationFailed) as raised:
        mine.lock()
    return f"{raised.value} | {raised.value.hint} | {_locked() - before:,} more"


def _without_rights() -> None:
    with operations.map_anonymous(3 * PAGE) as mine:
        mine.protect(Protection.NONE, PAGE, PAGE)
        raise vmatlas.UsageError(f"{_refused(mine)} | {mine.start + PAGE:#x}")


def _with_a_hole() -> None:
    mine = operations.map_anonymous(3 * PAGE)
    OPERATIONS.unmap(mine.start + PAGE, PAGE)
    raise vmatlas.UsageError(_refused(mine))


def _beyond_the_file() -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(3 * PAGE)
        mine = operations.map_file(file.fileno(), shared=True)
        file.truncate(PAGE)
        raise vmatlas.UsageError(_refused(mine))


def _beyond_an_unlinked_file() -> None:
    with tempfile.TemporaryFile() as file:
        file.truncate(3 * PAGE)
        mine = operations.map_file(file.fileno(), shared=True)
        file.truncate(PAGE)
        raise vmatlas.UsageError(_refused(mine))


def _beyond_a_file_of_no_name() -> None:
    descriptor = os.memfd_create("x")
    os.truncate(descriptor, 3 * PAGE)
    mine = operations.map_shared(3 * PAGE, descriptor=descriptor)
    os.truncate(descriptor, PAGE)
    raise vmatlas.UsageError(_refused(mine))


def _beyond_a_file_whose_name_is_longer_than_is_told() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = os.open(".", os.O_RDONLY)
        os.chdir(folder)
        for _ in range(20):  # more than PATH_MAX
            os.mkdir("d" * 250)
            os.chdir("d" * 250)
        with open("x", "w+b") as file:
            os.fchdir(home)
            file.truncate(3 * PAGE)
            mine = operations.map_file(file.fileno(), shared=True)
            file.truncate(PAGE)
            raise vmatlas.UsageError(_refused(mine))


def _partly_locked_before() -> None:
    with operations.map_anonymous(3 * PAGE) as mine:
        mine.protect(Protection.NONE, 2 * PAGE, PAGE)
        operations.lock(mine.start, PAGE)
        raise vmatlas.UsageError(_refused(mine))


def _wholly_locked_before() -> None:
    with operations.map_anonymous(LIMIT - PAGE) as mine:
        mine.lock()
        mine.protect(Protection.NONE, PAGE, PAGE)
        raise vmatlas.UsageError(_refused(mine))


@pytest.mark.parametrize(
    ("refused", "told", "locked"),
    [
        (_without_rights, "has no rights (---p): none of its pages can be had", 0),
        (_with_a_hole, "a part of the range is not mapped", 0),
        (_beyond_the_file, "reaches beyond the end of the file behind it, which has", 0),
        (_beyond_an_unlinked_file, "reaches beyond the end of the file behind it, which has", 0),
        (_beyond_a_file_of_no_name, "reaches beyond the end of the file behind it, which has", 0),
        (_beyond_a_file_whose_name_is_longer_than_is_told, "reaches beyond the end of the file behind it", 0),
        (_partly_locked_before, f"; {2 * PAGE:,} bytes more are locked now than before, and stay so", 2 * PAGE),
        (_wholly_locked_before, "has no rights (---p)", 0),
    ],
)
def test_lock_that_fails_within_the_limit_tells_its_cause_and_is_undone(
    refused: Callable[[], None], told: str, locked: int
) -> None:
    said = _in_child(LIMIT, refused)
    assert said.startswith("UsageError: locking ") and " failed (ENOMEM): " in said
    assert told in said
    assert "RLIMIT_MEMLOCK" not in said
    assert f"| {locked:,} more" in said


def test_new_memory_that_may_not_be_locked_tells_the_limit() -> None:
    limit = 1 << 21  # with room for what Python takes meanwhile
    hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    if os.geteuid() and hard != resource.RLIM_INFINITY and hard < limit:
        pytest.skip(f"this user may lock no more than {hard:,} bytes")

    def map_more() -> None:
        operations.lock_all(current=False, future=True, on_fault=True)
        operations.map_anonymous(2 * limit)

    said = _in_child(limit, map_more)
    assert "Resource temporarily unavailable" in said
    assert f"it would be locked (lock_all(future=True), mlockall), and this process may lock {limit:,} bytes" in said


def test_secret_that_cannot_be_locked_is_not_made() -> None:
    assert "RLIMIT_MEMLOCK" in _in_child(0, lambda: operations.secret(PAGE))


def test_lock_all_beyond_the_limit_explains_it_and_within_it_locks() -> None:
    assert "locking all memory failed" in _in_child(PAGE, operations.lock_all)
    assert _in_child(PAGE, lambda: operations.lock_all(current=False, future=True, on_fault=True)) == "done"

    def all_of_it() -> None:
        operations.lock_all(current=True, on_fault=True)
        assert any("lo" in region.flags.labels() for region in vmatlas.snapshot(residency=True))
        operations.unlock_all(unsafe=True)
        assert not any("lo" in region.flags.labels() for region in vmatlas.snapshot(residency=True))

    hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    if hard != resource.RLIM_INFINITY and os.geteuid():
        pytest.skip("this user may not lock all memory of a process")
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            all_of_it()
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


# ---- children, threads ----


def test_child_closes_its_own_mapping_and_not_the_parents() -> None:
    mine = operations.map_anonymous(PAGE, shared=True)
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            mine.buffer[0] = 5
            mine.close()
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert mine.buffer[0] == 5
    mine.close()


def test_page_size_is_the_machines() -> None:
    assert PAGE == mmap.PAGESIZE


# ---- bad input ----


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (lambda: operations.map_file(None), "None is no path of a file"),  # type: ignore[arg-type]
        (lambda: operations.map_file("a\0b"), "null byte"),
        (lambda: operations.map_file(b"a\0b"), "null byte"),
        (lambda: operations.map_file("a\ud800"), "no file name can have"),
        (lambda: operations.map_file(-1), "-1 is no descriptor"),
        (lambda: operations.map_file(10**30), "is no descriptor"),
        (lambda: operations.map_file(True), "True is no descriptor"),
        (lambda: operations.map_device(5, PAGE, unsafe=True), "5 is no path of a device"),  # type: ignore[arg-type]
        (lambda: operations.map_device("a\0b", PAGE, unsafe=True), "null byte"),
        (lambda: operations.map_shared(descriptor="x"), "'x' is no descriptor"),  # type: ignore[arg-type]
        (lambda: operations.map_shared(descriptor=-1), "-1 is no descriptor"),
        (lambda: operations.map_shared(descriptor=10**30), "is no descriptor"),
        (lambda: operations.map_shared(PAGE, "/a\ud800", create=True), "no file name can have"),
        (lambda: operations.write_then_execute(released()), "cannot be read.*released"),
    ],
)
def test_what_is_no_file_descriptor_or_code_is_told_in_one_line(asked: Callable[[], object], told: str) -> None:
    with pytest.raises(vmatlas.UsageError, match=told) as refused:
        asked()
    assert "\n" not in str(refused.value)
    assert refused.value.hint


def released() -> memoryview:
    view = memoryview(b"\xc3")
    view.release()
    return view
