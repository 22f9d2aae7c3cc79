"""Moves on this machine's kernel: contents, locks and gaps travel; what stops half-way is told exactly."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from collections.abc import Iterator

import pytest

import vmatlas
from vmatlas import Protection, operations
from vmatlas.operations import FaultCause, Mapping, PartlyMoved
from vmatlas.operations.moving import moves_many
from vmatlas_linux_memory import OPERATIONS

PAGE = OPERATIONS.page_size
READ, WRITE, NONE = Protection.READ, Protection.WRITE, Protection.NONE
RW = READ | WRITE


def free_place() -> int:
    """The lower end of a wide hole: what the interpreter maps meanwhile comes to lie at the upper one."""
    with operations.map_anonymous(1 << 26, protection=NONE) as hole:
        return hole.start


@pytest.fixture
def three() -> Iterator[list[Mapping]]:
    """Three mappings of four pages with a gap of two pages between them, each with a word of its own in it."""
    start = free_place()
    made = [operations.map_anonymous(4 * PAGE, at=start + number * 6 * PAGE) for number in range(3)]
    for number, mapping in enumerate(made):
        mapping.buffer[0:5] = b"part%d" % number
    made[1].protect(READ)
    yield made
    for mapping in made:
        mapping.close()


SIZE = 16 * PAGE


def test_several_mappings_move_with_their_gaps(three: list[Mapping]) -> None:
    start = three[0].start
    moved = operations.move(start, SIZE)
    assert (moved.address, moved.size, moved.complete) == (start, SIZE, True)
    assert [mapping.start - moved.to for mapping in three] == [0, 6 * PAGE, 12 * PAGE]
    assert [bytes(mapping.buffer[:5]) for mapping in three] == [b"part0", b"part1", b"part2"]
    assert three[1].as_region().protection == READ
    space = vmatlas.snapshot()
    assert space.find(start) is None
    assert space.find(moved.to + 4 * PAGE) is None  # the gap
    assert space.find(moved.to + 5 * PAGE) is None
    assert moved.at_once == moves_many(operations._own())


def test_whether_several_move_at_once_is_what_the_kernel_does(three: list[Mapping]) -> None:
    """Linux 6.17 and newer do; the trial agrees with a call of our own on other memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mremap.restype = ctypes.c_void_p
    with operations.map_anonymous(SIZE) as place:
        to = place.start
    got = libc.mremap(
        ctypes.c_void_p(three[0].start), ctypes.c_size_t(SIZE), ctypes.c_size_t(SIZE), 3, ctypes.c_void_p(to)
    )
    refused = got in (None, 2**64 - 1)
    assert refused is not moves_many(operations._own())
    if not refused:  # back, so that the mappings are where they believe
        libc.mremap(
            ctypes.c_void_p(to), ctypes.c_size_t(SIZE), ctypes.c_size_t(SIZE), 3, ctypes.c_void_p(three[0].start)
        )


