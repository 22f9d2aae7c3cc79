"""What the kernel refuses is told with its one cause, where the map has it: holes, seals, huge pages, guards."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from errno import EINVAL, ENOSYS
from pathlib import Path

import pytest

import vmatlas
from vmatlas import OperationFailed, Protection, UsageError, operations
from vmatlas.conformance.patience import PATIENCE
from vmatlas.operations import Advice, FaultCause, Mapping
from vmatlas_linux_memory import OPERATIONS

PAGE = OPERATIONS.page_size
HUGE = 2 << 20
READ, WRITE = Protection.READ, Protection.WRITE


def refused(call: Callable[[], object]) -> OperationFailed:
    with pytest.raises(OperationFailed) as raised:
        call()
    return raised.value


# ---- holes ----


@pytest.mark.parametrize("name", ["protect", "flush", "unlock"])
def test_a_hole_is_told_as_one(name: str) -> None:
    with operations.map_anonymous(PAGE) as mine:
        address = mine.start
    calls = {
        "protect": lambda: operations.protect(address, PAGE, READ, unsafe=True),
        "flush": lambda: operations.flush(address, PAGE),
        "unlock": lambda: operations.unlock(address, PAGE, unsafe=True),
    }
    failure = refused(calls[name])
    assert (failure.errno_name, failure.hint) == ("ENOMEM", "a part of the range is not mapped")


# ---- guard pages ----


@pytest.fixture
def guarded() -> Iterator[Mapping]:
    """Four pages, the second of them a guard."""
    with operations.map_anonymous(4 * PAGE) as mine:
        advised = operations.advise(
            None, [(mine.start + PAGE, mine.start + 2 * PAGE)], Advice.GUARD_INSTALL, unsafe=True
        )
        if advised.failure is not None and advised.failure.errno == EINVAL:
            pytest.skip("this kernel has no MADV_GUARD_INSTALL (Linux 6.13)")
        yield mine


def tells_guards(mapping: Mapping) -> bool:
    flags = mapping.as_region().flags
    return flags is not None and flags.may_hold_guards


def test_fault_in_a_guard_page_is_told_as_one(guarded: Mapping) -> None:
    """Of a page the kernel tells since 6.16; of the mapping, later."""
    address = guarded.start + PAGE + 8
    with vmatlas.open() as asked:
        if asked.guard_at(address) is None:
            pytest.skip("this kernel does not tell guard pages (pagemap, Linux 6.16)")
        assert [asked.guard_at(guarded.start + page * PAGE) for page in range(4)] == [False, True, False, False]
    fault = operations.classify_fault(address, access=WRITE)
    assert (fault.cause, fault.stack) == (FaultCause.GUARD, None)
    assert "guard page within nameless memory" in fault.text
    beside = operations.classify_fault(guarded.start, access=WRITE)
    assert beside.cause is FaultCause.NOT_BY_THE_MAP
    assert beside.text.endswith("allows it: the map may have changed since")


def test_guard_pages_are_told_to_be_why_memory_cannot_be_locked_or_populated(guarded: Mapping) -> None:
    if not tells_guards(guarded):
        pytest.skip("this kernel's flags do not tell guards (gu, Linux 6.19)")

    def told(by: str) -> None:
        """That the region which holds it is named: what was locked for a moment may have merged with a neighbour."""
        found = re.search(r"0x([0-9a-f]+)-0x([0-9a-f]+) has guard pages \(MADV_GUARD_INSTALL\)", by)
        assert found is not None, by
        assert int(found[1], 16) <= guarded.start < guarded.end <= int(found[2], 16)

    told(str(refused(guarded.lock)))
    told(operations.advise(None, [(guarded.start, guarded.end)], Advice.POPULATE_WRITE, unsafe=True).reason or "")


# ---- sealed memory ----

SEALED = """
import ctypes, sys
from vmatlas import OperationFailed, Protection, UsageError, operations
from vmatlas.operations import Advice
mine = operations.map_anonymous(1 << 16)
mine.protect(Protection.READ)
libc = ctypes.CDLL(None, use_errno=True)
if libc.syscall(462, ctypes.c_void_p(mine.start), ctypes.c_size_t(mine.size), ctypes.c_ulong(0)) != 0:  # mseal
    sys.exit(f"{ctypes.get_errno()}")
