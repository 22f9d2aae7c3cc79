"""Who is denied the look at a process of the same user is told why, and not to be that user."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import vmatlas
from vmatlas.conformance.patience import PATIENCE
from vmatlas.systems.linux.denied import told_by

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux's rights")

NOBODY = 65534


def status(uids: str, gids: str = "5 5 5 5", effective: int = 0, permitted: int = 0) -> bytes:
    told = f"Name:\tx\nUid:\t{uids}\nGid:\t{gids}\nCapPrm:\t{permitted:016x}\nCapEff:\t{effective:016x}\n"
    return told.replace(" ", "\t").encode()


@pytest.mark.parametrize(
    ("other", "owner", "told"),
    [
        (status("9 9 9 9"), 9, None),
        (b"", None, None),
        (status("7 0 0 0"), 0, "it runs as user 0 (a set-user-ID program"),
        (status("7 7 7 7", "5 6 6 6"), 7, "as group 6, and this process as 5"),
        (status("7 7 7 7"), 0, "may not be dumped: it forbids that"),
        (status("7 7 7 7", permitted=0x2400), 7, "has capabilities that this process lacks (CapPrm of its status)"),
        (status("7 7 7 7", permitted=0x2400), 0, "may not be dumped: it forbids that"),
        (status("7 7 7 7", permitted=0x400), 7, "may not be dumped (PR_SET_DUMPABLE), or a security module"),
        (status("7 7 7 7"), None, "may not be dumped (PR_SET_DUMPABLE), or a security module"),
    ],
)
def test_the_first_rule_that_denies_is_the_cause(other: bytes, owner: int | None, told: str | None) -> None:
    found = told_by(status("7 7 7 7", effective=0x400), other, owner)
    assert found is None if told is None else told in (found or "")
    assert "same user (and" not in (found or "")


@contextmanager
def child(prepare: Callable[[], None]) -> Iterator[int]:
    """One that waits, prepared."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            prepare()
            os.write(writer, b"ready")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    try:
        assert os.read(reader, 5) == b"ready"
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reader)


def _become_nobody() -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def _forbid_dumps() -> None:
    _become_nobody()
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE


def _allow_dumps() -> None:
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)


def asked_by_nobody(pid: int, ask: Callable[[int], object]) -> str:
    """What nobody is told, who has no capability."""
    reader, writer = os.pipe()
    asking = os.fork()
    if not asking:
        said = "nothing"
        try:
            signal.alarm(max(int(PATIENCE), 1))
            _become_nobody()
            _allow_dumps()
            try:
                said = f"done {ask(pid)!r}"
            except vmatlas.AccessDenied as denied:
                said = f"{denied} | {denied.hint}"
        except BaseException as error:
            said = repr(error)
        finally:
            os.write(writer, said[:4096].encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        said = answer.read()
    os.waitpid(asking, 0)
    return said


def _map(pid: int) -> object:
    return vmatlas.snapshot(pid)


def _advise(pid: int) -> object:
    from vmatlas_linux_memory import OPERATIONS

    try:
        return OPERATIONS.advise_process(pid, None, [(0x10000, 0x1000)], 20)
    except vmatlas.OperationFailed as refusal:
        told = OPERATIONS.advice_refused(refusal, pid, vmatlas.operations.Advice.COLD, any_range=True)
        raise told or refusal from None


def test_a_process_that_may_not_be_dumped_is_told_as_that_whatever_is_asked() -> None:
    import vmatlas_linux_memory

    del vmatlas_linux_memory  # loaded before nobody may not any more
    with child(_forbid_dumps) as pid:
        said = asked_by_nobody(pid, _map)
        assert said.startswith(f"no right to read the memory map of process {pid}"), said
        assert "it runs as the same user, but may not be dumped: it forbids that (PR_SET_DUMPABLE)" in said
        assert "it takes the same user" not in said
        advised = asked_by_nobody(pid, _advise)
        if "EACCES" in advised:  # older kernels judge the advice first, and CAP_SYS_NICE
            assert "but may not be dumped" in advised
