"""Nothing that needs no `unsafe=True` crashes the process, or undoes what others in it protected: one case a rule."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import vmatlas
from vmatlas import Protection, operations
from vmatlas.conformance.patience import PATIENCE
from vmatlas.operations import Advice, safety
from vmatlas.operations.values import HARMLESS, MAKES_FAULTS
from vmatlas.target.local import LocalTarget
from vmatlas_linux_memory import OPERATIONS

PAGE = OPERATIONS.page_size

_DEEP = """
import os, resource, sys, vmatlas
from vmatlas import operations
page = os.sysconf("SC_PAGESIZE")
stack = next(r for r in vmatlas.snapshot() if r.name == "[stack]")
hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
limit = 8 << 20
resource.setrlimit(resource.RLIMIT_STACK, (limit, hard))
at = stack.end - limit - (2 << 20)
mine = operations.map_anonymous(page, at=at)
size = stack.start - at - (1 << 16)
try:
    HOW
except vmatlas.UsageError as error:
    assert "grows" in str(error), error
    print("refused")
else:
    assert mine.size == -(-size // page) * page
    mine.buffer[size - 1] = 1
    print("elsewhere" if mine.start > stack.end or mine.end < stack.end - limit else "in the way")
sys.setrecursionlimit(10**6)
def deep(n):  # through C, so that the stack is used; some 2 MB of the 8
    return 0 if n == 0 else max([n], key=lambda x: deep(n - 1) or 1)
deep(1500)
print("survived")
"""


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("operations.resize(mine, size)", "elsewhere"),
        ("operations.resize(mine, size, may_move=False)", "refused"),
        ("mine.close(); mine = operations.map_anonymous(size); operations.move(mine.start, mine.size, at)", "refused"),
        ("mine.close(); mine = operations.map_anonymous(size, at=at)", "refused"),
        ("mine = operations.map_anonymous(size, at=at, replace=True)", "refused"),
    ],
)  # fmt: skip
def test_nothing_comes_to_lie_where_the_stack_grows(how: str, told: str) -> None:
    code = _DEEP.replace("HOW", how)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout.split()) == (0, [told, "survived"]), done.stderr[-2000:]


def test_file_that_was_shortened_is_mapped_no_further_than_it_reaches_now(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(10 * PAGE))
    with operations.map_file(path, PAGE) as mine:
        os.truncate(path, PAGE + 5)
        with pytest.raises(vmatlas.UsageError, match=f"are more than the {PAGE + 5:,}"):
            operations.resize(mine, 10 * PAGE)
        operations.resize(mine, PAGE + 5)
        assert mine.buffer[PAGE + 4] == 0
        os.truncate(path, 20 * PAGE)  # and what it has got meanwhile can be had
        operations.resize(mine, 20 * PAGE)
        assert mine.buffer[20 * PAGE - 1] == 0


def test_file_at_an_offset_is_counted_from_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(10 * PAGE))
    with path.open("rb") as file, operations.map_file(file.fileno(), PAGE, 8 * PAGE) as mine:
        with pytest.raises(vmatlas.UsageError, match="are more than"):
            operations.resize(mine, 2 * PAGE + 1)
        operations.resize(mine, 2 * PAGE)


def test_shared_memory_that_was_shortened_is_mapped_no_further_either() -> None:
    name = f"/vmatlas-shorter-{os.getpid()}"
    with operations.map_shared(4 * PAGE, name, create=True, exclusive=True) as whole:
        try:
            with operations.map_shared(PAGE, name) as mine:
                os.ftruncate(whole.descriptor, PAGE)
                with pytest.raises(vmatlas.UsageError, match="are more than"):
                    operations.resize(mine, 4 * PAGE)
        finally:
            operations.unlink_shared(name)


@pytest.mark.parametrize("path", ["/sys/kernel/uevent_seqnum", "/proc/self/status"])
def test_shared_memory_by_descriptor_follows_the_rule_of_files(path: str) -> None:
    if not os.path.exists(path):
        pytest.skip(f"there is no {path}")
    with open(path, "rb") as opened:
        for way in (operations.map_file, lambda number: operations.map_shared(descriptor=number)):
            with pytest.raises(vmatlas.UsageError, match="may be the registers of a device") as refused:
                way(opened.fileno())
            assert "unsafe=True" in (refused.value.hint or "")


def test_what_is_no_memory_is_no_shared_memory(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(vmatlas.UsageError, match="no regular file"):
        operations.map_file(tmp_path / "pipe")  # at once: nobody ever writes to it
    for path in ("/dev/zero", str(tmp_path)):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with pytest.raises(vmatlas.UsageError, match="no regular file"):
                operations.map_shared(PAGE, descriptor=descriptor)
        finally:
            os.close(descriptor)


STRICT = [advice for advice in Advice if advice not in HARMLESS and OPERATIONS.advice_number(advice) is not None]


@pytest.mark.parametrize("target", [None, LocalTarget()], ids=["here", "by another target"])
@pytest.mark.parametrize("advice", STRICT)
def test_advice_that_is_not_harmless_is_not_given_to_memory_of_others(
    advice: Advice, target: LocalTarget | None
) -> None:
    text = next(region for region in vmatlas.snapshot() if region.protection & Protection.EXECUTE)
    with pytest.raises(vmatlas.UsageError) as refused:
        operations.advise(os.getpid(), [(text.start, text.start + PAGE)], advice, target=target)
    assert "unsafe=True" in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize("advice", [Advice.DODUMP, Advice.DOFORK, Advice.KEEPONFORK, Advice.GUARD_REMOVE])
def test_what_undoes_protections_is_taken_for_memory_of_ones_own(advice: Advice) -> None:
    with operations.map_anonymous(2 * PAGE) as mine:
        try:
            assert operations.advise(None, [(mine.start, mine.end)], advice).complete
        except vmatlas.Unsupported as error:  # an older kernel
            assert "has no advice" in str(error)


def test_guard_of_somebody_else_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
import ctypes, mmap, vmatlas
from vmatlas import operations
from vmatlas.operations import Advice
page = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
theirs = mmap.mmap(-1, 2 * page, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
at = ctypes.addressof(ctypes.c_char.from_buffer(theirs))
if libc.madvise(ctypes.c_void_p(at), ctypes.c_size_t(page), 102) != 0:
    print("no guards"); raise SystemExit
try:
    operations.advise(None, [(at, at + page)], Advice.GUARD_REMOVE)
except vmatlas.UsageError:
    print("refused", flush=True)
ctypes.string_at(at, 1)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    if "no guards" in done.stdout:
        pytest.skip("this kernel has no MADV_GUARD_INSTALL (Linux 6.13)")
    assert (done.returncode, done.stdout) == (-11, "refused\n"), done.stderr


def test_new_object_that_cannot_be_used_leaves_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"/vmatlas-unused-{os.getpid()}"
    with pytest.raises(
        (vmatlas.UsageError, vmatlas.OperationFailed)
    ):  # 2**46 bytes: there is room behind the name, and none for the map
        monkeypatch.setattr(os, "posix_fallocate", lambda *_: None)
        operations.map_shared(2**47, name, create=True)
    with pytest.raises(vmatlas.OperationFailed, match="No such file"):
        operations.unlink_shared(name)


def test_object_that_was_there_keeps_its_name_when_it_cannot_be_used() -> None:
    name = f"/vmatlas-kept-{os.getpid()}"
    with operations.map_shared(PAGE, name, create=True, exclusive=True):
        try:
            with pytest.raises(vmatlas.UsageError, match="bytes, not"):
                operations.map_shared(2 * PAGE, name, create=True)
            operations.map_shared(PAGE, name, create=True).close()
        finally:
            operations.unlink_shared(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small /dev/shm takes root")
def test_full_file_system_keeps_no_name() -> None:
    code = """
from vmatlas import operations
try:
    operations.map_shared(1 << 20, "/full", create=True)
except OSError as error:
    print(error.errno)
"""
    command = f"mount -t tmpfs -o size=64k tmpfs /dev/shm && '{sys.executable}' -c '{code}' && ls -A /dev/shm"
    done = subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, timeout=PATIENCE)
    if "permission denied" in done.stderr or "not permitted" in done.stderr:
        pytest.skip(f"no mounts here: {done.stderr.strip()}")
    assert (done.returncode, done.stdout) == (0, "28\n"), done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small /dev/shm takes root")
def test_room_that_is_not_there_is_an_error_and_no_end_of_the_process() -> None:
    code = """
import os
from vmatlas import operations
from vmatlas.errors import UsageError
mine = operations.map_shared(65536, "/mine", create=True)
operations.unlink_shared("/mine")
try:
    operations.advise(None, [(mine.start, mine.end)], operations.Advice.REMOVE)
except UsageError as error:
    print("refused" if "needs unsafe=True" in str(error) else error)
os.ftruncate(mine.descriptor, 1 << 21)
try:
    operations.resize(mine, 1 << 21)
except OSError as error:
    print(error.errno, mine.size)
operations.resize(mine, 131072)
with open("/dev/shm/fill", "wb", buffering=0) as file:
    try:
        while file.write(bytes(4096)):
            pass
    except OSError as error:
        print(error.errno)
mine.buffer[:] = b"x" * 131072
print("alive")
"""
    command = f"mount -t tmpfs -o size=1m tmpfs /dev/shm && exec '{sys.executable}' -c '{code}'"
    done = subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, timeout=PATIENCE)
    if "permission denied" in done.stderr or "not permitted" in done.stderr:
        pytest.skip(f"no mounts here: {done.stderr.strip()}")
    assert (done.returncode, done.stdout.split("\n")) == (0, ["refused", "28 65536", "28", "alive", ""]), done.stderr


def test_a_descriptor_that_somebody_closed_is_not_believed_and_not_closed_again(tmp_path: Path) -> None:
    for name, size in (("one", PAGE), ("other", 64 * PAGE)):
        (tmp_path / name).write_bytes(bytes(size))
    mine = operations.map_file(tmp_path / "one", shared=True)
    number = mine.descriptor
    with (tmp_path / "other").open("rb") as other:
        os.dup2(other.fileno(), number)  # which closes it
        with pytest.raises(vmatlas.UsageError, match=f"the descriptor {number} of .* was closed, and not by it"):
            operations.resize(mine, 2 * PAGE)
        mine.close()
        assert os.fstat(number).st_size == 64 * PAGE, "it is another's now"
        os.close(number)


def test_every_advice_is_judged() -> None:
    assert not HARMLESS & MAKES_FAULTS
    assert set(STRICT) >= {Advice.GUARD_REMOVE, Advice.KEEPONFORK, Advice.DOFORK, Advice.DODUMP, Advice.DONTNEED}


def test_what_needs_unsafe_is_decided_in_one_place() -> None:
    """No module of `operations` but `safety` decides by `unsafe`; what is then made way for, or restored, is theirs."""
    allowed = {("memory", "_giving_way"), ("memory", "protected")}
    found = set()
    folder = Path(inspect.getfile(safety)).parent
    for path in folder.glob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef):
                continue
            tests = [each.test for each in ast.walk(function) if isinstance(each, ast.If | ast.IfExp | ast.While)]
            names = {name.id for test in tests for name in ast.walk(test) if isinstance(name, ast.Name)}
            if "unsafe" in names and path.stem != "safety":
                found.add((path.stem, function.name))
    assert found <= allowed