def tell(call):
    try:
        print(call())
    except OperationFailed as failure:
        print(failure.errno_name, failure.hint or failure)
print(f"{mine.start:#x}-{mine.end:#x}")
tell(lambda: mine.protect(Protection.READ | Protection.WRITE))
tell(mine.close)
tell(lambda: operations.resize(mine, 1 << 17))
tell(lambda: operations.advise(None, [(mine.start, mine.end)], Advice.DONTNEED, unsafe=True).failure)
tell(lambda: operations.map_anonymous(1 << 16, at=mine.start, replace=True, unsafe=True))
print(mine.closed, mine.protection == Protection.READ, bytes(mine.buffer[:4]))
# Behind all that a refused replacement changes: a mapping, and a secret, of which a part is sealed.
def seal(address, size):
    assert libc.syscall(462, ctypes.c_void_p(address), ctypes.c_size_t(size), ctypes.c_ulong(0)) == 0
page = 1 << 12 if mine.page < 1 << 12 else mine.page
half = operations.map_anonymous(2 * page)
half.buffer[:4] = b"kept"
seal(half.start + page, page)
for unsafe in (False, True):
    tell(lambda: operations.map_anonymous(2 * page, at=half.start, replace=True, unsafe=unsafe))
print(half.closed, bytes(half.buffer[:4]))
there = operations.map_anonymous(2 * page)
tell(lambda: operations.move(half.start, 2 * page, to=there.start, replace=True, unsafe=True))
print(half.closed, there.closed)
key = operations.secret(page)
key.buffer[:3] = b"key"
seal(key.start, page)
tell(lambda: operations.map_anonymous(page, at=key.start, replace=True))
print(key.closed, bytes(key.buffer[:3]))
try:
    key.close()
except OperationFailed as failure:
    print(failure, "|", failure.hint)
print(key.closed, bytes(key.buffer[:3]))
shut = operations.secret(page)
shut.buffer[:3] = b"key"
shut.protect(Protection.READ)
seal(shut.start, page)
try:
    shut.close()
except OperationFailed as failure:
    print(failure, "|", failure.hint)
print(shut.closed, bytes(shut.buffer[:3]))
import os; sys.stdout.flush(); os._exit(0)
"""


def test_sealed_memory_is_told_to_be_so_and_stays_what_it_is() -> None:
    """In a process of its own: what is sealed stays."""
    run = subprocess.run([sys.executable, "-c", SEALED], capture_output=True, text=True, timeout=PATIENCE)
    if run.returncode == 1 and run.stderr.strip() in (str(ENOSYS), str(EINVAL)):
        pytest.skip("this kernel has no mseal (Linux 6.10, 64 bits)")
    assert run.returncode == 0, run.stderr
    where, *told = run.stdout.splitlines()
    for line in told[:5]:
        assert f"{where} is sealed (mseal)" in line
        assert "noexec" not in line
    assert told[5] == r"False True b'\x00\x00\x00\x00'"
    for line in (*told[6:8], told[9], told[11]):
        assert "is sealed (mseal)" in line
    assert told[8] == "False b'kept'", "what the kernel did not replace is open, and holds what it held"
    assert told[10] == "False False", "nothing is destroyed for a move that is refused"
    assert told[12] == "False b'key'", "a secret is not wiped for a mapping that is refused"
    assert "it stays mapped, and holds zeros now | " in told[13] and "is sealed (mseal)" in told[13]
    assert told[14] == r"False b'\x00\x00\x00'"
    assert "of it are not wiped | " in told[15] and "is sealed (mseal)" in told[15]
    assert told[16] == "False b'key'"


# ---- regions ----

NO_REGION_LEFT = """
import vmatlas
from vmatlas import Protection, VmatlasError, operations
from vmatlas_linux_memory import OPERATIONS
page = OPERATIONS.page_size
vmatlas.find(None, 0)
most = OPERATIONS.region_count()[1]
room = [bytes(each) for each in [*range(100, 500), *range(2000, 6000, 100)] * 30]
many = operations.map_anonymous(2 * (most + 50) * page, protection=Protection.NONE, no_reserve=True)
edge = many.start + page
try:
    while True:
        OPERATIONS.protect(edge, page, Protection.READ)
        edge += 2 * page
except VmatlasError:
    pass