def test_older_kernel_moves_one_at_a_time_and_says_so(three: list[Mapping], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmatlas.operations.moving.moves_many", lambda memory: False)
    moved = operations.move(three[0].start, SIZE)
    assert (moved.at_once, len(moved.moved), moved.complete) == (False, 3, True)
    assert [bytes(mapping.buffer[:5]) for mapping in three] == [b"part0", b"part1", b"part2"]


def test_move_to_an_address(three: list[Mapping]) -> None:
    with operations.map_anonymous(SIZE) as place:
        to = place.start
        with pytest.raises(vmatlas.OperationFailed) as refused:
            operations.move(three[0].start, SIZE, to)
        assert refused.value.errno_name == "EEXIST"
    assert operations.move(three[0].start, SIZE, to).to == to
    assert bytes(three[2].buffer[:5]) == b"part2"


def test_move_over_something_of_ours_destroys_it(three: list[Mapping]) -> None:
    place = operations.map_anonymous(SIZE)
    operations.move(three[0].start, SIZE, place.start, replace=True)
    assert place.closed
    assert vmatlas.find(None, three[0].end) is None


def test_old_place_is_kept_and_empty(three: list[Mapping]) -> None:
    one = three[0]
    start = one.start
    moved = operations.move(start, 4 * PAGE, keep_old=True)
    assert moved.kept_old
    assert bytes(one.buffer[:5]) == b"part0"
    assert vmatlas.find(None, start) is not None
    assert ctypes.string_at(start, 5) == bytes(5)
    one.close()
    assert vmatlas.find(None, start) is None


def test_locks_survive_a_move(three: list[Mapping]) -> None:
    three[0].lock()
    operations.move(three[0].start, SIZE)
    assert "lo" in three[0].as_region().flags.labels()
    assert "lo" not in three[1].as_region().flags.labels()


def test_live_buffer_holds_its_memory_in_place(three: list[Mapping]) -> None:
    start, view = three[0].start, three[1].buffer
    with pytest.raises(operations.BufferInUse):
        operations.move(start, SIZE)
    with pytest.raises(operations.BufferInUse):
        operations.resize(three[1], PAGE)
    assert bytes(view[:5]) == b"part1"
    assert three[0].start == start


# ---- what the kernel does not move ----

_USERFAULTFD = {"x86_64": 323, "aarch64": 282, "riscv64": 282, "s390x": 355}
_UFFDIO_API, _UFFDIO_REGISTER, _MISSING = 0xC018AA3F, 0xC020AA00, 1
_USER_MODE_ONLY = 1


@pytest.fixture
def watched(three: list[Mapping]) -> Iterator[Mapping]:
    """The middle one of the three, watched by a userfaultfd."""
    number = _USERFAULTFD.get(os.uname().machine)
    if number is None:
        pytest.skip(f"the number of userfaultfd on {os.uname().machine} is not known here")
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(number, os.O_CLOEXEC | _USER_MODE_ONLY)
    if descriptor < 0:
        pytest.skip(f"no userfaultfd: {os.strerror(ctypes.get_errno())}")
    fcntl.ioctl(descriptor, _UFFDIO_API, struct.pack("QQQ", 0xAA, 0, 0))
    fcntl.ioctl(descriptor, _UFFDIO_REGISTER, struct.pack("QQQQ", three[1].start, three[1].size, _MISSING, 0))
    yield three[1]
    os.close(descriptor)


def test_memory_watched_by_a_userfaultfd_is_refused_and_nothing_moved(three: list[Mapping], watched: Mapping) -> None:
    before = [mapping.start for mapping in three]
    with pytest.raises(vmatlas.Unsupported, match="a userfaultfd watches it"):
        operations.move(three[0].start, SIZE)
    with pytest.raises(vmatlas.Unsupported, match="a userfaultfd watches it"):
        operations.move(watched.start, watched.size)
    assert [mapping.as_region().start for mapping in three] == before


def _stopped(three: list[Mapping]) -> PartlyMoved:
    start = three[0].start
    with pytest.raises(
        PartlyMoved, match=r"stopped half-way .*1 of 3 mappings have moved, 2 are where they were"
    ) as stop:
        operations.move(start, SIZE, unsafe=True)
    result = stop.value.result
    assert [piece.start - start for piece in result.moved] == [0]
    assert [piece.start - start for piece in result.left] == [6 * PAGE, 12 * PAGE]
    assert (result.lost, result.complete, result.at_once) == ((), False, True)
    space = vmatlas.snapshot()
    assert space.find(start) is None
    for piece in result.moved:
        assert space.find(piece.to) is not None
    for piece in result.left:
        assert space.find(piece.start) is not None
        assert space.find(piece.to) is None  # nothing of the reservation is left
    assert three[0].start == result.moved[0].to
    assert bytes(three[0].buffer[:5]) == b"part0"
    assert bytes(three[2].buffer[:5]) == b"part2"
    return stop.value


def test_userfaultfd_is_named_as_what_may_answer_a_fault(watched: Mapping) -> None:
    fault = operations.classify_fault(watched.start, access=Protection.READ)
    assert fault.cause is FaultCause.NOT_BY_THE_MAP
    assert "a userfaultfd watches the region" in fault.text


def test_partial_move_at_a_userfaultfd_is_told_exactly(three: list[Mapping], watched: Mapping) -> None:
    if not moves_many(operations._own()):
        pytest.skip("this kernel moves one mapping at a time, watched ones too")
    assert _stopped(three).errno_name == "EFAULT"


def test_mapping_that_a_driver_places_is_refused_and_stops_the_kernel(three: list[Mapping]) -> None:
    device = operations.map_device(
        "/dev/zero", 4 * PAGE, shared=False, protection=RW, unsafe=True
    )  # of a driver with its own rule for addresses; made before there is a hole, so that it does not lie in it
    three[1].close()
    three[1] = device
    at = three[0].start + 6 * PAGE
    operations.move(three[1].start, 4 * PAGE, at, unsafe=True)
    with pytest.raises(vmatlas.Unsupported, match="its driver may place it"):
        operations.move(three[0].start, SIZE)
    if moves_many(operations._own()):
        assert _stopped(three).errno_name == "EFAULT"


def test_partial_move_at_a_sealed_mapping_is_told_exactly() -> None:
    """In a child: a seal (mseal, Linux 6.10) is for good."""
    if not moves_many(operations._own()):
        pytest.skip("this kernel moves one mapping at a time")
    child = os.fork()
    if not child:
        code = 1
        try:
            start = free_place()
            made = [operations.map_anonymous(PAGE, at=start + number * 3 * PAGE) for number in range(3)]
            libc = ctypes.CDLL(None, use_errno=True)
            sealed = libc.syscall(462, ctypes.c_ulong(made[1].start), ctypes.c_ulong(PAGE), ctypes.c_ulong(0))
            if sealed != 0:
                os._exit(77)
            try:
                operations.move(start, 9 * PAGE)
            except vmatlas.Unsupported as error:
                assert "sealed" in str(error)
            try:
                operations.move(start, 9 * PAGE, unsafe=True)
            except PartlyMoved as error:
                assert error.errno_name == "EPERM"
                assert [len(error.result.moved), len(error.result.left)] == [1, 2]
                code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 77:
        pytest.skip("this kernel has no mseal")
    assert status == 0


# ---- resize ----


def test_mapping_grows_and_shrinks_with_its_contents() -> None:
    with operations.map_anonymous(2 * PAGE) as mine:
        mine.buffer[0:5] = b"start"
        assert operations.resize(mine, 64 * PAGE) is mine
        assert bytes(mine.buffer[:5]) == b"start"
        assert len(mine.buffer) == 64 * PAGE
        mine.buffer[63 * PAGE] = 1
        operations.resize(mine, 100)
        assert (mine.size, len(mine.buffer)) == (PAGE, 100)
        assert vmatlas.find(None, mine.end - 1) is not None


def test_mapping_that_may_not_move_grows_only_where_there_is_room() -> None:
    with operations.map_anonymous(4 * PAGE) as place:
        start = place.start
    with operations.map_anonymous(PAGE, at=start) as mine, operations.map_anonymous(PAGE, at=start + PAGE) as above:
        with pytest.raises(vmatlas.OperationFailed) as refused:
            operations.resize(mine, 2 * PAGE, may_move=False)
        assert refused.value.errno_name == "ENOMEM"
        assert (mine.start, mine.size) == (start, PAGE)
        above.close()
        operations.resize(mine, 2 * PAGE, may_move=False)
        assert (mine.start, mine.size) == (start, 2 * PAGE)


def test_file_mapping_does_not_grow_beyond_its_file(tmp_path: object) -> None:
    path = f"{tmp_path}/file"
    with open(path, "wb") as file:
        file.write(bytes(3 * PAGE))
    with operations.map_file(path, PAGE) as mine:
        operations.resize(mine, 3 * PAGE)
        assert len(bytes(mine.buffer)) == 3 * PAGE
        with pytest.raises(vmatlas.UsageError, match="are more than"):
            operations.resize(mine, 3 * PAGE + 1)


def test_guarded_buffers_and_secrets_are_not_resized() -> None:
    with operations.guarded_buffer(10) as mine, pytest.raises(vmatlas.UsageError, match="cannot be resized"):
        operations.resize(mine, 20)
    with operations.secret(10) as mine, pytest.raises(vmatlas.UsageError, match="cannot be resized"):
        operations.resize(mine, 20)
