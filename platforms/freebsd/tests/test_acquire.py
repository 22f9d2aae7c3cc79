"""Asking the kernel, against one that is scripted: growth, errnos, identity, zombies, procfs that is not there."""

from __future__ import annotations

import os
import subprocess
import sys
from errno import EACCES, EFBIG, EINVAL, EIO, ENOENT, ENOMEM, EPERM, ESRCH
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vmatlas import AccessDenied, Capture, NoSuchProcess, Query, Unsupported
from vmatlas.conformance.patience import PATIENCE
from vmatlas.errors import OperationFailed, VmatlasError
from vmatlas.registry import backend, system
from vmatlas_freebsd import PROCFS, SYSCTL
from vmatlas_freebsd.acquire import libc, map_text
from vmatlas_freebsd.decode.map_text import CUT, CUT_AT
from vmatlas_freebsd.system import FREEBSD

if TYPE_CHECKING:
    from .conftest import FakeKernel

CAPTURES = Path(__file__).parent / "captures"
RECORDS = (CAPTURES / "plain-sleep.vmmap.bin").read_bytes()
TEXT = (CAPTURES / "plain-sleep.map.txt").read_bytes()
P_KPROC, P_SYSTEM, SZOMB = 0x4, 0x200, 5


def records_of(pid: int) -> bytes:
    return bytes(SYSCTL.acquire(FREEBSD.open(pid, None), Query()).streams["vmmap"])


def test_map_is_the_kernels_bytes_untouched(kernel: FakeKernel) -> None:
    kernel.add(46, maps=[RECORDS])
    reading = SYSCTL.acquire(FREEBSD.open(46, None), Query())
    assert (dict(reading.streams), reading.incomplete) == ({"vmmap": RECORDS}, None)