del room[::2]  # memory for what is said of it
kept, told = [], []
for call in (
    lambda at: many.protect(Protection.READ, edge - many.start + 2 * at * page, page),
    lambda at: kept.append(operations.guarded_buffer(100)),
    lambda at: vmatlas.neighbours(None, edge),
):
    try:
        for at in range(20):  # Python may have given a region back meanwhile
            call(at)
        told.append("done")
    except (VmatlasError, MemoryError) as error:
        told.append(error)
OPERATIONS.protect(many.start, many.size, Protection.NONE)
for each in told:
    print(type(each).__name__, getattr(each, "errno_name", each), getattr(each, "hint", None))
print(many.protect(Protection.READ, edge - many.start, page))
"""


def test_that_no_region_is_left_is_told_by_every_operation_and_reading() -> None:
    """In a process of its own, which has as many as it may have."""
    told = OPERATIONS.region_count()
    if told is None or told[1] > 100_000 or OPERATIONS.address_bits < 64:
        pytest.skip(f"so many regions take long to make, or do not fit: {told}")
    run = subprocess.run(
        [sys.executable, "-c", NO_REGION_LEFT], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    *said, after = run.stdout.splitlines()
    assert len(said) == 3 and after == "None"
    for line in said[: 2 if said[2].endswith(" done None") else 3]:  # a reading may do with what is there
        assert line.startswith("OperationFailed ENOMEM this process has "), line
        assert f"of {told[1]:,} regions that it may have (vm.max_map_count): there is none left" in line


def test_regions_that_count_are_those_of_the_map_without_what_the_kernel_shows_to_everybody() -> None:
    program = "import vmatlas; from vmatlas_linux_memory import OPERATIONS; print(OPERATIONS.region_count()[0], vmatlas"
    program += ".snapshot()[-1].name, len(open('/proc/self/maps').readlines()))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=True)
    count, last, lines = run.stdout.split()
    # The first reading of a process's own map loads what it takes: a few regions.
    assert int(lines) - 20 <= int(count) <= int(lines) - (last in ("[vsyscall]", "[vectors]"))


# ---- huge pages ----


@pytest.fixture
def huge(huge_pages: None) -> Iterator[int]:
    """The address of a mapping of one huge page."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    address = libc.mmap(None, HUGE, 3, 0x40022, -1, 0)  # MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB
    if address in (None, ctypes.c_size_t(-1).value):
        pytest.skip("this kernel has no huge page to spare: others took those that were kept")
    try:
        region = vmatlas.find(None, address)
        if region is None or region.size != HUGE:
            pytest.skip("huge pages of this machine are not of 2 MiB")
        yield address
    finally:
        libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(HUGE))


