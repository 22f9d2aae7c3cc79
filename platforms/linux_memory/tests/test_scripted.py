"""What reaches the kernel and in which order, and kernels that are not at hand: against a scripted libc."""

from __future__ import annotations

import os
from errno import EINVAL, EMFILE, ENOENT, ENOSYS, EPERM, ESRCH

import pytest

import vmatlas
from vmatlas import Protection, Region
from vmatlas.conformance.scripted_libc import Fails, ScriptedLibc
from vmatlas.model import SystemFlags
from vmatlas.operations import Advice
from vmatlas.operations.values import Advice as AllAdvice
from vmatlas.target.program import MapFlag
from vmatlas_linux_memory import OPERATIONS, LinuxMemory, calls, numbers

PIDFD = 434
MADVISE = 440


def _descriptor(*_: object) -> int:
    return os.open("/dev/null", os.O_RDONLY)


def test_process_is_pinned_before_its_start_time_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    libc = ScriptedLibc(system_calls={PIDFD: _descriptor, MADVISE: 8192})

    def start_time(pid: int) -> int:
        libc.calls.append(("start time",))
        return 5

    monkeypatch.setattr(calls, "_start_time", start_time)
    assert LinuxMemory(libc, "x86_64").advise_process(42, 5, [(0x1000, 8192)], 20) == 8192
    assert [call[:2] for call in libc.calls] == [("syscall", PIDFD), ("start time",), ("syscall", MADVISE)]
    assert libc.calls[0][2:] == (42, 0)
    assert libc.calls[2][4:] == (1, 20, 0)
    libc.calls.clear()
    with pytest.raises(vmatlas.OperationFailed) as refused:
        LinuxMemory(libc, "x86_64").advise_process(42, 6, [(0x1000, 8192)], 20)
    assert refused.value.errno_name == "ESRCH"
    assert [call[:2] for call in libc.calls] == [("syscall", PIDFD), ("start time",)]


@pytest.mark.parametrize("errno", [EINVAL, ENOENT])
def test_thread_id_is_told(errno: int) -> None:
    with pytest.raises(vmatlas.UsageError, match="id of a thread"):
        LinuxMemory(ScriptedLibc(system_calls={PIDFD: Fails(errno)}), "x86_64").advise_process(42, None, [], 20)


@pytest.mark.parametrize(
    ("errno", "any_range", "kind", "said"),
    [
        ("EPERM", False, vmatlas.AccessDenied, "CAP_SYS_NICE"),
        ("EACCES", False, vmatlas.AccessDenied, "right to read it"),
        ("ESRCH", False, vmatlas.NoSuchProcess, "no process 42"),
        ("ENOSYS", False, vmatlas.Unsupported, "no process_madvise"),
        ("EINVAL", True, vmatlas.Unsupported, "does not take the advice 'collapse'"),
        ("EOVERFLOW", False, vmatlas.Unsupported, "too narrow"),
    ],
)
def test_each_refusal_has_its_story(errno: str, any_range: bool, kind: type[Exception], said: str) -> None:
    refusal = vmatlas.OperationFailed(errno, errno=1, errno_name=errno)
    told = OPERATIONS.advice_refused(refusal, 42, Advice.COLLAPSE, any_range=any_range)
    assert isinstance(told, kind)
    assert said in str(told)
    assert errno == "ESRCH" or (told is not None and told.hint)


@pytest.mark.parametrize("errno", ["ENOMEM", "EINVAL", "EBUSY", "EAGAIN", "EIO", "EFAULT", "EPERM", "EBADF", "E2BIG"])
@pytest.mark.parametrize("advice", AllAdvice)
def test_refusal_of_a_range_names_the_errno(errno: str, advice: Advice) -> None:
    refusal = vmatlas.OperationFailed(errno, errno=1, errno_name=errno)
    assert f"({errno})" in OPERATIONS.range_refused(refusal, advice)


def test_kernel_before_5_10_has_no_process_madvise() -> None:
    libc = ScriptedLibc(system_calls={PIDFD: _descriptor, MADVISE: Fails(ENOSYS)})
    with pytest.raises(vmatlas.OperationFailed) as refused:
        LinuxMemory(libc, "x86_64").advise_process(42, None, [], 20)
    assert refused.value.errno_name == "ENOSYS"


@pytest.mark.parametrize(("call", "errno"), [("mremap", EPERM), ("mlock", EPERM), ("munmap", EINVAL), ("msync", ESRCH)])
def test_errno_of_a_call_is_told_by_name(call: str, errno: int) -> None:
    system = LinuxMemory(ScriptedLibc(**{call: Fails(errno)}), "x86_64")
    uses = {
        "mremap": lambda: system.move(4096, 4096, 4096, 8192, True, False),
        "mlock": lambda: system.lock(4096, 4096, False),
        "munmap": lambda: system.unmap(4096, 4096),
        "msync": lambda: system.flush(4096, 4096, True, False),
    }
    with pytest.raises(vmatlas.OperationFailed) as refused:
        uses[call]()
    assert refused.value.errno == errno