@pytest.mark.parametrize("growth", [[1], [len(RECORDS) // 3], [5000], [5000, 9000], [100_000, 200_000, 1]])
def test_growth_between_the_size_and_the_reading_is_read_again_with_more_room(
    kernel: FakeKernel, growth: list[int]
) -> None:
    kernel.add(46, maps=[RECORDS])
    kernel.growth = list(growth)
    assert records_of(46).startswith(RECORDS)


def test_map_that_grows_for_ever_is_given_up(kernel: FakeKernel) -> None:
    kernel.add(46, maps=[RECORDS])
    process = FREEBSD.open(46, None)
    kernel.growth = [10_000_000] * 100
    with pytest.raises(OperationFailed, match="outgrew") as raised:
        SYSCTL.acquire(process, Query())
    assert raised.value.errno == ENOMEM
    assert len(kernel.growth) == 100 - libc.ATTEMPTS


def test_size_beyond_all_reason_is_refused_before_room_is_made(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.add(46, maps=[RECORDS])
    process = FREEBSD.open(46, None)
    monkeypatch.setattr(libc, "LARGEST", 4000)
    with pytest.raises(OperationFailed, match="more than 4,000 bytes"):
        SYSCTL.acquire(process, Query())


@pytest.mark.parametrize(
    ("number", "error", "says"),
    [
        (EPERM, AccessDenied, "no right to read the memory map of process 46"),
        (EINVAL, OperationFailed, "sysctl kern.proc.vmmap of process 46 failed"),
        (ENOENT, Unsupported, "this kernel has no sysctl kern.proc.vmmap"),
        (ESRCH, NoSuchProcess, r"process 46 \(sleep\) has ended; its memory is gone"),
    ],
)
def test_errno_means(kernel: FakeKernel, number: int, error: type[VmatlasError], says: str) -> None:
    kernel.add(46, maps=[number])
    with pytest.raises(error, match=says) as raised:
        records_of(46)
    assert raised.value.pid == 46


def test_refusal_names_what_decides(kernel: FakeKernel) -> None:
    kernel.add(46, maps=[EPERM])
    with pytest.raises(AccessDenied) as raised:
        records_of(46)
    assert "unprivileged_proc_debug" in str(raised.value.hint)


def test_process_that_never_was_or_is_hidden(kernel: FakeKernel) -> None:
    """A host's process seen from a jail, or another user's with see_other_uids=0: ESRCH, the same as none at all."""
    for pid in (4711, -1):
        with pytest.raises(NoSuchProcess, match=f"there is no process {pid}") as raised:
            FREEBSD.open(pid, None)
        assert "see_other_uids" in str(raised.value.hint) and "jail" in str(raised.value.hint)


def test_zombie_is_no_such_process(kernel: FakeKernel) -> None:
    process = FREEBSD.open(kernel.add(46, maps=[RECORDS]).pid, None)
    kernel.processes[46].state, kernel.processes[46].maps = SZOMB, [ESRCH]
    with pytest.raises(NoSuchProcess, match="zombie"):
        SYSCTL.acquire(process, Query())
    del kernel.processes[46]
    with pytest.raises(NoSuchProcess, match="there is no process 46"):
        SYSCTL.acquire(process, Query())


def test_process_of_the_kernel_is_an_empty_space(kernel: FakeKernel, procfs: Path) -> None:
    for pid in (0, 12):
        kernel.add(pid, maps=[b""], flag=P_KPROC | P_SYSTEM, name=b"kernel")
        for each in (SYSCTL, PROCFS):
            reading = each.acquire(FREEBSD.open(pid, None), Query())
            capture = Capture(reading.streams, FREEBSD.info(), pid, each.name, "vmatlas-freebsd", Query(), 0.0)
            assert len(each.decode(capture)) == 0


def test_number_that_became_another_process_is_no_such_process(kernel: FakeKernel, procfs: Path) -> None:
    process = FREEBSD.open(kernel.add(46, maps=[RECORDS]).pid, None)
    kernel.add(46, maps=[RECORDS], started=6_000_000)
    (procfs / "46").mkdir()
    (procfs / "46" / "map").write_bytes(TEXT)
    for each in (SYSCTL, PROCFS):
        with pytest.raises(NoSuchProcess, match="its number is another process's now"):
            each.acquire(process, Query())


def test_clock_that_is_set_does_not_make_another_process(kernel: FakeKernel) -> None:
    process = FREEBSD.open(kernel.add(46, maps=[RECORDS]).pid, None)
    assert process.start_time == 5_000_000
    kernel.boot_times = [1_600_000_000_000_000]
    assert SYSCTL.acquire(process, Query()).streams["vmmap"] == RECORDS
    kernel.boot_times = [1_600_000_000_000_000, 1_650_000_000_000_000]  # just while it is looked at
    assert SYSCTL.acquire(process, Query()).streams["vmmap"] == RECORDS


def test_thread_id_is_taken_for_its_process_and_a_thread_is_not_asked(kernel: FakeKernel) -> None:
    found = kernel.add(46, maps=[RECORDS])
    kernel.processes[100001] = found
    assert FREEBSD.open(100001, None).pid == 46
    with pytest.raises(Unsupported, match="not of a thread"):
        FREEBSD.open(46, 100001)


def test_processes_are_listed_in_order_with_their_identity(kernel: FakeKernel) -> None:
    kernel.add(0, flag=P_KPROC, name=b"kernel", parent=0, started=0)
    kernel.add(1, flag=P_SYSTEM, name=b"init", parent=0)
    kernel.add(99, state=SZOMB, name=b"nineteen letters ab")
    listed = [each for each in FREEBSD.processes() if each.pid != os.getpid()]
    assert [(p.pid, p.name, p.state, p.kernel, p.parent) for p in listed] == [
        (0, "kernel", "S", True, 0),
        (1, "init", "S", False, 0),
        (99, "nineteen letters ab", "Z", False, 1),
    ]
    assert listed[1].start_time == FREEBSD.open(1, None).start_time == 5_000_000


def test_rights_are_told_with_what_they_mean(kernel: FakeKernel) -> None:
    kernel.numbers = {"security.bsd.see_other_uids": 0, "security.jail.jailed": 1}
    told = dict(FREEBSD.rights())
    assert told["security.bsd.see_other_uids"] == "0 (processes of other users are hidden)"
    assert told["security.jail.jailed"] == "1 (in a jail: only its processes are there)"
    assert told["security.bsd.unprivileged_proc_debug"] == "not told"


def test_probe_asks_the_kernel(kernel: FakeKernel) -> None:
    assert SYSCTL.probe()
    kernel.processes[os.getpid()].maps = [ENOENT]
    refused = SYSCTL.probe()
    assert not refused and "No such file" in refused.reason


def test_probe_on_a_system_without_the_call_refuses() -> None:
    """This machine's own libc; on FreeBSD it answers."""
    available = SYSCTL.probe()
    assert bool(available) is sys.platform.startswith("freebsd")
    assert available or available.reason


# procfs


def place(procfs: Path, pid: int, text: bytes) -> None:
    (procfs / str(pid)).mkdir()
    (procfs / str(pid) / "map").write_bytes(text)


def test_text_is_read_in_one_large_read(kernel: FakeKernel, procfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel.add(46)
    place(procfs, 46, TEXT)
    sizes: list[int] = []
    read = os.read
    monkeypatch.setattr(map_text.os, "read", lambda fd, size: (sizes.append(size), read(fd, size))[1])
    reading = PROCFS.acquire(FREEBSD.open(46, None), Query())
    assert (dict(reading.streams), reading.incomplete) == ({"map": TEXT}, None)
    assert len(sizes) == 1 and sizes[0] > CUT_AT


@pytest.mark.parametrize(("length", "incomplete"), [(CUT_AT - 1, None), (CUT_AT, CUT), (CUT_AT + 1, None)])
def test_text_of_the_length_at_which_the_kernel_cuts_is_incomplete(
    kernel: FakeKernel, procfs: Path, length: int, incomplete: str | None
) -> None:
    kernel.add(46)
    place(procfs, 46, b"x" * length)
    assert PROCFS.acquire(FREEBSD.open(46, None), Query()).incomplete == incomplete


@pytest.mark.parametrize(
    ("number", "error", "says"),
    [
        (EPERM, AccessDenied, "no right"),
        (EACCES, AccessDenied, "no right"),
        (EIO, NoSuchProcess, "has ended; its memory is gone"),
        (EFBIG, OperationFailed, "longer than this kernel writes"),
        (EINVAL, OperationFailed, "failed"),
    ],
)
def test_errno_of_a_reading_means(
    kernel: FakeKernel, procfs: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception], says: str
) -> None:
    kernel.add(46)
    place(procfs, 46, TEXT)
    os.close(before := os.dup(0))  # the lowest that is free

    def refuse(descriptor: int, size: int) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(map_text.os, "read", refuse)
    with pytest.raises(error, match=says):
        PROCFS.acquire(FREEBSD.open(46, None), Query())
    os.close(after := os.dup(0))
    assert after == before, "the descriptor is closed"


def test_procfs_that_is_not_mounted_is_told_with_the_command(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(map_text, "PROC_FOLDER", "/no/such/folder")
    kernel.add(46)
    assert "mount -t procfs proc /proc" in PROCFS.probe().reason
    with pytest.raises(Unsupported, match="mount -t procfs proc /proc"):
        PROCFS.acquire(FREEBSD.open(46, None), Query())


def test_processes_that_procfs_does_not_show(kernel: FakeKernel, procfs: Path) -> None:
    kernel.add(1, flag=P_SYSTEM, name=b"init")
    with pytest.raises(Unsupported, match=r"no map of process 1 \(init\)"):
        PROCFS.acquire(FREEBSD.open(1, None), Query())
    process = FREEBSD.open(kernel.add(46).pid, None)
    kernel.processes[46].state = SZOMB
    with pytest.raises(NoSuchProcess, match="zombie"):
        PROCFS.acquire(process, Query())
    del kernel.processes[46]
    with pytest.raises(NoSuchProcess, match="there is no process 46"):
        PROCFS.acquire(process, Query())


# as plugins


def test_sysctl_goes_before_the_text_for_every_question() -> None:
    for query in (Query(), Query(address=1), Query(residency=True)):
        sysctl, text = SYSCTL.rank(query), PROCFS.rank(query)
        assert sysctl is not None and text is not None and sysctl < text
    assert SYSCTL.rank(Query(build_ids=True)) is PROCFS.rank(Query(build_ids=True)) is None


def test_plugins_are_registered() -> None:
    assert (backend("freebsd-sysctl"), backend("freebsd-procfs"), system("freebsd")) == (SYSCTL, PROCFS, FREEBSD)


def test_libc_is_not_loaded_before_a_question_is_asked() -> None:
    program = (
        "import sys, vmatlas_freebsd; print(*[m for m in ('ctypes', 'vmatlas_freebsd.acquire') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout.strip() == ""