def test_a_part_of_a_huge_page_is_told_to_be_none(huge: int) -> None:
    told = f"{huge:#x}-{huge + HUGE:#x} goes by pages of 2 MiB: give whole ones"
    assert refused(lambda: operations.protect(huge, PAGE, READ, unsafe=True)).hint == told
    assert refused(lambda: operations.move(huge, HUGE // 2, unsafe=True)).hint == told
    operations.protect(huge, HUGE, READ, unsafe=True)


def test_a_part_of_a_huge_page_takes_nothing_from_what_lies_behind_its_new_place(huge: int) -> None:
    """The kernel would move the whole page, where the new place begins as a huge page does: 1 of 512 do by chance."""
    with operations.map_anonymous(3 * HUGE) as room:
        start = -(-room.start // HUGE) * HUGE
    with operations.map_anonymous(PAGE, at=start + HUGE // 2) as behind:
        behind.buffer[0:4] = b"mine"
        told = refused(lambda: operations.move(huge, HUGE // 2, to=start, unsafe=True)).hint
        assert told is not None and "give whole ones" in told
        assert bytes(behind.buffer[0:4]) == b"mine"


def test_whole_huge_pages_move_to_where_they_can_begin_and_back(huge: int) -> None:
    for _ in range(3):  # another place each time: one that begins well by chance does so for 1 of 512
        with operations.map_anonymous(PAGE):
            moved = operations.move(huge, HUGE, unsafe=True)
            assert moved.to % HUGE == 0
            region = vmatlas.find(None, moved.to)
            assert region is not None and (region.start, region.size) == (moved.to, HUGE)
            with pytest.raises(UsageError, match="goes by pages of 2 MiB") as raised:
                operations.move(moved.to, HUGE, to=huge + PAGE, unsafe=True)
            assert f"to={huge:#x}" in str(raised.value.hint)
            operations.move(moved.to, HUGE, to=huge, unsafe=True)


def test_a_part_of_a_file_of_huge_pages_takes_whole_ones_and_is_given_back_whole(huge_pages: None) -> None:
    try:
        descriptor = os.memfd_create("vmatlas-huge", os.MFD_CLOEXEC | 4 | 21 << 26)  # MFD_HUGETLB, of 2 MiB
    except OSError as error:
        pytest.skip(f"no huge pages of 2 MiB here: {error.strerror}")
    try:
        os.ftruncate(descriptor, 2 * HUGE)
        for make in (operations.map_file, operations.map_shared):
            how = {"shared": True} if make is operations.map_file else {}
            where = {"file": descriptor} if make is operations.map_file else {"descriptor": descriptor}
            with make(size=PAGE, protection=READ, **where, **how) as mapping:
                start = mapping.start
                assert (mapping.size, mapping.length) == (HUGE, PAGE)
                region = vmatlas.find(None, start)
                assert region is not None and (region.start, region.end) == (start, mapping.end)
            gone = vmatlas.find(None, start)
            assert gone is None or gone.inode != os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


# ---- beyond what a process can have ----

ABOVE_ALL = 1 << 62
"""No processor of 64 bits but IBM's gives a process so much; one of 32 bits has no such address."""

beyond = pytest.mark.skipif(
    OPERATIONS.address_bits < 64 or platform.machine() == "s390x",
    reason="a process may have that address here, or no address has so many bits",
)


@beyond
@pytest.mark.parametrize("name", ["place", "size", "replace", "protect", "lock", "unlock", "flush", "resize"])
def test_what_lies_above_all_that_a_process_can_have_is_told_so_by_every_operation(name: str) -> None:
    with operations.map_anonymous(PAGE) as mine, pytest.raises(UsageError, match="above all that a process") as raised:
        {
            "place": lambda: operations.map_anonymous(PAGE, at=ABOVE_ALL),
            "size": lambda: operations.map_anonymous(ABOVE_ALL),
            "replace": lambda: operations.map_anonymous(PAGE, at=ABOVE_ALL, replace=True, unsafe=True),
            "protect": lambda: operations.protect(ABOVE_ALL, PAGE, READ, unsafe=True),
            "lock": lambda: operations.lock(ABOVE_ALL, PAGE),
            "unlock": lambda: operations.unlock(ABOVE_ALL, PAGE, unsafe=True),
            "flush": lambda: operations.flush(ABOVE_ALL, PAGE),
            "resize": lambda: operations.resize(mine, ABOVE_ALL),
        }[name]()
    assert str(raised.value).isprintable()


@beyond
def test_advice_that_stops_above_all_that_a_process_can_have_says_so() -> None:
    advised = operations.advise(None, [(ABOVE_ALL, ABOVE_ALL + PAGE)], Advice.COLD)
    assert advised.reason is not None and "above all that a process can have" in advised.reason


def test_what_a_limit_forbids_is_no_matter_of_the_address_space() -> None:
    program = (
        "import resource\n"
        "from vmatlas import OperationFailed, operations\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "try:\n"
        "    operations.map_anonymous(4 << 30)\n"
        "except OperationFailed as error:\n"
        "    print(error.errno_name)\n"
    )
    if OPERATIONS.address_bits < 64:
        pytest.skip("4 GiB are more than an address space of 32 bits")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout == "ENOMEM\n"


def test_a_file_that_was_cut_is_asked_how_long_it_is_now(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(bytes(3 * PAGE))
    with operations.map_file(file) as mapping, file.open("r+b") as again:
        again.truncate(PAGE + 1)
        fault = operations.classify_fault(mapping.start + 2 * PAGE, access=READ)
        assert fault.cause is FaultCause.BEYOND_FILE and f"which has {PAGE + 1:,} bytes" in fault.text
        inside = operations.classify_fault(mapping.start + PAGE + 8, access=READ)
        assert inside.cause is FaultCause.NOT_BY_THE_MAP and "shorter" not in inside.text