def test_mremap_has_the_flags_that_were_asked_for() -> None:
    libc = ScriptedLibc(mremap=0x9000)
    system = LinuxMemory(libc, "x86_64")
    system.move(0x1000, 4096, 4096, 0x9000, True, False)
    system.move(0x1000, 4096, 4096, 0x9000, True, True)
    system.move(0x1000, 4096, 8192, None, False, False)
    system.move(0x1000, 4096, 8192, None, True, False)
    assert [call[4] for call in libc.calls] == [3, 7, 0, 1]
    assert [call[5] or 0 for call in libc.calls] == [0x9000, 0x9000, 0, 0]


def test_processors_with_other_numbers() -> None:
    assert numbers.numbers_of("ppc64le").flags[MapFlag.LOCKED] == 0x80
    assert numbers.numbers_of("aarch64") is numbers.GENERIC
    assert [numbers.mlock2_number(machine, True) for machine in ("x86_64", "aarch64", "riscv64", "s390x")] == [
        325, 284, 284, 374,
    ]  # fmt: skip
    assert numbers.mlock2_number("x86_64", False) == numbers.mlock2_number("i686", False) == 376
    assert numbers.mlock2_number("armv7l", False) == numbers.mlock2_number("aarch64", False) == 390
    assert numbers.numbers_of("mips64").flags[MapFlag.NO_RESERVE] == 0x400
    assert numbers.numbers_of("mips64").anonymous == 0x800
    assert (numbers.mlock2_number("mips64", True), numbers.mlock2_number("mips", False)) == (5319, 4359)
    told = [OPERATIONS.lock_resource_of(machine) for machine in ("x86_64", "ppc64le", "mips64")]
    assert told == [8, 8, resource_of_mips := 9]
    assert LinuxMemory(ScriptedLibc(), "mips64").lock_resource == resource_of_mips
    with pytest.raises(vmatlas.Unsupported, match="nobody has tried it on the processor alpha"):
        LinuxMemory(ScriptedLibc(), "alpha").advise_process(42, None, [], 20)


@pytest.mark.parametrize(("machine", "base"), [("x86_64", 0), ("ppc64le", 0), ("mips64", 5000)])
def test_processors_that_count_system_calls_from_a_base_of_their_own_are_asked_by_it(machine: str, base: int) -> None:
    libc = ScriptedLibc(system_calls={base + PIDFD: _descriptor, base + MADVISE: 0})
    assert LinuxMemory(libc, machine).advise_process(42, None, [], 20) == 0
    assert [call[1] for call in libc.calls] == [base + PIDFD, base + MADVISE]


def test_protections_are_posixs() -> None:
    libc = ScriptedLibc()
    system = LinuxMemory(libc, "x86_64")
    for protection in range(8):
        system.protect(0x1000, 4096, Protection(protection))
    assert [call[3] for call in libc.calls] == list(range(8))


def test_mapping_that_came_to_address_0_is_undone() -> None:
    libc = ScriptedLibc(mmap64=0)
    with pytest.raises(vmatlas.OperationFailed, match="address 0"):
        LinuxMemory(libc, "x86_64").map(0, 4096, Protection.READ, MapFlag.FIXED_NOT_OVER)
    assert libc.calls[-1][0] == "munmap"
    assert libc.calls[-1][2] == 4096


def test_start_time_that_cannot_be_read_is_not_taken_for_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(EMFILE, os.strerror(EMFILE))

    monkeypatch.setattr(calls, "open", refused, raising=False)
    with pytest.raises(vmatlas.OperationFailed) as told:
        LinuxMemory(ScriptedLibc(system_calls={PIDFD: _descriptor}), "x86_64").advise_process(42, 7, [], 20)
    assert told.value.errno_name == "EMFILE"


@pytest.mark.parametrize("letters", ["um", "uw", "ui", "ur"])
def test_memory_that_a_userfaultfd_watches_is_not_moved(letters: str) -> None:
    """`ur` is Linux 7.3's: watched for every access. Alone such a mapping would move, and lose its watch."""

    class Flags(SystemFlags):
        WATCHED = 1

        @property
        def label(self) -> str:
            return letters

    region = Region(4096, 8192, Protection.READ, flags=Flags.WATCHED)
    assert OPERATIONS.why_unmovable(region) == "a userfaultfd watches it, and would lose it"
    assert OPERATIONS.why_unmovable(region._replace(flags=None)) is None
